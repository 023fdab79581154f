//! Two journals on one file, as after a takeover.

use stakpak_agent_core::{Journal, JournalError};
use stakpak_store::SqliteJournal;

use crate::fixture::{append, event, make};

/// The old owner is refused once the new one has written to a session, and reads what the new one wrote.
#[tokio::test]
async fn the_older_journal_loses_a_session_that_the_newer_writes_to() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("journal.db");
    let old = SqliteJournal::open(&file).unwrap();
    let mut taken = make(&old).await;
    let mut kept = make(&old).await;

    let new = SqliteJournal::open(&file).unwrap();
    assert_eq!((old.epoch(), new.epoch()), (1, 2));
    new.append(append(&new, &mut taken, vec![event(1, "by the new")])).await.unwrap();

    let refused = old.append(append(&old, &mut taken.clone(), vec![event(2, "by the old")])).await;
    assert!(matches!(refused, Err(JournalError::StaleEpoch { attempted: 1, current: 2, .. })), "{refused:?}");
    assert_eq!(old.session(taken.id).await.unwrap(), Some(taken.clone()));
    old.append(append(&old, &mut kept, vec![event(1, "by the old")])).await.unwrap();
    new.append(append(&new, &mut taken, vec![event(2, "by the new")])).await.unwrap();
}
