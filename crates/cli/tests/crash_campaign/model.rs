//! What the model says: a plan that travels in the user's message, so that every request says by itself what its answer is.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use stakpak_test_support::{Gate, LlmRequest, Reply};

const MARK: &str = "PLAN ";

/// What a run does, turn by turn; turns beyond it say a few words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// `session.number`.
    pub run: String,
    pub turns: Vec<Turn>,
}

/// One answer of the model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Turn {
    pub words: usize,
    pub pace_ms: u64,
    pub calls: Vec<Call>,
    /// The first answer breaks off.
    pub torn: bool,
}

/// A command that appends its own id to the session's witness file.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Call {
    pub before_ms: u64,
    pub after_ms: u64,
}

/// A request that the model received.
#[derive(Debug, Clone)]
pub struct Asked {
    pub run: String,
    /// From 0.
    pub turn: usize,
    pub at: DateTime<Utc>,
    /// The model that was asked.
    pub model: String,
    /// Open once the whole answer was handed over.
    pub sent: Gate,
}

/// All requests, by session.
#[derive(Debug, Default)]
pub struct Book(Mutex<HashMap<String, Vec<Asked>>>);

impl Plan {
    /// The user's message.
    pub fn message(&self) -> String {
        format!("{MARK}{}", serde_json::to_string(self).unwrap())
    }

    pub fn of(message: &str) -> Option<Self> {
        serde_json::from_str(message.rsplit_once(MARK)?.1).ok()
    }

    pub fn turn(&self, index: usize) -> Turn {
        self.turns.get(index).cloned().unwrap_or(Turn { words: 3, ..Turn::default() })
    }

    /// What the model says in a turn.
    pub fn text(&self, turn: usize) -> String {
        self.words(turn).concat()
    }

    /// Words that tell where they belong, and that have to be escaped in events.
    fn words(&self, turn: usize) -> Vec<String> {
        (0..self.turn(turn).words).map(|word| format!("{}/{turn}/{word} ü🙂\n", self.run)).collect()
    }

    pub fn call_id(&self, turn: usize, call: usize) -> String {
        format!("{}_{turn}_{call}", self.run.replace('.', "-"))
    }

    fn call(&self, turn: usize, index: usize, call: Call, witness: &str) -> Value {
        let Call { before_ms, after_ms } = call;
        let id = self.call_id(turn, index);
        let seconds = |ms: u64| format!("{}.{:03}", ms / 1000, ms % 1000);
        let command = format!("sleep {}; echo {id} >> '{witness}'; sleep {}", seconds(before_ms), seconds(after_ms));
        let function =
            json!({ "name": "stakpak__run_command", "arguments": json!({ "command": command }).to_string() });
        json!({ "index": index, "id": id, "type": "function", "function": function })
    }

    fn reply(&self, turn: usize, first: bool, witness: &str) -> Reply {
        let Turn { pace_ms, calls, torn, .. } = self.turn(turn);
        let mut reply = Reply::text(Vec::<String>::new());
        for word in self.words(turn) {
            reply = reply.then_text(word);
            if pace_ms > 0 {
                reply = reply.then_pause(Duration::from_millis(pace_ms));
            }
        }
        if torn && first {
            return reply.torn();
        }
        if calls.is_empty() {
            return reply;
        }
        let calls: Vec<Value> =
            calls.iter().enumerate().map(|(index, call)| self.call(turn, index, *call, witness)).collect();
        reply.then_delta(&json!({ "tool_calls": calls })).finish("tool_calls")
    }
}

impl Book {
    /// Answers a request and notes it; `witness` names the file of a session.
    pub fn answer(&self, request: &LlmRequest, witness: impl Fn(&str) -> String) -> Reply {
        let Some((plan, turn)) = place(&request.body) else {
            return Reply::status(400, &json!({ "error": { "message": "the request holds no plan" } }));
        };
        let session = session_of(&plan.run).to_owned();
        let sent = Gate::new();
        let model = request.body["model"].as_str().unwrap_or_default().to_owned();
        let asked = Asked { run: plan.run.clone(), turn, at: Utc::now(), model, sent: sent.clone() };
        let first = {
            let mut book = self.0.lock().unwrap();
            let session = book.entry(session.clone()).or_default();
            let first = !session.iter().any(|earlier| earlier.run == asked.run && earlier.turn == turn);
            session.push(asked);
            first
        };
        plan.reply(turn, first, &witness(&session)).open_when_sent(&sent)
    }

    /// The session's requests; they are forgotten.
    pub fn take(&self, session: &str) -> Vec<Asked> {
        self.0.lock().unwrap().remove(session).unwrap_or_default()
    }
}

/// The session of a run.
pub fn session_of(run: &str) -> &str {
    run.split_once('.').map_or(run, |(session, _)| session)
}

/// Which turn of which plan a request asks for: the newest plan, and as many turns as it has answers.
fn place(body: &Value) -> Option<(Plan, usize)> {
    let messages = body["messages"].as_array()?;
    let (at, plan) = messages.iter().enumerate().rev().find_map(|(at, message)| {
        let plan = Plan::of(&text(&message["content"]))?;
        (message["role"] == "user").then_some((at, plan))
    })?;
    let turn = messages[at..].iter().filter(|message| message["role"] == "assistant").count();
    Some((plan, turn))
}

/// The text of a message; of several parts, the newest plan.
fn text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let texts: Vec<&str> = parts.iter().filter_map(|part| part["text"].as_str()).collect();
            texts.iter().rev().find(|text| text.contains(MARK)).copied().unwrap_or_default().to_owned()
        }
        _ => String::new(),
    }
}

/// A shared book that a [`ScriptedLlm`](stakpak_test_support::ScriptedLlm) answers from.
pub fn answering(
    book: &Arc<Book>,
    witness: impl Fn(&str) -> String + Send + Sync + 'static,
    asked: impl Fn() + Send + Sync + 'static,
) -> impl Fn(&LlmRequest) -> Reply + Send + Sync + 'static {
    let book = Arc::clone(book);
    move |request| {
        asked();
        book.answer(request, &witness)
    }
}
