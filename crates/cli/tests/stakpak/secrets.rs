//! Secrets of many kinds through the whole product: in no file, no request and no output, and still of use.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use memchr::memmem;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use stakpak_test_support::{BotApi, LlmRequest, Reply, ScriptedLlm, ScriptedMcp};

use crate::support::{Home, stderr, stdout};

const MIXED: &str = "aB3dE5gH7jK9mN1pQ2rS4tU6vW8xY0zA2cD4fG6hJ8kL0mN2pQ4rS6";

/// What stands before a secret, and the secret; put together here so that no scanner takes this file for a leak.
fn corpus() -> Vec<(&'static str, String)> {
    let mixed = |length: usize| &MIXED[..length];
    let hex = "0f1e2d3c4b5a69788796a5b4c3d2e1f0";
    vec![
        ("", format!("AK{}{}", "IA", "ABCDEFGHIJ234567")),
        ("aws_secret_access_key = ", mixed(40).chars().rev().collect()),
        ("", format!("gh{}{}", "p_", mixed(36))),
        ("", format!("github{}{}", "_pat_", mixed(50))),
        ("", format!("gl{}{}", "pat-", mixed(20))),
        ("", format!("np{}{}", "m_", mixed(36))),
        ("", format!("py{}{}", "pi-AgEIcHlwaS5vcmc", mixed(50))),
        ("", format!("sk{}{}", "_live_", mixed(24))),
        ("", format!("xo{}-12345678-{}", "xb", mixed(24))),
        ("", format!("123456789:{}", mixed(35))),
        ("", format!("MT{}.{}.{}", mixed(24), mixed(6), mixed(38))),
        ("", format!("S{}{}.{}", "G.", mixed(22), mixed(43))),
        ("", format!("S{}{}", "K", hex)),
        ("", format!("AI{}{}", "za", mixed(35))),
        ("", format!("sk{}{}", "-ant-api03-", mixed(50))),
        ("", format!("sk{}{}", "-proj-", mixed(48))),
        ("", format!("h{}{}", "f_", mixed(34))),
        ("", format!("hv{}{}", "s.", mixed(24))),
        ("", format!("ey{}.ey{}.{}", "JhbGciOiJIUzI1NiJ9", "JzdWIiOiIxMjM0NTY3ODkwIn0", mixed(43))),
        ("postgres://app:", "Tr0ub4dor!3xyz@db:5432/app".to_owned()),
        ("DB_PASSWORD=", "c0rrect-h0rse%battery".to_owned()),
        ("authorization: Bearer ", mixed(30).chars().rev().collect()),
    ]
}

fn text() -> String {
    corpus().iter().map(|(before, secret)| format!("{before}{secret}\n")).collect()
}

/// The part that nobody may see, in the forms in which text may carry it.
fn forms(secret: &str) -> Vec<String> {
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let stays = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let url = |byte: u8| if stays(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    let mut forms = vec![secret.to_owned(), hex, secret.replace('%', "%25"), secret.bytes().map(url).collect()];
    for before in 0..3 {
        let bytes = [vec![0; before], secret.as_bytes().to_vec()].concat();
        // Without the characters that share bits with a neighbour.
        let whole = (before * 8).div_ceil(6)..bytes.len() * 8 / 6;
        forms.extend(
            [&BASE64_STANDARD.encode(&bytes)[whole.clone()], &BASE64_URL_SAFE_NO_PAD.encode(&bytes)[whole]]
                .map(str::to_owned),
        );
    }
    forms
}

/// What nobody but a command that needs them may see.
fn values() -> Vec<String> {
    corpus().into_iter().map(|(_, secret)| secret.split('@').next().unwrap().to_owned()).collect()
}

/// They are in none of these, in no form.
fn are_nowhere_in(places: &[(String, Vec<u8>)]) {
    for secret in values().iter().flat_map(|secret| forms(secret)) {
        for (name, bytes) in places {
            assert!(!has(bytes, &secret), "{secret} is in {name}: {:.2000}", String::from_utf8_lossy(bytes));
        }
    }
}

/// The files of the product in a home.
fn stored(home: &Home) -> Vec<(String, Vec<u8>)> {
    let files = files(&home.path(".stakpak")).into_iter();
    files.map(|file| (file.display().to_string(), std::fs::read(&file).unwrap())).collect()
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

fn has(haystack: &[u8], needle: &str) -> bool {
    memmem::find(haystack, needle.as_bytes()).is_some()
}

/// The placeholders of the last message of a role, in order.
fn placeholders(request: &LlmRequest, role: &str) -> Vec<String> {
    let messages = request.body["messages"].as_array().unwrap();
    let said = messages.iter().rfind(|message| message["role"] == role).unwrap()["content"].to_string();
    let starts = said.match_indices("[REDACTED_SECRET:").map(|(start, _)| start);
    starts.map(|start| said[start..=start + said[start..].find(']').unwrap()].to_owned()).collect()
}

/// How many results there are.
fn results(request: &LlmRequest) -> usize {
    request.body["messages"].as_array().unwrap().iter().filter(|message| message["role"] == "tool").count()
}

/// A command that writes what stands for the secrets into a file.
fn use_all(named: &[String], file: &Path) -> Value {
    let all = named[..corpus().len()].join(" ");
    json!({ "command": format!("for s in {all}; do printf '%s\\n' \"$s\"; done > {}", file.display()) })
}

/// C-P50, C-P57: chat, context, file, environment and output; and a command that needs them has them.
#[tokio::test(flavor = "multi_thread")]
async fn a_corpus_of_secrets_is_nowhere_and_still_of_use() {
    let llm = ScriptedLlm::start().await;
    let home = Home::new();
    let endpoint = llm.base_url();
    home.write(
        "config.toml",
        &format!("[profiles.default]\nmodel = \"my/test\"\n[profiles.default.providers.my]\ntype = \"custom\"\napi_endpoint = \"{endpoint}\"\napi_key = \"secret-key-0123456789\"\n"),
    );
    std::fs::write(home.path("secrets.txt"), text()).unwrap();
    let command = "cat secrets.txt; env | grep DEPLOY_KEY; od -An -v -tx1 secrets.txt | tr -d ' \\n'; echo; cat /nowhere/secrets.txt";
    let (told, requests) = std::sync::mpsc::channel();
    let told = std::sync::Mutex::new(told);
    llm.answer_with(move |request| {
        told.lock().unwrap().send(request.body.to_string()).unwrap();
        match results(request) {
            0 => Reply::tool_call("call_1", "stakpak__run_command", &json!({ "command": command })),
            1 => {
                let named = placeholders(request, "tool");
                let all = named[..corpus().len()].join(" ");
                let command = format!("for s in {all}; do printf '%s\\n' \"$s\"; done > used.txt; echo {}", named[0]);
                Reply::tool_call("call_2", "stakpak__run_command", &json!({ "command": command }))
            }
            2 => Reply::tool_call("call_3", "stakpak__view", &json!({ "path": "secrets.txt" })),
            _ => Reply::text(["your key ", &corpus()[2].1[..10], &corpus()[2].1[10..], " is fine"]),
        }
    });
    let mut run = home.command(&["run", "--approve-all", &format!("use these:\n{}", text())]);
    let run = run.env("DEPLOY_KEY", &corpus()[3].1).output().unwrap();
    assert!(stdout(&run).contains("is fine"), "{}{}", stdout(&run), stderr(&run));

    let used = std::fs::read_to_string(home.path("used.txt")).unwrap();
    assert_eq!(used.lines().collect::<Vec<_>>(), values(), "the command has them");

    let requests: Vec<String> = requests.try_iter().collect();
    assert_eq!(requests.len(), 4);
    let requests = requests.into_iter().map(|request| ("a request".to_owned(), request.into_bytes()));
    let output = [("its output".to_owned(), run.stdout), ("its errors".to_owned(), run.stderr)];
    are_nowhere_in(&requests.chain(output).chain(stored(&home)).collect::<Vec<_>>());
}

/// What the operator says wins over what is built in, and a rule that cannot be used is not passed over.
#[tokio::test(flavor = "multi_thread")]
async fn rules_of_the_file_hide_and_what_is_to_be_ignored_is_shown() {
    let llm = ScriptedLlm::start().await;
    let home = Home::new();
    let (_, ordinary) = &corpus()[2];
    let digest: String = Sha256::digest(ordinary).iter().map(|byte| format!("{byte:02x}")).collect();
    let write = |secrets: &str| {
        let endpoint = llm.base_url();
        home.write(
            "config.toml",
            &format!("[profiles.default]\nmodel = \"my/test\"\n[profiles.default.providers.my]\ntype = \"custom\"\napi_endpoint = \"{endpoint}\"\n{secrets}"),
        );
    };
    let own = "[secrets.rules.acme-badge]\nregex = 'badge (?<secret>[a-z]+-[0-9]+)'\nkeywords = ['Badge']\n";
    write(&format!("[secrets]\nignore = ['sha256:{digest}']\n{own}"));
    llm.push(Reply::text(["Seen."]));
    let ran = home.run(&["run", &format!("my badge heron-4711 is not {ordinary}")]);
    assert!(ran.status.success(), "{}", stderr(&ran));
    let request = llm.requests()[0].body.to_string();
    assert!(request.contains("my badge [REDACTED_SECRET:acme-badge:"), "{request}");
    assert!(request.contains(ordinary) && !request.contains("heron"), "{request}");

    for (secrets, told) in [
        ("[secrets]\nignore = ['heron-4711']\n", "secrets.ignore"),
        ("[secrets.rules.acme]\nkeywords = ['acme']\n", "secrets.rules.acme"),
        ("[secrets.rules.acme]\nregex = '('\nkeywords = ['acme']\n", "rule acme: `regex`"),
        ("[secrets.rules.acme]\nregex = 'a'\n", "rule acme: `keywords`"),
        ("[secrets.rules.Acme]\nregex = 'a'\nkeywords = ['acme']\n", "rule \"Acme\""),
    ] {
        write(secrets);
        let ran = home.run(&["run", "hello"]);
        assert!(!ran.status.success() && stderr(&ran).contains(told), "{secrets}: {}", stderr(&ran));
    }
    assert_eq!(llm.requests().len(), 1);
}

/// C-P50: what a person writes into a chat, and all that another program's server says: text, structured content, an error
/// and progress.
#[tokio::test(flavor = "multi_thread")]
async fn secrets_of_chats_and_servers_are_nowhere_and_still_of_use() {
    const USER: i64 = 42;
    let (home, llm, telegram) = (Home::new(), ScriptedLlm::start().await, BotApi::start().await);
    let server = ScriptedMcp::start(&["echo", "structured", "refuse", "progress"]).await;
    server.say(&text());
    server.open_gate();
    home.write(
        "config.toml",
        &format!("[profiles.default]\nmodel = \"my/test\"\n[profiles.default.providers.my]\ntype = \"custom\"\napi_endpoint = \"{}\"\n", llm.base_url()),
    );
    home.write(
        "autopilot.toml",
        &format!(
            "[gateway]\napproval_mode = \"allow_all\"\n[channels.telegram]\ntoken = \"123:token\"\nallow_users = [{USER}]\napi_base_url = \"{}\"\n",
            telegram.base_url()
        ),
    );
    home.write(
        "mcp.toml",
        &format!("[mcpServers.other]\ncommand = \"bash\"\nargs = [\"-c\", '{}']\n", server.stdio_command()),
    );
    let (of_chat, of_server) = (home.path("of_chat.txt"), home.path("of_server.txt"));
    let files = (of_chat.clone(), of_server.clone());
    let requests = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&requests);
    let answer = move |request: &LlmRequest| match results(request) {
        0 => Reply::tool_call("call_1", "stakpak__run_command", &use_all(&placeholders(request, "user"), &files.0)),
        1 => Reply::tool_call("call_2", "other__echo", &json!({ "text": "say it" })),
        2 => Reply::tool_call("call_3", "stakpak__run_command", &use_all(&placeholders(request, "tool"), &files.1)),
        3 => Reply::tool_call("call_4", "other__structured", &json!({})),
        4 => Reply::tool_call("call_5", "other__refuse", &json!({})),
        5 => Reply::tool_call("call_6", "other__progress", &json!({})),
        _ => Reply::text(["your key ", &corpus()[2].1[..10], &corpus()[2].1[10..], " is fine"]),
    };
    llm.answer_with(move |request| {
        seen.lock().unwrap().push(request.clone());
        answer(request)
    });
    let up = home.up();
    telegram.say(USER, &format!("use these:\n{}", text()));
    telegram.wait_for_sent(|sent| sent.iter().any(|sent| sent.text.contains("is fine"))).await;
    for used in [&of_chat, &of_server] {
        let used = std::fs::read_to_string(used).unwrap();
        assert_eq!(used.lines().collect::<Vec<_>>(), values(), "the command has them");
    }
    let while_it_runs = stored(&home);
    up.stop();

    let requests = requests.lock().unwrap().clone();
    assert_eq!(requests.len(), 7);
    assert!((4..6).all(|call| !placeholders(&requests[call], "tool").is_empty()), "the server was heard");
    let requests = requests.iter().map(|request| ("a request".to_owned(), request.body.to_string().into_bytes()));
    let sent = telegram.sent().into_iter().map(|sent| ("a chat".to_owned(), format!("{sent:?}").into_bytes()));
    are_nowhere_in(&requests.chain(sent).chain(while_it_runs).chain(stored(&home)).collect::<Vec<_>>());
}
