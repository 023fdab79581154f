//! `/new`, `/status`, `/stop`.

use stakpak_test_support::{Gate, Reply};

use super::{PLATFORMS, Stage};

#[tokio::test(flavor = "multi_thread")]
async fn commands_work_on_each_platform() {
    let stage = Stage::new().await;
    let up = stage.up().await;
    for platform in PLATFORMS {
        let chat = stage.direct(platform);
        chat.say("zebra");
        chat.hears("zebra");
        let name = format!("{platform:?}:").to_lowercase();
        let session = async || {
            let sessions = Stage::sessions(&up).await;
            sessions.into_iter().find(|(key, _)| key.starts_with(&name)).unwrap().1
        };
        let old = session().await;

        // What is said first is forgotten with the session.
        chat.say("/new");
        chat.hears("A new session begins");
        let asked = stage.llm.requests().len();
        chat.say("afterwards");
        chat.hears("afterwards");
        assert!(!stage.llm.requests()[asked].body.to_string().contains("zebra"), "{platform:?}");
        assert_ne!(session().await, old, "{platform:?}");

        // A run that would never end.
        let gate = Gate::new();
        stage.llm.push(Reply::text(["half"]).then_wait(&gate));
        let asked = stage.llm.requests().len();
        chat.say("work for ever");
        stage.llm.wait_for_requests(asked + 1).await;
        chat.say("/status");
        chat.hears("Waiting: 0");
        chat.say("/stop");
        chat.hears("Stopping the run");
        chat.hears("The run was cancelled");
        chat.say("once more");
        chat.hears("once more");
    }
}

/// In a group a command follows the bot's name, and is about that conversation alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_in_a_thread_is_about_the_thread() {
    let stage = Stage::new().await;
    let up = stage.up().await;
    for platform in PLATFORMS {
        let (direct, thread) = (stage.direct(platform), stage.thread(platform));
        direct.say("zebra");
        direct.hears("zebra");
        thread.mention("giraffe");
        thread.hears("giraffe");
        let before = Stage::sessions(&up).await;
        thread.mention("/new");
        thread.hears("A new session begins");
        thread.mention("afterwards");
        thread.hears("afterwards");
        let after = Stage::sessions(&up).await;
        let changed: Vec<_> = after.iter().filter(|(key, session)| before.get(*key) != Some(session)).collect();
        let name = format!("{platform:?}:thread:").to_lowercase();
        assert!(matches!(&changed[..], [(key, _)] if key.starts_with(&name)), "{platform:?}: {changed:?}");
    }
}
