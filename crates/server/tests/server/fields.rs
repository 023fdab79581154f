//! What a body holds beyond its type is accepted and named; an array in the place of an object is not accepted.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Http, Step, TestServer};

const NOBODY: &str = "/v1/sessions/00000000-0000-4000-8000-000000000000";

/// Status, `x-ignored-fields`, body.
async fn send(http: &Http, method: Method, path: &str, body: &Value) -> (u16, Option<String>, Value) {
    let response = http.request(method, path).json(body).send().await.unwrap();
    let status = response.status().as_u16();
    let ignored = response.headers().get("x-ignored-fields").map(|value| value.to_str().unwrap().to_owned());
    (status, ignored, response.json().await.unwrap())
}

#[tokio::test]
async fn ignored_fields_are_named_on_every_route() {
    let call = |id| Step::Call(vec![(id, "stakpak__act", json!({})), ("call_2", "stakpak__act", json!({}))]);
    let server = TestServer::start([call("call_1"), Step::Silence]).await;
    let http = server.http();
    let path = format!("/v1/sessions/{}", http.session("x").await);
    let message = json!({
        "message": {"content": [{"foo": 1, "text": "go", "type": "text"}], "role": "user"},
        "overrides": {"foo": 1, "max_turns": null},
        "sandbox": null,
    });
    let (status, ignored, posted) = send(&http, Method::POST, &format!("{path}/messages"), &message).await;
    assert_eq!((status, ignored.as_deref()), (200, Some("message.content.0.foo,overrides.foo")), "{posted}");
    let run = &posted["run_id"];
    let mut events = server.client().subscribe_events(&path["/v1/sessions/".len()..], Some(0)).await.unwrap();
    while events.next_event().await.unwrap().event_type != "waiting_for_tool_approval" {}

    let decisions = json!({"decisions": {"call_1": {"action": "accept", "foo": 1}}, "run_id": run});
    let other = json!({"decisions": {"call_1": {"action": "accept", "bar": null}}, "foo": [1], "run_id": run});
    for (method, path, body, wanted) in [
        (Method::POST, "/v1/sessions".to_owned(), json!({"cwd": null, "foo": null, "title": "x"}), "foo"),
        (Method::PATCH, path.clone(), json!({"foo": 1, "title": null}), "foo"),
        (Method::POST, format!("{path}/tools/decisions"), decisions, "decisions.call_1.foo"),
        (Method::POST, format!("{path}/tools/resolve"), other, "decisions.call_1.bar,foo"),
        (
            Method::POST,
            format!("{path}/tools/call_2/decision"),
            json!({"action": "reject", "content": null, "foo": 1, "run_id": run}),
            "foo",
        ),
        (Method::POST, format!("{path}/model"), json!({"foo": {"a": 1}, "model": "other", "run_id": run}), "foo"),
        (Method::POST, format!("{path}/cancel"), json!({"foo": 1, "run_id": run}), "foo"),
        // An error too says which fields had no part in it.
        (Method::PATCH, NOBODY.to_owned(), json!({"foo": 1}), "foo"),
    ] {
        let (status, ignored, body) = send(&http, method, &path, &body).await;
        let wanted_status = if path == NOBODY { 404 } else { 200 };
        assert!(status / 100 == wanted_status / 100, "{path}: {status} {body}");
        let mut ignored: Vec<_> = ignored.as_deref().unwrap_or_default().split(',').collect();
        ignored.sort_unstable();
        assert_eq!(ignored.join(","), wanted, "{path}");
    }
    let (_, ignored, _) = send(&http, Method::POST, "/v1/sessions", &json!({"cwd": null, "title": "x"})).await;
    assert_eq!(ignored, None, "nothing was ignored");
}

#[tokio::test]
async fn an_array_is_not_read_by_position() {
    let server = TestServer::start([]).await;
    let http = server.http();
    let session = http.session("x").await;
    let path = format!("/v1/sessions/{session}");
    let run = "00000000-0000-4000-8000-000000000009";
    let user = json!({"content": "go", "role": "user"});
    let mut cases = vec![
        (Method::POST, format!("{path}/messages"), json!({"message": ["user", "go"]})),
        (Method::POST, format!("{path}/messages"), json!({"message": {"content": [["text", "go"]], "role": "user"}})),
        (Method::POST, format!("{path}/messages"), json!({"message": user, "overrides": ["other"]})),
        (Method::POST, format!("{path}/messages"), json!({"context": [["name", "text"]], "message": user})),
        (Method::POST, format!("{path}/tools/decisions"), json!({"decisions": {"a": ["accept"]}, "run_id": run})),
    ];
    for (method, route, fields) in [
        (Method::POST, "/v1/sessions".to_owned(), json!(["x"])),
        (Method::PATCH, path.clone(), json!(["x", "PRIVATE"])),
        (Method::POST, format!("{path}/messages"), json!([user])),
        (Method::POST, format!("{path}/tools/decisions"), json!([run, {}])),
        (Method::POST, format!("{path}/tools/resolve"), json!([run, {}])),
        (Method::POST, format!("{path}/tools/a/decision"), json!([run, "accept"])),
        (Method::POST, format!("{path}/model"), json!([run, "other"])),
        (Method::POST, format!("{path}/cancel"), json!([run])),
    ] {
        cases.push((method.clone(), route.clone(), json!([])));
        cases.push((method, route, fields));
    }
    for (method, path, body) in cases {
        let (status, _, answer) = send(&http, method, &path, &body).await;
        assert_eq!((status, &answer["code"]), (422, &json!("invalid_body")), "{path} {body}: {answer}");
    }
    assert_eq!(http.get("/v1/sessions").await.1["total"], 1);
    assert_eq!(http.get(&path).await.1["session"]["last_event_id"], 0);
}
