//! What one client, or all together, may take: runs, commands, streams, bodies. Each bound has its own answer.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use stakpak_agent_core::AgentConfig;
use stakpak_protocol::{Event, RunLimits, Usd};
use stakpak_server::{ApprovalCeiling, Limits};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::Semaphore,
};

use crate::support::{Running, Setting, Step, TOKEN, TestServer, names};

/// Far above what anything here takes, far below what a test may.
const PATIENCE: Duration = Duration::from_secs(20);

fn one_run() -> AgentConfig {
    AgentConfig { active_runs: 1, backoff: Duration::from_millis(1), ..AgentConfig::default() }
}

async fn run_status(run: &Running) -> Value {
    run.http.get(&format!("/v1/sessions/{}", run.session)).await.1["session"]["run_status"].clone()
}

async fn run_state(run: &Running) -> Value {
    run.http.get(&format!("/v1/sessions/{}/runs/{}", run.session, run.run)).await.1["state"].clone()
}

/// The status once it is no longer what it was: queueing follows the answer to a request.
async fn status_when(run: &Running, wanted: impl Fn(&Value) -> bool) -> Value {
    let found = async {
        loop {
            let status = run_status(run).await;
            if wanted(&status) {
                return status;
            }
        }
    };
    tokio::time::timeout(PATIENCE, found).await.expect("the status comes")
}

fn queued_at(run: &Running, position: u64) -> Value {
    json!({"queue_position": position, "run_id": run.run, "state": "starting"})
}

async fn assert_queued(run: &Running, position: u64) {
    let wanted = queued_at(run, position);
    status_when(run, |status| *status == wanted).await;
    assert_eq!(run_state(run).await, "queued");
}

#[tokio::test]
async fn runs_beyond_the_bound_are_queued_and_start_in_order() {
    let gate = Arc::new(Semaphore::new(0));
    let steps = [Step::SayGated(vec!["one", "."], gate.clone()), Step::Say("two"), Step::Say("three")];
    let server = TestServer::start_limited(steps, one_run(), Limits::default()).await;
    let mut first = server.run("first", json!("none")).await;
    first.until("text_delta").await;
    let mut second = server.run("second", json!("none")).await;
    assert_queued(&second, 1).await;
    let mut third = server.run("third", json!("none")).await;
    assert_queued(&third, 2).await;
    assert_eq!(run_status(&first).await, json!({"run_id": first.run, "state": "running"}));
    let (_, list) = second.http.get("/v1/sessions").await;
    let listed = list["sessions"].as_array().unwrap().iter().find(|session| session["id"] == json!(second.session));
    assert_eq!(listed.unwrap()["run_status"], queued_at(&second, 1));
    assert_eq!(server.model.requests.lock().unwrap().len(), 1, "a queued run asks nothing");
    gate.add_permits(1);
    for run in [&mut first, &mut second, &mut third] {
        assert_eq!(names(&run.finish().await).last(), Some(&"run_completed"));
    }
    let asked = server.model.requests.lock().unwrap();
    let asked: Vec<_> = asked.iter().map(|request| request.session_id.to_string()).collect();
    assert_eq!(asked, [first.session, second.session, third.session]);
}

/// P5 for the state *queued*: the terminal event comes at once, and nobody behind is held up.
#[tokio::test]
async fn a_queued_run_can_be_cancelled() {
    let gate = Arc::new(Semaphore::new(0));
    let steps = [Step::SayGated(vec!["one", "."], gate.clone()), Step::Say("three")];
    let server = TestServer::start_limited(steps, one_run(), Limits::default()).await;
    let mut first = server.run("first", json!("none")).await;
    first.until("text_delta").await;
    let mut second = server.run("second", json!("none")).await;
    assert_queued(&second, 1).await;
    let mut third = server.run("third", json!("none")).await;
    assert_queued(&third, 2).await;
    let asked = std::time::Instant::now();
    assert_eq!(second.cancel().await.0, 200);
    let events = second.finish().await;
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    assert_eq!(names(&events), ["run_started", "run_completed"]);
    assert_eq!(run_status(&second).await, json!({"state": "idle"}));
    assert_queued(&third, 1).await;
    gate.add_permits(1);
    third.finish().await;
    assert_eq!(server.model.requests.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_run_that_waits_for_a_person_lets_others_work() {
    let gate = Arc::new(Semaphore::new(0));
    let steps = [
        Step::Call(vec![("a", "stakpak__act", json!({}))]),
        Step::SayGated(vec!["two", "."], gate.clone()),
        Step::Say("one"),
    ];
    let server = TestServer::start_limited(steps, one_run(), Limits::default()).await;
    let mut first = server.run("first", json!("none")).await;
    first.until("waiting_for_tool_approval").await;
    let mut second = server.run("second", json!("none")).await;
    second.until("text_delta").await;
    let waiting = json!({"pending_tool_calls": 1, "run_id": first.run, "state": "running"});
    assert_eq!(run_status(&first).await, waiting);
    assert_eq!(first.decide("a", "accept").await.1["results"]["a"], "applied");
    assert_queued(&first, 1).await;
    assert!(server.tools.acted.lock().unwrap().is_empty(), "no call without a slot");
    gate.add_permits(1);
    second.finish().await;
    assert_eq!(names(&first.finish().await).last(), Some(&"run_completed"));
    assert_eq!(server.tools.acted.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn recovered_runs_are_queued_too() {
    let server = TestServer::start([Step::Silence, Step::Silence, Step::Silence]).await;
    let mut runs = Vec::new();
    for _ in 0..3 {
        let mut run = server.run("go", json!("none")).await;
        run.until("turn_started").await;
        runs.push(run);
    }
    let directory = server.crash().await;
    let gate = Arc::new(Semaphore::new(0));
    let steps = (0..3).map(|_| Step::SayGated(vec!["again", "."], gate.clone()));
    let server = TestServer::start_in(directory, steps, one_run()).await;
    let http = server.http();
    let states = || async {
        let mut states = Vec::new();
        for run in &runs {
            let (_, detail) = http.get(&format!("/v1/sessions/{}", run.session)).await;
            let status = &detail["session"]["run_status"];
            states.push((status["state"].as_str().unwrap().to_owned(), status["queue_position"].as_u64()));
        }
        states.sort();
        states
    };
    let one_works = [("running".to_owned(), None), ("starting".to_owned(), Some(1)), ("starting".to_owned(), Some(2))];
    let reached = async { while states().await != one_works || server.model.requests.lock().unwrap().is_empty() {} };
    tokio::time::timeout(PATIENCE, reached).await.expect("one works, two are queued");
    assert_eq!(server.model.requests.lock().unwrap().len(), 1);
    gate.add_permits(3);
    for run in &runs {
        let mut events = server.client().subscribe_events(&run.session, Some(0)).await.unwrap();
        while !events.next_event().await.unwrap().is_run_terminal() {}
    }
}

/// P18: with a run that reads nothing, 1,000 follow-ups all get an answer.
#[tokio::test]
async fn follow_ups_that_nobody_reads_are_answered_and_bounded() {
    let server = TestServer::start([Step::Silence]).await;
    let mut run = server.run("go", json!("none")).await;
    run.until("turn_started").await;
    let path = format!("/v1/sessions/{}/messages", run.session);
    let body = json!({"message": {"role": "user", "content": "and?"}, "run_id": run.run, "type": "follow_up"});
    let send = || async {
        let response = run.http.request(Method::POST, &path).json(&body).send().await.unwrap();
        let retry_after = response.headers().contains_key("retry-after");
        (response.status().as_u16(), retry_after, response.json::<Value>().await.unwrap()["code"].clone())
    };
    let mut answers = Vec::new();
    for _ in 0..10 {
        let wave = join_all((0..100).map(|_| send()));
        // Each within a second, with a ten-fold margin.
        answers.extend(tokio::time::timeout(Duration::from_secs(10), wave).await.expect("all are answered"));
    }
    let accepted = answers.iter().filter(|answer| answer.0 == 200).count();
    let refused = answers.iter().filter(|answer| **answer == (429, true, json!("queue_full"))).count();
    assert_eq!((accepted, refused), (128, 872));
    assert_eq!(run.cancel().await.0, 200, "a full queue holds up nothing else");
    let end = run.finish().await.pop().unwrap().event;
    let Event::RunCompleted { unconsumed, .. } = end else { panic!("{end:?}") };
    assert_eq!(unconsumed.len(), 128, "what was accepted is reported");
}

async fn open(server: &TestServer, session: &str) -> reqwest::Response {
    server.http().request(Method::GET, &format!("/v1/sessions/{session}/events")).send().await.unwrap()
}

async fn new_session(server: &TestServer) -> String {
    server.http().post("/v1/sessions", json!({"title": ""})).await.1["id"].as_str().unwrap().to_owned()
}

async fn assert_too_many(response: reqwest::Response) {
    assert_eq!(response.status(), 429);
    assert!(response.headers().contains_key("retry-after"));
    assert_eq!(response.json::<Value>().await.unwrap()["code"], "too_many_streams");
}

/// Opens a stream as soon as an earlier one is gone.
async fn open_again(server: &TestServer, session: &str) -> reqwest::Response {
    let opened = async {
        loop {
            let response = open(server, session).await;
            if response.status() == 200 {
                return response;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, opened).await.expect("the stream that was closed counts no longer")
}

#[tokio::test]
async fn streams_are_bounded_by_session_and_in_all() {
    let limits = Limits { streams_per_session: 2, streams: 3, ..Limits::default() };
    let server = TestServer::start_limited([], AgentConfig::default(), limits).await;
    let (one, other) = (new_session(&server).await, new_session(&server).await);
    let first = open(&server, &one).await;
    let second = open(&server, &one).await;
    assert_eq!((first.status().as_u16(), second.status().as_u16()), (200, 200));
    assert_too_many(open(&server, &one).await).await;
    let third = open(&server, &other).await;
    assert_eq!(third.status(), 200, "the bound of a session is its own");
    assert_too_many(open(&server, &other).await).await;
    drop(first);
    let _fourth = open_again(&server, &other).await;
}

/// A client that accepts nothing at all is cut off; it comes back with its cursor.
#[tokio::test]
async fn a_stream_whose_client_accepts_nothing_is_closed() {
    let text: &'static str = "x".repeat(8 << 20).leak();
    let limits = Limits { streams: 1, ..Limits::default() };
    let directory = Arc::new(tempfile::tempdir().unwrap());
    let stall = Duration::from_millis(500);
    let steps = [Step::Say(text)];
    let server = TestServer::start_with(directory, steps, AgentConfig::default(), limits, stall).await;
    let session = new_session(&server).await;
    let message = json!({"message": {"role": "user", "content": "go"}});
    assert_eq!(server.http().post(&format!("/v1/sessions/{session}/messages"), message).await.0, 200);

    let address = server.url.trim_start_matches("http://").parse().unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut stalled = socket.connect(address).await.unwrap();
    let request = format!(
        "GET /v1/sessions/{session}/events?after=0 HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {TOKEN}\r\n\r\n"
    );
    stalled.write_all(request.as_bytes()).await.unwrap();
    let mut head = [0; 12];
    stalled.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    assert_too_many(open(&server, &session).await).await;
    let _next = open_again(&server, &session).await;
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let limits = Limits { body: 2_048, message_body: 4_096, ..Limits::default() };
    let server = TestServer::start_limited([Step::Say("yes")], AgentConfig::default(), limits).await;
    let http = server.http();
    let session = new_session(&server).await;
    let create = |size: usize| http.post("/v1/sessions", json!({"title": "", "x": "x".repeat(size)}));
    let path = format!("/v1/sessions/{session}/messages");
    let post =
        |size: usize| http.post(&path, json!({"message": {"role": "user", "content": "go"}, "x": "x".repeat(size)}));
    let code = |(status, body): (u16, Value)| (status, body["code"].as_str().unwrap_or_default().to_owned());
    let too_large = (413, "payload_too_large".to_owned());
    assert_eq!(create(1_500).await.0, 201);
    assert_eq!(code(create(2_500).await), too_large);
    assert_eq!(code(post(4_500).await), too_large);
    assert_eq!(post(2_500).await.0, 200, "a message may be larger");
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_given_up() {
    let limits = Limits { body_timeout: Duration::from_millis(200), ..Limits::default() };
    let server = TestServer::start_limited([], AgentConfig::default(), limits).await;
    let mut socket = TcpStream::connect(server.url.trim_start_matches("http://")).await.unwrap();
    let request = format!(
        "POST /v1/sessions HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {TOKEN}\r\n\
         content-type: application/json\r\ncontent-length: 100\r\n\r\n{{\"title\":"
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // The connection is closed behind the answer: the rest of the body would be taken for a request.
    tokio::time::timeout(PATIENCE, socket.read_to_end(&mut answer)).await.unwrap().unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains(r#""code":"request_timeout""#), "{answer}");
}

/// Posts with these overrides into a new session.
pub(crate) async fn post_with(server: &TestServer, overrides: Value) -> (u16, Value, String) {
    let session = new_session(server).await;
    let body = json!({"message": {"role": "user", "content": "go"}, "overrides": overrides});
    let (status, answer) = server.http().post(&format!("/v1/sessions/{session}/messages"), body).await;
    (status, answer, session)
}

/// How the session's run ended: the terminal event's name, and the code of its error.
pub(crate) async fn ended(server: &TestServer, session: &str) -> (String, Value) {
    let mut events = server.client().subscribe_events(session, Some(0)).await.unwrap();
    let last = async {
        loop {
            let event = events.next_event().await.unwrap();
            if event.is_run_terminal() {
                return event.envelope().unwrap().event.name().to_owned();
            }
        }
    };
    let name = tokio::time::timeout(PATIENCE, last).await.expect("the run ends");
    let (_, detail) = server.http().get(&format!("/v1/sessions/{session}")).await;
    (name, detail["session"]["run_status"]["last_error"]["code"].clone())
}

#[tokio::test]
async fn the_wall_clock_ends_a_silent_model_and_a_call_that_hangs() {
    let hangs = Step::Call(vec![("a", "stakpak__act", json!({"gated": true}))]);
    let server = TestServer::start([Step::Silence, hangs]).await;
    for _ in 0..2 {
        let overrides = json!({"auto_approve": "all", "limits": {"wall_clock_s": 1}});
        let (status, answer, session) = post_with(&server, overrides).await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(ended(&server, &session).await, ("run_error".to_owned(), json!("deadline_exceeded")));
    }
    assert_eq!(server.tools.acted.lock().unwrap().len(), 1, "the second run's call was started");
}

#[tokio::test]
async fn of_two_limits_the_stricter_holds() {
    for (server_limit, overrides) in [
        (Some(10), json!({"limits": {"tokens": 1_000_000}})),
        (Some(1_000_000), json!({"limits": {"tokens": 10}})),
        (Some(10), json!({})),
        (None, json!({"limits": {"tokens": 10}})),
    ] {
        let run = RunLimits { tokens: server_limit, ..RunLimits::default() };
        let limits = Limits { run, ..Limits::default() };
        let server = TestServer::start_limited([], AgentConfig::default(), limits).await;
        let (_, _, session) = post_with(&server, overrides).await;
        assert_eq!(ended(&server, &session).await, ("run_error".to_owned(), json!("budget_exceeded")));
        assert!(server.model.requests.lock().unwrap().is_empty(), "nothing was asked");
    }
    let server = TestServer::start([Step::Say("done")]).await;
    let (_, _, session) = post_with(&server, json!({"limits": {"tokens": 1_000_000, "wall_clock_s": 600}})).await;
    assert_eq!(ended(&server, &session).await.0, "run_completed");
}

/// C-P17: 12 tokens in at 3 dollars a million and 5 out at 15, twice.
#[tokio::test]
async fn what_an_answer_costs_is_told_with_it_and_of_the_run() {
    let server = TestServer::start([Step::Call(vec![("a", "stakpak__look", json!({}))]), Step::Say("done")]).await;
    let mut run = server.run("go", json!("all")).await;
    let events = run.finish().await;
    let costs = events.iter().filter_map(|envelope| match envelope.event {
        Event::UsageReport { cost_usd, .. } => Some(cost_usd.map(Usd::micros)),
        _ => None,
    });
    assert_eq!(costs.collect::<Vec<_>>(), [Some(36 + 75), Some(36 + 75)]);
    let (_, record) = run.http.get(&format!("/v1/sessions/{}/runs/{}", run.session, run.run)).await;
    assert_eq!(record["cost_usd"], json!(0.000_222));
    let server = TestServer::start([Step::Say("done")]).await;
    let (_, posted, session) = post_with(&server, json!({"model": "other"})).await;
    assert_eq!(ended(&server, &session).await.0, "run_completed");
    let run = posted["run_id"].as_str().unwrap();
    let (_, record) = server.http().get(&format!("/v1/sessions/{session}/runs/{run}")).await;
    assert_eq!(record["state"], "completed");
    assert_eq!(record.get("cost_usd"), None, "no price, no cost");
}

#[tokio::test]
async fn a_limit_of_cost_needs_a_price() {
    let server = TestServer::start([]).await;
    let (status, answer, _) = post_with(&server, json!({"limits": {"cost_usd": 1.0}, "model": "other"})).await;
    assert_eq!((status, &answer["code"]), (400, &json!("price_unknown")));
    let run = RunLimits { cost_usd: Some(1.0), ..RunLimits::default() };
    let limits = Limits { run, ..Limits::default() };
    let server = TestServer::start_limited([], AgentConfig::default(), limits).await;
    let (status, answer, _) = post_with(&server, json!({"model": "other"})).await;
    assert_eq!((status, &answer["code"]), (400, &json!("price_unknown")));
    assert!(server.model.requests.lock().unwrap().is_empty(), "nothing was started");
}

#[tokio::test]
async fn a_limit_of_nothing_is_refused_by_name() {
    let server = TestServer::start([]).await;
    for (limit, value) in [("wall_clock_s", json!(0)), ("tokens", json!(0)), ("cost_usd", json!(-1.0))] {
        let (status, answer, _) = post_with(&server, json!({"limits": {limit: value}})).await;
        assert_eq!((status, &answer["code"]), (400, &json!("invalid_overrides")));
        assert!(answer["error"].as_str().unwrap().contains(&format!("overrides.limits.{limit}")), "{answer}");
    }
}

/// P53: what a message may let run without a question ends at the ceiling.
#[tokio::test]
async fn overrides_above_the_approval_ceiling_are_refused() {
    let answers = |ceiling: ApprovalCeiling| async move {
        let limits = Limits { approval_ceiling: ceiling, ..Limits::default() };
        let steps = (0..6).map(|_| Step::Say("done"));
        let server = TestServer::start_limited(steps, AgentConfig::default(), limits).await;
        let mut answers = Vec::new();
        for asked in [json!("all"), json!(["*"]), json!(["look", "act"]), json!(["look"]), json!("none"), json!(null)] {
            let (status, answer, _) = post_with(&server, json!({"auto_approve": asked})).await;
            assert!(status == 200 || answer["code"] == "forbidden", "{answer}");
            answers.push(status);
        }
        answers
    };
    assert_eq!(answers(ApprovalCeiling::All).await, [200; 6]);
    assert_eq!(answers(ApprovalCeiling::tools(["look"])).await, [403, 403, 403, 200, 200, 200]);
    assert_eq!(answers(ApprovalCeiling::None).await, [403, 403, 403, 403, 200, 200]);
}

/// A profile's budget of a run holds for every run of it, and who meets it is told which key that was.
#[tokio::test]
async fn the_strictest_limit_is_named_by_its_key() {
    for (of_profile, of_server, asked, key) in [
        (Some(10), Some(20), json!({"limits": {"tokens": 30}}), "profiles.default.budget.tokens_per_run"),
        (Some(20), Some(10), json!({}), "server.limits.run_tokens"),
        (Some(20), None, json!({"limits": {"tokens": 10}}), "overrides.limits.tokens"),
    ] {
        let directory = std::sync::Arc::new(tempfile::tempdir().unwrap());
        let run = RunLimits { tokens: of_server, ..RunLimits::default() };
        let profile_limits = RunLimits { tokens: of_profile, ..RunLimits::default() };
        let setting =
            Setting { limits: Limits { run, ..Limits::default() }, profile_limits, ..Setting::on(&directory) };
        let server = TestServer::start_on(directory, [], setting).await;
        let (_, _, session) = post_with(&server, asked).await;
        assert_eq!(ended(&server, &session).await.0, "run_error");
        let (_, detail) = server.http().get(&format!("/v1/sessions/{session}")).await;
        let end = &detail["session"]["run_status"]["last_error"];
        assert!(end["message"].as_str().unwrap_or_default().contains(key), "{key}: {end}");
    }
}
