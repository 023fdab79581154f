//! What the model says: the token of the last message and how many messages the session has by now. So order and session
//! can be seen in the chat. For some messages it first wants a command run that leaves a trace.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use stakpak_test_support::{LlmRequest, Reply};

use crate::history::{ANSWER, Asked, COMMAND, Wish, tokens_in, wish};

/// One answer in so many takes longer than a chat is kept waiting for a sign.
const SLOW_ONE_IN: usize = 40;
const SLOW: Duration = Duration::from_millis(2200);
/// The others take up to this long.
const QUICK: u64 = 60;

/// All requests, and which instance of the binary is the present one.
#[derive(Debug)]
pub struct Book {
    asked: Mutex<Vec<Asked>>,
    pub epoch: AtomicU64,
    /// Each command writes its token on a line of this file.
    witness: PathBuf,
}

impl Book {
    pub fn new(witness: PathBuf) -> Self {
        Self { asked: Mutex::default(), epoch: AtomicU64::default(), witness }
    }

    /// The tokens whose commands ran, once for each time.
    pub fn done(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.witness).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    pub fn answer(&self, request: &LlmRequest) -> Reply {
        let known = known(&request.body);
        let Some(token) = known.last().cloned() else {
            return Reply::status(400, &json!({ "error": { "message": "the request holds no message of a person" } }));
        };
        let number = known.len();
        let (epoch, told) = (self.epoch.load(Ordering::SeqCst), told(&request.body));
        let wants_command = wish(&token) != Wish::Nothing && told.is_none();
        let mut asked = self.asked.lock().unwrap();
        asked.push(Asked { known, told, epoch });
        if wants_command {
            let command = format!("{COMMAND}{token} >> {}", self.witness.display());
            let arguments = json!({ "command": command });
            return Reply::tool_call(&format!("call-{token}"), "stakpak__run_command", &arguments);
        }
        let pause = match asked.len() % SLOW_ONE_IN {
            0 => SLOW,
            _ => Duration::from_millis(fastrand::u64(..QUICK)),
        };
        Reply::text([format!("{ANSWER}{token}: ")])
            .then_pause(pause)
            .then_text(format!("number {number} of this session."))
    }

    /// All requests so far.
    pub fn all(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

/// Answers by the book.
pub fn answering(book: &Arc<Book>) -> impl Fn(&LlmRequest) -> Reply + Send + Sync + 'static {
    let book = Arc::clone(book);
    move |request| book.answer(request)
}

/// After a run that failed, the message behind it comes in one piece with the one that was not answered.
fn known(body: &Value) -> Vec<String> {
    let messages = body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let people = messages.iter().filter(|message| message["role"] == "user");
    people.flat_map(|message| tokens_in(&message["content"].to_string())).collect()
}

#[test]
fn messages_in_one_piece_are_all_known() {
    let user = |text: &str| serde_json::json!({ "role": "user", "content": text });
    let body = serde_json::json!({ "messages": [user("tok-1-1"), user("please tok-1-2\n\nplease tok-1-3")] });
    assert_eq!(known(&body), ["tok-1-1", "tok-1-2", "tok-1-3"]);
}

/// What the last message of the request says of a command.
fn told(body: &Value) -> Option<String> {
    let last = body["messages"].as_array()?.last().filter(|message| message["role"] == "tool")?;
    Some(last["content"].as_str().map_or_else(|| last["content"].to_string(), str::to_owned))
}
