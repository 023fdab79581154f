//! Running effects: each is a task that reports, and that can be stopped.
//!
//! A stopped call gets its cancel token and time to end its processes; everything else is aborted. The driver's exit, also
//! by drop, stops them all.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::{FutureExt, Stream, StreamExt, stream};
use stakpak_protocol::{ToolCallId, Usage};
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::{
    asking::{Compact, text_of},
    driver::internal,
    hidden::{self, HiddenAnswer},
    run_tools::Taking,
    spans,
};
use crate::{
    Clock, ErrorClass, Model, ModelAnswer, ModelError, ModelEvent, ModelRequest, ModelStream, ToolCall, ToolContext,
    ToolOutcome, Tools, context,
    port::SessionSecrets,
    session::{DeltaKind, Input, Owed, Session, Summary},
};

/// Reports on their way to the driver. Effects wait when it is full: the disk is then the slower side.
const REPORTS: usize = 256;

/// Pieces of a call's progress on their way; more are dropped, the result is not.
const PROGRESS: usize = 64;

/// Pieces of an answer that become one at most.
const MOST_MERGED: usize = 64;

/// How late a wait may end after the machine slept or its clock was set.
const LONGEST_LOOK_AWAY: Duration = Duration::from_secs(30);

/// A request that is ready to be sent, but for the run's tools.
pub(super) struct Ask {
    pub(super) model: Arc<dyn Model>,
    pub(super) request: ModelRequest,
    pub(super) tools: Taking,
    /// Tokens that it is expected to have.
    pub(super) estimated: u64,
}

pub(super) struct Effects {
    running: Vec<Running>,
    tasks: JoinSet<()>,
    report: mpsc::Sender<Input>,
    reports: mpsc::Receiver<Input>,
    secrets: SessionSecrets,
}

struct Running {
    owed: Owed,
    task: AbortHandle,
    /// Calls are asked to end; everything else is aborted.
    cancel: Option<CancellationToken>,
    /// Fires when the user has sent a message that goes before what has not started.
    steered: CancellationToken,
}

impl Effects {
    /// What they report has no secrets of the session.
    pub(super) fn new(secrets: SessionSecrets) -> Self {
        let (report, reports) = mpsc::channel(REPORTS);
        Self { running: Vec::new(), tasks: JoinSet::new(), report, reports, secrets }
    }

    /// Whether nothing runs, stopped calls that are still ending included.
    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    pub(super) fn has(&self, owed: &Owed) -> bool {
        self.running.iter().any(|running| running.owed == *owed)
    }

    /// A call with effects waits until calls that were stopped have ended.
    pub(super) fn may_start(&self, owed: &Owed, tools: &dyn Tools) -> bool {
        let ending = self.tasks.len() > self.running.iter().filter(|running| !running.task.is_finished()).count();
        match owed {
            Owed::Run { call, .. } => !ending || tools.effect(call).may_repeat(),
            Owed::Probe { .. } => !ending,
            Owed::Ask { .. } | Owed::Compact { .. } | Owed::Wait { .. } | Owed::Deadline { .. } => true,
        }
    }

    pub(super) fn stop_others(&mut self, owed: &[Owed]) {
        self.running.retain(|running| {
            let keep = owed.contains(&running.owed);
            if !keep {
                match &running.cancel {
                    Some(cancel) => cancel.cancel(),
                    None => running.task.abort(),
                }
            }
            keep
        });
    }

    /// Waits for the next report; none: a task has ended.
    pub(super) async fn next(&mut self) -> Option<Input> {
        tokio::select! {
            report = self.reports.recv() => report,
            Some(_) = self.tasks.join_next() => None,
        }
    }

    /// A report that is here already.
    pub(super) fn try_next(&mut self) -> Option<Input> {
        self.reports.try_recv().ok()
    }

    pub(super) fn ask(&mut self, owed: Owed, request: u64, ask: Ask) {
        let span = spans::model_request(request, &ask);
        let (report, secrets) = (self.report.clone(), self.secrets.clone());
        let task = async move {
            let answer = stream_answer(ask, request, &report, &secrets);
            let mut last = match AssertUnwindSafe(answer).catch_unwind().await {
                Ok(last) => last,
                Err(_) => Input::AskFailed { request, error: internal("the model adapter panicked") },
            };
            if let Input::AskFailed { error, .. } = &mut last {
                secrets.hide(vec![&mut error.message]).await;
            }
            spans::record_answer(&last);
            let _ = report.send(last).await;
        };
        self.spawn(owed, task.instrument(span));
    }

    /// Reports in place of the effect.
    pub(super) fn report(&mut self, owed: Owed, input: Input) {
        let report = self.report.clone();
        self.spawn(owed, async move {
            let _ = report.send(input).await;
        });
    }

    pub(super) fn compact(&mut self, owed: Owed, request: u64, compact: Compact) {
        let span = spans::compaction(request, &compact);
        let (report, secrets) = (self.report.clone(), self.secrets.clone());
        let task = async move {
            let _ = report.send(summarize(compact, request, &secrets).await).await;
        };
        self.spawn(owed, task.instrument(span));
    }

    /// The wall clock may be set and the machine may sleep, so the time is looked at again and again.
    pub(super) fn wait(&mut self, owed: Owed, clock: &Arc<dyn Clock>) {
        let (until, input) = match owed {
            Owed::Wait { request, until } => (until, Input::Waited { request }),
            Owed::Deadline { at } => (at, Input::DeadlinePassed),
            Owed::Ask { .. } | Owed::Compact { .. } | Owed::Probe { .. } | Owed::Run { .. } => return,
        };
        let (clock, report) = (Arc::clone(clock), self.report.clone());
        self.spawn(owed, async move {
            loop {
                let left = (until - clock.now()).to_std().unwrap_or_default();
                if left.is_zero() {
                    break;
                }
                tokio::time::sleep(left.min(LONGEST_LOOK_AWAY)).await;
            }
            let _ = report.send(input).await;
        });
    }

    /// Tells every call that the user has sent a message.
    pub(super) fn steer(&self) {
        self.running.iter().for_each(|running| running.steered.cancel());
    }

    pub(super) fn probe(&mut self, owed: Owed, tools: &Arc<dyn Tools>, session: &Session) {
        let (Owed::Probe { call }, Some(context)) = (&owed, unwatched(session)) else { return };
        let (tools, call, report) = (Arc::clone(tools), call.clone(), self.report.clone());
        self.spawn(owed, async move {
            let probe = AssertUnwindSafe(tools.probe(&call, context)).catch_unwind().await.unwrap_or_default();
            let _ = report.send(Input::Probed { call_id: call.id, probe }).await;
        });
    }

    pub(super) fn run(&mut self, owed: Owed, tools: &Arc<dyn Tools>, session: &Session) {
        let (progress, pieces) = mpsc::channel(PROGRESS);
        let (Owed::Run { call, attempt }, Some(context)) = (&owed, context(session, progress)) else { return };
        let (cancel, steered) = (context.cancel.clone(), context.steered.clone());
        let span = spans::tool_call(call, *attempt);
        let reports = Reports { to: self.report.clone(), secrets: self.secrets.clone() };
        let task = run_call(Arc::clone(tools), call.clone(), *attempt, context, pieces, reports);
        let task = self.tasks.spawn(task.instrument(span));
        self.running.push(Running { owed, task, cancel: Some(cancel), steered });
    }

    fn spawn(&mut self, owed: Owed, task: impl Future<Output = ()> + Send + 'static) {
        let task = self.tasks.spawn(task);
        self.running.push(Running { owed, task, cancel: None, steered: CancellationToken::new() });
    }
}

/// What a call of the session's run is given.
fn context(session: &Session, progress: mpsc::Sender<String>) -> Option<ToolContext> {
    let accepted = &session.active()?.accepted;
    Some(ToolContext {
        session_id: session.row.id,
        run_id: accepted.run_id,
        cwd: accepted.cwd.clone().into(),
        sandbox: accepted.sandbox.clone(),
        notify_route: accepted.notify_route.clone(),
        cancel: CancellationToken::new(),
        steered: CancellationToken::new(),
        progress,
    })
}

/// The same for a look at what a call changes.
pub(super) fn unwatched(session: &Session) -> Option<ToolContext> {
    context(session, mpsc::channel(1).0)
}

/// Passes deltas on as they come; the last report is returned.
async fn stream_answer(ask: Ask, request: u64, report: &mpsc::Sender<Input>, secrets: &SessionSecrets) -> Input {
    let mut hidden = HiddenAnswer::new(secrets.clone(), request);
    let mut last = stream_deltas(ask, request, report, &mut hidden).await;
    for delta in hidden.finish().await {
        let _ = report.send(delta).await;
    }
    if let Input::Answered { answer, .. } = &mut last {
        hidden.complete(answer).await;
    }
    last
}

async fn stream_deltas(mut ask: Ask, request: u64, report: &mpsc::Sender<Input>, hidden: &mut HiddenAnswer) -> Input {
    ask.request.tools = ask.tools.tools().await.specs();
    let mut stream = match ask.model.stream(ask.request).await {
        Ok(stream) => merged(stream),
        Err(error) => return Input::AskFailed { request, error },
    };
    while let Some(event) = stream.next().await {
        let (kind, text) = match event {
            Ok(ModelEvent::Done(answer)) => return Input::Answered { request, answer, estimated: ask.estimated },
            Ok(ModelEvent::Text(text)) => (DeltaKind::Text, text),
            Ok(ModelEvent::Thinking(text)) => (DeltaKind::Thinking, text),
            Err(error) => return Input::AskFailed { request, error },
        };
        let Some(delta) = hidden.push(kind, &text).await else { continue };
        if report.send(delta).await.is_err() {
            break;
        }
    }
    Input::AskFailed { request, error: cut_off(ask.model.as_ref()) }
}

/// Pieces of an answer that have arrived together become one: each costs a search for secrets, a record and an event.
fn merged(answer: ModelStream) -> impl Stream<Item = Result<ModelEvent, ModelError>> + Unpin {
    answer.ready_chunks(MOST_MERGED).flat_map(|together| {
        let mut merged: Vec<Result<ModelEvent, ModelError>> = Vec::new();
        for event in together {
            match (merged.last_mut(), event) {
                (Some(Ok(ModelEvent::Text(text))), Ok(ModelEvent::Text(more)))
                | (Some(Ok(ModelEvent::Thinking(text))), Ok(ModelEvent::Thinking(more))) => text.push_str(&more),
                (_, event) => merged.push(event),
            }
        }
        stream::iter(merged)
    })
}

/// Sums up; deltas go nowhere.
async fn summarize(compact: Compact, request: u64, secrets: &SessionSecrets) -> Input {
    let asked = AssertUnwindSafe(whole_answer(&compact)).catch_unwind().await;
    let asked = asked.unwrap_or_else(|_| Err(internal("the model adapter panicked")));
    let (usage, mut text) = match &asked {
        Ok(answer) => (answer.usage.clone(), text_of(&answer.parts)),
        Err(_) => (Usage::default(), String::new()),
    };
    secrets.hide(vec![&mut text]).await;
    let by_model = !text.trim().is_empty();
    if !by_model {
        let transcript = compact.request.messages.iter().map(stakpak_protocol::Message::text).collect::<String>();
        let tokens = compact.request.max_output_tokens.unwrap_or_default();
        text = context::digest(&transcript, compact.meter.bytes(tokens));
    }
    let (text, is_longer) = context::bounded(&text, compact.window);
    let message = context::as_message(&text, compact.messages);
    let summary = Summary {
        tokens_after: compact.meter.tokens(compact.rest + context::estimate(&message)),
        model: asked.is_ok().then(|| compact.model.info().full_id()),
        cost: compact.price.map(|price| price.of(&usage)),
        truncated: is_longer || !by_model,
        usage,
        text,
    };
    match asked {
        Ok(_) => Input::Compacted { request, summary },
        Err(mut error) => {
            secrets.hide(vec![&mut error.message]).await;
            Input::CompactionFailed { request, error, instead: Some(summary) }
        }
    }
}

async fn whole_answer(compact: &Compact) -> Result<ModelAnswer, ModelError> {
    let mut stream = compact.model.stream(compact.request.clone()).await?;
    while let Some(event) = stream.next().await {
        if let ModelEvent::Done(answer) = event? {
            return Ok(answer);
        }
    }
    Err(cut_off(compact.model.as_ref()))
}

fn cut_off(model: &dyn Model) -> ModelError {
    let message = format!("{}: the answer was cut off before its end", model.info().provider);
    ModelError::new(ErrorClass::StreamTruncated, message)
}

/// Where a call reports, and what must not be in it.
struct Reports {
    to: mpsc::Sender<Input>,
    secrets: SessionSecrets,
}

async fn run_call(
    tools: Arc<dyn Tools>,
    call: ToolCall,
    attempt: u64,
    context: ToolContext,
    mut pieces: mpsc::Receiver<String>,
    reports: Reports,
) {
    let Reports { to: report, secrets } = reports;
    let call_id: ToolCallId = call.id.clone();
    let progress = async {
        while let Some(mut text) = pieces.recv().await {
            secrets.hide(vec![&mut text]).await;
            let input = Input::Progress { call_id: call_id.clone(), attempt, text };
            if report.send(input).await.is_err() {
                break;
            }
        }
    };
    let run = AssertUnwindSafe(tools.run(&call, context)).catch_unwind();
    let (outcome, ()) = tokio::join!(run, progress);
    let mut outcome =
        outcome.unwrap_or_else(|_| ToolOutcome::error("TOOL_FAILED", "the tool panicked; its effects are not known"));
    hidden::outcome(&secrets, &mut outcome).await;
    spans::record_outcome(&outcome);
    let _ = report.send(Input::CallEnded { call_id, attempt, outcome }).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pieces_that_have_arrived_together_are_one_and_none_waits_for_the_next() {
        let (provider, pieces) = mpsc::unbounded_channel();
        let send = |piece| provider.send(Ok(piece)).unwrap();
        let (text, thinking) =
            (|piece: &str| ModelEvent::Text(piece.to_owned()), |piece: &str| ModelEvent::Thinking(piece.to_owned()));
        let pieces = stream::unfold(pieces, |mut pieces| async { pieces.recv().await.map(|piece| (piece, pieces)) });
        let mut answer = merged(pieces.boxed());
        for piece in [thinking("a"), thinking("b"), text("c"), text("d"), thinking("e")] {
            send(piece);
        }
        for expected in [thinking("ab"), text("cd"), thinking("e")] {
            assert_eq!(answer.next().await, Some(Ok(expected)));
        }
        send(text("f"));
        assert_eq!(answer.next().await, Some(Ok(text("f"))), "the provider has not said that there is no more");
    }
}
