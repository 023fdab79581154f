//! What the tools did (G6): each call at most once, exactly once if it says so, never if it was refused.

use std::collections::BTreeMap;

use stakpak_protocol::{Event, ToolCallId};

use super::{Findings, Kind};
use crate::ledger::Ledger;

/// A call as its events tell it.
#[derive(Debug, Default)]
struct Told {
    starts: usize,
    /// Completed: whether it failed.
    completed: Vec<bool>,
    rejected: usize,
}

pub(super) fn check(ledger: &Ledger, findings: &mut Findings) {
    let mut calls: BTreeMap<ToolCallId, Told> = BTreeMap::new();
    for frame in &ledger.replay {
        match &frame.envelope().event {
            Event::ToolCallsProposed { tool_calls, .. } => {
                calls.extend(tool_calls.iter().map(|call| (call.id.clone(), Told::default())));
            }
            Event::ToolExecutionStarted { tool_call_id, .. } => {
                calls.entry(tool_call_id.clone()).or_default().starts += 1;
            }
            Event::ToolExecutionCompleted { tool_call_id, is_error, .. } => {
                calls.entry(tool_call_id.clone()).or_default().completed.push(*is_error);
            }
            Event::ToolRejected { tool_call_id, .. } => {
                calls.entry(tool_call_id.clone()).or_default().rejected += 1;
            }
            _ => {}
        }
    }
    for (id, told) in &calls {
        let effects = ledger.witness.iter().filter(|line| **line == id.0).count();
        check_call(id, told, effects, findings);
    }
    for line in &ledger.witness {
        let known = calls.contains_key(&ToolCallId(line.clone()));
        findings.require(known, Kind::EffectWrong, format!("{line} ran and was never proposed"));
    }
}

fn check_call(id: &ToolCallId, told: &Told, effects: usize, findings: &mut Findings) {
    let what = format!("call {id} ran {effects} times; its events: {told:?}");
    findings.require(effects <= 1 && told.starts <= 1, Kind::EffectRepeated, &what);
    findings.require(told.completed.len() + told.rejected == 1, Kind::OrderBroken, &what);
    let succeeded = told.completed.contains(&false);
    findings.require(!succeeded || effects >= 1, Kind::EffectWrong, &what);
    findings.require(told.starts > 0 || effects == 0, Kind::EffectWrong, &what);
}
