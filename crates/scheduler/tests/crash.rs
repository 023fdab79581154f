//! The process dies at every point of a fire: afterwards there is exactly one agent run for its key, none lost, none doubled.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::{
    future::{Future, poll_fn},
    task::Poll,
};

use stakpak_scheduler::RunStatus;
use support::{
    World,
    chat::Fate,
    eventually,
    server::{Death, Play},
};
use tokio_util::sync::CancellationToken;

const BEAT: &str = "[[schedules]]\nname = 'beat'\ncron = '0 * * * *'\nprompt = 'status'\n";

const IN_CHAT: &str = "notify_channel = 'telegram'\nnotify_target = '42'\nnotify_on = 'failures'\n";

/// A world in which the schedule is known and its instant has come, with no scheduler yet.
async fn due() -> World {
    due_in("").await
}

/// The same, with more of the entry.
async fn due_in(lines: &str) -> World {
    let world = World::new("2026-01-01T00:59:30Z", &format!("{BEAT}{lines}")).await;
    world.start().await.stop().await;
    world.clock.set("2026-01-01T01:00:00Z");
    world
}

async fn one_run_and_the_truth(world: &World, point: &str) {
    let running = world.start().await;
    let run = world.ended("beat").await;
    assert_eq!(run.status, RunStatus::Completed, "{point}: {run:?}");
    assert_eq!(run.agent_message.as_deref(), Some("done"), "{point}");
    assert_eq!(world.history("beat").await.len(), 1, "{point}");
    assert_eq!((world.server.titles().len(), world.server.runs()), (1, 1), "{point}");
    assert_eq!(run.session_id, Some(world.server.session_of_run()), "{point}");
    running.stop().await;
}

#[tokio::test]
async fn at_every_request_before_and_after_its_effect() {
    every_request(Play::Answer("done")).await;
}

#[tokio::test]
async fn at_every_request_of_a_run_that_asks() {
    every_request(Play::Ask).await;
}

/// A-P18: also where the chat gateway starts the run, and where it refuses and the run takes place without it.
#[tokio::test]
async fn at_every_request_of_a_run_in_a_chat() {
    every_request_in(Play::Answer("done"), IN_CHAT, Fate::Delivered).await;
}

#[tokio::test]
async fn at_every_request_of_a_run_that_the_gateway_refuses() {
    every_request_in(Play::Answer("done"), IN_CHAT, Fate::Refused(404, "channel_not_found", None)).await;
}

async fn every_request(play: Play) {
    every_request_in(play, "", Fate::Delivered).await;
}

async fn every_request_in(play: Play, lines: &str, fate: Fate) {
    for after_effect in [false, true] {
        for at in 0.. {
            let world = due_in(lines).await;
            world.server.play(play.clone());
            world.server.chat.will(fate.clone());
            world.server.die(Some(Death { at, after_effect }));
            let running = world.start().await;
            let died = tokio::select! {
                () = world.server.died() => true,
                _ = world.ended("beat") => false,
            };
            running.kill().await;
            let requests = world.server.requests();
            world.server.die(None);
            let point = format!("request {at} of {requests:?}, after its effect: {after_effect}");
            one_run_and_the_truth(&world, &point).await;
            if !died {
                assert!(at >= 4, "session, message, events, state, messages: {point}");
                break;
            }
        }
    }
}

#[tokio::test]
async fn at_every_step_of_the_planning_loop() {
    for steps in 1.. {
        let world = due().await;
        let scheduler = world.scheduler();
        let mut work = Box::pin(scheduler.run(CancellationToken::new()));
        let mut taken = 0;
        // The loop is polled when a write or a read of it is done, so that each poll is a step.
        let killed = poll_fn(|context| {
            taken += 1;
            match work.as_mut().poll(context) {
                Poll::Pending if taken < steps => Poll::Pending,
                _ => Poll::Ready(()),
            }
        });
        let died = tokio::select! {
            () = killed => true,
            _ = world.ended("beat") => false,
        };
        drop(work);
        drop(scheduler);
        one_run_and_the_truth(&world, &format!("step {steps}")).await;
        if !died {
            assert!(steps > 5, "start, recovery, cursors, plan, dispatch: {steps}");
            break;
        }
    }
}

#[tokio::test]
async fn a_run_under_way_goes_on_and_three_crashes_are_the_limit() {
    let world = due().await;
    world.server.play(Play::Hang);
    for crashes in 0..4 {
        let running = world.start().await;
        eventually("it runs", async || {
            let rows = world.history("beat").await;
            rows.first().is_some_and(|run| run.run_id.is_some() && run.recoveries == crashes)
        })
        .await;
        running.kill().await;
    }
    let running = world.start().await;
    assert_eq!(support::told(&world.ended("beat").await), "failed(crash_limit)");
    assert_eq!(world.server.runs(), 1);
    running.stop().await;
}

#[tokio::test]
async fn a_run_that_ended_meanwhile_is_reported_as_it_ended() {
    let world = due().await;
    world.server.play(Play::Hang);
    let running = world.start().await;
    eventually("it runs", async || world.history("beat").await.first().is_some_and(|run| run.run_id.is_some())).await;
    running.kill().await;
    world.server.complete_all("done");
    one_run_and_the_truth(&world, "ended meanwhile").await;
}
