//! `kill -9` of the binary: what was seen stays, what was accepted goes on, nothing runs twice.

use crate::support::Home;
use serde_json::json;
use stakpak_client::{EventEnvelope, EventStream, Message, RunOverrides, SendMessageOptions};
use stakpak_protocol::{AutoApproveOverride, Event};
use stakpak_test_support::{Gate, Reply, ScriptedLlm};

pub(crate) fn configured(llm: &ScriptedLlm) -> Home {
    let home = Home::new();
    home.write(
        "config.toml",
        &format!(
            "[profiles.default]\nmodel = \"my/test\"\n[profiles.default.providers.my]\ntype = \"custom\"\napi_endpoint = \"{}\"\n",
            llm.base_url()
        ),
    );
    home
}

fn approve_all() -> SendMessageOptions {
    let overrides =
        RunOverrides { auto_approve: Some(AutoApproveOverride::Mode("all".into())), ..RunOverrides::default() };
    SendMessageOptions { overrides: Some(overrides), ..SendMessageOptions::default() }
}

async fn next(events: &mut EventStream) -> (EventEnvelope, String) {
    let event =
        tokio::time::timeout(crate::support::PATIENCE, events.next_event()).await.expect("an event in time").unwrap();
    (event.envelope().unwrap_or_else(|| panic!("{event:?}")), event.data)
}

pub(crate) async fn until_name(events: &mut EventStream, name: &str) -> Vec<(EventEnvelope, String)> {
    let mut seen = Vec::new();
    loop {
        seen.push(next(events).await);
        if seen.last().unwrap().0.event.name() == name {
            return seen;
        }
    }
}

/// Whether a `sleep` of this duration lives: each test has a duration of its own.
fn sleeps(duration: &str) -> bool {
    let wanted = format!("sleep\0{duration}\0").into_bytes();
    let mut processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes.any(|process| std::fs::read(process.path().join("cmdline")).is_ok_and(|line| line == wanted))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_in_mid_answer_replays_the_same_ids_and_ends_once() {
    let llm = ScriptedLlm::start().await;
    let gate = Gate::new();
    llm.push(Reply::text(["the first half "]).then_wait(&gate).then_text("and never the second"));
    llm.push(Reply::text(["the whole ", "answer"]));
    let home = configured(&llm);
    let up = home.up();
    let client = up.client();
    let session = client.create_session("crash").await.unwrap().id.to_string();
    let posted = client.send_messages(&session, vec![Message::user("go")], approve_all()).await.unwrap();
    let mut events = client.subscribe_events(&session, Some(posted.cursor)).await.unwrap();
    let before = until_name(&mut events, "text_delta").await;
    up.kill();

    let up = home.up();
    let mut events = up.client().subscribe_events(&session, Some(0)).await.unwrap();
    let after = until_name(&mut events, "run_completed").await;
    for ((_, first), (_, second)) in before.iter().zip(&after) {
        assert_eq!(first, second, "seen events are the same bytes");
    }
    assert!(after.windows(2).all(|pair| pair[0].0.id < pair[1].0.id));
    assert_eq!(after.iter().filter(|(envelope, _)| envelope.event.is_terminal()).count(), 1);
    let complete = after.iter().find_map(|(envelope, _)| match &envelope.event {
        Event::TextComplete { text, .. } => Some(text.clone()),
        _ => None,
    });
    assert_eq!(complete.as_deref(), Some("the whole answer"));
    let next_message = up.client().send_messages(&session, vec![Message::user("next")], approve_all()).await.unwrap();
    assert!(next_message.cursor >= after.last().unwrap().0.id.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_in_mid_call_runs_nothing_twice_and_leaves_no_process() {
    let llm = ScriptedLlm::start().await;
    // A duration of this test's own, so that its process is told from those of others.
    let duration = format!("987.{}", std::process::id());
    let command = format!("echo started >> witness; exec sleep {duration}");
    llm.push(Reply::tool_call("call_1", "stakpak__run_command", &json!({"command": command})));
    llm.push(Reply::text(["I do not know what became of it"]));
    let home = configured(&llm);
    let up = home.up_with(&["--workdir", home.directory.path().to_str().unwrap()]);
    let client = up.client();
    let session = client.create_session("crash").await.unwrap().id.to_string();
    client.send_messages(&session, vec![Message::user("go")], approve_all()).await.unwrap();
    crate::support::until("the command to start", || home.path("witness").exists().then_some(()));
    up.kill();

    let up = home.up();
    let mut events = up.client().subscribe_events(&session, Some(0)).await.unwrap();
    let seen = until_name(&mut events, "run_completed").await;
    let unknown = seen.iter().any(|(envelope, _)| match &envelope.event {
        Event::ToolExecutionCompleted { result, .. } => {
            result.as_str().is_some_and(|text| text.starts_with("OUTCOME_UNKNOWN"))
        }
        _ => false,
    });
    assert!(unknown, "{seen:#?}");
    assert_eq!(std::fs::read_to_string(home.path("witness")).unwrap(), "started\n", "the command ran once");
    assert_eq!(llm.requests().len(), 2, "the recorded answer is not asked for again");
    assert!(!sleeps(&duration), "a process of the call is still there");
}

/// A paused approval survives a kill, and a decision answered 200 just before one holds.
#[tokio::test(flavor = "multi_thread")]
async fn an_approval_survives_a_kill() {
    let llm = ScriptedLlm::start().await;
    llm.push(Reply::tool_call("call_1", "stakpak__run_command", &json!({"command": "echo once >> witness"})));
    let home = configured(&llm);
    let up = home.up_with(&["--workdir", home.directory.path().to_str().unwrap()]);
    let client = up.client();
    let session = client.create_session("crash").await.unwrap().id.to_string();
    client.send_messages(&session, vec![Message::user("go")], SendMessageOptions::default()).await.unwrap();
    let mut events = client.subscribe_events(&session, Some(0)).await.unwrap();
    until_name(&mut events, "waiting_for_tool_approval").await;
    up.kill();
    let up = home.up_with(&["--workdir", home.directory.path().to_str().unwrap()]);
    let client = up.client();
    let pending = client.pending_tools(&session).await.unwrap();
    let call = pending.tool_calls[0].id.to_string();
    let decision =
        stakpak_client::ToolDecisionInput { action: stakpak_client::ToolDecisionAction::Accept, content: None };
    let run = pending.run_id.unwrap().to_string();
    client.resolve_tools(&session, &run, [(call, decision)].into()).await.unwrap();
    let mut events = client.subscribe_events(&session, Some(0)).await.unwrap();
    until_name(&mut events, "run_completed").await;
    assert_eq!(std::fs::read_to_string(home.path("witness")).unwrap(), "once\n");
}

/// P5: a kill while a cancelled call's processes are being ended leaves them to the next start, which knows no run of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_right_after_a_cancel_leaves_no_process() {
    let llm = ScriptedLlm::start().await;
    let duration = format!("986.{}", std::process::id());
    // Deaf to SIGTERM, so that its end takes two seconds.
    let command = format!("trap '' TERM; echo started >> witness; sleep {duration}");
    llm.push(Reply::tool_call("call_1", "stakpak__run_command", &json!({"command": command})));
    let home = configured(&llm);
    let up = home.up_with(&["--workdir", home.directory.path().to_str().unwrap()]);
    let client = up.client();
    let session = client.create_session("crash").await.unwrap().id.to_string();
    let posted = client.send_messages(&session, vec![Message::user("go")], approve_all()).await.unwrap();
    crate::support::until("the command to start", || home.path("witness").exists().then_some(()));
    client.cancel_run(&session, &posted.run_id.to_string()).await.unwrap();
    up.kill();
    assert!(sleeps(&duration), "the kill came too late to prove anything");

    let _up = home.up();
    assert!(!sleeps(&duration), "ready, and the cancelled call's process is still there");
}

/// An instance with a run that hangs in mid-answer.
async fn hanging(llm: &ScriptedLlm, server: &str) -> (Home, crate::support::Up, String) {
    llm.push(Reply::text(["the first half "]).then_wait(&Gate::new()).then_text("and never the second"));
    let home = configured(llm);
    home.write("autopilot.toml", &format!("[server]\n{server}\n"));
    let up = home.up();
    let session = up.client().create_session("hangs").await.unwrap().id.to_string();
    let posted = up.client().send_messages(&session, vec![Message::user("go")], approve_all()).await.unwrap();
    let mut events = up.client().subscribe_events(&session, Some(posted.cursor)).await.unwrap();
    until_name(&mut events, "text_delta").await;
    (home, up, session)
}

/// A-P36: an hour unless the file says less.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_older_than_the_file_says_is_not_taken_over() {
    let llm = ScriptedLlm::start().await;
    let (home, up, session) = hanging(&llm, "resume_max_age = \"1ms\"").await;
    up.kill();
    let up = home.up();
    let mut events = up.client().subscribe_events(&session, Some(0)).await.unwrap();
    until_name(&mut events, "run_error").await;
    assert_eq!(llm.requests().len(), 1, "the model is not asked again");
}

/// A-P36: ten seconds unless the file says less.
#[tokio::test(flavor = "multi_thread")]
async fn a_drain_takes_no_longer_than_the_file_says() {
    let llm = ScriptedLlm::start().await;
    let (_home, up, _) = hanging(&llm, "drain_timeout = \"100ms\"").await;
    let began = std::time::Instant::now();
    assert_eq!(up.stop(), Some(0));
    assert!(began.elapsed() < std::time::Duration::from_secs(6), "{:?}", began.elapsed());
}
