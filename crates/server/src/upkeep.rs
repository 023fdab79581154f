//! The journal's upkeep as a background job.
//!
//! * It takes no input: what there is to do follows from the journal, the policy and the clock. So it can be killed at any
//!   point and begun again.
//! * Each step is one short write; between steps it pauses, so that appends of sessions go first.
//! * A damaged session is told once and left as it is; the others get their upkeep.

use std::{collections::HashSet, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use stakpak_agent_core::{Clock, JournalError, Progress, Retention, Tools, Upkeep};
use stakpak_protocol::SessionId;
use tokio_util::sync::CancellationToken;

/// From one pass to the next, unless the policy is stricter. A pass that finds nothing reads each session's projection and no
/// row: less than a tenth of a second for 100,000 sessions.
const LONGEST_INTERVAL: Duration = Duration::from_secs(60);
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);

/// After each step: the writer is ours for a small part of the time, whatever there is to catch up with.
const PAUSE: Duration = Duration::from_millis(10);

/// Sessions looked up at once.
const PAGE: usize = 256;

/// The job. It has no state that matters.
pub struct UpkeepJob {
    journal: Arc<dyn Upkeep>,
    tools: Arc<dyn Tools>,
    clock: Arc<dyn Clock>,
    retention: Retention,
    /// Damaged sessions that were told.
    told: HashSet<SessionId>,
}

impl std::fmt::Debug for UpkeepJob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UpkeepJob").field("retention", &self.retention).finish_non_exhaustive()
    }
}

/// What a pass came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UpkeepPass {
    /// Steps in sessions: removing and merging events.
    pub tidied: u64,
    /// Sessions purged.
    pub purged: u64,
    /// Steps of removing what purged sessions and expired keys left.
    pub swept: u64,
    /// Damaged sessions that were passed over.
    pub damaged: u64,
}

impl UpkeepPass {
    fn did_something(self) -> bool {
        self.tidied + self.purged + self.swept > 0
    }
}

impl UpkeepJob {
    /// A job on these ports, which are those of the server.
    #[must_use]
    pub fn new(journal: Arc<dyn Upkeep>, tools: Arc<dyn Tools>, clock: Arc<dyn Clock>, retention: Retention) -> Self {
        Self { journal, tools, clock, retention, told: HashSet::new() }
    }

    /// A pass now, and another each minute, until `stop`.
    ///
    /// # Errors
    /// When the journal fails. Nothing is lost: the next run of the job goes on.
    pub async fn run(&mut self, stop: &CancellationToken) -> Result<(), JournalError> {
        stop.run_until_cancelled(self.passes()).await.unwrap_or(Ok(()))
    }

    async fn passes(&mut self) -> Result<(), JournalError> {
        let ages = [self.retention.events_age, self.retention.deleted_sessions];
        let shortest = ages.into_iter().flatten().min().unwrap_or(LONGEST_INTERVAL);
        let interval = (shortest / 2).clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL);
        loop {
            let pass = self.pass().await?;
            if pass.did_something() {
                tracing::info!(?pass, "the journal is tidied");
            }
            tokio::time::sleep(interval).await;
        }
    }

    /// Does all that is due at this moment.
    ///
    /// # Errors
    /// When the journal fails.
    pub async fn pass(&mut self) -> Result<UpkeepPass, JournalError> {
        let now = self.clock.now();
        let mut pass = UpkeepPass::default();
        self.tidy_all(now, &mut pass).await?;
        self.purge_all(now, &mut pass).await?;
        while self.journal.sweep(now).await? == Progress::More {
            pass.swept += 1;
            tokio::time::sleep(PAUSE).await;
        }
        Ok(pass)
    }

    async fn tidy_all(&mut self, now: DateTime<Utc>, pass: &mut UpkeepPass) -> Result<(), JournalError> {
        let mut last = None;
        loop {
            let page = self.journal.untidy_sessions(&self.retention, now, last, PAGE).await?;
            let Some(end) = page.last() else { return Ok(()) };
            last = Some(*end);
            for session in page {
                match self.tidy(session, now, pass).await {
                    Ok(()) => {}
                    Err(error @ JournalError::Damaged { .. }) => {
                        pass.damaged += 1;
                        self.tell(session, &error);
                    }
                    Err(error) => return Err(error),
                }
            }
        }
    }

    async fn tidy(&self, session: SessionId, now: DateTime<Utc>, pass: &mut UpkeepPass) -> Result<(), JournalError> {
        while self.journal.tidy(session, &self.retention, now).await? == Progress::More {
            pass.tidied += 1;
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Files go first: a session that is still there is found again by the next pass, files of one that is gone are not.
    async fn purge_all(&self, now: DateTime<Utc>, pass: &mut UpkeepPass) -> Result<(), JournalError> {
        let mut last = None;
        loop {
            let page = self.journal.expired_sessions(&self.retention, now, last, PAGE).await?;
            let Some(end) = page.last() else { return Ok(()) };
            last = Some(*end);
            for session in page {
                if let Err(error) = self.tools.forget_session(session).await {
                    tracing::warn!(session_id = %session, %error, "files of a deleted session cannot be removed");
                    continue;
                }
                self.journal.purge(session).await?;
                pass.purged += 1;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    fn tell(&mut self, session: SessionId, error: &JournalError) {
        if self.told.insert(session) {
            tracing::error!(session_id = %session, %error, "a damaged session gets no upkeep");
        }
    }
}
