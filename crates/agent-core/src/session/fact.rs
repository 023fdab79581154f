//! What is counted of a session: told to the publisher once the records it follows from are durable.

use stakpak_protocol::{LastErrorCode, MessagePart, StopReason, Usage, Usd};

use super::Session;
use crate::{CallEnd, Record};

/// Something that happened once, for counters. Deltas and progress make none.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    /// A message was accepted and its run exists.
    RunStarted,
    /// A run is over.
    RunEnded {
        /// Why.
        stop_reason: StopReason,
        /// Class of the error, if it failed.
        error: Option<LastErrorCode>,
        /// From acceptance to end, waiting included.
        seconds: f64,
    },
    /// A turn is over.
    TurnEnded,
    /// A model answered.
    ModelAnswered {
        /// `provider/id`.
        model: String,
        /// Tokens; without the provider's own object.
        usage: Box<Usage>,
        /// What it cost, where the price is known.
        cost: Option<Usd>,
    },
    /// A request to a model failed and is repeated.
    ModelRetried,
    /// A call has its result.
    CallEnded {
        /// `server__tool`, as the model wrote it.
        tool: String,
        /// How.
        end: CallEnd,
        /// Whether the result is an error.
        is_error: bool,
    },
}

impl Fact {
    /// What `record` adds; the session has folded it already.
    pub(super) fn of(session: &Session, record: &Record) -> Option<Self> {
        let run = session.run.as_ref()?;
        Some(match record {
            Record::RunAccepted(_) => Self::RunStarted,
            Record::RunEnded { stop_reason, last_error, at, .. } => Self::RunEnded {
                stop_reason: *stop_reason,
                error: last_error.as_ref().map(|error| error.code),
                seconds: (*at - run.accepted.at).as_seconds_f64().max(0.0),
            },
            Record::TurnEnded => Self::TurnEnded,
            Record::ModelAnswered { usage, cost_micros, .. } => Self::ModelAnswered {
                model: run.accepted.model.clone(),
                usage: Box::new(Usage { raw: None, ..usage.clone() }),
                cost: cost_micros.map(Usd::from_micros),
            },
            Record::Compaction { model: Some(model), usage, cost_micros, .. } => Self::ModelAnswered {
                model: model.clone(),
                usage: Box::new(Usage { raw: None, ..usage.clone() }),
                cost: cost_micros.map(Usd::from_micros),
            },
            Record::BackingOff { .. } | Record::ModelSwitched { stands_in: true, .. } => Self::ModelRetried,
            Record::CallEnded { call_id, end, message } => Self::CallEnded {
                tool: run.call(call_id)?.resolved.call.name.clone(),
                end: *end,
                is_error: message
                    .parts()
                    .iter()
                    .any(|part| matches!(part, MessagePart::ToolResult { is_error: true, .. })),
            },
            Record::UserMessage { .. }
            | Record::ModelRequested { .. }
            | Record::ContextOverflowed { .. }
            | Record::ContextCleared { .. }
            | Record::ContextCut { .. }
            | Record::CompactionStarted { .. }
            | Record::Compaction { .. }
            | Record::CallsResolved { .. }
            | Record::Decided { .. }
            | Record::CallStarted { .. }
            | Record::CommandQueued { .. }
            | Record::ModelSwitched { .. }
            | Record::SessionChanged { .. }
            | Record::SessionDeleted { .. }
            | Record::ClockStopped { .. }
            | Record::ClockStarted { .. } => return None,
        })
    }
}
