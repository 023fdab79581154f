//! Asking the person at the terminal about tool calls.

use std::io::{BufRead, IsTerminal, Write};

use anyhow::Result;
use stakpak_client::{ProposedToolCall, ToolDecisionAction, ToolDecisionInput};

/// Who answers when a call asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answers {
    /// The person at the terminal.
    Person,
    /// A flag: everything is approved.
    ApproveAll,
    /// A flag: nothing is approved.
    RejectAll,
    /// Nobody: there is no terminal.
    Nobody,
}

impl Answers {
    pub(crate) fn new(approve_all: bool, reject_all: bool) -> Self {
        match (approve_all, reject_all) {
            (true, _) => Self::ApproveAll,
            (_, true) => Self::RejectAll,
            _ if std::io::stdin().is_terminal() => Self::Person,
            _ => Self::Nobody,
        }
    }

    /// The decision about one call. Blocks on the terminal.
    pub(crate) fn decide(self, call: &ProposedToolCall) -> Result<ToolDecisionInput> {
        let (action, content) = match self {
            Self::ApproveAll => (ToolDecisionAction::Accept, None),
            Self::RejectAll => (ToolDecisionAction::Reject, Some("rejected by --reject-all".to_owned())),
            Self::Nobody => {
                let reason = "nobody can be asked: there is no terminal; allow it with --approve-all or in the profile";
                (ToolDecisionAction::Reject, Some(reason.to_owned()))
            }
            Self::Person => ask_person(call)?,
        };
        Ok(ToolDecisionInput { action, content })
    }
}

fn ask_person(call: &ProposedToolCall) -> Result<(ToolDecisionAction, Option<String>)> {
    eprintln!("\nThe agent wants to run {}:", call.name);
    eprintln!("  {}", shown(call));
    if let Some(reason) = &call.approval_reason {
        eprintln!("  ({reason})");
    }
    loop {
        eprint!("Allow it? [y/N] ");
        std::io::stderr().flush()?;
        let mut answer = String::new();
        if std::io::stdin().lock().read_line(&mut answer)? == 0 {
            return Ok((ToolDecisionAction::Reject, Some("no answer at the terminal".to_owned())));
        }
        match answer.trim().to_ascii_lowercase().as_str() {
            "y" | "yes" => return Ok((ToolDecisionAction::Accept, None)),
            "" | "n" | "no" => return Ok((ToolDecisionAction::Reject, None)),
            _ => eprintln!("Please answer y or n."),
        }
    }
}

/// The full arguments, control characters made visible: what is shown is what runs.
fn shown(call: &ProposedToolCall) -> String {
    let text = match call.arguments.get("command").and_then(serde_json::Value::as_str) {
        Some(command) if call.arguments.as_object().is_some_and(|arguments| arguments.len() == 1) => command.to_owned(),
        _ => call.arguments.to_string(),
    };
    let visible = |character: char| character == '\n' || !(character.is_control() || is_bidi(character));
    text.chars()
        .map(
            |character| if visible(character) { character.to_string() } else { character.escape_unicode().to_string() },
        )
        .collect::<String>()
        .replace('\n', "\n  ")
}

/// Characters that change the order in which others are shown.
fn is_bidi(character: char) -> bool {
    matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
