//! Who may ask and how often: several tokens, guesses, a rate of requests.

use std::num::NonZeroU32;

use reqwest::Method;
use serde_json::{Value, json};
use stakpak_agent_core::AgentConfig;
use stakpak_server::Limits;

use crate::support::{ANN, Step, TOKEN, TestServer};

async fn list(server: &TestServer, token: Option<&str>) -> reqwest::Response {
    let request = server.http().client.get(format!("{}/v1/sessions", server.url));
    token.into_iter().fold(request, reqwest::RequestBuilder::bearer_auth).send().await.unwrap()
}

async fn assert_rate_limited(response: reqwest::Response) {
    assert_eq!(response.status(), 429);
    let wait: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=4).contains(&wait), "{wait}");
    assert_eq!(response.json::<Value>().await.unwrap()["code"], "rate_limited");
}

#[tokio::test]
async fn every_named_token_is_valid() {
    let server = TestServer::start([]).await;
    for (token, status) in [(TOKEN, 200), (ANN, 200), ("anns-token-012345678", 401), ("ann", 401)] {
        assert_eq!(list(&server, Some(token)).await.status(), status, "{token}");
    }
}

/// P55: who decided is the name of the token, unless the decision names somebody.
#[tokio::test]
async fn a_decision_bears_the_name_of_its_token() {
    let call = |id: &'static str| (id, "stakpak__act", json!({}));
    let server = TestServer::start([Step::Call(vec![call("a"), call("b"), call("c")]), Step::Say("done")]).await;
    let mut run = server.run("go", json!("none")).await;
    run.until("waiting_for_tool_approval").await;
    let url = format!("{}/v1/sessions/{}/tools/decisions", server.url, run.session);
    let decide = |token: &'static str, decisions: Value| {
        let body = json!({"run_id": run.run, "decisions": decisions});
        let request = run.http.client.post(&url).bearer_auth(token).json(&body);
        async { request.send().await.unwrap().json::<Value>().await.unwrap() }
    };
    decide(ANN, json!({"a": {"action": "accept"}, "b": {"action": "accept", "by": "bob"}})).await;
    decide(TOKEN, json!({"c": {"action": "accept"}})).await;
    let again = json!({"a": {"action": "accept"}, "b": {"action": "accept"}, "c": {"action": "accept"}});
    let decided = decide(TOKEN, again).await["decided"].take();
    let by = ["a", "b", "c"].map(|id| decided[id]["by"].as_str().unwrap().to_owned());
    assert_eq!(by, ["ann", "bob", "default"]);
}

#[tokio::test]
async fn an_idempotency_key_belongs_to_its_token() {
    let server = TestServer::start([]).await;
    let create = |token: &'static str| {
        let request = server.http().client.post(format!("{}/v1/sessions", server.url)).bearer_auth(token);
        let request = request.header("idempotency-key", "k").json(&json!({"title": ""}));
        async { request.send().await.unwrap().json::<Value>().await.unwrap()["id"].clone() }
    };
    let (first, of_ann) = (create(TOKEN).await, create(ANN).await);
    assert!(first.is_string() && of_ann.is_string());
    assert_ne!(first, of_ann);
    assert_eq!((create(TOKEN).await, create(ANN).await), (first, of_ann));
}

#[tokio::test]
async fn guesses_are_slowed_down_and_nobody_else_is() {
    let server = TestServer::start([]).await;
    let mut guesses = 0;
    // One more is free every three seconds: far slower than this loop.
    let refused = loop {
        let response = list(&server, if guesses % 2 == 0 { Some("wrong") } else { None }).await;
        guesses += 1;
        if response.status() != 401 {
            break response;
        }
        assert!(guesses < 60, "no end of guesses");
    };
    assert!(guesses > 20, "{guesses}");
    assert_rate_limited(refused).await;
    assert_eq!(list(&server, Some(TOKEN)).await.status(), 200, "a valid token is never held up");
    let health = server.http().client.get(format!("{}/v1/health", server.url)).send().await.unwrap();
    assert_eq!(health.status(), 200);
}

#[tokio::test]
async fn requests_of_one_token_are_bounded_when_asked_for() {
    let limits = Limits { requests_per_second: NonZeroU32::new(5), ..Limits::default() };
    let server = TestServer::start_limited([], AgentConfig::default(), limits).await;
    let mut sent = 0;
    let refused = loop {
        // All at once, so that no second passes between them.
        let wave = futures_util::future::join_all((0..50).map(|_| list(&server, Some(TOKEN)))).await;
        sent += wave.len();
        if let Some(refused) = wave.into_iter().find(|response| response.status() != 200) {
            break refused;
        }
        assert!(sent < 1_000, "no end of requests");
    };
    assert_rate_limited(refused).await;
    assert_eq!(list(&server, Some(ANN)).await.status(), 200, "each token for itself");
    let server = TestServer::start([]).await;
    for _ in 0..50 {
        assert_eq!(server.http().request(Method::GET, "/v1/sessions").send().await.unwrap().status(), 200);
    }
}
