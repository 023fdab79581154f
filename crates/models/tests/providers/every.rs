//! What holds in every protocol.

use std::time::Duration;

use futures_util::StreamExt;
use serde_json::json;
use stakpak_agent_core::{ErrorClass, ModelEvent, ModelRequest};
use stakpak_models::ProviderKind;
use stakpak_protocol::{FinishReason, Message, MessagePart};
use stakpak_test_support::{Gate, Reply, ScriptedLlm};

use crate::support::{KEY, ask, call, hello, history, model_of, request, result, settings};

const KINDS: [ProviderKind; 5] =
    [ProviderKind::Chat, ProviderKind::Responses, ProviderKind::Anthropic, ProviderKind::Gemini, ProviderKind::Bedrock];

/// Text and a call, which is all that every protocol has; reasoning where it comes signed or sealed.
fn whole(kind: ProviderKind) -> Reply {
    let text = "dü";
    let arguments = json!({ "a": "ü" });
    match kind {
        ProviderKind::Chat => Reply::tool_call("call_1", "run", &arguments).then_text(text),
        ProviderKind::Responses => Reply::responses(
            &[
                json!({ "type": "reasoning", "id": "r", "summary": [], "encrypted_content": "c2ln" }),
                json!({ "type": "message", "id": "m", "content": [{ "type": "output_text", "text": text }] }),
                json!({
                    "type": "function_call", "id": "f", "call_id": "call_1", "name": "run",
                    "arguments": arguments.to_string()
                }),
            ],
            "completed",
        ),
        ProviderKind::Anthropic => Reply::anthropic(
            &[
                json!({ "type": "thinking", "thinking": "hm", "signature": "c2ln" }),
                json!({ "type": "text", "text": text }),
                json!({ "type": "tool_use", "id": "call_1", "name": "run", "input": arguments }),
            ],
            "tool_use",
        ),
        ProviderKind::Gemini => {
            let call = json!({ "functionCall": { "id": "call_1", "name": "run", "args": arguments } });
            Reply::gemini(&[json!([{ "text": "d" }]), json!([{ "text": "ü" }, call])], "STOP")
        }
        ProviderKind::Bedrock => Reply::bedrock(
            &[
                json!({ "reasoningContent": { "reasoningText": { "text": "hm", "signature": "c2ln" } } }),
                json!({ "text": text }),
                json!({ "toolUse": { "toolUseId": "call_1", "name": "run", "input": arguments } }),
            ],
            "tool_use",
        ),
    }
}

/// M6, C-P63 (chat completions have their own test): a body that ends anywhere is either the whole answer or torn, never something in between.
async fn cut_at_every_byte(kind: ProviderKind) {
    let llm = ScriptedLlm::start().await;
    let model = model_of(settings(&llm, kind), "m");
    llm.push(whole(kind));
    let complete = ask(&model, hello()).await.end.unwrap();
    assert_eq!((complete.parts.len(), complete.finish), (2, FinishReason::ToolCalls));
    let len = whole(kind).body_len();
    let mut first_whole = None;
    for cut in 0..len {
        llm.push(whole(kind).cut_at(cut));
        match ask(&model, hello()).await.end {
            Ok(answer) => {
                first_whole.get_or_insert(cut);
                assert_eq!(answer, complete, "after {cut} of {len} bytes");
            }
            Err(error) => {
                assert_eq!(first_whole, None, "an error after {cut} of {len} bytes: {error}");
                assert_eq!(error.class, ErrorClass::StreamTruncated, "after {cut} of {len} bytes: {error}");
            }
        }
    }
    assert!(first_whole.is_none_or(|first| first > len / 2), "{first_whole:?} of {len}");
}

#[tokio::test]
async fn responses_cut_at_every_byte() {
    cut_at_every_byte(ProviderKind::Responses).await;
}

#[tokio::test]
async fn anthropic_cut_at_every_byte() {
    cut_at_every_byte(ProviderKind::Anthropic).await;
}

#[tokio::test]
async fn gemini_cut_at_every_byte() {
    cut_at_every_byte(ProviderKind::Gemini).await;
}

#[tokio::test]
async fn bedrock_cut_at_every_byte() {
    cut_at_every_byte(ProviderKind::Bedrock).await;
}

#[tokio::test]
async fn a_broken_connection_is_a_torn_answer() {
    for kind in KINDS {
        let llm = ScriptedLlm::start().await;
        let model = model_of(settings(&llm, kind), "m");
        llm.push(whole(kind).cut_at(whole(kind).body_len() / 2).torn());
        assert_eq!(ask(&model, hello()).await.end.unwrap_err().class, ErrorClass::StreamTruncated, "{kind:?}");
    }
}

/// M17.
#[tokio::test]
async fn a_server_that_stops_sending_is_left() {
    for kind in KINDS {
        let llm = ScriptedLlm::start().await;
        let mut settings = settings(&llm, kind);
        settings.timeouts.idle = Duration::from_millis(200);
        let model = model_of(settings, "m");
        llm.push(whole(kind).cut_at(whole(kind).body_len() / 2).stalled());
        assert_eq!(ask(&model, hello()).await.end.unwrap_err().class, ErrorClass::Timeout, "{kind:?}");
        tokio::time::timeout(Duration::from_secs(10), llm.wait_for_hang_ups(1)).await.unwrap();
    }
}

/// M5: status and wait are read from every protocol's refusal.
#[tokio::test]
async fn rate_limits_and_overload() {
    for kind in KINDS {
        let llm = ScriptedLlm::start().await;
        let model = model_of(settings(&llm, kind), "m");
        llm.push(Reply::rate_limited(7));
        let error = ask(&model, hello()).await.end.unwrap_err();
        assert_eq!(
            (error.class, error.retry_after),
            (ErrorClass::RateLimited, Some(Duration::from_secs(7))),
            "{kind:?}"
        );
        llm.push(Reply::status(529, &json!({ "error": { "type": "overloaded_error", "message": "busy" } })));
        let error = ask(&model, hello()).await.end.unwrap_err();
        assert_eq!(error.class, ErrorClass::Overloaded, "{kind:?}");
        llm.push(Reply::body(502, "text/html", "<html>bad gateway</html>"));
        let error = ask(&model, hello()).await.end.unwrap_err();
        assert_eq!((error.class, error.message.as_str()), (ErrorClass::Server, "acme: 502 server error"), "{kind:?}");
    }
}

/// M2, C-P64: the exact id, whatever its end says to genai.
#[tokio::test]
async fn the_exact_id_is_asked_for() {
    for kind in KINDS {
        let llm = ScriptedLlm::start().await;
        for id in ["x-max", "claude-x-high", "gemini-3-zero", "gpt-5-low", "deepseek::r1"] {
            llm.push(whole(kind));
            ask(&model_of(settings(&llm, kind), id), hello()).await.end.unwrap();
            let asked = llm.requests().pop().unwrap();
            match kind {
                ProviderKind::Gemini => assert!(asked.path.contains(&format!("/{id}:stream")), "{}", asked.path),
                ProviderKind::Bedrock => assert_eq!(asked.path, format!("/model/{id}/converse-stream")),
                _ => assert_eq!(asked.body["model"], id, "{kind:?}"),
            }
            let body = asked.body.to_string();
            for key in ["effort", "thinking", "budget"] {
                assert!(!body.contains(key), "{kind:?} {id}: {body}");
            }
        }
    }
}

/// C-P66: whatever a server repeats, the key is in no URL and no error.
#[tokio::test]
async fn the_key_is_in_no_url_and_no_error() {
    for kind in KINDS {
        let llm = ScriptedLlm::start().await;
        let model = model_of(settings(&llm, kind), "m");
        for status in [400, 401, 403, 500] {
            llm.push(Reply::status(status, &json!({ "error": { "message": format!("bad key {KEY}") } })));
            let error = ask(&model, hello()).await.end.unwrap_err();
            assert!(!format!("{error:?}").contains(KEY), "{kind:?}: {error:?}");
        }
        assert!(llm.requests().iter().all(|asked| !asked.path.contains(KEY)), "{kind:?}");
    }
}

/// Headers of the configuration win over those of the protocol.
#[tokio::test]
async fn configured_headers_win() {
    for kind in KINDS {
        let llm = ScriptedLlm::start().await;
        let mut settings = settings(&llm, kind);
        settings.api_key = None;
        settings.headers = [("Anthropic-Version".into(), "2030-01-01".into()), ("x-team".into(), "ops".into())].into();
        llm.push(whole(kind));
        ask(&model_of(settings, "m"), hello()).await.end.unwrap();
        let headers = &llm.requests()[0].headers;
        assert_eq!((headers["anthropic-version"].as_str(), headers["x-team"].as_str()), ("2030-01-01", "ops"));
        assert!(!headers.contains_key("authorization") && !headers.contains_key("x-api-key"), "{kind:?}");
    }
}

/// Where models take images in results they get them; elsewhere it is said that there was one.
#[tokio::test]
async fn images_in_results_go_where_they_are_taken() {
    const OMITTED: &str = "a chart\n<non-text tool result omitted for safety>";
    let llm = ScriptedLlm::start().await;
    let content =
        json!([{ "type": "text", "text": "a chart" }, { "type": "image", "url": "data:image/png;base64,AAAA" }]);
    let history = vec![
        Message::user("draw"),
        Message::assistant(vec![call("call_1", "run", json!({}))]),
        result("call_1", content, false),
    ];
    for (kind, model, at, expected) in [
        (ProviderKind::Chat, "gpt-5", "/messages/3/content", json!(OMITTED)),
        (ProviderKind::Responses, "gpt-3.5-turbo", "/input/2/output", json!(OMITTED)),
        (
            ProviderKind::Responses,
            "gpt-5",
            "/input/2/output",
            json!([
                { "type": "input_text", "text": "a chart" },
                { "type": "input_image", "image_url": "data:image/png;base64,AAAA" }
            ]),
        ),
        (
            ProviderKind::Anthropic,
            "claude-x",
            "/messages/2/content/0/content",
            json!([
                { "type": "text", "text": "a chart" },
                { "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": "AAAA" } }
            ]),
        ),
        (
            ProviderKind::Gemini,
            "gemini-2.5-pro",
            "/contents/2/parts/0/functionResponse/response",
            json!({ "output": OMITTED }),
        ),
        (
            ProviderKind::Gemini,
            "gemini-3-pro",
            "/contents/2/parts/0/functionResponse/parts",
            json!([{ "inlineData": { "mimeType": "image/png", "data": "AAAA" } }]),
        ),
    ] {
        llm.push(whole(kind));
        ask(&model_of(settings(&llm, kind), model), request(history.clone())).await.end.unwrap();
        let body = llm.requests().pop().unwrap().body;
        assert_eq!(body.pointer(at), Some(&expected), "{kind:?} {model}: {body}");
    }
}

/// C-P7: words are there while the model is still sending.
#[tokio::test]
async fn words_arrive_while_the_model_is_still_sending() {
    for kind in KINDS {
        let llm = ScriptedLlm::start().await;
        let gate = Gate::new();
        llm.push(first_words(kind).then_wait(&gate));
        let mut stream = model_of(settings(&llm, kind), "m").stream(hello()).await.unwrap();
        let first = tokio::time::timeout(Duration::from_secs(10), stream.next()).await.unwrap();
        assert_eq!(first.unwrap().unwrap(), ModelEvent::Text("Hel".into()), "{kind:?}");
        assert!(!gate.is_open());
        drop(stream);
        tokio::time::timeout(Duration::from_secs(10), llm.wait_for_hang_ups(1)).await.unwrap();
    }
}

/// The beginning of an answer.
fn first_words(kind: ProviderKind) -> Reply {
    match kind {
        ProviderKind::Chat => Reply::text(["Hel"]),
        ProviderKind::Responses => Reply::events().then_event(&json!({
            "type": "response.output_text.delta", "item_id": "m", "output_index": 0, "content_index": 0, "delta": "Hel"
        })),
        ProviderKind::Anthropic => Reply::events()
            .then_event(&json!({
                "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" }
            }))
            .then_event(&json!({
                "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": "Hel" }
            })),
        ProviderKind::Gemini => {
            let chunk = json!({ "candidates": [{ "content": { "parts": [{ "text": "Hel" }], "role": "model" } }] });
            Reply::events().then_bytes(format!("data: {chunk}\r\n\r\n"))
        }
        ProviderKind::Bedrock => Reply::bedrock_events()
            .then_converse("contentBlockDelta", &json!({ "contentBlockIndex": 0, "delta": { "text": "Hel" } })),
    }
}

/// C-P21: what was sent before is sent again byte by byte, so that the provider's cache holds (Anthropic, whose marks
/// move, has its own test).
#[tokio::test]
async fn a_longer_conversation_begins_with_the_shorter_one() {
    for (kind, messages) in [
        (ProviderKind::Chat, "messages"),
        (ProviderKind::Responses, "input"),
        (ProviderKind::Gemini, "contents"),
        (ProviderKind::Bedrock, "messages"),
    ] {
        let llm = ScriptedLlm::start().await;
        let model = model_of(settings(&llm, kind), "m");
        let mut said = history();
        let first = request(said.clone());
        said.extend([Message::assistant(vec![MessagePart::text("It is full.")]), Message::user("And now?")]);
        let second = ModelRequest { messages: said, ..first.clone() };
        for request in [first, second] {
            llm.push(whole(kind));
            ask(&model, request).await.end.unwrap();
        }
        let mut bodies = llm.requests().into_iter().map(|asked| asked.body);
        let (mut before, mut after) = (bodies.next().unwrap(), bodies.next().unwrap());
        let sent = |body: &mut serde_json::Value| -> Vec<String> {
            body[messages].take().as_array().unwrap().iter().map(ToString::to_string).collect()
        };
        let (shorter, longer) = (sent(&mut before), sent(&mut after));
        assert_eq!(longer[..shorter.len()], shorter, "{kind:?}");
        assert!(longer.len() > shorter.len(), "{kind:?}");
        assert_eq!(before.to_string(), after.to_string(), "{kind:?}");
    }
}

/// C-P5, section 4: what is too long is told from what is too much, in every protocol.
#[tokio::test]
async fn too_long_and_too_much() {
    for kind in KINDS {
        let llm = ScriptedLlm::start().await;
        let model = model_of(settings(&llm, kind), "m");
        for (status, code, message, class) in [
            (400, "context_length_exceeded", "too long", ErrorClass::ContextOverflow),
            (400, "", "prompt is too long: 210000 tokens > 200000 maximum", ErrorClass::ContextOverflow),
            (413, "", "The input token count (1200000) exceeds the maximum", ErrorClass::ContextOverflow),
            (429, "", "tokens per minute limit: maximum context length", ErrorClass::RateLimited),
            (429, "insufficient_quota", "pay first", ErrorClass::Quota),
            (400, "", "max_tokens: must be at most 8192", ErrorClass::BadRequest),
        ] {
            llm.push(Reply::status(status, &json!({ "error": { "code": code, "message": message } })));
            let error = ask(&model, hello()).await.end.unwrap_err();
            assert_eq!(error.class, class, "{kind:?} {status} {message}");
        }
    }
}
