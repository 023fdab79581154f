//! Who is answered, where, and in which session.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use stakpak_test_support::{Gate, Reply};

use super::{PLATFORMS, Person, Platform, Stage};

impl Stage {
    /// The last request of the model that has this in it.
    fn asked(&self, part: &str) -> String {
        let asked = self.llm.requests().into_iter().map(|asked| asked.body["messages"].to_string());
        asked.into_iter().rfind(|body| body.contains(part)).unwrap_or_else(|| panic!("nobody asked {part}"))
    }
}

/// Section 3 of the routing rules, on all platforms at the same time: each chat, thread and topic is a session of its own,
/// knows nothing of the others, and is answered where it was asked.
#[tokio::test(flavor = "multi_thread")]
async fn each_chat_and_thread_of_three_platforms_is_a_session_of_its_own() {
    let stage = Stage::new().await;
    let up = stage.up().await;
    let mut chats = BTreeMap::new();
    for platform in PLATFORMS {
        // On Slack a mention in a channel begins a thread.
        let third = if platform == Platform::Slack { stage.thread(platform) } else { stage.group(platform) };
        for chat in [stage.direct(platform), stage.thread(platform), third] {
            chats.insert(chat.routing_key(), chat);
        }
    }
    assert_eq!(chats.len(), PLATFORMS.len() * 3);
    for (key, chat) in &chats {
        chat.ask(&format!("the secret of {key}."));
    }
    for (key, chat) in &chats {
        chat.hears(&format!("the secret of {key}."));
        chat.ask(&format!("And now {key}?"));
    }
    for (key, chat) in &chats {
        chat.hears(&format!("And now {key}?"));
        let asked = stage.asked(&format!("And now {key}?"));
        for other in chats.keys() {
            assert_eq!(asked.contains(&format!("the secret of {other}.")), other == key, "{other} in {key}");
        }
    }
    let sessions = Stage::sessions(&up).await;
    let keys: HashSet<_> = sessions.keys().collect();
    assert_eq!(keys, chats.keys().collect());
    assert_eq!(sessions.values().collect::<HashSet<_>>().len(), chats.len(), "{sessions:?}");
}

/// G-P28: in groups the bot answers who is allowed and mentions it, and nobody else hears anything of it.
#[tokio::test(flavor = "multi_thread")]
async fn in_a_group_only_a_mention_by_an_allowed_person_is_answered() {
    let stage = Stage::new().await;
    let _up = stage.up().await;
    for platform in PLATFORMS {
        let group = stage.group(platform);
        group.say(&format!("unmentioned {platform:?}"));
        group.mention_by(Person::Bob, &format!("a stranger's {platform:?}"));
        group.mention(&format!("at last {platform:?}"));
        group.hears(&format!("at last {platform:?}"));
        assert_eq!(group.shown().len(), 1, "{:?}", group.heard());
    }
    let asked: Vec<_> = stage.llm.requests().into_iter().map(|asked| asked.body.to_string()).collect();
    assert_eq!(asked.len(), PLATFORMS.len(), "{asked:#?}");
    assert!(!asked.iter().any(|body| body.contains("unmentioned") || body.contains("stranger's")), "{asked:#?}");
}

/// A thread that the bot works in goes on without its name; a topic of Telegram is a group like others.
#[tokio::test(flavor = "multi_thread")]
async fn a_thread_goes_on_without_a_mention() {
    let stage = Stage::new().await;
    let _up = stage.up().await;
    for platform in [Platform::Slack, Platform::Discord] {
        let thread = stage.thread(platform);
        thread.mention("zebra");
        thread.hears("zebra");
        thread.say("and then?");
        thread.hears("and then?");
        assert!(stage.asked("and then?").contains("zebra"));
    }
    let topic = stage.thread(Platform::Telegram);
    topic.say("unmentioned");
    topic.mention("at last");
    topic.hears("at last");
    assert_eq!(topic.shown().len(), 1, "{:?}", topic.heard());
}

/// G-P3: what Slack delivered late, and its successor, wait behind a run: they are answered as they were written.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_comes_late_keeps_its_place_among_those_that_wait() {
    let stage = Stage::new().await;
    let _up = stage.up().await;
    stage.slack.set_ack_wait(Duration::from_millis(300));
    let chat = stage.direct(Platform::Slack);
    let gate = Gate::new();
    stage.llm.push(Reply::text(["the first"]).then_wait(&gate));
    chat.say("one");
    stage.llm.wait_for_requests(1).await;
    stage.slack.lose_next_envelope();
    let late = chat.say("two");
    let early = chat.say("three");
    let taken = async |ts: &str| stage.slack.wait_for("it is taken", |slack| slack.acknowledged(ts)).await;
    let order = (taken(&early).await, taken(&late).await);
    assert!(order.0 < order.1, "the second came after the third");
    gate.open();
    chat.hears("two");
    chat.hears("three");
    let heard = chat.heard();
    let place = |word: &str| heard.iter().position(|text| text.contains(word)).unwrap();
    assert!(place("two") < place("three"), "{heard:#?}");
}
