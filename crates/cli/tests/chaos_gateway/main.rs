//! The chaos campaign of the gateway: people talk to the built binary over Telegram, Slack and Discord at once, while it is
//! killed with SIGKILL every few seconds and the platforms drop, repeat, delay, refuse and forget.
//!
//! The fake platforms and the scripted model live in this process; the binary is started again and again on the same home.
//! Afterwards [`check`] compares what people said and saw and what the model was asked; nothing is believed that the
//! binary says of itself.
//!
//! `just chaos-gateway 10000` runs a long one on the release binary; in `cargo test` it is a short one. The environment
//! sets its size: `STAKPAK_CHAOS_MESSAGES`, `STAKPAK_CHAOS_CONVERSATIONS`, and `STAKPAK_CHAOS_SEED`, which decides what is
//! said and done and when (not how the machine schedules it); `STAKPAK_CHAOS_BINARY`, another binary than the one built with
//! the test. A violation prints the conversation and the seed.
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
mod disturb;
mod history;
mod messages;
mod model;
mod people;
mod presses;
mod report;
mod world;

mod doctored;

/// G-P1, G-P35, G-P36, G-P41 and D1 to D5: nothing accepted is lost, nothing runs twice, everybody is answered in order and
/// once, and what needs an approval is decided once and as it says, whenever the process dies and whatever the platforms do
/// meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_guarantees_hold_in_chaos() {
    let report = campaign::campaign(campaign::Size::from_environment()).await;
    println!("{report}");
    assert!(report.is_clean(), "the chaos campaign found violations; they are printed above");
}
