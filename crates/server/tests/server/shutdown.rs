//! The drain: writes are refused, readers are told, runs that work get their time, nobody else is waited for.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use serde_json::{Value, json};
use stakpak_agent_core::AgentConfig;
use stakpak_server::Limits;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
    time::Instant,
};

use crate::support::{Step, TOKEN, TestServer};

/// What a drain may take in these tests; what must be done at once is done in a tenth of it.
const BUDGET: Duration = Duration::from_secs(20);
const AT_ONCE: Duration = Duration::from_secs(2);

/// A raw stream, opened: what comes is read later.
async fn open_stream(server: &TestServer, session: &str) -> TcpStream {
    let mut socket = TcpStream::connect(server.url.trim_start_matches("http://")).await.unwrap();
    let request = format!(
        "GET /v1/sessions/{session}/events HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {TOKEN}\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut head = [0; 12];
    socket.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    socket
}

/// P32: with 1,000 open streams and events that keep coming the server ends within its budget, and every stream is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_readers_do_not_hold_up_the_exit() {
    let server = TestServer::start([Step::Babble]).await;
    let mut run = server.run("go", json!("none")).await;
    run.until("text_delta").await;
    let mut sockets = Vec::new();
    for _ in 0..20 {
        sockets.extend(join_all((0..50).map(|_| open_stream(&server, &run.session))).await);
    }
    let readers = sockets.into_iter().map(|mut socket| {
        tokio::spawn(async move {
            let mut all = Vec::new();
            socket.read_to_end(&mut all).await.unwrap();
            String::from_utf8(all).unwrap()
        })
    });
    let readers = join_all(readers);
    let stopped = Instant::now();
    // The run does not end: it uses up its part.
    server.stop(AT_ONCE).await;
    assert!(stopped.elapsed() < BUDGET, "{:?}", stopped.elapsed());
    for told in readers.await {
        let told = told.unwrap();
        assert_eq!(told.matches("event: server_shutdown\n").count(), 1, "{told}");
        let (_, last) = told.split_once("event: server_shutdown\n").unwrap();
        assert!(last.contains("\"reconnect_after_ms\":1000") && !last.contains("\nid: "), "{last}");
    }
}

#[tokio::test]
async fn a_run_that_waits_for_a_person_does_not_hold_up_the_exit() {
    let server = TestServer::start([Step::Call(vec![("a", "stakpak__act", json!({}))])]).await;
    let mut run = server.run("go", json!("none")).await;
    run.until("waiting_for_tool_approval").await;
    let began = Instant::now();
    let directory = server.stop(BUDGET).await;
    assert!(began.elapsed() < BUDGET / 2, "{:?}", began.elapsed());
    // P9: it can be decided after the restart.
    let server = TestServer::start_in(directory, [Step::Say("done")], AgentConfig::default()).await;
    let decisions = json!({"run_id": run.run, "decisions": {"a": {"action": "accept"}}});
    let path = format!("/v1/sessions/{}/tools/decisions", run.session);
    assert_eq!(server.http().post(&path, decisions).await.1["results"]["a"], "applied");
}

#[tokio::test]
async fn a_queued_run_gets_no_slot_and_does_not_hold_up_the_exit() {
    let gate = Arc::new(Semaphore::new(0));
    let steps = [Step::SayGated(vec!["one", "."], gate.clone()), Step::Say("two")];
    let limits = AgentConfig { active_runs: 1, ..AgentConfig::default() };
    let server = TestServer::start_limited(steps, limits, Limits::default()).await;
    let mut first = server.run("first", json!("none")).await;
    first.until("text_delta").await;
    let second = server.run("second", json!("none")).await;
    let model = server.model.clone();
    let began = Instant::now();
    let (directory, ()) = tokio::join!(server.stop(BUDGET), async { gate.add_permits(1) });
    assert!(began.elapsed() < BUDGET / 2, "{:?}", began.elapsed());
    assert_eq!(model.requests.lock().unwrap().len(), 1, "the queued run was not started");
    let server = TestServer::start_in(directory, [Step::Say("two")], AgentConfig::default()).await;
    let mut events = server.client().subscribe_events(&second.session, Some(0)).await.unwrap();
    while !events.next_event().await.unwrap().is_run_terminal() {}
    let (_, messages) = server.http().get(&format!("/v1/sessions/{}/messages", first.session)).await;
    assert_eq!(messages["messages"][2]["content"][0]["text"], "one.", "the run that worked had ended: {messages}");
}

#[tokio::test]
async fn writes_are_refused_during_the_drain_and_reads_go_on() {
    let gate = Arc::new(Semaphore::new(0));
    let server = TestServer::start([Step::SayGated(vec!["one", "."], gate.clone())]).await;
    let mut run = server.run("go", json!("none")).await;
    run.until("text_delta").await;
    let http = server.http();
    let mut stream = open_stream(&server, &run.session).await;
    let draining = server.server.clone();
    let drained = tokio::spawn(async move { draining.drain(BUDGET).await });
    // The stream ends once the drain has begun.
    let mut told = String::new();
    while !told.contains("event: server_shutdown") {
        let mut more = [0; 1024];
        let length = stream.read(&mut more).await.unwrap();
        assert!(length > 0, "{told}");
        told.push_str(std::str::from_utf8(&more[..length]).unwrap());
    }
    let session = format!("/v1/sessions/{}", run.session);
    let message = json!({"message": {"role": "user", "content": "more"}, "run_id": run.run, "type": "follow_up"});
    let decisions = json!({"run_id": run.run, "decisions": {}});
    for (path, body) in [
        ("/v1/sessions".to_owned(), json!({"title": ""})),
        (format!("{session}/messages"), message),
        (format!("{session}/cancel"), json!({"run_id": run.run})),
        (format!("{session}/tools/decisions"), decisions),
    ] {
        let response = http.request(reqwest::Method::POST, &path).json(&body).send().await.unwrap();
        assert_eq!(response.status(), 503, "{path}");
        assert!(response.headers().contains_key("retry-after"), "{path}");
        assert_eq!(response.json::<Value>().await.unwrap()["code"], "shutting_down", "{path}");
    }
    let wrong = http.client.post(format!("{}/v1/sessions", server.url)).json(&json!({"title": ""}));
    assert_eq!(wrong.send().await.unwrap().status(), 401, "the token is checked first");
    for path in ["/v1/sessions", "/v1/health", &session] {
        assert_eq!(http.get(path).await.0, 200, "{path}");
    }
    gate.add_permits(1);
    tokio::time::timeout(BUDGET, drained).await.expect("the run has ended, so has the drain").unwrap();
    let (_, detail) = http.get(&session).await;
    assert_eq!(detail["session"]["run_status"], json!({"state": "idle"}));
}
