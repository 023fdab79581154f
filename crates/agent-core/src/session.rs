//! The session machine: a value, and pure functions on it.
//!
//! * [`Session::evolve`] folds one record into the state; nothing else changes it, live and after a restart alike.
//! * [`Session::handle`] and [`Session::feed`] decide: they append records (and fold them) until nothing is left to decide.
//! * [`Session::owed`] tells which effects the state waits for. The driver starts those that do not run and stops those
//!   that run and are no longer owed: cancelling, retrying and resuming need nothing else.

mod advance;
mod call;
mod compacting;
mod decide;
mod end;
mod evolve;
mod fact;
mod fallback;
mod input;
mod limits;
mod owed;
mod repeats;
mod stored;
mod transition;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use chrono::{DateTime, Utc};
use stakpak_protocol::{
    EventId, LastError, Message, MessageType, Run, RunState, RunStatus, StopDetail, StopReason, ToolCallId, Usage, Usd,
};
use uuid::Uuid;

use call::Fate;
pub use call::{Call, CallStatus, Settled};
pub use compacting::Summary;
pub use decide::{Refusal, Reply, Request};
pub use fact::Fact;
pub use fallback::StandIn;
pub use input::{DeltaKind, Input, Left};
pub use limits::RunClock;
pub use owed::Owed;
pub use repeats::{NoProgress, Repeats};
pub use stored::Stored;
use transition::Transition;
pub use transition::{Outcome, Rules};

use crate::{ContextState, Effect, RunAccepted, SessionRow, Shrinking};

/// A session's control state. The messages themselves are not part of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    /// The projection that is stored with every append.
    pub row: SessionRow,
    /// The active or last run; none before the first.
    pub run: Option<ActiveRun>,
}

/// The active or last run.
#[derive(Debug, Clone, PartialEq)]
pub struct ActiveRun {
    /// As accepted, but for the model, which may have been switched.
    pub accepted: RunAccepted,
    /// Place of the record of it.
    pub accepted_at: u64,
    /// Place of the record of the last switch of the model, if there was one.
    pub switched_at: Option<u64>,
    /// Models that failed in it, and are not gone back to.
    pub left: BTreeSet<String>,
    /// Turns begun.
    pub turn: u64,
    /// Place of the newest model request in the session's sequence: names it, so that a report of an earlier one can be
    /// told. 0 before the first.
    pub request: u64,
    /// Summed over the answers.
    pub total_usage: Usage,
    /// At list price, summed over the answers; none once the price of one was not known.
    pub cost: Option<Usd>,
    /// What requests show of the history.
    pub context: ContextState,
    /// What was done in the open turn to make that fit.
    pub shrinking: Shrinking,
    /// How long it has worked.
    pub clock: RunClock,
    /// Whether a call that is not pure was started.
    pub side_effects: bool,
    /// Calls of the open turn, in order.
    pub calls: Vec<Call>,
    /// Turns in a row that were the same.
    pub repeats: Repeats,
    /// Calls of the turns before.
    pub settled: BTreeMap<ToolCallId, Settled>,
    /// Accepted commands that are not used yet.
    pub queued: VecDeque<Queued>,
    /// Commands accepted so far.
    pub commands: u64,
    /// Where it stands.
    pub step: Step,
}

/// An accepted steering or follow-up.
#[derive(Debug, Clone, PartialEq)]
pub struct Queued {
    /// Unique in the run.
    pub id: u64,
    /// Place of the record of it.
    pub seq: u64,
    /// Which of the two.
    pub kind: MessageType,
    /// What it says.
    pub message: Message,
}

/// Where a run stands.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Between turns.
    Ready,
    /// The model is asked.
    Asking {
        /// From 1 in the turn.
        attempt: u64,
        /// How often a restart has repeated this attempt.
        restarts: u64,
        /// Whether readers have seen text of it.
        text_shown: bool,
    },
    /// The model will be asked again.
    BackingOff {
        /// The attempt that failed.
        attempt: u64,
        /// When.
        until: DateTime<Utc>,
        /// Present when it was a restart that interrupted the attempt, which is then repeated: how often that was so.
        restarts: Option<u64>,
    },
    /// Older messages are summed up; then the model is asked.
    Compacting {
        /// As of the request that has to wait.
        attempt: u64,
        /// As of that request.
        restarts: u64,
        /// The first message that is not summed up.
        first: u64,
        /// Tokens of the conversation.
        tokens_before: u64,
    },
    /// The answer's calls run or wait.
    Calling {
        /// Place of the answer in the history; results follow in declared order.
        answer_index: u64,
    },
    /// Over.
    Ended {
        /// Why.
        stop_reason: StopReason,
        /// More of that.
        detail: Option<StopDetail>,
        /// Present when it failed.
        last_error: Option<LastError>,
        /// When.
        at: DateTime<Utc>,
    },
}

impl Session {
    /// A session whose last run is not folded yet.
    #[must_use]
    pub fn new(row: SessionRow) -> Self {
        Self { row, run: None }
    }

    /// The run, if it has not ended.
    #[must_use]
    pub fn active(&self) -> Option<&ActiveRun> {
        self.run.as_ref().filter(|run| !run.is_ended())
    }

    /// Whether the run works or could: one that waits for a person does not.
    #[must_use]
    pub fn needs_slot(&self) -> bool {
        self.active().is_some_and(|run| match run.step {
            Step::Calling { .. } => run.running_calls() > 0 || run.next_call().is_some(),
            _ => true,
        })
    }

    /// The run as clients see it.
    #[must_use]
    pub fn run_view(&self) -> Option<Run> {
        let run = self.run.as_ref()?;
        let (stop_reason, detail, last_error, ended_at) = match &run.step {
            Step::Ended { stop_reason, detail, last_error, at } => {
                (Some(*stop_reason), *detail, last_error.clone(), Some(*at))
            }
            _ => (None, None, None, None),
        };
        Some(Run {
            run_id: run.accepted.run_id,
            session_id: self.row.id,
            state: run.state(),
            stop_reason,
            detail,
            started_at: run.accepted.at,
            ended_at,
            turns: run.turn,
            side_effects: run.side_effects,
            checkpoint_id: self.row.checkpoint_id,
            first_event_id: EventId(self.row.run_first_seq),
            last_event_id: self.row.last_event_id,
            total_usage: run.total_usage.clone(),
            cost_usd: run.cost,
            last_error,
        })
    }

    /// Follows the run into the projection.
    fn project(&mut self) {
        let Some(run) = &self.run else { return };
        self.row.run_status = match &run.step {
            Step::Ended { last_error: Some(error), .. } => RunStatus::Failed { last_error: Some(error.clone()) },
            Step::Ended { .. } => RunStatus::Idle,
            _ => RunStatus::Running {
                run_id: run.accepted.run_id,
                pending_tool_calls: Some(run.waiting_calls().count() as u64).filter(|count| *count > 0),
                cancelling: None,
            },
        };
        if run.is_ended() || run.waiting_calls().next().is_some() {
            let last_message = self.row.message_count.saturating_sub(1);
            self.row.checkpoint_id = Some(Uuid::new_v5(&self.row.id.0, last_message.to_string().as_bytes()));
        }
    }
}

impl ActiveRun {
    /// Whether it is over.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        matches!(self.step, Step::Ended { .. })
    }

    /// Calls that wait for a person.
    pub fn waiting_calls(&self) -> impl Iterator<Item = &Call> {
        self.calls.iter().filter(|call| matches!(call.status, CallStatus::Waiting))
    }

    /// The call with this id, if its turn is open.
    #[must_use]
    pub fn call(&self, id: &ToolCallId) -> Option<&Call> {
        self.calls.iter().find(|call| call.resolved.call.id == *id)
    }

    fn call_mut(&mut self, id: &ToolCallId) -> Option<&mut Call> {
        self.calls.iter_mut().find(|call| call.resolved.call.id == *id)
    }

    /// What decisions about the call with this id come to, of whichever turn it is.
    fn fate(&self, id: &ToolCallId) -> Option<Fate<'_>> {
        self.call(id).map(Call::fate).or_else(|| self.settled.get(id).map(Settled::fate))
    }

    fn running_calls(&self) -> usize {
        self.calls.iter().filter(|call| matches!(call.status, CallStatus::Running { .. })).count()
    }

    /// The first call that nothing but the number of running ones holds back.
    fn next_call(&self) -> Option<&Call> {
        let calls = &self.calls;
        let mut approved = calls.iter().enumerate().filter(|(_, call)| call.status == CallStatus::Approved);
        let next =
            approved.find(|(position, call)| calls[..*position].iter().all(|earlier| call.may_start_before(earlier)));
        next.map(|(_, call)| call)
    }

    /// The call that starts once somebody has looked at what it will change.
    fn call_to_probe(&self) -> Option<&Call> {
        self.next_call().filter(|call| call.resolved.effect == Effect::Probe)
    }

    /// Whether the user has sent a message that goes before what has not started.
    #[must_use]
    pub fn is_steered(&self) -> bool {
        self.queued.iter().any(|queued| queued.kind == MessageType::Steering)
    }

    fn state(&self) -> RunState {
        match &self.step {
            Step::Ended { stop_reason: StopReason::Cancelled, .. } => RunState::Cancelled,
            Step::Ended { stop_reason: StopReason::Error, .. } => RunState::Failed,
            Step::Ended { .. } => RunState::Completed,
            _ if self.waiting_calls().next().is_some() => RunState::WaitingApproval,
            _ => RunState::Running,
        }
    }
}
