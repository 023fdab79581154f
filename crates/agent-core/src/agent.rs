//! Driving one session: requests and reports come in, records go to the journal, owed effects run.
//!
//! * Append before act: an effect starts only after the records that caused it are durable.
//! * Publish after commit: readers see an event only when it can no longer be lost.
//! * Effects follow from the state: what is owed and does not run is started, what runs and is no longer owed is stopped.

mod asking;
mod bound;
mod days;
mod driver;
mod effects;
mod hidden;
mod history;
mod notes;
mod open;
mod run_tools;
mod slots;
mod spans;
mod stand_ins;
mod tail;

use std::{sync::Arc, time::Duration};

pub use days::Days;
use history::History;
pub use notes::is_note;
pub use slots::Slots;
use stakpak_protocol::{LastErrorCode, SessionId};
use tail::Tail;
use tokio::sync::{mpsc, oneshot};

use crate::{
    Clock, EventRecord, Journal, JournalError, Profiles, Receipt, Secrets, Tools,
    session::{Fact, Refusal, Reply, Request, Session},
};

/// Who is told of events once they are durable.
pub trait Publisher: Send + Sync {
    /// These events of the session are durable. Called in order; must not block.
    fn publish(&self, session: SessionId, events: &[EventRecord]);

    /// The session is deleted, and all its events were published: its streams end. May be told again.
    fn close(&self, session: SessionId);

    /// These facts are durable; told before the events that go with them. Must not block.
    fn observe(&self, facts: &[Fact]) {
        let _ = facts;
    }
}

/// What drives sessions: the ports and the bounds.
pub struct Agent {
    /// Where records go.
    pub journal: Arc<dyn Journal>,
    /// Who is told.
    pub publisher: Arc<dyn Publisher>,
    /// Where models come from.
    pub profiles: Arc<dyn Profiles>,
    /// What calls run.
    pub tools: Arc<dyn Tools>,
    /// What nobody may see.
    pub secrets: Arc<dyn Secrets>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// How many runs work at the same time.
    pub slots: Slots,
    /// What requests under way may take of a profile's day.
    pub days: Days,
    /// Bounds.
    pub config: AgentConfig,
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agent").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Bounds of runs.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// Runs that work at the same time; more are queued.
    pub active_runs: usize,
    /// Commands that wait in one run; more are refused.
    pub queued_commands: usize,
    /// Attempts a turn, the first included.
    pub attempts: u64,
    /// Wait before the second attempt; doubles.
    pub backoff: Duration,
    /// Longest single wait.
    pub longest_wait: Duration,
    /// How long a call waits for a person before that means no.
    pub approval_timeout: Duration,
    /// Unfinished runs older than this are not resumed after a restart.
    pub resume_max_age: Duration,
}

impl Default for AgentConfig {
    fn default() -> Self {
        Self {
            active_runs: 64,
            queued_commands: 128,
            attempts: 3,
            backoff: Duration::from_secs(2),
            longest_wait: Duration::from_secs(120),
            approval_timeout: Duration::from_secs(24 * 3600),
            resume_max_age: Duration::from_secs(3600),
        }
    }
}

/// Makes the stored answer of an idempotency key from the reply, so that both are committed with the effect; none when the
/// request came without a key. It is dropped after the request is answered: what it holds is held until then.
pub type ReceiptFor = Box<dyn Fn(&Reply) -> Option<Receipt> + Send>;

/// A request on its way to a session.
pub struct Job {
    /// What is asked.
    pub request: Request,
    /// The answer to store under its idempotency key.
    pub receipt: ReceiptFor,
    /// Answered once the effect is durable.
    pub reply: oneshot::Sender<Result<Reply, RequestError>>,
    /// Of whoever asks: what is logged for the request carries its ids.
    pub span: tracing::Span,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job").field("request", &self.request).finish_non_exhaustive()
    }
}

/// Why a request had no effect.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The session's state does not allow it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It could not be made durable.
    #[error("the request could not be recorded")]
    Journal(#[from] JournalError),
}

/// Why a session is driven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// Requests are coming.
    Requests,
    /// The process is new and the run is not over.
    Recover,
    /// The run cannot go on.
    Fail {
        /// Class.
        code: LastErrorCode,
        /// For people.
        message: String,
    },
}

/// A session between two drives: its state, and what was read of its history, so that going on reads nothing twice.
///
/// It is what the journal says for as long as nobody else appends to the session.
#[derive(Debug)]
pub struct Resident {
    session: Session,
    history: History,
    tail: Tail,
}

impl Resident {
    /// A session without a run.
    fn new(session: Session) -> Self {
        let history = History::of(&session.row);
        Self { session, history, tail: Tail::default() }
    }

    /// Its state.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The session's id.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.session.row.id
    }

    /// Whether its run has not ended.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.session.active().is_some()
    }

    /// Stored bytes of what it holds: memory is about twice that.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.history.bytes()
    }
}

/// Drives a session until it has nothing to do: no run, no effect, no request waiting. Requests that arrive later stay in
/// `jobs`.
///
/// Dropping the future stops every effect and records nothing; the journal then says what is owed.
///
/// # Errors
/// When the journal fails: what was not recorded has not happened, and the session must be read anew.
pub async fn run_agent(
    agent: &Agent,
    session: Resident,
    start: Start,
    jobs: &mut mpsc::Receiver<Job>,
) -> Result<Resident, JournalError> {
    // On the heap: it would be a part of every future around it.
    Box::pin(driver::Driver::new(agent, session).run(start, jobs)).await
}
