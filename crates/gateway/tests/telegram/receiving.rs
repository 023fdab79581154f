//! From updates to the sink: nothing lost, nothing before it is kept.

use stakpak_gateway::{Channel, ChannelError, ChannelStatus, InboundEvent};
use stakpak_test_support::Words;

use crate::{ANN, GROUP, Stage};

/// G-P6.
#[tokio::test]
async fn the_offset_is_never_beyond_what_is_kept_and_a_crash_doubles_nothing() {
    let mut stage = Stage::new().await;
    let first = stage.server.say(ANN, "one");
    stage.server.wait_for_confirmed(first).await;
    let second = stage.server.say(ANN, "two");
    stage.sink.wait_for_texts(2).await;
    stage.kill().await;
    assert!(stage.server.offsets().into_iter().flatten().all(|offset| offset <= second + 1));
    stage.server.redeliver();
    stage.start();
    let third = stage.server.say(ANN, "three");
    stage.server.wait_for_confirmed(third).await;
    assert_eq!(stage.sink.texts(), ["one", "two", "three"]);
}

/// G-P6.
#[tokio::test]
async fn what_cannot_be_stored_is_not_confirmed_and_comes_again() {
    let mut stage = Stage::new().await;
    let kept = stage.server.say(ANN, "kept");
    stage.server.wait_for_confirmed(kept).await;
    stage.sink.fail(true);
    let update = stage.server.say(ANN, "one");
    let error = stage.end().await;
    assert!(matches!(error, ChannelError::Store { .. }), "{error}");
    stage.channel.report_failure(&error);
    assert_eq!(stage.channel.health().status, ChannelStatus::Degraded);
    assert!(stage.server.offsets().into_iter().flatten().all(|offset| offset <= update));
    stage.sink.fail(false);
    stage.start();
    stage.server.wait_for_confirmed(update).await;
    assert_eq!(stage.sink.texts(), ["kept", "one"]);
}

/// G-P6: after a week without updates the platform may number from anywhere.
#[tokio::test]
async fn a_lower_update_id_after_a_silent_week_is_received() {
    let mut stage = Stage::new().await;
    let update = stage.server.say(ANN, "one");
    stage.server.wait_for_confirmed(update).await;
    stage.kill().await;
    stage.sink.forget_position();
    stage.server.renumber(7);
    stage.server.say(ANN, "two");
    stage.start();
    stage.server.wait_for_confirmed(7).await;
    assert_eq!(stage.sink.texts(), ["one", "two"]);
    assert_eq!(stage.sink.position("updates"), Some(7));
}

/// G-P9: the part of it that is the adapter's; the waits are the supervisor's.
#[tokio::test]
async fn another_poller_and_a_webhook_are_named_and_end_the_poll() {
    let mut stage = Stage::new().await;
    stage.server.wait_for("a poll", |server| server.offsets().first().map(drop)).await;
    stage.server.contest(true);
    let error = stage.end().await;
    assert!(matches!(&error, ChannelError::Conflict { reason } if reason.contains("other getUpdates")), "{error}");
    stage.channel.report_failure(&error);
    let health = stage.channel.health();
    assert_eq!(health.status, ChannelStatus::Degraded);
    assert!(health.last_error.unwrap().contains("another process"));
    stage.server.contest(false);
    stage.server.set_webhook();
    stage.start();
    let error = stage.end().await;
    assert!(matches!(&error, ChannelError::Conflict { reason } if reason.contains("--delete-webhook")), "{error}");
    assert!(stage.channel.test().await.unwrap().details.contains("--delete-webhook"));
    stage.channel.delete_webhook().await.unwrap();
    assert!(!stage.channel.test().await.unwrap().details.contains("webhook"));
    stage.start();
    let update = stage.server.say(ANN, "now");
    stage.server.wait_for_confirmed(update).await;
}

#[tokio::test]
async fn a_refused_token_is_told_from_a_server_without_a_method() {
    let mut stage = Stage::new().await;
    stage.server.wait_for("a poll", |server| server.offsets().first().map(drop)).await;
    stage.kill().await;
    stage.server.revoke(true);
    stage.start();
    let error = stage.end().await;
    assert!(matches!(error, ChannelError::Unauthorized { .. }), "{error}");
    assert!(!error.to_string().contains("1:x"), "{error}");
}

/// G-P12.
#[tokio::test]
async fn photos_and_files_arrive_with_and_without_a_text() {
    let stage = Stage::new().await;
    stage.server.speak(Words::direct(ANN, "what is this?").with_photo(b"pixels"));
    stage.server.speak(Words::direct(ANN, "").with_document("log.txt", "text/plain", b"full"));
    let messages = stage.sink.wait_for("both", |sink| Some(sink.messages()).filter(|all| all.len() == 2)).await;
    assert_eq!((messages[0].text.as_str(), messages[1].text.as_str()), ("what is this?", ""));
    let limit = 1 << 20;
    assert_eq!(stage.channel.fetch(&messages[0].attachments[0], limit).await.unwrap(), b"pixels");
    assert_eq!(messages[1].attachments[0].name, "log.txt");
    assert_eq!(stage.channel.fetch(&messages[1].attachments[0], limit).await.unwrap(), b"full");
    let too_large = stage.channel.fetch(&messages[0].attachments[0], 3).await;
    assert!(matches!(too_large, Err(ChannelError::Rejected { .. })), "{too_large:?}");
}

/// An album comes as an update for each picture, of which one has the text and the mention; it is one message. Its parts may
/// come one by one, and none is confirmed before the last is there.
#[tokio::test]
async fn an_album_is_one_message_with_all_its_files() {
    let mut stage = Stage::with("require_mention = true").await;
    let part = |text: &str| Words::group(GROUP, ANN, text).in_album("77");
    stage.kill().await;
    let first = stage.server.speak(part("").with_photo(b"one")).0;
    let polls = stage.server.offsets().len();
    stage.start();
    while stage.server.offsets().len() == polls {
        tokio::task::yield_now().await;
    }
    // The beginning was delivered by now, or is about to be.
    stage.server.speak(part("@test_bot which is it?").with_photo(b"two"));
    stage.server.speak(part("").with_document("log.txt", "text/plain", b"three"));
    stage.server.speak(Words::group(GROUP, ANN, "@test_bot and now?"));
    let messages = stage.sink.wait_for("both", |sink| Some(sink.messages()).filter(|all| all.len() == 2)).await;
    let texts: Vec<_> = messages.iter().map(|message| message.text.as_str()).collect();
    assert_eq!(texts, ["which is it?", "and now?"]);
    let mut contents = Vec::new();
    for file in &messages[0].attachments {
        contents.push(stage.channel.fetch(file, 100).await.unwrap());
    }
    assert_eq!(contents, [b"one".to_vec(), b"two".to_vec(), b"three".to_vec()]);
    let last = first + 3;
    let offsets = stage.server.offsets();
    assert!(offsets.iter().flatten().all(|offset| *offset > last), "confirmed before it was whole: {offsets:?}");
}

#[tokio::test]
async fn a_server_in_local_mode_is_read_from_disk_only_if_the_file_says_so() {
    let folder = tempfile::tempdir().unwrap();
    for (local, more) in [(true, "local_mode = true"), (false, "")] {
        let stage = Stage::with(more).await;
        stage.server.serve_locally(folder.path());
        stage.server.speak(Words::direct(ANN, "").with_document("log.txt", "text/plain", b"full"));
        let message = stage.sink.wait_for("the file", |sink| sink.messages().pop()).await;
        let content = stage.channel.fetch(&message.attachments[0], 100).await;
        assert_eq!(content.ok(), local.then(|| b"full".to_vec()));
    }
}

/// G-P14.
#[tokio::test]
async fn a_thread_of_replies_is_the_group_and_a_topic_is_a_thread() {
    let stage = Stage::new().await;
    let topic = stage.server.open_topic(GROUP);
    stage.server.speak(Words::group(-1002, ANN, "in a thread").in_thread(3));
    stage.server.speak(Words::group(GROUP, ANN, "in a topic").in_topic(topic));
    let messages = stage.sink.wait_for("both", |sink| Some(sink.messages()).filter(|all| all.len() == 2)).await;
    assert_eq!(messages[0].address, crate::group(-1002, None));
    assert_eq!(messages[1].address, crate::group(GROUP, Some(topic)));
}

#[tokio::test]
async fn edits_and_new_ids_of_groups_are_handed_over() {
    let stage = Stage::new().await;
    let (_, message) = stage.server.speak(Words::direct(ANN, "restart db1"));
    stage.server.edit(ANN, message, "restart db2");
    let to = stage.server.upgrade(-5001);
    let migrated = InboundEvent::Migrated { from: "-5001".to_owned(), to: to.to_string() };
    let events =
        stage.sink.wait_for("the new id", |sink| Some(sink.events()).filter(|all| all.contains(&migrated))).await;
    let edited = events.iter().find_map(|event| match event {
        InboundEvent::Edited(edited) => Some((edited.message_id.clone(), edited.text.clone())),
        _ => None,
    });
    assert_eq!(edited, Some((message.to_string(), "restart db2".to_owned())));
}

#[tokio::test]
async fn an_update_that_is_no_message_as_known_blocks_nothing() {
    let stage = Stage::new().await;
    stage.server.send_update("message", &serde_json::json!({"chat": "?"}));
    stage.server.send_update("poll", &serde_json::json!({"id": "1"}));
    let last = stage.server.say(ANN, "after");
    stage.server.wait_for_confirmed(last).await;
    assert_eq!(stage.sink.texts(), ["after"]);
    assert!(matches!(stage.sink.events()[0], InboundEvent::Undecodable { .. }));
}
