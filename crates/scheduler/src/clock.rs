//! The clock, injected: whoever decides by time asks here.

#[cfg(feature = "campaign")]
mod campaign;

use std::{fmt::Debug, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, Utc};

#[cfg(feature = "campaign")]
pub use campaign::CampaignClock;

/// Wall-clock time and waiting for it.
#[async_trait]
pub trait Clock: Debug + Send + Sync {
    /// The wall-clock time. It may jump either way.
    fn now(&self) -> DateTime<Utc>;

    /// Returns once [`Clock::now`] has reached `instant`; at once if it has already. Cancel safe.
    async fn sleep_until(&self, instant: DateTime<Utc>);
}

/// The host's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

/// Timers of the operating system stand still while the host sleeps and do not follow a clock that is set; the wall clock
/// is read again at least this often.
const LONGEST_NAP: Duration = Duration::from_secs(5);

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }

    async fn sleep_until(&self, instant: DateTime<Utc>) {
        while let Ok(left) = (instant - self.now()).to_std() {
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(LONGEST_NAP)).await;
        }
    }
}
