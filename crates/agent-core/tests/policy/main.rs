//! What policy says of calls, by tables.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::too_many_lines, missing_docs)]

mod forms;
mod oracle;
mod vectors;

use std::{collections::BTreeMap, path::Path};

use serde_json::{Value, json};
use stakpak_agent_core::{Policy, Subject, Verdict, full_name};
use stakpak_protocol::Approval::{self, Ask, Auto, Deny};

/// A policy by rules. Keys that name no scope are programs of `run_command`.
pub(crate) fn commands(rules: &[(&str, Approval)], default: Approval) -> Policy {
    let scoped = |key: &str| {
        let is_scope = key.split("::").next().is_some_and(|scope| scope.starts_with("run_"));
        full_name(&if is_scope { key.to_owned() } else { format!("run_command::{key}") })
    };
    let rules = rules.iter().map(|(key, action)| (scoped(key), *action)).collect();
    Policy::Custom { rules, read_only_commands: false, default, server: BTreeMap::new() }
}

pub(crate) fn judge(policy: &Policy, tool: &str, arguments: &Value) -> Verdict {
    let cwd = Path::new("/work");
    let path = arguments["path"].as_str().map(|path| cwd.join(path));
    policy.judge(&Subject { tool, arguments, path: path.as_deref(), cwd: Some(cwd) })
}

pub(crate) fn of_line(policy: &Policy, command: &str) -> Approval {
    judge(policy, "stakpak__run_command", &json!({ "command": command })).approval
}

pub(crate) fn of_task(policy: &Policy, command: &str) -> Approval {
    judge(policy, "stakpak__run_command_task", &json!({ "command": command })).approval
}

/// The rules that most rows of the table are about.
pub(crate) fn usual() -> Policy {
    let approved = ["git", "echo", "cat", "find", "env", "bash"].map(|program| (program, Auto));
    let denied = [("rm", Deny), ("git::push", Deny)];
    commands(&approved.into_iter().chain(denied).collect::<Vec<_>>(), Ask)
}
