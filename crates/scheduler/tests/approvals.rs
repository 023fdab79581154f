//! Runs that wait for a person: what is decided is durable, names the calls, and is told to whoever comes too late.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::HashMap;

use chrono::TimeDelta;
use stakpak_client::{StakpakClient, ToolDecisionInput};
use stakpak_protocol::{ToolCallId, ToolDecisionAction};
use stakpak_scheduler::{CancelError, Clock, Decide, DecideError, RunNumber, RunRecord, RunStatus, TriggerOptions};
use support::{
    Running, World, eventually,
    server::{Death, Play},
    told,
};

const BEAT: &str = "[[schedules]]\nname = 'beat'\ncron = '0 * * * *'\nprompt = 'tidy up'\ntimeout = '30m'\n\
     pause_on_approval = true\napproval_timeout = '2h'\noverlap = 'queue_all'\n";

fn approve_all(by: &str) -> Decide {
    Decide { approve_all: true, by: by.to_owned(), ..Decide::default() }
}

async fn last(world: &World) -> RunRecord {
    world.history("beat").await.pop().unwrap()
}

async fn is_paused(world: &World) -> bool {
    world.history("beat").await.last().is_some_and(|run| run.status == RunStatus::Paused)
}

async fn paused() -> (World, Running) {
    paused_with(Play::Ask).await
}

async fn paused_with(play: Play) -> (World, Running) {
    let world = World::new("2026-01-01T00:59:30Z", BEAT).await;
    world.server.play(play);
    let running = world.start().await;
    world.clock.set("2026-01-01T01:00:00Z");
    eventually("it waits", async || is_paused(&world).await).await;
    (world, running)
}

async fn decide(world: &World, decide: Decide) -> Result<RunRecord, DecideError> {
    world.ledger.decide(RunNumber(1), decide, world.clock.now()).await
}

/// A-P15: what was approved is what runs, also when the process was killed between the question and the answer.
#[tokio::test]
async fn a_decision_made_while_nothing_runs_is_told_to_the_server_at_the_next_start() {
    let (world, running) = paused().await;
    running.kill().await;
    let waiting = last(&world).await;
    assert_eq!(waiting.resume_hint.as_deref(), Some("stakpak schedule resume run:1 --approve-all"));
    assert_eq!(waiting.approval_expires_at, Some(support::at("2026-01-01T03:00:00Z")));
    let run = decide(&world, approve_all("cli")).await.unwrap();
    assert_eq!((run.status, run.pause_reason, run.resume_hint), (RunStatus::Running, None, None));
    assert_eq!(world.server.decisions(), []);

    let running = world.start().await;
    let run = world.ended("beat").await;
    assert_eq!(told(&run), "completed");
    let [request] = world.server.decisions().try_into().unwrap();
    assert_eq!(Some(request.run_id), run.run_id);
    let decision = &request.decisions[&ToolCallId::from("call_1")];
    assert_eq!((request.decisions.len(), decision.action), (1, ToolDecisionAction::Accept));
    assert_eq!(decision.by.as_deref(), Some("cli"));

    let again = decide(&world, approve_all("http")).await.unwrap_err().to_string();
    assert!(again.contains("it is completed (cli approved call_1 at 2026-01-01T01:00:00Z)"), "{again}");
    running.stop().await;
}

/// The wait counts against no limit, and a scheduler that runs tells the server at once.
#[tokio::test]
async fn a_run_that_waited_longer_than_its_time_limit_goes_on() {
    let (world, running) = paused().await;
    world.clock.set("2026-01-01T02:30:00Z");
    eventually("the next fire waits", async || world.told("beat").await.len() == 2).await;
    let rejected = Decide {
        reject: vec!["call_1".to_owned()],
        message: Some("not on Fridays".to_owned()),
        by: "Ann".to_owned(),
        ..Decide::default()
    };
    running.handle.decide(RunNumber(1), rejected).await.unwrap();
    eventually("it ends", async || told(&last(&world).await) == "completed").await;
    let decision = world.server.decisions()[0].decisions[&ToolCallId::from("call_1")].clone();
    assert_eq!((decision.action, decision.content.as_deref()), (ToolDecisionAction::Reject, Some("not on Fridays")));
    running.stop().await;
}

#[tokio::test]
async fn what_nobody_decides_is_rejected_in_time_and_the_run_goes_on() {
    let (world, running) = paused().await;
    world.clock.set("2026-01-01T02:59:59Z");
    assert_eq!(world.server.decisions(), []);
    world.clock.set("2026-01-01T03:00:00Z");
    eventually("it ends", async || told(&last(&world).await) == "completed").await;
    let decision = world.server.decisions()[0].decisions[&ToolCallId::from("call_1")].clone();
    assert_eq!(decision.action, ToolDecisionAction::Reject);
    let late = decide(&world, approve_all("cli")).await.unwrap_err().to_string();
    assert!(late.contains("expiry rejected call_1 at 2026-01-01T03:00:00Z"), "{late}");
    running.stop().await;
}

#[tokio::test]
async fn a_run_that_comes_to_nothing_without_the_decision_has_failed_for_that_reason() {
    let (world, running) = paused_with(Play::AskInVain).await;
    world.clock.advance(TimeDelta::hours(2));
    eventually("it ends", async || told(&last(&world).await) == "failed(approval_expired)").await;
    running.stop().await;
}

/// Also when the process was down at that time: the first who comes too late is told so.
#[tokio::test]
async fn after_the_time_no_decision_counts_even_if_nobody_was_there_to_say_so() {
    let (world, running) = paused().await;
    running.kill().await;
    world.clock.set("2026-01-01T03:00:00Z");
    let late = decide(&world, approve_all("cli")).await.unwrap_err();
    assert!(late.to_string().contains("expiry rejected call_1"), "{late}");
    let running = world.start().await;
    eventually("it ends", async || told(&last(&world).await) == "completed").await;
    let actions: Vec<_> = world.server.decisions()[0].decisions.values().map(|decision| decision.action).collect();
    assert_eq!(actions, [ToolDecisionAction::Reject]);
    running.stop().await;
}

/// Such as the button in a chat.
#[tokio::test]
async fn a_decision_made_at_the_server_lets_the_run_go_on_and_is_known_here() {
    let (world, running) = paused().await;
    let run = last(&world).await;
    let accept = ToolDecisionInput { action: ToolDecisionAction::Accept, content: None };
    let decisions = HashMap::from([("call_1".to_owned(), accept)]);
    let (session, id) = (run.session_id.unwrap().to_string(), run.run_id.unwrap().to_string());
    StakpakClient::new(&world.server.url, "").resolve_tools(&session, &id, decisions).await.unwrap();
    let run = world.ended("beat").await;
    let [decided] = run.decisions.clone().try_into().unwrap();
    assert_eq!((decided.action, decided.by.as_str()), (ToolDecisionAction::Accept, "client"));
    let again = decide(&world, approve_all("cli")).await.unwrap_err().to_string();
    assert!(again.contains("client approved call_1"), "{again}");
    running.stop().await;
}

#[tokio::test]
async fn a_decision_names_calls_that_wait_and_is_made_once_for_a_key() {
    let (world, running) = paused().await;
    running.kill().await;
    let refused = async |said: Decide| decide(&world, said).await.unwrap_err().to_string();
    assert!(refused(Decide::default()).await.contains("nothing is decided"));
    assert!(refused(Decide { reject_all: true, ..approve_all("cli") }).await.contains("contradict"));
    let call = |name: &str| vec![name.to_owned()];
    let both = Decide { approve: call("call_1"), reject: call("call_1"), ..Decide::default() };
    assert!(refused(both).await.contains("both approved and rejected"));
    let other = refused(Decide { approve: call("call_9"), ..Decide::default() }).await;
    assert!(other.contains("call `call_9`; it waits with: call_1"), "{other}");
    let unknown = world.ledger.decide(RunNumber(9), approve_all("cli"), world.clock.now()).await.unwrap_err();
    assert_eq!(unknown.to_string(), "there is no scheduled run 9");
    assert!(is_paused(&world).await, "what is refused changes nothing");

    let keyed = Decide { key: Some("k".to_owned()), ..approve_all("cli") };
    decide(&world, keyed.clone()).await.unwrap();
    assert_eq!(decide(&world, keyed.clone()).await.unwrap().status, RunStatus::Running);
    let other = Decide { approve_all: false, reject_all: true, ..keyed };
    assert!(matches!(decide(&world, other).await, Err(DecideError::KeyReused)));
}

/// G10: wherever the process dies, the decision reaches the server, and it is the one that was made.
#[tokio::test]
async fn a_decision_survives_a_death_at_every_request() {
    for after_effect in [false, true] {
        for at in 0.. {
            let world = World::new("2026-01-01T00:59:30Z", BEAT).await;
            world.start().await.stop().await;
            world.clock.set("2026-01-01T01:00:00Z");
            world.server.play(Play::Ask);
            world.server.die(Some(Death { at, after_effect }));
            let running = world.start().await;
            let person = async {
                eventually("it waits", async || is_paused(&world).await).await;
                running.handle.decide(RunNumber(1), approve_all("cli")).await.unwrap();
                world.ended("beat").await;
            };
            let died = tokio::select! {
                () = world.server.died() => true,
                () = person => false,
            };
            running.kill().await;
            world.server.die(None);
            let running = world.start().await;
            eventually("it waits or ends", async || last(&world).await.status != RunStatus::Running).await;
            if is_paused(&world).await {
                running.handle.decide(RunNumber(1), approve_all("cli")).await.unwrap();
            }
            let point = format!("request {at}, after its effect: {after_effect}");
            assert_eq!(told(&world.ended("beat").await), "completed", "{point}");
            let [request] = world.server.decisions().try_into().unwrap();
            let actions: Vec<_> = request.decisions.values().map(|decision| decision.action).collect();
            assert_eq!((actions, world.server.runs()), (vec![ToolDecisionAction::Accept], 1), "{point}");
            running.stop().await;
            if !died {
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_person_ends_what_waits_for_its_turn_at_once_and_what_is_at_work_when_the_server_says_so() {
    let (world, running) = paused().await;
    let waiting = running.handle.trigger("beat", TriggerOptions::default()).await.unwrap();
    let cancelled = running.handle.cancel(waiting.id, None).await.unwrap();
    assert_eq!(told(&cancelled), "cancelled(user)");
    let under = |key: &str| running.handle.cancel(RunNumber(1), Some(key.to_owned()));
    assert_eq!(under("mine").await.unwrap().status, RunStatus::Paused);
    eventually("the paused one ends", async || told(&last(&world).await) == "cancelled(user)").await;
    let again = running.handle.cancel(RunNumber(1), None).await.unwrap_err();
    assert_eq!(again.to_string(), "scheduled run 1 has ended: it is cancelled");
    assert_eq!(told(&under("mine").await.unwrap()), "cancelled(user)", "a repeated request has its answer");
    assert!(under("another").await.is_err());
    assert!(matches!(running.handle.cancel(RunNumber(9), None).await, Err(CancelError::Unknown { .. })));

    // Asked while nothing runs, it is done by the next scheduler.
    world.server.play(Play::Hang);
    let run = running.handle.trigger("beat", TriggerOptions::default()).await.unwrap();
    let at_work = async || running.handle.run(run.id).await.unwrap().unwrap().run_id.is_some();
    eventually("it is at work", at_work).await;
    running.kill().await;
    world.ledger.cancel(run.id, None, world.clock.now()).await.unwrap();
    let running = world.start().await;
    assert_eq!(told(&world.ended("beat").await), "cancelled(user)");
    running.stop().await;
}
