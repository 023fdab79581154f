//! From a run to its answer in the outbox.
//!
//! Always from the cursor of the post: nothing of a run is kept before its end, so following it again repeats nothing.

use std::{collections::HashMap, time::Duration};

use sha2::{Digest, Sha256};
use stakpak_client::{ClientError, MessagesResponse, SseEvent, protocol::Event};
use stakpak_protocol::Role;
use tokio::time::{sleep, timeout};

use super::{
    Conversations, StepError,
    answer::{Answer, Ending},
};
use crate::{backoff::Backoff, clock::now_ms, store::OpenRun};

/// After this long without an event the server is asked whether the run still goes on.
const QUIET: Duration = Duration::from_secs(30);
/// Messages read to find the answer of a run whose events are gone.
const MESSAGES_READ: usize = 100;

impl Conversations {
    pub(super) async fn follow(&self, run: OpenRun) -> Result<(), StepError> {
        let mut events = match self.client.subscribe_events(&run.session_id, Some(run.cursor)).await {
            Ok(events) => events,
            Err(error) if error.is_not_found() => return self.finish(&run, Answer::default(), Ending::lost()).await,
            Err(error) => return Err(error.into()),
        };
        let mut answer = Answer::default();
        loop {
            match timeout(QUIET, events.next_event()).await {
                Ok(Some(event)) => {
                    if let Some(ending) = self.on_event(&run, &mut answer, &event).await? {
                        return self.end(&run, answer, ending).await;
                    }
                }
                Ok(None) if events.last_error().is_none_or(ClientError::is_not_found) => {
                    return self.finish(&run, Answer::default(), Ending::lost()).await;
                }
                // Access was refused; the operator can repair that.
                Ok(None) => return Err(StepError::Busy),
                Err(_quiet) => {
                    if let Some(ending) = self.ended_unheard(&run).await? {
                        answer.incomplete = true;
                        return self.end(&run, answer, ending).await;
                    }
                }
            }
        }
    }

    async fn on_event(
        &self,
        run: &OpenRun,
        answer: &mut Answer,
        event: &SseEvent,
    ) -> Result<Option<Ending>, StepError> {
        if event.as_gap_detected().is_some() {
            answer.incomplete = true;
            self.decide_pending(run).await?;
            return self.ended_unheard(run).await;
        }
        let Some(envelope) = event.envelope() else { return Ok(None) };
        if envelope.event.run_id().to_string() != run.run_id {
            return Ok(None);
        }
        if matches!(envelope.event, Event::WaitingForToolApproval { .. }) {
            self.decide_pending(run).await?;
        }
        Ok(answer.take(envelope.event))
    }

    /// How the run ended, if it did.
    async fn ended_unheard(&self, run: &OpenRun) -> Result<Option<Ending>, StepError> {
        match self.client.get_run(&run.session_id, &run.run_id).await {
            Ok(state) if state.state.is_terminal() => Ok(Some(match (state.last_error, state.stop_reason) {
                (Some(error), _) => Ending::failed(&error.message),
                (None, Some(reason)) => Ending::of(reason),
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

    async fn end(&self, run: &OpenRun, answer: Answer, ending: Ending) -> Result<(), StepError> {
        let answer = if answer.incomplete { self.answer_from_messages(run).await? } else { answer };
        self.finish(run, answer, ending).await
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

    async fn finish(&self, run: &OpenRun, answer: Answer, mut ending: Ending) -> Result<(), StepError> {
        ending.remark = ending.remark.map(|remark| self.redactor.redact(&remark).into_owned());
        let text = answer.into_text(&ending);
        let parts = self.parts(&run.address, &format!("run:{}:0", run.run_id), &text);
        self.store.finish_run(&run.run_id, ending.outcome, parts, now_ms()).await?;
        self.deliveries.wake(&run.address.chat_key());
        Ok(())
    }

    /// Decides every call that waits. Repeats until the server has heard it or does not want to.
    async fn decide_pending(&self, run: &OpenRun) -> Result<(), StepError> {
        let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(10));
        loop {
            match self.decide_once(run).await {
                Ok(()) => return Ok(()),
                Err(error) if error.is_retryable() => {
                    tracing::warn!(error = %error, "a decision is repeated");
                    sleep(backoff.next()).await;
                }
                // The run is over or was decided by somebody else; if not, its approval deadline decides.
                Err(error) => {
                    tracing::warn!(error = %error, "the server did not take a decision");
                    return Ok(());
                }
            }
        }
    }

    async fn decide_once(&self, run: &OpenRun) -> Result<(), ClientError> {
        let pending = self.client.pending_tools(&run.session_id).await?;
        if pending.tool_calls.is_empty() || pending.run_id.map(|id| id.to_string()) != Some(run.run_id.clone()) {
            return Ok(());
        }
        let decisions: HashMap<_, _> =
            pending.tool_calls.iter().map(|call| (call.id.clone(), self.policy.decide(call))).collect();
        let mut digest = Sha256::new();
        let mut ids: Vec<_> = decisions.keys().collect();
        ids.sort();
        for id in ids {
            digest.update(id.as_bytes());
            digest.update([0, u8::from(decisions[id].content.is_none())]);
        }
        let hash: String = digest.finalize().iter().take(12).map(|byte| format!("{byte:02x}")).collect();
        let client = self.client.with_idempotency_key(format!("gw-decide-{}-{hash}", run.run_id));
        client.resolve_tools(&run.session_id, &run.run_id, decisions).await.map(drop)
    }
}
