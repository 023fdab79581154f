//! One tool call from proposal to result, and what a decision about it comes to.

use stakpak_protocol::{
    Approval, DecidedBy, DecisionOutcome, ProposedToolCall, ToolCallId, ToolDecision, ToolDecisionAction,
};
use uuid::Uuid;

use crate::{CallEnd, Probe, ResolvedCall};

/// One tool call.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// As policy left it.
    pub resolved: ResolvedCall,
    /// Where it stands.
    pub status: CallStatus,
    /// A person's decision.
    pub decided: Option<DecidedBy>,
    /// What it changes, as it was when the call started.
    pub probe: Option<Probe>,
    /// Names it with its result, once it has one.
    pub outcome: Option<Uuid>,
}

/// Where a call stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallStatus {
    /// A person must decide.
    Waiting,
    /// It may start.
    Approved,
    /// It was started.
    Running {
        /// From 1.
        attempt: u64,
    },
    /// It has a result.
    Ended(CallEnd),
}

impl Call {
    pub(super) fn new(resolved: ResolvedCall) -> Self {
        let status = match resolved.approval {
            Approval::Ask => CallStatus::Waiting,
            Approval::Auto | Approval::Deny => CallStatus::Approved,
        };
        Self { resolved, status, decided: None, probe: None, outcome: None }
    }

    /// As clients see it.
    #[must_use]
    pub fn proposed(&self) -> ProposedToolCall {
        let ResolvedCall { call, approval, reason, .. } = &self.resolved;
        ProposedToolCall {
            id: call.id.clone(),
            name: call.name.clone(),
            arguments: call.arguments.clone(),
            metadata: call.metadata.clone(),
            approval: Some(*approval),
            approval_reason: reason.clone(),
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self.status, CallStatus::Ended(_))
    }

    /// Whether this call may start beside `earlier`, a call of the same turn that was declared before it.
    pub(super) fn may_start_before(&self, earlier: &Self) -> bool {
        if earlier.has_ended() {
            return true;
        }
        let same_path = || {
            let path = self.resolved.call.arguments.get("path");
            path.is_some() && path == earlier.resolved.call.arguments.get("path")
        };
        match (self.resolved.effect.may_repeat(), earlier.resolved.effect.may_repeat()) {
            (false, _) => false,
            (true, true) => true,
            (true, false) => earlier.status == CallStatus::Waiting && !same_path(),
        }
    }

    pub(super) fn fate(&self) -> Fate<'_> {
        Fate { status: self.status, approval: self.resolved.approval, decided: self.decided.as_ref() }
    }

    /// Its turn is over. A call has ended by then.
    pub(super) fn settle(self) -> (ToolCallId, Settled) {
        let Self { resolved, status, decided, probe: _, outcome: _ } = self;
        let end = match status {
            CallStatus::Ended(end) => end,
            CallStatus::Waiting | CallStatus::Approved | CallStatus::Running { .. } => CallEnd::Unknown,
        };
        (resolved.call.id, Settled { approval: resolved.approval, end, decided })
    }
}

/// What is kept of a call whose turn is over, to answer decisions that come late.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// What policy said.
    pub approval: Approval,
    /// How it ended.
    pub end: CallEnd,
    /// A person's decision.
    pub decided: Option<DecidedBy>,
}

impl Settled {
    pub(super) fn fate(&self) -> Fate<'_> {
        Fate { status: CallStatus::Ended(self.end), approval: self.approval, decided: self.decided.as_ref() }
    }
}

/// What there is to say to a decision about a call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fate<'a> {
    status: CallStatus,
    approval: Approval,
    pub(super) decided: Option<&'a DecidedBy>,
}

impl Fate<'_> {
    /// What a client's decision comes to. Nothing a client says can fail the run.
    pub(super) fn judge(self, decision: &ToolDecision) -> DecisionOutcome {
        let accept = decision.action == ToolDecisionAction::Accept;
        if let Some(decided) = self.decided {
            return if decided.action == decision.action {
                DecisionOutcome::Duplicate
            } else {
                DecisionOutcome::TooLate
            };
        }
        match (self.status, self.approval) {
            (CallStatus::Waiting, _) => DecisionOutcome::Applied,
            (CallStatus::Ended(CallEnd::Skipped | CallEnd::Cancelled), _) => DecisionOutcome::TooLate,
            (_, Approval::Deny) if decision.action == ToolDecisionAction::Reject => DecisionOutcome::Duplicate,
            (_, Approval::Deny) => DecisionOutcome::Denied,
            (CallStatus::Approved, _) if !accept => DecisionOutcome::Applied,
            _ if accept => DecisionOutcome::Duplicate,
            _ => DecisionOutcome::TooLate,
        }
    }

    /// Whether its fate was settled by a person or by policy, before its run ended.
    pub(super) fn was_decided(self) -> bool {
        self.decided.is_some()
            || (self.approval != Approval::Ask
                && !matches!(self.status, CallStatus::Ended(CallEnd::Cancelled | CallEnd::Skipped)))
    }
}
