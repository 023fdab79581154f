//! Whether the server can do its work.
//!
//! The journal is asked to write something, at most once a second however often it is polled; the other parts tell.

use std::{sync::Arc, time::Duration};

use stakpak_agent_core::Journal;
use stakpak_protocol::{CheckState, Ready, ReadyChecks, SessionId};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use crate::parts::{Check, Part};

/// How long an answer of the journal is good for.
const FRESH: Duration = Duration::from_secs(1);

/// A journal that takes longer than this does not work.
const PATIENCE: Duration = Duration::from_secs(5);

/// The journal's last answer. Held while it is asked, so that requests at once ask once.
#[derive(Debug, Default)]
pub(crate) struct JournalCheck(Mutex<Option<(Instant, CheckState)>>);

impl JournalCheck {
    async fn state(&self, journal: &dyn Journal) -> CheckState {
        let mut last = self.0.lock().await;
        if let Some((_, state)) = last.filter(|(at, _)| at.elapsed() < FRESH) {
            return state;
        }
        let state = ask(journal).await;
        if last.is_none_or(|(_, before)| before != state) && state != CheckState::Ok {
            tracing::error!(?state, "the journal cannot be written: nothing is accepted until it can");
        }
        *last = Some((Instant::now(), state));
        state
    }
}

async fn ask(journal: &dyn Journal) -> CheckState {
    match timeout(PATIENCE, journal.probe()).await {
        Ok(Ok(())) => return CheckState::Ok,
        Ok(Err(error)) => tracing::debug!(error = &error as &dyn std::error::Error, "the journal's probe failed"),
        Err(_) => tracing::debug!("the journal's probe does not end"),
    }
    match timeout(PATIENCE, journal.session(SessionId::random())).await {
        Ok(Ok(_)) => CheckState::ReadOnly,
        Ok(Err(_)) | Err(_) => CheckState::Failed,
    }
}

/// Asks the journal and every part.
pub(crate) async fn ready(check: &JournalCheck, journal: &dyn Journal, parts: &[Arc<dyn Part>]) -> Ready {
    let journal = check.state(journal).await;
    let off = CheckState::Off;
    let mut checks = ReadyChecks { journal, scheduler: off, channels: off, sandbox: off };
    for (check, state) in parts.iter().filter_map(|part| part.check()) {
        match check {
            Check::Scheduler => checks.scheduler = state,
            Check::Channels => checks.channels = state,
            Check::Sandbox => checks.sandbox = state,
        }
    }
    checks.judge()
}
