//! The chaos campaign of the scheduler: many schedules in simulated time, while the built binary is killed with SIGKILL, its
//! clock is set forward and back, and the host sleeps for a day.
//!
//! The clock runs as fast as the host's and is put from instant to instant, so that a day costs seconds and what is late by ten
//! seconds is late by ten seconds. Such a clock exists only with the cargo feature `campaign`, in no release artefact.
//! Afterwards [`check`] computes by an evaluator of its own what was due, and by the rules of catch-up what had to become of
//! it, and compares the ledger's rows, what checks and commands wrote, and what the model was asked.
//!
//! `just chaos-schedules` runs a long one, `just soak-schedules` a month with hourly kills; the usual one is short. The
//! environment sets its size: `STAKPAK_CHAOS_SCHEDULES`, `STAKPAK_CHAOS_HOURS`, `STAKPAK_CHAOS_KILL_EVERY` (simulated minutes)
//! and `STAKPAK_CHAOS_SEED`, which decides what is done and when in simulated time (not how the machine schedules it).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    missing_debug_implementations
)]

mod campaign;
mod check;
mod history;
mod ledger;
mod model;
mod report;
mod schedules;
#[path = "../../../scheduler/tests/oracle/wall.rs"]
mod wall;
mod world;

mod doctored;

/// A-P5, A-P6, A-P7, A-P45, A-P47: no instant fires twice, none is missed beyond its policy, and overlap and catch-up are as
/// declared, whenever the process dies and whatever the clock does.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_schedules_hold_in_chaos() {
    let report = campaign::campaign(campaign::Size::from_environment()).await;
    println!("{report}");
    assert!(report.is_clean(), "the chaos campaign found violations; they are printed above");
}
