//! Another model goes on where one has failed, for the rest of the run.
//!
//! A model that was left is not gone back to, so that the requests of a turn are bounded by the models of the profile.

use stakpak_protocol::Event;

use super::{Step, Transition};
use crate::{ErrorClass, ModelError, ModelTerms, Record};

/// A model that can do what the run needs.
#[derive(Debug, Clone, PartialEq)]
pub struct StandIn {
    /// `provider/id`.
    pub model: String,
    /// Tokens that it takes.
    pub context: u64,
    /// Whether these are more than the run's model takes.
    pub is_larger: bool,
    /// What the run needs to know of it.
    pub terms: ModelTerms,
}

impl Transition<'_> {
    /// The next model is asked at once; false if there is none.
    pub(super) fn fall_back(&mut self, error: &ModelError, text_shown: bool) -> bool {
        let Some(StandIn { model, terms, .. }) = self.stand_in_after(error.class).cloned() else { return false };
        let Some(run) = self.active_run() else { return false };
        let (Step::Asking { attempt, .. } | Step::Compacting { attempt, .. }) = run.step else { return false };
        let (run_id, turn) = (run.accepted.run_id, run.turn);
        let reason = format!("{}; using {model}", error.message);
        self.record(&Record::ModelSwitched { model, terms, stands_in: true });
        let discard_text = text_shown.then_some(true);
        self.event(Event::RetryAttempt { run_id, attempt, delay_ms: 0, reason, discard_text });
        self.ask_or_end(turn, 1);
        true
    }

    /// The first that was not left yet; for what was too long the largest of those that take more.
    fn stand_in_after(&self, class: ErrorClass) -> Option<&StandIn> {
        let run = self.active_run().filter(|_| class.may_fall_back())?;
        let is_new = |other: &&StandIn| other.model != run.accepted.model && !run.left.contains(&other.model);
        let mut others = self.rules.stand_ins.iter().filter(is_new);
        if class != ErrorClass::ContextOverflow {
            return others.next();
        }
        let larger: Vec<&StandIn> = others.filter(|other| other.is_larger).collect();
        let most = larger.iter().map(|other| other.context).max()?;
        larger.into_iter().find(|other| other.context == most)
    }
}
