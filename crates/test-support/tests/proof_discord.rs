//! The fake Discord, held against a client that was not written here: `proofs/discord` on discord.js.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, missing_docs)]

use std::{
    path::Path,
    process::{Child, Command},
    time::{Duration, Instant},
};

use stakpak_test_support::{FakeDiscord, GatewayFault, Said};

/// Ends the client also when the test fails.
struct Bot(Child);

impl Drop for Bot {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// None, with the reason printed, where the client is not installed.
fn start_bot(fake: &FakeDiscord) -> Option<Bot> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("proofs/discord");
    if !folder.join("node_modules").is_dir() {
        eprintln!("not run: `npm ci` was not run in {}", folder.display());
        return None;
    }
    let mut command = Command::new("node");
    command.arg("proof.mjs").current_dir(folder);
    command.env("PROOF_API", fake.base_url()).env("PROOF_TOKEN", FakeDiscord::TOKEN);
    match command.spawn() {
        Ok(child) => Some(Bot(child)),
        Err(error) => {
            eprintln!("not run: no node: {error}");
            None
        }
    }
}

#[tokio::test]
async fn a_bot_of_discord_js_works_against_the_fake() {
    let fake = FakeDiscord::start().await;
    let ann = fake.person("Ann");
    let guild = fake.guild("company");
    let channel = fake.channel(guild, "ops");
    let Some(mut bot) = start_bot(&fake) else { return };
    let seen = fake.wait_for("a session", |seen| !seen.identifies.is_empty()).await;
    assert_eq!(seen.identifies[0].intents, 37377);

    let question = fake.say(channel, ann, "is it up?");
    let seen = fake.wait_for("the answer", |seen| !seen.messages.is_empty()).await;
    let answer = &seen.messages[0];
    assert_eq!((answer.content.as_str(), answer.reply_to), ("echo: is it up?", Some(question)));
    assert_eq!(answer.nonce.as_deref(), Some(question.to_string().as_str()));
    assert_eq!((seen.reactions[0].message, seen.reactions[0].emoji.as_str()), (question, "👀"));
    assert_eq!(seen.typing, [channel]);

    let press = fake.press(answer.id, ann, "a:1:allow");
    let seen = fake.wait_for("the outcome of the press", |seen| !seen.followups.is_empty()).await;
    assert_eq!((seen.answers[0].interaction, seen.answers[0].kind), (press, 6));
    assert_eq!(seen.edits[0].content, "ann pressed a:1:allow");
    assert!(seen.edits[0].buttons.is_empty());
    assert!(seen.followups[0].ephemeral);

    fake.speak(channel, ann, &Said::new("look").with_file("disk.txt", "text/plain", b"91 %"));
    let seen = fake.wait_for("the file", |seen| seen.messages.len() == 2).await;
    assert_eq!(seen.messages[1].files, [("back.txt".to_owned(), b"91 %".to_vec())]);

    // What is said while the connection is away arrives after a RESUME, once.
    fake.disturb(GatewayFault::Drop);
    fake.say(channel, ann, "still there?");
    let seen = fake.wait_for("the answer after the drop", |seen| seen.messages.len() == 3).await;
    assert_eq!(seen.messages[2].content, "echo: still there?");
    assert_eq!(seen.identifies.len(), 1);
    let resume = seen.resumes.last().expect("a RESUME");
    assert!(resume.accepted && resume.at_resume_url, "{resume:?}");

    fake.disturb(GatewayFault::Reconnect);
    fake.wait_for("the second resume", |seen| seen.resumes.iter().filter(|resume| resume.accepted).count() == 2).await;
    fake.say(channel, ann, "bye");
    let patience = Instant::now();
    let status = loop {
        if let Some(status) = bot.0.try_wait().unwrap() {
            break status;
        }
        assert!(patience.elapsed() < Duration::from_secs(30), "the bot did not leave");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(status.success(), "{status}");
    assert_eq!(fake.seen().messages.len(), 3);
}
