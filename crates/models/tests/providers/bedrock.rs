//! ConverseStream of Amazon Bedrock, in its binary frames.

use serde_json::{Value, json};
use stakpak_agent_core::{Effort, ErrorClass, Reasoning};
use stakpak_models::ProviderKind;
use stakpak_protocol::{FinishReason, Message, MessageContent, MessagePart, Role};
use stakpak_test_support::{Reply, ScriptedLlm};

use crate::support::{Heard, ask, call, hello, history, model_of, request, second_turn, settings};

const ID: &str = "eu.anthropic.claude-sonnet-4-5-20250929-v1:0";

fn text(text: &str) -> Value {
    json!({ "text": text })
}

fn tool_use(id: &str, input: Value) -> Value {
    json!({ "toolUse": { "toolUseId": id, "name": "run", "input": input } })
}

fn signed(text: &str, signature: &str) -> Value {
    json!({ "reasoningContent": { "reasoningText": { "text": text, "signature": signature } } })
}

async fn replied(reply: Reply) -> Heard {
    let llm = ScriptedLlm::start().await;
    llm.push(reply);
    ask(&model_of(settings(&llm, ProviderKind::Bedrock), ID), hello()).await
}

#[tokio::test]
async fn the_request_as_bedrock_has_it() {
    let llm = ScriptedLlm::start().await;
    llm.push(Reply::bedrock(&[text("ok")], "end_turn"));
    let mut messages = history();
    messages.push(Message::user("go on"));
    ask(&model_of(settings(&llm, ProviderKind::Bedrock), ID), request(messages)).await.end.unwrap();
    let asked = llm.requests().remove(0);
    assert_eq!(asked.path, format!("/model/{ID}/converse-stream"));
    assert_eq!(asked.headers["authorization"], format!("Bearer {}", crate::support::KEY));
    let schema = json!({ "json": { "type": "object", "properties": { "command": { "type": "string" } } } });
    let tool = |name: &str| json!({ "toolSpec": { "name": name, "description": "does", "inputSchema": schema } });
    let result = |id: &str, text: &str| json!({ "toolResult": { "toolUseId": id, "content": [{ "text": text }] } });
    let mut no_arguments = tool_use("call_2", json!({}));
    no_arguments["toolUse"]["name"] = json!("a");
    assert_eq!(
        asked.body,
        json!({
            "system": [text("be brief")],
            "toolConfig": { "tools": [tool("a"), tool("run")] },
            "inferenceConfig": { "maxTokens": 100 },
            "messages": [
                { "role": "user", "content": [
                    text("look"), { "image": { "format": "png", "source": { "bytes": "AAAA" } } }
                ] },
                { "role": "assistant", "content": [
                    text("sure"), tool_use("call_1", json!({ "command": "ls" })), no_arguments
                ] },
                { "role": "user", "content": [
                    result("call_1", "a\n\"b\""), result("call_2", "[error] {\"skipped\":\"why\"}"), text("go on")
                ] }
            ]
        })
    );
}

#[tokio::test]
async fn an_image_elsewhere_is_told_and_not_lost() {
    let llm = ScriptedLlm::start().await;
    llm.push(Reply::bedrock(&[text("ok")], "end_turn"));
    let url = "https://example.com/a.png".to_owned();
    let image = MessagePart::Image { url, detail: None, provider_options: None };
    let message = Message::new(Role::User, MessageContent::Parts(vec![image]));
    ask(&model_of(settings(&llm, ProviderKind::Bedrock), ID), request(vec![message])).await.end.unwrap();
    let said = llm.requests()[0].body["messages"][0]["content"][0]["text"].clone();
    assert_eq!(said, "(an image at https://example.com/a.png, which cannot be shown here)");
}

#[tokio::test]
async fn text_thinking_parallel_calls_and_usage() {
    let blocks = [
        signed("Hmm, disks.", "c2lnbmF0dXJl"),
        text("Let me löök."),
        tool_use("tooluse_1", json!({ "command": "df -h" })),
        tool_use("tooluse_2", json!({})),
    ];
    let heard = replied(Reply::bedrock(&blocks, "tool_use")).await;
    assert_eq!((heard.thinking.as_str(), heard.text.as_str()), ("Hmm, disks.", "Let me löök."));
    let answer = heard.end.unwrap();
    let calls = [call("tooluse_1", "run", json!({ "command": "df -h" })), call("tooluse_2", "run", json!({}))];
    assert_eq!(answer.parts[0], MessagePart::text("Let me löök."));
    assert_eq!(answer.parts[1..], calls);
    assert_eq!(answer.finish, FinishReason::ToolCalls);
    let usage = &answer.usage;
    assert_eq!((usage.prompt_tokens, usage.completion_tokens, usage.total_tokens), (142, 15, 157));
    let input = usage.input_token_details.as_ref().unwrap();
    assert_eq!((input.no_cache, input.cache_read, input.cache_write), (Some(12), Some(100), Some(30)));
}

/// C-P14: signed and sealed thinking goes back before what it led to.
#[tokio::test]
async fn thinking_goes_back_as_it_came() {
    let llm = ScriptedLlm::start().await;
    let sealed = json!({ "reasoningContent": { "redactedContent": "b3BhcXVl" } });
    let blocks = [signed("one", "c2lnMQ=="), sealed, tool_use("tooluse_1", json!({ "command": "df" }))];
    llm.push(Reply::bedrock(&blocks, "tool_use"));
    llm.push(Reply::bedrock(&[text("Fine.")], "end_turn"));
    let model = model_of(settings(&llm, ProviderKind::Bedrock), ID);
    let thinking = |mut request: stakpak_agent_core::ModelRequest| {
        request.reasoning = Some(Reasoning::Effort(Effort::Low));
        request.max_output_tokens = Some(8_000);
        request
    };
    let answer = ask(&model, thinking(hello())).await.end.unwrap();
    ask(&model, thinking(second_turn(&answer))).await.end.unwrap();
    let asked = llm.requests();
    assert_eq!(asked[1].body["messages"][1]["content"], json!(blocks));
    let budget = json!({ "thinking": { "type": "enabled", "budget_tokens": 2_048 } });
    for asked in asked {
        assert_eq!(asked.body["additionalModelRequestFields"], budget);
    }
}

/// Nobody asked for thinking: no vendor is told of it.
#[tokio::test]
async fn nothing_is_said_of_thinking() {
    for id in [ID, "amazon.nova-pro-v1:0", "openai.gpt-oss-120b-1:0", "meta.llama3-1-70b-instruct-v1:0"] {
        let llm = ScriptedLlm::start().await;
        llm.push(Reply::bedrock(&[text("ok")], "end_turn"));
        ask(&model_of(settings(&llm, ProviderKind::Bedrock), id), hello()).await.end.unwrap();
        assert_eq!(llm.requests()[0].body.get("additionalModelRequestFields"), None, "{id}");
    }
}

#[tokio::test]
async fn ends_and_errors() {
    for (reason, finish) in [
        ("end_turn", FinishReason::Stop),
        ("stop_sequence", FinishReason::Stop),
        ("max_tokens", FinishReason::MaxOutputTokens),
    ] {
        assert_eq!(replied(Reply::bedrock(&[text("x")], reason)).await.end.unwrap().finish, finish, "{reason}");
    }
    let cut = replied(Reply::bedrock(&[tool_use("tooluse_1", json!("{\"command\": \"ls"))], "max_tokens")).await.end;
    assert_eq!(cut.unwrap().parts, [call("tooluse_1", "run", json!("{\"command\": \"ls"))]);
    let silent = replied(Reply::bedrock(&[], "guardrail_intervened")).await.end.unwrap_err();
    assert_eq!(silent.class, ErrorClass::ContentFilter);
    let thrown = Reply::bedrock_events().then_exception("modelStreamErrorException", "try later");
    assert_eq!(replied(thrown).await.end.unwrap_err().class, ErrorClass::Server);
    let garbled = Reply::bedrock_events().then_bytes([0, 0, 0, 20, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    assert_eq!(replied(garbled).await.end.unwrap_err().class, ErrorClass::Server);
    for (status, message, class) in [
        (400, "Input is too long for requested model.", ErrorClass::ContextOverflow),
        (400, "The provided model identifier is invalid.", ErrorClass::BadRequest),
        (403, "You don't have access to the model with the specified model ID.", ErrorClass::Permission),
        (429, "Too many tokens, please wait before trying again.", ErrorClass::RateLimited),
        (503, "Bedrock is unable to process your request.", ErrorClass::Overloaded),
    ] {
        let error = replied(Reply::status(status, &json!({ "message": message }))).await.end.unwrap_err();
        assert_eq!(error.class, class, "{message}");
    }
}
