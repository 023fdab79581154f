//! Who was let in while the gateway ran. What the file lists is not here.

use serde::Serialize;
use serde_json::json;
use stakpak_sqlite::{
    Migration,
    rusqlite::{Connection, OptionalExtension, Row, params},
};

use super::{
    GatewayStore, StoreError,
    audit::{self, OPERATOR},
};
use crate::{
    ChannelId, PeerId,
    access::{Claim, Granted, Role},
    clock::now_ms,
};

pub(super) const TABLES: Migration = Migration {
    name: "access",
    sql: "
CREATE TABLE access (
    channel TEXT NOT NULL,
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    role TEXT NOT NULL,
    origin TEXT NOT NULL,
    display_name TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (channel, kind, id)
);
-- A row stays until its hour is over, also when it was decided: nobody gets two codes in an hour.
CREATE TABLE pairings (
    code_hash TEXT PRIMARY KEY,
    channel TEXT NOT NULL,
    user_id TEXT NOT NULL,
    display_name TEXT NOT NULL,
    address TEXT NOT NULL,
    state TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
);
CREATE TABLE owner_codes (
    channel TEXT PRIMARY KEY,
    code_hash TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    tries INTEGER NOT NULL
);
CREATE TABLE owner_tries (
    channel TEXT NOT NULL,
    user_id TEXT NOT NULL,
    tries INTEGER NOT NULL,
    PRIMARY KEY (channel, user_id)
);
",
};

/// A person or a chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// A person.
    User,
    /// Everybody in a chat; the role of such an entry is always [`Role::User`].
    Chat,
}

/// How somebody came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// By a code.
    Paired,
    /// By an admin or the operator.
    Allowed,
    /// The group got a new id; the old one was allowed.
    Migrated,
}

/// One grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AccessEntry {
    /// The platform.
    pub channel: ChannelId,
    /// What the id is of.
    pub kind: Subject,
    /// The platform's immutable id.
    pub id: String,
    /// What it allows.
    pub role: Role,
    /// Where it came from.
    pub origin: Origin,
    /// For people; chosen by its bearer.
    pub display_name: String,
    /// Unix ms.
    pub created_at: i64,
}

impl Subject {
    fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Chat => "chat",
        }
    }
}

impl Origin {
    fn as_str(self) -> &'static str {
        match self {
            Self::Paired => "paired",
            Self::Allowed => "allowed",
            Self::Migrated => "migrated",
        }
    }
}

impl GatewayStore {
    /// Everybody who was let in, by platform and id.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn access_list(&self) -> Result<Vec<AccessEntry>, StoreError> {
        self.database
            .read(|connection| {
                let sql = "SELECT channel, kind, id, role, origin, display_name, created_at FROM access
                           ORDER BY channel, kind, id";
                let mut statement = connection.prepare_cached(sql)?;
                let rows = statement.query_map([], read)?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// What was granted to somebody.
    pub(crate) async fn role_of(&self, channel: &ChannelId, user: &PeerId) -> Result<Option<Role>, StoreError> {
        let (channel, user) = (channel.to_string(), user.to_string());
        self.database.read(move |connection| role(connection, &channel, &user)).await
    }

    /// Lets somebody in, or gives them another role.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn access_allow(
        &self,
        channel: &ChannelId,
        kind: Subject,
        id: &str,
        role: Role,
    ) -> Result<(), StoreError> {
        self.allow_as(OPERATOR.to_owned(), channel, kind, id, role).await
    }

    /// The same, by somebody.
    pub(crate) async fn allow_as(
        &self,
        actor: String,
        channel: &ChannelId,
        kind: Subject,
        id: &str,
        role: Role,
    ) -> Result<(), StoreError> {
        let role = if kind == Subject::Chat { Role::User } else { role };
        let entry = AccessEntry {
            channel: channel.clone(),
            kind,
            id: id.to_owned(),
            role,
            origin: Origin::Allowed,
            display_name: String::new(),
            created_at: now_ms(),
        };
        self.database.write(move |connection| grant(connection, &entry, &actor)).await
    }

    /// Takes a grant back; false if there is none. What the file lists stays allowed.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn access_revoke(&self, channel: &ChannelId, kind: Subject, id: &str) -> Result<bool, StoreError> {
        self.revoke_as(OPERATOR.to_owned(), channel, kind, id).await
    }

    /// The same, by somebody.
    pub(crate) async fn revoke_as(
        &self,
        actor: String,
        channel: &ChannelId,
        kind: Subject,
        id: &str,
    ) -> Result<bool, StoreError> {
        let (channel, id, now) = (channel.to_string(), id.to_owned(), now_ms());
        self.database.write(move |connection| revoke(connection, &channel, kind, &id, &actor, now)).await
    }
}

/// What was granted to somebody and to the chat they are in.
pub(super) fn granted(connection: &Connection, claim: &Claim) -> Result<Granted, StoreError> {
    let role = role(connection, claim.channel(), claim.user())?;
    let sql = "SELECT 1 FROM access WHERE channel = ?1 AND kind = 'chat' AND id = ?2";
    let chat = connection.prepare_cached(sql)?.exists(params![claim.channel(), claim.address.chat])?;
    Ok(Granted { role, chat })
}

pub(super) fn role(connection: &Connection, channel: &str, user: &str) -> Result<Option<Role>, StoreError> {
    let sql = "SELECT role FROM access WHERE channel = ?1 AND kind = 'user' AND id = ?2";
    let role: Option<String> =
        connection.prepare_cached(sql)?.query_row(params![channel, user], |row| row.get(0)).optional()?;
    Ok(role.as_deref().and_then(Role::parse))
}

/// Whether anybody was granted to decide there.
pub(super) fn has_approver(connection: &Connection, channel: &str) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM access WHERE channel = ?1 AND kind = 'user' AND role IN ('approver', 'admin')";
    Ok(connection.prepare_cached(sql)?.exists([channel])?)
}

pub(super) fn grant(connection: &Connection, entry: &AccessEntry, actor: &str) -> Result<(), StoreError> {
    let AccessEntry { channel, kind, id, role, origin, display_name, created_at } = entry;
    let sql = "INSERT OR REPLACE INTO access (channel, kind, id, role, origin, display_name, created_at)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let (kind, role, origin) = (kind.as_str(), role.as_str(), origin.as_str());
    let values = params![channel.as_str(), kind, id, role, origin, display_name, created_at];
    connection.prepare_cached(sql)?.execute(values)?;
    let detail = json!({ "origin": origin, "role": role });
    audit::record(connection, *created_at, ("access.granted", actor), &format!("{channel}:{kind}:{id}"), detail)
}

/// False if there was nothing to take back.
pub(super) fn revoke(
    connection: &Connection,
    channel: &str,
    kind: Subject,
    id: &str,
    actor: &str,
    now: i64,
) -> Result<bool, StoreError> {
    let (kind, sql) = (kind.as_str(), "DELETE FROM access WHERE channel = ?1 AND kind = ?2 AND id = ?3");
    let revoked = connection.prepare_cached(sql)?.execute(params![channel, kind, id])? == 1;
    if revoked {
        let subject = format!("{channel}:{kind}:{id}");
        audit::record(connection, now, ("access.revoked", actor), &subject, json!({}))?;
    }
    Ok(revoked)
}

fn read(row: &Row<'_>) -> stakpak_sqlite::rusqlite::Result<AccessEntry> {
    let text = |at: usize| row.get::<_, String>(at);
    Ok(AccessEntry {
        channel: text(0)?.into(),
        kind: if text(1)? == "chat" { Subject::Chat } else { Subject::User },
        id: text(2)?,
        role: Role::parse(&text(3)?).unwrap_or(Role::User),
        origin: match text(4)?.as_str() {
            "paired" => Origin::Paired,
            "migrated" => Origin::Migrated,
            _ => Origin::Allowed,
        },
        display_name: text(5)?,
        created_at: row.get(6)?,
    })
}
