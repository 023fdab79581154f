//! What follows by itself: the next turn, the next call, the end.

use serde_json::{Value, json};
use stakpak_protocol::{Approval, Event, Message, MessageType, StopReason, ToolCallId};

use super::{ActiveRun, Call, CallStatus, Step, Transition, end::Ending};
use crate::{CallEnd, Effect, Policy, Probe, Record, ToolCall};

/// Calls of one turn that run side by side.
const MAX_PARALLEL_CALLS: usize = 8;

impl Transition<'_> {
    /// Records what follows from the state until it waits for the outside.
    pub(super) fn advance(&mut self) {
        while self.advance_once() {}
        self.keep_clock();
    }

    fn advance_once(&mut self) -> bool {
        let Some(run) = self.session.active() else { return false };
        match run.step {
            Step::Ready => self.begin_turn(),
            Step::Asking { .. } | Step::Compacting { .. } | Step::BackingOff { .. } | Step::Ended { .. } => false,
            Step::Calling { .. } => self.advance_calls(),
        }
    }

    fn begin_turn(&mut self) -> bool {
        if !self.has_turns_left() {
            self.finish(Ending::Stopped(StopReason::MaxTurns));
            return true;
        }
        if self.session.active().is_some_and(ActiveRun::makes_no_progress) {
            self.finish(Ending::NoProgress);
            return true;
        }
        if let Some(ending) = self.exhausted() {
            self.finish(ending);
            return true;
        }
        if !self.rules.has_slot {
            return false;
        }
        self.use_commands(|kind| kind == MessageType::Steering);
        let Some(run) = self.session.active() else { return false };
        let (run_id, turn) = (run.accepted.run_id, run.turn + 1);
        self.event(Event::TurnStarted { run_id, turn });
        self.record(&Record::ModelRequested { turn, attempt: 1, restarts: 0 });
        true
    }

    pub(super) fn has_turns_left(&self) -> bool {
        self.session.active().is_some_and(|run| run.turn < run.accepted.max_turns)
    }

    /// Turns queued commands into user messages; how many there were.
    pub(super) fn use_commands(&mut self, wanted: impl Fn(MessageType) -> bool) -> usize {
        let commands: Vec<(u64, Message)> = self
            .session
            .active()
            .iter()
            .flat_map(|run| &run.queued)
            .filter(|queued| wanted(queued.kind))
            .map(|queued| (queued.id, queued.message.clone()))
            .collect();
        for (id, message) in &commands {
            self.record(&Record::UserMessage { message: message.clone(), command: Some(*id) });
        }
        commands.len()
    }

    /// Uses the oldest follow-up, if there is one.
    pub(super) fn use_follow_up(&mut self) -> bool {
        let oldest = self.session.active().and_then(|run| run.queued.front()).cloned();
        if let Some(queued) = &oldest {
            self.record(&Record::UserMessage { message: queued.message.clone(), command: Some(queued.id) });
        }
        oldest.is_some()
    }

    fn advance_calls(&mut self) -> bool {
        let Some(run) = self.session.active() else { return false };
        if run.is_steered() && self.skip_calls() {
            return true;
        }
        let Some(run) = self.session.active() else { return false };
        if run.calls.iter().all(Call::has_ended) {
            let (run_id, turn) = (run.accepted.run_id, run.turn);
            self.record(&Record::TurnEnded);
            self.event(Event::TurnCompleted {
                run_id,
                turn,
                finish_reason: stakpak_protocol::FinishReason::ToolCalls,
                truncated: None,
            });
            return true;
        }
        self.start_calls()
    }

    /// Steering comes before calls that have not started.
    fn skip_calls(&mut self) -> bool {
        let reason = "skipped: the user sent a new message";
        let skipped = self.calls_with(|call| matches!(call.status, CallStatus::Waiting | CallStatus::Approved));
        for id in &skipped {
            self.reject(id, json!({ "skipped": reason }), reason, CallEnd::Skipped);
        }
        !skipped.is_empty()
    }

    fn start_calls(&mut self) -> bool {
        let Some(run) = self.session.active().filter(|_| self.rules.has_slot) else { return false };
        let Some(call) = run.next_call().filter(|_| run.running_calls() < MAX_PARALLEL_CALLS) else { return false };
        if call.resolved.effect == Effect::Probe {
            return false;
        }
        self.start_call(&call.resolved.call.clone(), None);
        true
    }

    /// The call is the next, and somebody has looked at what it will change.
    pub(super) fn start_probed(&mut self, id: &ToolCallId, probe: Option<Probe>) {
        let next = self.session.active().and_then(|run| run.call_to_probe());
        if let Some(call) = next.filter(|call| call.resolved.call.id == *id).map(|call| call.resolved.call.clone()) {
            self.start_call(&call, probe);
        }
    }

    fn start_call(&mut self, call: &ToolCall, probe: Option<Probe>) {
        let (id, tool_name) = (call.id.clone(), call.name.clone());
        if let Some(reason) = self.denied_meanwhile(call) {
            let text = self.policy_rejects(&tool_name, Some(&reason));
            return self.reject(&id, Value::String(text.clone()), &text, CallEnd::Rejected);
        }
        self.record(&Record::CallStarted { call_id: id.clone(), attempt: 1, probe });
        self.event(Event::ToolExecutionStarted { run_id: self.run_id(), tool_call_id: id, tool_name });
    }

    /// Why the profile denies a call now, whatever was said of it when it was proposed.
    fn denied_meanwhile(&self, call: &ToolCall) -> Option<String> {
        let accepted = &self.session.active()?.accepted;
        let profile = self.rules.profiles?.profile(Some(&accepted.profile)).ok()?;
        let now = Policy::All.with_denials_of(&profile.policy);
        let verdict = self.judge(&now, call, &accepted.cwd);
        (verdict.approval == Approval::Deny).then(|| verdict.reason.unwrap_or_default())
    }

    /// What a call that policy refuses gets as its result: the rule, and how to allow the call.
    fn policy_rejects(&self, tool: &str, reason: Option<&str>) -> String {
        let profile = self.profile();
        match reason {
            Some(reason) => format!(
                "Tool call rejected by policy: {reason}. To allow it, change or remove that rule in profile {profile}"
            ),
            None => format!(
                "Tool call rejected by policy: {tool} is not allowed in profile {profile}. To allow it, add it to \
                 auto_approve there"
            ),
        }
    }

    /// Calls of the turn that can never run get their result at once.
    pub(super) fn refuse_calls(&mut self) {
        let calls = self.session.active().map(|run| run.calls.clone()).unwrap_or_default();
        for call in calls {
            let id = &call.resolved.call.id;
            match (&call.resolved.invalid, call.resolved.approval) {
                (Some(error), _) => self.complete(id, Value::String(error.clone()), true, CallEnd::Invalid),
                (None, Approval::Deny) => {
                    let text = self.policy_rejects(&call.resolved.call.name, call.resolved.reason.as_deref());
                    self.reject(id, Value::String(text.clone()), &text, CallEnd::Rejected);
                }
                _ => {}
            }
        }
    }

    fn profile(&self) -> String {
        self.session.active().map(|run| run.accepted.profile.clone()).unwrap_or_default()
    }

    /// Tells readers which calls wait for a person.
    pub(super) fn announce_waiting(&mut self) {
        let waiting = self.calls_with(|call| call.status == CallStatus::Waiting);
        if !waiting.is_empty() {
            self.event(Event::WaitingForToolApproval { run_id: self.run_id(), pending_tool_call_ids: waiting });
        }
    }

    fn calls_with(&self, wanted: impl Fn(&Call) -> bool) -> Vec<ToolCallId> {
        self.session
            .active()
            .iter()
            .flat_map(|run| &run.calls)
            .filter(|call| wanted(call))
            .map(|call| call.resolved.call.id.clone())
            .collect()
    }
}
