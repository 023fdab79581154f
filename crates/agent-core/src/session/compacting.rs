//! Making a conversation fit: what the driver planned, what was summed up, what the provider refused.

use stakpak_protocol::{Event, LastErrorCode, Usage, Usd};

use super::{Step, Transition, end::Ending};
use crate::{ErrorClass, ModelError, Plan, Record};

/// Requests that a provider may refuse as too long in one turn, compactions included.
const MAX_OVERFLOWS: u64 = 3;

/// What stands for older messages.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// It.
    pub text: String,
    /// Who made it: `provider/id`; none: no model.
    pub model: Option<String>,
    /// Tokens that it took.
    pub usage: Usage,
    /// What it cost, if that is known.
    pub cost: Option<Usd>,
    /// Tokens of the conversation with it.
    pub tokens_after: u64,
    /// Whether something was left out.
    pub truncated: bool,
}

impl Transition<'_> {
    pub(super) fn is_compacting(&self, request: u64) -> bool {
        self.active_run().is_some_and(|run| run.request == request && matches!(run.step, Step::Compacting { .. }))
    }

    /// The request waits until this is done; a conversation that cannot be made to fit ends the run.
    pub(super) fn planned(&mut self, plan: &Plan) {
        let run_id = self.run_id();
        match *plan {
            Plan::Send => {}
            Plan::Clear { before, tokens: (tokens_before, tokens_after) } => {
                self.record(&Record::ContextCleared { before, tokens_before, tokens_after });
            }
            Plan::Compact { first, tokens: tokens_before } => {
                let reason = self.reason();
                self.record(&Record::CompactionStarted { first, tokens_before });
                self.event(Event::CompactionStarted { run_id, reason });
            }
            Plan::Cut { cut, tokens: (tokens_before, tokens_after) } => {
                let reason = self.reason();
                self.event(Event::CompactionStarted { run_id, reason });
                self.record(&Record::ContextCut { cut, tokens_before, tokens_after });
                self.event(Event::CompactionCompleted { run_id, tokens_before, tokens_after, truncated: true });
            }
            Plan::Stuck => {
                let refused = self.active_run().and_then(|run| run.shrinking.refused.clone());
                self.too_long(
                    refused.unwrap_or_else(|| "the conversation is too long for the model".to_owned()),
                    false,
                );
            }
        }
    }

    fn reason(&self) -> String {
        let refused = self.active_run().is_some_and(|run| run.shrinking.refused.is_some());
        if refused { "the model refused the conversation as too long" } else { "context is full" }.to_owned()
    }

    /// The provider refused the request as too long: the same is not sent again.
    pub(super) fn overflowed(&mut self, error: &ModelError, text_shown: bool) {
        self.record(&Record::ContextOverflowed { message: error.message.clone() });
        let Some(run) = self.active_run() else { return };
        let Step::Asking { attempt, .. } = run.step else { return };
        if run.shrinking.overflows >= MAX_OVERFLOWS {
            return self.too_long(error.message.clone(), text_shown);
        }
        let (run_id, turn) = (run.accepted.run_id, run.turn);
        if text_shown {
            let reason = error.message.clone();
            self.event(Event::RetryAttempt { run_id, attempt, delay_ms: 0, reason, discard_text: Some(true) });
        }
        self.ask_or_end(turn, attempt);
    }

    pub(super) fn compacted(&mut self, summary: Summary) {
        let Some(run) = self.active_run() else { return };
        let Step::Compacting { attempt, first, tokens_before, .. } = run.step else { return };
        let (run_id, turn) = (run.accepted.run_id, run.turn);
        let Summary { text, model, usage, cost, tokens_after, truncated } = summary;
        self.spent(usage.total_tokens, cost, 0);
        let cost_micros = cost.map(Usd::micros);
        self.record(&Record::Compaction {
            first,
            summary: text,
            model,
            usage,
            cost_micros,
            tokens_before,
            tokens_after,
            truncated,
        });
        self.event(Event::CompactionCompleted { run_id, tokens_before, tokens_after, truncated });
        self.ask_or_end(turn, attempt);
    }

    /// Tried again like any request. The run goes on with what there is if it was this request that was refused; if the model
    /// is not to be had, it ends, and nothing is left out.
    pub(super) fn compaction_failed(&mut self, error: &ModelError, instead: Option<Summary>) {
        let Some(Step::Compacting { attempt, .. }) = self.active_run().map(|run| run.step.clone()) else { return };
        let is_about_the_request = is_about_the_request(error.class);
        if !is_about_the_request && self.back_off(attempt, error, false) {
            return;
        }
        let Some(instead) = instead.filter(|_| is_about_the_request) else {
            if self.sums_up_itself() && self.fall_back(error, false) {
                return;
            }
            let (code, message) = (LastErrorCode::ProviderError, format!("summing up: {}", error.message));
            return self.end(Ending::Failed { code, message, retryable: error.is_retryable() });
        };
        if error.class == ErrorClass::ContextOverflow {
            self.record(&Record::ContextOverflowed { message: error.message.clone() });
        }
        self.compacted(instead);
    }

    /// Whether the run's own model does it.
    fn sums_up_itself(&self) -> bool {
        let profile = self.active_run().map(|run| run.accepted.profile.as_str());
        let profile = self.rules.profiles.and_then(|profiles| profiles.profile(profile).ok());
        profile.is_none_or(|profile| profile.compaction.model.is_none())
    }

    pub(super) fn ask_or_end(&mut self, turn: u64, attempt: u64) {
        match self.exhausted() {
            Some(ending) => self.end(ending),
            None => self.record(&Record::ModelRequested { turn, attempt, restarts: 0 }),
        }
    }

    fn too_long(&mut self, message: String, text_shown: bool) {
        let error = ModelError::new(ErrorClass::ContextOverflow, message.clone());
        if self.fall_back(&error, text_shown) {
            return;
        }
        self.end(Ending::Failed { code: LastErrorCode::ContextOverflow, message, retryable: false });
    }
}

fn is_about_the_request(class: ErrorClass) -> bool {
    use ErrorClass::{BadRequest, ContentFilter, ContextOverflow, Decode};
    matches!(class, ContextOverflow | BadRequest | ContentFilter | Decode)
}
