//! The port to the journal: one append-only sequence of rows per session.
//!
//! Guarantees an implementation owes, held by the conformance suite:
//! * an append is durable when its future resolves, and all of it or nothing is there;
//! * sequences are appended to without holes, and only [`Upkeep`](super::Upkeep) makes any; a row reads back as it was
//!   written, or not at all;
//! * an append under an older epoch than the session's, or that does not continue its sequence, is refused alone;
//! * a receipt and its rows are one fact;
//! * so are a snapshot and its rows, and one that does not read back as it was written is none;
//! * so are rows and what they add to the spending of a profile, which survives its sessions.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use stakpak_protocol::{EventId, Run, RunId, RunStatus, SessionId, SessionStatus, Visibility};
use uuid::Uuid;

use super::{Spending, Spent};

/// One row of a session's sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Position in the session, from 1. For an event it is the event's id.
    pub seq: u64,
    /// Who reads it.
    pub class: RowClass,
    /// Names the payload's format.
    pub kind: String,
    /// JSON.
    pub payload: String,
    /// Place in the history, if the row holds a message.
    pub message_index: Option<u64>,
}

/// Who reads a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowClass {
    /// Folding: what the state is made of.
    Control,
    /// SSE readers: `kind` is the event's name, the payload its envelope.
    Event,
}

/// Rows to append, with the projections that change with them.
#[derive(Debug, Clone)]
pub struct Append {
    /// The owner's epoch.
    pub epoch: u64,
    /// The session as it is after these rows.
    pub session: SessionRow,
    /// Consecutive; may be empty when there is a receipt.
    pub rows: Vec<Row>,
    /// The run as it is after these rows, if it changed.
    pub run: Option<Run>,
    /// The idempotency key that these rows are the effect of.
    pub receipt: Option<Receipt>,
    /// The state after these rows: takes the place of the session's earlier one.
    pub snapshot: Option<Snapshot>,
    /// What these rows add to the spending of a profile.
    pub spent: Option<Spent>,
}

/// A session's control state at a position, so that folding can begin behind it. Opaque to the journal, and never needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The last row that is folded into it; of an append, the session's last.
    pub seq: u64,
    /// Names the form of the state.
    pub version: u32,
    /// JSON.
    pub state: String,
}

/// What is known of a session without folding: a projection, written with the rows it follows from.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionRow {
    /// The session.
    pub id: SessionId,
    /// May be empty.
    pub title: String,
    /// Where its tools run.
    pub cwd: Option<String>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    /// What it is doing.
    pub run_status: RunStatus,
    /// Whether it was deleted.
    pub status: SessionStatus,
    /// Who may see it.
    pub visibility: Visibility,
    /// The model of its last run.
    pub model: Option<String>,
    /// Messages in the history, without the system message.
    pub message_count: u64,
    /// Newest event, 0 if none.
    pub last_event_id: EventId,
    /// Last position in the sequence, 0 if none.
    pub last_seq: u64,
    /// First row of the last run: folding starts here. 0 before the first run.
    pub run_first_seq: u64,
    /// Version 5 id of (session, last message) at the last pause or end.
    pub checkpoint_id: Option<Uuid>,
}

/// A session to make.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// The session, idle and empty.
    pub session: SessionRow,
    /// The idempotency key that made it.
    pub receipt: Option<Receipt>,
}

impl SessionRow {
    /// A session that is idle and empty.
    #[must_use]
    pub fn new(id: SessionId, title: impl Into<String>, cwd: Option<String>, now: DateTime<Utc>) -> Self {
        Self {
            id,
            title: title.into(),
            cwd,
            created_at: now,
            updated_at: now,
            run_status: RunStatus::Idle,
            status: SessionStatus::Active,
            visibility: Visibility::Private,
            model: None,
            message_count: 0,
            last_event_id: EventId(0),
            last_seq: 0,
            run_first_seq: 0,
            checkpoint_id: None,
        }
    }
}

/// The stored answer to a request with an idempotency key. Opaque to the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Token name, method, path and key.
    pub scope: String,
    /// SHA-256 of the canonical body.
    pub body_hash: [u8; 32],
    /// Status of the answer.
    pub status: u16,
    /// Body of the answer.
    pub body: String,
    /// When the key is free again.
    pub expires_at: DateTime<Utc>,
}

/// One event as readers get it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRecord {
    /// Its id.
    pub id: EventId,
    /// Its SSE name.
    pub name: String,
    /// Its envelope: one line of ASCII JSON.
    pub data: String,
}

/// Which sessions to list.
#[derive(Debug, Clone, Default)]
pub struct SessionQuery {
    /// Part of the title, any case, taken literally.
    pub search: Option<String>,
    /// None: all.
    pub status: Option<SessionStatus>,
    /// Page size.
    pub limit: u64,
    /// Matches to pass over on a first page.
    pub offset: u64,
    /// Go on behind the page that gave this, with the same search and status.
    pub cursor: Option<SessionCursor>,
}

/// One page, newest `updated_at` first, ties by id.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionPage {
    /// The page.
    pub sessions: Vec<SessionRow>,
    /// All matches.
    pub total: u64,
    /// Where the next page begins; none on the last. The pages together hold every session of the first page's moment that
    /// still matches exactly once, whatever changes meanwhile; a session that changes comes early or stays where it was.
    pub next: Option<SessionCursor>,
}

/// Which sessions a listing has given so far. Opaque: its journal reads it, also in a later process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionCursor(pub Vec<u8>);

/// Why the journal refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// No such session.
    #[error("session {0} does not exist")]
    UnknownSession(SessionId),
    /// There is one already.
    #[error("session {0} exists")]
    SessionExists(SessionId),
    /// Another process has taken the session over.
    #[error("session {session} belongs to epoch {current}, not {attempted}")]
    StaleEpoch {
        /// The session.
        session: SessionId,
        /// The epoch of the append.
        attempted: u64,
        /// The session's.
        current: u64,
    },
    /// Another process that lives drives the session.
    #[error("session {session} belongs to {owner}")]
    Elsewhere {
        /// The session.
        session: SessionId,
        /// What the process calls itself.
        owner: String,
    },
    /// The rows do not continue the sequence.
    #[error("session {session} continues at {expected}, not {found}")]
    OutOfSequence {
        /// The session.
        session: SessionId,
        /// Where it continues.
        expected: u64,
        /// Where the append begins.
        found: u64,
    },
    /// The receipt's scope has an answer already.
    #[error("an answer is stored under this idempotency key")]
    ReceiptExists,
    /// The cursor is none that a listing gave.
    #[error("the cursor of the listing cannot be read")]
    BadCursor,
    /// A row does not read back as it was written.
    #[error("session {session} is damaged at {seq}")]
    Damaged {
        /// The session.
        session: SessionId,
        /// The row.
        seq: u64,
    },
    /// Events that were asked for are gone.
    #[error("events of session {session} before {oldest} are gone")]
    EventsGone {
        /// The session.
        session: SessionId,
        /// Oldest event that is kept.
        oldest: EventId,
        /// Newest event.
        newest: EventId,
    },
    /// The storage failed.
    #[error("journal storage failed")]
    Storage(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The journal.
#[async_trait]
pub trait Journal: Send + Sync {
    /// The epoch that this process owns sessions under: higher than that of any process before it.
    fn epoch(&self) -> u64;

    /// Makes a session. Durable when it returns.
    async fn create_session(&self, new: NewSession) -> Result<(), JournalError>;

    /// Appends. Durable when it returns.
    async fn append(&self, append: Append) -> Result<(), JournalError>;

    /// Refused while another process that lives drives the session: asked before anything is done for one that this process
    /// did not write last. An append is refused for the same reason.
    async fn claim(&self, _id: SessionId) -> Result<(), JournalError> {
        Ok(())
    }

    /// Writes something that nobody reads, durably: whether an append would succeed now.
    async fn probe(&self) -> Result<(), JournalError>;

    /// One session.
    async fn session(&self, id: SessionId) -> Result<Option<SessionRow>, JournalError>;

    /// A page of sessions.
    async fn sessions(&self, query: SessionQuery) -> Result<SessionPage, JournalError>;

    /// Sessions whose run has not ended.
    async fn open_sessions(&self) -> Result<Vec<SessionRow>, JournalError>;

    /// Control rows with `from <= seq <= to`, in order.
    async fn control_rows(&self, id: SessionId, from: u64, to: u64) -> Result<Vec<Row>, JournalError>;

    /// The session's newest snapshot; none when there is none that can be read.
    async fn snapshot(&self, id: SessionId) -> Result<Option<Snapshot>, JournalError>;

    /// Message rows with `from <= message_index < to`, in order.
    async fn message_rows(&self, id: SessionId, from: u64, to: u64) -> Result<Vec<Row>, JournalError>;

    /// Events with an id above `after`, in order, until about `max_bytes`; empty only when there is none. Of deltas that
    /// were merged, the text after the cursor. [`JournalError::EventsGone`] when upkeep has removed one of them.
    async fn events(&self, id: SessionId, after: EventId, max_bytes: usize) -> Result<Vec<EventRecord>, JournalError>;

    /// One run, with the positions of its first and last row.
    async fn run(&self, session: SessionId, run: RunId) -> Result<Option<Run>, JournalError>;

    /// Runs that have not ended, oldest first, each with the newest event of its session.
    async fn active_runs(&self) -> Result<Vec<Run>, JournalError>;

    /// What appends of any session have added to the spending of a profile since then, which is at most two days ago. Parts
    /// of the quarter of an hour that `since` lies in may count from its beginning.
    async fn spent(&self, profile: &str, since: DateTime<Utc>) -> Result<Spending, JournalError>;

    /// The stored answer under a scope, unless it has expired.
    async fn receipt(&self, scope: &str, now: DateTime<Utc>) -> Result<Option<Receipt>, JournalError>;
}
