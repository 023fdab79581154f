//! The history: well formed, and the same story as the events.

use serde_json::Value;
use stakpak_protocol::{Event, Message, MessagePart, Role, ToolCallId};

use super::{Findings, Kind};
use crate::ledger::Ledger;

pub(super) fn check(ledger: &Ledger, findings: &mut Findings) {
    let history = &ledger.history;
    if ledger.runs().is_empty() {
        return;
    }
    let first = history.first().map(|message| message.role);
    findings.require(first == Some(Role::System), Kind::HistoryBroken, format!("it begins with {first:?}"));
    check_results(history, findings);
    let told: Vec<&str> = events(ledger).filter_map(text_of).collect();
    let answers = history.iter().filter(|message| message.role == Role::Assistant).map(Message::text);
    let recorded: Vec<String> = answers.filter(|text| !text.is_empty()).collect();
    findings.require(told == recorded, Kind::HistoryBroken, format!("texts {recorded:?}, told as {told:?}"));
    for event in events(ledger) {
        if let Event::ToolExecutionCompleted { tool_call_id, result, .. } = event {
            let recorded = result_of(history, tool_call_id);
            let what = format!("the result of call {tool_call_id} is {recorded:?}, told as {result}");
            findings.require(recorded == Some(result), Kind::HistoryBroken, what);
        }
    }
}

/// The results of an answer's calls follow it, each once, in declared order.
fn check_results(history: &[Message], findings: &mut Findings) {
    let mut owed: Vec<&ToolCallId> = Vec::new();
    for (index, message) in history.iter().enumerate() {
        for part in message.parts() {
            if let MessagePart::ToolResult { tool_call_id, .. } = part {
                let next = (!owed.is_empty()).then(|| owed.remove(0));
                let what = format!("message {index} answers call {tool_call_id}, not {next:?}");
                findings.require(next == Some(tool_call_id), Kind::HistoryBroken, what);
            }
        }
        if message.role != Role::Tool {
            findings.require(owed.is_empty(), Kind::HistoryBroken, format!("calls {owed:?} have no result"));
            owed = message.parts().iter().filter_map(call_of).collect();
        }
    }
    findings.require(owed.is_empty(), Kind::HistoryBroken, format!("calls {owed:?} have no result"));
}

fn events(ledger: &Ledger) -> impl Iterator<Item = &Event> {
    ledger.replay.iter().map(|frame| &frame.envelope().event)
}

fn text_of(event: &Event) -> Option<&str> {
    match event {
        Event::TextComplete { text, .. } => Some(text),
        _ => None,
    }
}

fn call_of(part: &MessagePart) -> Option<&ToolCallId> {
    match part {
        MessagePart::ToolCall { id, .. } => Some(id),
        _ => None,
    }
}

fn result_of<'a>(history: &'a [Message], call: &ToolCallId) -> Option<&'a Value> {
    history.iter().flat_map(Message::parts).find_map(|part| match part {
        MessagePart::ToolResult { tool_call_id, content, .. } if tool_call_id == call => Some(content),
        _ => None,
    })
}
