//! The workspace of the tests, used by Slack's own client: what holds for it holds for the adapter.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::{path::PathBuf, process::Stdio};

use stakpak_test_support::{Saying, SlackApi, SlackFault};
use tokio::process::{Child, Command};

/// The bot; none, and a line that says why, where node or the packages are not installed.
fn bot(slack: &SlackApi) -> Option<Child> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("proofs/slack");
    if !folder.join("node_modules").is_dir() {
        eprintln!("skipped: `npm ci` was not run in {}", folder.display());
        return None;
    }
    let started = Command::new("node")
        .arg("bot.js")
        .current_dir(folder)
        .env("SLACK_API_URL", slack.base_url())
        .env("SLACK_BOT_TOKEN", SlackApi::BOT_TOKEN)
        .env("SLACK_APP_TOKEN", SlackApi::APP_TOKEN)
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn();
    match started {
        Ok(child) => Some(child),
        Err(error) => {
            eprintln!("skipped: node does not start: {error}");
            None
        }
    }
}

async fn last_sent(slack: &SlackApi, channel: &str, count: usize) -> String {
    slack.wait_for_sent(channel, count).await.last().unwrap().text.clone()
}

#[tokio::test]
async fn slacks_own_client_works_with_the_workspace() {
    let slack = SlackApi::start().await;
    let Some(_bot) = bot(&slack) else { return };
    slack.wait_for_sockets(1).await;
    let dm = slack.dm(SlackApi::ANN);

    let hello = slack.say_in_dm(SlackApi::ANN, "hello");
    assert_eq!(last_sent(&slack, &dm, 1).await, "Shall I?");
    let seen = &slack.messages(&dm)[0];
    assert_eq!((seen.ts.as_str(), &*seen.reactions), (hello.as_str(), &["eyes".to_owned()][..]));

    let prompt = slack.sent(&dm)[0].ts.clone();
    slack.press(&dm, &prompt, SlackApi::ANN, "allow");
    let ephemeral = slack.wait_for("what only Ann sees", |slack| slack.ephemeral().pop()).await;
    assert_eq!(ephemeral, (dm.clone(), SlackApi::ANN.to_owned(), "noted".to_owned()));
    let edited = &slack.sent(&dm)[0];
    assert_eq!((edited.text.as_str(), edited.edits, edited.blocks.is_null()), ("allowed by U0ANN", 1, true));

    slack.say_in_dm(SlackApi::ANN, "history");
    assert_eq!(last_sent(&slack, &dm, 2).await, "newest history, more true, keys k1");
    slack.say_in_dm(SlackApi::ANN, "who");
    assert_eq!(last_sent(&slack, &dm, 3).await, "you are Ann Lee");
    slack.say_in_dm(SlackApi::ANN, "invalid");
    assert_eq!(last_sent(&slack, &dm, 4).await, "refused: invalid_blocks");
    slack.slash_command(&dm, SlackApi::ANN, "/stakpak", "new");
    assert_eq!(last_sent(&slack, &dm, 5).await, "command: new");

    slack.say_in_dm(SlackApi::ANN, "upload");
    slack.wait_for_sent(&dm, 6).await;
    let file = slack.files().pop().unwrap();
    assert_eq!((file.name.as_str(), &*file.content, file.channel), ("report.md", &b"# done"[..], Some(dm.clone())));
    slack.write(Saying::new(&dm, SlackApi::ANN, "look").with_file("a.txt", "text/plain", b"content of it"));
    assert_eq!(last_sent(&slack, &dm, 7).await, "the file says content of it");

    let mention = slack.mention(SlackApi::CHANNEL, SlackApi::BOB, "disk?");
    let answer = slack.wait_for_sent(SlackApi::CHANNEL, 1).await.remove(0);
    assert_eq!((answer.thread_ts, answer.text.as_str()), (Some(mention), "in the thread"));
}

#[tokio::test]
async fn slacks_own_client_survives_a_refresh_a_lost_socket_and_failing_calls() {
    let slack = SlackApi::start().await;
    let Some(_bot) = bot(&slack) else { return };
    slack.wait_for_sockets(1).await;
    let dm = slack.dm(SlackApi::ANN);

    slack.warn_sockets();
    slack.refresh_sockets();
    slack.wait_for_sockets(1).await;
    slack.fail_next("chat.postMessage", Some(&dm), SlackFault::RateLimited(1));
    slack.fail_next("chat.postMessage", None, SlackFault::ErrorBefore);
    slack.say_in_dm(SlackApi::ANN, "who");
    assert_eq!(last_sent(&slack, &dm, 1).await, "you are Ann Lee");

    slack.drop_sockets();
    slack.wait_for_sockets(1).await;
    slack.fail_next("chat.postMessage", None, SlackFault::AnswerLost);
    slack.say_in_dm(SlackApi::ANN, "who");
    let copies = slack.wait_for_sent(&dm, 3).await;
    assert_eq!(copies.len(), 3, "the client repeats what it got no answer to, so the copy of the first attempt stands");
}

#[tokio::test]
async fn what_is_said_while_no_socket_is_open_is_only_in_the_history() {
    let slack = SlackApi::start().await;
    let ts = slack.say_in_dm(SlackApi::ANN, "nobody is there");
    let missed = slack.envelopes();
    assert_eq!((missed.len(), missed[0].ts(), missed[0].socket), (1, Some(ts.as_str()), None));
    assert_eq!(slack.messages(&slack.dm(SlackApi::ANN))[0].ts, ts);
}
