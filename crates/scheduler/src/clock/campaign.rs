//! A clock that another process sets, so that a campaign can let days pass in seconds and set the time both ways.
//!
//! It runs as fast as the host's: what is late by ten seconds is late by ten seconds. Only the feature `campaign` has it, and
//! no release artefact has the feature.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};

use super::Clock;

/// The file is looked at this often by whoever waits.
const LOOK: Duration = Duration::from_millis(4);

/// The host's time and what a file adds to it, in milliseconds.
#[derive(Debug)]
pub struct CampaignClock {
    file: PathBuf,
    /// As it was read last; a file that cannot be read changes nothing.
    offset: AtomicI64,
}

impl CampaignClock {
    /// The file is replaced whenever the time is set; while there is none, the time is the host's.
    #[must_use]
    pub fn new(file: &Path) -> Self {
        Self { file: file.to_owned(), offset: AtomicI64::new(0) }
    }

    fn offset(&self) -> TimeDelta {
        let read = std::fs::read_to_string(&self.file).ok().and_then(|text| text.trim().parse().ok());
        if let Some(offset) = read {
            self.offset.store(offset, Ordering::Relaxed);
        }
        TimeDelta::milliseconds(self.offset.load(Ordering::Relaxed))
    }
}

#[async_trait]
impl Clock for CampaignClock {
    fn now(&self) -> DateTime<Utc> {
        let host = Utc::now();
        host.checked_add_signed(self.offset()).unwrap_or(host)
    }

    async fn sleep_until(&self, instant: DateTime<Utc>) {
        while let Ok(left) = (instant - self.now()).to_std() {
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(LOOK)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_file_sets_the_time_both_ways_also_for_those_who_wait() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("clock");
        let clock = CampaignClock::new(&file);
        let distance = || (clock.now() - Utc::now()).num_minutes();
        assert_eq!(distance(), 0);
        std::fs::write(&file, "86400500\n").unwrap();
        assert_eq!(distance(), 24 * 60);
        let tomorrow = clock.now() + TimeDelta::days(1);
        let set = async {
            tokio::task::yield_now().await;
            std::fs::write(&file, "172900000").unwrap();
        };
        tokio::join!(clock.sleep_until(tomorrow), set);
        assert!(clock.now() >= tomorrow);
        std::fs::write(&file, "-3600000").unwrap();
        assert_eq!(distance(), -60);
        std::fs::write(&file, "gibberish").unwrap();
        assert_eq!(distance(), -60);
    }
}
