//! A group got a new id: its conversation, what waits for it and who may talk there go on under the new one.

use stakpak_sqlite::rusqlite::{Connection, params};

use super::{
    AccessEntry, Origin, StoreError, Subject,
    access::{grant, revoke},
};
use crate::{Address, access::Role};

/// What the lane of signs has after the one of messages, see [`super::NewPart::lane`].
const SIGNS: &str = "#signs";

/// A group under another id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Migration {
    pub(crate) from: Address,
    pub(crate) to: Address,
    /// The file lists the old id.
    pub(crate) listed: bool,
    pub(crate) old_key: String,
    pub(crate) new_key: String,
}

pub(super) fn rekey(connection: &Connection, migration: &Migration, now: i64) -> Result<(), StoreError> {
    let Migration { from, to, listed, old_key, new_key } = migration;
    let channel = from.channel.as_str();
    let sql = "SELECT 1 FROM access WHERE channel = ?1 AND kind = 'chat' AND id = ?2";
    if *listed || connection.prepare_cached(sql)?.exists(params![channel, from.chat])? {
        let entry = AccessEntry {
            channel: to.channel.clone(),
            kind: Subject::Chat,
            id: to.chat.clone(),
            role: Role::User,
            origin: Origin::Migrated,
            display_name: String::new(),
            created_at: now,
        };
        grant(connection, &entry, channel)?;
        revoke(connection, channel, Subject::Chat, &from.chat, channel, now)?;
    }
    let keys = params![old_key, new_key];
    for table in ["sessions", "session_state", "conversations"] {
        let sql = format!("UPDATE OR IGNORE {table} SET routing_key = ?2 WHERE routing_key = ?1");
        connection.execute(&sql, keys)?;
    }
    let sql = "UPDATE sessions SET channel_meta = json_set(channel_meta, '$.target_key', ?2) WHERE routing_key = ?1";
    connection.execute(sql, params![new_key, to.target_key()])?;
    for table in ["inbox", "runs"] {
        let sql = format!(
            "UPDATE {table} SET routing_key = ?2, address = json_set(address, '$.chat', ?4)
             WHERE routing_key = ?1 AND address ->> '$.channel' = ?5 AND address ->> '$.chat' = ?3"
        );
        connection.execute(&sql, params![old_key, new_key, from.chat, to.chat, channel])?;
        // Conversations of their own within the group keep their key.
        let sql = format!(
            "UPDATE {table} SET address = json_set(address, '$.chat', ?3)
             WHERE routing_key >= ?1 || '#' AND routing_key < ?1 || '$'
               AND address ->> '$.channel' = ?4 AND address ->> '$.chat' = ?2"
        );
        connection.execute(&sql, params![old_key, from.chat, to.chat, channel])?;
    }
    for suffix in ["", SIGNS] {
        // What is being sent stays with its sender.
        let sql = "UPDATE outbox SET lane = ?2, address = json_set(address, '$.chat', ?3)
                   WHERE lane = ?1 AND state <> 'sending'";
        let lane = |address: &Address| format!("{}{suffix}", address.chat_key());
        connection.execute(sql, params![lane(from), lane(to), to.chat])?;
    }
    for place in ["address", "origin"] {
        let sql = format!(
            "UPDATE approvals SET {place} = json_set({place}, '$.chat', ?2)
             WHERE {place} ->> '$.channel' = ?3 AND {place} ->> '$.chat' = ?1"
        );
        connection.execute(&sql, params![from.chat, to.chat, channel])?;
    }
    connection.execute("UPDATE approvals SET routing_key = ?2 WHERE routing_key = ?1", keys)?;
    let sql = "UPDATE OR REPLACE delivery_context SET target_key = ?3 WHERE channel = ?1 AND target_key = ?2";
    connection.execute(sql, params![channel, from.target_key(), to.target_key()])?;
    Ok(())
}
