//! What is known of one session at the end of a round: what was sent and answered, what was seen, and what is there.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Utc};
use reqwest::Method;
use serde_json::Value;
use stakpak_protocol::{EventEnvelope, Message, RunId, Session, ToolCallId, ToolDecisionAction};

use crate::model::{Asked, Plan};

/// Everything [`check`](crate::check::check) looks at.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// Names the session; its title.
    pub label: String,
    /// One a message, in order.
    pub plans: Vec<Plan>,
    pub writes: Vec<Write>,
    /// Every stream that was open, also those that a kill cut.
    pub connections: Vec<Connection>,
    /// All events from 0 on, read at the end.
    pub replay: Vec<Frame>,
    /// All messages, read at the end.
    pub history: Vec<Message>,
    /// Ids of calls, in the order in which their commands wrote them.
    pub witness: Vec<String>,
    /// What the model was asked.
    pub asked: Vec<Asked>,
    /// Sessions with this in their title, deleted ones too.
    pub sessions: u64,
    /// The session, read at the end.
    pub session: Option<Session>,
    /// Kills in the session's life.
    pub kills: u64,
    /// What the client waited for in vain.
    pub stuck: Option<String>,
    /// Processes of calls that were still there when no run was.
    pub processes: Vec<String>,
}

/// A request that changes something, sent until it was answered.
#[derive(Debug, Clone)]
pub struct Write {
    pub method: Method,
    pub path: String,
    /// Null: none.
    pub body: Value,
    pub key: String,
    pub what: What,
    /// Whole answers in order of arrival, those of deliberate repeats too.
    pub answers: Vec<Answer>,
    /// Attempts that a kill cut.
    pub unanswered: u64,
}

#[derive(Debug, Clone)]
pub enum What {
    Session,
    /// The run's label.
    Message(String),
    /// A follow-up or steering: its text.
    Command(String),
    Decision(BTreeMap<ToolCallId, ToolDecisionAction>),
    Cancel(RunId),
    /// The new title.
    Title(String),
    /// The run's model from here on.
    Model(String),
    Deletion,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub body: String,
    pub replayed: bool,
    pub at: DateTime<Utc>,
}

/// One event stream.
#[derive(Debug, Clone, Default)]
pub struct Connection {
    /// The cursor it was opened with.
    pub after: u64,
    pub frames: Vec<Frame>,
    /// Whether it was read to the newest event.
    pub complete: bool,
    /// Frames that are no events.
    pub control: Vec<String>,
}

/// One event as it came; cheap to clone.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame(Arc<Inner>);

#[derive(Debug, PartialEq)]
struct Inner {
    id: u64,
    text: String,
    envelope: EventEnvelope,
}

impl Frame {
    /// Reads a frame: its `id`, `event` and `data` lines. None: it is no event.
    pub fn read(text: &str) -> Option<Self> {
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let id = field("id")?.parse().ok()?;
        let envelope: EventEnvelope = serde_json::from_str(field("data")?).ok()?;
        let consistent = envelope.id.0 == id && field("event") == Some(envelope.event.name());
        consistent.then(|| Self(Arc::new(Inner { id, text: text.to_owned(), envelope })))
    }

    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// Its exact text.
    pub fn text(&self) -> &str {
        &self.0.text
    }

    pub fn envelope(&self) -> &EventEnvelope {
        &self.0.envelope
    }
}

impl Write {
    /// What its client was told first.
    pub fn first(&self) -> Option<&Answer> {
        self.answers.first()
    }

    /// Its answer, if it was accepted.
    pub fn accepted(&self) -> Option<&Answer> {
        self.first().filter(|answer| answer.is_success())
    }
}

impl Answer {
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// The run it names.
    pub fn run_id(&self) -> Option<RunId> {
        self.json()["run_id"].as_str()?.parse().ok()
    }
}

impl Ledger {
    /// Whether the deletion of the session was accepted.
    pub fn is_deleted(&self) -> bool {
        self.writes.iter().any(|write| matches!(write.what, What::Deletion) && write.accepted().is_some())
    }

    /// The run of each accepted message, with its plan.
    pub fn runs(&self) -> Vec<(RunId, &Plan)> {
        let messages = self.writes.iter().filter_map(|write| match &write.what {
            What::Message(label) => Some((write.accepted()?.run_id()?, label)),
            _ => None,
        });
        messages.filter_map(|(run, label)| Some((run, self.plans.iter().find(|plan| plan.run == *label)?))).collect()
    }
}
