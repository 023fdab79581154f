//! What effects report. A report of an effect that is no longer owed is dropped.

use std::{path::Path, time::Duration};

use chrono::TimeDelta;
use stakpak_protocol::{
    Approval, Event, FinishReason, LastErrorCode, Message, MessagePart, StopReason, ToolCallId, Usd,
};

use super::{ActiveRun, CallStatus, Outcome, Rules, Session, Step, Summary, Transition, end::Ending, limits::ending};
use crate::{
    CallEnd, Effect, ErrorClass, InvalidCall, ModelAnswer, ModelError, Plan, Policy, Probe, Probed, Record,
    ResolvedCall, Spending, Spent, ToolCall, ToolOutcome, Verdict, approval_of, approving::of_policy,
};

/// How often restarts may repeat one request or one call.
pub(super) const MAX_RESTARTS: u64 = 2;

/// Of a question in a run that nobody reads along with.
const NOBODY_ANSWERS: &str = "INTERACTIVE_REQUIRED\nNobody can answer in this run: decide yourself, or put the question at the \
                              end of your answer";

/// What an effect reports.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "a report is moved once, and few wait at a time")]
pub enum Input {
    /// More of the answer.
    Delta {
        /// Which request.
        request: u64,
        /// Text or thinking.
        kind: DeltaKind,
        /// What is new.
        text: String,
    },
    /// The whole answer.
    Answered {
        /// Which request.
        request: u64,
        /// The answer.
        answer: ModelAnswer,
        /// Tokens that the request was expected to have; 0: not known.
        estimated: u64,
    },
    /// The conversation is too long for the request to be sent as it is.
    Planned {
        /// Which request.
        request: u64,
        /// What to do about it.
        plan: Plan,
    },
    /// Older messages are summed up.
    Compacted {
        /// Which request.
        request: u64,
        /// The summary.
        summary: Summary,
    },
    /// They could not be.
    CompactionFailed {
        /// Which request.
        request: u64,
        /// Why.
        error: ModelError,
        /// What can be said of them without a model; none: they could not even be read.
        instead: Option<Summary>,
    },
    /// The request failed.
    AskFailed {
        /// Which request.
        request: u64,
        /// Why.
        error: ModelError,
    },
    /// The day's budget of the profile has no room for the request: it was not sent.
    OverBudget {
        /// Which request.
        request: u64,
        /// For people: names the key.
        message: String,
    },
    /// The back-off is over.
    Waited {
        /// The request that failed.
        request: u64,
    },
    /// A call has printed more.
    Progress {
        /// The call.
        call_id: ToolCallId,
        /// Which start of it.
        attempt: u64,
        /// What is new.
        text: String,
    },
    /// Somebody has looked at what a call will change: it may start.
    Probed {
        /// The call.
        call_id: ToolCallId,
        /// None: it cannot be told.
        probe: Option<Probe>,
    },
    /// A call has ended.
    CallEnded {
        /// The call.
        call_id: ToolCallId,
        /// Which start of it.
        attempt: u64,
        /// How.
        outcome: ToolOutcome,
    },
    /// The run has left the queue: it may work.
    SlotTaken,
    /// The first deadline has passed: of an approval, or of the run.
    DeadlinePassed,
    /// The process is new: what was under way is settled, the rest goes on.
    Recover {
        /// What was left of calls.
        left: Left,
    },
    /// The run cannot go on.
    Fail {
        /// Class.
        code: LastErrorCode,
        /// For people.
        message: String,
        /// What was left of calls.
        left: Left,
    },
}

/// What an earlier process left of calls that it started.
#[derive(Debug, Clone, Default)]
pub struct Left {
    /// Processes that were ended, by call.
    pub ended: Vec<(ToolCallId, usize)>,
    /// How far calls got of which that can be seen.
    pub probed: Vec<(ToolCallId, Probed)>,
}

impl Left {
    pub(super) fn ended(&self, id: &ToolCallId) -> usize {
        self.ended.iter().find(|(ended, _)| ended == id).map_or(0, |(_, count)| *count)
    }

    pub(super) fn probed(&self, id: &ToolCallId) -> &Probed {
        self.probed.iter().find(|(probed, _)| probed == id).map_or(&Probed::Unknown, |(_, probed)| probed)
    }
}

/// Which part of an answer a delta belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeltaKind {
    /// The visible answer.
    Text,
    /// The thinking before it.
    Thinking,
}

impl Session {
    /// Takes a report and goes on from there.
    pub fn feed(&mut self, input: Input, rules: &Rules<'_>) -> Outcome {
        let mut transition = Transition::new(self, rules);
        transition.take(input);
        transition.advance();
        transition.outcome
    }
}

impl Transition<'_> {
    fn take(&mut self, input: Input) {
        match input {
            Input::Delta { request, kind, text } if self.is_asking(request) => self.delta(kind, text),
            Input::Answered { request, answer, estimated } if self.is_asking(request) => {
                self.answered(answer, estimated);
            }
            Input::Planned { request, plan } if self.is_asking(request) => self.planned(&plan),
            Input::Compacted { request, summary } if self.is_compacting(request) => self.compacted(summary),
            Input::CompactionFailed { request, error, instead } if self.is_compacting(request) => {
                self.compaction_failed(&error, instead);
            }
            Input::AskFailed { request, error } if self.is_asking(request) => self.ask_failed(&error),
            Input::OverBudget { request, message } if self.is_asking(request) => {
                self.end(ending(LastErrorCode::BudgetExceeded, message));
            }
            Input::Waited { request } if self.is_backing_off(request) => self.ask_again(),
            Input::Progress { call_id, attempt, text } if self.is_running(&call_id, attempt) => {
                let run_id = self.run_id();
                self.event(Event::ToolExecutionProgress { run_id, tool_call_id: call_id, message: text });
            }
            Input::CallEnded { call_id, attempt, outcome } if self.is_running(&call_id, attempt) => match outcome {
                ToolOutcome::Completed { result, is_error } => {
                    self.complete(&call_id, result, is_error, CallEnd::Done);
                }
                ToolOutcome::Cancelled => {
                    self.complete(&call_id, "TOOL_CALL_CANCELLED".into(), true, CallEnd::Cancelled);
                }
            },
            Input::Probed { call_id, probe } => self.start_probed(&call_id, probe),
            // Calls that run while the run had no slot were started by an earlier process.
            Input::SlotTaken => self.restart_calls(),
            Input::DeadlinePassed => {
                self.expire_calls();
                self.expire_run();
            }
            Input::Recover { left } => self.recover(&left),
            Input::Fail { code, message, left } => {
                self.settle_calls_with_effects(&left);
                self.end(Ending::Failed { code, message, retryable: true });
            }
            Input::Delta { .. }
            | Input::Answered { .. }
            | Input::Planned { .. }
            | Input::Compacted { .. }
            | Input::CompactionFailed { .. }
            | Input::AskFailed { .. }
            | Input::OverBudget { .. }
            | Input::Waited { .. }
            | Input::Progress { .. }
            | Input::CallEnded { .. } => {}
        }
    }

    pub(super) fn active_run(&self) -> Option<&ActiveRun> {
        self.session.active()
    }

    fn is_asking(&self, request: u64) -> bool {
        self.active_run().is_some_and(|run| run.request == request && matches!(run.step, Step::Asking { .. }))
    }

    fn is_backing_off(&self, request: u64) -> bool {
        self.active_run().is_some_and(|run| run.request == request && matches!(run.step, Step::BackingOff { .. }))
    }

    fn is_running(&self, id: &ToolCallId, attempt: u64) -> bool {
        self.active_run()
            .and_then(|run| run.call(id))
            .is_some_and(|call| call.status == CallStatus::Running { attempt })
    }

    fn delta(&mut self, kind: DeltaKind, delta: String) {
        let run_id = self.run_id();
        match kind {
            DeltaKind::Thinking => self.event(Event::ThinkingDelta { run_id, delta }),
            DeltaKind::Text => {
                if let Some(Step::Asking { text_shown, .. }) = self.session.run.as_mut().map(|run| &mut run.step) {
                    *text_shown = true;
                }
                self.event(Event::TextDelta { run_id, delta });
            }
        }
    }

    fn answered(&mut self, answer: ModelAnswer, estimated: u64) {
        let Some(run) = self.active_run() else { return };
        let (run_id, turn, cost) = (run.accepted.run_id, run.turn, run.accepted.cost_of(&answer.usage));
        let runs = u64::from(run.turn <= 1);
        self.spent(answer.usage.total_tokens, cost, runs);
        let message = Message::assistant(answer.parts);
        let text = message.text();
        let calls = self.resolve_calls(&message);
        self.record(&Record::ModelAnswered {
            message,
            reasoning: answer.reasoning,
            usage: answer.usage.clone(),
            finish: answer.finish,
            cost_micros: cost.map(Usd::micros),
            estimated: Some(estimated).filter(|estimated| *estimated > 0),
        });
        if !text.is_empty() {
            self.event(Event::TextComplete { run_id, text });
        }
        self.event(Event::UsageReport { run_id, turn, usage: answer.usage, cost_usd: cost });
        if calls.is_empty() {
            self.end_answered_turn(answer.finish);
        } else {
            self.propose(calls);
        }
    }

    /// Counts towards the day of the run's profile.
    pub(super) fn spent(&mut self, tokens: u64, cost: Option<Usd>, runs: u64) {
        let Some(run) = self.active_run() else { return };
        let spending = Spending { tokens, cost: cost.unwrap_or_default(), runs };
        self.outcome.spent = Some(Spent { profile: run.accepted.profile.clone(), at: self.rules.now, spending });
    }

    fn propose(&mut self, calls: Vec<ResolvedCall>) {
        self.record(&Record::CallsResolved { calls });
        let tool_calls = self.active_run().map(|run| run.calls.iter().map(super::Call::proposed).collect());
        self.event(Event::ToolCallsProposed { run_id: self.run_id(), tool_calls: tool_calls.unwrap_or_default() });
        self.announce_waiting();
        self.refuse_calls();
    }

    /// "Nothing is queued" and "the run has ended" are one decision: a command cannot fall between.
    fn end_answered_turn(&mut self, finish: FinishReason) {
        let (run_id, turn) = (self.run_id(), self.active_run().map_or(0, |run| run.turn));
        let truncated = (finish == FinishReason::MaxOutputTokens).then_some(true);
        self.record(&Record::TurnEnded);
        self.event(Event::TurnCompleted { run_id, turn, finish_reason: finish, truncated });
        // Looked at before commands are used: one that no turn would answer is listed as unconsumed.
        let goes_on = self.has_turns_left()
            && self.exhausted().is_none()
            && (self.use_commands(|kind| kind == stakpak_protocol::MessageType::Steering) > 0 || self.use_follow_up());
        if !goes_on {
            self.finish(Ending::Stopped(StopReason::Completed));
        }
    }

    fn resolve_calls(&self, answer: &Message) -> Vec<ResolvedCall> {
        let calls = answer.parts().iter().filter_map(|part| match part {
            MessagePart::ToolCall { id, name, arguments, metadata, .. } => Some(ToolCall {
                id: id.clone(),
                name: name.clone(),
                arguments: arguments.clone(),
                metadata: metadata.clone(),
            }),
            _ => None,
        });
        calls.map(|call| self.resolve_call(self.rules.tools.meant(call))).collect()
    }

    /// Arguments and name are checked before any policy; then policy, and the more restrictive of it and the tool.
    fn resolve_call(&self, call: ToolCall) -> ResolvedCall {
        let deadline = self.rules.now + time_delta(self.rules.approval_timeout);
        let invalid = self.rules.tools.check(&call.name, &call.arguments).err();
        let Some(run) = self.active_run().filter(|_| invalid.is_none()) else {
            let invalid = invalid.as_ref().map(InvalidCall::to_string);
            let (effect, approval) = (Effect::Unsafe, Approval::Auto);
            return ResolvedCall { call, effect, approval, reason: None, deadline, invalid };
        };
        let effect = self.rules.tools.effect(&call);
        let cwd = run.accepted.cwd.as_ref();
        let Verdict { mut approval, mut reason } = approval_of(self.rules.tools, &run.accepted.policy, &call, cwd);
        let mut invalid = None;
        if approval != Approval::Deny && self.rules.tools.asks_person(&call) {
            // Whatever policy approves, the answer is a person's.
            approval = if run.accepted.interactive { Approval::Ask } else { Approval::Auto };
            invalid = (!run.accepted.interactive).then(|| NOBODY_ANSWERS.to_owned());
        }
        if approval == Approval::Ask {
            reason = self.with_secrets(reason, &call);
        }
        ResolvedCall { call, effect, approval, reason, deadline, invalid }
    }

    /// What a policy says of a call in this working directory.
    pub(super) fn judge(&self, policy: &Policy, call: &ToolCall, cwd: &str) -> Verdict {
        of_policy(self.rules.tools, policy, call, Path::new(cwd))
    }

    /// Whoever is asked is told which secrets go where.
    fn with_secrets(&self, reason: Option<String>, call: &ToolCall) -> Option<String> {
        let named = self.rules.secrets.named_in(&call.arguments);
        if named.is_empty() {
            return reason;
        }
        let told = format!("{} would be given {}", call.name, named.join(", "));
        Some(reason.map_or(told.clone(), |reason| format!("{reason}; {told}")))
    }

    fn ask_failed(&mut self, error: &ModelError) {
        let Some(Step::Asking { attempt, text_shown, .. }) = self.active_run().map(|run| run.step.clone()) else {
            return;
        };
        if error.class == ErrorClass::ContextOverflow {
            return self.overflowed(error, text_shown);
        }
        if !self.back_off(attempt, error, text_shown) && !self.fall_back(error, text_shown) {
            let retryable = error.is_retryable();
            let message = match error.retry_after {
                Some(wait) if retryable => format!("{}; try again in {} s", error.message, wait.as_secs()),
                _ => error.message.clone(),
            };
            self.end(Ending::Failed { code: LastErrorCode::ProviderError, message, retryable });
        }
    }

    /// Waits before the next attempt, unless there is none.
    pub(super) fn back_off(&mut self, attempt: u64, error: &ModelError, text_shown: bool) -> bool {
        let wait = self.wait_after(attempt, error.retry_after);
        if attempt >= error.attempts(self.rules.attempts) || wait > self.rules.longest_wait {
            return false;
        }
        self.record(&Record::BackingOff { attempt, until: self.rules.now + time_delta(wait), restarts: None });
        self.event(Event::RetryAttempt {
            run_id: self.run_id(),
            attempt,
            delay_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            reason: error.message.clone(),
            discard_text: text_shown.then_some(true),
        });
        true
    }

    /// The larger of our back-off, spread by a fifth, and what the provider asked for.
    fn wait_after(&self, attempt: u64, asked: Option<Duration>) -> Duration {
        let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX).min(8);
        let backoff = self.rules.backoff.saturating_mul(1 << doublings).mul_f64(1.0 + 0.2 * self.rules.jitter);
        asked.map_or(backoff, |asked| asked.max(backoff))
    }

    fn ask_again(&mut self) {
        if let Some(ending) = self.exhausted() {
            return self.end(ending);
        }
        let Some(run) = self.active_run() else { return };
        if let Step::BackingOff { attempt, restarts, .. } = run.step {
            let (turn, attempt) = (run.turn, if restarts.is_some() { attempt } else { attempt + 1 });
            self.record(&Record::ModelRequested { turn, attempt, restarts: restarts.unwrap_or(0) });
        }
    }

    fn recover(&mut self, left: &Left) {
        let Some(run) = self.active_run() else { return };
        let (run_id, step) = (run.accepted.run_id, run.step.clone());
        let waits = run.waiting_calls().next().is_some();
        let age = (self.rules.now - self.session.row.updated_at).to_std().unwrap_or_default();
        let too_old = age > self.rules.resume_max_age && !waits;
        self.settle_calls_with_effects(left);
        if !too_old && self.rules.has_slot {
            self.restart_calls();
        }
        self.expire_calls();
        match step {
            _ if too_old => self.interrupt("the server was stopped for too long; send the message again to go on"),
            Step::Asking { restarts, .. } | Step::Compacting { restarts, .. } if restarts >= MAX_RESTARTS => {
                self.interrupt("the server stopped again and again while the model was asked");
            }
            Step::Asking { attempt, restarts, .. } | Step::Compacting { attempt, restarts, .. } => {
                // A restart is most often an ordinary one: only the next in a row makes the run wait.
                let wait = if restarts == 0 { Duration::ZERO } else { self.wait_after(restarts, None) };
                let restarts = restarts + 1;
                self.record(&Record::BackingOff {
                    attempt,
                    until: self.rules.now + time_delta(wait),
                    restarts: Some(restarts),
                });
                self.event(Event::RetryAttempt {
                    run_id,
                    attempt,
                    delay_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
                    reason: "the server was restarted".to_owned(),
                    discard_text: Some(true),
                });
            }
            Step::Calling { .. } => self.announce_waiting(),
            Step::Ready | Step::BackingOff { .. } | Step::Ended { .. } => {}
        }
    }

    fn interrupt(&mut self, why: &str) {
        let message = format!("interrupted: {why}");
        self.end(Ending::Failed { code: LastErrorCode::Interrupted, message, retryable: true });
    }
}

fn time_delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}
