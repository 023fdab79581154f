//! One decision in the making: the records it consists of, folded as they are appended.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;
use stakpak_protocol::{Event, EventEnvelope, EventId, Message, RunId};

use super::{Fact, Session, StandIn};
use crate::{EventRecord, Profiles, Record, Row, Secrets, Spent, Tools, record::event_row};

/// What deciding needs from outside.
pub struct Rules<'a> {
    /// Now.
    pub now: DateTime<Utc>,
    /// The tools a call can name.
    pub tools: &'a dyn Tools,
    /// The profiles as they are now: a denial that came after the run was accepted wins.
    pub profiles: Option<&'a dyn Profiles>,
    /// Models that can go on where one has failed, in the order of the profile.
    pub stand_ins: Vec<StandIn>,
    /// Which secrets a call names.
    pub secrets: &'a dyn Secrets,
    /// Attempts a turn, the first included.
    pub attempts: u64,
    /// Wait before the second attempt; doubles.
    pub backoff: Duration,
    /// Longest wait; one that the provider asks for beyond it fails at once.
    pub longest_wait: Duration,
    /// -1.0 to 1.0: where in its spread of a fifth a wait falls.
    pub jitter: f64,
    /// How long a call waits for a person.
    pub approval_timeout: Duration,
    /// Unfinished runs older than this are not resumed.
    pub resume_max_age: Duration,
    /// Commands that wait in the run at most.
    pub queued_commands: usize,
    /// Whether the run may work: without it nothing is asked and no call starts.
    pub has_slot: bool,
}

impl std::fmt::Debug for Rules<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rules").field("now", &self.now).finish_non_exhaustive()
    }
}

/// What a decision came to: rows to append, and what readers get once they are durable.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Consecutive rows; empty when nothing changed.
    pub rows: Vec<Row>,
    /// The events among them.
    pub events: Vec<EventRecord>,
    /// The messages among them, with their place in the history and what the provider said beside them.
    pub messages: Vec<(u64, Message, Option<Value>)>,
    /// What counters are told once the rows are durable.
    pub facts: Vec<Fact>,
    /// What is added to the spending of the run's profile.
    pub spent: Option<Spent>,
    /// Whether the run's projection changed, and not only deltas were added.
    pub run_changed: bool,
}

impl Outcome {
    /// Appends what was decided next.
    pub fn extend(&mut self, next: Self) {
        self.rows.extend(next.rows);
        self.events.extend(next.events);
        self.messages.extend(next.messages);
        self.facts.extend(next.facts);
        self.run_changed |= next.run_changed;
        // A request is owed only after the answer before it is appended: there is one at most.
        self.spent = self.spent.take().or(next.spent);
    }
}

pub(super) struct Transition<'a> {
    pub(super) session: &'a mut Session,
    pub(super) rules: &'a Rules<'a>,
    pub(super) outcome: Outcome,
}

impl<'a> Transition<'a> {
    pub(super) fn new(session: &'a mut Session, rules: &'a Rules<'a>) -> Self {
        Self { session, rules, outcome: Outcome::default() }
    }

    pub(super) fn record(&mut self, record: &Record) {
        let seq = self.session.row.last_seq + 1;
        let index = self.session.message_index(record);
        self.outcome.rows.push(record.to_row(seq, index));
        self.outcome.run_changed = true;
        if let (Some(index), Some(message)) = (index, record.message()) {
            self.outcome.messages.push((index, message.clone(), record.reasoning().cloned()));
        }
        self.session.row.updated_at = self.rules.now;
        self.session.evolve(seq, record);
        self.outcome.facts.extend(Fact::of(self.session, record));
    }

    pub(super) fn event(&mut self, event: Event) {
        let id = EventId(self.session.row.last_seq + 1);
        let envelope = EventEnvelope {
            id,
            session_id: self.session.row.id,
            run_id: Some(event.run_id()),
            timestamp: self.rules.now,
            event,
        };
        let row = event_row(&envelope);
        self.outcome.events.push(EventRecord { id, name: row.kind.clone(), data: row.payload.clone() });
        self.outcome.rows.push(row);
        self.session.row.updated_at = self.rules.now;
        self.session.note_event(id);
    }

    /// The active run's id; a transition without a run records nothing that needs one.
    pub(super) fn run_id(&self) -> RunId {
        self.session.run.as_ref().map_or(RunId(uuid::Uuid::nil()), |run| run.accepted.run_id)
    }
}
