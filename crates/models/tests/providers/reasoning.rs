//! Thinking that was asked for, with servers that are as strict about what comes back as the vendors are: C-P14.

use serde_json::{Value, json};
use stakpak_agent_core::{Effort, ModelRequest, Reasoning};
use stakpak_models::ProviderKind;
use stakpak_test_support::{LlmRequest, Reply, ScriptedLlm};

use crate::support::{ask, hello, history, model_of, request, second_turn, settings};

const SIGNATURE: &str = "c2lnbmF0dXJl";

fn thinking(mut request: ModelRequest, reasoning: Reasoning) -> ModelRequest {
    request.reasoning = Some(reasoning);
    request.max_output_tokens = Some(16_000);
    request
}

fn refused(message: &str) -> Reply {
    Reply::status(400, &json!({ "error": { "type": "invalid_request_error", "message": message } }))
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

/// A turn that ends in a call begins with the thinking before it, signed, as long as thinking is on.
fn anthropic(asked: &LlmRequest) -> Reply {
    let block = json!({ "type": "thinking", "thinking": "Hmm.", "signature": SIGNATURE });
    let turns = list(&asked.body["messages"]);
    let Some(answer) = turns.iter().find(|turn| turn["role"] == "assistant") else {
        let call = json!({ "type": "tool_use", "id": "toolu_1", "name": "run", "input": {} });
        return Reply::anthropic(&[block, call], "tool_use");
    };
    let is_on = asked.body.get("thinking").is_some();
    if is_on && answer["content"][0] != block {
        return refused("messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found `tool_use`");
    }
    Reply::anthropic(&[json!({ "type": "text", "text": "Fine." })], "end_turn")
}

/// A call stands behind the reasoning that led to it.
fn responses(asked: &LlmRequest) -> Reply {
    let reasoning = json!({ "type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": SIGNATURE });
    let input = list(&asked.body["input"]);
    let Some(at) = input.iter().position(|item| item["type"] == "function_call") else {
        let call =
            json!({ "type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "run", "arguments": "{}" });
        return Reply::responses(&[reasoning, call], "completed");
    };
    if input[at - 1] != reasoning {
        return refused(
            "Item 'fc_1' of type 'function_call' was provided without its required 'reasoning' item: 'rs_1'.",
        );
    }
    let content = json!([{ "type": "output_text", "text": "Fine." }]);
    Reply::responses(&[json!({ "type": "message", "id": "m", "content": content })], "completed")
}

/// The first call of a turn carries its signature.
fn gemini(asked: &LlmRequest) -> Reply {
    let contents = list(&asked.body["contents"]);
    let Some(answer) = contents.iter().find(|content| content["role"] == "model") else {
        let call = json!({ "functionCall": { "name": "run", "args": {} }, "thoughtSignature": SIGNATURE });
        return Reply::gemini(&[json!([{ "text": "Hmm.", "thought": true }]), json!([call])], "STOP");
    };
    let parts = list(&answer["parts"]);
    let call = parts.iter().find(|part| part.get("functionCall").is_some()).unwrap();
    if call["thoughtSignature"] != SIGNATURE {
        return refused("Function call is missing a thought_signature in functionCall parts.");
    }
    Reply::gemini(&[json!([{ "text": "Fine." }])], "STOP")
}

/// Answers as strictly as the vendor.
type Strict = fn(&LlmRequest) -> Reply;

/// C-P14: the second turn of a call is taken as it comes, thinking is asked for in both, and what went before is the same.
#[tokio::test]
async fn a_second_tool_turn_with_thinking_is_taken() {
    let vendors: [(ProviderKind, &str, Strict); 3] = [
        (ProviderKind::Anthropic, "claude-sonnet-4-5", anthropic),
        (ProviderKind::Responses, "gpt-5", responses),
        (ProviderKind::Gemini, "gemini-3-pro", gemini),
    ];
    for (kind, id, strict) in vendors {
        let llm = ScriptedLlm::start().await;
        let asked = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let seen = std::sync::Arc::clone(&asked);
        llm.answer_with(move |request| {
            seen.lock().unwrap().push(request.body.clone());
            strict(request)
        });
        let model = model_of(settings(&llm, kind), id);
        let reasoning = Reasoning::Effort(Effort::High);
        let request = thinking(hello(), reasoning);
        let session_id = request.session_id;
        let first = ask(&model, request).await.end.unwrap();
        let second = ModelRequest { session_id, ..second_turn(&first) };
        let second = ask(&model, thinking(second, reasoning)).await;
        assert_eq!(second.text, "Fine.", "{kind:?}: {:?}", second.end);
        let asked = asked.lock().unwrap();
        assert_eq!(asked.len(), 2, "{kind:?}: taken at once");
        for (key, value) in asked[0].as_object().unwrap() {
            match asked[1][key].as_array() {
                Some(longer) => assert!(longer.len() >= value.as_array().unwrap().len(), "{kind:?} {key}"),
                None => assert_eq!(value, &asked[1][key], "{kind:?} {key}"),
            }
        }
    }
}

/// A call that another provider made has no thinking before it: it is taken without any.
#[tokio::test]
async fn a_turn_of_another_provider_is_taken_without_thinking() {
    let llm = ScriptedLlm::start().await;
    llm.answer_with(anthropic);
    let model = model_of(settings(&llm, ProviderKind::Anthropic), "claude-sonnet-4-5");
    let heard = ask(&model, thinking(request(history()), Reasoning::Budget(2_000))).await;
    assert_eq!(heard.text, "Fine.", "{:?}", heard.end);
}

#[tokio::test]
async fn how_much_is_said_as_each_protocol_says_it() {
    let low = Reasoning::Effort(Effort::Low);
    let adaptive = json!({ "thinking": { "type": "adaptive" }, "output_config": { "effort": "low" } });
    let budget = |tokens: u64| json!({ "thinking": { "type": "enabled", "budget_tokens": tokens } });
    let gemini =
        |thinking: Value| json!({ "generationConfig": { "maxOutputTokens": 16_000, "thinkingConfig": thinking } });
    let level = |level: &str| gemini(json!({ "includeThoughts": true, "thinkingLevel": level }));
    let tokens = |tokens: u64| gemini(json!({ "includeThoughts": true, "thinkingBudget": tokens }));
    let responses = json!({ "reasoning": { "effort": "low", "summary": "auto" } });
    for (kind, id, reasoning, expected) in [
        (ProviderKind::Anthropic, "claude-sonnet-4-5", low, budget(2_048)),
        (ProviderKind::Anthropic, "claude-sonnet-4-5", Reasoning::Budget(100_000), budget(12_000)),
        (ProviderKind::Anthropic, "claude-opus-4-6", low, adaptive),
        (ProviderKind::Responses, "gpt-5", low, responses),
        (ProviderKind::Chat, "x", Reasoning::Budget(8_000), json!({ "reasoning_effort": "medium" })),
        (ProviderKind::Gemini, "gemini-2.5-pro", Reasoning::Budget(3_000), tokens(3_000)),
        (ProviderKind::Gemini, "gemini-3-pro-preview", Reasoning::Effort(Effort::Medium), level("high")),
        (ProviderKind::Gemini, "gemini-3-flash", Reasoning::Effort(Effort::Medium), level("medium")),
    ] {
        let llm = ScriptedLlm::start().await;
        llm.always(Reply::status(500, &json!({})));
        ask(&model_of(settings(&llm, kind), id), thinking(hello(), reasoning)).await.end.unwrap_err();
        let body = &llm.requests()[0].body;
        for (key, value) in expected.as_object().unwrap() {
            assert_eq!(&body[key], value, "{kind:?} {id} {key}");
        }
    }
}

/// A model that does not think is asked once more without.
#[tokio::test]
async fn a_model_that_does_not_think_answers_all_the_same() {
    for kind in [ProviderKind::Chat, ProviderKind::Anthropic, ProviderKind::Responses, ProviderKind::Gemini] {
        let llm = ScriptedLlm::start().await;
        llm.always(refused("Unsupported parameter: reasoning is not supported with this model."));
        let model = model_of(settings(&llm, kind), "x");
        ask(&model, thinking(hello(), Reasoning::Effort(Effort::Low))).await.end.unwrap_err();
        let asked = llm.requests();
        assert_eq!(asked.len(), 2, "{kind:?}: once more");
        for word in ["reasoning", "thinking", "effort"] {
            assert!(!asked[1].body.to_string().contains(word), "{kind:?}: {}", asked[1].body);
        }
    }
}
