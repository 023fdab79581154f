//! Who let whom in, who decided what, and what programs sent: an append-only log.
//!
//! * An entry is written in the transaction of its deed: there is neither without the other.
//! * The hash of an entry covers that of the one before it, so a changed, removed or inserted one is noticed; that the last
//!   ones were cut off is not.
//! * It holds ids and decisions, no texts and no arguments. Nothing of it is forgotten.

use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use stakpak_sqlite::{
    Migration,
    rusqlite::{Connection, OptionalExtension, Row, params},
};

use super::{GatewayStore, StoreError};

pub(super) const TABLES: Migration = Migration {
    name: "audit",
    sql: "
CREATE TABLE audit (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    deed TEXT NOT NULL,
    actor TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail TEXT NOT NULL,
    hash TEXT NOT NULL
);
CREATE TRIGGER audit_changes_nothing BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_forgets_nothing BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
",
};

/// Who holds the token of the API or the file itself.
pub(super) const OPERATOR: &str = "operator";

/// One deed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditEntry {
    /// Unix ms.
    pub at: i64,
    /// `access.granted`, `access.revoked`, `pairing.denied`, `owner_code.made`, `approval.decided` or `send.accepted`.
    pub deed: String,
    /// `operator`, `clock`, or `<platform>:<user id>`.
    pub actor: String,
    /// Whom or what it is about: `<platform>:user:<id>`, the id of an approval or of a delivery.
    pub subject: String,
    /// More about it.
    pub detail: Value,
}

impl GatewayStore {
    /// The last entries, newest first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn audit(&self, limit: u32) -> Result<Vec<AuditEntry>, StoreError> {
        self.database
            .read(move |connection| {
                let sql = "SELECT id, at, deed, actor, subject, detail, hash FROM audit ORDER BY id DESC LIMIT ?1";
                let mut statement = connection.prepare_cached(sql)?;
                let rows = statement.query_map([limit], |row| Ok(read(row)))?;
                rows.map(|row| row?.map(|kept| kept.entry)).collect()
            })
            .await
    }

    /// The first entry that is not as it was written, or does not follow the one before it.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn audit_damage(&self) -> Result<Option<i64>, StoreError> {
        self.database.read(damage).await
    }
}

impl AuditEntry {
    /// With the detail as it is kept: JSON may be written otherwise the next time.
    fn hash(&self, before: &str, detail: &str) -> Result<String, StoreError> {
        let Self { at, deed, actor, subject, .. } = self;
        let line = serde_json::to_vec(&(before, at, deed, actor, subject, detail))?;
        Ok(Sha256::digest(line).iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// Keeps an entry, in the transaction of its deed.
pub(super) fn record(
    connection: &Connection,
    at: i64,
    (deed, actor): (&str, &str),
    subject: &str,
    detail: Value,
) -> Result<(), StoreError> {
    let [deed, actor, subject] = [deed, actor, subject].map(str::to_owned);
    let entry = AuditEntry { at, deed, actor, subject, detail };
    let sql = "SELECT id, hash FROM audit ORDER BY id DESC LIMIT 1";
    let last: Option<(i64, String)> =
        connection.prepare_cached(sql)?.query_row([], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let (id, before) = last.unwrap_or_default();
    let sql = "INSERT INTO audit (id, at, deed, actor, subject, detail, hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let detail = entry.detail.to_string();
    let AuditEntry { at, deed, actor, subject, .. } = &entry;
    let values = params![id + 1, at, deed, actor, subject, detail, entry.hash(&before, &detail)?];
    connection.prepare_cached(sql)?.execute(values)?;
    Ok(())
}

/// The first entry that is not as it was written, or does not follow the one before it.
pub(super) fn damage(connection: &Connection) -> Result<Option<i64>, StoreError> {
    let sql = "SELECT id, at, deed, actor, subject, detail, hash FROM audit ORDER BY id";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    let (mut before, mut last) = (String::new(), 0);
    while let Some(row) = rows.next()? {
        let id = row.get(0)?;
        match read(row) {
            Ok(kept) if id == last + 1 && kept.entry.hash(&before, &kept.detail)? == kept.hash => {
                before = kept.hash;
            }
            Ok(_) | Err(StoreError::Json(_)) => return Ok(Some(id)),
            Err(error) => return Err(error),
        }
        last = id;
    }
    Ok(None)
}

struct Kept {
    entry: AuditEntry,
    detail: String,
    hash: String,
}

fn read(row: &Row<'_>) -> Result<Kept, StoreError> {
    let detail: String = row.get(5)?;
    let entry = AuditEntry {
        at: row.get(1)?,
        deed: row.get(2)?,
        actor: row.get(3)?,
        subject: row.get(4)?,
        detail: serde_json::from_str(&detail)?,
    };
    Ok(Kept { entry, detail, hash: row.get(6)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Address,
        access::Role,
        store::{NewPart, NewSend, Subject},
    };

    async fn change(store: &GatewayStore, sql: &'static str) -> Result<(), StoreError> {
        store.database.write(move |connection| Ok::<_, StoreError>(connection.execute_batch(sql)?)).await
    }

    async fn filled() -> GatewayStore {
        let store = GatewayStore::open_in_memory().unwrap();
        let channel = "telegram".into();
        store.new_owner_code(&channel).await.unwrap();
        store.access_allow(&channel, Subject::User, "5", Role::Approver).await.unwrap();
        store.allow_as("telegram:1".to_owned(), &channel, Subject::Chat, "-7", Role::User).await.unwrap();
        assert!(store.access_revoke(&channel, Subject::User, "5").await.unwrap());
        assert!(!store.access_revoke(&channel, Subject::User, "5").await.unwrap(), "no deed, no entry");
        store
    }

    #[tokio::test]
    async fn every_deed_has_its_entry() {
        let store = filled().await;
        let address = Address { channel: "telegram".into(), chat: "-7".to_owned(), thread: None, direct: None };
        let send = NewSend {
            idem_key: Some("k".to_owned()),
            body_hash: String::new(),
            delivery_id: "d".to_owned(),
            address,
            parts: Vec::<NewPart>::new(),
            prompt: None,
            context: None,
        };
        store.begin_send(send, 1).await.unwrap();
        let entries = store.audit(10).await.unwrap();
        let shown: Vec<_> = entries.iter().rev().map(|it| (&*it.deed, &*it.actor, &*it.subject)).collect();
        assert_eq!(
            shown,
            [
                ("owner_code.made", "operator", "telegram"),
                ("access.granted", "operator", "telegram:user:5"),
                ("access.granted", "telegram:1", "telegram:chat:-7"),
                ("access.revoked", "operator", "telegram:user:5"),
                ("send.accepted", "operator", "d"),
            ]
        );
        assert_eq!((&entries[3].detail["role"], entries.len()), (&"approver".into(), 5));
        assert_eq!(store.audit(1).await.unwrap(), entries[..1]);
        assert_eq!(store.audit_damage().await.unwrap(), None);
    }

    #[tokio::test]
    async fn nothing_is_changed_in_silence() {
        let store = filled().await;
        assert!(change(&store, "UPDATE audit SET actor = 'telegram:9' WHERE id = 2").await.is_err());
        assert!(change(&store, "DELETE FROM audit WHERE id = 2").await.is_err());
        assert_eq!(store.audit_damage().await.unwrap(), None);
        let free = "DROP TRIGGER audit_changes_nothing; DROP TRIGGER audit_forgets_nothing;";
        change(&store, free).await.unwrap();
        for (damage, first) in [
            ("UPDATE audit SET detail = '{}' WHERE id = 3", 3),
            ("UPDATE audit SET detail = 'not json' WHERE id = 3", 3),
            ("UPDATE audit SET at = at + 1 WHERE id = 2", 2),
            ("DELETE FROM audit WHERE id = 1", 2),
        ] {
            change(&store, damage).await.unwrap();
            assert_eq!(store.audit_damage().await.unwrap(), Some(first), "{damage}");
        }
    }
}
