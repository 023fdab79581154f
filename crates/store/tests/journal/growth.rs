//! P44: what goes to the disk for an append.

use rusqlite::Connection;
use stakpak_agent_core::Journal;
use stakpak_store::SqliteJournal;

use crate::fixture::{append, event, make, message};

/// Pages that an append writes: many, were its cost that of what the session holds.
#[tokio::test]
async fn an_append_to_a_long_session_writes_no_more_pages() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("journal.db");
    let journal = SqliteJournal::open(&file).unwrap();
    let raw = Connection::open(&file).unwrap();
    let frames = || raw.query_row("PRAGMA wal_checkpoint(NOOP)", (), |row| row.get::<_, i64>(1)).unwrap();
    let mut session = make(&journal).await;
    let mut pages = Vec::new();
    for number in 0..1_000 {
        let (before, seq, words) = (frames(), session.last_seq, "some words ".repeat(20));
        let rows = vec![message(seq + 1, number, &words), event(seq + 2, &words), event(seq + 3, &words)];
        journal.append(append(&journal, &mut session, rows)).await.unwrap();
        // The log started over: what was written since is all it has.
        let after = frames();
        pages.push(if after < before { after } else { after - before });
    }
    let tenth = |from: usize| pages[from..from + 100].iter().sum::<i64>();
    let (first, last) = (tenth(0), tenth(900));
    assert!(first >= 300, "{first} pages for a hundred appends: not all of them were seen");
    assert!(last * 10 <= first * 13, "the first hundred appends wrote {first} pages, the last hundred {last}");
}
