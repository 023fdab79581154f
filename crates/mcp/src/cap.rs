//! A result that is too long: its two ends for the model, the whole in a file that `view` can read.

use std::{
    fs::DirBuilder,
    io::{self, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use stakpak_protocol::ToolCallId;

const MAX_LINES: usize = 300;
const MAX_BYTES: usize = 64 * 1024;
const HEAD: Limits = Limits { lines: 50, bytes: 16 * 1024 };
const TAIL: Limits = Limits { lines: 250, bytes: 48 * 1024 };

struct Limits {
    lines: usize,
    bytes: usize,
}

/// The text as the model gets it. Blocks when it is too long.
pub(crate) fn capped(text: String, directory: &Path, tool: &str, call: &ToolCallId) -> String {
    let lines = text.lines().count();
    if text.len() <= MAX_BYTES && lines <= MAX_LINES {
        return text;
    }
    let whereabouts = match keep(&text, directory, tool, call) {
        Ok(path) => format!("All of it: {} (use view with view_range or grep)", path.display()),
        Err(error) => format!("The whole could not be kept ({error}); ask for less"),
    };
    let (head, tail) = (head(&text), tail(&text));
    let (first, last) = (head.lines().count(), tail.lines().count());
    let left_out = text.len().saturating_sub(head.len() + tail.len());
    let gap = if head.ends_with('\n') { "" } else { "\n" };
    format!(
        "[{lines} lines, {} bytes of output: the first {first} and the last {last} lines follow. {whereabouts}]\n\
         {head}{gap}[... {left_out} bytes left out ...]\n{tail}",
        text.len()
    )
}

fn head(text: &str) -> &str {
    let by_lines = text.match_indices('\n').nth(HEAD.lines - 1).map_or(text.len(), |(at, _)| at + 1);
    &text[..text.floor_char_boundary(by_lines.min(HEAD.bytes))]
}

fn tail(text: &str) -> &str {
    let body = text.strip_suffix('\n').unwrap_or(text);
    let by_lines = body.rmatch_indices('\n').nth(TAIL.lines - 1).map_or(0, |(at, _)| at + 1);
    &text[text.ceil_char_boundary(by_lines.max(text.len().saturating_sub(TAIL.bytes)))..]
}

fn keep(text: &str, directory: &Path, tool: &str, call: &ToolCallId) -> io::Result<PathBuf> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    // A provider may have made up the id: only what is harmless in a file name, and a random part that makes it one of a kind.
    let id: String =
        call.as_str().chars().filter(|c| c.is_ascii_alphanumeric() || "_-".contains(*c)).take(64).collect();
    let tool = tool.replacen("__", ".", 1);
    let mut file =
        tempfile::Builder::new().prefix(&format!("tool-output.{tool}.{id}.")).suffix(".txt").tempfile_in(directory)?;
    file.write_all(text.as_bytes())?;
    Ok(file.keep()?.1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_whole_of_a_long_result_is_kept_and_its_ends_are_shown() {
        let directory = tempfile::tempdir().unwrap();
        let sessions = directory.path().join("session");
        let call = ToolCallId::from("../call/1");
        assert_eq!(capped("short".into(), &sessions, "git__log", &call), "short");
        let text: String = (1..=1000).map(|line| format!("line {line}\n")).collect();
        let shown = capped(text.clone(), &sessions, "git__log", &call);
        assert!(shown.starts_with("[1000 lines, "), "{shown}");
        assert!(shown.contains("\nline 50\n[... ") && shown.contains("left out ...]\nline 751\n"), "{shown}");
        let file = std::fs::read_dir(&sessions).unwrap().next().unwrap().unwrap();
        assert!(file.file_name().to_string_lossy().starts_with("tool-output.git.log.call1."));
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), text);
        let long = "é".repeat(40_000);
        let shown = capped(long, &sessions, "git__log", &call);
        assert!(shown.len() < MAX_BYTES + 1024);
    }
}
