//! Input that is wrong in any way: the first check that fails answers, each error has its body, nothing is recorded.

use std::path::Path;

use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use stakpak_agent_core::AgentConfig;
use stakpak_server::Limits;

use crate::support::{Http, Step, TOKEN, TestServer};

const UNKNOWN: &str = "00000000-0000-4000-8000-000000000000";
const SMALL: usize = 4_096;

/// Small bodies are large here.
async fn start(steps: impl IntoIterator<Item = Step>) -> TestServer {
    let limits = Limits { message_body: SMALL, body: SMALL, ..Limits::default() };
    TestServer::start_limited(steps, AgentConfig::default(), limits).await
}

fn wrong_token() -> String {
    format!("{}X", &TOKEN[..TOKEN.len() - 1])
}

/// The status and the code of an error, whose body is complete.
async fn error(response: Response) -> (u16, String) {
    let (url, status) = (response.url().clone(), response.status().as_u16());
    let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    let body: Value = response.json().await.unwrap_or_else(|error| panic!("{url} {status}: {error}"));
    assert_eq!(body["request_id"], json!(id), "{url}");
    assert!(body["error"].as_str().is_some_and(|error| !error.is_empty()), "{url} {body}");
    (status, body["code"].as_str().unwrap().to_owned())
}

/// A request of which everything may be wrong.
#[derive(Clone)]
struct Attempt {
    host: &'static str,
    origin: Option<&'static str>,
    method: Method,
    path: String,
    token: String,
    content_type: &'static str,
    key: &'static str,
    body: Vec<u8>,
}

impl Attempt {
    async fn send(self, http: &Http, url: &str) -> (u16, String) {
        let mut request = http.client.request(self.method, format!("{url}{}", self.path));
        if let Some(origin) = self.origin {
            request = request.header("origin", origin);
        }
        let request = request.header("host", self.host).bearer_auth(self.token);
        let request = request.header("content-type", self.content_type).header("idempotency-key", self.key);
        error(request.body(self.body).send().await.unwrap()).await
    }
}

/// One request with every fault at once; each answer takes the fault away that it names.
#[tokio::test]
async fn checks_come_in_the_order_of_the_contract() {
    let server = start([Step::Silence, Step::Silence]).await;
    let http = server.http();
    let user = json!({"message": {"role": "user", "content": "go"}});
    let deleted = http.session("deleted").await;
    let used = http.post_keyed(&format!("/v1/sessions/{deleted}/messages"), "used", user.clone()).await;
    assert_eq!((used.0, http.delete(&format!("/v1/sessions/{deleted}")).await.0), (200, 204));
    let mut running = server.run("go", json!("none")).await;
    running.until("turn_started").await;
    let (deleted, running) = (format!("/v1/sessions/{deleted}/messages"), &running.session);
    let blank = json!({"message": {"role": "user", "content": " "}});

    let mut attempt = Attempt {
        host: "evil.example",
        origin: Some("https://evil.example"),
        method: Method::PUT,
        path: "/v1/nowhere".to_owned(),
        token: wrong_token(),
        content_type: "text/plain",
        key: "used",
        body: vec![0xff; SMALL + 1],
    };
    type Mend<'a> = Box<dyn Fn(&mut Attempt) + 'a>;
    let checks: Vec<(u16, &str, Mend<'_>)> = vec![
        (403, "host_not_allowed", Box::new(|attempt| attempt.host = "127.0.0.1")),
        (403, "origin_not_allowed", Box::new(|attempt| attempt.origin = None)),
        (404, "not_found", Box::new(|attempt| attempt.path = "/v1/sessions/no-uuid/messages".to_owned())),
        (405, "method_not_allowed", Box::new(|attempt| attempt.method = Method::POST)),
        (401, "unauthorized", Box::new(|attempt| attempt.token = TOKEN.to_owned())),
        (400, "invalid_path", Box::new(|attempt| attempt.path.clone_from(&deleted))),
        (413, "payload_too_large", Box::new(|attempt| attempt.body.truncate(SMALL))),
        (415, "unsupported_media_type", Box::new(|attempt| attempt.content_type = "application/json")),
        (400, "invalid_json", Box::new(|attempt| attempt.body = b"{\"message\": 1, ".to_vec())),
        (400, "invalid_json", Box::new(|attempt| attempt.body = b"{\"message\": 1}".to_vec())),
        (422, "invalid_body", Box::new(|attempt| attempt.body = blank.to_string().into_bytes())),
        (409, "idempotency_key_reused", Box::new(|attempt| attempt.key = "")),
        (400, "invalid_idempotency_key", Box::new(|attempt| attempt.key = "fresh")),
        (404, "not_found", Box::new(|attempt| attempt.path = format!("/v1/sessions/{running}/messages"))),
        (400, "invalid_request", Box::new(|attempt| attempt.body = user.to_string().into_bytes())),
        (409, "session_already_running", Box::new(|_| {})),
    ];
    for (step, (status, code, mend)) in checks.into_iter().enumerate() {
        let answer = attempt.clone().send(&http, &server.url).await;
        assert_eq!(answer, (status, code.to_owned()), "check {step}");
        mend(&mut attempt);
    }
}

/// A body that fits a route, with each of its optional fields.
fn fitting(method: &str, path: &str) -> Value {
    let action = json!({"action": "accept", "by": "a", "content": "c", "scope": "once"});
    let mut decision = action.clone();
    decision["run_id"] = json!(UNKNOWN);
    match path.rsplit('/').next().unwrap() {
        "sessions" => json!({"cwd": "/", "title": "x"}),
        "{session_id}" if method == "patch" => json!({"title": "x", "visibility": "PRIVATE"}),
        "messages" => json!({
            "context": [{"content": "c", "name": "n", "priority": "high"}],
            "message": {"content": "go", "name": "n", "role": "user"},
            "model": "test/scripted",
            "overrides": {"max_turns": 1},
            "run_id": UNKNOWN,
            "sandbox": false,
            "type": "message",
        }),
        "decisions" | "resolve" => json!({"decisions": {"a": action}, "run_id": UNKNOWN}),
        "decision" => decision,
        "model" => json!({"model": "test/other", "run_id": UNKNOWN}),
        "cancel" => json!({"run_id": UNKNOWN}),
        _ => panic!("write down a body for {method} {path}"),
    }
}

/// What is wrong, the request, and its documented answer.
type Case = (String, RequestBuilder, u16, &'static str);

/// Wrong bodies for one route.
fn bodies(http: &Http, method: &str, template: &str, path: &str) -> Vec<Case> {
    let send = |body: Vec<u8>| {
        let request = http.request(method.to_uppercase().parse().unwrap(), path);
        request.header("content-type", "application/json").body(body)
    };
    let fitting = fitting(method, template);
    let mut large = fitting.clone();
    large["unknown"] = json!("x".repeat(SMALL));
    let mut cases = vec![
        ("huge".to_owned(), send(large.to_string().into_bytes()), 413, "payload_too_large"),
        ("no JSON".to_owned(), send(b"{".to_vec()), 400, "invalid_json"),
        ("empty".to_owned(), send(Vec::new()), 400, "invalid_json"),
        ("two values".to_owned(), send(format!("{fitting} {{}}").into_bytes()), 400, "invalid_json"),
        ("not UTF-8".to_owned(), send(b"{\"unknown\": \"\xc3\x28\"}".to_vec()), 400, "invalid_json"),
        ("deep".to_owned(), send("[".repeat(2_000).into_bytes()), 400, "invalid_json"),
    ];
    let plain = http.request(method.to_uppercase().parse().unwrap(), path).body(fitting.to_string());
    cases.push(("media type".to_owned(), plain, 415, "unsupported_media_type"));
    for wrong in [json!(null), json!(1), json!("x"), json!([]), json!([fitting])] {
        cases.push((format!("{wrong}"), send(wrong.to_string().into_bytes()), 422, "invalid_body"));
    }
    for field in fitting.as_object().unwrap().keys() {
        for wrong in [json!([[[]]]), json!(-1.5)] {
            let mut body = fitting.clone();
            body[field] = wrong;
            cases.push((format!("{field}: {}", body[field]), send(body.to_string().into_bytes()), 422, "invalid_body"));
        }
    }
    cases
}

/// Every wrong request for one operation of the document.
fn cases(
    http: &Http,
    server: &TestServer,
    session: &str,
    template: &str,
    method: &str,
    operation: &Value,
) -> Vec<Case> {
    let verb: Method = method.to_uppercase().parse().unwrap();
    let takes_body = !operation["requestBody"].is_null();
    let at = |session: &str, run: &str| {
        template.replace("{session_id}", session).replace("{run_id}", run).replace("{tool_call_id}", "a")
    };
    let path = at(session, UNKNOWN);
    let request = |path: &str| {
        let request = http.request(verb.clone(), path);
        if takes_body { request.json(&fitting(method, template)) } else { request }
    };
    let mut cases = vec![
        ("host".to_owned(), request(&path).header("host", "evil.example"), 403, "host_not_allowed"),
        ("origin".to_owned(), request(&path).header("origin", "https://evil.example"), 403, "origin_not_allowed"),
        ("method".to_owned(), http.request(Method::PUT, &path), 405, "method_not_allowed"),
        ("slash".to_owned(), request(&format!("{path}/")), 404, "not_found"),
    ];
    if !operation["security"].is_null() {
        for token in [wrong_token(), format!("{TOKEN}x"), String::new()] {
            let request = http.client.request(verb.clone(), format!("{}{path}", server.url)).bearer_auth(token);
            cases.push(("token".to_owned(), request, 401, "unauthorized"));
        }
    }
    if template.contains("{session_id}") {
        cases.push(("session id".to_owned(), request(&at("no-uuid", UNKNOWN)), 400, "invalid_path"));
        cases.push(("unknown session".to_owned(), request(&at(UNKNOWN, UNKNOWN)), 404, "not_found"));
    }
    if template.contains("{run_id}") {
        cases.push(("run id".to_owned(), request(&at(session, "no-uuid")), 400, "invalid_path"));
        cases.push(("unknown run".to_owned(), request(&path), 404, "not_found"));
    }
    for parameter in operation["parameters"].as_array().into_iter().flatten().filter(|one| one["in"] == "query") {
        let name = parameter["name"].as_str().unwrap();
        if name != "search" {
            let wrong = request(&format!("{path}?{name}=-odd"));
            cases.push((format!("query {name}"), wrong, 400, "invalid_query"));
        }
    }
    if takes_body {
        cases.extend(bodies(http, method, template, &path));
    }
    cases
}

/// The journal as it is stored.
fn stored(directory: &Path) -> Vec<Vec<u8>> {
    ["journal.db", "journal.db-wal"].map(|name| std::fs::read(directory.join(name)).unwrap_or_default()).to_vec()
}

/// P35: every route of the document answers every kind of bad input with the documented error, and nothing is recorded.
#[tokio::test]
async fn bad_input_has_its_answer_on_every_route_and_changes_nothing() {
    let server = start([Step::Call(vec![("a", "stakpak__act", json!({}))])]).await;
    let mut run = server.run("go", json!("none")).await;
    run.until("waiting_for_tool_approval").await;
    let document = serde_json::to_value(stakpak_server::openapi()).unwrap();
    let before = stored(server.directory.path());
    assert!(before.iter().any(|file| file.len() > 1_000), "the journal was found");
    let (mut sent, mut host) = (0, 1);
    for (template, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            // Too many wrong tokens from one address get another answer.
            host += 1;
            let http = server.http_from(host);
            for (fault, request, status, code) in cases(&http, &server, &run.session, template, method, operation) {
                let answer = error(request.send().await.unwrap()).await;
                assert_eq!(answer, (status, code.to_owned()), "{method} {template}: {fault}");
                let status = status.to_string();
                let documented = !operation["responses"][&status].is_null() || fault == "method" || fault == "slash";
                assert!(documented, "{method} {template}: {status} is not documented");
                sent += 1;
            }
        }
    }
    assert!(sent > 200, "{sent}");
    assert!(before == stored(server.directory.path()), "nothing was recorded");
    assert_eq!(run.decide("a", "accept").await.1["results"]["a"], "applied", "and the run goes on");
    assert!(before != stored(server.directory.path()), "a change is seen");
}

/// HEAD has the status and headers of GET, and no body.
#[tokio::test]
async fn head_works_where_get_does() {
    let server = start([Step::Say("done")]).await;
    let mut run = server.run("go", json!("none")).await;
    run.finish().await;
    let document = serde_json::to_value(stakpak_server::openapi()).unwrap();
    for (template, item) in document["paths"].as_object().unwrap() {
        if item["get"].is_null() {
            continue;
        }
        let path = template.replace("{session_id}", &run.session).replace("{run_id}", &run.run);
        let get = run.http.request(Method::GET, &path).send().await.unwrap();
        let head = run.http.request(Method::HEAD, &path).send().await.unwrap();
        assert_eq!((head.status().as_u16(), get.status()), (200, head.status()), "{path}");
        assert_eq!(head.headers().get("content-type"), get.headers().get("content-type"), "{path}");
        assert!(head.bytes().await.unwrap().is_empty(), "{path}");
    }
}

/// A route that names no platform, or no chat there, is refused by the name of its field before anything happens. Which
/// platforms there are is not the server's to know.
#[tokio::test]
async fn a_route_for_notices_has_a_platform_and_a_chat() {
    let server = TestServer::start([Step::Say("done"), Step::Say("done")]).await;
    let http = server.http();
    let session = http.session("test").await;
    let messages = format!("/v1/sessions/{session}/messages");
    let with = |route: Value| json!({"message": {"role": "user", "content": "go"}, "notify_route": route});
    for (route, status, field) in [
        (json!({"channel": "", "target": {"chat_id": "1"}}), 400, "notify_route.channel"),
        (json!({"channel": " \t", "target": {"chat_id": "1"}}), 400, "notify_route.channel"),
        (json!({"channel": "telegram", "target": {}}), 400, "notify_route.target"),
        (json!({"channel": "telegram", "target": "1"}), 422, "notify_route.target"),
        (json!({"channel": "telegram"}), 422, "target"),
        (json!({"target": {"chat_id": "1"}}), 422, "channel"),
        (json!("telegram"), 422, "notify_route"),
    ] {
        let (answered, answer) = http.post(&messages, with(route.clone())).await;
        assert_eq!((answered, answer["error"].as_str().unwrap().contains(field)), (status, true), "{route}: {answer}");
    }
    let detail = http.get(&format!("/v1/sessions/{session}")).await.1;
    assert_eq!(detail["session"]["last_event_id"], 0, "nothing was recorded");
    for route in [json!({"channel": "carrier-pigeon", "target": {"loft": 3, "thread": null}}), Value::Null] {
        let session = http.session("test").await;
        let (status, answer) = http.post(&format!("/v1/sessions/{session}/messages"), with(route.clone())).await;
        assert_eq!(status, 200, "{route}: {answer}");
    }
}
