//! `stakpak chat` over a pipe: the same conversation as at a terminal, without the editing.

use std::{io::Write, process::Stdio};

use stakpak_test_support::{Reply, ScriptedLlm};

use crate::support::{Home, stderr, stdout};

/// What it says to these lines.
fn talk(home: &Home, arguments: &[&str], lines: &str) -> (String, String) {
    let mut command = home.command(&[&["chat"], arguments].concat());
    let mut chat = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    chat.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = chat.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    (stdout(&output), stderr(&output))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_goes_on_in_its_session() {
    let (home, llm) = (Home::new(), ScriptedLlm::start().await);
    home.write(
        "config.toml",
        &format!(
            "[profiles.default]\nmodel = \"my/test\"\n[profiles.default.providers.my]\ntype = \"custom\"\napi_endpoint = \"{}\"\n",
            llm.base_url()
        ),
    );
    for answer in ["First answer.", "Second answer.", "Third answer."] {
        llm.push(Reply::text([answer]));
    }
    let (said, notes) = talk(&home, &[], "one\\\nmore\n/status\n/nothing\n\ntwo\n/exit\nnever sent\n");
    assert_eq!(said, "First answer.\nSecond answer.\n");
    assert!(notes.contains("no command /nothing"), "{notes}");
    let session = notes.split("stakpak chat ").nth(1).unwrap().trim().to_owned();
    assert!(notes.contains(&format!("session {session}")), "{notes}");
    let requests = llm.requests();
    assert_eq!(requests.len(), 2);
    let first = requests[0].body["messages"].to_string();
    assert!(first.contains("one\\nmore"), "a line that ends with a backslash goes on: {first}");
    assert!(requests[1].body["messages"].to_string().contains("First answer."), "the second knows the first");

    let (said, notes) = talk(&home, &[&session], "three\n");
    assert_eq!(said, "Third answer.\n");
    assert!(notes.contains("going on with"), "{notes}");
    assert!(llm.requests()[2].body["messages"].to_string().contains("Second answer."));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_does_not_end_it() {
    let (home, llm) = (Home::new(), ScriptedLlm::start().await);
    home.write(
        "config.toml",
        &format!(
            "[profiles.default]\nmodel = \"my/test\"\n[profiles.default.providers.my]\ntype = \"custom\"\napi_endpoint = \"{}\"\n",
            llm.base_url()
        ),
    );
    llm.push(Reply::status(400, &serde_json::json!({ "error": { "message": "no such thing" } })));
    llm.push(Reply::text(["It works."]));
    let (said, notes) = talk(&home, &[], "fail\nwork\n");
    assert!(notes.contains("error:") && notes.contains("no such thing"), "{notes}");
    assert_eq!(said, "It works.\n");
}

/// Without a terminal and without a command there is nothing to do.
#[test]
fn no_command_is_a_usage_error_without_a_terminal() {
    let output = Home::new().run(&[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("Usage: stakpak"), "{}", stderr(&output));
}
