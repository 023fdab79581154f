//! What the model does: each run first has a command leave its fire in a file, then ends. Every request is written down.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use chrono::DateTime;
use serde_json::{Value, json};
use stakpak_test_support::{LlmRequest, Reply};

use crate::{
    history::{Asked, Fire},
    world::host_millis,
};

/// The final answer takes up to this long, one in ten longer, one in sixty much longer: so fires meet runs under way.
const QUICK: u64 = 60;
const SLOW: u64 = 700;
const SLOWEST: u64 = 4000;

/// All requests, and which process of the binary is the present one.
#[derive(Debug)]
pub struct Book {
    asked: Mutex<Vec<Asked>>,
    pub epoch: AtomicU64,
    /// Each command writes its fire on a line of this file.
    commands: PathBuf,
}

impl Book {
    pub fn new(commands: PathBuf) -> Self {
        Self { asked: Mutex::default(), epoch: AtomicU64::default(), commands }
    }

    fn answer(&self, request: &LlmRequest) -> Reply {
        let Some(fire) = fire(&request.body) else {
            return Reply::status(400, &json!({ "error": { "message": "the request does not say which fire it is" } }));
        };
        let told = told(&request.body);
        let mut asked = self.asked.lock().unwrap();
        let delay = match asked.len() {
            count if count % 60 == 59 => SLOWEST,
            count if count % 10 == 9 => SLOW,
            _ => fastrand::u64(..QUICK),
        };
        let delay = if told.is_some() { delay } else { 0 };
        let at = host_millis();
        let until = at + i64::try_from(delay).unwrap();
        let wants_command = told.is_none();
        asked.push(Asked { fire: fire.clone(), told, epoch: self.epoch.load(Ordering::SeqCst), at, until });
        if wants_command {
            let command = format!("echo {} {} >> {}", fire.schedule, fire.nominal, self.commands.display());
            let id = format!("call-{}-{}", fire.schedule, fire.nominal);
            return Reply::tool_call(&id, "stakpak__run_command", &json!({ "command": command }));
        }
        Reply::text(["Looked "]).then_pause(Duration::from_millis(delay)).then_text("after it.")
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

/// From the context that every scheduled run has.
fn fire(body: &Value) -> Option<Fire> {
    let text = body["messages"].to_string();
    let after = |mark: &str| text.split_once(mark).map(|(_, rest)| rest);
    let schedule = after("schedule: ")?.split(|letter: char| !letter.is_ascii_alphanumeric()).next()?;
    let nominal = after("nominal instant: ")?.split(' ').next()?;
    let nominal = DateTime::parse_from_rfc3339(nominal).ok()?.timestamp_millis();
    Some(Fire { schedule: schedule.to_owned(), nominal })
}

/// What the last message of the request says of the command.
fn told(body: &Value) -> Option<String> {
    let last = body["messages"].as_array()?.last().filter(|message| message["role"] == "tool")?;
    Some(last["content"].as_str().map_or_else(|| last["content"].to_string(), str::to_owned))
}
