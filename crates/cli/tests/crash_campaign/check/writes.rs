//! What clients sent (G1, G3, G8): accepted is done once and for all, refused is not done, a repeat gets the same answer.

use std::collections::BTreeMap;

use stakpak_protocol::{
    DecisionOutcome, Event, EventEnvelope, Message, Role, RunId, StopReason, ToolCallId, ToolDecisionAction,
};

use super::{Findings, Kind};
use crate::ledger::{Answer, Ledger, What, Write};

pub(super) fn check(ledger: &Ledger, findings: &mut Findings) {
    for write in &ledger.writes {
        check_answers(ledger, write, findings);
        match &write.what {
            What::Session => {}
            What::Message(label) => check_message(ledger, write, label, findings),
            What::Command(text) => check_command(ledger, write, text, findings),
            What::Decision(decisions) => check_decision(ledger, write, decisions, findings),
            What::Cancel(run) => check_cancel(ledger, write, *run, findings),
            // What the session is now tells; see `changes`.
            What::Title(_) | What::Model(_) | What::Deletion => {}
        }
    }
}

fn check_answers(ledger: &Ledger, write: &Write, findings: &mut Findings) {
    let key = &write.key;
    let Some(first) = write.first() else { return };
    let refusal = first.json()["code"].as_str() == Some("session_not_running");
    let expected = match &write.what {
        What::Session => first.status == 201,
        What::Message(_) | What::Title(_) => first.status == 200,
        What::Deletion => first.status == 204,
        What::Command(_) | What::Cancel(_) | What::Model(_) => first.status == 200 || refusal,
        What::Decision(_) => first.status == 200 || (refusal && run_failed(ledger, write)),
    };
    findings.require(expected, Kind::AnswerUnexpected, format!("{key}: {} {}", first.status, first.body));
    for again in &write.answers[1..] {
        let same = again.status == first.status && again.body == first.body;
        let (was, is) = (&first.body, &again.body);
        // The body of a refusal names the request.
        findings.require(
            same || !first.is_success() && again.status == first.status,
            Kind::AnswerChanged,
            format!("{key}: first {} {was}, then {} {is}", first.status, again.status),
        );
    }
    let originals = write.answers.iter().filter(|answer| answer.is_success() && !answer.replayed).count();
    let told = format!("{key}: {originals} of {} answers are no replays", write.answers.len());
    findings.require(originals <= 1, Kind::AnswerChanged, told);
}

fn run_failed(ledger: &Ledger, write: &Write) -> bool {
    let run = write.body["run_id"].as_str().and_then(|run| run.parse().ok());
    matches!(run.and_then(|run| end_of(ledger, run)), Some(Event::RunError { .. }))
}

fn check_message(ledger: &Ledger, write: &Write, label: &str, findings: &mut Findings) {
    let Some(plan) = ledger.plans.iter().find(|plan| plan.run == label) else { return };
    let copies = copies_in_history(ledger, &plan.message());
    let Some(answer) = write.accepted() else {
        return findings.require(copies == 0, Kind::RefusedYetDone, format!("the message of {label}"));
    };
    findings.require(copies > 0, Kind::MessageLost, format!("the message of {label} is not in the history"));
    findings.require(copies < 2, Kind::MessageRepeated, format!("the message of {label} is there {copies} times"));
    let cursor = answer.json()["cursor"].as_u64();
    let next = ledger.replay.iter().find(|frame| Some(frame.id()) > cursor).map(|frame| &frame.envelope().event);
    let begins = matches!(next, Some(Event::RunStarted { run_id }) if Some(*run_id) == answer.run_id());
    findings.require(begins, Kind::OrderBroken, format!("after the cursor {cursor:?} of {label} comes {next:?}"));
}

fn check_command(ledger: &Ledger, write: &Write, text: &str, findings: &mut Findings) {
    let copies = copies_in_history(ledger, text) + copies_unconsumed(ledger, text);
    if write.accepted().is_some() {
        findings.require(copies > 0, Kind::CommandLost, text);
        findings.require(copies < 2, Kind::MessageRepeated, format!("{text:?} is there {copies} times"));
    } else {
        findings.require(copies == 0, Kind::RefusedYetDone, text);
    }
}

fn check_decision(
    ledger: &Ledger,
    write: &Write,
    decisions: &BTreeMap<ToolCallId, ToolDecisionAction>,
    findings: &mut Findings,
) {
    let Some(answer) = write.accepted() else { return };
    for (id, action) in decisions {
        let outcome: Option<DecisionOutcome> = serde_json::from_value(answer.json()["results"][&id.0].clone()).ok();
        if outcome != Some(DecisionOutcome::Applied) {
            continue;
        }
        let events = || ledger.replay.iter().map(|frame| frame.envelope()).filter(|envelope| names(envelope, id));
        let rejected = events().any(|envelope| matches!(envelope.event, Event::ToolRejected { .. }));
        let holds = rejected == (*action == ToolDecisionAction::Reject);
        findings.require(holds, Kind::DecisionLost, format!("call {id}: {action:?} was applied, rejected: {rejected}"));
        let asked_again = events().find(|envelope| is_question_after(envelope, answer));
        if let Some(question) = asked_again {
            findings.add(Kind::DecisionLost, format!("call {id} was decided and asked for in event {}", question.id));
        }
    }
}

fn names(envelope: &EventEnvelope, id: &ToolCallId) -> bool {
    match &envelope.event {
        Event::ToolRejected { tool_call_id, .. } => tool_call_id == id,
        Event::WaitingForToolApproval { pending_tool_call_ids, .. } => pending_tool_call_ids.contains(id),
        _ => false,
    }
}

fn is_question_after(envelope: &EventEnvelope, answer: &Answer) -> bool {
    matches!(envelope.event, Event::WaitingForToolApproval { .. }) && envelope.timestamp > answer.at
}

/// Nobody but this request cancels: what is cancelled is not deleted afterwards.
fn check_cancel(ledger: &Ledger, write: &Write, run: RunId, findings: &mut Findings) {
    let cancelled = matches!(end_of(ledger, run), Some(Event::RunCompleted { stop_reason: StopReason::Cancelled, .. }));
    match write.accepted() {
        Some(_) => findings.require(cancelled, Kind::CancelLost, format!("run {run}")),
        None => findings.require(!cancelled, Kind::RefusedYetDone, format!("the cancel of run {run}")),
    }
}

fn end_of(ledger: &Ledger, run: RunId) -> Option<&Event> {
    let events = ledger.replay.iter().map(|frame| &frame.envelope().event);
    events.filter(|event| event.run_id() == run).find(|event| event.is_terminal())
}

fn copies_in_history(ledger: &Ledger, text: &str) -> usize {
    let users = ledger.history.iter().filter(|message| message.role == Role::User);
    users.map(Message::text).map(|message| message.matches(text).count()).sum()
}

fn copies_unconsumed(ledger: &Ledger, text: &str) -> usize {
    let listed = ledger.replay.iter().flat_map(|frame| match &frame.envelope().event {
        Event::RunCompleted { unconsumed, .. } | Event::RunError { unconsumed, .. } => unconsumed.as_slice(),
        _ => &[],
    });
    listed.filter(|command| command.text == text).count()
}
