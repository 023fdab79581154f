//! When the process dies: at a moment of the clock, or right after something was seen.

use std::time::Duration;

use fastrand::Rng;

use crate::world::World;

/// A moment to kill at.
#[derive(Debug, Clone, Copy)]
pub enum Moment {
    /// This long from now.
    After(Duration),
    /// Once clients and model have seen this much more: events, answers, questions.
    Seen(u64),
}

impl Moment {
    /// While a cast of sessions is at work.
    pub fn in_round(rng: &mut Rng) -> Self {
        match rng.bool() {
            true => Self::After(Duration::from_micros(rng.u64(..400_000))),
            false => Self::Seen(rng.u64(..500)),
        }
    }

    /// While the binary starts, or goes on with what it found.
    pub fn in_start(rng: &mut Rng) -> Self {
        Self::After(Duration::from_micros(rng.u64(..60_000)))
    }

    pub async fn comes(self, world: &World) {
        match self {
            Self::After(pause) => tokio::time::sleep(pause).await,
            Self::Seen(more) => {
                let mut pulse = world.pulse();
                let until = *pulse.borrow() + more;
                let _ = pulse.wait_for(|count| *count >= until).await;
            }
        }
    }
}
