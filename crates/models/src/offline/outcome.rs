//! Words the results of the calls just made: what was not done is said first and plainly, output goes in a fence.

use serde_json::Value;
use stakpak_protocol::{Message, MessagePart, Role, ToolCallId};

use super::reading;

const MAX_LINES: usize = 40;
const MAX_CHARS: usize = 3_000;

/// One paragraph a call of the last assistant message, in its order.
pub(super) fn report(messages: &[Message]) -> String {
    let asked = messages.iter().rposition(|message| message.role == Role::Assistant);
    let (calls, results) = match asked {
        Some(at) => (messages[at].parts(), &messages[at + 1..]),
        None => (&[][..], messages),
    };
    let result = |wanted: &ToolCallId| {
        results.iter().flat_map(Message::parts).find_map(|part| match part {
            MessagePart::ToolResult { tool_call_id, content, is_error, .. } if tool_call_id == wanted => {
                Some((content, *is_error))
            }
            _ => None,
        })
    };
    let paragraphs = calls.iter().filter_map(|part| match part {
        MessagePart::ToolCall { id, name, arguments, .. } => Some(paragraph(&subject(name, arguments), result(id))),
        _ => None,
    });
    paragraphs.collect::<Vec<_>>().join("\n\n")
}

/// What was called, as a person would write it.
fn subject(name: &str, arguments: &Value) -> String {
    let argument = ["command", "path"].into_iter().find_map(|key| arguments.get(key)?.as_str());
    argument.unwrap_or(name).to_owned()
}

fn paragraph(subject: &str, result: Option<(&Value, bool)>) -> String {
    let Some((content, is_error)) = result else { return format!("`{subject}`: no result came back.") };
    if let Some(reason) = content.get("skipped") {
        return format!("`{subject}` was **not done**: {}.", plain(reason).trim_end_matches('.'));
    }
    let text = plain(content);
    if let Some(who) = text.strip_prefix("Tool call rejected") {
        return format!("`{subject}` was **not done**: the call was rejected{}.", who.trim_end_matches('.'));
    }
    if is_error { failure(subject, &text) } else { success(subject, &text) }
}

fn success(subject: &str, output: &str) -> String {
    if matches!(output.trim(), "" | "No output" | "<empty tool result>") {
        return format!("`{subject}` is done. It printed nothing.");
    }
    match reading::of(subject, output) {
        Some(line) => format!("{line}\n\n{}", fenced(output)),
        None => format!("`{subject}` is done:\n\n{}", fenced(output)),
    }
}

fn failure(subject: &str, text: &str) -> String {
    let (code, details) = text.split_once('\n').unwrap_or((text, ""));
    match code {
        "TOOL_CALL_CANCELLED" => format!("`{subject}` was cancelled before it was done."),
        "OUTCOME_UNKNOWN" => format!(
            "It is **not known** whether `{subject}` was done, and I did not run it again. Please check.\n\n{}",
            fenced(details)
        ),
        "COMMAND_FAILED" => {
            let output = details.trim_end();
            let last = output.lines().next_back().unwrap_or_default();
            format!("`{subject}` **failed**: {last}.\n\n{}", fenced(output))
        }
        _ => format!("`{subject}` **failed**.\n\n{}", fenced(text)),
    }
}

fn plain(content: &Value) -> String {
    content.as_str().map_or_else(|| content.to_string(), str::to_owned)
}

/// The text as a code block, cut to what a chat can show. The fence is longer than any in the text.
fn fenced(text: &str) -> String {
    let all: Vec<&str> = text.trim_matches('\n').lines().collect();
    let kept = all[..all.len().min(MAX_LINES)].join("\n");
    let shown: String = kept.chars().take(MAX_CHARS).collect();
    let fence = "`".repeat(longest_run_of_backticks(&shown).max(2) + 1);
    let whole = all.len() <= MAX_LINES && shown.len() == kept.len();
    let cut = if whole { String::new() } else { format!("\n(cut; {} lines in all)", all.len()) };
    format!("{fence}\n{shown}\n{fence}{cut}")
}

fn longest_run_of_backticks(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or_default()
}
