//! What a session meets is hidden, and given back to the calls that need it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod setting;

use std::{fs, os::unix::fs::PermissionsExt};

use serde_json::json;
use setting::{Setting, completed};
use stakpak_agent_core::{SecretGrant, Secrets, ToolCall, Tools};
use stakpak_protocol::SessionId;

/// Put together here so that no scanner takes this file for a leak.
fn key() -> String {
    format!("gh{}{}", "p_", "aB3dE5gH7jK9mN1pQ2rS4tU6vW8xY0zA2cD4")
}

fn placeholder(text: &str) -> String {
    let start = text.find("[REDACTED_SECRET:").unwrap_or_else(|| panic!("no placeholder: {text}"));
    text[start..=start + text[start..].find(']').unwrap()].to_owned()
}

/// C-P50: neither the result nor progress nor the kept output has it, in whatever form.
#[tokio::test]
async fn what_a_command_prints_is_hidden_in_every_form() {
    let setting = Setting::new();
    setting.write("key", &key());
    let forms = "cat key; echo; base64 -w0 key; echo; xxd -p -c 200 key 2>/dev/null || od -An -tx1 -w200 key | tr -d ' '; seq 400";
    let (context, mut progress) = setting.context();
    let call = Setting::call("run_command", json!({ "command": forms }));
    let (text, _) = completed(setting.tools.run(&call, context).await);
    let mut all = text.clone();
    while let Ok(piece) = progress.try_recv() {
        all.push_str(&piece);
    }
    for path in setting.kept() {
        all.push_str(&fs::read_to_string(path).unwrap());
    }
    assert_eq!(setting.kept().len(), 1);
    let hex: String = key().bytes().map(|byte| format!("{byte:02x}")).collect();
    for form in [key(), hex, "Z2hwX2FCM2RF".to_owned()] {
        assert!(!all.contains(&form), "{form}: {text}");
    }
    assert!(placeholder(&text).starts_with("[REDACTED_SECRET:github-token:"), "{text}");
}

/// C-P57: the command has the value, and no text has.
#[tokio::test]
async fn calls_get_their_secrets_back() {
    let setting = Setting::new();
    let name = placeholder(&setting.secrets.hide(setting.session, key()).await);
    let command =
        format!("printf %s {name} > a; printf %s \"$X\" > b; tr '\\0' ' ' < /proc/$$/cmdline > c; echo {name}");
    let text = setting.ok("run_command", json!({ "command": command, "env": { "X": format!("<{name}>") } })).await;
    assert_eq!((setting.read("a"), setting.read("b")), (key(), format!("<{}>", key())));
    assert!(!setting.read("c").contains(&key()), "the argument list has it");
    assert_eq!(text, name);
    setting.ok("create", json!({ "path": "d", "file_text": format!("token: {name}\n") })).await;
    assert_eq!(setting.read("d"), format!("token: {}\n", key()));
    let text =
        setting.ok("str_replace", json!({ "path": "d", "old_str": name, "new_str": format!("new {name}") })).await;
    assert_eq!(setting.read("d"), format!("token: new {}\n", key()));
    assert!(!text.contains(&key()), "{text}");
    let text = setting.ok("view", json!({ "path": "d", "grep": name })).await;
    assert!(text.contains(&name) && !text.contains(&key()), "{text}");
}

#[tokio::test]
async fn a_placeholder_of_nothing_is_not_run() {
    let setting = Setting::new();
    let name = "[REDACTED_SECRET:jwt:abc123]";
    let text = setting.error("run_command", json!({ "command": format!("touch ran {name}") })).await;
    assert!(text.starts_with("UNKNOWN_SECRET\n") && text.contains(name), "{text}");
    let text = setting.error("create", json!({ "path": "ran", "file_text": name })).await;
    assert!(text.starts_with("UNKNOWN_SECRET\n"), "{text}");
    let of_others = placeholder(&setting.secrets.hide(SessionId::random(), key()).await);
    let text = setting.error("run_command", json!({ "command": format!("touch ran {of_others}") })).await;
    assert!(text.starts_with("UNKNOWN_SECRET\n"), "{text}");
    assert_eq!(setting.names(""), Vec::<String>::new());
}

/// C-P52: what is not granted is not given.
#[tokio::test]
async fn others_get_what_is_granted_to_them() {
    let setting = Setting::new();
    let name = placeholder(&setting.secrets.hide(setting.session, key()).await);
    let arguments = json!({ "a": [name], name.clone(): 1 });
    let granted = ["github-token".to_owned()];
    let restored = setting.secrets.restore(setting.session, arguments.clone(), SecretGrant::Rules(&granted)).await;
    assert_eq!(restored, Ok(json!({ "a": [key()], name: 1 })));
    let refused = setting.secrets.restore(setting.session, arguments, SecretGrant::Rules(&[])).await.unwrap_err();
    assert_eq!(refused.code(), "SECRET_NOT_GRANTED");
}

/// C-P53.
#[tokio::test(flavor = "multi_thread")]
async fn calls_at_once_get_one_placeholder() {
    let setting = Setting::new();
    let hidden = futures(&setting, 16).await;
    assert!(hidden.iter().all(|text| *text == hidden[0]), "{hidden:?}");
    let restored = setting.secrets.restore(setting.session, json!(hidden), SecretGrant::All).await;
    assert_eq!(restored, Ok(json!(vec![key(); 16])));
}

async fn futures(setting: &Setting, count: usize) -> Vec<String> {
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..count {
        let (secrets, session) = (setting.secrets.clone(), setting.session);
        calls.spawn(async move { secrets.hide(session, key()).await });
    }
    calls.join_all().await
}

/// A path that nobody sees is asked about, and nothing of it is on the read-only list.
#[tokio::test]
async fn a_path_of_a_secret_is_a_question() {
    let setting = Setting::new();
    let call = Setting::call("view", json!({ "path": "[REDACTED_SECRET:jwt:abc123]" }));
    assert!(setting.tools.needs_question(&call, &setting.cwd()).is_some_and(|reason| reason.contains("secret")));
}

/// C-P56: nothing in the working directory, files only for their owner; gone with the session.
#[tokio::test]
async fn a_vault_is_private_and_goes_with_its_session() {
    let setting = Setting::new();
    setting.secrets.hide(setting.session, key()).await;
    let vault = setting.cwd().join(format!("../secrets/{}.vault", setting.session));
    assert_eq!(fs::metadata(&vault).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(setting.names(""), Vec::<String>::new());
    setting.tools.forget_session(setting.session).await.unwrap();
    assert!(!vault.exists());
    setting.tools.forget_session(setting.session).await.unwrap();
}

/// The password itself is only where the placeholder was used; a call that runs again has the same one.
#[tokio::test]
async fn a_generated_password_is_a_placeholder_one_a_call() {
    let setting = Setting::new();
    let call = Setting::call("generate_password", json!({"length": 20}));
    let run = async |setting: &Setting, call: &ToolCall| {
        setting::completed(setting.tools.run(call, setting.context().0).await).0
    };
    let placeholder = run(&setting, &call).await;
    assert!(placeholder.starts_with("[REDACTED_SECRET:generated-password:") && placeholder.ends_with(']'));
    assert_eq!(run(&setting, &call).await, placeholder, "run again under the same key");
    let other = setting.ok("generate_password", json!({})).await;
    assert_ne!(other, placeholder);

    setting.ok("create", json!({"path": "file", "file_text": placeholder.as_str()})).await;
    let password = setting.read("file");
    assert_eq!(password.len(), 20);
    setting.ok("create", json!({"path": "default", "file_text": other})).await;
    assert_eq!(setting.read("default").len(), 15);
    assert_eq!(
        setting.ok("run_command", json!({"command": "cat file"})).await,
        placeholder,
        "hidden wherever it turns up"
    );

    for length in [7, 129] {
        let text = setting.error("generate_password", json!({"length": length})).await;
        assert!(text.starts_with("INVALID_ARGUMENTS\n") && text.contains("`length`"), "{text}");
    }
}
