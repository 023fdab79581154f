//! What becomes of a call that asks: a flag says it, the person at the terminal, or nobody can.

use std::io::{BufRead, IsTerminal, Write};

use anyhow::Result;
use stakpak_client::{ProposedToolCall, ToolDecisionAction, ToolDecisionInput};
use stakpak_tools::Questions;

use super::questions;
use crate::args::ApprovalArgs;

/// The tool whose calls are questions.
const QUESTION: &str = "stakpak__ask_user";

/// Who answers when a call asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answers {
    /// The person at the terminal.
    Person,
    /// A flag: everything is approved.
    ApproveAll,
    /// A flag: nothing is approved.
    RejectAll,
    /// Nobody now: the run waits, and somebody goes on with it later.
    Later,
    /// Nobody: there is no terminal.
    Nobody,
}

impl Answers {
    pub(crate) fn new(args: &ApprovalArgs) -> Self {
        match args {
            ApprovalArgs { approve_all: true, .. } => Self::ApproveAll,
            ApprovalArgs { reject_all: true, .. } => Self::RejectAll,
            ApprovalArgs { pause_on_approval: true, .. } => Self::Later,
            _ => Self::of_terminal(),
        }
    }

    pub(crate) fn of_terminal() -> Self {
        if std::io::stdin().is_terminal() { Self::Person } else { Self::Nobody }
    }

    /// The decision about one call; none when it is left to later. Blocks on the terminal.
    pub(crate) fn decide(self, call: &ProposedToolCall) -> Result<Option<ToolDecisionInput>> {
        Ok(Some(match self {
            Self::ApproveAll => accept(),
            Self::RejectAll => reject(Some("rejected by --reject-all")),
            Self::Nobody => reject(Some(
                "nobody can be asked: there is no terminal; allow it with --approve-all, with --tool or in the profile, or \
                 use --pause-on-approval",
            )),
            Self::Person => match questions_of(call) {
                Some(asked) => answered(&asked)?,
                None => ask_person(call)?,
            },
            Self::Later => return Ok(None),
        }))
    }
}

/// What the flags say about a call that waited when the command was given: what they do not name is rejected.
pub(super) fn by_flags(args: &ApprovalArgs, call: &ProposedToolCall) -> ToolDecisionInput {
    if args.approve.contains(&call.id) {
        accept()
    } else if args.reject.contains(&call.id) {
        reject(Some("rejected by --reject"))
    } else if args.approve_all {
        accept()
    } else {
        reject(Some("not among the calls that were approved"))
    }
}

fn accept() -> ToolDecisionInput {
    ToolDecisionInput { action: ToolDecisionAction::Accept, content: None }
}

fn reject(reason: Option<&str>) -> ToolDecisionInput {
    ToolDecisionInput { action: ToolDecisionAction::Reject, content: reason.map(str::to_owned) }
}

/// What the agent wants to know, where that is what the call is for.
fn questions_of(call: &ProposedToolCall) -> Option<Questions> {
    (call.name == QUESTION).then(|| serde_json::from_value(call.arguments.clone()).ok()).flatten()
}

fn answered(asked: &Questions) -> Result<ToolDecisionInput> {
    let answers = questions::ask(asked, &mut std::io::stdin().lock(), &mut std::io::stderr())?;
    Ok(ToolDecisionInput { action: ToolDecisionAction::CustomResult, content: Some(answers.as_result()) })
}

fn ask_person(call: &ProposedToolCall) -> Result<ToolDecisionInput> {
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
            return Ok(reject(Some("no answer at the terminal")));
        }
        match answer.trim().to_ascii_lowercase().as_str() {
            "y" | "yes" => return Ok(accept()),
            "" | "n" | "no" => return Ok(reject(None)),
            _ => eprintln!("Please answer y or n."),
        }
    }
}

/// The full arguments, control characters made visible: what is shown is what runs.
pub(super) fn shown(call: &ProposedToolCall) -> String {
    let text = match call.arguments.get("command").and_then(serde_json::Value::as_str) {
        Some(command) if call.arguments.as_object().is_some_and(|arguments| arguments.len() == 1) => command.to_owned(),
        _ => call.arguments.to_string(),
    };
    visible(&text)
}

/// Control characters made visible.
pub(super) fn visible(text: &str) -> String {
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
