//! A run that waits for somebody: why, how to go on, and the file that tells scripts both.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::{Value, json};
use stakpak_client::{ProposedToolCall, Session};
use stakpak_config::{private_dir, write_private};

use crate::args::{Global, RunArgs};

/// As scripts read it.
pub(super) fn pause_reason(calls: &[ProposedToolCall]) -> Value {
    let calls = calls.iter().map(|call| json!({ "arguments": call.arguments, "id": call.id, "name": call.name }));
    json!({ "pending_tool_calls": calls.collect::<Vec<_>>(), "type": "tool_approval_required" })
}

/// The command that approves what waits. It works when pasted, so what a shell would read is quoted.
pub(super) fn resume_hint(global: &Global, args: &RunArgs, session: &Session, calls: &[ProposedToolCall]) -> String {
    let mut words = vec!["stakpak".to_owned()];
    let mut flag = |name: &str, value: String| words.extend([name.to_owned(), value]);
    if global.profile != "default" {
        flag("--profile", global.profile.clone());
    }
    for (name, path) in [("--home", &global.home), ("--config", &global.config)] {
        if let Some(path) = path {
            flag(name, std::path::absolute(path).as_deref().unwrap_or(path).display().to_string());
        }
    }
    words.extend(["run".to_owned(), "--session".to_owned(), session.id.to_string()]);
    if args.approval.pause_on_approval {
        words.push("--pause-on-approval".to_owned());
    }
    for call in calls {
        words.extend(["--approve".to_owned(), call.id.clone()]);
    }
    // Nothing a call is named can hold a zero byte and still be an argument.
    shlex::try_join(words.iter().map(String::as_str)).unwrap_or_else(|_| words.join(" ").replace('\0', ""))
}

/// `.stakpak/session/pause.json` of the session's directory.
pub(super) struct PauseFile {
    path: PathBuf,
    session: String,
}

impl PauseFile {
    pub(super) fn of(session: &Session, workdir: &str) -> Self {
        let directory = Path::new(session.cwd.as_deref().unwrap_or(workdir));
        Self { path: directory.join(".stakpak/session/pause.json"), session: session.id.to_string() }
    }

    pub(super) fn write(&self, manifest: &Value) -> Result<()> {
        if let Some(directory) = self.path.parent() {
            private_dir(directory)?;
        }
        Ok(write_private(&self.path, format!("{manifest:#}\n").as_bytes())?)
    }

    /// Removes it, unless it tells of another session by now.
    pub(super) fn remove(&self) {
        let of_session = || serde_json::from_slice::<Value>(&std::fs::read(&self.path).ok()?).ok();
        if of_session().is_some_and(|manifest| manifest["session_id"] == self.session.as_str())
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            eprintln!("· {} is not removed: {error}", self.path.display());
        }
    }
}
