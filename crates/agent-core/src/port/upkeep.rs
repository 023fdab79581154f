//! The port to the journal's upkeep: what it lets go of, by a policy, in steps that are small enough to wait for.
//!
//! Guarantees an implementation owes, held by the conformance suite:
//! * each step is one short write; a step that was not finished is done again, and doing it twice changes nothing;
//! * messages stay, and so does everything of an active run and the last run's control rows;
//! * a cursor below what is gone is told so; from any other, readers get the same text as before;
//! * the newest event of a session stays, so that there is always an oldest one to name;
//! * damage is reported and left as it is.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use stakpak_protocol::SessionId;

use crate::JournalError;

/// How long things are kept. None: for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// How old an event may become.
    pub events_age: Option<Duration>,
    /// How many bytes of events a session may hold.
    pub events_bytes: Option<u64>,
    /// How long a deleted session can still be read.
    pub deleted_sessions: Option<Duration>,
    /// How long after its run's end a delta has a row of its own.
    pub deltas: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        Self {
            events_age: Some(DAY * 30),
            events_bytes: Some(64 * 1024 * 1024),
            deleted_sessions: Some(DAY * 30),
            deltas: DAY,
        }
    }
}

/// Whether a step left work of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Call again.
    More,
    /// Nothing is left to do now.
    Done,
}

/// The journal's upkeep.
#[async_trait]
pub trait Upkeep: Send + Sync {
    /// At most `limit` sessions with an id above `after` for which [`Self::tidy`] may have something to do, by id.
    async fn untidy_sessions(
        &self,
        retention: &Retention,
        now: DateTime<Utc>,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<SessionId>, JournalError>;

    /// One step towards the policy in one session: events that are too old or too many go, with the control rows of their
    /// runs that hold no message; deltas of old runs are merged.
    async fn tidy(
        &self,
        session: SessionId,
        retention: &Retention,
        now: DateTime<Utc>,
    ) -> Result<Progress, JournalError>;

    /// At most `limit` sessions with an id above `after` that were deleted long enough ago to be purged, by id.
    async fn expired_sessions(
        &self,
        retention: &Retention,
        now: DateTime<Utc>,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<SessionId>, JournalError>;

    /// Forgets a deleted session: from now on it does not exist. [`Self::sweep`] removes what is left of it.
    async fn purge(&self, session: SessionId) -> Result<(), JournalError>;

    /// One step of removing what nobody can ask for any more: rows, runs and receipts of purged sessions, expired receipts.
    async fn sweep(&self, now: DateTime<Utc>) -> Result<Progress, JournalError>;
}
