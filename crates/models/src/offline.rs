//! `builtin/offline`: a model that needs no key, no network and no clock.
//!
//! It reads a few plain intents from the last user text and answers them through the ordinary stream, tool-call and
//! approval path. The same history gives the same bytes.

mod intent;
mod outcome;
mod reading;
mod words;

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use stakpak_agent_core::{
    Model, ModelAnswer, ModelError, ModelEvent, ModelRequest, ModelStream, Purpose, digest, full_name, is_note,
};
use stakpak_protocol::{FinishReason, Message, MessagePart, ModelCost, ModelInfo, ModelLimit, Role, ToolCallId};

use self::intent::Intent;
use crate::estimate;

/// Provider of the offline model.
pub const OFFLINE_PROVIDER: &str = "builtin";

/// Id of the offline model at its provider.
pub const OFFLINE_MODEL: &str = "offline";

/// The offline model.
#[derive(Debug, Clone)]
pub struct OfflineModel {
    info: ModelInfo,
}

impl OfflineModel {
    /// The model; it has no settings.
    #[must_use]
    pub fn new() -> Self {
        Self {
            info: ModelInfo {
                id: OFFLINE_MODEL.to_owned(),
                name: "Offline".to_owned(),
                provider: OFFLINE_PROVIDER.to_owned(),
                reasoning: false,
                cost: Some(ModelCost { input: 0.0, output: 0.0, cache_read: None, cache_write: None }),
                limit: ModelLimit::default(),
                release_date: None,
            },
        }
    }
}

impl Default for OfflineModel {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Model for OfflineModel {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    async fn stream(&self, request: ModelRequest) -> Result<ModelStream, ModelError> {
        Ok(spoken(&request, answer(&request)))
    }
}

/// A tool and its arguments.
struct Call {
    tool: String,
    arguments: Value,
}

impl Call {
    fn run(command: &str) -> Self {
        Self { tool: full_name("run_command"), arguments: json!({ "command": command }) }
    }

    fn view(path: &str) -> Self {
        Self { tool: full_name("view"), arguments: json!({ "path": path }) }
    }
}

enum Answer {
    Text(String),
    Calls(Vec<Call>),
}

fn answer(request: &ModelRequest) -> Answer {
    if request.purpose == Purpose::Compact {
        return Answer::Text(summary(request));
    }
    let messages = without_note(&request.messages);
    if messages.last().is_some_and(|message| message.role == Role::Tool) {
        return Answer::Text(words::signed(&outcome::report(messages)));
    }
    let text = last_user_text(messages);
    let calls = match intent::read(&text) {
        Intent::Help => return Answer::Text(words::signed(&words::help())),
        Intent::Other => return Answer::Text(words::signed(&words::not_understood())),
        Intent::Status => ["uptime", DISK, MEMORY].map(Call::run).into(),
        Intent::Disk => vec![Call::run(DISK)],
        Intent::Memory => vec![Call::run(MEMORY)],
        Intent::Uptime => vec![Call::run("uptime")],
        Intent::Run(command) => vec![Call::run(&command)],
        Intent::Read(path) => vec![Call::view(&path)],
    };
    let offered = |call: &Call| request.tools.iter().any(|tool| tool.name == call.tool);
    match calls.iter().find(|call| !offered(call)) {
        Some(call) => Answer::Text(words::signed(&words::tool_missing(&call.tool))),
        None => Answer::Calls(calls),
    }
}

/// The beginnings of what was said, without a word of its own: it stands in no conversation.
fn summary(request: &ModelRequest) -> String {
    let tokens = request.max_output_tokens.and_then(|tokens| usize::try_from(tokens).ok()).unwrap_or(1_000);
    digest(&request.messages.iter().map(Message::text).collect::<String>(), tokens * 3)
}

const DISK: &str = "df -hP";
const MEMORY: &str = if cfg!(target_os = "macos") { "vm_stat" } else { "free -m" };

/// What was said, without what the server tells at the end.
fn without_note(messages: &[Message]) -> &[Message] {
    match messages {
        [said @ .., last] if is_note(&last.text()) => said,
        all => all,
    }
}

/// The last text of the last user message: a view may have merged several user messages into one.
fn last_user_text(messages: &[Message]) -> String {
    let Some(message) = messages.iter().rfind(|message| message.role == Role::User) else { return String::new() };
    let texts = message.parts().iter().filter_map(|part| match part {
        MessagePart::Text { text, .. } => Some(text.as_str()),
        _ => None,
    });
    let whole = message.text();
    let spoken = if message.parts().is_empty() { vec![whole.as_str()] } else { texts.collect() };
    let said = spoken.into_iter().rev().filter(|text| !is_note(text));
    said.map(intent::without_context).find(|text| !text.is_empty()).unwrap_or_default().to_owned()
}

/// The answer word by word, then as a whole.
fn spoken(request: &ModelRequest, answer: Answer) -> ModelStream {
    let (parts, finish) = match answer {
        Answer::Text(text) => (vec![MessagePart::text(text)], FinishReason::Stop),
        Answer::Calls(calls) => (call_parts(request.messages.len(), calls), FinishReason::ToolCalls),
    };
    let words: Vec<ModelEvent> = parts
        .iter()
        .filter_map(|part| match part {
            MessagePart::Text { text, .. } => Some(text),
            _ => None,
        })
        .flat_map(|text| text.split_inclusive(char::is_whitespace))
        .map(|word| ModelEvent::Text(word.to_owned()))
        .collect();
    let usage = estimate::usage(request, &parts);
    let done = ModelEvent::Done(ModelAnswer { parts, reasoning: None, usage, finish });
    stream::iter(words.into_iter().chain([done]).map(Ok)).boxed()
}

fn call_parts(message_index: usize, calls: Vec<Call>) -> Vec<MessagePart> {
    let part = |(n, call): (usize, Call)| MessagePart::ToolCall {
        id: ToolCallId(format!("call_offline_{message_index}_{n}")),
        name: call.tool,
        arguments: call.arguments,
        metadata: None,
        provider_options: None,
    };
    calls.into_iter().enumerate().map(part).collect()
}
