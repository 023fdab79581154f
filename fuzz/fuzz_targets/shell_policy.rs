//! What policy says of command lines. Whatever the line is:
//!
//! * reading it does not panic;
//! * approved, it holds no doubt, no name of a denied program and no file that is written;
//! * next to a denied command it is never approved, and denied if it is understood;
//! * inside `bash -c`, `eval`, a subshell or a substitution it is not approved unless it is so by itself.
#![no_main]

use std::{
    collections::{BTreeMap, HashSet},
    sync::{LazyLock, Mutex, Once, PoisonError},
};

use libfuzzer_sys::{Corpus, fuzz_target};
use serde_json::json;
use stakpak_agent_core::{Policy, Subject, full_name};
use stakpak_protocol::Approval::{self, Ask, Auto, Deny};
use stakpak_shell::{RedirectKind, read};

/// The rules of the table of lines.
static POLICY: LazyLock<Policy> = LazyLock::new(|| {
    let approved = ["git", "echo", "cat", "find", "env", "bash", "eval"].map(|program| (program, Auto));
    let denied = [("rm", Deny), ("git::push", Deny)];
    let rules = approved.into_iter().chain(denied);
    let rules = rules.map(|(program, action)| (full_name(&format!("run_command::{program}")), action)).collect();
    Policy::Custom { rules, read_only_commands: false, default: Ask, server: BTreeMap::new() }
});

fn of(line: &str) -> Approval {
    let arguments = json!({ "command": line });
    POLICY.judge(&Subject { tool: "stakpak__run_command", arguments: &arguments, path: None, cwd: None }).approval
}

/// The parser's panics are caught where they happen, and are no finding: each place is named once.
fn let_parser_panic() {
    static SEEN: Mutex<Option<HashSet<String>>> = Mutex::new(None);
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            let is_parsers = place.contains("/registry/");
            let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
            if !is_parsers || seen.get_or_insert_default().insert(place) {
                eprintln!("{panic}");
            }
        }));
    });
}

/// Longer lines only make each run slower; what is too long to be read has a seed.
const MOST_BYTES: usize = 2048;

fuzz_target!(|data: &[u8]| -> Corpus {
    let_parser_panic();
    let Ok(line) = std::str::from_utf8(data) else { return Corpus::Reject };
    if line.len() > MOST_BYTES {
        let _ = of(line);
        return Corpus::Keep;
    }
    let alone = of(line);
    if alone == Auto {
        holds_nothing_denied(line);
    }
    let is_understood = read(line).doubts.is_empty();
    beside_a_denied_command(line, is_understood);
    inside_another(line, alone, is_understood);
    Corpus::Keep
});

fn holds_nothing_denied(line: &str) {
    let read = read(line);
    assert!(read.doubts.is_empty(), "approved with doubts: {read:?}");
    for command in &read.commands {
        assert_ne!(command.name.base_name(), "rm", "approved: {read:?}");
        let is_push =
            command.name.base_name() == "git" && command.arguments.first().is_some_and(|word| word.text == "push");
        assert!(!is_push, "approved: {read:?}");
    }
    let writes = read.redirects.iter().any(|redirect| redirect.kind == RedirectKind::Write);
    assert!(!writes, "approved: {read:?}");
}

fn beside_a_denied_command(line: &str, is_understood: bool) {
    // Bash starts the first command before it looks at the rest.
    for before in ["rm x\n", "rm x; ", "rm x && "] {
        let joined = format!("{before}{line}");
        let verdict = of(&joined);
        assert_ne!(verdict, Auto, "{joined:?}");
        let is_whole = is_understood && !read(&joined).is_unread();
        assert!(!is_whole || verdict == Deny, "{joined:?} is only asked about");
    }
    // A here-document may take what follows for its body, and a backslash joins it to the last word.
    if line.contains("<<") || line.ends_with('\\') {
        return;
    }
    let joined = format!("{line}\nrm x");
    assert_ne!(of(&joined), Auto, "{joined:?}");
    if !line.contains('#') {
        let joined = format!("{line}; rm x");
        assert_ne!(of(&joined), Auto, "{joined:?}");
    }
}

fn inside_another(line: &str, alone: Approval, is_understood: bool) {
    // A line without any command, such as a comment, asks by itself, and does nothing elsewhere.
    if alone == Auto || read(line).commands.is_empty() {
        return;
    }
    // Without the `--` a line that begins with a hyphen is an option.
    let quoted = format!("'{}'", line.replace('\'', r"'\''"));
    let mut others =
        vec![format!("bash -c -- {quoted}"), format!("eval -- {quoted}"), format!("env A=1 bash -c -- {quoted}")];
    if is_understood {
        others.extend([format!("(\n{line}\n)"), format!("echo \"$(\n{line}\n)\""), format!("! {{\n{line}\n}}")]);
    }
    for other in others {
        let verdict = of(&other);
        let may_ask = alone == Ask || read(&other).is_unread();
        assert!(verdict == Deny || (verdict == Ask && may_ask), "{alone:?} alone, but {verdict:?}: {other:?}");
    }
}
