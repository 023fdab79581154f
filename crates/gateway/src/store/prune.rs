//! What the store lets go of.
//!
//! Never anything that is still to be done: a conversation with a run, a waiting message or an approval keeps its session.

use std::time::Duration;

use stakpak_sqlite::rusqlite::{Connection, params};

use super::{GatewayStore, StoreError};
use crate::clock::millis;

/// After its end the text of a message is kept this long, for `/retry`.
const TEXT_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// A message delivered again after this long would be a new one. No platform does that.
const KEY_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

impl GatewayStore {
    /// Forgets the sessions of conversations without a message for `idle`, and what ended long ago.
    pub(crate) async fn prune_all(&self, idle: Duration, now: i64) -> Result<(), StoreError> {
        self.database.write(move |connection| prune(connection, now - millis(idle), now)).await
    }

    /// Whether a text is kept whose secrets are in this vault.
    pub(crate) async fn has_text_of(&self, vault: &str) -> Result<bool, StoreError> {
        let vault = vault.to_owned();
        self.database
            .read(move |connection| {
                let sql = "SELECT 1 FROM inbox WHERE payload LIKE '%\"vault\":\"' || ?1 || '\"%'
                           OR request LIKE '%\"vault\":\"' || ?1 || '\"%'";
                Ok(connection.prepare_cached(sql)?.exists([vault])?)
            })
            .await
    }
}

fn prune(connection: &Connection, idle_since: i64, now: i64) -> Result<(), StoreError> {
    let (text_kept, key_kept) = (now - millis(TEXT_KEPT), now - millis(KEY_KEPT));
    let sql = "DELETE FROM sessions WHERE updated_at < ?1
        AND NOT EXISTS (SELECT 1 FROM runs WHERE runs.routing_key = sessions.routing_key AND runs.state = 'open')
        AND NOT EXISTS (SELECT 1 FROM inbox WHERE inbox.routing_key = sessions.routing_key
                        AND inbox.state IN ('accepted', 'awaiting', 'batched', 'running', 'steered'))
        AND NOT EXISTS (SELECT 1 FROM approvals WHERE approvals.session_id = sessions.session_id
                        AND approvals.state <> 'closed')
        RETURNING routing_key";
    let mut statement = connection.prepare_cached(sql)?;
    let forgotten = statement.query_map([idle_since], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
    for routing_key in forgotten {
        connection.prepare_cached("DELETE FROM session_state WHERE routing_key = ?1")?.execute([routing_key])?;
    }
    let sql = "UPDATE inbox SET payload = '{\"text\":\"\"}', context = NULL, request = NULL
               WHERE received_at < ?1 AND state IN ('done', 'dead') AND length(payload) > 12";
    connection.prepare_cached(sql)?.execute([text_kept])?;
    let sql = "DELETE FROM inbox WHERE received_at < ?1 AND state IN ('done', 'dead')";
    connection.prepare_cached(sql)?.execute([key_kept])?;
    // Parked messages stay until somebody decides about them; signs and edits that came to nothing are no messages.
    let sql = "DELETE FROM outbox WHERE created_at < ?1
               AND (state IN ('sent', 'dropped') OR (state IN ('failed', 'unknown') AND kind IN ('reaction', 'edit')))";
    connection.prepare_cached(sql)?.execute([text_kept])?;
    let sql = "DELETE FROM deliveries WHERE created_at < ?1 AND NOT EXISTS
               (SELECT 1 FROM outbox WHERE idem_key >= 'send:' || deliveries.id || ':' AND idem_key < 'send:' || deliveries.id || ';')";
    connection.prepare_cached(sql)?.execute([text_kept])?;
    let sql = "DELETE FROM runs WHERE finished_at < ?1 AND state = 'done'";
    connection.prepare_cached(sql)?.execute([key_kept])?;
    let sql = "DELETE FROM approvals WHERE expires_at < ?1 AND state = 'closed'";
    connection.prepare_cached(sql)?.execute([key_kept])?;
    connection.prepare_cached("DELETE FROM delivery_context WHERE expires_at < ?1")?.execute(params![now])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 3_600_000;

    async fn store() -> GatewayStore {
        let store = GatewayStore::open_in_memory().unwrap();
        let rows = "
            INSERT INTO sessions VALUES ('idle', 's1', '', 'telegram', 'p', '{}', '{}', 0, 0);
            INSERT INTO sessions VALUES ('busy', 's2', '', 'telegram', 'p', '{}', '{}', 0, 0);
            INSERT INTO sessions VALUES ('asked', 's3', '', 'telegram', 'p', '{}', '{}', 0, 0);
            INSERT INTO inbox (channel, account, event_key, kind, routing_key, order_key, payload, received_at, state)
                VALUES ('telegram', '1', 'a', 'message', 'busy', 1, '{\"text\":\"waits\"}', 0, 'accepted'),
                       ('telegram', '1', 'b', 'message', 'idle', 2, '{\"text\":\"secret plan\"}', 0, 'done');
            INSERT INTO runs (run_id, batch_id, session_id, routing_key, address, cursor, state, started_at)
                VALUES ('r', 'b', 's3', 'asked', '{}', 0, 'open', 0);
            INSERT INTO outbox (idem_key, lane, address, kind, payload, state, created_at, next_at)
                VALUES ('x', 'l', '{}', 'text', '{}', 'sent', 0, 0), ('y', 'l', '{}', 'text', '{}', 'unknown', 0, 0),
                       ('z', 'l', '{}', 'text', '{}', 'dropped', 0, 0), ('s', 'l', '{}', 'reaction', '{}', 'failed', 0, 0);";
        store.database.write(move |connection| Ok::<_, StoreError>(connection.execute_batch(rows)?)).await.unwrap();
        store
    }

    async fn texts(store: &GatewayStore, sql: &'static str) -> Vec<String> {
        let read = move |connection: &Connection| {
            let mut statement = connection.prepare(sql)?;
            let rows = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
            Ok::<Vec<String>, StoreError>(rows)
        };
        store.database.read(read).await.unwrap()
    }

    /// G-P52: only idle conversations lose their session.
    #[tokio::test]
    async fn what_is_busy_or_undecided_is_kept() {
        let store = store().await;
        store.prune_all(Duration::from_secs(3600), 8 * DAY).await.unwrap();
        assert_eq!(texts(&store, "SELECT routing_key FROM sessions ORDER BY 1").await, ["asked", "busy"]);
        assert_eq!(texts(&store, "SELECT idem_key FROM outbox").await, ["y"]);
    }

    #[tokio::test]
    async fn the_text_goes_after_a_week_and_the_key_after_a_month() {
        let store = store().await;
        store.prune_all(Duration::from_secs(3600), 8 * DAY).await.unwrap();
        let payloads = texts(&store, "SELECT payload FROM inbox ORDER BY id").await;
        assert_eq!(payloads, [r#"{"text":"waits"}"#, r#"{"text":""}"#]);
        store.prune_all(Duration::from_secs(3600), 31 * DAY).await.unwrap();
        assert_eq!(texts(&store, "SELECT event_key FROM inbox").await, ["a"]);
    }
}
