//! Spans: the ids of session and run are on every line that is logged while a run is driven, and in traces.
//!
//! Fields hold ids, names and numbers, never text of a person, a model or a tool. A run is a trace of its own that links to
//! the request that started it: a span that held the run would end with it, and the request has ended long before.

use stakpak_protocol::{LastErrorCode, RunId, SessionId, StopReason};
use tracing::{Span, field::Empty, info, info_span};

use super::{asking::Compact, effects::Ask};
use crate::{
    JournalError, ModelError, ToolCall, ToolOutcome,
    session::{ActiveRun, Fact, Input, Session},
};

/// The span of the run that has not ended.
#[derive(Debug)]
pub(super) struct RunSpan {
    run: Option<RunId>,
    span: Span,
}

impl RunSpan {
    /// Of a session that is driven from here on.
    pub(super) fn of(session: &Session) -> Self {
        let Some(run) = session.active() else { return Self { run: None, span: Span::none() } };
        Self { run: Some(run.accepted.run_id), span: run_span(session.row.id, run) }
    }

    /// What the driver does for the run is done in it.
    pub(super) fn span(&self) -> Span {
        self.span.clone()
    }

    /// What a request does to the session: inside the request's own span.
    pub(super) fn applying(&self, request: &Span, session: SessionId) -> Span {
        info_span!(parent: request, "apply", session_id = %session, run_id = self.run.map(tracing::field::display))
    }

    /// Follows the session over what has become durable. The current span is that of what caused it.
    pub(super) fn follow(&mut self, session: &Session, facts: &[Fact]) {
        for fact in facts {
            if let Fact::RunEnded { stop_reason, error, seconds } = fact {
                self.end(*stop_reason, *error, *seconds);
            }
        }
        let Some(run) = session.active().filter(|run| self.run != Some(run.accepted.run_id)) else { return };
        *self = Self::of(session);
        self.span.follows_from(Span::current());
        info!(session_id = %session.row.id, run_id = %run.accepted.run_id, model = run.accepted.model, "run accepted");
    }

    /// Why the session is no longer driven. A process that is not its owner has nothing to tell.
    pub(super) fn tell(&self, session: SessionId, error: &JournalError) {
        if !matches!(error, JournalError::StaleEpoch { .. } | JournalError::Elsewhere { .. }) {
            let error = error as &dyn std::error::Error;
            self.span.in_scope(|| tracing::error!(session_id = %session, error, "session cannot go on"));
        }
    }

    fn end(&mut self, stop_reason: StopReason, error: Option<LastErrorCode>, seconds: f64) {
        self.span.record("stop_reason", tracing::field::debug(stop_reason));
        if error.is_some() {
            self.span.record("otel.status_code", "ERROR");
        }
        self.span.in_scope(|| info!(?error, seconds, "run ended"));
        *self = Self { run: None, span: Span::none() };
    }
}

fn run_span(session: SessionId, run: &ActiveRun) -> Span {
    let accepted = &run.accepted;
    info_span!(
        parent: None,
        "run",
        session_id = %session,
        run_id = %accepted.run_id,
        model = accepted.model,
        profile = accepted.profile,
        stop_reason = Empty,
        otel.status_code = Empty
    )
}

/// One request to the model, in the current span.
pub(super) fn model_request(request: u64, ask: &Ask) -> Span {
    let info = ask.model.info();
    info_span!(
        "model_request",
        request,
        provider = info.provider,
        input_tokens = Empty,
        output_tokens = Empty,
        error = Empty,
        otel.status_code = Empty
    )
}

/// One request for a summary, in the current span.
pub(super) fn compaction(request: u64, compact: &Compact) -> Span {
    info_span!("compaction", request, provider = compact.model.info().provider, messages = compact.messages)
}

/// How the request of the current span ended.
pub(super) fn record_answer(last: &Input) {
    let span = Span::current();
    match last {
        Input::Answered { answer, .. } => {
            span.record("input_tokens", answer.usage.prompt_tokens);
            span.record("output_tokens", answer.usage.completion_tokens);
        }
        Input::AskFailed { error: ModelError { class, .. }, .. } => {
            span.record("error", tracing::field::debug(class));
            span.record("otel.status_code", "ERROR");
        }
        _ => {}
    }
}

/// One attempt of a call, in the current span.
pub(super) fn tool_call(call: &ToolCall, attempt: u64) -> Span {
    info_span!("tool_call", tool = call.name, call_id = %call.id, attempt, otel.status_code = Empty)
}

/// How the call of the current span ended.
pub(super) fn record_outcome(outcome: &ToolOutcome) {
    if matches!(outcome, ToolOutcome::Completed { is_error: true, .. }) {
        Span::current().record("otel.status_code", "ERROR");
    }
}
