//! The offline model through the port: what it asks for, how it words results, and that it is deterministic.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use futures_util::StreamExt;
use serde_json::{Value, json};
use stakpak_agent_core::{Model, ModelAnswer, ModelEvent, ModelRequest, Purpose, ToolSpec};
use stakpak_models::OfflineModel;
use stakpak_protocol::{FinishReason, Message, MessageContent, MessagePart, Role, SessionId};

const MEMORY: &str = if cfg!(target_os = "macos") { "vm_stat" } else { "free -m" };
const SIGNATURE: &str = "(Offline model builtin/offline: it only knows a few plain requests. To use a real model: \
                         stakpak autopilot init)";

fn tool(name: &str) -> ToolSpec {
    ToolSpec { name: name.to_owned(), description: String::new(), input_schema: json!({"type": "object"}) }
}

fn request(messages: Vec<Message>) -> ModelRequest {
    ModelRequest {
        purpose: Purpose::Answer,
        system: "be brief".into(),
        messages,
        replays: Vec::new(),
        tools: vec![tool("stakpak__run_command"), tool("stakpak__view")].into(),
        max_output_tokens: None,
        reasoning: None,
        session_id: SessionId::random(),
    }
}

/// The deltas and the answer; the deltas joined are the answer's text.
async fn ask(request: ModelRequest) -> (Vec<String>, ModelAnswer) {
    let mut stream = OfflineModel::new().stream(request).await.unwrap();
    let mut deltas = Vec::new();
    loop {
        match stream.next().await.expect("the stream ends with an answer").unwrap() {
            ModelEvent::Text(text) => deltas.push(text),
            ModelEvent::Thinking(text) => panic!("it does not think: {text}"),
            ModelEvent::Done(answer) => {
                assert!(stream.next().await.is_none());
                assert_eq!(deltas.concat(), text(&answer));
                return (deltas, answer);
            }
        }
    }
}

async fn ask_text(text: &str) -> ModelAnswer {
    ask(request(vec![Message::user(text)])).await.1
}

fn text(answer: &ModelAnswer) -> String {
    Message::assistant(answer.parts.clone()).text()
}

fn calls(answer: &ModelAnswer) -> Vec<(String, String, Value)> {
    let call = |part: &MessagePart| match part {
        MessagePart::ToolCall { id, name, arguments, .. } => Some((id.to_string(), name.clone(), arguments.clone())),
        _ => None,
    };
    answer.parts.iter().filter_map(call).collect()
}

fn result(id: &str, content: Value, is_error: bool) -> Message {
    let part = MessagePart::ToolResult { tool_call_id: id.into(), content, is_error, provider_options: None };
    Message::new(Role::Tool, MessageContent::Parts(vec![part]))
}

/// The answer after the calls that `text` leads to gave these results.
async fn after(text: &str, results: &[(Value, bool)]) -> String {
    let question = Message::user(text);
    let (_, first) = ask(request(vec![question.clone()])).await;
    let ids = calls(&first);
    assert_eq!(ids.len(), results.len());
    let mut history = vec![question, Message::assistant(first.parts)];
    history.extend(ids.iter().zip(results).map(|((id, ..), (content, error))| result(id, content.clone(), *error)));
    let (_, answer) = ask(request(history)).await;
    assert_eq!(answer.finish, FinishReason::Stop);
    self::text(&answer)
}

#[tokio::test]
async fn plain_requests_become_tool_calls() {
    let run = |n: usize, command: &str| {
        (format!("call_offline_1_{n}"), "stakpak__run_command".to_owned(), json!({ "command": command }))
    };
    let table = [
        ("status", vec![run(0, "uptime"), run(1, "df -hP"), run(2, MEMORY)]),
        ("how full are my disks?", vec![run(0, "df -hP")]),
        ("memory", vec![run(0, MEMORY)]),
        ("uptime", vec![run(0, "uptime")]),
        ("run touch Made-By-Agent", vec![run(0, "touch Made-By-Agent")]),
        (
            "read /etc/hosts",
            vec![("call_offline_1_0".to_owned(), "stakpak__view".to_owned(), json!({ "path": "/etc/hosts" }))],
        ),
    ];
    for (question, expected) in table {
        let answer = ask_text(question).await;
        assert_eq!(calls(&answer), expected, "{question}");
        assert_eq!(answer.finish, FinishReason::ToolCalls);
    }
}

#[tokio::test]
async fn help_and_the_unknown_are_answered_in_words_one_at_a_time() {
    for question in ["help", "", "write me a poem"] {
        let (deltas, answer) = ask(request(vec![Message::user(question)])).await;
        assert!(deltas.len() > 50);
        let text = text(&answer);
        assert!(text.contains("`disk`") && text.contains("[profiles.default.providers.local]"), "{text}");
        assert!(text.ends_with(SIGNATURE), "{text}");
        assert_eq!(answer.finish, FinishReason::Stop);
    }
}

#[tokio::test]
async fn context_blocks_are_not_the_question() {
    let context = "<local_context>\nhelp me with the disk\n</local_context>\n\n";
    let as_text = Message::user(format!("{context}memory"));
    let as_parts =
        Message::new(Role::User, MessageContent::Parts(vec![MessagePart::text(context), MessagePart::text("memory")]));
    let context_last =
        Message::new(Role::User, MessageContent::Parts(vec![MessagePart::text("memory"), MessagePart::text(context)]));
    for message in [as_text, as_parts, context_last] {
        let (_, answer) = ask(request(vec![message])).await;
        assert_eq!(calls(&answer)[0].2, json!({ "command": MEMORY }));
    }
}

#[tokio::test]
async fn results_are_read_and_shown() {
    let df = "Filesystem Size Used Avail Use% Mounted on\n/dev/vda1 50G 41G 8.9G 83% /\n";
    let answer = after("disk", &[(df.into(), false)]).await;
    let expected = "`/` is 83 % full: 41G of 50G used, 8.9G free.\n\n```\nFilesystem Size";
    assert!(answer.starts_with(expected), "{answer}");
    assert!(answer.ends_with(SIGNATURE));

    let uptime = " 10:02:11 up 1 min,  1 user,  load average: 0.52, 0.58, 0.59";
    let answer = after("status", &[(uptime.into(), false), (df.into(), false), ("odd".into(), false)]).await;
    let places: Vec<_> = ["load over", "83 % full", "odd"].map(|word| answer.find(word).unwrap()).into();
    assert!(places.is_sorted(), "in the order of the calls: {answer}");

    let answer = after("run touch x", &[("No output".into(), false)]).await;
    assert!(answer.starts_with("`touch x` is done. It printed nothing."), "{answer}");
}

#[tokio::test]
async fn what_was_not_done_is_said_plainly() {
    let table = [
        (json!("Tool call rejected by user"), false, "`touch x` was **not done**: the call was rejected by user."),
        (
            json!("Tool call rejected by user: not on prod"),
            false,
            "`touch x` was **not done**: the call was rejected by user: not on prod.",
        ),
        (
            json!("Tool call rejected by policy: stakpak__run_command is not allowed in profile ops"),
            false,
            "`touch x` was **not done**: the call was rejected by policy: stakpak__run_command is not allowed in profile ops.",
        ),
        (json!({"skipped": "a new message came"}), false, "`touch x` was **not done**: a new message came."),
        (json!("TOOL_CALL_CANCELLED"), true, "`touch x` was cancelled before it was done."),
        (json!("OUTCOME_UNKNOWN\nThe server stopped."), true, "It is **not known** whether `touch x` was done"),
        (
            json!("COMMAND_FAILED\ntouch: denied\nCommand exited with code 1"),
            true,
            "`touch x` **failed**: Command exited with code 1.\n\n```\ntouch: denied\n",
        ),
        (json!("INVALID_ARGUMENTS\nno"), true, "`touch x` **failed**.\n\n```\nINVALID_ARGUMENTS\nno\n```"),
    ];
    for (content, is_error, expected) in table {
        let answer = after("run touch x", &[(content, is_error)]).await;
        assert!(answer.starts_with(expected), "{answer}");
        assert!(!answer.contains("is done"), "{answer}");
        assert!(answer.ends_with(SIGNATURE));
    }
}

#[tokio::test]
async fn long_output_is_cut_and_cannot_close_its_fence() {
    let lines: String = (1..=100).map(|n| format!("line {n}\n")).collect();
    let answer = after("run seq", &[(lines.into(), false)]).await;
    assert!(answer.contains("line 40\n```\n(cut; 100 lines in all)") && !answer.contains("line 41"), "{answer}");

    let answer = after("run wide", &[("ä".repeat(5_000).into(), false)]).await;
    assert_eq!(answer.matches('ä').count(), 3_000);
    assert!(answer.contains("(cut; 1 lines in all)"));

    let answer = after("run md", &[("```\ncode\n```".into(), false)]).await;
    assert!(answer.contains("````\n```\ncode\n```\n````"), "{answer}");
}

#[tokio::test]
async fn a_tool_that_is_not_offered_is_named() {
    let mut request = request(vec![Message::user("disk")]);
    request.tools = vec![tool("stakpak__view")].into();
    let (_, answer) = ask(request).await;
    assert!(text(&answer).contains("`stakpak__run_command`"), "{answer:?}");
    assert_eq!(calls(&answer), vec![]);
}

#[tokio::test]
async fn the_same_history_gives_the_same_bytes() {
    for question in ["help", "status"] {
        assert_eq!(ask_text(question).await, ask_text(question).await);
    }
}

#[tokio::test]
async fn a_new_message_is_read_after_earlier_results() {
    let (_, first) = ask(request(vec![Message::user("uptime")])).await;
    let history = vec![
        Message::user("uptime"),
        Message::assistant(first.parts),
        result("call_offline_1_0", "x".into(), false),
        Message::assistant(vec![MessagePart::text("done")]),
        Message::user("disk"),
    ];
    let (_, answer) = ask(request(history)).await;
    assert_eq!(calls(&answer)[0].0, "call_offline_5_0");
    assert!(answer.usage.prompt_tokens > 0 && answer.usage.completion_tokens > 0);
    assert_eq!(answer.usage.raw, Some(json!({ "estimated": true })));
}

/// What the server tells at the end of a request was asked by nobody.
#[tokio::test]
async fn a_note_of_the_server_is_no_question() {
    let note = "<run_note>\nhelp\n</run_note>";
    let merged = Message::new(
        Role::User,
        MessageContent::Parts(vec![MessagePart::text("how full are my disks?"), MessagePart::text(note)]),
    );
    let (_, asked) = ask(request(vec![merged])).await;
    assert_eq!(calls(&asked)[0].2, json!({ "command": "df -hP" }));
    let ids = calls(&asked);
    let history = vec![
        Message::user("how full are my disks?"),
        Message::assistant(asked.parts),
        result(&ids[0].0, json!("COMMAND_FAILED"), true),
    ];
    let (_, plain) = ask(request(history.clone())).await;
    let (_, noted) = ask(request([history, vec![Message::user(note)]].concat())).await;
    assert_eq!(noted.parts, plain.parts);
}
