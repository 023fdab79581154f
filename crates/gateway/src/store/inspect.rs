//! A store's file as `doctor` sees it: from outside, its owner may be at work, and nothing is changed.

use std::path::Path;

use stakpak_sqlite::{ReadOnly, rusqlite::Connection};

use super::{GatewayStore, StoreError, audit, schema};

/// Places of a damaged file that are named.
const MOST_FINDINGS: usize = 10;

/// What a look at the file told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreReport {
    /// Damage, in the words of SQLite.
    pub findings: Vec<String>,
    /// The first entry of the audit log that is not as it was written; its number.
    pub audit_damage: Option<i64>,
    /// Entries of the audit log.
    pub audit_entries: i64,
    /// Events of platforms that could not be understood.
    pub dead_letters: i64,
    /// It is of an earlier version, so that only its pages were looked at: the next start brings it up to date.
    pub is_older: bool,
}

impl StoreReport {
    /// Whether everything is as it was written.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.findings.is_empty() && self.audit_damage.is_none()
    }
}

impl GatewayStore {
    /// Looks at every page of a file that exists, and at every entry of its audit log. Blocks.
    ///
    /// # Errors
    /// It is no database, or cannot be read.
    pub fn inspect(path: &Path) -> Result<StoreReport, StoreError> {
        let file = ReadOnly::open(path)?;
        let connection = file.connection();
        let findings = damaged_pages(connection)?;
        let is_older = usize::try_from(file.version()?).is_ok_and(|version| version < schema::MIGRATIONS.len());
        if is_older || !findings.is_empty() {
            return Ok(StoreReport { findings, is_older, ..StoreReport::default() });
        }
        let sql = "SELECT (SELECT count(*) FROM audit),
                   (SELECT count(*) FROM inbox WHERE state = 'dead' AND routing_key = '')";
        let (audit_entries, dead_letters) = connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(StoreReport { findings, audit_damage: audit::damage(connection)?, audit_entries, dead_letters, is_older })
    }
}

fn damaged_pages(connection: &Connection) -> Result<Vec<String>, StoreError> {
    let mut statement = connection.prepare(&format!("PRAGMA quick_check({MOST_FINDINGS})"))?;
    let found = statement.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    Ok(found.into_iter().filter(|line| line != "ok").collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{access::Role, store::Subject};

    #[tokio::test]
    async fn a_look_tells_a_changed_audit_log_and_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("gateway.db");
        let store = GatewayStore::open(&path).unwrap();
        store.access_allow(&"telegram".into(), Subject::User, "5", Role::Admin).await.unwrap();
        store.access_allow(&"telegram".into(), Subject::User, "6", Role::Admin).await.unwrap();
        let whole = StoreReport { audit_entries: 2, ..StoreReport::default() };
        assert_eq!(GatewayStore::inspect(&path).unwrap(), whole, "beside its owner");
        let damage = "DROP TRIGGER audit_changes_nothing; UPDATE audit SET actor = 'nobody' WHERE id = 2;
                      INSERT INTO inbox (channel, account, event_key, kind, routing_key, order_key, payload, received_at, state)
                          VALUES ('telegram', '1', 'a', 'message', '', 1, '?', 0, 'dead');";
        store.database.write(move |connection| Ok::<_, StoreError>(connection.execute_batch(damage)?)).await.unwrap();
        let report = GatewayStore::inspect(&path).unwrap();
        assert_eq!(report, StoreReport { audit_damage: Some(2), dead_letters: 1, ..whole });
        assert!(!report.is_whole());
        store.database.write(|it| Ok::<_, StoreError>(it.pragma_update(None, "user_version", 1)?)).await.unwrap();
        store.close();
        let before = std::fs::read(&path).unwrap();
        assert!(GatewayStore::inspect(&path).unwrap().is_older);
        assert_eq!(std::fs::read(&path).unwrap(), before);
        std::fs::write(&path, "no database at all, but long enough for a header".repeat(40)).unwrap();
        assert!(GatewayStore::inspect(&path).is_err());
    }
}
