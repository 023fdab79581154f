//! Asking, and histories to ask with.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use serde_json::{Value, json};
use stakpak_agent_core::{
    Clock, Model, ModelAnswer, ModelError, ModelEvent, ModelRequest, Models, Purpose, Replay, ToolSpec,
};
use stakpak_models::{Gates, ProviderKind, ProviderModels, ProviderSettings};
use stakpak_protocol::{Message, MessageContent, MessagePart, Role, SessionId};
use stakpak_test_support::ScriptedLlm;

pub(crate) const KEY: &str = "sk-test-key-0123456789";

pub(crate) fn settings(llm: &ScriptedLlm, kind: ProviderKind) -> ProviderSettings {
    let endpoint = match kind {
        ProviderKind::Gemini => llm.gemini_url(),
        ProviderKind::Bedrock => llm.bedrock_url(),
        _ => llm.base_url(),
    };
    let mut settings = ProviderSettings::new("acme", kind, endpoint);
    settings.api_key = Some(KEY.to_owned());
    settings
}

/// A clock by which an hour passes whenever somebody looks: failures in a row hold nothing up.
pub(crate) struct Hurried(AtomicI64);

impl Clock for Hurried {
    fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp(self.0.fetch_add(3_600, Ordering::Relaxed), 0).unwrap()
    }
}

pub(crate) fn hurried() -> Gates {
    Gates::new(Arc::new(Hurried(AtomicI64::new(1_800_000_000))))
}

pub(crate) fn model_of(settings: ProviderSettings, id: &str) -> Arc<dyn Model> {
    model_behind(&hurried(), settings, id)
}

pub(crate) fn model_behind(gates: &Gates, settings: ProviderSettings, id: &str) -> Arc<dyn Model> {
    rustls::crypto::ring::default_provider().install_default().ok();
    let name = format!("{}/{id}", settings.id);
    ProviderModels::behind(gates, vec![settings], Some(&name)).unwrap().resolve(&name).unwrap()
}

pub(crate) fn request(messages: Vec<Message>) -> ModelRequest {
    let tool = |name: &str| ToolSpec {
        name: name.into(),
        description: "does".into(),
        input_schema: json!({ "type": "object", "properties": { "command": { "type": "string" } } }),
    };
    ModelRequest {
        purpose: Purpose::Answer,
        system: "be brief".into(),
        messages,
        replays: Vec::new(),
        tools: vec![tool("a"), tool("run")].into(),
        max_output_tokens: Some(100),
        reasoning: None,
        session_id: SessionId::random(),
    }
}

pub(crate) fn hello() -> ModelRequest {
    request(vec![Message::user("hello")])
}

/// A second turn: the answer with what was said beside it, and a result for each of its calls.
pub(crate) fn second_turn(answer: &ModelAnswer) -> ModelRequest {
    let message = Message::assistant(answer.parts.clone());
    let results = message.parts().iter().filter_map(|part| match part {
        MessagePart::ToolCall { id, .. } => Some(result(id.as_str(), json!("fine"), false)),
        _ => None,
    });
    let mut messages = vec![Message::user("hello"), message.clone()];
    messages.extend(results);
    // As it comes back from the journal.
    let stored = answer.reasoning.as_ref().map(|value| serde_json::from_str::<Value>(&value.to_string()).unwrap());
    let mut request = request(messages);
    request.replays = stored
        .into_iter()
        .map(|reasoning| Replay { message: 1, first_part: 0, reasoning: Arc::new(reasoning) })
        .collect();
    request
}

#[derive(Debug, PartialEq)]
pub(crate) struct Heard {
    pub(crate) text: String,
    pub(crate) thinking: String,
    pub(crate) end: Result<ModelAnswer, ModelError>,
}

pub(crate) async fn ask(model: &Arc<dyn Model>, request: ModelRequest) -> Heard {
    let (mut text, mut thinking) = (String::new(), String::new());
    let mut stream = match model.stream(request).await {
        Ok(stream) => stream,
        Err(error) => return Heard { text, thinking, end: Err(error) },
    };
    loop {
        let end = match stream.next().await.expect("a stream ends with an answer or an error") {
            Ok(ModelEvent::Text(delta)) => {
                text.push_str(&delta);
                continue;
            }
            Ok(ModelEvent::Thinking(delta)) => {
                thinking.push_str(&delta);
                continue;
            }
            Ok(ModelEvent::Done(answer)) => {
                assert_eq!(text, Message::assistant(answer.parts.clone()).text(), "the parts are what was streamed");
                Ok(answer)
            }
            Err(error) => Err(error),
        };
        assert!(stream.next().await.is_none(), "nothing comes after the end");
        return Heard { text, thinking, end };
    }
}

pub(crate) fn call(id: &str, name: &str, arguments: Value) -> MessagePart {
    MessagePart::ToolCall { id: id.into(), name: name.into(), arguments, metadata: None, provider_options: None }
}

pub(crate) fn result(id: &str, content: Value, is_error: bool) -> Message {
    let part = MessagePart::ToolResult { tool_call_id: id.into(), content, is_error, provider_options: None };
    Message::new(Role::Tool, MessageContent::Parts(vec![part]))
}

pub(crate) fn image() -> MessagePart {
    MessagePart::Image { url: "data:image/png;base64,AAAA".into(), detail: None, provider_options: None }
}

/// A user's words with an image, parallel calls of which one has no arguments, and a result that is an error.
pub(crate) fn history() -> Vec<Message> {
    vec![
        Message::new(Role::User, MessageContent::Parts(vec![MessagePart::text("look"), image()])),
        Message::assistant(vec![
            MessagePart::text("sure"),
            call("call_1", "run", json!({ "command": "ls" })),
            call("call_2", "a", Value::Null),
        ]),
        result("call_1", json!("a\n\"b\""), false),
        result("call_2", json!({ "skipped": "why" }), true),
    ]
}
