//! What is stored of a run: each record is appended before what it allows.
//!
//! The stored form is a contract with the past: variants and fields may be added, never renamed or removed.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use stakpak_protocol::{
    Approval, DecidedBy, EventEnvelope, FinishReason, LastError, Message, MessageType, ModelCost, ModelInfo,
    NotifyRoute, RunId, RunLimits, StopDetail, StopReason, ToolCallId, Usage, Visibility, to_ascii_json,
};

use crate::{ContextState, Cut, Effect, NoProgress, Policy, Probe, Row, RowClass, Sandbox, ToolCall, longest_answer};

/// One step of a session that folding reads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(clippy::large_enum_variant, reason = "records are made, stored and folded one at a time")]
pub enum Record {
    /// A message was accepted and its run exists.
    RunAccepted(RunAccepted),
    /// A user's message entered the history.
    UserMessage {
        /// The message.
        message: Message,
        /// The queued command it was, if any.
        command: Option<u64>,
    },
    /// The model is about to be asked.
    ModelRequested {
        /// The turn.
        turn: u64,
        /// From 1 in the turn, for each model.
        attempt: u64,
        /// How often a restart has repeated this attempt.
        restarts: u64,
    },
    /// The request is repeated after a wait.
    BackingOff {
        /// The attempt that failed.
        attempt: u64,
        /// When to ask again.
        until: DateTime<Utc>,
        /// Present when it was a restart that interrupted the attempt: it is then the same attempt that is repeated.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        restarts: Option<u64>,
    },
    /// The answer, paid for: never asked for again.
    ModelAnswered {
        /// What enters the history.
        message: Message,
        /// What the same provider needs back.
        reasoning: Option<Value>,
        /// Tokens.
        usage: Usage,
        /// Why it ended.
        finish: FinishReason,
        /// What it cost, in millionths of a US dollar, at the price of the day; absent when that was not known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cost_micros: Option<u64>,
        /// Tokens that the request was expected to have, to be compared with what was reported.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        estimated: Option<u64>,
    },
    /// The provider refused the request as too long.
    ContextOverflowed {
        /// What it said.
        message: String,
    },
    /// From now on requests show stubs for older results and long arguments.
    ContextCleared {
        /// Those of messages before this one.
        before: u64,
        /// Tokens of the conversation before.
        tokens_before: u64,
        /// And after.
        tokens_after: u64,
    },
    /// From now on requests show long parts cut.
    ContextCut {
        /// How.
        cut: Cut,
        /// Tokens of the conversation before.
        tokens_before: u64,
        /// And after.
        tokens_after: u64,
    },
    /// Older messages are about to be summed up.
    CompactionStarted {
        /// The first message that is not.
        first: u64,
        /// Tokens of the conversation.
        tokens_before: u64,
    },
    /// From now on requests show a summary in place of older messages.
    Compaction {
        /// The first message that it does not cover.
        first: u64,
        /// It.
        summary: String,
        /// Who made it: `provider/id`; none: no model could.
        model: Option<String>,
        /// Tokens that it took.
        usage: Usage,
        /// What it cost, as in [`Record::ModelAnswered`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cost_micros: Option<u64>,
        /// Tokens of the conversation before.
        tokens_before: u64,
        /// And after.
        tokens_after: u64,
        /// Whether something was left out.
        truncated: bool,
    },
    /// What policy said about the answer's calls.
    CallsResolved {
        /// In declared order.
        calls: Vec<ResolvedCall>,
    },
    /// A person's decision.
    Decided {
        /// The call.
        call_id: ToolCallId,
        /// Who, what, when.
        decision: DecidedBy,
    },
    /// Intent: the call is about to run.
    CallStarted {
        /// The call.
        call_id: ToolCallId,
        /// From 1.
        attempt: u64,
        /// What it changes, where that can be looked at.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        probe: Option<Probe>,
    },
    /// The call's result entered the history.
    CallEnded {
        /// The call.
        call_id: ToolCallId,
        /// How.
        end: CallEnd,
        /// The tool message.
        message: Message,
    },
    /// The run waits for a person: its time stands still.
    ClockStopped {
        /// When.
        at: DateTime<Utc>,
    },
    /// It goes on.
    ClockStarted {
        /// When.
        at: DateTime<Utc>,
    },
    /// The turn is over.
    TurnEnded,
    /// A steering or follow-up was accepted.
    CommandQueued {
        /// Unique in the run.
        id: u64,
        /// Which of the two.
        kind: MessageType,
        /// What it says.
        message: Message,
    },
    /// The run is over.
    RunEnded {
        /// Why.
        stop_reason: StopReason,
        /// More of that.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detail: Option<StopDetail>,
        /// Present when it failed.
        last_error: Option<LastError>,
        /// When.
        at: DateTime<Utc>,
    },
    /// The run's requests go to another model from the next on, and so do those of later runs, unless it stands in.
    ModelSwitched {
        /// `provider/id`.
        model: String,
        /// What the run needs to know of it.
        #[serde(default, skip_serializing_if = "is_default")]
        terms: ModelTerms,
        /// It stands in for one that failed, for the rest of this run alone.
        #[serde(default, skip_serializing_if = "is_default")]
        stands_in: bool,
    },
    /// What people see of the session was changed; what is absent stayed.
    SessionChanged {
        /// The new title.
        title: Option<String>,
        /// Who may see it from now on.
        visibility: Option<Visibility>,
        /// When.
        at: DateTime<Utc>,
    },
    /// The session was deleted: the last record it ever gets.
    SessionDeleted {
        /// When.
        at: DateTime<Utc>,
    },
}

/// A run as its message was accepted: everything that later steps need, so that a restart needs nothing else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunAccepted {
    /// The run.
    pub run_id: RunId,
    /// When.
    pub at: DateTime<Utc>,
    /// `provider/id`.
    pub model: String,
    /// Profile that the model belongs to.
    pub profile: String,
    /// The whole system prompt.
    pub system_prompt: String,
    /// 1 to 256.
    pub max_turns: u64,
    /// How often it may repeat itself.
    #[serde(default, skip_serializing_if = "is_default")]
    pub no_progress: NoProgress,
    /// What runs without a question.
    pub policy: Policy,
    /// Where tools run.
    pub cwd: String,
    /// What it may take.
    #[serde(default, skip_serializing_if = "is_default")]
    pub limits: RunLimits,
    /// Who set them.
    #[serde(default, skip_serializing_if = "is_default")]
    pub limit_keys: LimitKeys,
    /// What it needs to know of the model.
    #[serde(default, skip_serializing_if = "is_default")]
    pub terms: ModelTerms,
    /// What confines its tools.
    #[serde(default, skip_serializing_if = "is_default")]
    pub sandbox: Sandbox,
    /// The chat that it may tell what it has to tell on its way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify_route: Option<NotifyRoute>,
    /// Whether a person reads along who can answer questions.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub interactive: bool,
    /// What requests show of the history, as the run before left it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub context: ContextState,
}

/// The keys of files that set the limits of a run, to be named when one is reached. None: the message did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LimitKeys {
    /// Of `wall_clock_s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wall_clock_s: Option<String>,
    /// Of `tokens`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<String>,
    /// Of `cost_usd`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<String>,
}

/// What a run needs to know of its model, as it was when the run began or the model was switched: a price that changes later
/// changes no run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelTerms {
    /// List price, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<ModelCost>,
    /// Longest answer in tokens, where a limit reserves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<u64>,
}

impl ModelTerms {
    /// None: a limit of cost applies, and the model's price is not known.
    #[must_use]
    pub fn of(model: &ModelInfo, limits: &RunLimits) -> Option<Self> {
        let is_budgeted = limits.tokens.is_some() || limits.cost_usd.is_some();
        let max_output_tokens = longest_answer(model).filter(|_| is_budgeted);
        (model.cost.is_some() || limits.cost_usd.is_none()).then_some(Self { price: model.cost, max_output_tokens })
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A call with what policy said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResolvedCall {
    /// The call.
    pub call: ToolCall,
    /// What may have happened if it starts and no result is recorded.
    pub effect: Effect,
    /// What policy said.
    pub approval: Approval,
    /// Why, if there is a reason to give.
    pub reason: Option<String>,
    /// When no decision becomes a reject.
    pub deadline: DateTime<Utc>,
    /// Why it cannot run at all: its result.
    pub invalid: Option<String>,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallEnd {
    /// It ran.
    Done,
    /// It could not run as it stood.
    Invalid,
    /// Refused by a person, by policy, or for want of an answer.
    Rejected,
    /// A person gave the result.
    Answered,
    /// Steering came first.
    Skipped,
    /// The run was cancelled.
    Cancelled,
    /// It was started, and the process died before its result.
    Unknown,
}

impl Record {
    /// The message that this record adds to the history.
    #[must_use]
    pub fn message(&self) -> Option<&Message> {
        match self {
            Self::UserMessage { message, .. }
            | Self::ModelAnswered { message, .. }
            | Self::CallEnded { message, .. } => Some(message),
            Self::RunAccepted(_)
            | Self::ModelRequested { .. }
            | Self::BackingOff { .. }
            | Self::ContextOverflowed { .. }
            | Self::ContextCleared { .. }
            | Self::ContextCut { .. }
            | Self::CompactionStarted { .. }
            | Self::Compaction { .. }
            | Self::CallsResolved { .. }
            | Self::Decided { .. }
            | Self::CallStarted { .. }
            | Self::ClockStopped { .. }
            | Self::ClockStarted { .. }
            | Self::TurnEnded
            | Self::CommandQueued { .. }
            | Self::RunEnded { .. }
            | Self::ModelSwitched { .. }
            | Self::SessionChanged { .. }
            | Self::SessionDeleted { .. } => None,
        }
    }

    /// What the provider said beside the message.
    #[must_use]
    pub fn reasoning(&self) -> Option<&Value> {
        match self {
            Self::ModelAnswered { reasoning, .. } => reasoning.as_ref(),
            _ => None,
        }
    }

    /// The row's `kind`: for people and tools that read the file.
    fn kind(&self) -> &'static str {
        match self {
            Self::RunAccepted(_) => "run_accepted",
            Self::UserMessage { .. } => "user_message",
            Self::ModelRequested { .. } => "model_requested",
            Self::BackingOff { .. } => "backing_off",
            Self::ModelAnswered { .. } => "model_answered",
            Self::ContextOverflowed { .. } => "context_overflowed",
            Self::ContextCleared { .. } => "context_cleared",
            Self::ContextCut { .. } => "context_cut",
            Self::CompactionStarted { .. } => "compaction_started",
            Self::Compaction { .. } => "compaction",
            Self::CallsResolved { .. } => "calls_resolved",
            Self::Decided { .. } => "decided",
            Self::CallStarted { .. } => "call_started",
            Self::CallEnded { .. } => "call_ended",
            Self::ClockStopped { .. } => "clock_stopped",
            Self::ClockStarted { .. } => "clock_started",
            Self::TurnEnded => "turn_ended",
            Self::CommandQueued { .. } => "command_queued",
            Self::RunEnded { .. } => "run_ended",
            Self::ModelSwitched { .. } => "model_switched",
            Self::SessionChanged { .. } => "session_changed",
            Self::SessionDeleted { .. } => "session_deleted",
        }
    }

    /// The row to store.
    #[expect(clippy::expect_used, reason = "records hold no map with keys that are not strings")]
    pub(crate) fn to_row(&self, seq: u64, message_index: Option<u64>) -> Row {
        Row {
            seq,
            class: RowClass::Control,
            kind: self.kind().to_owned(),
            payload: serde_json::to_string(self).expect("a record is JSON"),
            message_index,
        }
    }

    /// Reads a control row.
    ///
    /// # Errors
    /// When the payload is no record: written by a later version, or damaged.
    pub fn from_row(row: &Row) -> serde_json::Result<Self> {
        serde_json::from_str(&row.payload)
    }
}

/// The row of an event.
#[expect(clippy::expect_used, reason = "events hold no map with keys that are not strings")]
pub(crate) fn event_row(envelope: &EventEnvelope) -> Row {
    Row {
        seq: envelope.id.0,
        class: RowClass::Event,
        kind: envelope.event.name().to_owned(),
        payload: to_ascii_json(envelope).expect("an event is JSON"),
        message_index: None,
    }
}
