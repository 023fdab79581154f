//! Receipts of a journal whose clock is set by the test.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use stakpak_agent_core::{Append, Clock, Journal, JournalError};
use stakpak_store::SqliteJournal;

use crate::fixture::{append, make, receipt};

struct At(DateTime<Utc>);

impl Clock for At {
    fn now(&self) -> DateTime<Utc> {
        self.0
    }
}

/// The journal's clock says when a key is free again.
#[tokio::test]
async fn a_key_is_free_when_it_expires() {
    let expires_at = DateTime::UNIX_EPOCH + TimeDelta::hours(24);
    let journal = SqliteJournal::open_in_memory().unwrap();
    let mut session = make(&journal).await;
    // Too many that expire earlier for the key to be cleaned up before it is used again.
    let earlier = expires_at - TimeDelta::seconds(1);
    for n in 0..30 {
        let receipt = Some(receipt(&format!("other {n}"), earlier));
        let journal = journal.clone().with_clock(Arc::new(At(DateTime::UNIX_EPOCH)));
        journal.append(Append { receipt, ..append(&journal, &mut session, vec![]) }).await.unwrap();
    }
    let moments = [(-1, true), (-1, false), (0, true)]
        .map(|(nanoseconds, accepted)| (expires_at + TimeDelta::nanoseconds(nanoseconds), accepted));
    for (now, accepted) in moments {
        let journal = journal.clone().with_clock(Arc::new(At(now)));
        let receipt = Some(receipt("key", expires_at));
        let answer = journal.append(Append { receipt, ..append(&journal, &mut session, vec![]) }).await;
        match answer {
            Ok(()) => assert!(accepted, "at {now}"),
            Err(JournalError::ReceiptExists) => assert!(!accepted, "at {now}"),
            Err(error) => panic!("{error}"),
        }
    }
}

/// New receipts push expired ones out, so that the table holds what is in use.
#[tokio::test]
async fn expired_receipts_go_away() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("journal.db");
    let journal = SqliteJournal::open(&file).unwrap();
    let mut session = make(&journal).await;
    for hours in [0, 3] {
        let now = DateTime::UNIX_EPOCH + TimeDelta::hours(hours);
        let journal = journal.clone().with_clock(Arc::new(At(now)));
        for n in 0..30 {
            let receipt = Some(receipt(&format!("{hours} {n}"), now + TimeDelta::hours(1)));
            journal.append(Append { receipt, ..append(&journal, &mut session, vec![]) }).await.unwrap();
        }
    }
    drop(journal);
    let raw = rusqlite::Connection::open(&file).unwrap();
    let scopes: String =
        raw.query_row("SELECT group_concat(DISTINCT substr(scope, 1, 1)) FROM receipts", (), |row| row.get(0)).unwrap();
    let count: u64 = raw.query_row("SELECT count(*) FROM receipts", (), |row| row.get(0)).unwrap();
    assert_eq!((scopes.as_str(), count), ("3", 30));
}
