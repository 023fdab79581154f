//! The Gemini API.

use serde_json::{Value, json};
use stakpak_agent_core::ErrorClass;
use stakpak_models::ProviderKind;
use stakpak_protocol::{FinishReason, MessagePart};
use stakpak_test_support::{Reply, ScriptedLlm};

use crate::support::{Heard, ask, hello, history, model_of, request, second_turn, settings};

const ID: &str = "gemini-2.5-pro";

fn function_call(command: &str) -> Value {
    json!({ "functionCall": { "name": "run", "args": { "command": command } } })
}

async fn replied(reply: Reply) -> Heard {
    let llm = ScriptedLlm::start().await;
    llm.push(reply);
    ask(&model_of(settings(&llm, ProviderKind::Gemini), ID), hello()).await
}

/// C-P66: the key is in a header, never in the URL.
#[tokio::test]
async fn the_request_as_google_has_it() {
    let llm = ScriptedLlm::start().await;
    llm.push(Reply::gemini(&[json!([{ "text": "ok" }])], "STOP"));
    ask(&model_of(settings(&llm, ProviderKind::Gemini), "gemini-x-max"), request(history())).await.end.unwrap();
    let asked = llm.requests().remove(0);
    assert_eq!(asked.path, "/v1beta/models/gemini-x-max:streamGenerateContent?alt=sse");
    assert_eq!(asked.headers["x-goog-api-key"], crate::support::KEY);
    let schema = json!({ "type": "object", "properties": { "command": { "type": "string" } } });
    let tool = |name: &str| json!({ "name": name, "description": "does", "parametersJsonSchema": schema });
    assert_eq!(
        asked.body,
        json!({
            "contents": [
                { "role": "user", "parts": [
                    { "text": "look" }, { "inlineData": { "mimeType": "image/png", "data": "AAAA" } }
                ] },
                { "role": "model", "parts": [
                    { "text": "sure" },
                    { "functionCall": { "id": "call_1", "name": "run", "args": { "command": "ls" } } },
                    { "functionCall": { "id": "call_2", "name": "a", "args": {} } }
                ] },
                { "role": "user", "parts": [
                    { "functionResponse":
                        { "id": "call_1", "name": "run", "response": { "output": "a\n\"b\"" } } },
                    { "functionResponse":
                        { "id": "call_2", "name": "a", "response": { "error": "{\"skipped\":\"why\"}" } } }
                ] }
            ],
            "generationConfig": { "maxOutputTokens": 100 },
            "systemInstruction": { "parts": [{ "text": "be brief" }] },
            "tools": [{ "functionDeclarations": [tool("a"), tool("run")] }]
        })
    );
}

/// M12: calls come without ids; ours are unique, and none go back.
#[tokio::test]
async fn text_thoughts_parallel_calls_and_usage() {
    let llm = ScriptedLlm::start().await;
    let chunks = [
        json!([{ "text": "Hm.", "thought": true }]),
        json!([{ "text": "Let me " }]),
        json!([{ "text": "löök." }, function_call("df"), function_call("ls")]),
    ];
    llm.push(Reply::gemini(&chunks, "STOP"));
    llm.push(Reply::gemini(&[json!([function_call("df")])], "STOP"));
    let model = model_of(settings(&llm, ProviderKind::Gemini), ID);
    let heard = ask(&model, hello()).await;
    assert_eq!((heard.thinking.as_str(), heard.text.as_str()), ("Hm.", "Let me löök."));
    let answer = heard.end.unwrap();
    assert_eq!(answer.finish, FinishReason::ToolCalls);
    let commands = |parts: &[MessagePart]| -> Vec<(String, Value)> {
        let call = |part: &MessagePart| match part {
            MessagePart::ToolCall { id, arguments, .. } => Some((id.0.clone(), arguments["command"].clone())),
            _ => None,
        };
        parts.iter().filter_map(call).collect()
    };
    let first = commands(&answer.parts);
    assert_eq!((first[0].1.as_str(), first[1].1.as_str()), (Some("df"), Some("ls")));
    let usage = &answer.usage;
    assert_eq!((usage.prompt_tokens, usage.completion_tokens, usage.total_tokens), (50, 10, 60));
    assert_eq!(usage.input_token_details.as_ref().unwrap().cache_read, Some(20));

    let next = ask(&model, second_turn(&answer)).await.end.unwrap();
    let second = commands(&next.parts);
    let mut ids: Vec<&String> = first.iter().chain(&second).map(|(id, _)| id).collect();
    assert!(ids.iter().all(|id| id.starts_with("call_") && !id.contains('#')), "{ids:?}");
    ids.dedup();
    assert_eq!(ids.len(), 3);
    let contents = &llm.requests()[1].body["contents"];
    assert_eq!(contents[1]["parts"], json!([{ "text": "Let me löök." }, function_call("df"), function_call("ls")]));
    let response = json!({ "functionResponse": { "name": "run", "response": { "output": "fine" } } });
    assert_eq!(contents[2]["parts"], json!([response, response]));
}

/// C-P14: a signature goes back in the part it came with, also one that came alone.
#[tokio::test]
async fn signatures_go_back_in_their_parts() {
    let llm = ScriptedLlm::start().await;
    let signed = |mut part: Value, signature: &str| {
        part["thoughtSignature"] = json!(signature);
        part
    };
    let chunks = [
        json!([{ "text": "Let " }]),
        json!([signed(json!({ "text": "me." }), "c2lnMQ==")]),
        json!([signed(function_call("df"), "c2lnMg=="), function_call("ls")]),
        json!([signed(json!({ "text": "" }), "c2lnMw==")]),
    ];
    llm.push(Reply::gemini(&chunks, "STOP"));
    llm.push(Reply::gemini(&[json!([{ "text": "Fine." }])], "STOP"));
    let model = model_of(settings(&llm, ProviderKind::Gemini), ID);
    let answer = ask(&model, hello()).await.end.unwrap();
    ask(&model, second_turn(&answer)).await.end.unwrap();
    assert_eq!(
        llm.requests()[1].body["contents"][1]["parts"],
        json!([
            { "text": "Let " },
            { "text": "me.", "thoughtSignature": "c2lnMQ==" },
            signed(function_call("df"), "c2lnMg=="),
            function_call("ls"),
            { "text": "", "thoughtSignature": "c2lnMw==" }
        ])
    );
}

/// Gemini 3 refuses a call without a signature: one of another model carries the documented stand-in.
#[tokio::test]
async fn calls_of_another_model_are_taken_by_gemini_3() {
    let llm = ScriptedLlm::start().await;
    llm.push(Reply::gemini(&[json!([{ "text": "ok" }])], "STOP"));
    ask(&model_of(settings(&llm, ProviderKind::Gemini), "gemini-3-pro"), request(history())).await.end.unwrap();
    let parts = &llm.requests()[0].body["contents"][1]["parts"];
    assert_eq!(parts[1]["thoughtSignature"], "skip_thought_signature_validator");
    assert!(parts[2].get("thoughtSignature").is_none());
}

#[tokio::test]
async fn ends_and_errors() {
    for (reason, finish) in [
        ("STOP", FinishReason::Stop),
        ("MAX_TOKENS", FinishReason::MaxOutputTokens),
        ("SAFETY", FinishReason::Stop),
        ("MALFORMED_FUNCTION_CALL", FinishReason::Error),
    ] {
        let heard = replied(Reply::gemini(&[json!([{ "text": "x" }])], reason)).await;
        assert_eq!(heard.end.unwrap().finish, finish, "{reason}");
    }
    let blocked = json!({ "promptFeedback": { "blockReason": "SAFETY" }, "usageMetadata": { "promptTokenCount": 5 } });
    for silent in
        [Reply::gemini(&[json!([])], "SAFETY"), Reply::events().then_bytes(format!("data: {blocked}\r\n\r\n"))]
    {
        assert_eq!(replied(silent).await.end.unwrap_err().class, ErrorClass::ContentFilter);
    }
    let body = |code: u16, status: &str, message: &str, details: Value| json!({ "error": { "code": code, "status": status, "message": message, "details": details } });
    let wait = json!([{ "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s" }]);
    let error = replied(Reply::status(429, &body(429, "RESOURCE_EXHAUSTED", "quota", wait))).await.end.unwrap_err();
    assert_eq!(error.class, ErrorClass::RateLimited);
    assert_eq!(error.retry_after.unwrap().as_millis(), 34_500);
    let bad_key = json!([{ "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID" }]);
    let long = "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).";
    for (status, body, class) in [
        (400, body(400, "INVALID_ARGUMENT", "API key not valid.", bad_key), ErrorClass::Auth),
        (400, body(400, "INVALID_ARGUMENT", long, json!([])), ErrorClass::ContextOverflow),
        (503, body(503, "UNAVAILABLE", "The model is overloaded.", json!([])), ErrorClass::Overloaded),
    ] {
        assert_eq!(replied(Reply::status(status, &body)).await.end.unwrap_err().class, class, "{body}");
    }
    let event = body(503, "UNAVAILABLE", "The model is overloaded.", json!([]));
    let error = replied(Reply::events().then_bytes(format!("data: {event}\r\n\r\n"))).await.end.unwrap_err();
    assert_eq!(error.class, ErrorClass::Overloaded);
}
