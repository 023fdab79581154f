//! One session's client: sends until it is answered, reads all the time, and writes everything into the ledger.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chrono::Utc;
use fastrand::Rng;
use reqwest::Method;
use serde_json::{Value, json};
use stakpak_protocol::{
    Event, EventEnvelope, MessageType, MessagesResponse, RunId, RunStatus, SessionDetail, ToolCallId,
    ToolDecisionAction,
};

use crate::{
    ledger::{Answer, Connection, Ledger, What, Write},
    model::{Plan, Turn},
    reader::{Reader, Resume, read_until},
    world::{PATIENCE, World},
};

/// Between two attempts to reach an instance that may just have died.
pub const PAUSE: Duration = Duration::from_millis(2);

/// Cursors a session is read from at the end, beside 0.
const PROBES: usize = 3;

/// Why a client gave up. What it means is read from the ledger.
#[derive(Debug)]
pub enum Halt {
    /// It waited for something in vain.
    Stuck(String),
    /// It got an answer that it cannot go on with.
    Refused,
}

pub type Step<T = ()> = Result<T, Halt>;

pub struct Actor {
    pub rng: Rng,
    world: Arc<World>,
    ledger: Ledger,
    session: String,
    readers: Vec<Reader>,
}

impl Actor {
    /// Makes the session and begins to read it.
    pub async fn enter(world: Arc<World>, label: String, rng: Rng) -> Self {
        let ledger = Ledger { label: label.clone(), ..Ledger::default() };
        let mut actor = Self { rng, world, ledger, session: String::new(), readers: Vec::new() };
        let made = actor.write("sessions".to_owned(), json!({ "title": label }), What::Session).await;
        actor.session = made.json()["id"].as_str().unwrap_or_default().to_owned();
        for resume in [Resume::Cursor, Resume::Start] {
            actor.readers.push(Reader::start(&actor.world, &actor.session, resume));
        }
        actor
    }

    /// Starts a run that does this.
    pub async fn message(&mut self, auto_approve: &str, turns: Vec<Turn>) -> Step<RunId> {
        let plan = Plan { run: format!("{}.{}", self.ledger.label, self.ledger.plans.len()), turns };
        let body = json!({
            "message": { "content": plan.message(), "role": "user" },
            "overrides": { "auto_approve": auto_approve },
        });
        let what = What::Message(plan.run.clone());
        self.ledger.plans.push(plan);
        let path = self.path("messages");
        let answer = self.write(path, body, what).await;
        answer.run_id().filter(|_| answer.is_success()).ok_or(Halt::Refused)
    }

    /// Sends a follow-up or steering. A run that is over refuses it.
    pub async fn command(&mut self, run: RunId, kind: MessageType) {
        let text = format!("NOTE {}-{} of {run}", self.ledger.label, self.ledger.writes.len());
        let body = json!({ "message": { "content": text, "role": "user" }, "run_id": run, "type": kind });
        let path = self.path("messages");
        self.write(path, body, What::Command(text)).await;
    }

    pub async fn decide(&mut self, run: RunId, decisions: BTreeMap<ToolCallId, ToolDecisionAction>) {
        let actions: BTreeMap<_, _> =
            decisions.iter().map(|(call, action)| (call.to_string(), json!({ "action": action }))).collect();
        let path = self.path("tools/decisions");
        self.write(path, json!({ "decisions": actions, "run_id": run }), What::Decision(decisions)).await;
    }

    pub async fn cancel(&mut self, run: RunId) {
        let path = self.path("cancel");
        self.write(path, json!({ "run_id": run }), What::Cancel(run)).await;
    }

    /// Gives the session a title that no other has.
    pub async fn rename(&mut self) {
        let title = format!("{}, renamed {}", self.ledger.label, self.ledger.writes.len());
        let (path, body) = (self.path(""), json!({ "title": title }));
        self.send(Method::PATCH, path, body, What::Title(title)).await;
    }

    /// Gives the run a model that no other has. A run that is over refuses it.
    pub async fn switch_model(&mut self, run: RunId) {
        let model = format!("my/{}-{}", self.ledger.label, self.ledger.writes.len());
        let (path, body) = (self.path("model"), json!({ "model": model, "run_id": run }));
        self.send(Method::POST, path, body, What::Model(model)).await;
    }

    /// Deletes the session.
    pub async fn delete(&mut self) {
        let path = self.path("");
        self.send(Method::DELETE, path, Value::Null, What::Deletion).await;
    }

    /// Waits for an event of the run; none if the run ends before it.
    pub async fn event<T>(
        &self,
        what: &str,
        run: RunId,
        found: impl Fn(&Event) -> Option<T> + Copy,
    ) -> Step<Option<T>> {
        let or_end = |envelope: &EventEnvelope| {
            if envelope.run_id != Some(run) {
                return None;
            }
            let found = found(&envelope.event);
            (found.is_some() || envelope.event.is_terminal()).then_some(found)
        };
        self.readers[0].find(or_end).await.ok_or_else(|| Halt::Stuck(format!("{what} of run {run}")))
    }

    /// Waits for the run's terminal event.
    pub async fn end_of(&self, run: RunId) -> Step {
        self.event::<()>("the end", run, |_| None).await.map(drop)
    }

    fn path(&self, rest: &str) -> String {
        format!("sessions/{}/{rest}", self.session).trim_end_matches('/').to_owned()
    }

    async fn write(&mut self, path: String, body: Value, what: What) -> Answer {
        self.send(Method::POST, path, body, what).await
    }

    /// Sends until an answer arrives whole; now and then twice at once.
    async fn send(&mut self, method: Method, path: String, body: Value, what: What) -> Answer {
        let key = format!("{}-{}", self.ledger.label, self.ledger.writes.len());
        let mut write = Write { method, path, body, key, what, answers: Vec::new(), unanswered: 0 };
        let first = if self.rng.u8(..8) == 0 {
            let ((one, cut), (other, cut_too)) = tokio::join!(send(&self.world, &write), send(&self.world, &write));
            write.unanswered = cut + cut_too;
            write.answers = vec![one.clone(), other];
            one
        } else {
            let (answer, cut) = send(&self.world, &write).await;
            write.unanswered = cut;
            write.answers = vec![answer.clone()];
            answer
        };
        self.ledger.writes.push(write);
        first
    }

    /// Completes the ledger once the scenes are over and the instance stays up.
    pub async fn settle(mut self, played: Step, kills: u64) -> Ledger {
        self.ledger.kills = kills;
        if let Err(Halt::Stuck(waited_for)) = played {
            self.ledger.stuck = Some(waited_for);
        }
        if self.session.is_empty() {
            return self.ledger;
        }
        let last = match self.idle().await {
            Some(last) => last,
            None => {
                let stuck = self.ledger.stuck.take().unwrap_or_default();
                self.ledger.stuck = Some(format!("{stuck}; the session does not become idle"));
                0
            }
        };
        self.collect_streams(last).await;
        self.repeat_writes().await;
        let messages: Option<MessagesResponse> = self.get("messages?limit=1000").await;
        self.ledger.history = messages.map(|page| page.messages).unwrap_or_default();
        let search = format!("sessions?status=all&search={}", self.ledger.label);
        let found: Value = self.fetch(&search).await.unwrap_or_default();
        self.ledger.sessions = found["total"].as_u64().unwrap_or_default();
        let detail: Option<SessionDetail> = self.get("").await;
        self.ledger.session = detail.map(|detail| detail.session);
        self.ledger.witness = self.world.witness(&self.ledger.label);
        self.ledger.asked = self.world.book.take(&self.ledger.label);
        self.ledger.processes = processes_of(&self.session).await;
        self.ledger
    }

    /// Waits until no run is active; the newest event's id.
    async fn idle(&self) -> Option<u64> {
        let idle = async {
            loop {
                let detail: Option<SessionDetail> = self.get("").await;
                if let Some(SessionDetail { session, .. }) = detail
                    && matches!(session.run_status, RunStatus::Idle | RunStatus::Failed { .. })
                {
                    return session.last_event_id.0;
                }
                tokio::time::sleep(PAUSE * 5).await;
            }
        };
        tokio::time::timeout(PATIENCE, idle).await.ok()
    }

    /// Ends the readers once the first has everything, and reads the session again from several cursors.
    async fn collect_streams(&mut self, last: u64) {
        let all = |envelope: &EventEnvelope| (envelope.id.0 >= last).then_some(());
        let complete = last == 0 || self.readers[0].find(all).await.is_some();
        for reader in self.readers.drain(..) {
            self.ledger.connections.extend(reader.stop());
        }
        if !complete {
            self.ledger.connections.push(Connection { complete: true, ..Connection::default() });
        }
        let whole = read_until(&self.world, &self.session, 0, last).await;
        self.ledger.replay.clone_from(&whole.frames);
        self.ledger.connections.push(whole);
        for _ in 0..PROBES {
            let after = self.rng.u64(..=last);
            self.ledger.connections.push(read_until(&self.world, &self.session, after, last).await);
        }
    }

    /// Every accepted write once more: the answer must be the same.
    async fn repeat_writes(&mut self) {
        for write in &mut self.ledger.writes {
            if write.accepted().is_some() {
                let (again, _) = send(&self.world, write).await;
                write.answers.push(again);
            }
        }
    }

    async fn get<T: serde::de::DeserializeOwned>(&self, rest: &str) -> Option<T> {
        self.fetch(&self.path(rest)).await
    }

    async fn fetch<T: serde::de::DeserializeOwned>(&self, path: &str) -> Option<T> {
        let target = self.world.target().await;
        let request = self.world.http.get(format!("{}/v1/{path}", target.url)).bearer_auth(&target.token);
        request.send().await.ok()?.json().await.ok()
    }
}

/// Sends under the write's key until an answer arrives whole; how many attempts were cut.
async fn send(world: &World, write: &Write) -> (Answer, u64) {
    let mut cut = 0;
    loop {
        let target = world.target().await;
        let url = format!("{}/v1/{}", target.url, write.path);
        let request = world.http.request(write.method.clone(), url).bearer_auth(&target.token);
        let request = request.header("idempotency-key", &write.key);
        let answer = async {
            let request = if write.body.is_null() { request } else { request.json(&write.body) };
            let response = request.send().await?;
            let status = response.status().as_u16();
            let replayed = response.headers().contains_key("idempotency-replayed");
            Ok::<_, reqwest::Error>(Answer { status, replayed, body: response.text().await?, at: Utc::now() })
        };
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(Ok(answer)) => {
                world.beat();
                return (answer, cut);
            }
            Ok(Err(_)) => {
                cut += 1;
                tokio::time::sleep(PAUSE).await;
            }
            Err(_) => {
                return (Answer { status: 0, replayed: false, body: "no answer".to_owned(), at: Utc::now() }, cut);
            }
        }
    }
}

/// Processes that carry the session's id in their environment and do not end in the time a call has for that.
async fn processes_of(session: &str) -> Vec<String> {
    let mark = format!("STAKPAK_SESSION_ID={session}");
    let mut left = Vec::new();
    for _ in 0..300 {
        left = processes_with(mark.as_bytes());
        if left.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    left
}

fn processes_with(mark: &[u8]) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let marked = entries.flatten().filter(|entry| {
        let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|line| line == mark)
    });
    marked.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
