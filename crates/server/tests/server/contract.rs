//! Access, errors, shapes, idempotency.

use crate::support::{Step, TOKEN, TestServer, answer};
use reqwest::Method;
use serde_json::{Value, json};

/// P49: a foreign `Host` or `Origin` is refused on every route.
#[tokio::test]
async fn foreign_hosts_and_origins_are_refused() {
    let server = TestServer::start([]).await;
    let http = server.http();
    for path in
        ["/v1/health", "/v1/openapi.json", "/v1/ready", "/docs", "/metrics", "/v1/sessions", "/v1/models", "/nowhere"]
    {
        for host in ["evil.example", "127.0.0.1.evil.example:80"] {
            let (status, body) = answer(http.request(Method::GET, path).header("host", host)).await;
            assert_eq!((status, &body["code"]), (403, &json!("host_not_allowed")), "{path}");
        }
        for origin in ["https://evil.example", "null", "http://127.0.0.1:4096"] {
            let response = http.request(Method::OPTIONS, path).header("origin", origin).send().await.unwrap();
            assert_eq!(response.status(), 403, "{path} {origin}");
            assert!(response.headers().keys().all(|name| !name.as_str().starts_with("access-control")));
        }
    }
}

/// P50: a token that is wrong in its last byte, too short, too long or empty is 401.
#[tokio::test]
async fn wrong_tokens_are_refused() {
    let server = TestServer::start([]).await;
    let http = server.http();
    let last_byte = format!("{}X", &TOKEN[..TOKEN.len() - 1]);
    let wrong = [last_byte.as_str(), &TOKEN[1..], "", "test-token-01234567890"];
    for token in wrong {
        let request =
            http.client.get(format!("{}/v1/sessions", server.url)).header("authorization", format!("Bearer {token}"));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 401, "{token}");
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
        let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
        let body: Value = response.json().await.unwrap();
        assert_eq!((&body["code"], &body["request_id"]), (&json!("unauthorized"), &json!(id)));
    }
    let lower =
        http.client.get(format!("{}/v1/sessions", server.url)).header("authorization", format!("bearer {TOKEN}"));
    assert_eq!(lower.send().await.unwrap().status(), 200, "the scheme is case-insensitive");
    assert_eq!(http.client.get(format!("{}/v1/health", server.url)).send().await.unwrap().status(), 200, "public");
    assert_eq!(
        http.client.get(format!("{}/nowhere", server.url)).send().await.unwrap().status(),
        404,
        "unknown paths need no token"
    );
}

#[tokio::test]
async fn every_error_has_the_same_body() {
    let server = TestServer::start([]).await;
    let http = server.http();
    let session = http.post("/v1/sessions", json!({"title": "x"})).await.1["id"].as_str().unwrap().to_owned();
    let unknown = "00000000-0000-4000-8000-000000000000";
    let post = |path: &str, body: &str| {
        http.request(Method::POST, path).header("content-type", "application/json").body(body.to_owned())
    };
    let messages = format!("/v1/sessions/{session}/messages");
    let user = r#"{"message":{"role":"user","content":"x"}}"#;
    let cases = [
        (http.request(Method::GET, "/v1/nothing"), 404, "not_found"),
        (http.request(Method::PUT, "/v1/sessions"), 405, "method_not_allowed"),
        (http.request(Method::GET, "/v1/sessions/no-uuid"), 400, "invalid_path"),
        (http.request(Method::GET, &format!("/v1/sessions/{unknown}")), 404, "not_found"),
        (http.request(Method::GET, &format!("/v1/sessions/{unknown}/events")), 404, "not_found"),
        (http.request(Method::GET, &format!("/v1/sessions/{unknown}/tools/pending")), 404, "not_found"),
        (http.request(Method::GET, &format!("/v1/sessions/{session}/runs/{unknown}")), 404, "not_found"),
        (http.request(Method::GET, &format!("/v1/sessions/{session}/events?after=x")), 400, "invalid_query"),
        (http.request(Method::GET, "/v1/sessions?limit=-1"), 400, "invalid_query"),
        (http.request(Method::GET, "/v1/sessions?status=odd"), 400, "invalid_query"),
        (post("/v1/sessions", "{"), 400, "invalid_json"),
        (post("/v1/sessions", "{}"), 422, "invalid_body"),
        (post("/v1/sessions", r#"{"title":1}"#), 422, "invalid_body"),
        (http.request(Method::POST, "/v1/sessions").body("{}"), 415, "unsupported_media_type"),
        (post("/v1/sessions", &format!(r#"{{"title":"{}"}}"#, "x".repeat(1_025))), 400, "invalid_request"),
        (post("/v1/sessions", &format!(r#"{{"title":"{}"}}"#, "x".repeat(3 << 20))), 413, "payload_too_large"),
        (post("/v1/sessions", r#"{"title":"","cwd":"relative"}"#), 400, "invalid_request"),
        (post(&messages, r#"{"message":{"role":"assistant","content":"x"}}"#), 400, "invalid_message_role"),
        (post(&messages, r#"{"message":{"role":"user","content":null}}"#), 422, "invalid_body"),
        (post(&messages, r#"{"message":{"role":"user","content":" "}}"#), 400, "invalid_request"),
        (post(&messages, r#"{"message":{"role":"user","content":"x"},"model":"nope"}"#), 400, "invalid_model"),
        (post(&messages, r#"{"message":{"role":"user","content":"x"},"sandbox":true}"#), 503, "sandbox_unavailable"),
        (
            post(&messages, r#"{"message":{"role":"user","content":"x"},"overrides":{"max_turns":0}}"#),
            400,
            "invalid_overrides",
        ),
        (
            post(&messages, r#"{"message":{"role":"user","content":"x"},"overrides":{"profile":"nope"}}"#),
            400,
            "invalid_overrides",
        ),
        (
            post(&messages, r#"{"message":{"role":"user","content":"x"},"overrides":{"auto_approve":"some"}}"#),
            400,
            "invalid_overrides",
        ),
        (post(&format!("/v1/sessions/{unknown}/messages"), user), 404, "not_found"),
        (post(&messages, user).header("idempotency-key", "x".repeat(256)), 400, "invalid_idempotency_key"),
    ];
    for (request, status, code) in cases {
        let response = request.send().await.unwrap();
        let url = response.url().clone();
        assert_eq!(response.status(), status, "{url} {code}");
        if status == 405 {
            assert!(response.headers().contains_key("allow"));
        }
        let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
        assert!(id.starts_with("req_") && id.len() == 36, "{id}");
        let body: Value = response.json().await.unwrap();
        assert_eq!((body["code"].as_str(), body["request_id"].as_str()), (Some(code), Some(id.as_str())), "{body}");
        assert!(!body["error"].as_str().unwrap().is_empty());
    }
    assert_eq!(
        http.get(&format!("/v1/sessions/{session}")).await.1["session"]["last_event_id"],
        0,
        "nothing was recorded"
    );
}

#[tokio::test]
async fn sessions_have_the_shape_of_the_contract() {
    let server = TestServer::start([Step::Say("hello")]).await;
    let http = server.http();
    let (status, session) = http.post("/v1/sessions", json!({"title": "disk check", "cwd": null, "unknown": 1})).await;
    assert_eq!(status, 201);
    assert_eq!(session["cwd"], Value::Null);
    assert!(session.as_object().unwrap().contains_key("cwd"));
    assert_eq!(session["run_status"], json!({"state": "idle"}));
    assert_eq!((&session["status"], &session["visibility"]), (&json!("ACTIVE"), &json!("PRIVATE")));
    assert!(session["created_at"].as_str().unwrap().ends_with('Z'));
    let (_, detail) = http.get(&format!("/v1/sessions/{}", session["id"].as_str().unwrap())).await;
    assert_eq!(detail["session"], session);
    assert_eq!(detail["config"], json!({"default_model": "test/scripted", "auto_approve_mode": "custom"}));
    let (_, list) = http.get("/v1/sessions?limit=0").await;
    assert_eq!(list, json!({"sessions": [], "total": 1}));
    let mut run = server.run_in(session["id"].as_str().unwrap(), "hi", json!("none")).await;
    run.finish().await;
    let messages = run.messages().await;
    assert_eq!(messages["total"], 3);
    assert_eq!(messages["messages"][0]["role"], "system");
    assert!(messages["messages"][1]["content"].as_str().unwrap().ends_with("\n\nhi"));
    assert_eq!(messages["messages"][2]["content"], json!([{"type": "text", "text": "hello"}]));
    let (_, past_the_end) = http.get(&format!("/v1/sessions/{}/messages?offset=9", run.session)).await;
    assert_eq!((&past_the_end["messages"], &past_the_end["total"]), (&json!([]), &json!(3)));
}

#[tokio::test]
async fn a_replay_holds_after_a_restart_and_ignores_formatting() {
    let server = TestServer::start([Step::Say("once")]).await;
    let http = server.http();
    let session = http.post("/v1/sessions", json!({"title": "x"})).await.1["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/sessions/{session}/messages");
    let body = json!({"message": {"role": "user", "content": "go"}});
    let first = http.post_keyed(&path, "k", body.clone()).await;
    assert_eq!(first.0, 200);
    let failed = http.post_keyed(&path, "failed", json!({"message": {"role": "user", "content": " "}})).await;
    assert_eq!(failed.0, 400, "an error does not consume the key");
    let directory = server.crash().await;
    let server =
        TestServer::start_in(directory, [Step::Say("again")], stakpak_agent_core::AgentConfig::default()).await;
    let http = server.http();
    let request =
        http.request(Method::POST, &path).header("idempotency-key", "k").header("content-type", "application/json");
    let response = request
        .body("{ \"model\": null, \"message\": {\"content\":\"go\", \"role\":\"user\"}, \"x\": 1 }")
        .send()
        .await
        .unwrap();
    assert_eq!(response.headers()["idempotency-replayed"], "true");
    assert_eq!(response.json::<Value>().await.unwrap(), first.1);
    let other = http.post_keyed(&path, "k", json!({"message": {"role": "user", "content": "other"}})).await;
    assert_eq!(other.0, 409);
}

/// A cursor beyond the newest id gives `gap_detected`, then the latest run from its start.
#[tokio::test]
async fn a_cursor_from_the_future_is_told() {
    let server = TestServer::start([Step::Say("hello")]).await;
    let mut run = server.run("hi", json!("none")).await;
    run.finish().await;
    let mut events = server.client().subscribe_events(&run.session, Some(9_999)).await.unwrap();
    let gap = events.next_event().await.unwrap();
    assert_eq!((gap.event_type.as_str(), gap.id), ("gap_detected", None));
    assert_eq!(events.next_event().await.unwrap().event_type, "run_started");
}

/// The document is made from the types and lists every route.
#[tokio::test]
async fn the_openapi_document_lists_the_routes() {
    let server = TestServer::start([]).await;
    let (status, document) = server.http().get("/v1/openapi.json").await;
    assert_eq!(status, 200);
    assert_eq!(document["components"]["securitySchemes"]["bearer_auth"]["scheme"], "bearer");
    let paths = document["paths"].as_object().unwrap();
    for path in [
        "/v1/health",
        "/v1/ready",
        "/docs",
        "/metrics",
        "/v1/sessions",
        "/v1/sessions/{session_id}/messages",
        "/v1/sessions/{session_id}/events",
        "/v1/sessions/{session_id}/tools/decisions",
    ] {
        assert!(paths.contains_key(path), "{path}");
    }
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
}

/// What clients are generated from: a change here is a change of the contract.
#[test]
fn the_openapi_document_has_not_drifted() {
    insta::assert_json_snapshot!("openapi", stakpak_server::openapi());
}

/// A client that gives up before its answer and asks again with the same key gets that answer; the run is not disturbed.
#[tokio::test]
async fn a_retry_after_a_lost_connection_is_a_replay() {
    let call = Step::Call(vec![("a", "stakpak__act", json!({"gated": true}))]);
    let server = TestServer::start([call, Step::Say("done")]).await;
    let mut run = server.run("go", json!("none")).await;
    run.until("waiting_for_tool_approval").await;
    let path = format!("/v1/sessions/{}/tools/decisions", run.session);
    let body = json!({"run_id": run.run, "decisions": {"a": {"action": "accept"}}});
    for _ in 0..50 {
        let given_up = run.http.request(Method::POST, &path).header("idempotency-key", "k").json(&body).send();
        let _ = tokio::time::timeout(std::time::Duration::from_micros(300), given_up).await;
        let (status, answer) = run.http.post_keyed(&path, "k", body.clone()).await;
        assert_eq!((status, &answer["results"]["a"]), (200, &json!("applied")), "{answer}");
    }
    server.tools.gate.add_permits(1);
    assert_eq!(crate::support::names(&run.finish().await).last(), Some(&"run_completed"));
    assert_eq!(server.tools.acted.lock().unwrap().len(), 1);
}

/// Only successes are stored: an unknown call on the single route leaves its key free.
#[tokio::test]
async fn a_404_does_not_consume_its_key() {
    let server = TestServer::start([Step::Call(vec![("a", "stakpak__act", json!({}))]), Step::Say("done")]).await;
    let mut run = server.run("go", json!("none")).await;
    run.until("waiting_for_tool_approval").await;
    let path = format!("/v1/sessions/{}/tools/nope/decision", run.session);
    let body = json!({"run_id": run.run, "action": "accept"});
    for _ in 0..2 {
        let (status, answer) = run.http.post_keyed(&path, "k", body.clone()).await;
        assert_eq!((status, &answer["code"]), (404, &json!("not_found")));
    }
}
