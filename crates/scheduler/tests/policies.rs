//! What the policies of a schedule make of fires that overlap, come late, come together or fail.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use chrono::TimeDelta;
use stakpak_scheduler::{Asked, Clock, HeldBy, Hold, HoldError, ScheduleState, TriggerOptions};
use support::{World, at, eventually, server::Play};

fn beat(lines: &str) -> String {
    format!("[[schedules]]\nname = 'beat'\ncron = '* * * * *'\nprompt = 'status'\n{lines}\n")
}

/// A world whose first fire, of 00:01, is under way.
async fn busy(lines: &str, play: Play) -> (World, support::Running) {
    let world = World::new("2026-01-01T00:00:30Z", &beat(lines)).await;
    world.server.play(play);
    let running = world.start().await;
    world.clock.set("2026-01-01T00:01:00Z");
    eventually("the first runs", async || world.history("beat").await.first().is_some_and(|run| run.run_id.is_some()))
        .await;
    (world, running)
}

#[tokio::test]
async fn one_fire_waits_and_further_ones_are_left_out() {
    let (world, running) = busy("overlap = 'queue_one'", Play::Hang).await;
    world.clock.set("2026-01-01T00:02:00Z");
    world.tells("beat", &["running", "pending"]).await;
    world.clock.set("2026-01-01T00:03:00Z");
    world.tells("beat", &["running", "pending", "skipped(overlap)"]).await;
    let rows = world.history("beat").await;
    assert_eq!(rows[0].blocking_run, Some(rows[2].id));
    // The one that waits is taken up by another process.
    running.kill().await;
    let running = world.start().await;
    world.server.play(Play::Answer("done"));
    world.server.complete_all("late");
    world.tells("beat", &["completed", "completed", "skipped(overlap)"]).await;
    assert_eq!(world.server.runs(), 2);
    running.stop().await;
}

#[tokio::test]
async fn all_wait_in_order_up_to_the_limit() {
    let (world, running) = busy("overlap = 'queue_all'\nqueue_limit = 2", Play::Hang).await;
    for minute in 2..=4 {
        world.clock.set(&format!("2026-01-01T00:0{minute}:00Z"));
        eventually("it is planned", async || world.history("beat").await.len() == minute).await;
    }
    world.tells("beat", &["running", "pending", "pending", "skipped(queue_full)"]).await;
    world.server.complete_all("first");
    world.tells("beat", &["completed", "running", "pending", "skipped(queue_full)"]).await;
    eventually("the second runs", async || world.server.runs() == 2).await;
    world.server.complete_all("second");
    world.tells("beat", &["completed", "completed", "running", "skipped(queue_full)"]).await;
    eventually("the third runs", async || world.server.runs() == 3).await;
    world.server.complete_all("third");
    world.tells("beat", &["completed", "completed", "completed", "skipped(queue_full)"]).await;
    running.stop().await;
}

#[tokio::test]
async fn the_active_run_makes_way_and_its_end_is_confirmed_first() {
    let (world, running) = busy("overlap = 'cancel_running'", Play::Hang).await;
    world.clock.set("2026-01-01T00:02:00Z");
    world.tells("beat", &["cancelled(superseded)", "running"]).await;
    eventually("the second runs", async || world.server.runs() == 2).await;
    let requests = world.server.requests();
    let cancelled = requests.iter().position(|request| request.ends_with("/cancel")).unwrap();
    let second = requests.iter().rposition(|request| request == "POST /v1/sessions").unwrap();
    assert!(cancelled < second, "{requests:?}");
    world.server.complete_all("second");
    world.tells("beat", &["cancelled(superseded)", "completed"]).await;
    running.stop().await;
}

#[tokio::test]
async fn a_run_whose_end_is_not_confirmed_keeps_its_successor_from_starting() {
    let (world, running) = busy("overlap = 'cancel_running'", Play::Stuck).await;
    world.clock.set("2026-01-01T00:02:00Z");
    world.tells("beat", &["running", "pending"]).await;
    eventually("a cancel is sent", async || world.server.requests().iter().any(|request| request.ends_with("/cancel")))
        .await;
    world.clock.set("2026-01-01T00:02:31Z");
    world.tells("beat", &["unknown", "skipped(overlap_cancel_failed)"]).await;
    // It still counts as active, for another process too, until the server answers.
    running.kill().await;
    let running = world.start().await;
    world.clock.set("2026-01-01T00:03:00Z");
    world.tells("beat", &["unknown", "skipped(overlap_cancel_failed)", "skipped(overlap_cancel_failed)"]).await;
    assert_eq!(world.server.runs(), 1);
    world.server.complete_all("after all");
    eventually("the truth is learnt", async || world.told("beat").await[0] == "completed").await;
    world.server.play(Play::Answer("done"));
    world.clock.set("2026-01-01T00:04:00Z");
    eventually("the next runs", async || world.told("beat").await.last().unwrap() == "completed").await;
    assert_eq!(world.server.runs(), 2);
    running.stop().await;
}

/// A-P10: no second run before the end of the first is confirmed, and its true end is what the row says.
#[tokio::test]
async fn a_run_over_its_time_stays_active_until_the_server_confirms_its_end() {
    let (world, running) = busy("timeout = '90s'", Play::Stuck).await;
    world.clock.set("2026-01-01T00:02:30Z");
    eventually("a cancel is sent", async || world.server.requests().iter().any(|request| request.ends_with("/cancel")))
        .await;
    world.clock.set("2026-01-01T00:03:00Z");
    world.tells("beat", &["unknown", "skipped(overlap)", "skipped(overlap)"]).await;
    let first = world.history("beat").await.pop().unwrap();
    assert!(first.session_id.is_some() && first.error.unwrap().contains("not confirmed"));
    world.server.play(Play::Hang);
    eventually("the truth is learnt", async || world.told("beat").await[0] == "timed_out").await;
    assert_eq!(world.history("beat").await.pop().unwrap().agent_message.as_deref(), Some("stopped"));
    assert_eq!(world.server.runs(), 1);
    running.stop().await;
}

/// A-P10: a message that had no answer may have started a run, which counts as active until the server tells its end, also for
/// the next process.
#[tokio::test]
async fn a_run_whose_message_has_no_answer_stays_active_until_the_server_tells_its_end() {
    for dies in [false, true] {
        let world = World::new("2026-01-01T00:00:30Z", &beat("timeout = '90s'\nretries = 2\nretry_on = 'any'")).await;
        world.server.play(Play::Refuse(503, "overloaded"));
        let mut running = world.start().await;
        world.clock.set("2026-01-01T00:01:00Z");
        eventually("it is posted", async || world.server.requests().iter().any(|path| path.ends_with("/messages")))
            .await;
        world.clock.set("2026-01-01T00:04:00Z");
        world.tells("beat", &["unknown", "missed(policy)", "missed(policy)", "skipped(overlap)"]).await;
        if dies {
            running.kill().await;
            running = world.start().await;
            world.clock.set("2026-01-01T00:05:00Z");
            eventually("the next is left out too", async || world.told("beat").await.len() == 5).await;
        }
        assert!(world.told("beat").await[1..].iter().all(|told| !told.starts_with("running")));
        world.server.play(Play::Hang);
        eventually("the truth is learnt", async || world.told("beat").await[0] == "timed_out").await;
        let first = world.history("beat").await.pop().unwrap();
        assert_eq!(first.attempts[0].run_id, first.run_id);
        assert_eq!((first.agent_message.as_deref(), world.server.runs()), (Some("stopped"), 1));
        running.stop().await;
    }
}

/// A-P10: who cancels a run whose message had no answer is not told that it never began.
#[tokio::test]
async fn a_run_that_is_cancelled_before_its_message_has_an_answer_is_found_and_cancelled() {
    let world = World::new("2026-01-01T00:00:30Z", &beat("")).await;
    world.server.play(Play::Refuse(503, "overloaded"));
    let running = world.start().await;
    world.clock.set("2026-01-01T00:01:00Z");
    eventually("it is posted", async || world.server.requests().iter().any(|path| path.ends_with("/messages"))).await;
    let id = world.history("beat").await[0].id;
    running.handle.cancel(id, None).await.unwrap();
    eventually("nobody knows", async || {
        world.clock.advance(TimeDelta::seconds(10));
        world.told("beat").await[0] == "unknown"
    })
    .await;
    world.server.play(Play::Hang);
    eventually("the truth is learnt", async || world.told("beat").await[0] == "cancelled(user)").await;
    assert_eq!(world.server.runs(), 1);
    running.stop().await;
}

/// A-P6: a clock that is set forward is time in which nobody was there.
#[tokio::test]
async fn late_fires_are_caught_up_on_oldest_first() {
    let lines = "catchup = 'all'\ncatchup_window = '1h'\ncatchup_limit = 3\noverlap = 'queue_all'";
    let world = World::new("2026-01-01T00:00:30Z", &beat(lines)).await;
    let running = world.start().await;
    world.clock.set("2026-01-01T02:00:30Z");
    eventually("three have run", async || world.server.runs() == 3).await;
    eventually("they end", async || world.told("beat").await.iter().filter(|told| *told == "completed").count() == 3)
        .await;
    let mut rows = world.history("beat").await;
    rows.retain(|row| row.started_at.is_some());
    rows.sort_by_key(|row| row.session_id.map(|_| row.id));
    let fired: Vec<_> = rows.iter().map(|row| row.nominal_at.unwrap()).collect();
    assert_eq!(fired, [at("2026-01-01T01:58:00Z"), at("2026-01-01T01:59:00Z"), at("2026-01-01T02:00:00Z")]);
    let told = world.told("beat").await;
    let count = |word: &str| told.iter().filter(|told| *told == word).count();
    assert_eq!((count("missed(limit)"), count("missed(window)")), (57, 43), "and 17 in a range");
    running.stop().await;
}

#[tokio::test]
async fn jitter_delays_a_fire_by_the_same_time_after_a_restart() {
    let world = World::new("2026-01-01T00:00:30Z", &beat("jitter = '50s'")).await;
    let running = world.start().await;
    world.clock.set("2026-01-01T00:01:00Z");
    world.tells("beat", &["pending"]).await;
    let planned = || {
        let connection = rusqlite::Connection::open(world.path()).unwrap();
        connection.query_row("SELECT dispatch_at FROM runs", [], |row| row.get::<_, i64>(0)).unwrap()
    };
    let dispatch_at = planned();
    running.kill().await;
    let running = world.start().await;
    assert_eq!(planned(), dispatch_at);
    let offset = dispatch_at - at("2026-01-01T00:01:00Z").timestamp_millis();
    assert!((1..=50_000).contains(&offset), "{offset}");
    world.clock.advance(TimeDelta::milliseconds(offset));
    let run = world.ended("beat").await;
    assert_eq!(run.nominal_at, Some(at("2026-01-01T00:01:00Z")));
    assert_eq!(run.started_at.unwrap().timestamp_millis(), dispatch_at);
    running.stop().await;
}

#[tokio::test]
async fn schedules_of_a_group_never_run_at_the_same_time() {
    let entry = |name: &str| {
        format!("[[schedules]]\nname = '{name}'\ncron = '* * * * *'\nprompt = 'p'\nexclusive_group = 'disk'\n")
    };
    let toml = format!("{}{}{}", entry("a"), entry("b"), beat(""));
    let world = World::new("2026-01-01T00:00:30Z", &toml).await;
    world.server.play(Play::Hang);
    let running = world.start().await;
    world.clock.set("2026-01-01T00:01:00Z");
    eventually("two run", async || world.server.runs() == 2).await;
    world.tells("a", &["running"]).await;
    world.tells("b", &["pending"]).await;
    world.tells("beat", &["running"]).await;
    world.server.complete_all("done");
    world.tells("b", &["running"]).await;
    eventually("the third runs", async || world.server.runs() == 3).await;
    world.server.complete_all("done");
    world.tells("b", &["completed"]).await;
    running.stop().await;
}

/// A-P44: a schedule that fails at each fire stops.
#[tokio::test]
async fn failures_in_a_row_hold_the_schedule_until_it_is_resumed() {
    let world = World::new("2026-01-01T00:00:30Z", &beat("pause_after_failures = 2")).await;
    let running = world.start().await;
    let fire = async |play: Play| {
        let before = world.history("beat").await.len();
        world.server.play(play);
        let minute = world.clock.now() + TimeDelta::seconds(60);
        world.clock.set(&minute.format("%Y-%m-%dT%H:%M:00Z").to_string());
        eventually("it ends", async || {
            let rows = world.history("beat").await;
            rows.len() > before && !matches!(support::told(&rows[0]).as_str(), "pending" | "running")
        })
        .await;
        world.told("beat").await.pop().unwrap()
    };
    assert_eq!(fire(Play::Fail("no")).await, "failed(agent_error)");
    // A success in between starts the count anew.
    assert_eq!(fire(Play::Answer("yes")).await, "completed");
    assert_eq!(fire(Play::Fail("no")).await, "failed(agent_error)");
    assert_eq!(fire(Play::Fail("no")).await, "failed(agent_error)");
    assert_eq!(fire(Play::Answer("yes")).await, "skipped(paused)");
    let overview = running.handle.list().await.unwrap().remove(0);
    assert_eq!((overview.state, overview.hold.unwrap().by), (ScheduleState::Paused, HeldBy::Failures));
    assert_eq!(overview.next_run_at, None);

    assert!(world.ledger.release("beat", world.clock.now(), None).await.unwrap());
    assert!(!world.ledger.release("beat", world.clock.now(), None).await.unwrap());
    assert_eq!(fire(Play::Fail("no")).await, "failed(agent_error)", "the count is anew");
    assert_eq!(fire(Play::Answer("yes")).await, "completed");
    running.stop().await;
}

#[tokio::test]
async fn what_comes_while_a_schedule_is_held_is_not_caught_up_on() {
    let world = World::new("2026-01-01T00:00:30Z", &beat("catchup = 'all'\ncatchup_window = '6h'")).await;
    let running = world.start().await;
    let until = Some(at("2026-01-01T00:03:00Z"));
    let hold = Hold { since: world.clock.now(), until, by: HeldBy::User, note: Some("maintenance".to_owned()) };
    world.ledger.hold("beat", hold, None).await.unwrap();
    let overview = running.handle.list().await.unwrap().remove(0);
    assert_eq!((overview.state, overview.next_run_at), (ScheduleState::Paused, until));
    world.clock.set("2026-01-01T00:01:00Z");
    world.tells("beat", &["skipped(paused)"]).await;
    // A person may run it all the same.
    let manual = running.handle.trigger("beat", TriggerOptions::default()).await.unwrap();
    eventually("it ends", async || running.handle.run(manual.id).await.unwrap().unwrap().finished_at.is_some()).await;
    assert_eq!(world.server.runs(), 1);
    // Nobody there while the hold ran out: what came meanwhile is skipped, what came after it is caught up on.
    running.stop().await;
    world.clock.set("2026-01-01T00:04:30Z");
    let running = world.start().await;
    eventually("the late ones end", async || world.server.runs() >= 2).await;
    eventually("all are decided", async || {
        let mut told = world.told("beat").await;
        told.sort();
        told == ["completed", "completed", "skipped(overlap)", "skipped(paused)", "skipped(paused)"]
    })
    .await;
    running.stop().await;
}

/// What P40 of the HTTP contract asks of each route with a key, for those that pause and resume a schedule.
#[tokio::test]
async fn a_pause_repeated_under_its_key_pauses_nothing_anew() {
    let world = World::new("2026-01-01T00:00:30Z", &beat("")).await;
    let asked = |request: &str| Some(Asked { key: "k".to_owned(), request: request.to_owned() });
    let hold = |until: &str| Hold { since: world.clock.now(), until: Some(at(until)), by: HeldBy::User, note: None };
    let first = world.ledger.hold("beat", hold("2026-01-01T01:00:00Z"), asked("1h")).await.unwrap();
    assert!(world.ledger.release("beat", world.clock.now(), asked("")).await.unwrap());

    let again = world.ledger.hold("beat", hold("2026-01-01T01:00:07Z"), asked("1h")).await.unwrap();
    assert_eq!(again, first, "as it was answered the first time");
    let held = world.ledger.release("beat", world.clock.now(), None).await.unwrap();
    assert!(!held, "it goes on");
    let other = world.ledger.hold("beat", hold("2026-01-01T02:00:00Z"), asked("2h")).await;
    assert!(matches!(other, Err(HoldError::KeyReused)), "{other:?}");

    world.ledger.hold("beat", hold("2026-01-01T03:00:00Z"), None).await.unwrap();
    assert!(world.ledger.release("beat", world.clock.now(), asked("")).await.unwrap(), "as before");
    assert!(world.ledger.release("beat", world.clock.now(), None).await.unwrap(), "the later pause was not ended");
}
