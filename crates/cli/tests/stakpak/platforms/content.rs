//! Long answers, code, and files in both directions.

use std::{os::unix::fs::PermissionsExt, path::Path};

use stakpak_test_support::Reply;

use super::{PLATFORMS, Platform, Stage};

/// G-P39: a long answer with code arrives whole and in parts that each platform takes.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_answer_with_code_arrives_whole_on_each_platform() {
    let stage = Stage::new().await;
    let _up = stage.up().await;
    let code: Vec<String> = (0..150).map(|line| format!("let value_{line:03} = compute({line});")).collect();
    let answer = format!("# Result\n\nThis is **it**:\n\n```rust\n{}\n```\n\nThat is all.", code.join("\n"));
    stage.llm.always(Reply::text([answer]));
    for platform in PLATFORMS {
        stage.direct(platform).say("show me");
    }
    for platform in PLATFORMS {
        let chat = stage.direct(platform);
        chat.hears("That is all.");
        let heard = chat.heard();
        for line in &code {
            let name = line.split(' ').nth(1).unwrap();
            let places = heard.iter().filter(|text| text.contains(name)).count();
            assert_eq!(places, 1, "{line} on {platform:?}: {heard:#?}");
        }
        if platform == Platform::Discord {
            for part in &heard {
                assert_eq!(part.matches("```").count() % 2, 0, "a fence is left open: {part}");
            }
        }
        if platform != Platform::Slack {
            assert!(heard.iter().all(|part| part.encode_utf16().count() <= 4096), "{heard:#?}");
            assert!(!heard.iter().all(|part| part.contains("That is all.")), "{heard:#?}");
        }
    }
}

/// `long_reply_chunks`: what would be too many messages is its beginning and a file with all of it.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_too_many_messages_is_a_file() {
    let stage = Stage::with("[gateway]\nlong_reply_chunks = 2\n", async |base_url| base_url).await;
    let _up = stage.up().await;
    let steps: Vec<_> =
        (0..800).map(|step| format!("## Step {step:03}\n\n```sh\nmake step-{step:03}\n```\n")).collect();
    let answer = format!("The plan begins.\n\n{}\nThe plan ends.", steps.join("\n"));
    stage.llm.always(Reply::text([answer.as_str()]));
    for platform in PLATFORMS {
        stage.direct(platform).say("make a plan");
    }
    for platform in PLATFORMS {
        let chat = stage.direct(platform);
        let (name, content) = chat.sees("a file", |shown| shown.file.is_some()).file.unwrap();
        assert_eq!(Path::new(&name).extension().unwrap(), "md", "{platform:?}");
        assert_eq!(content.trim(), answer, "{platform:?}");
        let heard = chat.heard().join("\n");
        assert!(heard.contains("The plan begins.") && !heard.contains("The plan ends."), "{platform:?}: {heard}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_file_that_comes_with_a_message_reaches_the_model() {
    let stage = Stage::new().await;
    let _up = stage.up().await;
    for platform in PLATFORMS {
        let (chat, text) = (stage.direct(platform), format!("look at this, {platform:?}"));
        chat.send_file(&text, (&format!("{platform:?}.log"), "text/plain", b"the pool is exhausted"));
        chat.hears(&text);
        let asked = stage.llm.requests().pop().unwrap().body.to_string();
        for part in [&*text, &format!("{platform:?}.log"), "the pool is exhausted"] {
            assert!(asked.contains(part), "{part}: {asked}");
        }
    }
}

/// What is no text is kept for the tools, for the owner alone; what is an image is seen.
#[tokio::test(flavor = "multi_thread")]
async fn other_files_are_kept_and_images_are_seen() {
    let stage = Stage::new().await;
    let _up = stage.up().await;
    let binary = [0, 159, 146, 150, 7];
    let image = [0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, 1, 2, 3];
    for platform in PLATFORMS {
        let chat = stage.direct(platform);
        chat.send_file("take the dump", ("core.dump", "application/octet-stream", &binary));
        chat.hears("take the dump");
        let asked = stage.llm.requests().pop().unwrap().body.to_string();
        let (_, path) = asked.split_once("core.dump, 5 bytes, is at ").unwrap_or_else(|| panic!("{asked}"));
        let path = Path::new(path.split_once(']').unwrap().0);
        assert!(path.starts_with(stage.path(".stakpak/autopilot/attachments")), "{platform:?}: {path:?}");
        assert_eq!(std::fs::read(path).unwrap(), binary, "{platform:?}");
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600, "{platform:?}");

        chat.send_file("look at the picture", ("graph.png", "image/png", &image));
        chat.hears("look at the picture");
        let asked = stage.llm.requests().pop().unwrap().body.to_string();
        assert!(asked.contains("data:image/png;base64,iVBORw0KGgoBAgM="), "{platform:?}: {asked}");
    }
}
