//! `POST /send` and what can be asked about it afterwards, against a platform and a server that do as they are told.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use support::{
    ANN, Stage,
    chat::{direct, group},
};

fn text(text: &str) -> Value {
    json!({"channel": "telegram", "target": {"chat_id": 1}, "text": text})
}

fn run(prompt: &str, more: &Value) -> Value {
    let mut body = text("Disk 91 %");
    body["interactive"] = json!({"prompt": prompt});
    for (key, value) in more.as_object().unwrap() {
        body["interactive"][key] = value.clone();
    }
    body
}

fn file(name: &str, content: &[u8]) -> Value {
    json!({"filename": name, "mime_type": "text/plain", "data_base64": BASE64_STANDARD.encode(content)})
}

async fn stage() -> Stage {
    Stage::new("", "allow_users = [1]").await
}

/// G-P47: the answer does not wait for a platform that is silent, and a repeated key gives one message and one run, also
/// after a restart.
#[tokio::test]
async fn a_silent_platform_delays_no_answer_and_a_key_counts_once() {
    let mut stage = stage().await.impatient().await;
    stage.chat.is_silent(true);
    let (status, body) = stage.send("k", &run("why?", &json!({}))).await;
    assert_eq!((status, &body["delivered"], &body["queued"]), (202, &json!(false), &json!(true)), "{body}");
    let path = format!("/deliveries/{}", body["delivery_id"].as_str().unwrap());
    let delivery = stage.api("GET", &path, None).await.1;
    assert!(["queued", "sending"].contains(&delivery["state"].as_str().unwrap()), "{delivery}");
    assert_eq!(delivery["session_id"], body["session_id"]);
    assert_eq!(stage.agent.messages().len(), 0, "the run follows the text");

    stage.kill().await;
    stage.start().await;
    let again = stage.send("k", &run("why?", &json!({}))).await;
    assert_eq!((again.0, &again.1["delivery_id"]), (202, &body["delivery_id"]));
    let (status, other) = stage.send("k", &run("why not?", &json!({}))).await;
    assert_eq!((status, &other["error"]), (409, &json!("idempotency_key_reused")));

    stage.chat.is_silent(false);
    stage.agent.wait_for_messages(1).await;
    stage.chat.wait_for("the answer", |shown| shown.text.contains("All done.")).await;
    let texts = |stage: &Stage| stage.chat.shown().iter().filter(|shown| shown.text == "Disk 91 %").count();
    let delivered = stage.send("k", &run("why?", &json!({}))).await;
    assert_eq!((delivered.0, &delivered.1["delivery_id"]), (200, &body["delivery_id"]));
    assert_eq!((texts(&stage), stage.agent.messages().len(), stage.agent.created().len()), (1, 1, 1));
    let delivery = stage.api("GET", &path, None).await.1;
    assert_eq!(delivery["state"], "sent");
    assert!(delivery["message_id"].is_string() && delivery.get("error").is_none(), "{delivery}");
}

/// What the platform refuses for good is said, and nothing is run: not when the text is sent again either, for the program
/// may have started its run otherwise.
#[tokio::test]
async fn a_refused_text_starts_no_run_nor_when_it_is_sent_again() {
    let stage = stage().await;
    stage.chat.refuse_texts(true);
    let (status, body) = stage.send("k", &run("why?", &json!({}))).await;
    assert_eq!((status, &body["error"]), (502, &json!("delivery_failed")));
    let message = body["message"].as_str().unwrap();
    assert!(message.contains("chat not found"), "{message}");
    let id = message.rsplit_once("(delivery ").unwrap().1.trim_end_matches(')');
    assert_eq!(stage.api("GET", &format!("/deliveries/{id}"), None).await.1["state"], "failed");
    assert_eq!(stage.api("GET", "/status", None).await.1["inbox_pending"], 0, "no run waits");

    stage.chat.refuse_texts(false);
    let retry = stage.api("POST", &format!("/deliveries/{id}/retry"), None).await;
    assert_eq!(retry.0, 202, "{}", retry.1);
    stage.chat.wait_for("the text", |shown| shown.text == "Disk 91 %").await;
    let again = stage.send("k", &run("why?", &json!({}))).await;
    assert_eq!((again.0, &again.1["error"]), (502, &json!("delivery_failed")), "its answer stays: {}", again.1);
    let state = stage.api("GET", &format!("/deliveries/{id}"), None).await.1;
    assert_eq!(state["state"], "sent", "{state}");
    // What is said now is the first thing that the agent hears.
    stage.chat.say(ANN, "and now?").await;
    stage.agent.wait_for_messages(1).await;
    assert!(stage.agent.messages()[0].contains("and now?"), "{:?}", stage.agent.messages());
    assert_eq!(stage.api("GET", "/deliveries/nothing", None).await.0, 404);
    assert_eq!(stage.api("POST", "/deliveries/nothing/retry", None).await.0, 404);
}

/// Order in the chat: text, check output, files, answer; the run gets context, options and limits as they were given.
#[tokio::test]
async fn everything_that_was_asked_for_reaches_chat_and_run() {
    let stage = stage().await;
    let options = json!({
        "auto_approve": ["view"], "caller_context": [{"name": "host", "content": "db1", "priority": "high"}],
        "limits": {"cost_usd": 0.5, "tokens": 9000, "wall_clock_s": 60}, "max_turns": 7, "model": "m/x", "profile": "ops",
        "sandbox": false, "cwd": "/srv", "timeout": 1800, "title": "Disk",
    });
    let mut body = run("why?", &options);
    body["context"] = json!({"schedule": "disk", "status": "failed", "check_output": "/dev/sda1 91%"});
    body["attachments"] = json!([file("../../df.txt", b"full"), file("b.txt", b"two")]);
    let (status, answer) = stage.api("POST", "/send", Some(&body)).await;
    assert_eq!((status, &answer["delivered"]), (200, &json!(true)), "{answer}");
    stage.chat.wait_for("the answer", |shown| shown.text.contains("All done.")).await;
    let shown: Vec<_> = stage.chat.shown().into_iter().map(|shown| shown.file.unwrap_or(shown.text)).collect();
    assert_eq!(shown[..4], ["Disk 91 %", "/dev/sda1 91%", "full", "two"]);
    assert_eq!(answer["message_id"], stage.chat.shown()[0].id);

    assert_eq!(stage.agent.created(), [json!({"cwd": "/srv", "title": "Disk"})]);
    let (session, posted) = stage.agent.posted().remove(0);
    assert_eq!(answer["session_id"], session);
    let overrides = json!({"auto_approve": ["view"], "limits": {"cost_usd": 0.5, "tokens": 9000, "wall_clock_s": 60},
        "max_turns": 7, "profile": "ops"});
    assert_eq!(
        (&posted["overrides"], &posted["model"], &posted["sandbox"]),
        (&overrides, &json!("m/x"), &json!(false))
    );
    assert_eq!(posted["message"]["content"], "why?");
    let context = &posted["context"];
    assert_eq!(context[0]["name"], "watch_delivery_context");
    assert!(context[0]["content"].as_str().unwrap().contains("check_output: /dev/sda1 91%"), "{context}");
    assert_eq!(context[1], json!({"name": "host", "content": "db1", "priority": "high"}));

    stage.chat.say(ANN, "and now?").await;
    stage.agent.wait_for_messages(2).await;
    let next = stage.agent.posted().remove(1).1;
    assert!(!next["context"].to_string().contains("watch_delivery_context"), "it belonged to the run: {next}");
}

/// Without a run the context belongs to the next message from the chat.
#[tokio::test]
async fn the_context_of_a_plain_text_goes_to_the_next_message() {
    let stage = stage().await;
    let mut body = text("Disk 91 %");
    body["context"] = json!({"status": "failed", "check_output": "full"});
    assert_eq!(stage.api("POST", "/send", Some(&body)).await.0, 200);
    stage.chat.say(ANN, "why?").await;
    stage.agent.wait_for_messages(1).await;
    assert!(stage.agent.posted()[0].1["context"].to_string().contains("status: failed"));
    assert_eq!(stage.chat.shown().iter().filter(|shown| shown.text == "full").count(), 0, "no run, no second message");
}

/// A file that the platform cannot take is text if it is one; else the request is refused before anything is sent.
#[tokio::test]
async fn files_for_a_platform_without_files_are_text_or_refused() {
    let stage = stage().await;
    stage.chat.take_no_files();
    let mut body = text("Report");
    body["attachments"] = json!([file("a.txt", b"line one")]);
    assert_eq!(stage.api("POST", "/send", Some(&body)).await.0, 200);
    stage.chat.wait_for("the text", |shown| shown.text.contains("a.txt") && shown.text.contains("line one")).await;
    body["attachments"] = json!([file("a.bin", &[0xff, 0xfe])]);
    let (status, refused) = stage.api("POST", "/send", Some(&body)).await;
    assert_eq!((status, &refused["error"]), (400, &json!("invalid_request")));
    assert!(refused["message"].as_str().unwrap().starts_with("attachments[0]: Telegram takes no files"), "{refused}");
    assert_eq!(stage.chat.shown().iter().filter(|shown| shown.text == "Report").count(), 1);
}

/// An upload that is refused goes as text, and counts as delivered.
#[tokio::test]
async fn a_refused_upload_is_delivered_as_text() {
    let stage = stage().await;
    stage.chat.refuse_files();
    let mut body = text("Report");
    body["attachments"] = json!([file("a.txt", b"line one")]);
    let (status, answer) = stage.api("POST", "/send", Some(&body)).await;
    assert_eq!(status, 200, "{answer}");
    assert!(stage.chat.shown().iter().any(|shown| shown.text == "line one"));
}

#[tokio::test]
async fn a_run_over_its_timeout_is_cancelled_and_the_chat_hears_it() {
    let stage = Stage::new("", "allow_users = [1]\napprovers = [1]").await;
    stage.agent.will_propose(vec![("c1", "stakpak__run_command", json!({"command": "sleep 9"}))]);
    assert_eq!(stage.api("POST", "/send", Some(&run("why?", &json!({"timeout": 1})))).await.0, 200);
    stage.chat.wait_for("the end", |shown| shown.text.contains("longer than it may")).await;
}

/// `session = "new"`: each in a session of its own, which an answer to one of its messages goes on with; the chat's own
/// session knows nothing of it.
#[tokio::test]
async fn an_answer_to_a_run_of_its_own_goes_on_in_its_session() {
    let stage = Stage::new("", "allow_users = [1]\nallow_chats = [-5]").await;
    let send = |chat: i64| {
        let mut body = run("why?", &json!({"session": "new"}));
        body["target"] = json!({"chat_id": chat});
        body
    };
    let first = stage.api("POST", "/send", Some(&send(-5))).await.1;
    let second = stage.api("POST", "/send", Some(&send(-5))).await.1;
    assert_ne!(first["session_id"], second["session_id"]);
    stage.agent.wait_for_messages(2).await;
    let text_of_first = first["message_id"].as_str().unwrap();
    stage.chat.say_in(group("-5"), ANN, "about the chat").await;
    stage.agent.wait_for_messages(3).await;
    stage.chat.say_to(group("-5"), ANN, "about the first", Some(text_of_first)).await;
    stage.agent.wait_for_messages(4).await;
    let sessions: Vec<Value> = stage.agent.posted().into_iter().map(|(session, _)| session.into()).collect();
    assert!(sessions[..2].contains(&first["session_id"]) && sessions[..2].contains(&second["session_id"]));
    assert!(!sessions[..2].contains(&sessions[2]));
    assert_eq!(sessions[3], first["session_id"]);
    let elsewhere = direct(ANN);
    stage.chat.say_to(elsewhere, ANN, "same id, other chat", Some(text_of_first)).await;
    stage.agent.wait_for_messages(5).await;
    assert_ne!(stage.agent.posted()[4].0, sessions[3].as_str().unwrap());
}

/// A session stays where it was made: another directory is refused, not ignored.
#[tokio::test]
async fn a_chat_whose_session_works_elsewhere_refuses_a_directory() {
    let stage = stage().await;
    assert_eq!(stage.api("POST", "/send", Some(&run("one", &json!({})))).await.0, 200);
    stage.agent.wait_for_messages(1).await;
    assert_eq!(stage.api("POST", "/send", Some(&run("two", &json!({"cwd": "/srv"})))).await.0, 200);
    let (status, refused) = stage.api("POST", "/send", Some(&run("three", &json!({"cwd": "/tmp"})))).await;
    assert_eq!(status, 400);
    assert!(refused["message"].as_str().unwrap().contains("works in /srv"), "{refused}");
    let apart = run("four", &json!({"cwd": "/tmp", "session": "new"}));
    assert_eq!(stage.api("POST", "/send", Some(&apart)).await.0, 200);
    assert_eq!(stage.agent.created()[1]["cwd"], "/tmp");
}

#[tokio::test]
async fn what_is_out_of_bounds_is_refused_by_name_before_anything_is_sent() {
    let stage = stage().await;
    let item = |name: usize, content: usize, priority: usize| json!({"name": "n".repeat(name), "content": "c".repeat(content), "priority": "p".repeat(priority)});
    let context = |items: Vec<Value>| json!({"caller_context": items});
    let cases = [
        (run(" ", &json!({})), "invalid_interactive_prompt"),
        (run(&"x".repeat(32 * 1024 + 1), &json!({})), "invalid_interactive_prompt"),
        (run("x", &json!({"timeout": 0})), "invalid_interactive_timeout"),
        (run("x", &json!({"timeout": -1})), "invalid_interactive_timeout"),
        (run("x", &json!({"timeout": "1h"})), "invalid_interactive_timeout"),
        (run("x", &context(vec![item(1, 1, 1); 51])), "invalid_interactive_caller_context"),
        (run("x", &context(vec![item(257, 1, 1)])), "invalid_interactive_caller_context"),
        (run("x", &context(vec![item(1, 10_241, 1)])), "invalid_interactive_caller_context"),
        (run("x", &context(vec![item(1, 1, 33)])), "invalid_interactive_caller_context"),
        (run("x", &context(vec![item(1, 10_240, 1); 10])), "invalid_interactive_caller_context"),
        (run("x", &json!({"max_turns": 0})), "invalid_request"),
        (run("x", &json!({"auto_approve": "some"})), "invalid_request"),
        (run("x", &json!({"limits": {"tokens": 0}})), "invalid_request"),
        (run("x", &json!({"cwd": "srv"})), "invalid_request"),
        (run("x", &json!({"session": "old"})), "invalid_request"),
        (json!({"channel": "telegram", "target": {}, "text": "x"}), "invalid_target"),
    ];
    for (body, code) in cases {
        let (status, refused) = stage.api("POST", "/send", Some(&body)).await;
        assert_eq!((status, refused["error"].as_str()), (400, Some(code)), "{refused}");
    }
    let mut files = text("x");
    for (attachment, part) in [
        (json!({"filename": "a", "data_base64": "%%"}), "attachments[0].data_base64: is not base64"),
        (json!({"filename": " ", "data_base64": "eA=="}), "attachments[0].filename"),
        (json!({"filename": "a", "data_base64": ""}), "attachments[0].data_base64: the file is empty"),
        (file("a", &[b'x'; 1_000_001]), "attachments[0]: Telegram takes files of at most 1000000 bytes"),
    ] {
        files["attachments"] = json!([attachment]);
        let (status, refused) = stage.api("POST", "/send", Some(&files)).await;
        assert_eq!(status, 400);
        assert!(refused["message"].as_str().unwrap().starts_with(part), "{refused}");
    }
    let (status, refused) = stage.api("POST", "/send", Some(&text(&"x".repeat(1024 * 1024)))).await;
    assert_eq!((status, &refused["error"]), (413, &json!("payload_too_large")));
    let huge = json!({"filename": "a", "data_base64": "A".repeat(32 * 1024 * 1024)});
    files["attachments"] = json!([huge]);
    assert_eq!(stage.api("POST", "/send", Some(&files)).await.0, 413);
    assert_eq!((stage.chat.shown().len(), stage.agent.created().len()), (0, 0));
}

/// Bounds themselves are within bounds, and more context than the server takes in entries reaches it whole.
#[tokio::test]
async fn the_largest_request_reaches_the_server() {
    let stage = stage().await;
    let item = |index: usize| json!({"name": format!("n{index}"), "content": format!("{index:a>1300}")});
    let body = run(&"p".repeat(32 * 1024), &json!({"caller_context": (0..50).map(item).collect::<Vec<_>>()}));
    assert_eq!(stage.api("POST", "/send", Some(&body)).await.0, 200);
    stage.agent.wait_for_messages(1).await;
    let posted = stage.agent.posted().remove(0).1;
    let context = posted["context"].as_array().unwrap();
    assert!(context.len() <= 32, "{}", context.len());
    let all = posted["context"].to_string();
    assert!((0..50).all(|index| all.contains(&format!("{index:a>1300}"))));
}

/// `/queue clear` drops the prompt of a program too that waits for its text to be sent.
#[tokio::test]
async fn a_prompt_that_was_cleared_away_is_not_run() {
    let stage = stage().await.impatient().await;
    stage.chat.is_silent(true);
    let (status, body) = stage.send("k", &run("why?", &json!({}))).await;
    assert_eq!(status, 202, "{body}");
    let path = format!("/sessions/{}", body["session_id"].as_str().unwrap());
    assert_eq!(stage.api("GET", &path, None).await.1["active"], json!(true));
    stage.chat.say(ANN, "/queue").await;
    stage.chat.say(ANN, "/queue clear").await;
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
    while stage.api("GET", &path, None).await.1["active"] == json!(true) {
        assert!(tokio::time::Instant::now() < deadline, "the command was not carried out");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    stage.chat.is_silent(false);
    stage.chat.wait_for("the queue", |shown| shown.text == "1. why?").await;
    stage.chat.wait_for("the end of it", |shown| shown.text == "Dropped 1 waiting.").await;
    stage.chat.say(ANN, "hello").await;
    stage.agent.wait_for_messages(1).await;
    assert_eq!(stage.agent.messages(), [json!("hello").to_string()]);
}
