//! A model with 16 k tokens of context. It refuses what is longer, answers from what it is shown and nothing else, and sums
//! up by writing down the facts.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use serde_json::{Value, json};
use stakpak_test_support::{Gate, LlmRequest, Reply, ScriptedLlm};

pub const CONTEXT: u64 = 16_384;
pub const OUTPUT: u64 = 1_024;

#[derive(Default)]
struct State {
    requests: Mutex<Vec<Value>>,
    refused: AtomicUsize,
    refuses_everything: AtomicBool,
    hold: Mutex<Option<Gate>>,
    held: tokio::sync::watch::Sender<usize>,
    next_look: Mutex<Option<String>>,
}

pub struct SmallModel {
    llm: ScriptedLlm,
    state: Arc<State>,
}

impl SmallModel {
    pub async fn start() -> Self {
        let llm = ScriptedLlm::start().await;
        let state = Arc::new(State::default());
        let answering = Arc::clone(&state);
        llm.answer_with(move |request| answering.answer(request));
        Self { llm, state }
    }

    pub fn url(&self) -> String {
        self.llm.base_url()
    }

    /// Bodies of all requests, refused ones too.
    pub fn requests(&self) -> Vec<Value> {
        self.state.requests.lock().unwrap().clone()
    }

    /// Requests that were too long.
    pub fn refused(&self) -> usize {
        self.state.refused.load(Ordering::Relaxed)
    }

    pub fn refuse_everything(&self) {
        self.state.refuses_everything.store(true, Ordering::Relaxed);
    }

    /// The next summary waits at the gate.
    pub fn hold_summaries(&self, gate: &Gate) {
        *self.state.hold.lock().unwrap() = Some(gate.clone());
    }

    /// Summaries that wait or waited.
    pub fn held(&self) -> usize {
        *self.state.held.borrow()
    }

    pub async fn wait_until_held(&self, count: usize) {
        let mut held = self.state.held.subscribe();
        held.wait_for(|held| *held >= count).await.unwrap();
    }

    /// What it looks at when it is next told to.
    pub fn look_at_next(&self, path: &str) {
        *self.state.next_look.lock().unwrap() = Some(path.to_owned());
    }
}

/// Tokens as this model counts them: not as the product estimates them.
pub fn tokens(request: &Value) -> u64 {
    let bytes = request["messages"].to_string().len() + request["tools"].to_string().len();
    bytes as u64 * 5 / 21
}

/// Whether it asks for a summary.
pub fn is_compaction(request: &Value) -> bool {
    request.get("tools").is_none_or(|tools| tools.as_array().is_none_or(Vec::is_empty))
        && request["messages"].to_string().contains("<conversation>")
}

impl State {
    fn answer(&self, request: &LlmRequest) -> Reply {
        let body = &request.body;
        self.requests.lock().unwrap().push(body.clone());
        let tokens = tokens(body);
        let answer = body["max_tokens"].as_u64().or(body["max_completion_tokens"].as_u64()).unwrap_or(OUTPUT);
        if tokens + answer.min(OUTPUT) > CONTEXT || self.refuses_everything.load(Ordering::Relaxed) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Reply::status(
                400,
                &json!({ "error": {
                    "message": format!("This model's maximum context length is {CONTEXT} tokens. However, your messages resulted in {tokens} tokens. Please reduce the length of the messages."),
                    "type": "invalid_request_error", "param": "messages", "code": "context_length_exceeded"
                } }),
            );
        }
        let reply = if is_compaction(body) { self.sum_up(body) } else { self.talk(body) };
        reply.usage(Some(json!({ "prompt_tokens": tokens, "completion_tokens": 50, "total_tokens": tokens + 50 })))
    }

    fn sum_up(&self, body: &Value) -> Reply {
        let facts: Vec<String> =
            facts(&body["messages"].to_string()).into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        let reply = Reply::text([format!("Facts: {} .", facts.join(" "))]);
        match self.hold.lock().unwrap().take() {
            Some(gate) => {
                self.held.send_modify(|held| *held += 1);
                Reply::text(Vec::<String>::new()).then_wait(&gate).then_text("never heard")
            }
            None => reply,
        }
    }

    fn talk(&self, body: &Value) -> Reply {
        let messages = body["messages"].as_array().unwrap();
        let last = messages.last().unwrap();
        if last["role"] == "tool" {
            return Reply::text(["I looked."]);
        }
        let text = last["content"].to_string();
        // The question is the last thing said, whatever it was merged with.
        if let Some((_, question)) = text.rsplit_once("What was ") {
            let name = question.split('?').next().unwrap_or_default();
            let known = facts(&body["messages"].to_string());
            return match known.get(name) {
                Some(value) => Reply::text([format!("It was {value}.")]),
                None => Reply::text([format!("I do not know {name}.")]),
            };
        }
        if text.contains("Please look at") {
            let path = self.next_look.lock().unwrap().take().unwrap_or_else(|| "big.log".to_owned());
            let id = format!("call_{}", self.requests.lock().unwrap().len());
            return Reply::tool_call(&id, "stakpak__view", &json!({ "path": path }));
        }
        Reply::text([format!("Noted. {}", "I keep it in mind. ".repeat(25))])
    }
}

/// `fact-N=value-M`, by name.
fn facts(text: &str) -> BTreeMap<String, String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '='));
    let facts = words.filter_map(|word| word.split_once('=').filter(|(name, _)| name.starts_with("fact-")));
    facts.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}
