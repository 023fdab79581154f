//! How the running instance goes: what `GET /v1/ready` tells, and the words for it.

use std::path::Path;

use stakpak_client::{ClientError, StakpakClient};
use stakpak_protocol::{CheckState, ReadyChecks};

use crate::home::Home;

/// How an instance goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Health {
    /// It does not answer.
    Gone,
    /// It answers, but not how it goes.
    Unknown,
    /// Part by part.
    Known(ReadyChecks),
}

impl Health {
    pub(crate) async fn of(client: &StakpakClient) -> Self {
        match client.ready().await {
            Ok(ready) => Self::Known(ready.checks),
            Err(ClientError::Server(_)) => Self::Unknown,
            Err(_) => Self::Gone,
        }
    }

    pub(crate) fn is_reachable(self) -> bool {
        self != Self::Gone
    }

    /// Whether every part that is in use works.
    pub(crate) fn is_good(self) -> bool {
        matches!(self, Self::Known(_)) && self.troubles().is_empty()
    }

    /// Whether a part is not yet what it will be.
    pub(crate) fn is_starting(self) -> bool {
        let starting = CheckState::Starting;
        self.checks().is_some_and(|checks| [checks.journal, checks.scheduler, checks.channels].contains(&starting))
    }

    pub(crate) fn scheduler_runs(self) -> bool {
        matches!(self, Self::Known(ReadyChecks { scheduler: CheckState::Ok | CheckState::Degraded, .. }))
    }

    /// What is wrong with it, if that is known.
    pub(crate) fn trouble_of_scheduler(self) -> Option<&'static str> {
        trouble(self.checks()?.scheduler)
    }

    pub(crate) fn channels_run(self) -> bool {
        matches!(self, Self::Known(ReadyChecks { channels: CheckState::Ok | CheckState::Degraded, .. }))
    }

    pub(crate) fn checks(self) -> Option<ReadyChecks> {
        match self {
            Self::Known(checks) => Some(checks),
            Self::Gone | Self::Unknown => None,
        }
    }

    /// For people; none when nothing answers, which is said elsewhere.
    pub(crate) fn lines(self, logs: &Path) -> Vec<String> {
        match self {
            Self::Gone => Vec::new(),
            Self::Unknown => vec!["not known: the server does not tell".to_owned()],
            Self::Known(_) => {
                let troubles = self.troubles();
                let log = Home::show(logs);
                let lines = troubles.into_iter().map(|(part, trouble)| format!("{part}: {trouble}; see {log}"));
                let lines: Vec<_> = lines.collect();
                if lines.is_empty() { vec!["everything works".to_owned()] } else { lines }
            }
        }
    }

    fn troubles(self) -> Vec<(&'static str, &'static str)> {
        let Some(ReadyChecks { journal, scheduler, channels, sandbox }) = self.checks() else { return Vec::new() };
        let parts = [("journal", journal), ("scheduler", scheduler), ("channels", channels), ("sandbox", sandbox)];
        parts.into_iter().filter_map(|(part, state)| Some((part, trouble(state)?))).collect()
    }
}

fn trouble(state: CheckState) -> Option<&'static str> {
    match state {
        CheckState::Ok | CheckState::Off => None,
        CheckState::Degraded => Some("works with loss, or failed a moment ago and was started again"),
        CheckState::Starting => Some("is still starting"),
        CheckState::ReadOnly => Some("cannot be written: the disk is full or fails"),
        CheckState::Failed => Some("does not work; it is tried again by itself"),
    }
}
