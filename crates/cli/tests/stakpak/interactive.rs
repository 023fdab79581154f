//! Schedules that run in their chat, through the built binary: what the chat sees, who decides, what a kill changes.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use stakpak_test_support::{Reply, SentMessage};

use crate::{
    support::{PATIENCE, Up, stderr, stdout, until},
    telegram::Stage,
};

const USER: i64 = 42;
const STRANGER: i64 = 77;

/// A home with these schedules, all told in one Telegram chat; the model of each says `done` and the name of its job, after a
/// command if the job is to write.
async fn stage(schedules: &str) -> Stage {
    let stage = Stage::new().await;
    let file = stage.home.path(".stakpak/autopilot.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let channel = text.replace("allow_users = [42]", "allow_users = [42]\napprovers = [42]");
    assert_ne!(text, channel);
    let text = format!("{channel}[notifications]\nchannel = \"telegram\"\ntarget = \"{USER}\"\n{schedules}");
    std::fs::write(&file, text).unwrap();
    stage.llm.answer_with(|request| {
        let body = request.body.to_string();
        let job = body.split("job ").nth(1).and_then(|rest| rest.chars().next()).unwrap_or('?');
        if !body.contains("and write") || body.contains("call_1") {
            return Reply::text([format!("done {job}")]);
        }
        Reply::tool_call("call_1", "stakpak__run_command", &json!({ "command": format!("echo ran >> witness-{job}") }))
    });
    stage
}

fn schedule(job: &str, lines: &str) -> String {
    format!("[[schedules]]\nname = \"{job}\"\ncron = \"@yearly\"\nprompt = \"job {job}{lines}\n")
}

const PAUSES: &str = " and write\"\npause_on_approval = true";

fn show(stage: &Stage, run: &str) -> Value {
    let output = stage.home.run(&["schedule", "show", run, "--json"]);
    let shown: Value = serde_json::from_str(&stdout(&output)).unwrap_or_default();
    shown["run"].clone()
}

fn trigger(stage: &Stage, name: &str) {
    let output = stage.home.run(&["schedule", "trigger", name]);
    assert!(output.status.success(), "{}", stderr(&output));
}

fn reaches(stage: &Stage, run: &str, status: &str) -> Value {
    until(&format!("{run} is {status}"), || Some(show(stage, run)).filter(|run| run["status"] == status))
}

/// The open prompt about that command, known to the gateway as this message.
async fn prompt(stage: &Stage, up: &Up, command: &str) -> SentMessage {
    let is_open = |sent: &SentMessage| sent.text.contains(command) && !sent.buttons.is_empty();
    let sent = stage.telegram.wait_for_sent(|sent| sent.iter().any(is_open)).await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = http.get(format!("{}/v1/gateway/status", up.url)).bearer_auth(&up.token).send().await.unwrap();
        let status: Value = status.json().await.unwrap();
        if status["outbox_pending"] == 0 {
            return sent.into_iter().find(is_open).unwrap();
        }
        assert!(Instant::now() < deadline, "{status}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn press(stage: &Stage, prompt: &SentMessage, user: i64) {
    let allow = prompt.buttons.iter().find(|button| button.label == "Allow").unwrap();
    stage.telegram.press(USER, prompt.message_id, user, &allow.data);
}

fn texts(stage: &Stage, with: &str) -> Vec<String> {
    stage.telegram.sent().into_iter().map(|sent| sent.text).filter(|text| text.contains(with)).collect()
}

/// The chat sees why the run began and its answer, each once, and no notice that says the answer again.
#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_runs_in_its_chat() {
    let stage = stage(&schedule("a", "\"")).await;
    let up = stage.up();
    let output = stage.home.run(&["schedule", "trigger", "a", "--wait"]);
    assert!(output.status.success(), "{}", stderr(&output));
    stage.telegram.wait_for_sent(|sent| sent.iter().any(|sent| sent.text.contains("done a"))).await;
    let run = show(&stage, "run:1");
    assert_eq!((&run["status"], &run["agent_message"]), (&json!("completed"), &json!("done a")), "{run}");
    assert_eq!(run["notifications"], json!([]));
    let said: Vec<_> = stage.telegram.sent().into_iter().map(|sent| (sent.chat_id, sent.text)).collect();
    assert_eq!(said, [(USER, "▶️ a triggered\nmanual".to_owned()), (USER, "done a".to_owned())]);
    assert_eq!(Stage::user_messages(&up).await, BTreeMap::from([("job a".to_owned(), 1)]));
}

/// A-P15, A-P19: each of three schedules in one chat has a session of its own. What was asked before a kill is decided by a
/// press after it, by an approver and nobody else, and only of the run that was asked about; what was shown runs, once.
#[tokio::test(flavor = "multi_thread")]
async fn a_press_after_a_kill_reaches_the_run_that_asked() {
    let stage = stage(&["a", "b", "c"].map(|job| schedule(job, PAUSES)).concat()).await;
    let up = stage.up();
    for (at, job) in ["a", "b", "c"].into_iter().enumerate() {
        trigger(&stage, job);
        reaches(&stage, &format!("run:{}", at + 1), "paused");
    }
    let asked = prompt(&stage, &up, "witness-b").await;
    let sessions: Vec<Value> = (1..4).map(|run| show(&stage, &format!("run:{run}"))["session_id"].clone()).collect();
    assert!(sessions[0] != sessions[1] && sessions[1] != sessions[2] && sessions[0] != sessions[2], "{sessions:?}");
    up.kill();
    let _up = stage.up();

    let answered = stage.telegram.answered().len();
    press(&stage, &asked, STRANGER);
    until("the stranger is answered", || (stage.telegram.answered().len() > answered).then_some(()));
    assert_eq!(show(&stage, "run:2")["status"], "paused");
    press(&stage, &asked, USER);
    let run = reaches(&stage, "run:2", "completed");
    assert_eq!(run["agent_message"], "done b");
    assert_eq!(
        (&run["decisions"][0]["action"], &run["decisions"][0]["by"]),
        (&json!("accept"), &json!("User 42")),
        "{run}"
    );
    stage.telegram.wait_for_sent(|sent| sent.iter().any(|sent| sent.text == "done b")).await;
    assert_eq!(std::fs::read_to_string(stage.home.path("witness-b")).unwrap(), "ran\n");
    for (run, job) in [("run:1", "a"), ("run:3", "c")] {
        assert_eq!(show(&stage, run)["status"], "paused");
        assert!(!stage.home.path(&format!("witness-{job}")).exists());
        assert_eq!(texts(&stage, &format!("▶️ {job} triggered")).len(), 1);
    }
    let shown = stdout(&stage.home.run(&["schedule", "show", "run:2"]));
    assert!(shown.contains("User 42 approved call_1 at "), "{shown}");
    let late = stage.home.run(&["schedule", "resume", "run:2", "--reject-all"]);
    assert!(stderr(&late).contains("User 42 approved call_1 at "), "{}", stderr(&late));
}

/// Who decides with the command is named in the chat, whose buttons are gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_decision_by_command_is_shown_in_the_chat() {
    let stage = stage(&schedule("a", PAUSES)).await;
    let up = stage.up();
    trigger(&stage, "a");
    let hint = reaches(&stage, "run:1", "paused")["resume_hint"].as_str().unwrap().to_owned();
    let asked = prompt(&stage, &up, "witness-a").await;
    assert_eq!(texts(&stage, &hint).len(), 1, "the chat is told the command too: {:?}", stage.telegram.sent());
    let words: Vec<&str> = hint.split(' ').skip(1).chain(["--wait"]).collect();
    let output = stage.home.run(&words);
    assert!(output.status.success(), "{}", stderr(&output));
    let decided = |sent: &SentMessage| sent.message_id == asked.message_id && sent.buttons.is_empty();
    let sent = stage.telegram.wait_for_sent(|sent| sent.iter().any(decided)).await;
    let outcome = sent.into_iter().find(decided).unwrap();
    assert!(outcome.text.starts_with("Allowed by cli."), "{outcome:?}");
    assert_eq!(std::fs::read_to_string(stage.home.path("witness-a")).unwrap(), "ran\n");
    assert_eq!(show(&stage, "run:1")["decisions"][0]["by"], "cli");
}

/// A-P18: a chat that is down delays what is read there, not what is done; killed meanwhile, it is done once.
#[tokio::test(flavor = "multi_thread")]
async fn a_chat_that_is_down_delays_the_texts_and_not_the_run() {
    let stage = stage(&schedule("a", "\"")).await;
    let up = stage.up();
    stage.telegram.flood(None, 3600);
    trigger(&stage, "a");
    until("the gateway is asked", || {
        let rows = show(&stage, "run:1");
        (rows["status"] == "running").then_some(())
    });
    up.kill();
    let up = stage.up();
    let run = reaches(&stage, "run:1", "completed");
    assert_eq!(run["agent_message"], "done a");
    assert_eq!(Stage::user_messages(&up).await, BTreeMap::from([("job a".to_owned(), 1)]));
    assert_eq!(stage.telegram.sent(), []);
}
