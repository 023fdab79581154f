//! A disk that is full: writes are refused and say so, and everything goes on when there is room again.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use stakpak_client::{EventStream, Message, SendMessageOptions};
use stakpak_test_support::{Gate, Reply, ScriptedLlm};

use crate::{
    disk::SmallDisk,
    support::{Home, PATIENCE, Up},
};

/// Room for a start and some runs.
const DISK: u64 = 6 << 20;

/// A home on a disk of its own with a scripted model; none where it cannot be had.
fn home(llm: &ScriptedLlm) -> Option<Home> {
    let mut home = Home::new();
    match SmallDisk::mount(home.directory.path(), DISK) {
        Ok(disk) => home.disk = Some(disk),
        Err(refusal) => {
            eprintln!("SKIPPED, no disk can be filled here: {refusal}");
            return None;
        }
    }
    home.write(
        "config.toml",
        &format!(
            "[profiles.default]\nmodel = \"my/test\"\n[profiles.default.providers.my]\ntype = \"custom\"\napi_endpoint = \"{}\"\n",
            llm.base_url()
        ),
    );
    Some(home)
}

struct Answer {
    status: StatusCode,
    retry_after: bool,
    body: Value,
}

/// A write as its client repeats it: with its key.
#[derive(Clone)]
struct Write {
    method: Method,
    path: String,
    body: Value,
}

impl Write {
    fn new(method: Method, path: impl Into<String>, body: Value) -> Self {
        Self { method, path: path.into(), body }
    }

    async fn send(&self, up: &Up) -> Answer {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = client.request(self.method.clone(), format!("{}/v1/{}", up.url, self.path));
        let key = format!("{} {}", self.path, self.body).replace('"', "'");
        let request = request.bearer_auth(&up.token).header("idempotency-key", key);
        let request = if self.method == Method::GET { request } else { request.json(&self.body) };
        let response = request.send().await.unwrap();
        let (status, retry_after) = (response.status(), response.headers().contains_key("retry-after"));
        let body = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default();
        Answer { status, retry_after, body }
    }

    async fn accepted(&self, up: &Up) -> Value {
        let answer = self.send(up).await;
        assert!(answer.status.is_success(), "{} {}: {} {}", self.method, self.path, answer.status, answer.body);
        answer.body
    }

    /// Repeats it as a client does that is told to come back.
    async fn accepted_soon(&self, up: &Up) -> Value {
        let accepted = async {
            loop {
                let answer = self.send(up).await;
                if answer.status != StatusCode::SERVICE_UNAVAILABLE {
                    break answer;
                }
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        let answer = tokio::time::timeout(PATIENCE, accepted).await.expect("an end of the refusals");
        assert!(answer.status.is_success(), "{} {}: {} {}", self.method, self.path, answer.status, answer.body);
        answer.body
    }
}

fn make(title: &str) -> Write {
    Write::new(Method::POST, "sessions", json!({ "title": title }))
}

fn follow_up(session: &str, run: &str) -> Write {
    let body = json!({ "message": { "content": "more", "role": "user" }, "run_id": run, "type": "follow_up" });
    Write::new(Method::POST, format!("sessions/{session}/messages"), body)
}

fn say(session: &str, text: &str) -> Write {
    Write::new(
        Method::POST,
        format!("sessions/{session}/messages"),
        json!({ "message": { "content": text, "role": "user" } }),
    )
}

async fn get(up: &Up, path: &str) -> Answer {
    Write::new(Method::GET, path, Value::Null).send(up).await
}

/// The session's events from the first one on, until one with this name has come `times`.
async fn events(up: &Up, session: &str, name: &str, times: usize) -> Vec<String> {
    let mut stream: EventStream = up.client().subscribe_events(session, Some(0)).await.unwrap();
    let mut seen = Vec::new();
    let mut count = 0;
    while count < times {
        let event = tokio::time::timeout(PATIENCE, stream.next_event()).await.expect("an event in time").unwrap();
        count += usize::from(event.envelope().is_some_and(|envelope| envelope.event.name() == name));
        seen.push(event.data);
    }
    seen
}

/// Makes sessions, which are noted, until one is refused.
async fn writes_until_refused(up: &Up, made: &mut Vec<String>) -> Write {
    loop {
        let title = format!("session {}", made.len());
        if !make(&title).send(up).await.status.is_success() {
            return make(&title);
        }
        made.push(title);
        assert!(made.len() < 500, "a full disk takes sessions without end");
    }
}

async fn assert_refused_as_full(up: &Up, writes: &[Write]) {
    for write in writes {
        let answer = write.send(up).await;
        let told = (answer.status.as_u16(), answer.body["code"].as_str(), answer.retry_after);
        assert_eq!(told, (503, Some("storage_unavailable"), true), "{} {}: {}", write.method, write.path, answer.body);
    }
    let ready = get(up, "ready").await;
    assert_eq!((ready.status.as_u16(), &ready.body["checks"]["journal"]), (503, &json!("read_only")), "{}", ready.body);
    assert_eq!(get(up, "health").await.status, StatusCode::OK);
}

async fn until_ready(up: &Up) {
    let ready = async {
        while get(up, "ready").await.status != StatusCode::OK {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ready).await.expect("readiness");
}

/// Every session by its title, and the deleted one as such.
async fn assert_sessions(up: &Up, mut titles: Vec<String>, deleted: &str) {
    let listed = get(up, "sessions?limit=1000&status=ALL").await.body;
    let sessions = listed["sessions"].as_array().unwrap().iter();
    let mut found: Vec<_> = sessions.map(|session| session["title"].as_str().unwrap().to_owned()).collect();
    found.sort();
    titles.sort();
    assert_eq!(found, titles);
    assert_eq!(get(up, &format!("sessions/{deleted}")).await.body["session"]["status"], "DELETED");
}

/// P12, P38: on a full disk writes are 503 and readiness names the journal, what can be read is read, and nobody is told that
/// something is done which is not. With room again it all goes on by itself: keys are free, runs end, ids go on. What was
/// answered 2xx or seen is there after a `kill -9` too.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_loses_nothing_and_needs_no_restart() {
    let llm = ScriptedLlm::start().await;
    let gate = Gate::new();
    llm.push(Reply::text(["said before"]));
    llm.push(Reply::text(["half "]).then_wait(&gate).then_text("and the rest"));
    llm.always(Reply::text(["said after"]));
    let Some(home) = home(&llm) else { return };
    let disk = home.disk.as_ref().unwrap();
    let up = home.up();

    let mut made = vec!["talk".to_owned(), "caught".to_owned(), "deleted".to_owned()];
    let mut ids = Vec::new();
    for title in &made {
        ids.push(make(title).accepted(&up).await["id"].as_str().unwrap().to_owned());
    }
    let [talk, caught, deleted] = ids.as_slice() else { panic!("{ids:?}") };
    say(talk, "first").accepted(&up).await;
    let talked = events(&up, talk, "run_completed", 1).await;
    let run = say(caught, "go").accepted(&up).await["run_id"].as_str().unwrap().to_owned();
    let half = events(&up, caught, "text_delta", 1).await;
    let mut live = up.client().subscribe_events(caught, Some(0)).await.unwrap();

    disk.fill();
    gate.open();
    let refused = writes_until_refused(&up, &mut made).await;
    let refused = [
        refused,
        say(talk, "second"),
        Write::new(Method::PATCH, format!("sessions/{talk}"), json!({ "title": "talk, renamed" })),
        Write::new(Method::DELETE, format!("sessions/{deleted}"), json!({})),
        follow_up(caught, &run),
        Write::new(Method::POST, format!("sessions/{caught}/cancel"), json!({ "run_id": run })),
    ];
    assert_refused_as_full(&up, &refused).await;
    assert_eq!(get(&up, "sessions?limit=1000").await.body["total"], made.len(), "what was refused is not there");
    assert_eq!(events(&up, talk, "run_completed", 1).await, talked);
    assert_eq!(get(&up, &format!("sessions/{caught}")).await.body["session"]["run_status"]["state"], "running");

    disk.empty();
    for write in &refused[..4] {
        write.accepted_soon(&up).await;
    }
    made.push(refused[0].body["title"].as_str().unwrap().to_owned());
    until_ready(&up).await;
    let failed = events(&up, caught, "run_error", 1).await;
    assert_eq!(failed[..half.len()], half, "what was seen stays");
    let session = get(&up, &format!("sessions/{caught}")).await.body["session"].take();
    assert_eq!(session["run_status"]["last_error"]["code"], "storage_unavailable", "{session}");
    say(caught, "again").accepted(&up).await;
    let caught_events = events(&up, caught, "run_completed", 1).await;
    assert_eq!(caught_events[..failed.len()], failed, "one end of the run, and ids go on behind it");
    for expected in &caught_events {
        let event = tokio::time::timeout(PATIENCE, live.next_event()).await.expect("an event in time").unwrap();
        assert_eq!(event.data, *expected, "a reader that was there all the time saw the same");
    }
    let talk_events = events(&up, talk, "run_completed", 2).await;
    up.kill();

    let up = home.up();
    made[0] = "talk, renamed".to_owned();
    assert_sessions(&up, made, deleted).await;
    assert_eq!(events(&up, talk, "run_completed", 2).await, talk_events);
    assert_eq!(events(&up, caught, "run_completed", 1).await, caught_events);
    let said = up.client().get_messages(talk, 100, 0).await.unwrap().messages;
    let said: Vec<_> = said.iter().map(stakpak_protocol::Message::text).collect();
    assert!(
        said.iter().any(|text| text.ends_with("first")) && said.ends_with(&["second".into(), "said after".into()]),
        "{said:?}"
    );
    up.client().send_messages(talk, vec![Message::user("third")], SendMessageOptions::default()).await.unwrap();
    events(&up, talk, "run_completed", 3).await;
}

/// A start on a full disk says what is the matter and changes nothing; with room again it starts.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_on_a_full_disk_says_so() {
    let llm = ScriptedLlm::start().await;
    let Some(home) = home(&llm) else { return };
    let disk = home.disk.as_ref().unwrap();
    let up = home.up();
    let made = make("kept").accepted(&up).await;
    up.kill();
    disk.fill();
    let refused = home.run(&["up", "--json", "--bind", "127.0.0.1:0"]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let said = crate::support::stderr(&refused);
    assert!(said.contains("full"), "{said}");
    disk.empty();
    let up = home.up();
    let id = made["id"].as_str().unwrap();
    assert_eq!(get(&up, &format!("sessions/{id}")).await.body["session"], made);
}
