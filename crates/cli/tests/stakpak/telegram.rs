//! Telegram through the built binary: nothing lost, nothing doubled, strangers kept out.

use std::collections::BTreeMap;

use crate::support::{Home, Up, stderr, stdout, until};
use serde_json::Value;
use stakpak_protocol::Role;
use stakpak_test_support::{BotApi, Gate, Reply, ScriptedLlm, SendFault};

const USER: i64 = 42;
const STRANGER: i64 = 77;

pub struct Stage {
    pub home: Home,
    pub telegram: BotApi,
    pub llm: ScriptedLlm,
}

impl Stage {
    pub async fn new() -> Self {
        let stage = Self { home: Home::new(), telegram: BotApi::start().await, llm: ScriptedLlm::start().await };
        stage.home.write(
            "config.toml",
            &format!(
                "[profiles.default]\nmodel = \"my/test\"\n[profiles.default.providers.my]\ntype = \"custom\"\napi_endpoint = \"{}\"\n",
                stage.llm.base_url()
            ),
        );
        stage.home.write(
            "autopilot.toml",
            &format!(
                "[channels.telegram]\ntoken = \"123:token\"\nallow_users = [{USER}]\napi_base_url = \"{}\"\n",
                stage.telegram.base_url()
            ),
        );
        stage
    }

    pub fn up(&self) -> Up {
        self.home.up()
    }

    /// User messages in the journal, by text.
    pub async fn user_messages(up: &Up) -> BTreeMap<String, usize> {
        let client = up.client();
        let mut counts = BTreeMap::new();
        for session in client.list_sessions().await.unwrap().sessions {
            let messages = client.get_messages(&session.id.to_string(), 1000, 0).await.unwrap().messages;
            for message in messages.iter().filter(|message| message.role == Role::User) {
                let text = message.text().rsplit("\n\n").next().unwrap().to_owned();
                *counts.entry(text).or_default() += 1;
            }
        }
        counts
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_allowed_user_is_answered() {
    let stage = Stage::new().await;
    let up = stage.up();
    stage.llm.push(Reply::text(["Hello ", "from the agent"]));
    stage.telegram.say(USER, "hello");
    let sent = stage.telegram.wait_for_sent(|sent| !sent.is_empty()).await;
    assert_eq!((sent[0].chat_id, sent[0].text.as_str()), (USER, "Hello from the agent"));
    assert_eq!(Stage::user_messages(&up).await, BTreeMap::from([("hello".to_owned(), 1)]));
}

/// G-P28, G-P38: a stranger's message never reaches the server; the log and `channel list` say how to let them in. Who
/// wrote directly gets a code, once; a group gets none.
#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_is_kept_out() {
    let stage = Stage::new().await;
    let up = stage.up();
    stage.telegram.say(STRANGER, "let me in, secret text");
    stage.telegram.say_in_group(-100, STRANGER, "and here");
    stage.telegram.say(STRANGER, "please");
    let last = stage.telegram.say(USER, "hello");
    stage.telegram.wait_for_sent(|sent| sent.len() == 2).await;
    stage.telegram.wait_for_confirmed(last).await;
    let sent = stage.telegram.sent();
    let told: Vec<_> = sent.iter().filter(|sent| sent.chat_id != USER).collect();
    assert!(matches!(&told[..], [one] if one.chat_id == STRANGER && one.text.contains("pair approve ")), "{sent:?}");
    assert_eq!(Stage::user_messages(&up).await, BTreeMap::from([("hello".to_owned(), 1)]));
    let list = stdout(&stage.home.run(&["channel", "list"]));
    assert!(list.contains("turned away 77") && list.contains("--allow-user 77"), "{list}");
    let log = std::fs::read_to_string(stage.home.path(".stakpak/autopilot/logs/gateway.log")).unwrap();
    assert!(log.contains("--allow-user 77") && !log.contains("secret text"), "{log}");
    let advised = stage.home.run(&["channel", "add", "telegram", "--allow-user", "77", "--no-test"]);
    assert!(advised.status.success(), "the advice works: {}", stderr(&advised));
}

/// G-P6: the offset on the wire never exceeds the last committed update + 1; a redelivery causes no second run.
#[tokio::test(flavor = "multi_thread")]
async fn the_offset_follows_the_commit() {
    let stage = Stage::new().await;
    let up = stage.up();
    let first = stage.telegram.say(USER, "one");
    stage.telegram.wait_for_sent(|sent| sent.len() == 1).await;
    stage.telegram.wait_for_confirmed(first).await;
    up.kill();
    stage.telegram.redeliver();
    let up = stage.up();
    let second = stage.telegram.say(USER, "two");
    stage.telegram.wait_for_sent(|sent| sent.iter().any(|sent| sent.text.contains("two"))).await;
    stage.telegram.wait_for_confirmed(second).await;
    assert_eq!(
        Stage::user_messages(&up).await,
        BTreeMap::from([("one".to_owned(), 1), ("two".to_owned(), 1)]),
        "a redelivered update is not run again"
    );
    let highest = stage.telegram.offsets().into_iter().flatten().max();
    assert_eq!(highest, Some(second + 1));
}

/// G-P1: killed between receipt and run, while the model answers, while the answer is sent: each message runs once and is
/// answered, at most twice where the platform's answer was lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_point_loses_nothing_and_runs_nothing_twice() {
    let stage = Stage::new().await;
    // As soon as the update is delivered.
    let up = stage.up();
    let polls = stage.telegram.offsets().len();
    until("the first poll", || (stage.telegram.offsets().len() > polls).then_some(()));
    stage.telegram.say(USER, "at receipt");
    up.kill();
    // While the model is asked.
    let gate = Gate::new();
    stage.llm.push(Reply::text(["answer one"]));
    let up = stage.up();
    stage.telegram.wait_for_sent(|sent| sent.len() == 1).await;
    stage.llm.push(Reply::text(["half"]).then_wait(&gate));
    let asked = stage.llm.requests().len();
    stage.telegram.say(USER, "in the run");
    stage.llm.wait_for_requests(asked + 1).await;
    up.kill();
    // While the answer is on its way: the platform has it, and its reply never comes.
    let up = stage.up();
    stage.telegram.wait_for_sent(|sent| sent.len() == 2).await;
    stage.telegram.fail_next(SendFault::AnswerLost);
    stage.telegram.say(USER, "in the delivery");
    stage.telegram.wait_for_sent(|sent| sent.len() == 3).await;
    up.kill();
    let up = stage.up();
    stage.telegram.say(USER, "afterwards");
    let sent = stage.telegram.wait_for_sent(|sent| sent.iter().any(|sent| sent.text.contains("afterwards"))).await;
    let texts = ["at receipt", "in the run", "in the delivery", "afterwards"];
    let once = texts.iter().map(|text| ((*text).to_owned(), 1)).collect();
    assert_eq!(Stage::user_messages(&up).await, once);
    let copies = sent.iter().filter(|sent| sent.text.contains("in the delivery")).count();
    assert!((1..=2).contains(&copies), "{sent:?}");
    assert_eq!(sent.iter().filter(|sent| sent.text.contains("answer one")).count(), 1, "{sent:?}");
}

/// G-P1 at random: many kills, many messages, in order.
#[tokio::test(flavor = "multi_thread")]
async fn random_kills_lose_nothing() {
    let stage = Stage::new().await;
    let mut expected = BTreeMap::new();
    // Less than anybody may write in a minute.
    for round in 0..6u64 {
        let up = stage.up();
        for part in 0..3 {
            let text = format!("message {round}.{part}");
            stage.telegram.say(USER, &text);
            expected.insert(text, 1);
        }
        std::thread::sleep(std::time::Duration::from_millis(round * 7 % 40));
        up.kill();
    }
    let up = stage.up();
    stage.telegram.say(USER, "the last");
    expected.insert("the last".to_owned(), 1);
    let sent = stage.telegram.wait_for_sent(|sent| sent.iter().any(|sent| sent.text.contains("the last"))).await;
    assert_eq!(Stage::user_messages(&up).await, expected);
    for text in expected.keys() {
        let copies = sent.iter().filter(|sent| sent.text.contains(text.as_str())).count();
        assert!((1..=2).contains(&copies), "{text}: {copies} copies in {sent:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limit_is_waited_out_and_a_refusal_is_parked() {
    let stage = Stage::new().await;
    let up = stage.up();
    stage.telegram.fail_next(SendFault::RateLimited(1));
    stage.telegram.say(USER, "one");
    stage.telegram.wait_for_sent(|sent| sent.len() == 1).await;
    stage.telegram.fail_next(SendFault::Refused);
    stage.telegram.say(USER, "two");
    stage.telegram.say(USER, "three");
    let sent = stage.telegram.wait_for_sent(|sent| sent.iter().any(|sent| sent.text.contains("three"))).await;
    assert!(!sent.iter().any(|sent| sent.text.contains("two")), "{sent:?}");
    let status: Value = reqwest::Client::builder()
        .no_proxy()
        .build()
        .unwrap()
        .get(format!("{}/v1/gateway/status", up.url))
        .bearer_auth(&up.token)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(status["outbox_failed"], 1, "what was refused is visible: {status}");
    let numbers = metrics(&up).await;
    let expected = [
        r#"stakpak_gateway_sends_total{channel="telegram",result="rate_limited"} 1"#,
        r#"stakpak_gateway_sends_total{channel="telegram",result="refused"} 1"#,
        r#"stakpak_gateway_rate_limit_wait_seconds_total{channel="telegram"} 1"#,
        r#"stakpak_gateway_runs_total{outcome="completed"} 3"#,
        r#"stakpak_gateway_runs_total{outcome="failed"} 0"#,
        r#"stakpak_gateway_outbox_messages{state="failed"} 1"#,
        r#"stakpak_channel_reconnects_total{channel="telegram"} 0"#,
        "stakpak_gateway_approval_wait_seconds_count 0",
        "stakpak_gateway_inbox_age_seconds 0",
        "stakpak_gateway_sse_reconnects_total 0",
        "stakpak_gateway_sse_gaps_total 0",
    ];
    for line in expected {
        assert!(numbers.lines().any(|found| found == line), "{line}: {numbers}");
    }
    let accepted = numbers.lines().find_map(|line| line.strip_prefix("stakpak_gateway_accept_duration_seconds_count "));
    assert!(matches!(accepted, Some("2" | "3")), "as many as polls with messages: {accepted:?}");
    let of_gateway =
        numbers.lines().filter(|line| line.contains("stakpak_gateway") || line.contains("stakpak_channel"));
    let naming: Vec<_> = of_gateway.filter(|line| line.contains(&format!("\"{USER}\""))).collect();
    assert!(naming.is_empty(), "no label is a person: {naming:?}");
}

async fn metrics(up: &Up) -> String {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let response = client.get(format!("{}/metrics", up.url)).bearer_auth(&up.token).send().await.unwrap();
    response.text().await.unwrap()
}

/// `POST /v1/gateway/send`: a text into the chat, a run whose answer follows, and what became of it by its delivery id. A file
/// larger than other bodies may be is taken.
#[tokio::test(flavor = "multi_thread")]
async fn programs_send_texts_and_start_runs() {
    let stage = Stage::new().await;
    let up = stage.up();
    stage.telegram.wait_for_sent(<[_]>::is_empty).await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let send = |body: Value| {
        let request = http.post(format!("{}/v1/gateway/send", up.url)).bearer_auth(&up.token);
        let request = request.header("idempotency-key", "k").json(&body);
        async move {
            let response = request.send().await.unwrap();
            (response.status().as_u16(), response.json::<Value>().await.unwrap())
        }
    };
    let body = serde_json::json!({"channel": "telegram", "target": {"chat_id": USER}, "text": "Disk 91 %",
        "interactive": {"prompt": "find out why"}});
    let started = until_ready(|| send(body.clone())).await;
    assert_eq!((started.0, &started.1["delivered"]), (200, &Value::from(true)), "{}", started.1);
    stage.telegram.wait_for_sent(|sent| sent.iter().any(|sent| sent.text.contains("find out why"))).await;
    assert_eq!(send(body.clone()).await.1["delivery_id"], started.1["delivery_id"], "the key is known");
    assert_eq!(Stage::user_messages(&up).await, BTreeMap::from([("find out why".to_owned(), 1)]));
    assert_eq!(stage.telegram.sent().iter().filter(|sent| sent.text == "Disk 91 %").count(), 1);
    let delivery = format!("{}/v1/gateway/deliveries/{}", up.url, started.1["delivery_id"].as_str().unwrap());
    let delivery: Value = http.get(delivery).bearer_auth(&up.token).send().await.unwrap().json().await.unwrap();
    assert_eq!((&delivery["state"], &delivery["session_id"]), (&Value::from("sent"), &started.1["session_id"]));
    let mut other = body;
    other["attachments"] = serde_json::json!([{"filename": "a.bin", "data_base64": "A".repeat(4 * 1024 * 1024)}]);
    assert_eq!(send(other.clone()).await.1["error"], "idempotency_key_reused");
    other["channel"] = "slack".into();
    other["target"] = serde_json::json!({"channel": "C1"});
    assert_eq!(send(other).await.1["error"], "channel_not_found", "the body was read");
    let unknown = serde_json::json!({"channel": "slack", "target": {"channel": "C1"}, "text": "x"});
    assert_eq!(send(unknown).await.1["error"], "channel_not_found");
}

/// The gateway starts after the server answers; until then it says so.
async fn until_ready<F: Future<Output = (u16, Value)>>(send: impl Fn() -> F) -> (u16, Value) {
    let deadline = std::time::Instant::now() + crate::support::PATIENCE;
    loop {
        let answer = send().await;
        if answer.0 != 503 || std::time::Instant::now() > deadline {
            return answer;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn channel_test_tells_the_cause() {
    let stage = Stage::new().await;
    let pass = stage.home.run(&["channel", "test"]);
    assert!(pass.status.success() && stdout(&pass).contains("@test_bot"), "{}", stderr(&pass));
    stage.telegram.set_webhook();
    let told = stage.home.run(&["channel", "test"]);
    assert!(stdout(&told).contains("--delete-webhook"), "{}", stdout(&told));
    let removed = stage.home.run(&["channel", "test", "--delete-webhook"]);
    assert!(removed.status.success() && !stdout(&removed).contains("webhook"), "{}", stdout(&removed));
    let elsewhere = stage.home.run(&["channel", "test", "slack", "--delete-webhook"]);
    assert_eq!(elsewhere.status.code(), Some(2), "{}", stderr(&elsewhere));
    let address = stage.telegram.base_url();
    drop(stage.telegram);
    let fail = stage.home.run(&["channel", "test"]);
    assert_eq!(fail.status.code(), Some(1));
    let host = address.trim_start_matches("http://");
    assert!(stderr(&fail).contains(host) && stderr(&fail).contains("refused"), "{}", stderr(&fail));
    assert!(!stderr(&fail).contains("123:token"));
}

#[tokio::test(flavor = "multi_thread")]
async fn channels_are_edited_in_place() {
    let stage = Stage::new().await;
    stage.home.write("autopilot.toml", "# mine\n[gateway] # keep\n");
    let missing = stage.home.run(&["channel", "add", "telegram"]);
    assert!(!missing.status.success() && stderr(&missing).contains("TELEGRAM_BOT_TOKEN"), "{}", stderr(&missing));
    let base = stage.telegram.base_url();
    let mut add = stage.home.command(&["channel", "add", "telegram", "--allow-user", "42", "--api-base-url", &base]);
    let added = add.env("TELEGRAM_BOT_TOKEN", "123:token").output().unwrap();
    assert!(added.status.success(), "{}", stderr(&added));
    let text = std::fs::read_to_string(stage.home.path(".stakpak/autopilot.toml")).unwrap();
    assert!(text.starts_with("# mine\n[gateway] # keep\n"), "{text}");
    assert!(text.contains("${TELEGRAM_BOT_TOKEN}") && !text.contains("123:token"), "{text}");
    assert!(stage.home.run(&["channel", "remove", "telegram"]).status.success());
    assert_eq!(stage.home.run(&["channel", "remove", "telegram"]).status.code(), Some(1));
    let slack = stage.home.run(&["channel", "add", "slack", "--token", "x"]);
    assert_eq!(slack.status.code(), Some(2));
}
