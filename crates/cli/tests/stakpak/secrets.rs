//! Secrets of many kinds through the whole product: in no file, no request and no output, and still of use.

use std::path::{Path, PathBuf};

use serde_json::json;
use stakpak_test_support::{LlmRequest, Reply, ScriptedLlm};

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
    let secret = secret.split('@').next().unwrap();
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    vec![secret.to_owned(), hex, secret.replace('%', "%25")]
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
    haystack.windows(needle.len()).any(|window| window == needle.as_bytes())
}

/// The placeholders of the last result, in order.
fn placeholders(request: &LlmRequest) -> Vec<String> {
    let messages = request.body["messages"].as_array().unwrap();
    let result = messages.iter().rfind(|message| message["role"] == "tool").unwrap()["content"].as_str().unwrap();
    let starts = result.match_indices("[REDACTED_SECRET:").map(|(start, _)| start);
    starts.map(|start| result[start..=start + result[start..].find(']').unwrap()].to_owned()).collect()
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
        let asked =
            request.body["messages"].as_array().unwrap().iter().filter(|message| message["role"] == "tool").count();
        match asked {
            0 => Reply::tool_call("call_1", "stakpak__run_command", &json!({ "command": command })),
            1 => {
                let named = placeholders(request);
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
    let values: Vec<String> =
        corpus().into_iter().map(|(_, secret)| secret.split('@').next().unwrap().to_owned()).collect();
    assert_eq!(used.lines().collect::<Vec<_>>(), values, "the command has them");

    let requests: Vec<String> = requests.try_iter().collect();
    assert_eq!(requests.len(), 4);
    for secret in values.iter().flat_map(|secret| forms(secret)) {
        for request in &requests {
            assert!(!request.contains(&secret), "{secret}: {request}");
        }
        for output in [&run.stdout, &run.stderr] {
            assert!(!has(output, &secret), "{secret}: {}", String::from_utf8_lossy(output));
        }
        for file in files(&home.path(".stakpak")) {
            assert!(!has(&std::fs::read(&file).unwrap(), &secret), "{secret}: {}", file.display());
        }
    }
}
