//! A tool call that somebody has to allow, asked and decided by buttons.

use std::time::Duration;

use serde_json::{Value, json};
use stakpak_test_support::Reply;

use super::{Chat, PLATFORMS, Person, Platform, Shown, Stage};
use crate::support::{Up, until};

impl Stage {
    /// The model's next answers: a command, then this text.
    fn the_model_wants(&self, command: &str, then: &str) {
        self.llm.push(Reply::tool_call("call_1", "stakpak__run_command", &json!({ "command": command })));
        self.llm.push(Reply::text([then]));
    }
}

impl Chat<'_> {
    /// The prompt that is open, known to the gateway as this message: nobody presses before they have read.
    pub(super) async fn prompt(&self, up: &Up) -> Shown {
        let prompt = self.sees("a prompt", |shown| shown.buttons.iter().any(|button| button.label == "Allow"));
        while Stage::ask(up, "status").await["outbox_pending"] != 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        prompt
    }

    /// What became of a prompt.
    pub(super) fn outcome(&self, prompt: &Shown) -> Shown {
        self.sees("the outcome", |shown| shown.id == prompt.id && shown.buttons.is_empty())
    }
}

fn labels(prompt: &Shown) -> Vec<&str> {
    prompt.buttons.iter().map(|button| button.label.as_str()).collect()
}

/// Who Ann is.
fn name(platform: Platform) -> &'static str {
    match platform {
        Platform::Telegram => "User 42",
        Platform::Slack | Platform::Discord => "ann",
    }
}

/// G-P29: in a group everybody sees the buttons, and only who may presses them with effect. The command that was shown is
/// what runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_press_of_who_may_decides_and_that_of_a_stranger_is_refused() {
    let stage = Stage::new().await;
    let up = stage.up().await;
    for platform in PLATFORMS {
        let (chat, file) = (stage.group(platform), stage.path(&format!("{platform:?}.txt")));
        let command = format!("echo 'it ran' >> {}", file.display());
        stage.the_model_wants(&command, "all done");
        chat.mention("please do it");
        let prompt = chat.prompt(&up).await;
        assert!(prompt.text.contains("run_command") && prompt.text.contains(&command), "{platform:?}: {prompt:?}");
        assert_eq!(labels(&prompt), ["Allow", "Allow for this session", "Deny", "Show all"]);

        chat.press(Person::Bob, &prompt, "Allow");
        let told = || chat.told_alone(Person::Bob).into_iter().find(|text| text.contains("may not"));
        until(&format!("the refusal on {platform:?}"), told);
        assert_eq!(chat.prompt(&up).await, prompt, "{platform:?}: it is as open as before");
        assert!(!file.exists(), "{platform:?}");

        chat.press(Person::Ann, &prompt, "Allow");
        chat.hears("all done");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "it ran\n", "{platform:?}");
        let outcome = chat.outcome(&prompt);
        assert!(outcome.text.contains(&format!("Allowed by {}", name(platform))), "{platform:?}: {outcome:?}");
        assert!(outcome.text.contains(&command), "{platform:?}: what was allowed can be read: {outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_denied_does_not_run_and_the_model_hears_it() {
    let stage = Stage::new().await;
    let up = stage.up().await;
    for platform in PLATFORMS {
        let (chat, file) = (stage.direct(platform), stage.path(&format!("{platform:?}.txt")));
        stage.the_model_wants(&format!("touch {}", file.display()), "then not");
        chat.say("please do it");
        let prompt = chat.prompt(&up).await;
        chat.press(Person::Ann, &prompt, "Deny");
        chat.hears("then not");
        assert!(!file.exists(), "{platform:?}");
        let outcome = chat.outcome(&prompt);
        assert!(outcome.text.contains(&format!("Denied by {}", name(platform))), "{platform:?}: {outcome:?}");
        let told = stage.llm.requests().pop().unwrap().body["messages"].as_array().unwrap().last().unwrap().to_string();
        assert!(told.to_lowercase().contains("reject"), "{platform:?}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_allowed_for_the_session_is_not_asked_again() {
    let stage = Stage::new().await;
    let up = stage.up().await;
    for platform in PLATFORMS {
        let (chat, file) = (stage.direct(platform), stage.path(&format!("{platform:?}.txt")));
        let command = format!("echo again >> {}", file.display());
        stage.the_model_wants(&command, "the first time");
        chat.say("please do it");
        let prompt = chat.prompt(&up).await;
        chat.press(Person::Ann, &prompt, "Allow for this session");
        chat.hears("the first time");
        stage.the_model_wants(&command, "the second time");
        chat.say("please do it again");
        chat.hears("the second time");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "again\nagain\n", "{platform:?}");
        let asked = chat.shown().iter().filter(|shown| shown.text.contains("run_command")).count();
        assert_eq!(asked, 1, "{platform:?}: {:#?}", chat.heard());
    }
}

/// G-P30: what has no room in the prompt is in a file that comes before it, and in messages when somebody wants them.
#[tokio::test(flavor = "multi_thread")]
async fn all_of_a_long_command_can_be_read_before_it_is_allowed() {
    let stage = Stage::new().await;
    let up = stage.up().await;
    for platform in PLATFORMS {
        let (chat, script) = (stage.direct(platform), stage.path(&format!("{platform:?}.sh")));
        let lines: Vec<_> = (0..200).map(|line| format!("step number {line:03} of the plan")).collect();
        let command = format!("cat > {} <<'EOF'\n{}\nEOF", script.display(), lines.join("\n"));
        stage.the_model_wants(&command, "all done");
        chat.say("please do it");
        let prompt = chat.prompt(&up).await;
        let shown = chat.shown();
        let (name, content) = shown.iter().find_map(|shown| shown.file.clone()).unwrap();
        assert!(name.starts_with("approval-"), "{platform:?}: {name}");
        assert!(content.contains(&command), "{platform:?}");
        let place = |is_it: &dyn Fn(&Shown) -> bool| shown.iter().position(is_it).unwrap();
        assert!(place(&|shown| shown.file.is_some()) < place(&|shown| shown.id == prompt.id), "{platform:?}");

        chat.press(Person::Ann, &prompt, "Show all");
        for line in &lines {
            chat.hears(line);
        }
        assert_eq!(chat.prompt(&up).await, prompt, "{platform:?}: nothing is decided by that");
        assert!(!script.exists(), "{platform:?}");
        chat.press(Person::Ann, &prompt, "Allow");
        chat.hears("all done");
        assert_eq!(std::fs::read_to_string(&script).unwrap(), format!("{}\n", lines.join("\n")), "{platform:?}");
    }
}

impl Chat<'_> {
    /// What stands around a text of a message: whether it is shown letter by letter, and nobody is called by it.
    fn is_literal(&self, shown: &Shown, text: &str) -> bool {
        match self.platform {
            Platform::Telegram => {
                let sent = self.stage.telegram.sent().into_iter().find(|sent| sent.message_id.to_string() == shown.id);
                let entities = sent.unwrap().entities;
                let before = shown.text.split(text).next().unwrap().encode_utf16().count() as u64;
                let end = before + text.encode_utf16().count() as u64;
                let covers = |entity: &Value| {
                    let (offset, length) = (entity["offset"].as_u64().unwrap(), entity["length"].as_u64().unwrap());
                    entity["type"] == "pre" && offset <= before && end <= offset + length
                };
                let calls = |entity: &Value| ["text_link", "text_mention"].iter().any(|kind| entity["type"] == *kind);
                let entities = entities.as_array().unwrap();
                entities.iter().any(covers) && !entities.iter().any(calls)
            }
            Platform::Slack => {
                let sent = self.stage.slack.sent(&self.room).into_iter().find(|sent| sent.ts == shown.id).unwrap();
                // Rich text takes texts as they are; a name or a link would be an element of its own.
                let blocks = sent.blocks.to_string();
                let calls = ["\"user\"", "\"broadcast\"", "\"usergroup\"", "\"link\"", "\"mrkdwn\""];
                sent.text.contains("echo &lt;!channel&gt; ")
                    && blocks.contains(&json!(text).to_string().replace('"', ""))
                    && !calls.iter().any(|kind| blocks.contains(kind))
            }
            Platform::Discord => self.stage.discord.look(|seen| {
                let sent = seen.messages.iter().find(|message| message.id.to_string() == shown.id).unwrap();
                let fenced = sent.content.split("```").skip(1).step_by(2).any(|code| code.contains(text));
                let named = |kind: &str| sent.allowed_mentions[kind].as_array().is_some_and(|named| !named.is_empty());
                fenced && !["parse", "users", "roles"].iter().any(|kind| named(kind))
            }),
        }
    }
}

/// G-P31
#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_pings_nobody_and_links_nowhere() {
    let stage = Stage::new().await;
    let up = stage.up().await;
    let command =
        "echo <!channel> <@U0ANN> @everyone @here @test_bot [click](https://evil.example) <https://evil.example|ok>";
    for platform in PLATFORMS {
        let chat = stage.direct(platform);
        stage.the_model_wants(command, "not done");
        chat.say("please do it");
        let prompt = chat.prompt(&up).await;
        assert!(chat.is_literal(&prompt, command), "{platform:?}: {prompt:#?}");
        chat.press(Person::Ann, &prompt, "Deny");
        chat.hears("not done");
    }
}
