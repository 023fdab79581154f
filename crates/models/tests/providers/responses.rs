//! Responses of OpenAI.

use serde_json::{Value, json};
use stakpak_agent_core::ErrorClass;
use stakpak_models::ProviderKind;
use stakpak_protocol::{FinishReason, MessagePart};
use stakpak_test_support::{Reply, ScriptedLlm};

use crate::support::{Heard, ask, call, hello, history, model_of, request, second_turn, settings};

fn message(text: &str) -> Value {
    let content = json!([{ "type": "output_text", "text": text, "annotations": [] }]);
    json!({ "type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content })
}

fn function_call(id: &str, arguments: &str) -> Value {
    json!({
        "type": "function_call", "id": format!("fc_{id}"), "call_id": id, "name": "run", "arguments": arguments,
        "status": "completed"
    })
}

fn reasoning(content: &str) -> Value {
    json!({
        "type": "reasoning", "id": "rs_1", "summary": [{ "type": "summary_text", "text": "Hm." }],
        "encrypted_content": content
    })
}

async fn replied(reply: Reply) -> Heard {
    let llm = ScriptedLlm::start().await;
    llm.push(reply);
    ask(&model_of(settings(&llm, ProviderKind::Responses), "gpt-5"), hello()).await
}

#[tokio::test]
async fn the_request_as_openai_has_it() {
    let llm = ScriptedLlm::start().await;
    llm.push(Reply::responses(&[message("ok")], "completed"));
    let request = request(history());
    let session = request.session_id;
    ask(&model_of(settings(&llm, ProviderKind::Responses), "gpt-5-high"), request).await.end.unwrap();
    let asked = llm.requests().remove(0);
    assert_eq!(asked.path, "/v1/responses");
    assert_eq!(asked.headers["authorization"], format!("Bearer {}", crate::support::KEY));
    let schema = json!({ "type": "object", "properties": { "command": { "type": "string" } } });
    let tool = |name: &str| json!({ "type": "function", "name": name, "description": "does", "parameters": schema, "strict": false });
    assert_eq!(
        asked.body,
        json!({
            "include": ["reasoning.encrypted_content"],
            "input": [
                { "type": "message", "role": "user", "content": [
                    { "type": "input_text", "text": "look" },
                    { "type": "input_image", "image_url": "data:image/png;base64,AAAA" }
                ] },
                { "type": "message", "role": "assistant", "content": [{ "type": "output_text", "text": "sure" }] },
                { "type": "function_call", "call_id": "call_1", "name": "run", "arguments": "{\"command\":\"ls\"}" },
                { "type": "function_call", "call_id": "call_2", "name": "a", "arguments": "{}" },
                { "type": "function_call_output", "call_id": "call_1", "output": "a\n\"b\"" },
                { "type": "function_call_output", "call_id": "call_2", "output": "[error] {\"skipped\":\"why\"}" }
            ],
            "instructions": "be brief",
            "max_output_tokens": 100,
            "model": "gpt-5-high",
            "prompt_cache_key": session,
            "store": false,
            "stream": true,
            "tools": [tool("a"), tool("run")]
        })
    );
}

#[tokio::test]
async fn text_reasoning_parallel_calls_and_usage() {
    let items = [
        reasoning("Z2VoZWlt"),
        message("Let me löök."),
        function_call("call_1", "{\"command\":\"df -h\"}"),
        function_call("call_2", "{}"),
    ];
    let heard = replied(Reply::responses(&items, "completed")).await;
    assert_eq!((heard.thinking.as_str(), heard.text.as_str()), ("Hm.", "Let me löök."));
    let answer = heard.end.unwrap();
    let calls = [call("call_1", "run", json!({ "command": "df -h" })), call("call_2", "run", json!({}))];
    assert_eq!(answer.parts[0], MessagePart::text("Let me löök."));
    assert_eq!(answer.parts[1..], calls);
    assert_eq!(answer.finish, FinishReason::ToolCalls);
    let usage = &answer.usage;
    assert_eq!((usage.prompt_tokens, usage.completion_tokens, usage.total_tokens), (40, 20, 60));
    assert_eq!(usage.input_token_details.as_ref().unwrap().cache_read, Some(10));
    assert_eq!(usage.output_token_details.as_ref().unwrap().reasoning, Some(8));
}

/// C-P14: encrypted reasoning goes back before what it led to.
#[tokio::test]
async fn reasoning_goes_back_as_it_came() {
    let llm = ScriptedLlm::start().await;
    llm.push(Reply::responses(&[reasoning("Z2VoZWlt"), function_call("call_1", "{}")], "completed"));
    llm.push(Reply::responses(&[message("Fine.")], "completed"));
    let model = model_of(settings(&llm, ProviderKind::Responses), "gpt-5");
    let answer = ask(&model, hello()).await.end.unwrap();
    ask(&model, second_turn(&answer)).await.end.unwrap();
    assert_eq!(
        llm.requests()[1].body["input"].as_array().unwrap()[1..],
        [
            reasoning("Z2VoZWlt"),
            json!({ "type": "function_call", "call_id": "call_1", "name": "run", "arguments": "{}" }),
            json!({ "type": "function_call_output", "call_id": "call_1", "output": "fine" })
        ]
    );
}

/// A model that does not reason is asked again without.
#[tokio::test]
async fn a_model_that_encrypts_nothing_is_not_asked_to() {
    let llm = ScriptedLlm::start().await;
    llm.push(Reply::status(
        400,
        &json!({ "error": {
        "message": "Encrypted content is not supported with this model.", "type": "invalid_request_error",
        "param": "include", "code": null
    } }),
    ));
    llm.push(Reply::responses(&[message("Fine.")], "completed"));
    ask(&model_of(settings(&llm, ProviderKind::Responses), "other"), hello()).await.end.unwrap();
    assert!(llm.requests()[0].body.get("include").is_some() && llm.requests()[1].body.get("include").is_none());

    llm.push(Reply::responses(&[message("Fine.")], "completed"));
    ask(&model_of(settings(&llm, ProviderKind::Responses), "gpt-4.1"), hello()).await.end.unwrap();
    assert!(llm.requests()[2].body.get("include").is_none());
}

/// M8: what `response.failed` and `error` say is read from the frame.
#[tokio::test]
async fn ends_that_are_none() {
    let failed = |code: &str| {
        let response = json!({
            "id": "resp_1", "status": "failed", "model": "gpt", "output": [],
            "error": { "code": code, "message": "busy" }
        });
        Reply::events().then_event(&json!({ "type": "response.failed", "response": response }))
    };
    for (code, class) in [
        ("server_error", ErrorClass::Server),
        ("rate_limit_exceeded", ErrorClass::RateLimited),
        ("context_length_exceeded", ErrorClass::ContextOverflow),
        ("insufficient_quota", ErrorClass::Quota),
    ] {
        let error = replied(failed(code)).await.end.unwrap_err();
        assert_eq!(error.class, class, "{code}: {error}");
        let event = json!({ "type": "error", "code": code, "message": "busy", "param": null, "sequence_number": 1 });
        let error = replied(Reply::events().then_event(&event)).await.end.unwrap_err();
        assert_eq!(error.class, class, "{code}: {error}");
    }
    let cut = replied(Reply::responses(&[message("x")], "incomplete")).await.end.unwrap();
    assert_eq!(cut.finish, FinishReason::MaxOutputTokens);
    let cut = replied(Reply::responses(&[function_call("call_1", "{\"command\": \"ls")], "incomplete")).await.end;
    assert_eq!(cut.unwrap().parts, [call("call_1", "run", json!("{\"command\": \"ls"))]);
    let refusal = Reply::events()
        .then_event(&json!({ "type": "response.refusal.delta", "output_index": 0, "delta": "I will not." }))
        .then_event(&json!({
            "type": "response.completed",
            "response": { "id": "resp_1", "status": "completed", "model": "gpt", "output": [] }
        }));
    let error = replied(refusal).await.end.unwrap_err();
    assert_eq!(
        (error.class, error.message.as_str()),
        (ErrorClass::ContentFilter, "acme: content refused: I will not.")
    );
}
