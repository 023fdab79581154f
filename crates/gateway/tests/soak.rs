//! A day with many conversations and the two months after it, on a compressed clock: what grows, and what is kept.
//!
//! The clock is the one that the store has: between rounds all its times are moved into the past, and the gateway's timers as
//! far ahead. `STAKPAK_SOAK_CONVERSATIONS` says how many there are; `just soak-gateway` takes 10,000.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

#[path = "soak/agent.rs"]
mod agent;
#[path = "soak/world.rs"]
mod world;

use std::time::Duration;

use world::{Figures, World};

const HOUR: Duration = Duration::from_secs(3_600);
const WEEK: Duration = Duration::from_secs(7 * 24 * 3_600);
/// Conversations of each kind that are busy from the first hour to the end.
const BUSY: usize = 5;
/// Bytes of the log: it is emptied into the database every some thousand pages.
const MOST_LOG: u64 = 64 * 1024 * 1024;

/// G-P52: memory, file handles and size of the store are bounded, all that is old goes, and nobody who waits loses their
/// session.
#[tokio::test]
async fn a_day_of_many_conversations_leaves_nothing_behind_and_loses_nobody() {
    let given = std::env::var("STAKPAK_SOAK_CONVERSATIONS").ok();
    let conversations: usize = given.map_or(200, |number| number.parse().unwrap());
    let mut world = World::start().await;
    let busy = world.keep_busy(BUSY).await;

    for hour in 0..24 {
        let now = conversations * hour / 24..conversations * (hour + 1) / 24;
        world.all_are_answered(now).await;
        world.pass(HOUR).await;
        world.have_their_sessions(&busy);
    }
    let day = world.figures();
    assert_eq!(world.count("sessions"), conversations + busy.len(), "nobody is idle for long enough");
    assert_eq!(world.count("inbox"), conversations + busy.len() + BUSY);

    // A quarter of them goes on, another one each week.
    let mut weeks = Vec::new();
    for week in 0..9 {
        let quarter = conversations * (week % 4) / 4..conversations * (week % 4 + 1) / 4;
        world.all_are_answered(quarter).await;
        world.pass(WEEK).await;
        world.have_their_sessions(&busy);
        weeks.push(world.figures());
        eprintln!("week {week}: {:?}", weeks[week]);
    }
    // After five weeks every stage of forgetting goes on; from then on nothing grows any more.
    let (fifth, last) = (&weeks[4], &weeks[8]);
    assert!(last.store <= fifth.store * 11 / 10, "day {day:?}, fifth week {fifth:?}, last {last:?}");
    assert!(last.memory <= fifth.memory + 32 * 1024 * 1024, "fifth week {fifth:?}, last {last:?}");
    world.settles(&day).await;

    world.pass(WEEK).await;
    world.have_their_sessions(&busy);
    assert_eq!(world.count("sessions"), busy.len(), "whoever is idle is forgotten");
    world.release(&busy).await;
    world.have_their_sessions(&busy);
    for _ in 0..6 {
        world.pass(WEEK).await;
    }
    for table in ["sessions", "inbox", "outbox", "runs", "approvals", "session_state", "delivery_context", "deliveries"]
    {
        assert_eq!(world.count(table), 0, "{table}: {:?}", world.first_of(table));
    }
    let Figures { store, log, .. } = world.figures();
    assert!(store <= last.store && log <= MOST_LOG, "what is freed is used again: {store}, {log}, {last:?}");
}
