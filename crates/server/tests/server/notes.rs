//! What the server tells the model of its run: at the end of a request, and nowhere else.

use serde_json::{Value, json};
use stakpak_agent_core::{AgentConfig, ModelRequest, is_note};
use stakpak_protocol::{Event, Message, RunOverrides, StopDetail, StopReason};

use crate::support::{Running, Step, TestServer};

fn look(says: &'static str) -> Step {
    Step::Call(vec![("call", "stakpak__look", json!({ "says": says }))])
}

/// The conversation of a request, and the note behind it.
fn parted(request: &ModelRequest) -> (&[Message], Option<String>) {
    match request.messages.as_slice() {
        [conversation @ .., last] if is_note(&last.text()) => (conversation, Some(last.text())),
        conversation => (conversation, None),
    }
}

/// What a provider has cached of the conversation stays as it was, and no note gets into it.
fn assert_grows_at_its_end(requests: &[ModelRequest]) {
    let conversations: Vec<_> = requests.iter().map(|request| parted(request).0).collect();
    for pair in conversations.windows(2) {
        assert!(pair[1].starts_with(pair[0]), "{pair:#?}");
        assert!(pair[1].iter().all(|message| !message.text().contains("run_note")), "{pair:#?}");
    }
}

async fn run_of(server: &TestServer, session: &str, max_turns: u64) -> Running {
    let overrides = RunOverrides { max_turns: Some(max_turns), ..RunOverrides::default() };
    let body = json!({"message": {"role": "user", "content": "go"}, "overrides": overrides});
    let http = server.http();
    let (status, posted) = http.post(&format!("/v1/sessions/{session}/messages"), body).await;
    assert_eq!(status, 200, "{posted}");
    let events = server.client().subscribe_events(session, posted["cursor"].as_u64()).await.unwrap();
    Running { session: session.to_owned(), run: posted["run_id"].as_str().unwrap().to_owned(), events, http }
}

/// Section 2.3: the last of several turns is told, once; its calls still run, and the history has no note.
#[tokio::test]
async fn the_last_turn_is_told() {
    let server = TestServer::start([look("a"), look("b"), look("c"), Step::Say("one turn"), Step::Say("again")]).await;
    let session = server.http().session("").await;
    let mut run = run_of(&server, &session, 3).await;
    run.finish().await;
    assert_eq!(server.tools.acted.lock().unwrap().len(), 3, "calls of the last turn run");
    run_of(&server, &session, 1).await.finish().await;
    run_of(&server, &session, 64).await.finish().await;
    let requests = server.model.requests.lock().unwrap().clone();
    let notes: Vec<_> = requests.iter().map(|request| parted(request).1).collect();
    assert!(notes[2].as_ref().unwrap().contains("last turn"), "{notes:?}");
    assert_eq!(notes.iter().flatten().count(), 1, "{notes:?}");
    assert_grows_at_its_end(&requests);
    assert!(!run.messages().await.to_string().contains("run_note"));
}

/// C-P13: a run that repeats itself is told from the third time on and ended at the sixth, over a crash too.
#[tokio::test]
async fn a_run_that_repeats_itself_is_told_and_ended() {
    let server = TestServer::start((0..4).map(|_| look("full")).chain([Step::Silence])).await;
    let session = server.http().session("").await;
    let mut run = run_of(&server, &session, 64).await;
    for _ in 0..4 {
        run.until("turn_completed").await;
    }
    run.until("turn_started").await;
    while server.model.requests.lock().unwrap().len() < 5 {
        tokio::task::yield_now().await;
    }
    let mut requests = server.model.requests.lock().unwrap().clone();
    let directory = server.crash().await;

    let quick = AgentConfig { backoff: std::time::Duration::from_millis(1), ..AgentConfig::default() };
    let server = TestServer::start_in(directory, [look("full"), look("full"), Step::Say("never asked")], quick).await;
    let events = server.client().subscribe_events(&session, Some(0)).await.unwrap();
    let mut run = Running { events, http: server.http(), ..run };
    let Event::RunCompleted { stop_reason, detail, total_turns, .. } = run.finish().await.pop().unwrap().event else {
        panic!("it failed")
    };
    assert_eq!((stop_reason, detail, total_turns), (StopReason::MaxTurns, Some(StopDetail::NoProgress), 6));
    let (_, record) = run.http.get(&format!("/v1/sessions/{session}/runs/{}", run.run)).await;
    let told = ["state", "stop_reason", "detail"].map(|key| &record[key]);
    assert_eq!(told, [&json!("completed"), &json!("max_turns"), &json!("no_progress")], "{record}");

    let again = server.model.requests.lock().unwrap().clone();
    assert_eq!(again[0].messages, requests[4].messages, "a request that is repeated says the same");
    requests.extend(again.into_iter().skip(1));
    let notes: Vec<_> = requests.iter().map(|request| parted(request).1).collect();
    assert_eq!(notes.iter().map(Option::is_some).collect::<Vec<_>>(), [false, false, false, true, true, true]);
    for (times, note) in (3..).zip(&notes[3..]) {
        let note = note.as_ref().unwrap();
        assert!(note.contains(&format!("last {times} turns")) && !note.contains("last turn of"), "{note}");
    }
    assert_grows_at_its_end(&requests);
    let history: Value = run.messages().await;
    assert!(!history.to_string().contains("run_note"));
}
