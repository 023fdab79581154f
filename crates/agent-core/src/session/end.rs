//! Results of calls, and every way out of a run: each ends in exactly one terminal event.

use serde_json::Value;
use stakpak_protocol::{
    Event, FinishReason, LastError, LastErrorCode, Message, MessageContent, MessagePart, MessageType, Role, StopDetail,
    StopReason, ToolCallId, UnconsumedCommand, result_text,
};

use super::{
    CallStatus, Step, Transition,
    input::{Left, MAX_RESTARTS},
};
use crate::{CallEnd, Effect, Probed, Record};

/// Largest result that an event carries whole.
const EVENT_RESULT_BYTES: usize = 256 * 1024;

/// How a run ends.
pub(super) enum Ending {
    /// By itself, by request, or at its last turn.
    Stopped(StopReason),
    /// Because it only repeats itself.
    NoProgress,
    /// By an error.
    Failed { code: LastErrorCode, message: String, retryable: bool },
}

impl Transition<'_> {
    /// The call has a result.
    pub(super) fn complete(&mut self, id: &ToolCallId, result: Value, is_error: bool, end: CallEnd) {
        let Some(tool_name) = self.tool_name(id) else { return };
        self.record_result(id, result.clone(), is_error, end);
        let (result, bytes) = cut_for_event(result);
        self.event(Event::ToolExecutionCompleted {
            run_id: self.run_id(),
            tool_call_id: id.clone(),
            tool_name,
            result,
            is_error,
            result_truncated: bytes.map(|_| true),
            result_bytes: bytes,
        });
    }

    /// The call will not run.
    pub(super) fn reject(&mut self, id: &ToolCallId, result: Value, reason: &str, end: CallEnd) {
        let Some(tool_name) = self.tool_name(id) else { return };
        self.record_result(id, result, false, end);
        self.event(Event::ToolRejected {
            run_id: self.run_id(),
            tool_call_id: id.clone(),
            tool_name,
            reason: reason.to_owned(),
        });
    }

    fn record_result(&mut self, id: &ToolCallId, content: Value, is_error: bool, end: CallEnd) {
        let part = MessagePart::ToolResult { tool_call_id: id.clone(), content, is_error, provider_options: None };
        let message = Message::new(Role::Tool, MessageContent::Parts(vec![part]));
        self.record(&Record::CallEnded { call_id: id.clone(), end, message });
    }

    fn tool_name(&self, id: &ToolCallId) -> Option<String> {
        Some(self.session.run.as_ref()?.call(id)?.resolved.call.name.clone())
    }

    /// The outcome of an unsafe call whose process died with the server is not known, and it is not run again.
    pub(super) fn outcome_unknown(&mut self, id: &ToolCallId, ended: usize) {
        let processes = match ended {
            0 => "none of its processes was still alive".to_owned(),
            ended => format!("{ended} of its processes were still alive and have been ended"),
        };
        let text = format!(
            "OUTCOME_UNKNOWN\nThe server stopped while this call ({id}) was running; {processes}. It may have done \
             nothing, a part, or all of its work. It was not run again: check its effects before you repeat it."
        );
        self.complete(id, text.into(), true, CallEnd::Unknown);
    }

    /// Ends the run: unfinished calls get their result, the open turn is closed, the terminal event comes last.
    pub(super) fn end(&mut self, ending: Ending) {
        let Some(run) = self.session.active() else { return };
        let (run_id, turn) = (run.accepted.run_id, run.turn);
        let turn_is_open = !matches!(run.step, Step::Ready);
        self.cancel_calls();
        if turn_is_open {
            let finish_reason = match ending {
                Ending::Stopped(_) | Ending::NoProgress => FinishReason::Cancelled,
                Ending::Failed { .. } => FinishReason::Error,
            };
            self.record(&Record::TurnEnded);
            self.event(Event::TurnCompleted { run_id, turn, finish_reason, truncated: None });
        }
        self.finish(ending);
    }

    fn cancel_calls(&mut self) {
        let open: Vec<ToolCallId> = self
            .session
            .active()
            .iter()
            .flat_map(|run| &run.calls)
            .filter(|call| !call.has_ended())
            .map(|call| call.resolved.call.id.clone())
            .collect();
        for id in open {
            self.complete(&id, "TOOL_CALL_CANCELLED".into(), true, CallEnd::Cancelled);
        }
    }

    /// The last record and the last event of a run whose turns are closed.
    pub(super) fn finish(&mut self, ending: Ending) {
        let Some(run) = self.session.active() else { return };
        let run_id = run.accepted.run_id;
        let (total_turns, total_usage) = (run.turn, run.total_usage.clone());
        let unconsumed = run.queued.iter().map(unconsumed).collect();
        let at = self.rules.now;
        match ending {
            Ending::Stopped(_) | Ending::NoProgress => {
                let (stop_reason, detail) = match ending {
                    Ending::Stopped(stop_reason) => (stop_reason, None),
                    _ => (StopReason::MaxTurns, Some(StopDetail::NoProgress)),
                };
                self.record(&Record::RunEnded { stop_reason, detail, last_error: None, at });
                self.event(Event::RunCompleted { run_id, total_turns, total_usage, stop_reason, detail, unconsumed });
            }
            Ending::Failed { code, message, retryable } => {
                let last_error = LastError { code, message: message.clone(), run_id, at, retryable };
                let (stop_reason, last_error) = (StopReason::Error, Some(last_error));
                self.record(&Record::RunEnded { stop_reason, detail: None, last_error, at });
                self.event(Event::RunError { run_id, error: message, retryable, unconsumed });
            }
        }
    }

    /// Calls with effects whose driver is gone: what they did is not known, unless it can be seen.
    pub(super) fn settle_calls_with_effects(&mut self, left: &Left) {
        for (id, _) in self.started_calls(|effect| effect == Effect::Unsafe) {
            self.outcome_unknown(&id, left.ended(&id));
        }
        for (id, _) in self.started_calls(|effect| effect == Effect::Probe) {
            match left.probed(&id) {
                Probed::Done(result) => self.complete(&id, result.clone().into(), false, CallEnd::Done),
                Probed::Untouched => {}
                Probed::Unknown => self.outcome_unknown(&id, left.ended(&id)),
            }
        }
    }

    /// Calls whose driver is gone, and that did nothing or may do it twice, start again. Not for ever: one of them may be
    /// what ends the process.
    pub(super) fn restart_calls(&mut self) {
        for (id, attempt) in self.started_calls(|effect| effect != Effect::Unsafe) {
            if attempt <= MAX_RESTARTS {
                self.record(&Record::CallStarted { call_id: id, attempt: attempt + 1, probe: None });
            } else {
                self.outcome_unknown(&id, 0);
            }
        }
    }

    fn started_calls(&self, of: impl Fn(Effect) -> bool) -> Vec<(ToolCallId, u64)> {
        let calls = self.session.active().map(|run| run.calls.as_slice()).unwrap_or_default();
        let started = calls.iter().filter(|call| of(call.resolved.effect));
        let started = started.filter_map(|call| match call.status {
            CallStatus::Running { attempt } => Some((call.resolved.call.id.clone(), attempt)),
            _ => None,
        });
        started.collect()
    }
}

fn unconsumed(queued: &super::Queued) -> UnconsumedCommand {
    let kind = if queued.kind == MessageType::Steering { "steering" } else { "follow_up" };
    UnconsumedCommand { kind: kind.to_owned(), text: queued.message.text() }
}

/// The result as an event carries it, images named only, and its full size when it was cut.
fn cut_for_event(result: Value) -> (Value, Option<u64>) {
    let named = |url: &str| format!("[image, {} bytes]", url.len());
    let text = match result_text(&result, named).map_or(result, Value::String) {
        Value::String(text) => text,
        other => {
            let text = other.to_string();
            if text.len() <= EVENT_RESULT_BYTES {
                return (other, None);
            }
            text
        }
    };
    if text.len() <= EVENT_RESULT_BYTES {
        return (Value::String(text), None);
    }
    let cut = text.floor_char_boundary(EVENT_RESULT_BYTES);
    (Value::String(text[..cut].to_owned()), Some(text.len() as u64))
}
