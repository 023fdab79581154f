//! What a chat sees of a run while it goes on, and which message its answer answers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use serde_json::{Value, json};
use support::{
    ANN, Stage,
    chat::{Shown, direct, group},
};

fn waits() -> Vec<(&'static str, &'static str, Value)> {
    vec![("c1", "stakpak__run_command", json!({"command": "ls"}))]
}

/// The messages of a chat without its prompts.
fn said(stage: &Stage) -> Vec<String> {
    stage.chat.shown().into_iter().filter(|shown| shown.payloads.is_empty()).map(|shown| shown.text).collect()
}

async fn deny(stage: &Stage, prompt: &Shown) {
    stage.chat.press(ANN, prompt, &prompt.payload("Deny")).await;
    stage.chat.wait_for("the end of the answer", |shown| shown.text.ends_with("All done.")).await;
}

/// With `progress = "messages"` each paragraph is a message, and nothing is said twice whenever the process ends.
#[tokio::test]
async fn messages_are_sent_as_the_text_grows_and_once() {
    let mut stage = Stage::new("progress = \"messages\"", "allow_users = [1]").await;
    stage.agent.will_propose(waits());
    stage.chat.say(ANN, "list").await;
    let prompt = stage.chat.prompt(1).await;
    stage.agent.write("One.\n\nTw");
    stage.chat.wait_for("the first paragraph", |shown| shown.text == "One.").await;
    stage.kill().await;
    stage.start().await;
    // A line that waited: following again, it has not waited, and ends no message.
    stage.agent.write("o\n");
    stage.chat.wait_for("a line", |shown| shown.text == "Two").await;
    stage.kill().await;
    stage.start().await;
    stage.agent.write("three.\n\n```\na\n\nb\n```\nFour");
    stage.chat.wait_for("the second paragraph", |shown| shown.text == "three.").await;
    stage.kill().await;
    stage.start().await;
    stage.agent.complete("One.\n\nTwo\nthree.\n\n```\na\n\nb\n```\nFour.");
    stage.chat.wait_for("the rest of the turn", |shown| shown.text.ends_with("Four.")).await;
    deny(&stage, &prompt).await;
    assert_eq!(said(&stage), ["One.", "Two", "three.", "```\na\n\nb\n```\nFour.", "All done."]);
}

/// With `progress = "final"` nothing is shown before the answer.
#[tokio::test]
async fn final_shows_the_answer_alone() {
    let stage = Stage::new("progress = \"final\"", "allow_users = [1]").await;
    stage.agent.will_propose(waits());
    stage.chat.say(ANN, "list").await;
    let prompt = stage.chat.prompt(1).await;
    stage.agent.complete("One.\n\nTwo.");
    deny(&stage, &prompt).await;
    let said = said(&stage);
    assert_eq!(said, ["One.\n\nTwo.\n\nAll done."]);
}

/// In a group the first message of an answer names its question, whatever is shown on the way; elsewhere there is no need.
#[tokio::test]
async fn an_answer_in_a_group_replies_to_its_question() {
    for progress in ["live", "messages", "final"] {
        let stage = Stage::new(&format!("progress = \"{progress}\""), "allow_users = [1]").await;
        stage.chat.say(ANN, "list").await;
        stage.chat.wait_for("the answer", |shown| shown.chat == ANN && shown.text == "All done.").await;
        let question = stage.chat.say_in(group("-5"), ANN, "list").await;
        stage.chat.wait_for("the answer", |shown| shown.chat == "-5" && shown.text == "All done.").await;
        stage.agent.will_propose(waits());
        let next = stage.chat.say_in(group("-5"), ANN, "again").await;
        let prompt = stage.chat.prompt(1).await;
        stage.agent.complete("One.");
        let one = if progress == "final" { "One.\n\nAll done." } else { "All done." };
        if progress != "final" {
            stage.chat.wait_for("what is shown on the way", |shown| shown.text == "One.").await;
        }
        stage.chat.press(ANN, &prompt, &prompt.payload("Deny")).await;
        let answers: Vec<_> = loop {
            let shown = stage.chat.shown();
            let answers = shown.into_iter().filter(|shown| shown.payloads.is_empty() && shown.chat == "-5");
            let answers: Vec<_> = answers.map(|shown| (shown.text, shown.reply_to)).collect();
            if answers.len() > 1 && answers.last().unwrap().0.ends_with(one) {
                break answers;
            }
            tokio::task::yield_now().await;
        };
        let (all, next) = ("All done.".to_owned(), Some(next));
        let expected = match progress {
            "live" => vec![(all, Some(question)), ("One.\n\nAll done.".to_owned(), next)],
            "messages" => vec![(all.clone(), Some(question)), ("One.".to_owned(), next), (all, None)],
            _ => vec![(all, Some(question)), ("One.\n\nAll done.".to_owned(), next)],
        };
        assert_eq!(answers, expected, "{progress}");
        assert!(stage.chat.shown().iter().all(|shown| shown.chat != direct(ANN).chat || shown.reply_to.is_none()));
    }
}

/// G-P45: what a run says on its way is one message that is edited, and its answer takes that message's place. G-P31: it has
/// the platform's form all along.
#[tokio::test]
async fn a_live_message_becomes_the_answer() {
    let stage = Stage::new("", "allow_users = [1]").await;
    stage.agent.will_propose(waits());
    stage.chat.say(ANN, "list").await;
    let prompt = stage.chat.prompt(1).await;
    stage.agent.write("looking <!channel>");
    let live = stage.chat.wait_for("the live message", |shown| shown.text.starts_with("looking")).await;
    assert_eq!(live.text, "looking <\u{200b}!channel>");
    stage.agent.write(" further");
    stage.chat.wait_for("its next state", |shown| shown.id == live.id && shown.text.ends_with("further")).await;
    stage.chat.press(ANN, &prompt, &prompt.payload("Allow")).await;
    stage.chat.wait_for("the answer in its place", |shown| shown.id == live.id && shown.text == "All done.").await;
    assert_eq!(stage.chat.shown().iter().filter(|shown| shown.text == "All done.").count(), 1);
}

/// G-P45: on a platform that edits nothing the answer is a message of its own, after a short run and after a long one.
#[tokio::test]
async fn an_answer_needs_no_edit() {
    for minutes in [0, 10] {
        let mut stage = Stage::new("", "allow_users = [1]").await;
        stage.chat.refuse_edits();
        stage.agent.will_propose(waits());
        stage.chat.say(ANN, "list").await;
        let prompt = stage.chat.prompt(1).await;
        stage.kill().await;
        let database = rusqlite::Connection::open(stage.store_path()).unwrap();
        database.execute("UPDATE runs SET started_at = started_at - ?1 * 60000", [minutes]).unwrap();
        drop(database);
        stage.start().await;
        stage.agent.write("looking");
        stage.chat.wait_for("the live message", |shown| shown.text == "looking").await;
        stage.agent.write(" further");
        stage.chat.press(ANN, &prompt, &prompt.payload("Deny")).await;
        stage.chat.wait_for("the answer", |shown| shown.text == "All done.").await;
        stage.chat.wait_for("the outcome", |shown| shown.text.starts_with("Denied by Ann")).await;
        let said = said(&stage);
        assert_eq!(said.iter().filter(|text| *text == "All done.").count(), 1, "{minutes} minutes: {said:?}");
    }
}
