//! Messages of Anthropic.

use serde_json::{Value, json};
use stakpak_agent_core::ErrorClass;
use stakpak_models::ProviderKind;
use stakpak_protocol::{FinishReason, Message, MessagePart};
use stakpak_test_support::{Reply, ScriptedLlm};

use crate::support::{Heard, ask, call, hello, history, model_of, request, second_turn, settings};

const ID: &str = "claude-sonnet-4-5";

fn thinking(text: &str, signature: &str) -> Value {
    json!({ "type": "thinking", "thinking": text, "signature": signature })
}

fn tool_use(id: &str, input: Value) -> Value {
    json!({ "type": "tool_use", "id": id, "name": "run", "input": input })
}

fn text(text: &str) -> Value {
    json!({ "type": "text", "text": text })
}

async fn replied(reply: Reply) -> Heard {
    let llm = ScriptedLlm::start().await;
    llm.push(reply);
    ask(&model_of(settings(&llm, ProviderKind::Anthropic), ID), hello()).await
}

fn mark(mut block: Value, ttl: &str) -> Value {
    block["cache_control"] = json!({ "type": "ephemeral", "ttl": ttl });
    block
}

/// M1, M2, M4, M10, M15: address, version, key, the system prompt, marks, images, the flag of an error.
#[tokio::test]
async fn the_request_as_anthropic_has_it() {
    let llm = ScriptedLlm::start().await;
    llm.push(Reply::anthropic(&[text("ok")], "end_turn"));
    ask(&model_of(settings(&llm, ProviderKind::Anthropic), "claude-x-high"), request(history())).await.end.unwrap();
    let asked = llm.requests().remove(0);
    assert_eq!(asked.path, "/v1/messages");
    assert_eq!(
        (asked.headers["x-api-key"].as_str(), asked.headers["anthropic-version"].as_str()),
        (crate::support::KEY, "2023-06-01")
    );
    assert!(!asked.headers.contains_key("authorization"));
    let schema = json!({ "type": "object", "properties": { "command": { "type": "string" } } });
    let tool = |name: &str| json!({ "name": name, "description": "does", "input_schema": schema });
    let failed = json!({
        "type": "tool_result", "tool_use_id": "call_2", "content": "{\"skipped\":\"why\"}", "is_error": true
    });
    let no_arguments = json!({ "type": "tool_use", "id": "call_2", "name": "a", "input": {} });
    assert_eq!(
        asked.body,
        json!({
            "max_tokens": 100,
            "messages": [
                { "role": "user", "content": [
                    text("look"),
                    { "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": "AAAA" } }
                ] },
                { "role": "assistant", "content": [
                    text("sure"), tool_use("call_1", json!({ "command": "ls" })), mark(no_arguments, "5m")
                ] },
                { "role": "user", "content": [
                    { "type": "tool_result", "tool_use_id": "call_1", "content": "a\n\"b\"" }, mark(failed, "5m")
                ] }
            ],
            "model": "claude-x-high",
            "stream": true,
            "system": [mark(text("be brief"), "1h")],
            "tools": [tool("a"), mark(tool("run"), "1h")]
        })
    );
}

#[tokio::test]
async fn text_thinking_parallel_calls_and_usage() {
    let blocks = [
        thinking("Hmm, disks.", "c2lnbmF0dXJl"),
        text("Let me löök."),
        tool_use("toolu_1", json!({ "command": "df -h" })),
        tool_use("toolu_2", json!({})),
    ];
    let heard = replied(Reply::anthropic(&blocks, "tool_use")).await;
    assert_eq!((heard.thinking.as_str(), heard.text.as_str()), ("Hmm, disks.", "Let me löök."));
    let answer = heard.end.unwrap();
    let calls = [call("toolu_1", "run", json!({ "command": "df -h" })), call("toolu_2", "run", json!({}))];
    assert_eq!(answer.parts[0], MessagePart::text("Let me löök."));
    assert_eq!(answer.parts[1..], calls);
    assert_eq!(answer.finish, FinishReason::ToolCalls);
    let usage = &answer.usage;
    assert_eq!((usage.prompt_tokens, usage.completion_tokens, usage.total_tokens), (142, 15, 157));
    let input = usage.input_token_details.as_ref().unwrap();
    assert_eq!((input.no_cache, input.cache_read, input.cache_write), (Some(12), Some(100), Some(30)));
    assert_eq!(usage.raw.as_ref().unwrap()["cache_creation"]["ephemeral_1h_input_tokens"], 20);
}

/// M11, C-P14: signed and redacted thinking goes back where it came from, also between text and calls.
#[tokio::test]
async fn thinking_goes_back_as_it_came() {
    let llm = ScriptedLlm::start().await;
    let blocks = [
        thinking("one", "c2lnMQ=="),
        json!({ "type": "redacted_thinking", "data": "b3BhcXVl" }),
        text("Let me look."),
        thinking("two", "c2lnMg=="),
        tool_use("toolu_1", json!({ "command": "df" })),
    ];
    llm.push(Reply::anthropic(&blocks, "tool_use"));
    llm.push(Reply::anthropic(&[text("Fine.")], "end_turn"));
    let model = model_of(settings(&llm, ProviderKind::Anthropic), ID);
    let answer = ask(&model, hello()).await.end.unwrap();
    assert_eq!(answer.parts.len(), 2, "nothing of it is in the message");
    let next = second_turn(&answer);
    ask(&model, next.clone()).await.end.unwrap();
    let mut expected = blocks.to_vec();
    expected[4] = mark(expected[4].clone(), "5m");
    assert_eq!(llm.requests()[1].body["messages"][1]["content"], json!(expected));

    // Another family, and another provider with the same model, get the message alone.
    let plain = json!([text("Let me look."), expected[4]]);
    let mut other = settings(&llm, ProviderKind::Anthropic);
    other.id = "other".to_owned();
    for model in [model_of(settings(&llm, ProviderKind::Anthropic), "claude-opus-4-1"), model_of(other, ID)] {
        llm.push(Reply::anthropic(&[text("Fine.")], "end_turn"));
        ask(&model, next.clone()).await.end.unwrap();
        assert_eq!(llm.requests().last().unwrap().body["messages"][1]["content"], plain);
    }
}

/// M11: a signature that is not taken any more costs one more request, not the run.
#[tokio::test]
async fn a_refused_signature_is_left_out() {
    let llm = ScriptedLlm::start().await;
    let blocks = [thinking("one", "c2lnMQ=="), tool_use("toolu_1", json!({}))];
    let refusal = json!({ "type": "error", "error": {
        "type": "invalid_request_error", "message": "messages.1.content.0: Invalid `signature` in `thinking` block"
    } });
    llm.push(Reply::anthropic(&blocks, "tool_use"));
    llm.push(Reply::status(400, &refusal));
    llm.push(Reply::anthropic(&[text("Fine.")], "end_turn"));
    llm.push(Reply::status(400, &refusal));
    llm.push(Reply::status(400, &refusal));
    let model = model_of(settings(&llm, ProviderKind::Anthropic), ID);
    let answer = ask(&model, hello()).await.end.unwrap();
    ask(&model, second_turn(&answer)).await.end.unwrap();
    let asked = llm.requests();
    assert_eq!(asked.len(), 3);
    assert_eq!(asked[2].body["messages"][1]["content"].as_array().unwrap().len(), 1);
    assert_eq!(asked[2].body["messages"][1]["content"][0]["type"], "tool_use");

    let error = ask(&model, second_turn(&answer)).await.end.unwrap_err();
    assert_eq!((error.class, llm.requests().len()), (ErrorClass::BadRequest, 5), "once only");
}

/// M10, M12: an id that repeats is ours in the history, and the provider's on its wire.
#[tokio::test]
async fn the_providers_own_ids_are_restored() {
    let llm = ScriptedLlm::start().await;
    llm.push(Reply::anthropic(&[tool_use("toolu:odd", json!({}))], "tool_use"));
    llm.push(Reply::anthropic(&[text("Fine.")], "end_turn"));
    let model = model_of(settings(&llm, ProviderKind::Anthropic), ID);
    let answer = ask(&model, hello()).await.end.unwrap();
    let MessagePart::ToolCall { id, .. } = &answer.parts[0] else { panic!("{answer:?}") };
    assert!(id.as_str().starts_with("call_"), "{id}");
    ask(&model, second_turn(&answer)).await.end.unwrap();
    let messages = &llm.requests()[1].body["messages"];
    assert_eq!(messages[1]["content"][0]["id"], "toolu:odd");
    assert_eq!(messages[2]["content"][0]["tool_use_id"], "toolu:odd");
}

/// What the server tells at the end is not there the next time: what is kept ends before it.
#[tokio::test]
async fn a_note_is_not_cached() {
    let llm = ScriptedLlm::start().await;
    llm.push(Reply::anthropic(&[tool_use("toolu_1", json!({}))], "tool_use"));
    llm.push(Reply::anthropic(&[text("Fine.")], "end_turn"));
    let model = model_of(settings(&llm, ProviderKind::Anthropic), ID);
    let answer = ask(&model, hello()).await.end.unwrap();
    let mut second = second_turn(&answer);
    second.messages.push(Message::user("<run_note>\nthe last turn\n</run_note>"));
    ask(&model, second).await.end.unwrap();
    let content = llm.requests()[1].body["messages"][2]["content"].clone();
    let kinds = [&content[0]["type"], &content[1]["type"]];
    assert_eq!(kinds, ["tool_result", "text"], "{content}");
    assert!(content[0]["cache_control"].is_object() && content[1]["cache_control"].is_null(), "{content}");
}

/// A request's prefix is the same from turn to turn, but for the marks of the last two messages.
#[tokio::test]
async fn the_prefix_stays() {
    let llm = ScriptedLlm::start().await;
    llm.always(Reply::anthropic(&[text("ok")], "end_turn"));
    let model = model_of(settings(&llm, ProviderKind::Anthropic), ID);
    let mut messages = vec![Message::user("one")];
    let mut marks = Vec::new();
    for turn in 0..3 {
        ask(&model, request(messages.clone())).await.end.unwrap();
        let mut body = llm.requests()[turn].body.clone();
        marks.push(body.to_string().matches("cache_control").count());
        for message in body["messages"].as_array_mut().unwrap() {
            for block in message["content"].as_array_mut().unwrap() {
                block.as_object_mut().unwrap().remove("cache_control");
            }
        }
        if turn > 0 {
            let before: Vec<Value> = messages[..turn * 2 - 1]
                .iter()
                .map(|message| {
                    json!({
                        "role": message.role, "content": [text(&message.text())]
                    })
                })
                .collect();
            assert_eq!(body["messages"].as_array().unwrap()[..before.len()], before);
        }
        messages.extend([Message::assistant(vec![MessagePart::text(format!("answer {turn}"))]), Message::user("more")]);
    }
    assert_eq!(marks, [3, 4, 4]);
}

#[tokio::test]
async fn why_an_answer_ended() {
    for (reason, finish) in [
        ("end_turn", FinishReason::Stop),
        ("stop_sequence", FinishReason::Stop),
        ("pause_turn", FinishReason::Stop),
        ("max_tokens", FinishReason::MaxOutputTokens),
        ("model_context_window_exceeded", FinishReason::MaxOutputTokens),
        ("refusal", FinishReason::Stop),
    ] {
        assert_eq!(replied(Reply::anthropic(&[text("x")], reason)).await.end.unwrap().finish, finish, "{reason}");
    }
    let cut = Reply::anthropic(&[tool_use("toolu_1", json!("{\"command\": \"ls"))], "max_tokens");
    assert_eq!(replied(cut).await.end.unwrap().parts, [call("toolu_1", "run", json!("{\"command\": \"ls"))]);
    let silent = replied(Reply::anthropic(&[], "refusal")).await.end.unwrap_err();
    assert_eq!(silent.class, ErrorClass::ContentFilter);
    assert_eq!(replied(Reply::anthropic(&[], "end_turn")).await.end.unwrap().parts, []);
}

/// Section 4: the class is that of status and code, in a stream as well.
#[tokio::test]
async fn errors_by_class() {
    let body = |kind: &str, message: &str| json!({ "type": "error", "error": { "type": kind, "message": message } });
    let long = body("invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum");
    for (status, body, class) in [
        (400, body("invalid_request_error", "max_tokens: must be at most 8192"), ErrorClass::BadRequest),
        (400, long.clone(), ErrorClass::ContextOverflow),
        (401, body("authentication_error", "invalid x-api-key"), ErrorClass::Auth),
        (403, body("permission_error", "no"), ErrorClass::Permission),
        (404, body("not_found_error", "model: claude"), ErrorClass::ModelNotFound),
        (413, body("request_too_large", "Request exceeds the maximum size"), ErrorClass::BadRequest),
        (429, body("rate_limit_error", "tokens per minute limit"), ErrorClass::RateLimited),
        (500, body("api_error", "boom"), ErrorClass::Server),
        (529, body("overloaded_error", "Overloaded"), ErrorClass::Overloaded),
    ] {
        let error = replied(Reply::status(status, &body)).await.end.unwrap_err();
        assert_eq!(error.class, class, "{status} {body}");
    }
    for (kind, class) in [
        ("overloaded_error", ErrorClass::Overloaded),
        ("rate_limit_error", ErrorClass::RateLimited),
        ("api_error", ErrorClass::Server),
        ("timeout_error", ErrorClass::Timeout),
    ] {
        let heard = replied(Reply::events().then_event(&body(kind, "busy"))).await;
        assert_eq!(heard.end.unwrap_err().class, class, "{kind}");
    }
    let error = replied(Reply::events().then_event(&long)).await.end.unwrap_err();
    assert_eq!(error.class, ErrorClass::ContextOverflow);
}
