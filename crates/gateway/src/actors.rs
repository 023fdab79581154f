//! One task per key with work, none for the others.
//!
//! What there is to do is in the store; a wake only says "look again". A wake while the task of its key runs is
//! remembered, so none is lost between the task's last look and its end.

use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::FutureExt;
use tokio::time::sleep;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// After a panic the same work is looked at again, but not in a tight loop.
const AFTER_PANIC: Duration = Duration::from_secs(30);

/// Does the work of a key.
#[async_trait]
pub(crate) trait Worker: Send + Sync + 'static {
    /// Returns when nothing is left to do; handles its own failures. Dropped when the gateway stops.
    async fn work(&self, key: &str);
}

/// The tasks of one kind.
#[derive(Debug)]
pub(crate) struct Actors<W> {
    worker: Arc<W>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// None before the start and after the end; wakes are then dropped, the next start looks at everything.
    scope: Option<Scope>,
    /// Whether to look again, by key of a running task.
    running: HashMap<String, bool>,
}

#[derive(Debug, Clone)]
struct Scope {
    cancel: CancellationToken,
    tracker: TaskTracker,
}

impl<W: Worker> Actors<W> {
    pub(crate) fn new(worker: W) -> Arc<Self> {
        Arc::new(Self { worker: Arc::new(worker), state: Mutex::default() })
    }

    pub(crate) fn worker(&self) -> &W {
        &self.worker
    }

    /// From here on wakes have an effect, until `cancel`.
    pub(crate) fn start(&self, cancel: CancellationToken) -> TaskTracker {
        let tracker = TaskTracker::new();
        let mut state = self.state();
        state.running.clear();
        state.scope = Some(Scope { cancel, tracker: tracker.clone() });
        tracker
    }

    /// Wakes have no effect any more.
    pub(crate) fn stop(&self) {
        self.state().scope = None;
    }

    /// There may be something to do for `key`.
    pub(crate) fn wake(self: &Arc<Self>, key: &str) {
        let mut state = self.state();
        let Some(scope) = state.scope.clone().filter(|scope| !scope.cancel.is_cancelled()) else { return };
        if let Some(again) = state.running.get_mut(key) {
            *again = true;
            return;
        }
        state.running.insert(key.to_owned(), false);
        let (actors, key) = (Arc::clone(self), key.to_owned());
        scope.tracker.spawn(async move {
            tokio::select! {
                () = scope.cancel.cancelled() => {}
                () = actors.run(&key) => {}
            }
        });
    }

    async fn run(&self, key: &str) {
        loop {
            if AssertUnwindSafe(self.worker.work(key)).catch_unwind().await.is_err() {
                tracing::error!(key, "the worker panicked; it looks at its work again");
                sleep(AFTER_PANIC).await;
                continue;
            }
            let mut state = self.state();
            match state.running.get_mut(key) {
                Some(again) if *again => *again = false,
                _ => {
                    state.running.remove(key);
                    return;
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
