//! A file whose bytes have changed under the journal.

use std::{fs, path::Path};

use stakpak_agent_core::{Append, Journal, JournalError, SessionQuery, Snapshot};
use stakpak_protocol::{EventId, RunId, RunStatus, SessionId};
use stakpak_store::SqliteJournal;

use crate::fixture::{append, control, event, make, message};

const MARK: &str = "a payload like no other";

/// The damaged row is refused wherever it is read; rows before it and other sessions are not affected.
#[tokio::test]
async fn a_flipped_bit_is_refused() {
    // The second makes the text invalid UTF-8.
    for bit in [0x01, 0x80] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("journal.db");
        let (damaged, whole) = write(&file).await;
        flip(&file, bit);

        let journal = SqliteJournal::open(&file).unwrap();
        for seq in 3..=5 {
            let answer = match seq {
                3 => journal.events(damaged, EventId(0), usize::MAX).await.map(drop),
                4 => journal.control_rows(damaged, 3, 4).await.map(drop),
                _ => journal.message_rows(damaged, 1, 2).await.map(drop),
            };
            assert!(
                matches!(answer, Err(JournalError::Damaged { session, seq: at }) if (session, at) == (damaged, seq)),
                "{answer:?}"
            );
        }
        assert_eq!(journal.control_rows(damaged, 1, 3).await.unwrap(), [message(2, 0, "whole")]);
        assert_eq!(journal.message_rows(damaged, 0, 1).await.unwrap(), [message(2, 0, "whole")]);
        assert_eq!(journal.events(damaged, EventId(0), 1).await.unwrap().len(), 1);
        assert_eq!(journal.control_rows(whole, 0, 9).await.unwrap(), [message(2, 0, "whole")]);
        assert_eq!(journal.open_sessions().await.unwrap(), []);

        let mut session = journal.session(whole).await.unwrap().unwrap();
        let more = append(&journal, &mut session, vec![control(3, "more")]);
        journal.append(more).await.unwrap();
    }
}

/// It is not needed: it reads as none, whatever of it has changed, and the next takes its place.
#[tokio::test]
async fn a_damaged_snapshot_is_none() {
    for change in ["state = '{ }'", "seq = 1", "version = 2", "crc = crc + 1", "state = CAST(x'ff' AS TEXT)"] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("journal.db");
        let journal = SqliteJournal::open(&file).unwrap();
        let mut session = make(&journal).await;
        let snapshot = |seq| Snapshot { seq, version: 1, state: "{}".into() };
        let rows = vec![control(1, "one"), control(2, "two")];
        journal.append(Append { snapshot: Some(snapshot(2)), ..append(&journal, &mut session, rows) }).await.unwrap();
        assert_eq!(journal.snapshot(session.id).await.unwrap(), Some(snapshot(2)));
        let raw = rusqlite::Connection::open(&file).unwrap();
        assert_eq!(raw.execute(&format!("UPDATE snapshots SET {change}"), ()).unwrap(), 1);

        assert_eq!(journal.snapshot(session.id).await.unwrap(), None, "{change}");
        let rows = vec![control(3, "three")];
        journal.append(Append { snapshot: Some(snapshot(3)), ..append(&journal, &mut session, rows) }).await.unwrap();
        assert_eq!(journal.snapshot(session.id).await.unwrap(), Some(snapshot(3)), "{change}");
    }
}

/// Rows that have been moved to another place are as damaged as changed ones.
#[tokio::test]
async fn a_row_in_the_wrong_place_is_refused() {
    for change in ["seq = 9 WHERE seq = 3", "message_index = 7 WHERE seq = 4", "class = 1 WHERE seq = 4"] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("journal.db");
        let (damaged, _) = write(&file).await;
        let raw = rusqlite::Connection::open(&file).unwrap();
        raw.execute(&format!("UPDATE records SET {change} AND payload LIKE 'a %'"), ()).unwrap();
        drop(raw);

        let journal = SqliteJournal::open(&file).unwrap();
        let answers = [
            journal.events(damaged, EventId(0), usize::MAX).await.map(drop),
            journal.message_rows(damaged, 2, 9).await.map(drop),
        ];
        let damaged = |answer: &Result<(), _>| matches!(answer, Err(JournalError::Damaged { .. }));
        assert!(answers.iter().any(damaged), "{change}: {answers:?}");
    }
}

/// P48: a projection that cannot be read is left out of the lists; its own route tells.
#[tokio::test]
async fn a_damaged_projection_does_not_hide_the_others() {
    let damages = [(0, "run_status = '{'"), (1, "status = 'GONE'"), (2, "run_status = CAST(x'ff' AS TEXT)")];
    for (victim, damage) in damages {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("journal.db");
        let journal = SqliteJournal::open(&file).unwrap();
        let mut ids = Vec::new();
        for _ in 0..3 {
            let mut session = make(&journal).await;
            session.run_status =
                RunStatus::Running { run_id: RunId::random(), pending_tool_calls: None, cancelling: None };
            journal.append(append(&journal, &mut session, vec![control(1, "began")])).await.unwrap();
            ids.push(session.id);
        }
        drop(journal);
        let raw = rusqlite::Connection::open(&file).unwrap();
        raw.execute(&format!("UPDATE sessions SET {damage} WHERE id = ?1"), (ids[victim].0.as_bytes(),)).unwrap();
        drop(raw);
        let victim = ids.remove(victim);

        let journal = SqliteJournal::open(&file).unwrap();
        let mut listed = Vec::new();
        let mut query = SessionQuery { limit: 1, ..SessionQuery::default() };
        loop {
            let page = journal.sessions(query.clone()).await.unwrap();
            listed.extend(page.sessions.iter().map(|session| session.id));
            let Some(next) = page.next else { break };
            query.cursor = Some(next);
        }
        assert_eq!(listed, [ids[1], ids[0]], "{damage}");
        let open: Vec<_> = journal.open_sessions().await.unwrap().iter().map(|session| session.id).collect();
        assert_eq!(open, ids, "{damage}");
        assert!(journal.session(victim).await.is_err(), "{damage}");
    }
}

/// Two sessions; the rows 3 to 5 of the first hold the mark.
async fn write(file: &Path) -> (SessionId, SessionId) {
    let journal = SqliteJournal::open(file).unwrap();
    let mut damaged = make(&journal).await;
    let mut whole = make(&journal).await;
    for session in [&mut damaged, &mut whole] {
        let rows = vec![event(1, "whole"), message(2, 0, "whole")];
        journal.append(append(&journal, session, rows)).await.unwrap();
    }
    let rows = vec![event(3, MARK), control(4, MARK), message(5, 1, MARK)];
    journal.append(append(&journal, &mut damaged, rows)).await.unwrap();
    (damaged.id, whole.id)
}

/// Changes every place of the mark. The journal is closed, so that all of it is in the file.
fn flip(file: &Path, bit: u8) {
    let mut bytes = fs::read(file).unwrap();
    let places: Vec<_> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(MARK.as_bytes())).collect();
    assert_eq!(places.len(), 3);
    for at in places {
        bytes[at + 5] ^= bit;
    }
    fs::write(file, bytes).unwrap();
}
