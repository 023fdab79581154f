//! Who and what is heard, and where it is.

use std::sync::Arc;

use serde_json::json;
use stakpak_gateway::{Address, Channel, ChatType, PeerId};
use stakpak_test_support::{FakeDiscord, Said};

use crate::{Running, Scene, adapter, address, mention, reply, sink::Sink};

#[tokio::test]
async fn places_become_direct_group_and_thread() {
    let scene = Scene::new().await;
    let Scene { fake, ann, guild, ops } = &scene;
    let (thread, direct) = (fake.thread(*ops, "outage"), fake.direct(*ann));
    let sink = Arc::new(Sink::default());
    let running = Running::start(&adapter(fake, ""), &sink);
    scene.ready().await;
    let said = fake.say(*ops, *ann, &mention("  df\n  -h"));
    fake.say(thread, *ann, &mention("here"));
    // A thread that began while the bot was listening.
    let later = fake.thread(*ops, "later");
    fake.say(later, *ann, &mention("there"));
    fake.say(direct, *ann, "between us");
    sink.wait_for("four", |sink| sink.texts().len() == 4).await;
    running.stop().await;

    let messages = sink.messages();
    assert_eq!(messages[0].text, "df\n  -h");
    assert_eq!(messages[0].address, address(*ops));
    assert_eq!((messages[0].event_key.clone(), messages[0].order_key), (said.to_string(), said as i64));
    let expected = json!({"channel_id": ops.to_string(), "channel_name": "ops", "display_name": "Ann",
        "guild_id": guild.to_string(), "guild_name": "company", "message_id": said.to_string(), "username": "ann"});
    assert_eq!(messages[0].metadata, expected);
    let of_thread = |thread: u64| Address { thread: Some(thread.to_string()), ..address(*ops) };
    assert_eq!((&messages[1].address, &messages[2].address), (&of_thread(thread), &of_thread(later)));
    assert_eq!(messages[3].address, Address { direct: Some(PeerId::from(ann.to_string())), ..address(direct) });
    assert_eq!(messages[3].address.chat_type(), ChatType::Direct);
}

/// G-P12: a reply is a message of type 19.
#[tokio::test]
async fn a_reply_to_the_bot_needs_no_mention_and_machines_are_not_heard() {
    let scene = Scene::new().await;
    let Scene { fake, ann, ops, .. } = &scene;
    let (channel, sink) = (adapter(fake, ""), Arc::new(Sink::default()));
    let running = Running::start(&channel, &sink);
    scene.ready().await;
    let sent = channel.send_with_receipt(reply(*ops, "Shall I?", "k")).await.unwrap();
    fake.say(*ops, *ann, "not for the bot");
    fake.speak(*ops, *ann, &Said::new(mention("from a bot")).by_bot());
    fake.speak(*ops, *ann, &Said::new(mention("from a webhook")).by_webhook());
    fake.speak(*ops, *ann, &Said::new(mention("pinned a message")).of_kind(6));
    fake.speak(*ops, *ann, &Said::new("yes").replying_to(sent.message_id.parse().unwrap()));
    let last = fake.say(*ops, *ann, &mention("last"));
    sink.wait_for("the last", |sink| sink.position(*ops) == Some(last as i64)).await;
    assert_eq!(sink.texts(), ["yes", "last"]);
    running.stop().await;
}

/// G-P11, for `require_mention` and `guilds`.
#[tokio::test]
async fn keys_of_the_file_decide_what_is_heard() {
    let scene = Scene::new().await;
    let Scene { fake, ann, guild, ops } = &scene;
    let foreign = fake.channel(fake.guild("elsewhere"), "chat");
    let sink = Arc::new(Sink::default());
    let keys = format!("require_mention = false\nguilds = [\"{guild}\"]");
    let running = Running::start(&adapter(fake, &keys), &sink);
    scene.ready().await;
    fake.say(foreign, *ann, &mention("let me in"));
    fake.say(*ops, *ann, "disk?");
    fake.say(fake.direct(*ann), *ann, "direct");
    sink.wait_for("both", |sink| sink.texts().len() == 2).await;
    assert_eq!(sink.texts(), ["disk?", "direct"]);
    assert_eq!(sink.position(foreign), None);
    running.stop().await;
}

#[tokio::test]
async fn a_thread_in_which_the_bot_takes_part_needs_no_mention() {
    let scene = Scene::new().await;
    let Scene { fake, ann, ops, .. } = &scene;
    let thread = fake.thread(*ops, "outage");
    let sink = Arc::new(Sink::default());
    let running = Running::start(&adapter(fake, ""), &sink);
    scene.ready().await;
    let unheard = fake.say(thread, *ann, "before");
    sink.wait_for("the watermark", |sink| sink.position(thread) == Some(unheard as i64)).await;
    sink.take_part();
    fake.say(*ops, *ann, "not in a thread");
    fake.say(thread, *ann, "after");
    sink.wait_for("one", |sink| !sink.texts().is_empty()).await;
    assert_eq!(sink.texts(), ["after"]);
    running.stop().await;
}

#[tokio::test]
async fn an_edit_replaces_and_a_preview_does_not() {
    let scene = Scene::new().await;
    let Scene { fake, ann, ops, .. } = &scene;
    let sink = Arc::new(Sink::default());
    let running = Running::start(&adapter(fake, ""), &sink);
    scene.ready().await;
    let said = fake.say(*ops, *ann, &mention("rm"));
    let preview = json!({"id": said.to_string(), "channel_id": ops.to_string(), "content": "x", "edited_timestamp": null,
        "author": {"id": ann.to_string()}, "mentions": [{"id": FakeDiscord::BOT.to_string()}]});
    fake.dispatch("MESSAGE_UPDATE", &preview);
    fake.rewrite(said, &mention("ls"));
    sink.wait_for("the edit", |sink| !sink.edits().is_empty()).await;
    assert_eq!(sink.texts(), ["rm"]);
    let edits = sink.edits();
    assert_eq!((edits.len(), edits[0].text.as_str(), edits[0].message_id.clone()), (1, "ls", said.to_string()));
    running.stop().await;
}

/// What is not understood is kept, and those behind it flow.
#[tokio::test]
async fn an_undecodable_message_is_kept_and_blocks_nothing() {
    let scene = Scene::new().await;
    let Scene { fake, ann, ops, guild } = &scene;
    let sink = Arc::new(Sink::default());
    let running = Running::start(&adapter(fake, ""), &sink);
    scene.ready().await;
    let ids = json!({"id": "5", "channel_id": ops.to_string(), "guild_id": guild.to_string(), "author": 7});
    fake.dispatch("MESSAGE_CREATE", &ids);
    fake.dispatch("SOMETHING_NEW", &json!({"id": "6"}));
    fake.dispatch("MESSAGE_CREATE", &json!("not even an object"));
    fake.say(*ops, *ann, &mention("next"));
    sink.wait_for("the next", |sink| sink.texts() == ["next"]).await;
    assert_eq!(sink.undecodable(), 1);
    running.stop().await;
}
