//! What a schedule may use, alone and together with the others: a day's limit lets no run begin that it has no room for, and a
//! run that passes a limit is ended.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use chrono::TimeDelta;
use stakpak_protocol::Usd;
use stakpak_scheduler::{RunStatus, SharedBudget, TriggerOptions};
use stakpak_test_support::write_executable;
use support::{
    Running, World, eventually,
    server::{Death, LAST_CALL, Play},
    told,
};

const BEAT: &str = "[[schedules]]\nname = 'beat'\ncron = '0 * * * *'\nprompt = 'tidy up'\n";

async fn world(play: Play, toml: &str) -> (World, Running) {
    let world = World::new("2026-01-01T00:59:30Z", toml).await;
    world.server.play(play);
    let running = world.start().await;
    (world, running)
}

/// One hour after the other; each is accounted for before the next begins.
async fn fires(world: &World, hours: &[&str]) -> Vec<String> {
    for hour in hours {
        let before = world.history("beat").await.len();
        world.clock.set(&format!("2026-01-{hour}:00:00Z"));
        eventually("the hour is accounted for", async || {
            let rows = world.history("beat").await;
            rows.len() > before && rows.iter().all(|run| run.finished_at.is_some())
        })
        .await;
    }
    world.told("beat").await
}

/// Rows of the ledger that say what was spent, and their sum.
fn spent(world: &World) -> (i64, u64) {
    let connection = rusqlite::Connection::open(world.path()).unwrap();
    let sql = "SELECT count(*), coalesce(sum(tokens), 0) FROM spending";
    let (rows, tokens): (i64, i64) = connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    (rows, u64::try_from(tokens).unwrap())
}

/// Until the ledger says that so many tokens were spent.
async fn spends(world: &World, tokens: u64) {
    eventually("the call is noted", async || spent(world).1 == tokens).await;
}

/// Millionths of a dollar that the ledger says were spent.
fn paid(world: &World) -> i64 {
    let connection = rusqlite::Connection::open(world.path()).unwrap();
    connection.query_row("SELECT coalesce(sum(usd_micros), 0) FROM spending", [], |row| row.get(0)).unwrap()
}

async fn pays(world: &World, micros: i64) {
    eventually("the call is paid for", async || paid(world) == micros).await;
}

/// What the server was asked to let each run cost.
fn cost_limits(world: &World) -> Vec<Option<f64>> {
    world.server.posted().iter().map(|body| body["overrides"]["limits"]["cost_usd"].as_f64()).collect()
}

async fn runs(world: &World) {
    eventually("it runs", async || world.server.runs() == 1).await;
}

async fn error(world: &World) -> String {
    world.ended("beat").await.error.unwrap_or_default()
}

#[tokio::test]
async fn a_day_of_the_schedules_zone_has_so_many_runs() {
    let beat = BEAT.replace("0 * *", "0 0,2,3,23 *");
    let toml = format!("{beat}timezone = 'Europe/Berlin'\nbudget = {{ runs_per_day = 2 }}\n");
    let (world, running) = world(Play::Answer("done"), &toml).await;
    let told = fires(&world, &["01T01", "01T02", "01T22", "01T23"]).await;
    assert_eq!(told, ["completed", "completed", "skipped(budget)", "completed"], "midnight in Berlin is 23:00Z");
    let skipped = &world.history("beat").await[1];
    assert_eq!(
        skipped.error.as_deref(),
        Some("the budget of schedule beat is used up: 2 of 2 runs a day"),
        "says which and how much"
    );
    assert_eq!(world.server.runs(), 3);
    running.stop().await;
}

/// Whoever starts it; and what no report told counts as well.
#[tokio::test]
async fn a_day_has_so_many_tokens() {
    let beat = BEAT.replace("0 * *", "0 0-3 *");
    let (world, running) = world(Play::Answer("done"), &format!("{beat}budget = {{ tokens_per_day = 18 }}\n")).await;
    let told = fires(&world, &["01T01", "01T02", "01T03"]).await;
    assert_eq!(told, ["completed", "completed", "skipped(budget)"], "{LAST_CALL} tokens each");
    let run =
        running.handle.trigger("beat", TriggerOptions { force: true, ..TriggerOptions::default() }).await.unwrap();
    eventually("it is accounted for", async || {
        let run = world.ledger.run(run.id).await.unwrap().unwrap();
        support::told(&run) == "skipped(budget)"
    })
    .await;
    assert_eq!(fires(&world, &["02T00"]).await.last().unwrap(), "completed");
    running.stop().await;
}

#[tokio::test]
async fn a_check_is_no_run_and_none_is_made_once_the_budget_is_used_up() {
    let directory = tempfile::tempdir().unwrap();
    let (script, log) = (directory.path().join("check"), directory.path().join("log"));
    write_executable(&script, format!("#!/bin/sh\necho x >> {}\nexit $(cat {0}.code)\n", log.display()));
    let answers = |code: &str| std::fs::write(log.with_extension("code"), code).unwrap();
    let more = format!("check = '{}'\nbudget = {{ runs_per_day = 1 }}\n", script.display());
    let (world, running) = world(Play::Answer("done"), &format!("{BEAT}{more}")).await;
    answers("0");
    assert_eq!(fires(&world, &["01T01"]).await, ["skipped(check)"]);
    answers("1");
    let told = fires(&world, &["01T02", "01T03"]).await;
    assert_eq!(told, ["skipped(check)", "completed", "skipped(budget)"]);
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "x\nx\n");
    running.stop().await;
}

/// And it is not tried again.
#[tokio::test]
async fn a_run_that_passes_its_tokens_is_ended() {
    let more = "retries = 2\nretry_on = 'any'\nbudget = { tokens_per_run = 100 }\n";
    let (world, running) = world(Play::Hang, &format!("{BEAT}{more}")).await;
    world.clock.set("2026-01-01T01:00:00Z");
    runs(&world).await;
    world.server.report(60);
    spends(&world, 60).await;
    world.server.report(40);
    spends(&world, 100).await;
    assert_eq!(world.history("beat").await[0].status, RunStatus::Running, "all of it may be used");
    world.server.report(1);
    let run = world.ended("beat").await;
    assert_eq!((told(&run).as_str(), run.attempt), ("failed(budget_exceeded)", 1));
    assert_eq!(run.error.as_deref(), Some("the run has taken 101 tokens, and its budget is 100"));
    assert_eq!(spent(&world).1, 101 + LAST_CALL, "the call that was under way");
    running.stop().await;
}

/// Attempts share the budget of their run.
#[tokio::test]
async fn a_further_attempt_needs_what_the_first_left() {
    for (budget, expected) in [
        ("tokens_per_run = 17", "the run has taken 17 tokens, and its budget is 17"),
        ("tokens_per_day = 10", "the budget of schedule beat is used up: 17 of 10 tokens a day"),
    ] {
        let more = format!("retries = 2\nretry_backoff = '1m'\nbudget = {{ {budget} }}\n");
        let (world, running) = world(Play::Stumble("busy"), &format!("{BEAT}{more}")).await;
        world.clock.set("2026-01-01T01:00:00Z");
        eventually("the attempt has ended", async || {
            world.history("beat").await.first().is_some_and(|run| run.attempts.len() == 1)
        })
        .await;
        world.clock.advance(TimeDelta::minutes(2));
        let run = world.ended("beat").await;
        assert_eq!((told(&run).as_str(), run.error.as_deref()), ("failed(budget_exceeded)", Some(expected)));
        assert_eq!(world.server.runs(), 1, "{budget}");
        running.stop().await;
    }
}

#[tokio::test]
async fn further_attempts_are_the_same_run() {
    let more = "retries = 1\nretry_backoff = '1m'\nbudget = { runs_per_day = 1 }\n";
    let (world, running) = world(Play::Stumble("busy"), &format!("{BEAT}{more}")).await;
    world.clock.set("2026-01-01T01:00:00Z");
    eventually("the attempt has ended", async || {
        world.history("beat").await.first().is_some_and(|run| run.attempts.len() == 1)
    })
    .await;
    world.server.play(Play::Answer("done"));
    world.clock.advance(TimeDelta::minutes(2));
    assert_eq!(told(&world.ended("beat").await), "completed");
    running.stop().await;
}

#[tokio::test]
async fn all_schedules_share_a_day_and_all_that_run_end_when_it_is_passed() {
    let other = BEAT.replace("beat", "other").replace("0 *", "1 *");
    let toml =
        format!("[budget]\ntokens_per_day = 100\n{BEAT}{other}{}", BEAT.replace("beat", "late").replace("0 *", "30 *"));
    let (world, running) = world(Play::Hang, &toml).await;
    world.clock.set("2026-01-01T01:00:00Z");
    runs(&world).await;
    world.server.report(99);
    spends(&world, 99).await;
    world.clock.set("2026-01-01T01:01:00Z");
    eventually("both run", async || world.server.runs() == 2).await;
    world.tells("other", &["running"]).await;
    world.server.report_of("autopilot: beat", 2);
    for name in ["beat", "other"] {
        world.tells(name, &["failed(budget_exceeded)"]).await;
    }
    let why = "the budget of all schedules together is exceeded: 101 of 100 tokens a day";
    assert_eq!(error(&world).await, why);
    world.clock.set("2026-01-01T01:30:00Z");
    world.tells("late", &["skipped(budget)"]).await;
    running.stop().await;
}

/// A-P44: no day's limit is exceeded by more than the call under way, and no call is counted twice, wherever the process dies.
#[tokio::test]
async fn over_a_crash_nothing_is_spent_twice_and_nothing_is_forgotten() {
    let toml = format!("{BEAT}budget = {{ tokens_per_day = 100 }}\n");
    let (world, running) = world(Play::Hang, &toml).await;
    world.clock.set("2026-01-01T01:00:00Z");
    runs(&world).await;
    world.server.report(60);
    spends(&world, 60).await;
    running.kill().await;
    world.server.report(41);
    let running = world.start().await;
    assert_eq!(told(&world.ended("beat").await), "failed(budget_exceeded)");
    assert_eq!(spent(&world), (3, 101 + LAST_CALL));
    running.kill().await;
    let running = world.start().await;
    assert_eq!(fires(&world, &["01T02"]).await.last().unwrap(), "skipped(budget)");
    assert_eq!((spent(&world).1, world.server.runs()), (101 + LAST_CALL, 1));
    running.stop().await;
}

/// A-P44: the limit is known to be passed, and the process dies before the server was told.
#[tokio::test]
async fn a_run_that_has_to_end_ends_at_the_next_start() {
    let (world, running) = world(Play::Hang, &format!("{BEAT}budget = {{ tokens_per_day = 100 }}\n")).await;
    world.clock.set("2026-01-01T01:00:00Z");
    world.tells("beat", &["running"]).await;
    eventually("it runs", async || world.history("beat").await[0].run_id.is_some()).await;
    let before = world.server.requests().len();
    eventually("its events are read", async || {
        world
            .server
            .requests()
            .iter()
            .filter(|request| request.contains("/events") || request.contains("/runs/"))
            .count()
            >= 2
    })
    .await;
    assert!(before > 0);
    let at = world.server.requests().len();
    world.server.die_later(Death { at, after_effect: false });
    world.server.report(101);
    world.server.died().await;
    running.kill().await;
    assert!(world.server.requests()[at].ends_with("/cancel"), "{:?}", world.server.requests());
    world.server.die(None);
    world.server.report(7);
    let running = world.start().await;
    assert_eq!(told(&world.ended("beat").await), "failed(budget_exceeded)");
    assert_eq!(error(&world).await, "the budget of schedule beat is exceeded: 101 of 100 tokens a day");
    assert_eq!((spent(&world).1, world.server.runs()), (108 + LAST_CALL, 1));
    running.stop().await;
}

/// A-P44: what was spent while nobody looked counts all the same.
#[tokio::test]
async fn a_run_that_ended_meanwhile_is_paid_for() {
    let (world, running) = world(Play::Hang, &format!("{BEAT}budget = {{ tokens_per_day = 100 }}\n")).await;
    world.clock.set("2026-01-01T01:00:00Z");
    eventually("it runs", async || world.history("beat").await.first().is_some_and(|run| run.run_id.is_some())).await;
    world.server.report(10);
    spends(&world, 10).await;
    running.kill().await;
    world.server.report(90);
    world.server.complete_all("done");
    let running = world.start().await;
    assert_eq!(told(&world.ended("beat").await), "completed");
    assert_eq!(spent(&world).1, 100 + LAST_CALL);
    assert_eq!(fires(&world, &["01T02"]).await, ["completed", "skipped(budget)"]);
    running.stop().await;
}

/// It is active until the server says how it ended, and then its row tells why, and what it took.
#[tokio::test]
async fn a_run_whose_end_is_not_confirmed_is_corrected() {
    let (world, running) = world(Play::Stuck, &format!("{BEAT}budget = {{ tokens_per_run = 100 }}\n")).await;
    world.clock.set("2026-01-01T01:00:00Z");
    runs(&world).await;
    world.server.report(101);
    eventually("nobody knows", async || {
        world.clock.advance(TimeDelta::seconds(10));
        world.history("beat").await[0].status == RunStatus::Unknown
    })
    .await;
    world.server.report(9);
    world.server.play(Play::Hang);
    world.tells("beat", &["failed(budget_exceeded)"]).await;
    assert_eq!(spent(&world).1, 110 + LAST_CALL);
    running.stop().await;
}

/// Once a day for each limit, and of the largest share only.
#[tokio::test]
async fn shares_of_a_limit_are_told_once_a_day() {
    let toml = format!(
        "[notifications]\nchannel = 'telegram'\ntarget = '42'\n[budget]\ntokens_per_day = 1000\nruns_per_day = 2\n\
         {}interaction = 'silent'\nnotify_on = 'none'\nbudget = {{ tokens_per_day = 100 }}\n",
        BEAT.replace("0 * *", "0 0-2 *")
    );
    let (world, running) = world(Play::Hang, &toml).await;
    world.clock.set("2026-01-01T01:00:00Z");
    runs(&world).await;
    let alerts = || -> Vec<String> {
        let connection = rusqlite::Connection::open(world.path()).unwrap();
        let sql = "SELECT body_json ->> '$.context.summary' FROM outbox WHERE event = 'budget' ORDER BY id";
        let mut rows = connection.prepare(sql).unwrap();
        rows.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    };
    let mut expected = Vec::new();
    world.server.report(79);
    spends(&world, 79).await;
    assert_eq!(alerts(), expected);
    world.server.report(3);
    spends(&world, 82).await;
    expected.push("80 % of the budget of schedule beat is reached: 82 of 100 tokens a day");
    assert_eq!(alerts(), expected);
    world.server.report(1);
    spends(&world, 83).await;
    assert_eq!(alerts(), expected, "it was told");
    world.server.complete_all("done");
    world.tells("beat", &["completed"]).await;
    expected.push("100 % of the budget of schedule beat is reached: 100 of 100 tokens a day");
    assert_eq!(alerts(), expected);
    world.server.play(Play::Answer("done"));
    let told = fires(&world, &["01T02", "02T00", "02T01"]).await;
    assert_eq!(told, ["completed", "skipped(budget)", "completed", "completed"]);
    expected.push("100 % of the budget of all schedules together is reached: 2 of 2 runs a day");
    assert_eq!(alerts(), expected, "a day later, from nothing");
    eventually("the chat is told", async || world.server.chat.shown().len() == expected.len()).await;
    running.stop().await;
}

/// And it is not tried again.
#[tokio::test]
async fn a_run_that_passes_its_dollars_is_ended() {
    let more = "retries = 2\nretry_on = 'any'\nbudget = { usd_per_run = 0.1 }\n";
    let (world, running) = world(Play::Hang, &format!("{BEAT}{more}")).await;
    world.clock.set("2026-01-01T01:00:00Z");
    runs(&world).await;
    world.server.report_costs("", 10, Some(60_000));
    pays(&world, 60_000).await;
    world.server.report_costs("", 10, Some(40_000));
    pays(&world, 100_000).await;
    let run = world.history("beat").await.remove(0);
    assert_eq!((run.status, run.cost_usd), (RunStatus::Running, Some(Usd::from_micros(100_000))), "all may be used");
    world.server.report_costs("", 10, Some(1));
    let run = world.ended("beat").await;
    assert_eq!((told(&run).as_str(), run.attempt), ("failed(budget_exceeded)", 1));
    assert_eq!(run.error.as_deref(), Some("the run has cost 0.100001 USD, and its budget is 0.1"));
    assert_eq!(run.cost_usd, Some(Usd::from_micros(100_001)));
    running.stop().await;
}

/// A-P44: what was spent while nobody looked counts, and a restart forgets nothing of it.
#[tokio::test]
async fn a_day_has_so_many_dollars_over_crashes() {
    for budget in ["[budget]\nusd_per_day = 1\n[[", "[["] {
        let of_all = budget.len() > 2;
        let own = if of_all { "" } else { "budget = { usd_per_day = 1.0 }\n" };
        let toml = format!("{}{own}", BEAT.replacen("[[", budget, 1));
        let (world, running) = world(Play::Hang, &toml).await;
        world.clock.set("2026-01-01T01:00:00Z");
        runs(&world).await;
        world.server.report_costs("", 10, Some(600_000));
        pays(&world, 600_000).await;
        running.kill().await;
        world.server.report_costs("", 10, Some(400_001));
        let running = world.start().await;
        assert_eq!(told(&world.ended("beat").await), "failed(budget_exceeded)");
        running.kill().await;
        let running = world.start().await;
        assert_eq!(fires(&world, &["01T02"]).await, ["failed(budget_exceeded)", "skipped(budget)"]);
        let whose = if of_all { "all schedules together" } else { "schedule beat" };
        let why = format!("the budget of {whose} is used up: 1.000001 of 1 USD a day");
        assert_eq!(world.history("beat").await[0].error, Some(why));
        let today = world.ledger.spent_today(&SharedBudget::default(), support::at("2026-01-01T03:00:00Z")).await;
        let today = today.unwrap();
        assert_eq!((today.usd, today.unpriced_tokens), (Usd::from_micros(1_000_001), 0));
        world.server.play(Play::Answer("done"));
        assert_eq!(fires(&world, &["02T00"]).await.last().unwrap(), "completed");
        assert_eq!(cost_limits(&world), [Some(1.0), Some(1.0)]);
        running.stop().await;
    }
}

/// The server is asked to end a run before a call that may pass the strictest of its limits.
#[tokio::test]
async fn the_server_is_told_what_a_run_may_cost() {
    for (shared, own, limit) in [
        ("", "", None),
        ("", "budget = { tokens_per_day = 9000 }", None),
        ("", "budget = { usd_per_run = 0.5, usd_per_day = 2 }", Some(0.5)),
        ("[budget]\nusd_per_day = 0.25\n", "budget = { usd_per_run = 0.5 }", Some(0.25)),
        ("[budget]\nusd_per_day = 0.25\n", "", Some(0.25)),
    ] {
        let (world, running) = world(Play::Answer("done"), &format!("{shared}{BEAT}{own}\n")).await;
        world.clock.set("2026-01-01T01:00:00Z");
        world.ended("beat").await;
        assert_eq!(cost_limits(&world), [limit], "{shared} {own}");
        running.stop().await;
    }
    let retried = format!("{BEAT}retries = 2\nretry_on = 'any'\nbudget = {{ usd_per_run = 0.5 }}\n");
    let (world, running) = world(Play::Broke("the next request may cost more"), &retried).await;
    world.clock.set("2026-01-01T01:00:00Z");
    let run = world.ended("beat").await;
    assert_eq!((told(&run).as_str(), world.server.runs()), ("failed(budget_exceeded)", 1));
    assert_eq!(run.error.as_deref(), Some("the next request may cost more"));
    running.stop().await;
}

/// The server ends the run by the limit of its message, which nobody wrote: the key that somebody wrote is told.
#[tokio::test]
async fn a_limit_that_the_server_keeps_is_named_by_the_key_that_sets_it() {
    for (shared, own, key) in [
        ("[budget]\nusd_per_day = 2\n", "budget = { usd_per_run = 0.5 }", "budget.usd_per_run of schedule beat"),
        ("", "budget = { usd_per_run = 0.5, usd_per_day = 0.25 }", "budget.usd_per_day of schedule beat"),
        ("[budget]\nusd_per_day = 0.25\n", "budget = { usd_per_run = 0.5 }", "usd_per_day of [budget]"),
    ] {
        let broke = Play::Broke("too dear; allow more with overrides.limits.cost_usd");
        let (world, running) = world(broke, &format!("{shared}{BEAT}{own}\n")).await;
        world.clock.set("2026-01-01T01:00:00Z");
        let run = world.ended("beat").await;
        assert_eq!(run.error, Some(format!("too dear; allow more with {key}")));
        running.stop().await;
    }
}

/// Whether the server knows it beforehand, or a call shows it.
#[tokio::test]
async fn without_a_price_a_limit_in_dollars_lets_nothing_run() {
    let toml = format!("{BEAT}retries = 2\nretry_on = 'any'\nbudget = {{ usd_per_day = 1 }}\n");
    let (first, running) = world(Play::Refuse(400, "price_unknown"), &toml).await;
    first.clock.set("2026-01-01T01:00:00Z");
    assert_eq!(told(&first.ended("beat").await), "failed(price_unknown)");
    running.stop().await;

    let (world, running) = world(Play::Hang, &toml).await;
    world.clock.set("2026-01-01T01:00:00Z");
    runs(&world).await;
    world.server.report(10);
    let run = world.ended("beat").await;
    assert_eq!((told(&run).as_str(), run.attempt, run.cost_usd), ("failed(price_unknown)", 1, None));
    assert!(run.error.as_ref().unwrap().contains("[cost.\"provider/id\"]"), "{run:?}");
    running.stop().await;
}

#[tokio::test]
async fn without_a_limit_in_dollars_a_price_need_not_be_known() {
    let (world, running) = world(Play::Hang, BEAT).await;
    world.clock.set("2026-01-01T01:00:00Z");
    runs(&world).await;
    world.server.report_costs("", 10, Some(5));
    pays(&world, 5).await;
    world.server.report(20);
    spends(&world, 30).await;
    world.server.complete_all("done");
    let run = world.ended("beat").await;
    assert_eq!((told(&run).as_str(), run.cost_usd), ("completed", None), "rather than only a part of it");
    let today = world.ledger.spent_today(&SharedBudget::default(), support::at("2026-01-01T03:00:00Z")).await.unwrap();
    assert_eq!((today.usd.micros(), today.tokens, today.unpriced_tokens), (5, 30 + LAST_CALL, 20 + LAST_CALL));
    running.stop().await;
}

#[tokio::test]
async fn shares_of_a_day_in_dollars_are_told() {
    let toml = format!(
        "[notifications]\nchannel = 'telegram'\ntarget = '42'\n\
         {BEAT}interaction = 'silent'\nnotify_on = 'none'\nbudget = {{ usd_per_day = 1 }}\n"
    );
    let (world, running) = world(Play::Hang, &toml).await;
    world.clock.set("2026-01-01T01:00:00Z");
    runs(&world).await;
    world.server.report_costs("", 10, Some(850_000));
    let told = "80 % of the budget of schedule beat is reached: 0.85 of 1 USD a day";
    eventually("the chat is told", async || format!("{:?}", world.server.chat.shown()).contains(told)).await;
    running.stop().await;
}
