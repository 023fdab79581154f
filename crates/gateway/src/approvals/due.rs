//! Time: reminders, denials of what nobody decided, and the end of approvals whose run is over.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use super::{Approvals, prompt};
use crate::{
    StoreError,
    clock::now_ms,
    store::{Approval, Resolution, Stage},
};

/// How often open approvals are looked at.
const TICK: Duration = Duration::from_secs(1);

impl Approvals {
    /// Keeps the time of approvals until it is dropped; first takes up what an earlier process left.
    pub(crate) async fn keep_time(self: Arc<Self>) {
        let mut first = true;
        loop {
            let any = match self.look(now_ms(), first).await {
                Ok(any) => {
                    first = false;
                    any
                }
                Err(error) => {
                    tracing::error!(%error, "the open approvals could not be read");
                    true
                }
            };
            if any {
                sleep(TICK).await;
            } else {
                self.worker().asked.notified().await;
            }
        }
    }

    /// Whether any approval is not closed.
    async fn look(self: &Arc<Self>, now: i64, first: bool) -> Result<bool, StoreError> {
        let store = &self.worker().store;
        let approvals = store.unfinished_approvals().await?;
        for approval in &approvals {
            if first || store.has_ended(&approval.run_id).await? {
                self.wake(&approval.run_id);
            }
            if approval.stage != Stage::Open {
                continue;
            }
            if now >= approval.expires_at {
                self.expire(approval, now).await?;
            } else if approval.remind_at.is_some_and(|at| now >= at) {
                self.remind(approval, now).await?;
            }
        }
        Ok(!approvals.is_empty())
    }

    async fn expire(self: &Arc<Self>, approval: &Approval, now: i64) -> Result<(), StoreError> {
        let desk = self.worker();
        let minutes = (approval.expires_at - approval.created_at) / 60_000;
        let reason = format!("nobody decided within {minutes} minutes");
        let Resolution::Decided(decided) = desk.store.expire(&approval.id, reason.clone(), now).await? else {
            return Ok(());
        };
        self.decided(&decided);
        let text = format!("Denied, because {reason}: {}.", prompt::tools(approval));
        let parts = desk.texts(&approval.address, &format!("approval:{}:expired", approval.id), &text);
        desk.store.queue_parts(parts.clone(), now).await?;
        desk.deliveries.wake_for(&parts);
        Ok(())
    }

    async fn remind(&self, approval: &Approval, now: i64) -> Result<(), StoreError> {
        let desk = self.worker();
        let minutes = (approval.expires_at - now).max(0) / 60_000;
        let text = format!(
            "An approval is still open and will be denied in {minutes} minutes: {} (id {}).",
            prompt::tools(approval),
            &approval.id[..8.min(approval.id.len())]
        );
        let parts = desk.texts(&approval.address, &format!("approval:{}:reminder", approval.id), &text);
        desk.store.reminded(&approval.id, parts.clone(), now).await?;
        desk.deliveries.wake_for(&parts);
        Ok(())
    }
}
