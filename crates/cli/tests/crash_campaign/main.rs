//! The crash campaign: the built binary is killed with SIGKILL again and again while clients use it, started again, and
//! held to every guarantee that can be seen from outside.
//!
//! A round: a cast of sessions with one client each, a kill at some moment (or several, also during the start), a restart,
//! the clients going on until their runs have ended; then [`check`] compares what the clients saw and sent with what the
//! server tells, what the tools did and what the model was asked.
//!
//! `just crash 500` runs a long one on the release binary; in `cargo test` it is a short one. The environment sets its
//! size: `STAKPAK_CRASH_KILLS`, and `STAKPAK_CRASH_SEED`, which decides what is sent and when the kills come (not how the
//! machine schedules it). A violation prints the session's event log and the seed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    missing_debug_implementations
)]

mod actor;
mod check;
mod kill;
mod ledger;
mod model;
mod reader;
mod report;
mod rounds;
mod scenes;
mod sweep;
mod world;

mod doctored;

/// The same at chosen points: before each write and each sync of the journal, in the start and in a tour of all scenes.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_guarantees_hold_at_every_write_point() {
    let Some(report) = sweep::sweep(sweep::Points::from_environment()).await else { return };
    println!("{report}");
    assert!(report.is_clean(), "the sweep found violations; they are printed above");
}

/// G1, G3 to G8: nothing accepted is lost, nothing seen changes, nothing runs or is paid for twice, whenever the process dies.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_guarantees_hold_whenever_the_process_dies() {
    let report = rounds::campaign(rounds::Size::from_environment()).await;
    println!("{report}");
    assert!(report.is_clean(), "the crash campaign found violations; they are printed above");
}
