//! Requests with the same key take turns until what they start is stored: none is begun twice.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::timeout};

/// The keys at work.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    busy: Mutex<HashSet<String>>,
    freed: Notify,
}

/// The right to begin what a key stands for; given back when dropped.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    key: String,
}

impl Turns {
    /// None when another request with this key is still at it after `patience`.
    pub(super) async fn take(&self, key: &str, patience: Duration) -> Option<Turn<'_>> {
        let wait = async {
            loop {
                let freed = self.freed.notified();
                if self.busy().insert(key.to_owned()) {
                    return Turn { turns: self, key: key.to_owned() };
                }
                freed.await;
            }
        };
        timeout(patience, wait).await.ok()
    }

    fn busy(&self) -> MutexGuard<'_, HashSet<String>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.busy().remove(&self.key);
        self.turns.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_is_with_one_request_at_a_time() {
        let turns = Turns::default();
        let first = turns.take("k", Duration::ZERO).await.unwrap();
        assert!(turns.take("other", Duration::ZERO).await.is_some());
        assert!(turns.take("k", Duration::ZERO).await.is_none());
        let second = turns.take("k", Duration::from_secs(30));
        let (second, ()) = tokio::join!(second, async { drop(first) });
        assert!(second.is_some());
    }
}
