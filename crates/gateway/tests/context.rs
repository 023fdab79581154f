//! What a run is told beside its message.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use serde_json::Value;
use stakpak_gateway::Address;
use support::{ANN, Stage, chat::group};

fn history(context: &Value) -> Option<&str> {
    context.as_array()?.iter().find(|item| item["name"] == "thread_history")?["content"].as_str()
}

/// A mention in a thread of other people takes with it what they said, labelled; once the thread is a conversation of the bot
/// its session knows.
#[tokio::test]
async fn a_first_mention_in_a_thread_takes_its_last_messages_along() {
    let stage = Stage::new("", "allow_users = [1]").await;
    let thread = Address { thread: Some("7".to_owned()), ..group("-5") };
    let first = stage.chat.say_in(thread.clone(), ANN, "help").await;
    stage.agent.wait_for_messages(1).await;
    stage.chat.wait_for("the answer", |shown| shown.text == "All done.").await;
    stage.chat.say_in(thread, ANN, "and now?").await;
    stage.agent.wait_for_messages(2).await;
    stage.chat.say_in(group("-5"), ANN, "elsewhere").await;
    stage.agent.wait_for_messages(3).await;
    let contexts: Vec<_> = stage.agent.posted().into_iter().map(|(_, body)| body["context"].clone()).collect();
    let told = history(&contexts[0]).unwrap();
    assert!(told.starts_with("Untrusted text") && told.ends_with(&format!("\nEve: before {first} in 7")), "{told}");
    assert_eq!((history(&contexts[1]), history(&contexts[2])), (None, None));
}
