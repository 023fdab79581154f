//! G-P46: what programs send to a name or a person, and where an answer to it lands; on real adapters.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::sync::Arc;

use axum::{body::Body, http::Request};
use serde_json::{Value, json};
use stakpak_gateway::{Gateway, GatewayCliFlags, GatewayConfig};
use stakpak_test_support::{FakeDiscord, Saying, SlackApi, SlackFault};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower::Service;

use support::agent::Agent;

/// A gateway between an agent server and the platforms of its configuration.
struct Line {
    agent: Agent,
    gateway: Arc<Gateway>,
    running: JoinHandle<()>,
    _home: tempfile::TempDir,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Line {
    async fn new(config: &str) -> Self {
        let (home, agent) = (tempfile::tempdir().unwrap(), Agent::start().await);
        let file = home.path().join("autopilot.toml");
        std::fs::write(&file, config).unwrap();
        let flags = GatewayCliFlags { store: Some(home.path().join("gateway.db")), ..GatewayCliFlags::default() };
        let mut config = GatewayConfig::load(file.as_path(), &flags).unwrap().with_server(agent.url(), "token");
        config.gateway.state_dir = home.path().to_owned();
        let gateway = Arc::new(Gateway::new(config).unwrap());
        let running = Arc::clone(&gateway);
        let running = tokio::spawn(async move { running.run(CancellationToken::new()).await.unwrap() });
        Self { agent, gateway, running, _home: home }
    }

    async fn slack(slack: &SlackApi) -> Self {
        let (bot, app, url) = (SlackApi::BOT_TOKEN, SlackApi::APP_TOKEN, slack.base_url());
        let line = Self::new(&format!(
            "[gateway]\napproval_route = \"slack:#ops\"\n[channels.slack]\nbot_token = \"{bot}\"\napp_token = \"{app}\"\n\
             api_base_url = \"{url}\"\nallow_users = [\"{ann}\"]\napprovers = [\"{ann}\"]\n",
            ann = SlackApi::ANN
        ))
        .await;
        slack.wait_for_sockets(2).await;
        line
    }

    async fn send(&self, body: &Value) -> Value {
        let request = Request::post("/send").header("authorization", "Bearer token");
        let request = request.header("content-type", "application/json").body(Body::from(body.to_string())).unwrap();
        let response = self.gateway.api_router().into_service::<Body>().call(request).await.unwrap();
        let status = response.status().as_u16();
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        let answer: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!((status, &answer["delivered"]), (200, &json!(true)), "{answer}");
        answer
    }

    /// The session that message number `number`, from 1, went to, and what it was told.
    async fn arrived(&self, number: usize) -> (Value, String) {
        self.agent.wait_for_messages(number).await;
        let (session, body) = self.agent.posted().remove(number - 1);
        (session.into(), body["context"].to_string())
    }
}

fn told(channel: &str, target: &Value) -> Value {
    json!({"channel": channel, "target": target, "text": "Disk 91 %", "context": {"status": "failed"}})
}

fn with_run(mut body: Value) -> Value {
    body["interactive"] = json!({"prompt": "why?"});
    body
}

/// Also when the name cannot be looked up: then the receipt tells what it stands for.
#[tokio::test]
async fn an_answer_to_what_was_sent_to_a_name_on_slack_needs_no_mention() {
    for lookup_fails in [false, true] {
        let slack = SlackApi::start().await;
        let line = Line::slack(&slack).await;
        let answer_in = |thread: &Value, text: &str| {
            let thread = thread.as_str().unwrap();
            slack.write(Saying::new(SlackApi::CHANNEL, SlackApi::ANN, text).in_thread(thread));
        };
        if lookup_fails {
            slack.fail_next("users.conversations", None, SlackFault::ErrorBefore);
        }
        let plain = line.send(&told("slack", &json!({"channel": "#ops"}))).await;
        answer_in(&plain["message_id"], "which disk?");
        let (_, context) = line.arrived(1).await;
        assert!(context.contains("status: failed"), "{context}");

        if lookup_fails {
            slack.fail_next("users.conversations", None, SlackFault::ErrorBefore);
        }
        let run = line.send(&with_run(told("slack", &json!({"channel": "#ops"})))).await;
        assert_eq!(line.arrived(2).await.0, run["session_id"]);
        assert_eq!(run["thread_id"], run["message_id"]);
        answer_in(&run["thread_id"], "and now?");
        assert_eq!(line.arrived(3).await.0, run["session_id"]);
    }
}

/// By the person and by the chat, with and without a run.
#[tokio::test]
async fn an_answer_to_what_was_sent_to_a_person_on_slack_lands_in_the_direct_session() {
    let slack = SlackApi::start().await;
    let dm = slack.dm(SlackApi::ANN);
    let line = Line::slack(&slack).await;
    let run = line.send(&with_run(told("slack", &json!({"channel": SlackApi::ANN})))).await;
    assert_eq!((line.arrived(1).await.0, &run["thread_id"]), (run["session_id"].clone(), &Value::Null));
    slack.wait_for_sent(&dm, 2).await;
    slack.say_in_dm(SlackApi::ANN, "and now?");
    assert_eq!(line.arrived(2).await.0, run["session_id"]);
    let again = line.send(&with_run(told("slack", &json!({"channel": dm})))).await;
    assert_eq!((line.arrived(3).await.0, &again["session_id"]), (run["session_id"].clone(), &run["session_id"]));
    for (number, chat) in [(4, SlackApi::ANN), (5, &dm)] {
        let plain = line.send(&told("slack", &json!({"channel": chat}))).await;
        // Threads inside of a direct chat share its conversation, and what was said into it.
        let thread = plain["message_id"].as_str().unwrap();
        slack.write(Saying::new(&dm, SlackApi::ANN, "why?").in_thread(thread));
        let (session, context) = line.arrived(number).await;
        assert_eq!(session, run["session_id"]);
        assert!(context.contains("status: failed"), "{context}");
    }
}

/// A press names the chat by its id, whatever the file calls it.
#[tokio::test]
async fn a_prompt_that_goes_to_a_name_can_be_answered_there() {
    for lookup_fails in [false, true] {
        let slack = SlackApi::start().await;
        let line = Line::slack(&slack).await;
        if lookup_fails {
            slack.fail_next("users.conversations", None, SlackFault::ErrorBefore);
        }
        line.agent.will_propose(vec![("c1", "stakpak__run_command", json!({"command": "df"}))]);
        slack.say_in_dm(SlackApi::ANN, "df");
        let prompt = slack.wait_for_sent(SlackApi::CHANNEL, 1).await.remove(0);
        let allow = prompt.blocks.as_array().unwrap().iter().find(|block| block["type"] == "actions").unwrap();
        let allow = allow["elements"][0]["action_id"].as_str().unwrap();
        slack.press(SlackApi::CHANNEL, &prompt.ts, SlackApi::ANN, allow);
        assert_eq!(line.agent.decision("c1").await["action"], "accept");
    }
}

#[tokio::test]
async fn an_answer_to_what_was_sent_to_a_person_on_discord_lands_in_the_direct_session() {
    let fake = FakeDiscord::start().await;
    let ann = fake.person("Ann");
    let guild = fake.guild("company");
    let thread = fake.thread(fake.channel(guild, "ops"), "outage");
    let line = Line::new(&format!(
        "[channels.discord]\ntoken = \"{}\"\napi_base_url = \"{}\"\nallow_users = [\"{ann}\"]\n",
        FakeDiscord::TOKEN,
        fake.base_url()
    ))
    .await;
    fake.wait_for("a session", |seen| seen.identifies.iter().any(|identify| identify.outcome.is_ok())).await;
    let run = line.send(&with_run(told("discord", &json!({"channel_id": ann.to_string()})))).await;
    assert_eq!(line.arrived(1).await.0, run["session_id"]);
    let dm = fake.direct(ann);
    fake.wait_for("the answer", |seen| seen.messages.iter().filter(|it| it.channel == dm).count() == 2).await;
    fake.say(dm, ann, "and now?");
    assert_eq!(line.arrived(2).await.0, run["session_id"]);
    let again = line.send(&with_run(told("discord", &json!({"channel_id": dm})))).await;
    assert_eq!((line.arrived(3).await.0, &again["session_id"]), (run["session_id"].clone(), &run["session_id"]));

    // A thread is named by its own id, and is a part of its channel all the same.
    let there = line.send(&with_run(told("discord", &json!({"channel_id": thread.to_string()})))).await;
    assert_eq!(
        (line.arrived(4).await.0, &there["thread_id"]),
        (there["session_id"].clone(), &json!(thread.to_string()))
    );
    fake.say(thread, ann, "and here?");
    assert_eq!(line.arrived(5).await.0, there["session_id"]);
}
