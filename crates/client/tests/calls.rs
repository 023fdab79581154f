//! Requests and answers: what is sent, what is repeated, and what callers learn when it fails.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod server;

use std::{collections::HashMap, time::Duration};

use axum::{
    http::{Method, StatusCode},
    response::IntoResponse,
};
use serde_json::{Value, json as value};
use server::{Asked, RUN, SESSION, Server, TOKEN, error, json, quick};
use stakpak_client::protocol::CheckState;
use stakpak_client::{
    CallerContextInput, ClientError, CreateSessionOptions, DecisionOutcome, DeliveryState, ErrorCode, GatewaySend,
    Message, MessageContent, MessagePart, MessageType, SendMessageOptions, SetupError, StakpakClient, Timing,
    ToolDecisionAction, ToolDecisionInput, TransportCause,
};

fn health() -> Value {
    value!({"status": "ok", "version": "1.2.3", "uptime_seconds": 259})
}

fn busy(seconds: &'static str) -> axum::response::Response {
    ([("retry-after", seconds)], error(503, "shutting_down")).into_response()
}

#[tokio::test]
async fn a_read_is_repeated_until_the_server_is_back() {
    let server = Server::start(|asked: &Asked| match asked.nth {
        0 => busy("0"),
        1 => error(429, "rate_limited"),
        _ => json(200, &health()),
    })
    .await;
    assert_eq!(server.client().health().await.unwrap().version, "1.2.3");
    assert_eq!(server.asked().len(), 3);
}

/// A server that is not ready tells which part it is: that is an answer, and is not asked for again.
#[tokio::test]
async fn a_server_that_is_not_ready_names_the_part() {
    let answer = value!({"ready": false, "checks":
        {"journal": "read_only", "scheduler": "ok", "channels": "off", "sandbox": "off"}});
    let server = Server::start(move |asked: &Asked| match asked.nth {
        0 => json(503, &answer),
        1 => (axum::http::StatusCode::SERVICE_UNAVAILABLE, "<html>").into_response(),
        _ => error(404, "not_found"),
    })
    .await;
    let ready = server.client().ready().await.unwrap();
    assert_eq!((ready.ready, ready.checks.journal), (false, CheckState::ReadOnly));
    let failed = server.client().ready().await.unwrap_err();
    assert!(matches!(failed, ClientError::UnexpectedAnswer { .. }), "{failed}");
    assert_eq!(server.client().ready().await.unwrap_err().code(), Some(ErrorCode::NotFound));
    assert_eq!(server.asked().len(), 3);
}

#[tokio::test]
async fn repeats_are_bounded_and_a_long_wait_is_left_to_the_caller() {
    let server = Server::start(|_: &Asked| busy("0")).await;
    let failed = server.client().health().await.unwrap_err();
    assert_eq!((failed.code(), server.asked().len()), (Some(ErrorCode::ShuttingDown), 3));

    let server = Server::start(|_: &Asked| busy("120")).await;
    let failed = server.client().health().await.unwrap_err();
    assert_eq!((failed.retry_after(), server.asked().len()), (Some(Duration::from_secs(120)), 1));
    assert!(failed.is_retryable());
}

#[tokio::test]
async fn a_write_is_repeated_only_under_a_key() {
    let server = Server::start(|asked: &Asked| match asked.nth {
        0 | 1 => busy("0"),
        _ => json(200, &value!({"run_id": RUN, "cursor": 7})),
    })
    .await;
    let client = server.client();
    let send = |client: StakpakClient| async move {
        client.send_messages(SESSION, vec![Message::user("hi")], SendMessageOptions::default()).await
    };
    assert_eq!(send(client.clone()).await.unwrap_err().status(), Some(503));
    assert_eq!(server.asked().len(), 1);

    let answer = send(client.with_idempotency_key("fire-1")).await.unwrap();
    assert_eq!((answer.run_id.to_string().as_str(), answer.cursor), (RUN, 7));
    let keys: Vec<_> = server.asked().iter().map(|asked| asked.header("idempotency-key").map(str::to_owned)).collect();
    assert_eq!(keys, [None, Some("fire-1".to_owned()), Some("fire-1".to_owned())]);

    let invalid = send(client.with_idempotency_key("a\nb")).await.unwrap_err();
    assert!(matches!(invalid, ClientError::InvalidArgument(_)) && server.asked().len() == 3);
}

#[tokio::test]
async fn a_refusal_tells_code_message_request_and_details() {
    let server = Server::start(|_: &Asked| {
        let body = value!({
            "error": "another run is active", "code": "session_already_running", "request_id": "req_42",
            "details": {"owner": {"pid": 7}},
        });
        json(409, &body)
    })
    .await;
    let failed = server.client().create_session("x").await.unwrap_err();
    assert!(failed.is_conflict() && !failed.is_retryable());
    assert_eq!(
        failed.to_string(),
        "server refused: another run is active (session_already_running, status 409, req_42)"
    );
    let answer = failed.server().unwrap();
    assert_eq!(answer.code, ErrorCode::SessionAlreadyRunning);
    assert_eq!(answer.details, Some(value!({"owner": {"pid": 7}})));
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn a_code_of_a_later_server_and_a_body_of_an_earlier_one_are_understood() {
    let server = Server::start(|asked: &Asked| match asked.nth {
        0 => json(418, &value!({"error": "no", "code": "teapot", "request_id": "req_1"})),
        _ => json(401, &value!({"error": "no", "code": "unauthorized"})),
    })
    .await;
    assert_eq!(server.client().health().await.unwrap_err().code(), Some(ErrorCode::Unknown));
    assert_eq!(server.client().health().await.unwrap_err().code(), Some(ErrorCode::Unauthorized));
}

#[tokio::test]
async fn a_proxy_page_is_an_error_of_its_status_without_the_page() {
    let server = Server::start(|_: &Asked| {
        (StatusCode::BAD_GATEWAY, [("content-type", "text/html")], "<html>nginx</html>").into_response()
    })
    .await;
    let failed = server.client().health().await.unwrap_err();
    assert_eq!((failed.status(), failed.code()), (Some(502), Some(ErrorCode::Unknown)));
    assert!(failed.to_string().contains("Bad Gateway") && !failed.to_string().contains("html"), "{failed}");

    let server = Server::start(|_: &Asked| "<html>sign in</html>".into_response()).await;
    let failed = server.client().health().await.unwrap_err();
    assert!(matches!(failed, ClientError::UnexpectedAnswer { source: Some(_), .. }));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let other = Server::start(|_: &Asked| json(200, &health())).await;
    let target = format!("{}/v1/health", other.url);
    let server =
        Server::start(move |_: &Asked| (StatusCode::FOUND, [("location", target.clone())]).into_response()).await;
    assert_eq!(server.client().health().await.unwrap_err().status(), Some(302));
    assert!(other.asked().is_empty());
}

#[tokio::test]
async fn nobody_listening_and_no_answer_are_told_apart() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let timing = Timing { request: Duration::from_millis(200), ..quick() };
    let client = StakpakClient::with_timing(format!("http://{address}"), TOKEN, timing);
    let silent = client.health().await.unwrap_err();
    assert_eq!(silent.to_string(), format!("request to {address} failed: timed out"));

    drop(listener);
    let refused = client.health().await.unwrap_err();
    assert_eq!(refused.to_string(), format!("request to {address} failed: connection refused"));
    assert!(matches!(&refused, ClientError::Transport { cause: TransportCause::Refused, .. }));
    assert!(refused.is_retryable() && refused.status().is_none());
    assert!(!format!("{silent:?}{refused:?}").contains(TOKEN));
}

#[tokio::test]
async fn the_token_is_sent_and_never_shown() {
    let server = Server::start(|_: &Asked| error(401, "unauthorized")).await;
    let client = server.client();
    let failed = client.config().await.unwrap_err();
    assert_eq!(server.asked()[0].header("authorization"), Some(format!("Bearer {TOKEN}").as_str()));
    let shown = format!("{client:?} {:?} {failed:?} {failed}", client.with_idempotency_key("k"));
    assert!(!shown.contains(TOKEN), "{shown}");
    assert!(shown.contains(&server.url[7..]), "{shown}");

    StakpakClient::new(&server.url, "  ").config().await.unwrap_err();
    assert_eq!(server.asked()[1].header("authorization"), None);
}

#[tokio::test]
async fn values_that_cannot_work_are_the_error_of_each_call() {
    for url in ["", "127.0.0.1:4096", "ftp://host"] {
        let failed = StakpakClient::new(url, "").health().await.unwrap_err();
        assert!(matches!(failed, ClientError::Setup(SetupError::BaseUrl)), "{url}");
    }
    let failed = StakpakClient::new("http://127.0.0.1:1", "a\nb").health().await.unwrap_err();
    assert!(matches!(failed, ClientError::Setup(SetupError::Token)));
    let failed = StakpakClient::new("http://127.0.0.1:1", "").get_session("../models").await.unwrap_err();
    assert!(matches!(failed, ClientError::InvalidArgument(_)));
}

#[tokio::test]
async fn all_messages_arrive_as_parts_of_one_in_order() {
    let server = Server::start(|_: &Asked| json(200, &value!({"run_id": RUN, "cursor": 0}))).await;
    let image =
        MessagePart::Image { url: "data:image/png;base64,AA==".to_owned(), detail: None, provider_options: None };
    let messages = vec![
        Message::user("one"),
        Message::new(
            stakpak_client::protocol::Role::User,
            MessageContent::Parts(vec![MessagePart::text("two"), image]),
        ),
    ];
    let options = SendMessageOptions {
        message_type: MessageType::Steering,
        run_id: Some(RUN.to_owned()),
        context: vec![CallerContextInput { name: "notes".into(), content: "prod".into(), priority: None }],
        ..SendMessageOptions::default()
    };
    server.client().send_messages(SESSION, messages, options).await.unwrap();
    let sent = &server.asked()[0];
    assert_eq!(sent.path, format!("/v1/sessions/{SESSION}/messages"));
    assert_eq!(
        sent.body["message"],
        value!({"role": "user", "content": [
            {"type": "text", "text": "one"},
            {"type": "text", "text": "two"},
            {"type": "image", "url": "data:image/png;base64,AA=="},
        ]})
    );
    assert_eq!((&sent.body["type"], &sent.body["run_id"]), (&value!("steering"), &value!(RUN)));
    assert_eq!(sent.body["context"], value!([{"name": "notes", "content": "prod"}]));

    let client = server.client();
    client.send_messages(SESSION, vec![Message::user("one")], SendMessageOptions::default()).await.unwrap();
    assert_eq!(server.asked()[1].body["message"], value!({"role": "user", "content": "one"}));

    let mixed = vec![Message::user("one"), Message::assistant(vec![MessagePart::text("two")])];
    for messages in [mixed, Vec::new()] {
        let failed = client.send_messages(SESSION, messages, SendMessageOptions::default()).await.unwrap_err();
        assert!(matches!(failed, ClientError::InvalidArgument(_)));
    }
}

#[tokio::test]
async fn each_call_asks_its_route() {
    let session = value!({
        "id": SESSION, "title": "disk check", "cwd": "/srv", "created_at": "2026-03-01T09:00:00Z",
        "updated_at": "2026-03-01T09:00:00Z", "run_status": {"state": "idle"}, "last_event_id": 25,
    });
    let server = Server::start(move |asked: &Asked| {
        let (_, route) = asked.path.split_once("/v1/").unwrap();
        match (asked.method.as_str(), route.replace(SESSION, "$S").replace(RUN, "$R").as_str()) {
            ("POST", "sessions") => json(201, &session),
            ("GET", "sessions") => json(200, &value!({"sessions": [session], "total": 385})),
            ("GET", "sessions/$S") => {
                json(200, &value!({"session": session, "config": {"default_model": null, "auto_approve_mode": "all"}}))
            }
            ("DELETE", "sessions/$S") => StatusCode::NO_CONTENT.into_response(),
            ("GET", "sessions/$S/messages?limit=5&offset=2") => {
                json(200, &value!({"messages": [{"role": "user", "content": "hi"}], "total": 9}))
            }
            ("GET", "sessions/$S/tools/pending") => {
                let calls = value!([{"id": "call_1", "name": "stakpak__view", "arguments": {}, "approval": "ask"}]);
                json(200, &value!({"run_id": RUN, "tool_calls": calls}))
            }
            ("POST", "sessions/$S/tools/decisions") => {
                json(200, &value!({"accepted": true, "run_id": RUN, "results": {"call_1": "applied"}}))
            }
            ("POST", "sessions/$S/cancel") => json(200, &value!({"cancelled": true, "run_id": RUN})),
            _ => error(404, "not_found"),
        }
    })
    .await;
    // The address of a server behind a path of a proxy.
    let client = StakpakClient::new(format!("{}/agent/", server.url), TOKEN);
    let options = CreateSessionOptions { title: "disk check".to_owned(), cwd: Some("/srv".to_owned()) };
    let made = client.create_session_with(options).await.unwrap();
    assert_eq!((made.id.to_string().as_str(), made.last_event_id), (SESSION, 25));
    assert_eq!(client.get_session(SESSION).await.unwrap(), made);
    assert_eq!(client.list_sessions().await.unwrap().total, 385);
    assert_eq!(client.get_messages(SESSION, 5, 2).await.unwrap().total, 9);

    let pending = client.pending_tools(SESSION).await.unwrap();
    let run = pending.run_id.unwrap().to_string();
    let accept = ToolDecisionInput { action: ToolDecisionAction::Accept, content: None };
    let decisions: HashMap<String, _> = pending.tool_calls.into_iter().map(|call| (call.id, accept.clone())).collect();
    let resolved = client.resolve_tools(SESSION, &run, decisions).await.unwrap();
    assert_eq!(resolved.results[&"call_1".into()], DecisionOutcome::Applied);
    client.cancel_run(SESSION, &run).await.unwrap();
    client.delete_session(SESSION).await.unwrap();
    assert!(client.get_run(SESSION, &run).await.unwrap_err().is_not_found());

    let asked = server.asked();
    assert_eq!(asked[0].body, value!({"title": "disk check", "cwd": "/srv"}));
    assert_eq!(asked[5].body, value!({"run_id": RUN, "decisions": {"call_1": {"action": "accept"}}}));
    assert_eq!(
        (&asked[7].method, asked[7].path.as_str()),
        (&Method::DELETE, format!("/agent/v1/sessions/{SESSION}").as_str())
    );
}

/// The gateway's refusals have words of their own. What it refused for good under a key is not asked again; what it could not
/// decide is.
#[tokio::test]
async fn the_gateways_refusals_keep_their_words() {
    let refused = |status: u16, code: &str| json(status, &value!({"error": code, "message": "chat not found"}));
    let server = Server::start(move |asked: &Asked| match asked.nth {
        0 => refused(502, "delivery_failed"),
        1 => refused(502, "session_lookup_failed"),
        2 => json(202, &value!({"delivered": false, "queued": true, "delivery_id": "d-1"})),
        3 => json(200, &value!({"delivery_id": "d-1", "state": "failed", "error": "blocked"})),
        _ => json(200, &value!({"delivery_id": "d-1", "state": "of_a_later_gateway"})),
    })
    .await;
    let client = server.client().with_idempotency_key("notify:1:completed");
    let send = GatewaySend {
        channel: "telegram".to_owned(),
        target: value!({"chat_id": 42}),
        text: "done".to_owned(),
        context: None,
        interactive: None,
    };
    let failed = client.gateway_send(&send).await.unwrap_err();
    let told = failed.server().unwrap();
    assert_eq!((told.gateway_code.as_deref(), told.message.as_str()), (Some("delivery_failed"), "chat not found"));
    assert!(!failed.is_retryable() && failed.to_string().contains("delivery_failed"), "{failed}");
    let sent = client.gateway_send(&send).await.unwrap();
    assert_eq!((sent.delivered, sent.delivery_id.as_deref()), (false, Some("d-1")));
    let asked = &server.asked()[2];
    assert_eq!(
        (asked.path.as_str(), asked.header("idempotency-key")),
        ("/v1/gateway/send", Some("notify:1:completed"))
    );
    let given_up = client.gateway_delivery("d-1").await.unwrap();
    assert_eq!((given_up.state, given_up.error.as_deref()), (DeliveryState::Failed, Some("blocked")));
    assert_eq!(client.gateway_delivery("d-1").await.unwrap().state, DeliveryState::Unknown);
    assert!(matches!(client.gateway_delivery("../x").await, Err(ClientError::InvalidArgument(_))));
    assert_eq!(server.asked().len(), 5);
}
