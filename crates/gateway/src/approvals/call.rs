//! A call as people are asked about it, and what identifies it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use stakpak_client::ProposedToolCall;
use utoipa::ToSchema;

use super::policy::own_name;

/// Programs for which the same words need not mean the same deed: what they do is in a file or on another machine.
const ANYTHING: &[&str] = &[
    "ash",
    "awk",
    "bash",
    "bun",
    "chroot",
    "csh",
    "dash",
    "deno",
    "docker",
    "doas",
    "env",
    "eval",
    "exec",
    "fish",
    "gawk",
    "irb",
    "kubectl",
    "ksh",
    "lua",
    "make",
    "nerdctl",
    "node",
    "nodejs",
    "nsenter",
    "osascript",
    "perl",
    "php",
    "pkexec",
    "podman",
    "powershell",
    "psql",
    "pwsh",
    "ruby",
    "runuser",
    "sh",
    "source",
    "ssh",
    "su",
    "sudo",
    "tclsh",
    "watch",
    "xargs",
    "zsh",
    "pypy",
    "ansible",
    "crictl",
    "npx",
    "npm",
    "sqlite3",
    "mysql",
    ".",
];

/// A tool call that somebody is asked about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = ChatApprovalCall)]
pub(crate) struct Call {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) arguments: Value,
}

impl From<ProposedToolCall> for Call {
    fn from(ProposedToolCall { id, name, arguments, .. }: ProposedToolCall) -> Self {
        Self { id, name, arguments }
    }
}

impl Call {
    /// The same for the same tool with the same arguments in the same directory, whatever the order of keys.
    pub(crate) fn fingerprint(&self, cwd: Option<&str>) -> String {
        let mut digest = Sha256::new();
        for part in [&self.name, &sorted(&self.arguments).to_string(), cwd.unwrap_or_default()] {
            digest.update(part.len().to_le_bytes());
            digest.update(part);
        }
        digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Everything the tool will be given, in a fixed order.
    pub(super) fn canonical(&self) -> String {
        let sorted = sorted(&self.arguments);
        serde_json::to_string_pretty(&sorted).unwrap_or_else(|_| sorted.to_string())
    }

    /// What matters most of the arguments, for a reader.
    pub(super) fn preview(&self) -> Option<String> {
        let text = |key: &str| self.arguments.get(key).and_then(Value::as_str);
        if let Some(command) = text("command") {
            return Some(command.to_owned());
        }
        let path = text("path").or_else(|| text("file_path"))?;
        let lines = |sign: char, text: &str| text.lines().map(|line| format!("{sign} {line}\n")).collect::<String>();
        let removed = text("old_str").map(|text| lines('-', text)).unwrap_or_default();
        let added = text("new_str").or_else(|| text("file_text")).or_else(|| text("content"));
        let added = added.map(|text| lines('+', text)).unwrap_or_default();
        Some(format!("{path}\n{removed}{added}").trim_end().to_owned())
    }

    /// The tool for people: of a name that a model may have made up, only what cannot be markup.
    pub(super) fn tool(&self) -> String {
        let plain = |character: char| character.is_ascii_alphanumeric() || "_-.:".contains(character);
        own_name(&self.name).chars().take(80).map(|c| if plain(c) { c } else { '?' }).collect()
    }

    /// Whether it may be allowed once for all repetitions in its session.
    pub(crate) fn may_be_remembered(&self) -> bool {
        if !own_name(&self.name).starts_with("run_") {
            return true;
        }
        let Some(command) = self.arguments.get("command").and_then(Value::as_str) else { return false };
        let words = command.split(|c: char| c.is_whitespace() || "|&;()<>`$\"'\\{}=".contains(c));
        !words.filter(|word| !word.is_empty()).any(|word| {
            let program = word.rsplit('/').next().unwrap_or(word).to_ascii_lowercase();
            ANYTHING.contains(&program.as_str()) || program.starts_with("python") || word.starts_with("./")
        })
    }
}

/// Approval of several calls at once: their fingerprints as one.
pub(crate) fn args_hash(calls: &[Call], cwd: Option<&str>) -> String {
    let mut digest = Sha256::new();
    for call in calls {
        digest.update(&call.id);
        digest.update([0]);
        digest.update(call.fingerprint(cwd));
    }
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| key.as_str());
            Value::Object(entries.into_iter().map(|(key, value)| (key.clone(), sorted(value))).collect::<Map<_, _>>())
        }
        Value::Array(values) => Value::Array(values.iter().map(sorted).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn call(name: &str, arguments: Value) -> Call {
        Call { id: "c".to_owned(), name: name.to_owned(), arguments }
    }

    fn command(command: &str) -> Call {
        call("stakpak__run_command", json!({ "command": command }))
    }

    #[test]
    fn a_fingerprint_is_of_tool_arguments_and_directory_and_not_of_the_order_of_keys() {
        let one: Value = serde_json::from_str(r#"{"a":{"x":1,"y":[2]},"b":"c"}"#).unwrap();
        let two: Value = serde_json::from_str(r#"{"b":"c","a":{"y":[2],"x":1}}"#).unwrap();
        let known = call("t", one.clone()).fingerprint(Some("/srv"));
        assert_eq!(known, call("t", two).fingerprint(Some("/srv")));
        assert_ne!(known, call("u", one.clone()).fingerprint(Some("/srv")));
        assert_ne!(known, call("t", one).fingerprint(None));
        assert_ne!(known, call("t", json!({})).fingerprint(Some("/srv")));
    }

    #[test]
    fn what_can_do_anything_is_not_remembered() {
        for anything in ["sudo ls", "ls | sh", "/usr/bin/python3.12 x.py", "kubectl exec p -- ls", "a=$(bash x)", "./x"]
        {
            assert!(!command(anything).may_be_remembered(), "{anything}");
        }
        assert!(command("systemctl restart nginx").may_be_remembered());
        assert!(call("stakpak__create", json!({"path": "x"})).may_be_remembered());
        assert!(!call("run_remote_command", json!({})).may_be_remembered());
    }

    #[test]
    fn a_preview_shows_command_path_and_change() {
        assert_eq!(command("ls\n-l").preview().unwrap(), "ls\n-l");
        let edit = call("str_replace", json!({"path": "/a", "old_str": "x\ny", "new_str": "z"}));
        assert_eq!(edit.preview().unwrap(), "/a\n- x\n- y\n+ z");
        assert_eq!(call("t", json!({"n": 1})).preview(), None);
        assert_eq!(call("stakpak__a*b`c", json!({})).tool(), "a?b?c");
    }
}
