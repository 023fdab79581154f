//! From a decision to the server, and from its answer to the prompt.

use std::collections::BTreeMap;

use serde_json::Value;
use sha2::{Digest, Sha256};
use stakpak_client::{ClientError, DecisionOutcome, DecisionsRequest, ErrorCode, ToolDecisionAction};
use stakpak_protocol::{DecidedBy, RunId, ToolCallId, ToolDecision};
use uuid::Uuid;

use super::{Call, Desk, DeskError, buttons::buttons, desk::part, prompt};
use crate::{
    Body,
    clock::now_ms,
    dispatcher::Sent,
    store::{Approval, Content, Decision, NewPart, OpenRun},
};

/// The server no longer takes decisions of the run.
const RUN_OVER: &str = "run_over";

impl Desk {
    /// Tells the server what it has not heard, and the chat what came of it.
    pub(super) async fn tell(&self, approval: &Approval, over: bool) -> Result<(), DeskError> {
        let untold = approval.untold();
        if over {
            return self.told(approval, all_over(&untold)).await;
        }
        if self.has_changed(approval, &untold).await? {
            self.close(approval, "This has changed since it was asked; nothing was run. A new request follows.")
                .await?;
            return self.reconcile(&run(approval)).await;
        }
        let Ok(run_id) = approval.run_id.parse::<Uuid>() else { return self.told(approval, all_over(&untold)).await };
        let decisions = untold.iter().map(|(id, decision)| (ToolCallId(id.clone()), to_send(decision))).collect();
        let client = self.client.with_idempotency_key(format!("gw-approval-{}-{}", approval.id, key(&untold)));
        let request = DecisionsRequest { run_id: RunId(run_id), decisions };
        let outcomes = match client.resolve_tool_calls(&approval.session_id, &request).await {
            Ok(answer) => untold
                .keys()
                .map(|id| (id.clone(), name(answer.results.get(&ToolCallId(id.clone())).copied())))
                .collect(),
            Err(error) if is_over(&error) => all_over(&untold),
            Err(error) => return Err(error.into()),
        };
        self.told(approval, outcomes).await
    }

    /// Nothing is asked any more; the prompt says why.
    pub(super) async fn close(&self, approval: &Approval, why: &str) -> Result<(), DeskError> {
        let body = prompt::void(approval, why, &|text| self.compose(&approval.address, text));
        self.close_with(approval, body).await
    }

    /// None of its calls waits any more: the prompt says who decided, if the server knows.
    pub(super) async fn decided_elsewhere(&self, approval: &Approval) -> Result<(), DeskError> {
        let mut known = approval.clone();
        for (call, DecidedBy { action, by, at }) in self.who_decided(approval).await {
            let allow = action == ToolDecisionAction::Accept;
            let decision = Decision { allow, reason: None, by, by_id: None, at: at.timestamp_millis() };
            known.decisions.insert(call.0.clone(), decision);
            known.outcomes.insert(call.0, "applied".to_owned());
        }
        if known.undecided().is_empty() {
            let body = prompt::outcome(&known, &|text| self.compose(&approval.address, text));
            return self.close_with(approval, body).await;
        }
        self.close(approval, "Decided elsewhere.").await
    }

    /// A decision that comes too late is answered with who made the one that counts.
    async fn who_decided(&self, approval: &Approval) -> BTreeMap<ToolCallId, DecidedBy> {
        let Ok(run_id) = approval.run_id.parse::<Uuid>() else { return BTreeMap::new() };
        let late = ToolDecision { action: ToolDecisionAction::Reject, content: None, scope: None, by: None };
        let undecided = approval.undecided();
        let decisions = undecided.iter().map(|(_, call)| (ToolCallId(call.id.clone()), late.clone())).collect();
        let request = DecisionsRequest { run_id: RunId(run_id), decisions };
        match self.client.resolve_tool_calls(&approval.session_id, &request).await {
            Ok(answer) => answer.decided,
            Err(error) => {
                tracing::info!(%error, approval_id = approval.id, "who decided is not known");
                BTreeMap::new()
            }
        }
    }

    async fn close_with(&self, approval: &Approval, body: Body) -> Result<(), DeskError> {
        let content = Content::Edit { of: approval.prompt_key.clone(), body, buttons: Vec::new(), must_show: false };
        let parts = vec![part(&approval.address, format!("approval:{}:closed", approval.id), content)];
        self.store.close_approval(&approval.id, parts.clone(), now_ms()).await?;
        self.deliveries.wake_for(&parts);
        Ok(())
    }

    async fn told(&self, approval: &Approval, outcomes: BTreeMap<String, String>) -> Result<(), DeskError> {
        let mut known = approval.clone();
        known.outcomes.extend(outcomes.clone());
        let parts = vec![self.outcome(&known)];
        self.store.told(&approval.id, outcomes, parts.clone(), now_ms()).await?;
        self.deliveries.wake_for(&parts);
        Ok(())
    }

    fn outcome(&self, approval: &Approval) -> NewPart {
        let body = prompt::outcome(approval, &|text| self.compose(&approval.address, text));
        let undecided = approval.undecided();
        // Buttons that are there were allowed to be there; what was not shown is refused when they are pressed.
        let buttons = buttons(&approval.id, approval.calls.len(), &undecided, true);
        let content = Content::Edit { of: approval.prompt_key.clone(), body, buttons, must_show: undecided.is_empty() };
        part(&approval.address, format!("approval:{}:outcome:{}", approval.id, approval.outcomes.len()), content)
    }

    /// Whether what waits under the id of an allowed call is something else than what was shown.
    async fn has_changed(&self, approval: &Approval, untold: &BTreeMap<String, Decision>) -> Result<bool, DeskError> {
        let allowed = |call: &&Call| untold.get(&call.id).is_some_and(|decision| decision.allow);
        let allowed: Vec<_> = approval.calls.iter().filter(allowed).collect();
        if allowed.is_empty() {
            return Ok(false);
        }
        let pending = self.client.pending_tools(&approval.session_id).await;
        let pending = match pending {
            Err(error) if is_over(&error) => return Ok(false),
            pending => pending?.tool_calls,
        };
        let cwd = self.client.get_session(&approval.session_id).await?.cwd;
        let waiting: Vec<_> = pending.into_iter().map(Call::from).collect();
        Ok(allowed.iter().any(|call| {
            let now = waiting.iter().find(|waiting| waiting.id == call.id);
            now.is_some_and(|now| now.fingerprint(cwd.as_deref()) != call.fingerprint(approval.cwd.as_deref()))
        }))
    }
}

fn run(approval: &Approval) -> OpenRun {
    OpenRun {
        timeout_s: None,
        run_id: approval.run_id.clone(),
        session_id: approval.session_id.clone(),
        address: approval.origin.clone(),
        cursor: 0,
        started_at: approval.created_at,
        question: None,
        requester: None,
        sent: Sent::default(),
        fresh: false,
    }
}

fn to_send(decision: &Decision) -> ToolDecision {
    let action = if decision.allow { ToolDecisionAction::Accept } else { ToolDecisionAction::Reject };
    let content = decision.reason.clone().filter(|_| !decision.allow);
    ToolDecision { action, content, scope: None, by: Some(decision.by.clone()) }
}

/// As the store keeps it.
fn name(outcome: Option<DecisionOutcome>) -> String {
    let named = outcome.and_then(|outcome| serde_json::to_value(outcome).ok());
    named.as_ref().and_then(Value::as_str).unwrap_or("unknown").to_owned()
}

fn all_over(untold: &BTreeMap<String, Decision>) -> BTreeMap<String, String> {
    untold.keys().map(|id| (id.clone(), RUN_OVER.to_owned())).collect()
}

/// Whether the run cannot hear it any more. What an operator can repair (token, address) is not that.
fn is_over(error: &ClientError) -> bool {
    let refused =
        matches!(error.code(), Some(ErrorCode::Unauthorized | ErrorCode::HostNotAllowed | ErrorCode::Unknown));
    error.server().is_some() && !error.is_retryable() && !refused
}

/// The same for the same decisions.
fn key(untold: &BTreeMap<String, Decision>) -> String {
    let mut digest = Sha256::new();
    for (id, decision) in untold {
        digest.update(id.as_bytes());
        digest.update([0, u8::from(decision.allow)]);
    }
    digest.finalize().iter().take(12).map(|byte| format!("{byte:02x}")).collect()
}
