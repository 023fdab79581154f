//! The Bot API server, held against a client that was not written here: `proofs/telegram` on grammY.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, missing_docs)]

use std::path::Path;

use stakpak_test_support::{BotApi, SendFault, SentMessage, Words};
use tokio::process::{Child, Command};

const ANN: i64 = 42;
const GROUP: i64 = -1001;

/// None, with the reason printed, where the client is not installed.
fn start_bot(server: &BotApi) -> Option<Child> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("proofs/telegram");
    if !folder.join("node_modules").is_dir() {
        eprintln!("not run: `npm ci` was not run in {}", folder.display());
        return None;
    }
    let mut command = Command::new("node");
    command.arg("bot.mjs").current_dir(folder).kill_on_drop(true);
    command.env("PROOF_API", server.base_url()).env("PROOF_TOKEN", "1:proof");
    match command.spawn() {
        Ok(child) => Some(child),
        Err(error) => {
            eprintln!("not run: no node: {error}");
            None
        }
    }
}

async fn last(server: &BotApi, chat: i64, count: usize) -> SentMessage {
    let of_bot = |server: &BotApi| {
        server.messages(chat).into_iter().filter(|message| message.from == BotApi::BOT).collect::<Vec<_>>()
    };
    server.wait_for("a message", |server| of_bot(server).get(count - 1).cloned()).await
}

#[tokio::test]
async fn a_bot_of_grammy_works_with_the_server() {
    let server = BotApi::start().await;
    let Some(_bot) = start_bot(&server) else { return };

    let (update, hello) = server.speak(Words::direct(ANN, "/hello"));
    let prompt = last(&server, ANN, 1).await;
    assert_eq!(
        (prompt.text.as_str(), prompt.reply_to, &prompt.entities[0]["type"]),
        ("Shall I?", Some(hello), &"bold".into())
    );
    assert_eq!(server.messages(ANN)[0].reactions, ["👀"]);
    assert_eq!(server.actions(), [(ANN, None, "typing".to_owned())]);
    assert_eq!(server.commands(), [("hello".to_owned(), "a greeting".to_owned())]);
    server.wait_for_confirmed(update).await;

    let query = server.press(ANN, prompt.message_id, ANN, "a:1:allow");
    let again = last(&server, ANN, 2).await;
    assert!(again.text.starts_with("400 Bad Request: message is not modified"), "{again:?}");
    let edited = last(&server, ANN, 1).await;
    assert_eq!((edited.text.as_str(), &*edited.buttons), ("User 42 pressed a:1:allow", &[][..]));
    assert_eq!(edited.edits, ["Shall I?"]);
    let answered = server.answered().remove(0);
    assert_eq!((answered.id, answered.text.as_str(), answered.alert), (query, "noted", true));

    server.say(ANN, "/refusals");
    let expected = "400 Bad Request: message is too long
400 Bad Request: message text is empty
400 Bad Request: entity beginning at UTF-16 offset 0 is in the middle of a UTF-16 symbol
400 Bad Request: BUTTON_DATA_INVALID
400 Bad Request: message to edit not found
400 Bad Request: message thread not found
400 Bad Request: REACTION_INVALID
400 Bad Request: query is too old and response timeout expired or query ID is invalid";
    assert_eq!(last(&server, ANN, 3).await.text, expected);

    server.speak(Words::direct(ANN, "disk").with_document("disk.txt", "text/plain", b"full"));
    let back = last(&server, ANN, 4).await;
    assert_eq!(back.file.map(|file| (file.name, file.content)), Some(("back.txt".to_owned(), b"FULL".to_vec())));
    server.speak(Words::direct(ANN, "view").with_photo(b"pixels"));
    let back = last(&server, ANN, 5).await;
    assert_eq!((back.text.as_str(), back.file.unwrap().content), ("from view", b"PIXELS".to_vec()), "the largest size");

    let (_, message) = server.speak(Words::direct(ANN, "one"));
    assert_eq!(last(&server, ANN, 6).await.text, "echo: one");
    server.edit(ANN, message, "two");
    assert_eq!(last(&server, ANN, 7).await.text, "edited: two");
}

#[tokio::test]
async fn a_bot_of_grammy_meets_topics_migration_and_conflicts() {
    let server = BotApi::start().await;
    let Some(mut bot) = start_bot(&server) else { return };
    let topic = server.open_topic(GROUP);
    server.speak(Words::group(GROUP, ANN, "here").in_topic(topic));
    assert_eq!(last(&server, GROUP, 1).await.thread_id, Some(topic));
    let moved = server.upgrade(-5001);
    assert_eq!(last(&server, moved, 1).await.text, "moved");
    server.fail_next(SendFault::RateLimited(1));
    server.say(ANN, "too fast");
    let status = bot.wait().await.unwrap();
    assert!(!status.success(), "the refusal reaches the handler, which ends the bot");
    assert!(server.messages(ANN).iter().all(|message| message.from == ANN));

    let Some(mut bot) = start_bot(&server) else { return };
    server.wait_for("a poll", |server| server.offsets().last().copied().flatten()).await;
    server.contest(true);
    assert!(!bot.wait().await.unwrap().success(), "a second poller ends the first");
}
