//! The tools of the run under way: as they were when it first asked its model, and the same until it ends.
//!
//! A server of tools may change its list at any time; a run that was told of a tool must be judged by that tool.

use std::sync::Arc;

use stakpak_protocol::RunId;
use tokio::sync::OnceCell;

use crate::Tools;

/// Of one session at a time. After a restart a run takes the tools anew.
pub(super) struct RunTools {
    offered: Arc<dyn Tools>,
    run: Option<RunId>,
    taken: Arc<OnceCell<Arc<dyn Tools>>>,
}

/// The tools of a run that asks; taken when it is waited for.
pub(super) struct Taking {
    offered: Arc<dyn Tools>,
    taken: Arc<OnceCell<Arc<dyn Tools>>>,
}

impl RunTools {
    pub(super) fn new(offered: &Arc<dyn Tools>) -> Self {
        Self { offered: Arc::clone(offered), run: None, taken: Arc::default() }
    }

    /// What this run has; before it asked, what is offered.
    pub(super) fn of(&mut self, run: Option<RunId>) -> Arc<dyn Tools> {
        if self.run != run {
            (self.run, self.taken) = (run, Arc::default());
        }
        Arc::clone(self.taken.get().unwrap_or(&self.offered))
    }

    pub(super) fn taking(&self) -> Taking {
        Taking { offered: Arc::clone(&self.offered), taken: Arc::clone(&self.taken) }
    }
}

impl Taking {
    /// Takes them at the run's first question; later the same.
    pub(super) async fn tools(&self) -> &dyn Tools {
        let take = || async { self.offered.for_run().await.unwrap_or_else(|| Arc::clone(&self.offered)) };
        self.taken.get_or_init(take).await.as_ref()
    }
}
