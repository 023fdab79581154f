//! Requests to models: what of the history they show, and what is done first when that is too long.

use std::sync::Arc;

use stakpak_protocol::{Message, MessagePart, ModelCost};

use super::{
    driver::{Driver, internal},
    effects::Ask,
    history::HistoryError,
    notes,
};
use crate::{
    ContextState, ErrorClass, JournalError, Model, ModelError, ModelRequest, Plan, Profile, Purpose, ToolSpec,
    context::{self, Conversation, Meter, Situation},
    session::ActiveRun,
    view,
};

/// What follows from a request that is owed.
pub(super) enum Prepared {
    /// It can be sent.
    Ask(Ask, Arc<Profile>),
    /// The conversation has to be made smaller first.
    Plan(Plan),
}

/// A request for a summary, and what is needed to tell what came of it.
pub(super) struct Compact {
    pub(super) model: Arc<dyn Model>,
    pub(super) request: ModelRequest,
    /// Of the model.
    pub(super) price: Option<ModelCost>,
    /// Estimate of the view behind the summary.
    pub(super) rest: u64,
    pub(super) meter: Meter,
    /// Tokens that the request was made for.
    pub(super) window: u64,
    /// Messages that are summed up.
    pub(super) messages: u64,
}

impl Driver<'_> {
    pub(super) async fn prepare_ask(&mut self) -> Result<Prepared, HistoryError> {
        let tools = self.run_tools().specs();
        let summary = self.load().await?;
        let run = self.active()?;
        let (profile, model) = (self.profile(run)?, self.model(run)?);
        let conversation = Conversation::new(self.history.entries_at());
        let summary = summary.map(|summary| context::as_message(&summary, run.context.first));
        let situation = situation(run, &conversation, &profile, model.as_ref(), &tools, summary.as_ref());
        match context::plan(&situation) {
            Plan::Send => {}
            plan => return Ok(Prepared::Plan(plan)),
        }
        let estimated = situation.beside + conversation.size(&run.context);
        let shown = conversation.shown(&run.context);
        let messages = shown.iter().map(|(message, reasoning)| (message.as_ref(), *reasoning));
        let note = notes::of_request(run);
        let beside = |message| (message, None);
        let (messages, replays) =
            view::render(summary.iter().map(beside).chain(messages).chain(note.iter().map(beside)));
        let request = ModelRequest {
            purpose: Purpose::Answer,
            system: run.accepted.system_prompt.as_str().into(),
            messages,
            replays,
            tools: Arc::default(),
            max_output_tokens: crate::longest_answer(model.info()),
            reasoning: profile.reasoning,
            session_id: self.session.row.id,
        };
        Ok(Prepared::Ask(Ask { model, request, tools: self.tools.taking(), estimated }, profile))
    }

    pub(super) async fn prepare_compaction(&mut self, first: u64) -> Result<Compact, HistoryError> {
        let tools = self.run_tools().specs();
        let earlier = self.load().await?;
        let run = self.active()?;
        let (profile, model) = (self.profile(run)?, self.model(run)?);
        let conversation = Conversation::new(self.history.entries_at());
        let situation = situation(run, &conversation, &profile, model.as_ref(), &tools, None);
        let rest = situation.beside + conversation.size(&ContextState { first, ..run.context.clone() });
        let meter = situation.meter;
        let room = match &run.shrinking.refused {
            // How much of it would have been taken nobody said.
            Some(_) => situation.window.min(run.context.tokens) / 2,
            None => situation.window,
        };
        let other = self.summing_up(&profile);
        let price = other.as_ref().map_or(run.accepted.terms.price, |other| other.info().cost);
        let model = other.unwrap_or(model);
        let window = context::window(model.info()).min(room);
        let covered = (run.context.first, first);
        let id = self.session.row.id;
        let request = context::request(&conversation, earlier.as_deref(), covered, (window, meter), id);
        Ok(Compact { model, request, price, rest, meter, window, messages: first })
    }

    /// Reads what is not here yet; gives the summary that stands for older messages.
    pub(super) async fn load(&mut self) -> Result<Option<Arc<str>>, HistoryError> {
        let journal = self.agent.journal.as_ref();
        self.history.load(journal, &self.session.row).await.map_err(unreadable)?;
        let Some(place) = self.session.active().and_then(|run| run.context.summary_at) else { return Ok(None) };
        self.history.summary(journal, self.session.row.id, place).await.map(Some).map_err(unreadable)
    }

    pub(super) fn active(&self) -> Result<&ActiveRun, HistoryError> {
        self.session.active().ok_or_else(|| HistoryError::Model(internal("there is no run")))
    }

    pub(super) fn profile(&self, run: &ActiveRun) -> Result<Arc<Profile>, HistoryError> {
        self.agent.profiles.profile(Some(&run.accepted.profile)).map_err(|error| model_error(&error))
    }

    pub(super) fn model(&self, run: &ActiveRun) -> Result<Arc<dyn Model>, HistoryError> {
        self.profile(run)?.models.resolve(&run.accepted.model).map_err(|error| model_error(&error))
    }

    /// The model that sums up, if it is not the run's own.
    fn summing_up(&self, profile: &Profile) -> Option<Arc<dyn Model>> {
        let name = profile.compaction.model.as_deref()?;
        let resolved = profile.models.resolve(name);
        resolved.inspect_err(|error| tracing::warn!(%error, "the run's own model sums up")).ok()
    }
}

fn situation<'a>(
    run: &'a ActiveRun,
    conversation: &'a Conversation<'a>,
    profile: &'a Profile,
    model: &dyn Model,
    tools: &[ToolSpec],
    summary: Option<&Message>,
) -> Situation<'a> {
    let summary = summary.map_or(0, context::estimate);
    let note = notes::of_request(run).as_ref().map_or(0, context::estimate);
    Situation {
        conversation,
        state: &run.context,
        beside: context::overhead(&run.accepted.system_prompt, tools) + summary + note,
        summary,
        meter: Meter::new(run.context.measured.as_ref(), &run.accepted.model),
        window: context::window(model.info()),
        compaction: &profile.compaction,
        shrinking: &run.shrinking,
    }
}

/// The text of an answer.
pub(super) fn text_of(parts: &[MessagePart]) -> String {
    let texts = parts.iter().filter_map(|part| match part {
        MessagePart::Text { text, .. } => Some(text.as_str()),
        _ => None,
    });
    texts.collect()
}

/// A damaged history ends the run; a journal that cannot be read at all ends the driver.
fn unreadable(error: JournalError) -> HistoryError {
    match error {
        JournalError::Damaged { .. } => {
            tracing::error!(error = &error as &dyn std::error::Error, "the history cannot be read");
            HistoryError::Model(internal("the history of this session is damaged"))
        }
        other => HistoryError::Journal(other),
    }
}

fn model_error(error: &dyn std::error::Error) -> HistoryError {
    HistoryError::Model(ModelError::new(ErrorClass::ModelNotFound, error.to_string()))
}
