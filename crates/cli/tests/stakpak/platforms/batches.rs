//! Several calls at once of which one waits for a person and another does not.

use std::{
    fs::File,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use nix::{fcntl::OFlag, sys::stat::Mode, unistd::mkfifo};
use serde_json::{Value, json};
use stakpak_client::protocol::Event;
use stakpak_test_support::Reply;

use super::{Chat, Person, Platform, Shown, Stage};
use crate::support::{Up, until};

/// Commands are allowed by the gateway's policy; about files a person is asked.
const POLICY: &str = "[gateway]\napproval_mode = \"allowlist\"\napproval_allowlist = [\"run_command\"]";

/// A command that takes until it is let go, and a file that a person is asked about.
struct Batch {
    fifo: PathBuf,
    ended: PathBuf,
    asked: PathBuf,
}

/// When the decision comes, seen from the command.
#[derive(Debug, Clone, Copy, PartialEq)]
enum When {
    /// As soon as there is something to press.
    AtOnce,
    During,
    After,
}

impl Batch {
    fn new(stage: &Stage, name: &str) -> Self {
        let path = |what: &str| stage.path(&format!("{name}-{what}"));
        let batch = Self { fifo: path("fifo"), ended: path("ended"), asked: path("asked") };
        mkfifo(&batch.fifo, Mode::S_IRWXU).unwrap();
        batch
    }

    fn slow(&self) -> (&'static str, &'static str, Value) {
        let command = format!("cat {} && touch {}", self.fifo.display(), self.ended.display());
        ("slow", "stakpak__run_command", json!({ "command": command }))
    }

    fn asked(&self) -> (&'static str, &'static str, Value) {
        ("asked", "stakpak__create", json!({"path": self.asked, "file_text": "written\n"}))
    }

    /// The command, running: it ends when this is dropped.
    fn running(&self) -> File {
        // Without a reader this cannot be opened.
        let open = || File::options().write(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&self.fifo).ok();
        let mut file = until("the command", open);
        file.write_all(b"go on\n").unwrap();
        assert!(!self.ended.exists());
        file
    }

    fn has_ended(&self) {
        until("the end of the command", || self.ended.exists().then_some(()));
    }
}

fn written(path: &Path) -> bool {
    std::fs::read_to_string(path).is_ok_and(|text| text == "written\n")
}

impl Chat<'_> {
    /// The run goes on: the model hears both results and answers.
    fn goes_on(&self, prompt: &Shown, name: &str, verdict: &str) {
        self.hears(&format!("{name} is done"));
        let outcome = self.outcome(prompt);
        assert!(outcome.text.contains(verdict), "{name}: {outcome:?}");
        let told = self.stage.llm.requests().pop().unwrap().body["messages"].clone();
        let results = told.as_array().unwrap().iter().filter(|message| message["role"] == "tool");
        let last: Vec<_> = results.map(|message| message["tool_call_id"].clone()).collect();
        assert_eq!(last.len() % 2, 0, "{name}: each call is answered: {told:#}");
    }
}

async fn stage_and_up() -> (Stage, Up) {
    let stage = Stage::with(POLICY, async |base_url| base_url).await;
    let up = stage.up().await;
    (stage, up)
}

fn the_model_wants(stage: &Stage, calls: &[(&str, &str, Value)], name: &str) {
    stage.llm.push(Reply::tool_calls(calls));
    stage.llm.push(Reply::text([format!("{name} is done")]));
}

/// G-P33: the call that runs by policy stands first. Whenever the other one is decided, it is what was decided, and the run
/// goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_decision_beside_a_call_that_runs_by_policy_counts_at_any_time() {
    let (stage, up) = stage_and_up().await;
    let chat = stage.direct(Platform::Telegram);
    for when in [When::AtOnce, When::During, When::After] {
        for (label, verdict) in [("Allow", "Allowed by User 42"), ("Deny", "Denied by User 42")] {
            let name = format!("{when:?}-{label}");
            let batch = Batch::new(&stage, &name);
            the_model_wants(&stage, &[batch.slow(), batch.asked()], &name);
            chat.say("please do both");
            let prompt = chat.prompt(&up).await;
            assert!(prompt.text.contains("create") && !prompt.text.contains("cat "), "{name}: {prompt:?}");
            match when {
                When::AtOnce => {
                    chat.press(Person::Ann, &prompt, label);
                    drop(batch.running());
                }
                When::During => {
                    let running = batch.running();
                    chat.press(Person::Ann, &prompt, label);
                    // The server has heard it and the command still runs.
                    assert!(chat.outcome(&prompt).text.contains(verdict), "{name}");
                    assert!(!batch.ended.exists() && !batch.asked.exists(), "{name}");
                    drop(running);
                }
                When::After => {
                    drop(batch.running());
                    batch.has_ended();
                    chat.press(Person::Ann, &prompt, label);
                }
            }
            chat.goes_on(&prompt, &name, verdict);
            assert!(batch.ended.exists(), "{name}");
            assert_eq!(written(&batch.asked), label == "Allow", "{name}");
        }
    }
}

/// G-P33: the call that waits for a person stands first; what has effects waits behind it, whatever is decided.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_by_policy_behind_one_that_waits_runs_after_the_decision() {
    let (stage, up) = stage_and_up().await;
    let chat = stage.direct(Platform::Telegram);
    for (label, verdict) in [("Allow", "Allowed by User 42"), ("Deny", "Denied by User 42")] {
        let batch = Batch::new(&stage, label);
        the_model_wants(&stage, &[batch.asked(), batch.slow()], label);
        chat.say("please do both");
        let prompt = chat.prompt(&up).await;
        chat.press(Person::Ann, &prompt, label);
        let running = batch.running();
        assert_eq!(written(&batch.asked), label == "Allow", "{label}: it came first");
        drop(running);
        chat.goes_on(&prompt, label, verdict);
        assert!(batch.ended.exists(), "{label}");
    }
}

/// G-P33: what changes nothing does not wait behind the call that does; it is over when the decision comes.
#[tokio::test(flavor = "multi_thread")]
async fn a_decision_after_the_call_behind_it_has_ended_counts() {
    let (stage, up) = stage_and_up().await;
    let chat = stage.direct(Platform::Telegram);
    for (label, verdict) in [("Allow", "Allowed by User 42"), ("Deny", "Denied by User 42")] {
        let batch = Batch::new(&stage, label);
        let id = format!("quick-{label}");
        let quick = (id.as_str(), "stakpak__run_command", json!({"command": "uname"}));
        the_model_wants(&stage, &[batch.asked(), quick], label);
        chat.say("please do both");
        let prompt = chat.prompt(&up).await;
        let session = Stage::sessions(&up).await[&chat.routing_key()].clone();
        let mut events = up.client().subscribe_events(&session, Some(0)).await.unwrap();
        loop {
            let event = events.next_event().await.unwrap();
            match event.envelope().map(|envelope| envelope.event) {
                Some(Event::ToolExecutionCompleted { tool_call_id, .. }) if tool_call_id.0 == id => break,
                _ => {}
            }
        }
        assert!(!batch.asked.exists());
        chat.press(Person::Ann, &prompt, label);
        chat.goes_on(&prompt, label, verdict);
        assert_eq!(written(&batch.asked), label == "Allow", "{label}");
    }
}
