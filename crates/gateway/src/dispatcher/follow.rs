//! From a run to its answer in the outbox.
//!
//! Always from the cursor of the post: nothing of a run is kept before its end, so following it again repeats nothing.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_STANDARD};
use stakpak_client::{ClientError, EventStream, MessagesResponse, SseEvent, StreamItem, protocol::Event};
use stakpak_protocol::Role;
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    Conversations, StepError,
    answer::{Answer, Ending},
    live::{Live, Place},
    segments::Segments,
};
use crate::{
    Body, Progress, Reaction,
    approvals::DeskError,
    backoff::Backoff,
    clock::{millis, now_ms},
    store::{Batch, Content, EndedRun, NewPart, OpenRun},
};

/// After this long without an event the server is asked whether the run still goes on.
const QUIET: Duration = Duration::from_secs(30);
/// After a reconnect that found the run ended, its last events may still be on their way for so long.
const SETTLING: Duration = Duration::from_secs(3);
/// Messages read to find the answer of a run whose events are gone.
const MESSAGES_READ: usize = 100;

/// A run as it is heard.
#[derive(Debug, Default)]
struct Watch {
    answer: Answer,
    live: Option<Live>,
    /// With `progress = "messages"`.
    segments: Option<Segments>,
    /// When it has taken too long.
    deadline: Option<Instant>,
}

/// What happens first.
enum Next {
    Event(Option<SseEvent>),
    Reconnected,
    Quiet,
    Show,
    TimedOut,
}

impl Watch {
    async fn next(&self, events: &mut EventStream, quiet: Instant) -> Next {
        let due = async {
            match &self.live {
                Some(live) => live.due().await,
                None => std::future::pending().await,
            }
        };
        let segment_due = async {
            match self.segments.as_ref().and_then(Segments::due) {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let timed_out = async {
            match self.deadline {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = timed_out => Next::TimedOut,
            () = due => Next::Show,
            () = segment_due => Next::Show,
            item = events.next_item() => match item {
                Some(StreamItem::Event(event)) => Next::Event(Some(event)),
                Some(StreamItem::Reconnected) => Next::Reconnected,
                None => Next::Event(None),
            },
            () = sleep_until(quiet) => Next::Quiet,
        }
    }
}

impl Conversations {
    /// Follows a run to its end; one that began just now, from `batch`, is kept meanwhile. Should the process die before it is,
    /// the same request finds the same run. False when nothing else waits.
    pub(super) async fn follow(&self, run: &OpenRun, batch: Option<&Batch>) -> Result<bool, StepError> {
        let kept = async {
            match batch {
                Some(batch) => self.store.started(batch, run, self.refreshed(batch)).await,
                None => Ok(()),
            }
        };
        let (kept, events) = tokio::join!(kept, self.client.subscribe_events(&run.session_id, Some(run.cursor)));
        kept?;
        let mut events = match events {
            Ok(events) => events,
            Err(error) if error.is_not_found() => return self.finish(run, Watch::default(), Ending::lost()).await,
            Err(error) => return Err(error.into()),
        };
        let mut watch = Watch {
            answer: Answer::default(),
            live: Live::new(self, run),
            segments: (self.progress == Progress::Messages).then(|| Segments::new(run.sent.clone())),
            deadline: self.deadline(run),
        };
        let mut patience = QUIET;
        let mut quiet = Instant::now() + patience;
        loop {
            match watch.next(&mut events, quiet).await {
                Next::Event(Some(event)) => {
                    quiet = Instant::now() + patience;
                    if let Some(ending) = self.on_event(run, &mut watch, &event).await? {
                        return self.end(run, watch, ending).await;
                    }
                }
                Next::Event(None) if events.last_error().is_none_or(ClientError::is_not_found) => {
                    return self.finish(run, Watch::default(), Ending::lost()).await;
                }
                // Access was refused; the operator can repair that.
                Next::Event(None) => return Err(StepError::NoAccess),
                Next::Reconnected => {
                    self.deliveries.worker().tally.stream_reconnected(1);
                    if self.ended_unheard(run).await?.is_some() {
                        patience = SETTLING;
                        quiet = quiet.min(Instant::now() + patience);
                    }
                }
                Next::Quiet => {
                    quiet = Instant::now() + QUIET;
                    if let Some(ending) = self.ended_unheard(run).await? {
                        watch.answer.incomplete = true;
                        return self.end(run, watch, ending).await;
                    }
                }
                Next::Show => {
                    if let Some(live) = &mut watch.live {
                        live.show(self, run).await?;
                    }
                    self.send_segment(run, &mut watch, |segments| segments.due_now(Instant::now())).await?;
                }
                Next::TimedOut => {
                    watch.deadline = None;
                    watch.answer.timed_out = true;
                    self.cancel(run).await?;
                }
            }
        }
    }

    /// When the run has taken too long.
    fn deadline(&self, run: &OpenRun) -> Option<Instant> {
        let limit = millis(self.run_timeout.into_iter().chain(run.timeout_s.map(Duration::from_secs)).min()?);
        let left = u64::try_from(run.started_at.saturating_add(limit) - now_ms()).unwrap_or(0);
        Some(Instant::now() + Duration::from_millis(left))
    }

    /// Asks the server to end the run; its terminal event follows.
    pub(crate) async fn cancel(&self, run: &OpenRun) -> Result<(), ClientError> {
        match self.client.cancel_run(&run.session_id, &run.run_id).await {
            Err(error) if error.is_retryable() => Err(error),
            // It has ended meanwhile.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    async fn on_event(&self, run: &OpenRun, watch: &mut Watch, event: &SseEvent) -> Result<Option<Ending>, StepError> {
        if event.as_gap_detected().is_some() {
            watch.answer.incomplete = true;
            self.deliveries.worker().tally.stream_gap();
            self.decide_pending(run).await?;
            return self.ended_unheard(run).await;
        }
        let Some(envelope) = event.envelope() else { return Ok(None) };
        if envelope.event.run_id().to_string() != run.run_id {
            return Ok(None);
        }
        let waits = matches!(envelope.event, Event::WaitingForToolApproval { .. });
        if waits || self.is_asked_about(run, &envelope.event).await? {
            self.decide_pending(run).await?;
        }
        if let Some(live) = &mut watch.live {
            live.take(&envelope.event);
        }
        self.send_segment(run, watch, |segments| segments.take(&envelope.event, Instant::now())).await?;
        Ok(watch.answer.take(envelope.event))
    }

    /// Queues the message that `next` finds, and with it how far the run was told.
    async fn send_segment(
        &self,
        run: &OpenRun,
        watch: &mut Watch,
        next: impl FnOnce(&mut Segments) -> Option<String>,
    ) -> Result<(), StepError> {
        let Some(segments) = &mut watch.segments else { return Ok(()) };
        let Some(text) = next(segments) else { return Ok(()) };
        let key = format!("run:{}:m{}", run.run_id, segments.sent.messages);
        let first = segments.sent.messages == 1;
        let text = text.trim_matches('\n');
        let parts = if first { self.replies(run, &key, text) } else { self.parts(&run.address, &key, text) };
        self.store.send_part(&run.run_id, &segments.sent, parts.clone(), now_ms()).await?;
        self.deliveries.wake_for(&parts);
        Ok(())
    }

    /// How the run ended, if it did.
    async fn ended_unheard(&self, run: &OpenRun) -> Result<Option<Ending>, StepError> {
        match self.client.get_run(&run.session_id, &run.run_id).await {
            Ok(state) if state.state.is_terminal() => Ok(Some(match (state.last_error, state.stop_reason) {
                (Some(error), _) => Ending::failed(&error.message),
                (None, Some(reason)) => Ending::of(reason, state.detail),
                (None, None) => Ending::failed("unknown error"),
            })),
            Ok(_) => Ok(None),
            Err(error) if error.is_not_found() => Ok(Some(Ending::lost())),
            // The event stream goes on trying; so does this, at the next quiet time.
            Err(error) => {
                tracing::debug!(error = %error, "the state of a run is not known");
                Ok(None)
            }
        }
    }

    async fn end(&self, run: &OpenRun, mut watch: Watch, ending: Ending) -> Result<bool, StepError> {
        if watch.answer.incomplete {
            let timed_out = watch.answer.timed_out;
            watch.answer = self.answer_from_messages(run).await?;
            watch.answer.timed_out = timed_out;
        }
        self.finish(run, watch, ending).await
    }

    async fn answer_from_messages(&self, run: &OpenRun) -> Result<Answer, StepError> {
        let total = match self.client.get_messages(&run.session_id, 1, 0).await {
            Ok(MessagesResponse { total, .. }) => total,
            Err(error) if error.is_not_found() => return Ok(Answer::default()),
            Err(error) => return Err(error.into()),
        };
        let offset = total.saturating_sub(MESSAGES_READ);
        let mut messages = self.client.get_messages(&run.session_id, MESSAGES_READ, offset).await?.messages;
        let last_question = messages.iter().rposition(|message| message.role == Role::User);
        let answers = messages.split_off(last_question.map_or(0, |at| at + 1));
        let texts = answers.iter().filter(|message| message.role == Role::Assistant);
        Ok(Answer::from_texts(texts.map(|message| message.text()).collect()))
    }

    /// False when nothing else waits.
    async fn finish(&self, run: &OpenRun, watch: Watch, ending: Ending) -> Result<bool, StepError> {
        let Watch { answer, live, segments, .. } = watch;
        let mut ending = if answer.timed_out { ending.timed_out() } else { ending };
        ending.remark = ending.remark.map(|remark| self.redactor.redact(&remark).into_owned());
        let place = match live {
            _ if segments.as_ref().is_some_and(|segments| segments.sent.messages > 0) => Place::Behind,
            Some(live) => live.end(&self.store, run).await?,
            None => Place::New,
        };
        let error = ending.remark.clone().filter(|_| ending.outcome == "failed");
        let ended = EndedRun { outcome: ending.outcome, error, unconsumed: answer.unconsumed.clone() };
        let text = match &segments {
            Some(segments) => answer.into_rest(&ending, segments),
            None => answer.into_text(&ending),
        };
        let parts = self.answer_parts(run, &text, place, ending.outcome);
        let left = self.store.finish_run(&run.run_id, ended, parts.clone(), now_ms()).await?;
        self.deliveries.wake_for(&parts);
        self.deliveries.worker().tally.run_ended(ending.outcome);
        if left.approvals {
            self.approvals.wake(&run.run_id);
        }
        Ok(left.waiting)
    }

    /// The answer as messages; a long one is its beginning and a file.
    fn answer_parts(&self, run: &OpenRun, markdown: &str, place: Place, outcome: &str) -> Vec<NewPart> {
        let key = format!("run:{}:0", run.run_id);
        let mut parts = match place {
            Place::Behind => self.parts(&run.address, &key, markdown),
            _ => self.replies(run, &key, markdown),
        };
        let new = |idem_key: String, content| NewPart { idem_key, address: run.address.clone(), content };
        if parts.len() > self.long_reply_chunks {
            parts.truncate(1);
            let base64 = BASE64_STANDARD.encode(markdown);
            let caption = Some("The whole answer.".to_owned());
            parts.push(new(format!("{key}:file"), Content::File { name: "answer.md".to_owned(), caption, base64 }));
        }
        match (place, parts.first_mut()) {
            (Place::Instead(of), Some(first)) => {
                if let Content::Text { body } | Content::Reply { body, .. } = &first.content {
                    first.content = Content::Edit { of, body: body.clone(), buttons: Vec::new(), must_show: true };
                }
            }
            (Place::Beside(of), _) => {
                let body = Body::plain(format!("Run {outcome}."));
                let content = Content::Edit { of, body, buttons: Vec::new(), must_show: false };
                parts.push(new(format!("{key}:status"), content));
            }
            _ => {}
        }
        parts.extend(self.sign(run, outcome).map(|content| new(format!("{key}:sign"), content)));
        parts
    }

    /// The sign on the question that says it was answered.
    fn sign(&self, run: &OpenRun, outcome: &str) -> Option<Content> {
        let message_id = run.question.clone().filter(|_| self.progress != Progress::Messages)?;
        let reaction = if outcome == "completed" { Reaction::Done } else { Reaction::Failed };
        Some(Content::Reaction { message_id, reaction, instead_of: Some(Reaction::Seen) })
    }

    /// Sees to every call that waits: policy decides it, or a person is asked. Repeats until the server has heard it or does
    /// not want to.
    async fn decide_pending(&self, run: &OpenRun) -> Result<(), StepError> {
        let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(10));
        loop {
            match self.approvals.worker().reconcile(run).await {
                Ok(()) => break,
                Err(DeskError::Store(error)) => return Err(error.into()),
                Err(DeskError::Server(error)) if error.is_retryable() => {
                    tracing::warn!(error = %error, "a decision is repeated");
                    sleep(backoff.next()).await;
                }
                // The run is over or was decided by somebody else; if not, its approval deadline decides.
                Err(DeskError::Server(error)) => {
                    tracing::warn!(error = %error, "the server did not take a decision");
                    break;
                }
            }
        }
        self.approvals.wake(&run.run_id);
        Ok(())
    }

    /// Whether somebody is being asked about a call that the server has gone on with.
    async fn is_asked_about(&self, run: &OpenRun, event: &Event) -> Result<bool, StepError> {
        let (Event::ToolExecutionStarted { tool_call_id, .. } | Event::ToolRejected { tool_call_id, .. }) = event
        else {
            return Ok(false);
        };
        let asked = self.store.approvals_of(&run.run_id).await?;
        Ok(asked.iter().any(|approval| approval.undecided().iter().any(|(_, call)| call.id == tool_call_id.0)))
    }
}

#[cfg(test)]
mod tests;
