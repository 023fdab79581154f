//! How long the oldest of what waits has waited.

use std::time::Duration;

use super::{GatewayStore, StoreError};
use crate::clock::now_ms;

/// Zero where nothing waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueAges {
    /// Of accepted messages that no run has taken up.
    pub inbox: Duration,
    /// Of messages to chats that were not sent.
    pub outbox: Duration,
}

impl GatewayStore {
    pub(crate) async fn queue_ages(&self) -> Result<QueueAges, StoreError> {
        let now = now_ms();
        self.database
            .read(move |connection| {
                let sql = "SELECT
                    (SELECT min(received_at) FROM inbox
                        WHERE state IN ('accepted', 'batched') AND kind IN ('message', 'api')),
                    (SELECT min(created_at) FROM outbox WHERE state IN ('queued', 'sending'))";
                let age = |at: Option<i64>| {
                    at.map_or(Duration::ZERO, |at| Duration::from_millis(u64::try_from(now - at).unwrap_or(0)))
                };
                let row = |row: &stakpak_sqlite::rusqlite::Row<'_>| {
                    Ok(QueueAges { inbox: age(row.get(0)?), outbox: age(row.get(1)?) })
                };
                Ok(connection.prepare_cached(sql)?.query_row([], row)?)
            })
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Address, Body,
        store::{Content, NewPart},
    };

    #[tokio::test]
    async fn the_oldest_unsent_message_tells_the_age_and_a_sent_one_none() {
        let store = GatewayStore::open_in_memory().unwrap();
        assert_eq!(store.queue_ages().await.unwrap(), QueueAges::default());
        let address = Address { channel: "telegram".into(), chat: "1".to_owned(), thread: None, direct: None };
        let part = |key: &str| NewPart {
            idem_key: key.to_owned(),
            address: address.clone(),
            content: Content::Text { body: Body::plain("x") },
        };
        let hour = 3_600_000;
        store.queue_parts(vec![part("old")], now_ms() - 2 * hour).await.unwrap();
        store.queue_parts(vec![part("new")], now_ms() - hour).await.unwrap();
        assert_eq!(store.queue_ages().await.unwrap().outbox.as_secs() / 3600, 2);
        let old = store.take_part(&address.chat_key()).await.unwrap();
        store.sent(old.id, None).await.unwrap();
        assert_eq!(store.queue_ages().await.unwrap().outbox.as_secs() / 3600, 1);
    }
}
