//! What people read before and after they decide. What is shown is what runs.
//!
//! Arguments stand in fences that nothing in them can close, with every invisible character named. A prompt is one
//! message: what it has no room for is a file, and the prompt says so.

use std::fmt::Write;

use super::Call;
use crate::{
    Body,
    render::{fence_for, literal},
    store::{Approval, Decision},
};

/// Markdown to messages of a platform, without secrets.
pub(super) type Compose<'a> = &'a dyn Fn(&str) -> Vec<Body>;

/// A prompt.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) body: Body,
    /// Everything, if the body does not hold it.
    pub(super) file: Option<String>,
}

/// How much of each call a message holds.
#[derive(Debug, Clone, Copy)]
enum Detail {
    /// A preview and all arguments.
    Everything,
    /// All arguments.
    Arguments,
    /// The beginning of the preview, in characters.
    Beginning(usize),
    /// Only which tools.
    Names,
}

/// `head` says who asks and until when.
pub(super) fn prompt(approval: &Approval, head: &str, compose: Compose<'_>) -> Shown {
    for detail in [Detail::Everything, Detail::Arguments] {
        if let Some(body) = one(compose, &format!("{head}\n\n{}", calls(&approval.calls, detail))) {
            return Shown { body, file: None };
        }
    }
    let head = format!("{head}\n\nThis is not all: the file above holds the full text.");
    Shown { body: shortened(approval, &head, compose), file: Some(everything(approval)) }
}

/// The same message once calls are decided.
pub(super) fn outcome(approval: &Approval, compose: Compose<'_>) -> Body {
    shortened(approval, &result(approval), compose)
}

/// The message when it is void.
pub(super) fn void(approval: &Approval, why: &str, compose: Compose<'_>) -> Body {
    shortened(approval, why, compose)
}

/// All there is to know about the calls, as a plain text.
pub(super) fn everything(approval: &Approval) -> String {
    let mut text = format!("Approval {}\nRun {}\n", approval.id, approval.run_id);
    if let Some(cwd) = &approval.cwd {
        let _ = writeln!(text, "Working directory: {}", literal(cwd));
    }
    for (at, call) in approval.calls.iter().enumerate() {
        let _ = write!(text, "\n{}. {}\n", at + 1, call.tool());
        if let Some(preview) = call.preview() {
            let _ = write!(text, "\n{}\n", literal(&preview));
        }
        let _ = write!(text, "\nArguments:\n{}\n", literal(&call.canonical()));
    }
    text
}

/// The same for a chat.
pub(super) fn everything_as_markdown(approval: &Approval) -> String {
    let text = everything(approval);
    let fence = fence_for(&text);
    format!("{fence}\n{text}{fence}")
}

/// Names and the tools of an approval in one line.
pub(super) fn tools(approval: &Approval) -> String {
    let mut counts: Vec<(String, usize)> = Vec::new();
    for call in &approval.calls {
        let tool = call.tool();
        match counts.iter().position(|(name, _)| *name == tool) {
            Some(at) => counts[at].1 += 1,
            None => counts.push((tool, 1)),
        }
    }
    let counts =
        counts.into_iter().take(10).map(|(tool, count)| if count == 1 { tool } else { format!("{tool} ({count})") });
    counts.collect::<Vec<_>>().join(", ")
}

/// A name that people chose, without markup.
pub(super) fn plain(name: &str) -> String {
    literal(name).chars().filter(|character| !"*_`[]<>~|\\#\n".contains(*character)).take(64).collect()
}

fn shortened(approval: &Approval, head: &str, compose: Compose<'_>) -> Body {
    let details = [Detail::Beginning(400), Detail::Beginning(60), Detail::Names];
    let texts = details.into_iter().map(|detail| match detail {
        Detail::Names => format!("{head}\n\n{} calls: {}", approval.calls.len(), tools(approval)),
        detail => format!("{head}\n\n{}", calls(&approval.calls, detail)),
    });
    texts.filter_map(|text| one(compose, &text)).next().unwrap_or_else(|| {
        let line = head.lines().next().unwrap_or_default();
        Body::plain(line.chars().take(500).collect::<String>())
    })
}

fn one(compose: Compose<'_>, markdown: &str) -> Option<Body> {
    let mut bodies = compose(markdown);
    if bodies.len() == 1 { bodies.pop() } else { None }
}

fn calls(calls: &[Call], detail: Detail) -> String {
    let blocks: Vec<_> = calls.iter().enumerate().map(|(at, call)| block(at + 1, call, detail)).collect();
    blocks.join("\n\n")
}

fn block(number: usize, call: &Call, detail: Detail) -> String {
    let mut text = format!("**{number}. {}**", call.tool());
    let preview = call.preview();
    match detail {
        Detail::Everything => {
            if let Some(preview) = preview {
                let _ = write!(text, "\n\n{}", fenced(&preview));
            }
            let _ = write!(text, "\n\nArguments:\n\n{}", fenced(&call.canonical()));
        }
        Detail::Arguments => {
            let _ = write!(text, "\n\n{}", fenced(&call.canonical()));
        }
        Detail::Beginning(most) => {
            let whole = preview.unwrap_or_else(|| call.canonical());
            let beginning: String = whole.chars().take(most).collect();
            let more = if beginning.len() < whole.len() { " …" } else { "" };
            let _ = write!(text, "\n\n{}", fenced(&format!("{beginning}{more}")));
        }
        Detail::Names => {}
    }
    text
}

fn fenced(text: &str) -> String {
    let text = literal(text);
    let fence = fence_for(&text);
    format!("{fence}\n{text}\n{fence}")
}

fn result(approval: &Approval) -> String {
    let decisions: Vec<_> = approval.calls.iter().filter_map(|call| approval.decisions.get(&call.id)).collect();
    let same = decisions.windows(2).all(|pair| pair[0].allow == pair[1].allow && pair[0].by == pair[1].by);
    let all = decisions.len() == approval.calls.len();
    let first_outcome = approval.outcomes.values().next();
    let plainly = approval.outcomes.values().all(|outcome| Some(outcome) == first_outcome);
    if let (true, true, true, Some(first)) = (same, all, plainly, decisions.first()) {
        return format!(
            "{}{}",
            capital(&said(first)),
            first_outcome.map(|outcome| remark(outcome)).unwrap_or_default()
        );
    }
    let mut text = if all { "Decided:".to_owned() } else { "Not all is decided yet:".to_owned() };
    for (at, call) in approval.calls.iter().enumerate() {
        let said = approval.decisions.get(&call.id).map_or_else(|| "open".to_owned(), said);
        let remark = approval.outcomes.get(&call.id).map(|outcome| remark(outcome)).unwrap_or_default();
        let _ = write!(text, "\n\n{}. {}: {said}{remark}", at + 1, call.tool());
    }
    text
}

fn said(decision: &Decision) -> String {
    let verb = if decision.allow { "allowed" } else { "denied" };
    let reason = decision.reason.as_deref().map(|reason| format!(" ({})", plain(reason))).unwrap_or_default();
    format!("{verb} by {}{reason}", plain(&decision.by))
}

/// What the server made of it, if that is worth a word.
fn remark(outcome: &str) -> &'static str {
    match outcome {
        "applied" => ".",
        "duplicate" => "; it was so already.",
        "too_late" => "; too late, it was decided or had run before.",
        "denied" => "; refused by the policy of the server.",
        "run_over" => "; too late, the run is over.",
        _ => "; the call is not known any more.",
    }
}

fn capital(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map(|first| first.to_uppercase().chain(characters).collect()).unwrap_or_default()
}
