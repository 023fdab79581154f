//! The stored form of the control state: folding can begin behind it.
//!
//! * It holds no message and no prompt. What the state keeps of such records is named by their places and read again.
//! * It is taken between turns, when no call is open, and is never larger than [`MOST_BYTES`]. What grows with the run is
//!   what late decisions need of each call: some 35 bytes, 150 if a person decided.
//! * It is never needed: one of another version, or that does not read, is none.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use stakpak_protocol::{Approval, DecidedBy, LastError, StopDetail, StopReason, ToolCallId, Usage, Usd};

use super::{ActiveRun, Repeats, RunClock, Session, Settled, Step};
use crate::{CallEnd, ContextState, Record, Row, SessionRow, Shrinking, Snapshot};

/// Of the form below, and of what folding makes of records. Whoever changes either counts it up.
const VERSION: u32 = 5;

/// Largest state that is stored.
const MOST_BYTES: usize = 64 << 10;

/// A state that was read, and lacks the records that it names.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stored {
    message_count: u64,
    accepted_at: u64,
    switched_at: Option<u64>,
    left: BTreeSet<String>,
    turn: u64,
    request: u64,
    total_usage: Usage,
    cost_micros: Option<u64>,
    context: ContextState,
    shrinking: Shrinking,
    stopped_at: Option<DateTime<Utc>>,
    waited: Duration,
    side_effects: bool,
    repeats: Repeats,
    settled: Vec<Alike>,
    decided: Vec<Decided>,
    queued: Vec<u64>,
    commands: u64,
    step: StoredStep,
}

/// Calls that ended alike, without a person.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Alike {
    approval: Approval,
    end: CallEnd,
    calls: Vec<ToolCallId>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Decided {
    call: ToolCallId,
    approval: Approval,
    end: CallEnd,
    decision: DecidedBy,
}

/// Between turns, or while the model is asked. Whether readers have seen text of it is forgotten, as folding forgets it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum StoredStep {
    Ready,
    Asking {
        attempt: u64,
        restarts: u64,
    },
    Compacting {
        attempt: u64,
        restarts: u64,
        first: u64,
        tokens_before: u64,
    },
    BackingOff {
        attempt: u64,
        until: DateTime<Utc>,
        restarts: Option<u64>,
    },
    Ended {
        stop_reason: StopReason,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detail: Option<StopDetail>,
        last_error: Option<LastError>,
        at: DateTime<Utc>,
    },
}

impl Session {
    /// Whether no call is open: [`Session::snapshot`] gives a state then, if it is not too large.
    #[must_use]
    pub fn is_between_turns(&self) -> bool {
        self.run.as_ref().is_some_and(|run| !matches!(run.step, Step::Calling { .. }))
    }

    /// The state in its stored form; none while calls are open, and when it is too large.
    #[must_use]
    pub fn snapshot(&self) -> Option<Snapshot> {
        let stored = Stored::of(self.row.message_count, self.run.as_ref()?)?;
        let state = serde_json::to_string(&stored).ok().filter(|state| state.len() <= MOST_BYTES)?;
        Some(Snapshot { seq: self.row.last_seq, version: VERSION, state })
    }
}

impl Stored {
    /// Reads a snapshot; none when it is of another version, or damaged.
    #[must_use]
    pub fn read(snapshot: &Snapshot) -> Option<Self> {
        (snapshot.version == VERSION).then(|| serde_json::from_str(&snapshot.state).ok()).flatten()
    }

    /// Places of the records that it names, as [`Stored::restore`] wants them.
    pub fn places(&self) -> impl Iterator<Item = u64> {
        [self.accepted_at].into_iter().chain(self.switched_at).chain(self.queued.iter().copied())
    }

    /// The state, from the session as it is now and the rows at [`Stored::places`]; none when they are others.
    #[must_use]
    pub fn restore(self, row: SessionRow, named: &[Row]) -> Option<Session> {
        let model = row.model.clone();
        let mut session = Session::new(row);
        for row in named {
            let record = Record::from_row(row).ok()?;
            let is_named =
                matches!(record, Record::RunAccepted(_) | Record::ModelSwitched { .. } | Record::CommandQueued { .. });
            is_named.then(|| session.evolve(row.seq, &record))?;
        }
        session.row.message_count = self.message_count;
        session.row.model = model;
        let run = session.run.as_mut()?;
        let queued = run.queued.iter().map(|queued| queued.seq);
        if (run.accepted_at, run.switched_at) != (self.accepted_at, self.switched_at) || !queued.eq(self.queued) {
            return None;
        }
        run.left = self.left;
        run.turn = self.turn;
        run.request = self.request;
        run.total_usage = self.total_usage;
        run.cost = self.cost_micros.map(Usd::from_micros);
        run.context = self.context;
        run.shrinking = self.shrinking;
        run.clock = RunClock { stopped_at: self.stopped_at, waited: TimeDelta::from_std(self.waited).ok()? };
        run.side_effects = self.side_effects;
        run.repeats = self.repeats;
        run.settled = settled(self.settled, self.decided);
        run.commands = self.commands;
        run.step = self.step.into();
        session.project();
        Some(session)
    }

    /// Every field of the state is named: a new one belongs here, or is told by a record.
    fn of(message_count: u64, run: &ActiveRun) -> Option<Self> {
        let ActiveRun {
            accepted: _,
            accepted_at,
            switched_at,
            left,
            turn,
            request,
            total_usage,
            cost,
            context,
            shrinking,
            clock: RunClock { stopped_at, waited },
            side_effects,
            calls: _,
            repeats,
            settled,
            queued,
            commands,
            step,
        } = run;
        let (settled, decided) = grouped(settled);
        Some(Self {
            message_count,
            accepted_at: *accepted_at,
            switched_at: *switched_at,
            left: left.clone(),
            turn: *turn,
            request: *request,
            total_usage: total_usage.clone(),
            cost_micros: cost.map(Usd::micros),
            context: context.clone(),
            shrinking: shrinking.clone(),
            stopped_at: *stopped_at,
            waited: waited.to_std().ok()?,
            side_effects: *side_effects,
            repeats: *repeats,
            settled,
            decided,
            queued: queued.iter().map(|queued| queued.seq).collect(),
            commands: *commands,
            step: StoredStep::of(step)?,
        })
    }
}

fn grouped(settled: &BTreeMap<ToolCallId, Settled>) -> (Vec<Alike>, Vec<Decided>) {
    let (mut groups, mut decided): (Vec<Alike>, _) = (Vec::new(), Vec::new());
    for (id, Settled { approval, end, decided: decision }) in settled {
        let (call, approval, end) = (id.clone(), *approval, *end);
        if let Some(decision) = decision.clone() {
            decided.push(Decided { call, approval, end, decision });
            continue;
        }
        match groups.iter_mut().find(|group| (group.approval, group.end) == (approval, end)) {
            Some(group) => group.calls.push(call),
            None => groups.push(Alike { approval, end, calls: vec![call] }),
        }
    }
    (groups, decided)
}

fn settled(groups: Vec<Alike>, decided: Vec<Decided>) -> BTreeMap<ToolCallId, Settled> {
    let alike = groups.into_iter().flat_map(|Alike { approval, end, calls }| {
        calls.into_iter().map(move |call| (call, Settled { approval, end, decided: None }))
    });
    let decided = decided
        .into_iter()
        .map(|Decided { call, approval, end, decision }| (call, Settled { approval, end, decided: Some(decision) }));
    alike.chain(decided).collect()
}

impl StoredStep {
    fn of(step: &Step) -> Option<Self> {
        Some(match step {
            Step::Ready => Self::Ready,
            Step::Asking { attempt, restarts, text_shown: _ } => {
                Self::Asking { attempt: *attempt, restarts: *restarts }
            }
            Step::Compacting { attempt, restarts, first, tokens_before } => Self::Compacting {
                attempt: *attempt,
                restarts: *restarts,
                first: *first,
                tokens_before: *tokens_before,
            },
            Step::BackingOff { attempt, until, restarts } => {
                Self::BackingOff { attempt: *attempt, until: *until, restarts: *restarts }
            }
            Step::Calling { .. } => return None,
            Step::Ended { stop_reason, detail, last_error, at } => {
                Self::Ended { stop_reason: *stop_reason, detail: *detail, last_error: last_error.clone(), at: *at }
            }
        })
    }
}

impl From<StoredStep> for Step {
    fn from(stored: StoredStep) -> Self {
        match stored {
            StoredStep::Ready => Self::Ready,
            StoredStep::Asking { attempt, restarts } => Self::Asking { attempt, restarts, text_shown: false },
            StoredStep::Compacting { attempt, restarts, first, tokens_before } => {
                Self::Compacting { attempt, restarts, first, tokens_before }
            }
            StoredStep::BackingOff { attempt, until, restarts } => Self::BackingOff { attempt, until, restarts },
            StoredStep::Ended { stop_reason, detail, last_error, at } => {
                Self::Ended { stop_reason, detail, last_error, at }
            }
        }
    }
}
