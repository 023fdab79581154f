//! Which models of the profile can go on where one has failed: those that take what the run shows them.

use stakpak_protocol::{Message, MessagePart};

use super::{driver::Driver, history::HistoryError};
use crate::{
    JournalError, Model, ModelTerms, Plan,
    context::{self, Conversation, Meter},
    session::{ActiveRun, Input, StandIn},
};

/// What a run needs of its model.
struct Needs {
    tools: bool,
    images: bool,
    tokens: u64,
}

impl Driver<'_> {
    /// In the order of the profile; none unless a request has failed.
    pub(super) async fn stand_ins_for(&mut self, input: &Input) -> Result<Vec<StandIn>, JournalError> {
        let has_failed = matches!(
            input,
            Input::AskFailed { .. } | Input::CompactionFailed { .. } | Input::Planned { plan: Plan::Stuck, .. }
        );
        if !has_failed {
            return Ok(Vec::new());
        }
        match self.stand_ins().await {
            Ok(stand_ins) => Ok(stand_ins),
            Err(HistoryError::Journal(error)) => Err(error),
            Err(HistoryError::Model(_)) => Ok(Vec::new()),
        }
    }

    async fn stand_ins(&mut self) -> Result<Vec<StandIn>, HistoryError> {
        let run = self.active()?;
        let profile = self.profile(run)?;
        if profile.fallback.is_empty() {
            return Ok(Vec::new());
        }
        let tools = self.run_tools().specs();
        let summary = self.load().await?;
        let run = self.active()?;
        let summary = summary.map_or(0, |summary| context::estimate(&context::as_message(&summary, run.context.first)));
        let conversation = Conversation::new(self.history.entries_at());
        let images = conversation.shown(&run.context).iter().any(|(message, _)| holds_image(message));
        let beside = context::overhead(&run.accepted.system_prompt, &tools) + summary;
        let meter = Meter::new(run.context.measured.as_ref(), &run.accepted.model);
        let tokens = meter.tokens(beside + conversation.size(&run.context));
        let needs = Needs { tools: !tools.is_empty(), images, tokens };
        // One that is not there any more says nothing of the size of others.
        let context = self.model(run).map_or(u64::MAX, |model| model.info().limit.context);
        let resolved = profile.fallback.iter().filter_map(|name| profile.models.resolve(name).ok());
        Ok(resolved.filter_map(|model| needs.met_by(model.as_ref(), run, context)).collect())
    }
}

impl Needs {
    fn met_by(&self, model: &dyn Model, run: &ActiveRun, context: u64) -> Option<StandIn> {
        let (info, takes) = (model.info(), model.takes());
        let can = (takes.tools || !self.tools) && (takes.images || !self.images);
        if !can || context::window(info) < self.tokens {
            return None;
        }
        let terms = ModelTerms::of(info, &run.accepted.limits)?;
        let is_larger = info.limit.context > context;
        Some(StandIn { model: info.full_id(), context: info.limit.context, is_larger, terms })
    }
}

fn holds_image(message: &Message) -> bool {
    message.parts().iter().any(|part| matches!(part, MessagePart::Image { .. }))
}
