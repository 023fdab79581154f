//! The journal's upkeep: each step is planned on a reader and applied by the writer in one short transaction.
//!
//! A plan holds the marks that it was made from. When they are no longer the session's, somebody else has done the step, and
//! the plan is dropped: steps need no lock and survive a kill at any point.

mod due;
mod marks;
mod purge;
mod tidy;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use stakpak_agent_core::{JournalError, Progress, Retention, Upkeep};
use stakpak_protocol::SessionId;

use crate::SqliteJournal;

/// Rows that one step changes at most: a millisecond or two, during which appends wait.
const MOST_ROWS: usize = 512;

/// Bytes of rows after which a step ends: reading and removing them touches as many pages.
const MOST_BYTES: usize = 256 * 1024;

#[async_trait]
impl Upkeep for SqliteJournal {
    async fn untidy_sessions(
        &self,
        retention: &Retention,
        now: DateTime<Utc>,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<SessionId>, JournalError> {
        let bounds = due::Bounds::new(retention, now);
        self.read(move |conn| due::untidy(conn, &bounds, after, limit)).await
    }

    async fn tidy(
        &self,
        session: SessionId,
        retention: &Retention,
        now: DateTime<Utc>,
    ) -> Result<Progress, JournalError> {
        let bounds = due::Bounds::new(retention, now);
        let Some(step) = self.read(move |conn| tidy::plan(conn, session, &bounds)).await? else {
            return Ok(Progress::Done);
        };
        self.write(move |conn| step.apply(conn)).await
    }

    async fn expired_sessions(
        &self,
        retention: &Retention,
        now: DateTime<Utc>,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<SessionId>, JournalError> {
        let bounds = due::Bounds::new(retention, now);
        self.read(move |conn| due::expired(conn, &bounds, after, limit)).await
    }

    async fn purge(&self, session: SessionId) -> Result<(), JournalError> {
        self.write(move |conn| purge::purge(conn, session)).await?;
        self.forget_recent(session);
        Ok(())
    }

    async fn sweep(&self, now: DateTime<Utc>) -> Result<Progress, JournalError> {
        let Some(step) = self.read(move |conn| purge::plan(conn, now)).await? else { return Ok(Progress::Done) };
        self.write(move |conn| step.apply(conn)).await
    }
}
