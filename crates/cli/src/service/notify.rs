//! Tells systemd that the instance is ready, and that it still works. Elsewhere nothing happens.

use sd_notify::NotifyState;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Ready now; and alive until `stop`, as often as the watchdog wants to hear it.
pub(crate) fn ready(tasks: &TaskTracker, stop: CancellationToken) {
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    tasks.spawn(async move {
        while stop.run_until_cancelled(tokio::time::sleep(limit / 3)).await.is_some() {
            let _ = sd_notify::notify(&[NotifyState::Watchdog]);
        }
    });
}

/// The drain has begun.
pub(crate) fn stopping() {
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
}
