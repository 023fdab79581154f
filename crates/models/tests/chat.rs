//! The chat adapter against a scripted server on a real socket: M1 to M9 and M14 of the contract, one test or more each.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};

use futures_util::StreamExt;
use serde_json::{Value, json};
use stakpak_agent_core::{
    Clock, ErrorClass, Model, ModelAnswer, ModelError, ModelEvent, ModelRequest, Models, Purpose, ToolSpec,
};
use stakpak_models::{Gates, ProviderKind, ProviderModels, ProviderSettings};
use stakpak_protocol::{FinishReason, Message, MessageContent, MessagePart, Role, SessionId};
use stakpak_test_support::{Gate, Reply, ScriptedLlm};

const KEY: &str = "sk-test-key-0123456789";

fn settings(llm: &ScriptedLlm) -> ProviderSettings {
    let mut settings = ProviderSettings::new("custom", ProviderKind::Chat, llm.base_url());
    settings.api_key = Some(KEY.to_owned());
    settings
}

/// A clock by which an hour passes whenever somebody looks: failures in a row hold nothing up.
struct Hurried(AtomicI64);

impl Clock for Hurried {
    fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp(self.0.fetch_add(3_600, Ordering::Relaxed), 0).unwrap()
    }
}

fn hurried() -> Gates {
    Gates::new(Arc::new(Hurried(AtomicI64::new(1_800_000_000))))
}

fn model_of(settings: ProviderSettings, id: &str) -> Arc<dyn Model> {
    rustls::crypto::ring::default_provider().install_default().ok();
    let name = format!("{}/{id}", settings.id);
    ProviderModels::behind(&hurried(), vec![settings], Some(&name)).unwrap().resolve(&name).unwrap()
}

fn request(messages: Vec<Message>) -> ModelRequest {
    let schema = json!({ "type": "object", "properties": { "command": { "type": "string" } } });
    let tool = ToolSpec { name: "stakpak__run_command".into(), description: "runs".into(), input_schema: schema };
    ModelRequest {
        purpose: Purpose::Answer,
        system: "be brief".into(),
        messages,
        replays: Vec::new(),
        tools: vec![tool].into(),
        max_output_tokens: Some(100),
        reasoning: None,
        session_id: SessionId::random(),
    }
}

fn hello() -> ModelRequest {
    request(vec![Message::user("hello")])
}

/// The deltas, and the answer or the error that ended them.
async fn ask(model: &Arc<dyn Model>, request: ModelRequest) -> (String, Result<ModelAnswer, ModelError>) {
    let mut text = String::new();
    let mut stream = match model.stream(request).await {
        Ok(stream) => stream,
        Err(error) => return (text, Err(error)),
    };
    loop {
        let event = stream.next().await.expect("a stream ends with an answer or an error");
        let end = match event {
            Ok(ModelEvent::Text(delta)) => {
                text.push_str(&delta);
                continue;
            }
            Ok(ModelEvent::Thinking(_)) => continue,
            Ok(ModelEvent::Done(answer)) => Ok(answer),
            Err(error) => Err(error),
        };
        assert!(stream.next().await.is_none(), "nothing comes after the end");
        return (text, end);
    }
}

async fn replied(reply: Reply) -> (String, Result<ModelAnswer, ModelError>) {
    let llm = ScriptedLlm::start().await;
    llm.push(reply);
    ask(&model_of(settings(&llm), "m"), hello()).await
}

async fn answer(reply: Reply) -> ModelAnswer {
    let (text, answer) = replied(reply).await;
    let answer = answer.unwrap();
    assert_eq!(text, Message::assistant(answer.parts.clone()).text());
    answer
}

async fn failure(reply: Reply) -> ModelError {
    replied(reply).await.1.unwrap_err()
}

fn call(id: &str, arguments: Value) -> MessagePart {
    MessagePart::ToolCall {
        id: id.into(),
        name: "stakpak__run_command".into(),
        arguments,
        metadata: None,
        provider_options: None,
    }
}

fn result(id: &str, content: Value, is_error: bool) -> Message {
    let part = MessagePart::ToolResult { tool_call_id: id.into(), content, is_error, provider_options: None };
    Message::new(Role::Tool, MessageContent::Parts(vec![part]))
}

#[tokio::test]
async fn text_arrives_while_the_model_is_still_sending() {
    let llm = ScriptedLlm::start().await;
    let gate = Gate::new();
    llm.push(Reply::text(["Hel", "lo "]).then_thinking("hm").then_wait(&gate).then_text("wörld"));
    let mut stream = model_of(settings(&llm), "m").stream(hello()).await.unwrap();
    let mut next = async || stream.next().await.unwrap().unwrap();
    assert_eq!(next().await, ModelEvent::Text("Hel".into()));
    assert_eq!(next().await, ModelEvent::Text("lo ".into()));
    assert_eq!(next().await, ModelEvent::Thinking("hm".into()));
    gate.open();
    assert_eq!(next().await, ModelEvent::Text("wörld".into()));
    let ModelEvent::Done(answer) = next().await else { panic!("the answer comes last") };
    assert_eq!(answer.parts, [MessagePart::text("Hello wörld")]);
    assert_eq!(answer.finish, FinishReason::Stop);
}

#[tokio::test]
async fn dropping_the_stream_closes_the_connection() {
    let llm = ScriptedLlm::start().await;
    llm.push(Reply::text(["a"]).stalled());
    let mut stream = model_of(settings(&llm), "m").stream(hello()).await.unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap(), ModelEvent::Text("a".into()));
    drop(stream);
    tokio::time::timeout(Duration::from_secs(10), llm.wait_for_hang_ups(1)).await.unwrap();
}

/// M1 and M2, C-P64: neither a name that genai knows nor a suffix it reads as effort changes where and what is asked.
#[tokio::test]
async fn the_exact_id_reaches_the_configured_endpoint_without_an_effort() {
    let llm = ScriptedLlm::start().await;
    let ids = [
        "x-max",
        "acme/qwen-max",
        "claude-opus-high",
        "gpt-5-low",
        "gemini-2.5-pro",
        "a-zero",
        "openai::gpt-x",
        "a/b/c",
    ];
    for (n, id) in ids.into_iter().enumerate() {
        ask(&model_of(settings(&llm), id), hello()).await.1.unwrap();
        let request = llm.wait_for_requests(n + 1).await.remove(n);
        assert_eq!(request.body["model"], id);
        assert_eq!(request.body["reasoning_effort"], Value::Null, "{id}");
        assert_eq!(request.path, "/v1/chat/completions");
    }
}

/// M3.
#[tokio::test]
async fn the_base_url_keeps_its_last_segment_and_its_query() {
    for (suffix, path) in [
        ("", "/v1/chat/completions"),
        ("/", "/v1/chat/completions"),
        ("?api-version=2", "/v1/chat/completions?api-version=2"),
    ] {
        let llm = ScriptedLlm::start().await;
        let mut settings = settings(&llm);
        settings.endpoint.push_str(suffix);
        ask(&model_of(settings, "m"), hello()).await.1.unwrap();
        assert_eq!(llm.requests()[0].path, path);
    }
}

/// M4.
#[tokio::test]
async fn a_key_is_sent_as_bearer_and_none_is_needed() {
    let llm = ScriptedLlm::start().await;
    let mut settings = settings(&llm);
    settings.headers.insert("X-Team".into(), "ops".into());
    ask(&model_of(settings.clone(), "m"), hello()).await.1.unwrap();
    settings.api_key = None;
    ask(&model_of(settings, "m"), hello()).await.1.unwrap();
    let requests = llm.requests();
    assert_eq!(requests[0].headers["authorization"], format!("Bearer {KEY}"));
    assert_eq!(requests[1].headers.get("authorization"), None);
    for request in requests {
        assert_eq!(request.headers["x-team"], "ops");
        assert!(!request.path.contains(KEY) && !request.body.to_string().contains(KEY));
    }
}

/// M5.
#[tokio::test]
async fn http_errors_keep_status_body_and_wait() {
    let error = failure(Reply::rate_limited(7)).await;
    assert_eq!(
        error,
        ModelError {
            is_final: false,
            class: ErrorClass::RateLimited,
            message: "custom: 429 rate limited: slow down".into(),
            retry_after: Some(Duration::from_secs(7)),
        }
    );
    let ms = Reply::status(503, &json!({})).header("retry-after-ms", "250");
    let error = failure(ms).await;
    assert_eq!((error.class, error.retry_after), (ErrorClass::Overloaded, Some(Duration::from_millis(250))));

    let refused = |message: &str| Reply::status(400, &json!({ "error": { "message": message } }));
    let table = [
        (Reply::status(429, &json!({ "error": { "message": "tokens per minute limit" } })), ErrorClass::RateLimited),
        (refused("max_tokens: must be at most 8192"), ErrorClass::BadRequest),
        (refused("prompt is too long: 9 tokens"), ErrorClass::ContextOverflow),
        (Reply::body(502, "text/html", "<html>Bad gateway</html>"), ErrorClass::Server),
        (Reply::status(401, &json!({ "error": { "message": KEY } })), ErrorClass::Auth),
        (Reply::status(404, &json!({})), ErrorClass::ModelNotFound),
        (Reply::status(307, &json!({})).header("location", "/v1/chat/completions"), ErrorClass::BadRequest),
    ];
    for (reply, class) in table {
        let error = failure(reply).await;
        assert_eq!(error.class, class, "{error}");
        assert!(!error.message.contains(KEY) && !error.message.contains("html"), "{error}");
    }
}

#[tokio::test]
async fn a_dead_endpoint_names_host_port_and_cause() {
    let llm = ScriptedLlm::start().await;
    let (address, settings) = (llm.address(), settings(&llm));
    drop(llm);
    // The port is free once the server's task is gone.
    while tokio::net::TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    let error = ask(&model_of(settings, "m"), hello()).await.1.unwrap_err();
    assert_eq!(error.class, ErrorClass::Network);
    assert_eq!(error.message, format!("custom: cannot reach {address}: connection refused"));
}

#[tokio::test]
async fn silence_is_a_timeout_before_the_headers_and_in_the_answer() {
    let llm = ScriptedLlm::start().await;
    let mut settings = settings(&llm);
    settings.timeouts.idle = Duration::from_millis(100);
    llm.push(Reply::text(["a"]).stalled());
    let (text, end) = ask(&model_of(settings.clone(), "m"), hello()).await;
    let error = end.unwrap_err();
    assert_eq!((text.as_str(), error.class), ("a", ErrorClass::Timeout));
    assert_eq!(error.message, format!("custom: timeout: {} stopped sending", llm.address()));

    // A listener that never answers.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    settings.endpoint = format!("http://{}/v1", silent.local_addr().unwrap());
    settings.timeouts.headers = Duration::from_millis(100);
    let error = ask(&model_of(settings, "m"), hello()).await.1.unwrap_err();
    assert_eq!(error.class, ErrorClass::Timeout);
    assert!(error.message.ends_with("did not answer in time"), "{error}");
}

/// M6.
#[tokio::test]
async fn a_torn_stream_is_never_an_answer() {
    for reply in [
        Reply::text(["Hel", "lo"]).torn(),
        Reply::tool_call("call_1", "f", &json!({ "command": "ls" })).torn(),
        // `[DONE]` alone is no stop reason.
        Reply::text(["Hel", "lo"]).torn().then_bytes("data: [DONE]\n\n"),
    ] {
        let error = failure(reply).await;
        assert_eq!(error.class, ErrorClass::StreamTruncated, "{error}");
    }
}

/// M6 and C-P63: wherever the body ends early, no partial answer comes out, and every cut can be tried again.
#[tokio::test]
async fn a_stream_cut_at_any_byte_is_torn() {
    let llm = ScriptedLlm::start().await;
    let model = model_of(settings(&llm), "m");
    for whole in [
        Reply::text(["grüß", " dich"]),
        Reply::tool_calls(&[("call_1", "f", json!({ "a": "ä" })), ("call_2", "g", json!({}))]),
    ] {
        llm.push(whole.clone());
        let complete = ask(&model, hello()).await.1.unwrap();
        let len = whole.body_len();
        // What is behind `[DONE]` does not matter.
        let needed = len - "\n\n".len();
        for cut in 0..len {
            llm.push(whole.clone().cut_at(cut));
            match ask(&model, hello()).await.1 {
                Ok(answer) => {
                    assert!(cut >= needed, "an answer after {cut} of {len} bytes: {answer:?}");
                    assert_eq!(answer, complete);
                }
                Err(error) => {
                    assert!(cut < needed, "an error after {cut} of {len} bytes: {error}");
                    assert_eq!(error.class, ErrorClass::StreamTruncated, "after {cut} of {len} bytes: {error}");
                }
            }
        }
    }
}

/// M7.
#[tokio::test]
async fn a_server_without_done_is_accepted_only_if_configured() {
    let replies = || {
        [
            Reply::text(["Hel", "lo"]).without_done(),
            Reply::tool_calls(&[("call_1", "f", json!({ "a": 1 })), ("call_2", "g", json!({ "b": 2 }))]).without_done(),
        ]
    };
    for reply in replies() {
        let error = failure(reply).await;
        assert_eq!(error.class, ErrorClass::StreamTruncated);
        assert!(error.message.contains("requires_done = false"), "{error}");
    }
    let llm = ScriptedLlm::start().await;
    let mut settings = settings(&llm);
    settings.requires_done = false;
    settings.timeouts.idle = Duration::from_millis(200);
    let model = model_of(settings, "m");
    let mut answers = Vec::new();
    for reply in replies() {
        llm.push(reply);
        answers.push(ask(&model, hello()).await.1.unwrap());
    }
    assert_eq!(answers[0].parts, [MessagePart::text("Hello")]);
    assert_eq!(answers[0].usage.total_tokens, 17);
    assert_eq!(answers[1].parts.len(), 2);
    assert_eq!(answers[1].finish, FinishReason::ToolCalls);

    // One that keeps the connection open as well.
    let stop = json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }] });
    llm.push(Reply::text(["Hi"]).then_frame(stop).stalled());
    assert_eq!(ask(&model, hello()).await.1.unwrap().parts, [MessagePart::text("Hi")]);

    llm.push(Reply::text(["Hel", "lo"]).torn());
    assert_eq!(ask(&model, hello()).await.1.unwrap_err().class, ErrorClass::StreamTruncated);
}

/// M8.
#[tokio::test]
async fn an_error_event_has_the_class_of_its_code() {
    let table = [
        (json!({ "type": "overloaded_error", "message": "busy" }), ErrorClass::Overloaded, "custom: overloaded: busy"),
        (json!({ "code": 429, "message": "slow" }), ErrorClass::RateLimited, "custom: 429 rate limited: slow"),
        (json!({ "code": "insufficient_quota", "message": "pay" }), ErrorClass::Quota, "custom: out of quota: pay"),
        (json!({ "message": "boom" }), ErrorClass::Server, "custom: server error: boom"),
    ];
    for (event, class, message) in table {
        let (text, end) = replied(Reply::text(["so far"]).then_error(&event)).await;
        let error = end.unwrap_err();
        assert_eq!((text.as_str(), error.class, error.message.as_str()), ("so far", class, message));
    }
}

#[tokio::test]
async fn a_frame_that_is_no_json_is_unreadable() {
    let reply = Reply::text(["a"]).then_bytes("data: {nonsense}\n\n").then_text("b");
    assert_eq!(failure(reply).await.class, ErrorClass::Decode);
}

#[tokio::test]
async fn parallel_calls_come_whole_and_in_order_after_the_text() {
    let calls = [("call_1", "f", json!({ "command": "ls -la /tmp" })), ("call_2", "g", json!({ "path": "/ä" }))];
    let answer = answer(Reply::tool_calls(&calls).then_text("Let me look.")).await;
    let part = |(id, name, arguments): (&str, &str, Value)| MessagePart::ToolCall {
        id: id.into(),
        name: name.into(),
        arguments,
        metadata: None,
        provider_options: None,
    };
    let [first, second] = calls.map(part);
    assert_eq!(answer.parts, [MessagePart::text("Let me look."), first, second]);
    assert_eq!(answer.finish, FinishReason::ToolCalls);
}

/// M9 and C-P10.
#[tokio::test]
async fn arguments_that_are_no_json_stay_text() {
    let answer = answer(Reply::raw_tool_calls(&[("call_1", "f", "{\"command\": \"ls".into())])).await;
    let MessagePart::ToolCall { arguments, .. } = &answer.parts[0] else { panic!("{answer:?}") };
    assert_eq!(arguments, &json!("{\"command\": \"ls"));
}

/// M12, as chat servers do it too.
#[tokio::test]
async fn an_id_that_was_used_before_is_replaced() {
    let llm = ScriptedLlm::start().await;
    llm.push(Reply::tool_call("call_0", "f", &json!({})));
    let history = vec![
        Message::user("x"),
        Message::assistant(vec![call("call_0", json!({}))]),
        result("call_0", "ok".into(), false),
    ];
    let answer = ask(&model_of(settings(&llm), "m"), request(history)).await.1.unwrap();
    let MessagePart::ToolCall { id, .. } = &answer.parts[0] else { panic!("{answer:?}") };
    assert!(id.as_str() != "call_0" && id.as_str().starts_with("call_"), "{id}");
}

#[tokio::test]
async fn finish_reasons() {
    let table = [
        ("stop", FinishReason::Stop),
        ("length", FinishReason::MaxOutputTokens),
        ("content_filter", FinishReason::Stop),
        ("error", FinishReason::Error),
        ("whatever", FinishReason::Stop),
    ];
    for (reason, finish) in table {
        assert_eq!(answer(Reply::text(["x"]).finish(reason)).await.finish, finish, "{reason}");
    }
    let stopped = Reply::tool_call("call_1", "f", &json!({})).finish("stop");
    assert_eq!(answer(stopped).await.finish, FinishReason::ToolCalls);
    assert_eq!(failure(Reply::text(["x"]).finish("tool_calls")).await.class, ErrorClass::Decode);
    let nothing: [&str; 0] = [];
    assert_eq!(answer(Reply::text(nothing)).await.parts, []);
}

/// M13.
#[tokio::test]
async fn usage_with_details_or_flagged_as_estimated() {
    let raw = json!({
        "prompt_tokens": 5_000_000_000_u64, "completion_tokens": 50, "total_tokens": 5_000_000_050_u64,
        "prompt_tokens_details": { "cached_tokens": 1_000_000_000, "audio_tokens": 0 },
        "completion_tokens_details": { "reasoning_tokens": 20 }, "cost": 0.1
    });
    let usage = answer(Reply::text(["x"]).usage(Some(raw.clone()))).await.usage;
    let expected = json!({
        "prompt_tokens": 5_000_000_000_u64, "completion_tokens": 50, "total_tokens": 5_000_000_050_u64,
        "input_token_details":
            { "total": 5_000_000_000_u64, "no_cache": 4_000_000_000_u64, "cache_read": 1_000_000_000 },
        "output_token_details": { "total": 50, "text": 30, "reasoning": 20 },
        "raw": raw
    });
    assert_eq!(serde_json::to_value(&usage).unwrap(), expected);

    let usage = answer(Reply::text(["x"]).usage(None)).await.usage;
    assert!(usage.prompt_tokens > 0 && usage.completion_tokens > 0);
    assert_eq!(usage.raw, Some(json!({ "estimated": true })));
}

#[tokio::test]
async fn the_history_goes_out_as_plain_messages() {
    let llm = ScriptedLlm::start().await;
    let image = MessagePart::Image { url: "data:image/png;base64,AAAA".into(), detail: None, provider_options: None };
    let history = vec![
        Message::new(Role::User, MessageContent::Parts(vec![MessagePart::text("look"), image])),
        Message::assistant(vec![
            MessagePart::text("sure"),
            call("call_1", json!({ "command": "ls" })),
            call("call_2", json!("{broken")),
        ]),
        result("call_1", json!("a\n\"b\""), false),
        result("call_2", json!({ "skipped": "why" }), true),
    ];
    ask(&model_of(settings(&llm), "m"), request(history)).await.1.unwrap();
    let body = llm.requests().remove(0).body;
    let wire_call = |id: &str, arguments: &str| json!({ "type": "function", "id": id, "function": { "name": "stakpak__run_command", "arguments": arguments } });
    assert_eq!(
        body["messages"],
        json!([
            { "role": "system", "content": "be brief" },
            { "role": "user", "content": [
                { "type": "text", "text": "look" },
                { "type": "image_url", "image_url": { "url": "data:image/png;base64,AAAA" } }
            ] },
            { "role": "assistant", "content": "sure", "tool_calls": [
                wire_call("call_1", "{\"command\":\"ls\"}"),
                wire_call("call_2", "{\"invalid_arguments\":\"{broken\"}")
            ] },
            { "role": "tool", "tool_call_id": "call_1", "content": "a\n\"b\"" },
            { "role": "tool", "tool_call_id": "call_2", "content": "[error] {\"skipped\":\"why\"}" }
        ])
    );
    assert_eq!(body["tools"][0]["function"]["name"], "stakpak__run_command");
    assert_eq!((&body["stream"], &body["max_tokens"]), (&json!(true), &json!(100)));
}
