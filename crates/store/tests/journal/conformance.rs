//! The suite of the port, on disk and in memory.

use stakpak_agent_core::conformance;
use stakpak_store::SqliteJournal;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let journal = SqliteJournal::open(&folder.path().join("journal.db")).unwrap();
    conformance::all(&journal).await;
    conformance::upkeep(&journal).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reopened_file_conforms() {
    let folder = tempfile::tempdir().unwrap();
    conformance::reopening(|| SqliteJournal::open(&folder.path().join("journal.db")).unwrap()).await;
}

#[tokio::test]
async fn memory_conforms() {
    let journal = SqliteJournal::open_in_memory().unwrap();
    conformance::all(&journal).await;
    conformance::upkeep(&journal).await;
}
