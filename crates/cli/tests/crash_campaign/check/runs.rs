//! The events of each run: their order, their one end, their texts, and what the model was asked for them (G5).

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use stakpak_protocol::{Event, EventEnvelope, RunId, StopReason};

use super::{Findings, Kind};
use crate::{ledger::Ledger, model::Plan};

/// Kills after which a run may end as interrupted: the request and its two repeats.
const KILLS_TO_INTERRUPT: u64 = 3;

pub(super) fn check(ledger: &Ledger, findings: &mut Findings) {
    let mut events: BTreeMap<RunId, Vec<&EventEnvelope>> = BTreeMap::new();
    for frame in &ledger.replay {
        events.entry(frame.envelope().event.run_id()).or_default().push(frame.envelope());
    }
    for (run, plan) in ledger.runs() {
        match events.remove(&run) {
            Some(events) => check_run(ledger, run, plan, &events, findings),
            None => findings.add(Kind::MessageLost, format!("run {run} ({}) was accepted and has no event", plan.run)),
        }
    }
    for run in events.keys() {
        findings.add(Kind::MessageRepeated, format!("run {run} was started by no accepted message"));
    }
}

fn check_run(ledger: &Ledger, run: RunId, plan: &Plan, events: &[&EventEnvelope], findings: &mut Findings) {
    let name = format!("run {run} ({})", plan.run);
    let starts = events.iter().filter(|envelope| matches!(envelope.event, Event::RunStarted { .. })).count();
    let begins = matches!(events[0].event, Event::RunStarted { .. }) && starts == 1;
    findings.require(begins, Kind::OrderBroken, format!("{name} does not begin with its one run_started"));
    let ends: Vec<usize> = (0..events.len()).filter(|index| events[*index].event.is_terminal()).collect();
    match ends[..] {
        [] => findings.add(Kind::EndMissing, &name),
        [end] if end + 1 < events.len() => findings.add(Kind::EventAfterEnd, &name),
        [_] => {}
        _ => findings.add(Kind::EndRepeated, &name),
    }
    let mut turns = Turns { name: &name, plan, findings, turns: Vec::new() };
    for envelope in events {
        turns.take(envelope);
    }
    let turns = turns.turns;
    check_end(ledger, &name, plan, events, &turns, findings);
    check_asked(ledger, plan, &turns, findings);
}

/// A turn as its events tell it.
#[derive(Debug, Default)]
struct Turn {
    deltas: String,
    text: Option<String>,
    retries: usize,
    answered: Option<DateTime<Utc>>,
    closed: bool,
}

struct Turns<'a> {
    name: &'a str,
    plan: &'a Plan,
    findings: &'a mut Findings,
    turns: Vec<Turn>,
}

impl Turns<'_> {
    fn take(&mut self, envelope: &EventEnvelope) {
        let number = self.turns.len();
        let open = self.turns.last_mut().filter(|turn| !turn.closed);
        let fits = match (&envelope.event, open) {
            (Event::RunStarted { .. }, _) => true,
            (Event::RunCompleted { .. } | Event::RunError { .. }, None) => true,
            (Event::TurnStarted { turn, .. }, None) => {
                self.turns.push(Turn::default());
                *turn == number as u64 + 1
            }
            (_, None) => false,
            (event, Some(turn)) => turn.take(event, envelope.timestamp),
        };
        let event = envelope.event.name();
        let (id, name) = (envelope.id, self.name);
        self.findings.require(fits, Kind::OrderBroken, format!("{name}: event {id}, {event}, in turn {number}"));
        if matches!(envelope.event, Event::UsageReport { .. }) {
            self.check_text();
        }
    }

    fn check_text(&mut self) {
        let Some(turn) = self.turns.last() else { return };
        let planned = self.plan.text(self.turns.len() - 1);
        let text = turn.text.as_deref().unwrap_or_default();
        let what = format!("{}: the deltas {:?}, the text {text:?}, the answer {planned:?}", self.name, turn.deltas);
        self.findings.require(turn.deltas == text && text == planned, Kind::TextWrong, what);
    }
}

impl Turn {
    /// Whether the event may stand here.
    fn take(&mut self, event: &Event, at: DateTime<Utc>) -> bool {
        let answered = self.answered.is_some();
        match event {
            Event::ThinkingDelta { .. } => !answered,
            Event::TextDelta { delta, .. } => {
                self.deltas.push_str(delta);
                !answered && self.text.is_none()
            }
            Event::RetryAttempt { discard_text, .. } => {
                self.retries += 1;
                if *discard_text == Some(true) {
                    self.deltas.clear();
                }
                !answered && self.text.is_none()
            }
            Event::TextComplete { text, .. } => !answered && self.text.replace(text.clone()).is_none(),
            Event::UsageReport { .. } => self.answered.replace(at).is_none(),
            Event::TurnCompleted { .. } => !std::mem::replace(&mut self.closed, true),
            Event::ToolCallsProposed { .. }
            | Event::WaitingForToolApproval { .. }
            | Event::ToolExecutionStarted { .. }
            | Event::ToolExecutionProgress { .. }
            | Event::ToolExecutionCompleted { .. }
            | Event::ToolRejected { .. } => answered,
            Event::RunStarted { .. }
            | Event::TurnStarted { .. }
            | Event::RunCompleted { .. }
            | Event::RunError { .. }
            | Event::CompactionStarted { .. }
            | Event::CompactionCompleted { .. } => false,
        }
    }
}

fn check_end(
    ledger: &Ledger,
    name: &str,
    plan: &Plan,
    events: &[&EventEnvelope],
    turns: &[Turn],
    findings: &mut Findings,
) {
    match events.last().map(|envelope| &envelope.event) {
        Some(Event::RunError { error, .. }) => {
            let allowed = error.starts_with("interrupted") && ledger.kills >= KILLS_TO_INTERRUPT;
            let kills = ledger.kills;
            findings.require(allowed, Kind::RunFailed, format!("{name}: {error} (after {kills} kills)"));
        }
        Some(Event::RunCompleted { stop_reason: StopReason::Completed, total_turns, .. }) => {
            let whole = turns.len() >= plan.turns.len() && *total_turns == turns.len() as u64;
            let told = format!("{} turns of {}, told as {total_turns}", turns.len(), plan.turns.len());
            findings.require(whole, Kind::RunFailed, format!("{name} ended after {told}"));
        }
        _ => {}
    }
}

/// An answer whose end was recorded is never asked for again, and each repeat before that was announced.
fn check_asked(ledger: &Ledger, plan: &Plan, turns: &[Turn], findings: &mut Findings) {
    for (index, turn) in turns.iter().enumerate() {
        let asked = ledger.asked.iter().filter(|asked| asked.run == plan.run && asked.turn == index);
        let times: Vec<DateTime<Utc>> = asked.map(|asked| asked.at).collect();
        let name = format!("turn {} of {}", index + 1, plan.run);
        if let Some(answered) = turn.answered
            && let Some(late) = times.iter().find(|at| **at > answered)
        {
            findings.add(Kind::AskedAgain, format!("{name} was answered at {answered} and asked for at {late}"));
        }
        let (times, retries) = (times.len(), turn.retries);
        let told = format!("{name} was asked for {times} times with {retries} retries");
        findings.require(times <= retries + 1, Kind::AskedAgain, told);
    }
}
