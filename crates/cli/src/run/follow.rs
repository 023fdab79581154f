//! Following a run until it ends or waits for somebody: text as it comes, questions as they come, the outcome from the
//! server's record.

use std::collections::{HashMap, HashSet};

use anyhow::{Result, bail};
use stakpak_client::{ClientError, ProposedToolCall, Run as RunRecord, RunState, StakpakClient, ToolDecisionInput};
use stakpak_protocol::{DecisionOutcome, Event, EventId, RunId, ToolCallId};
use tokio::time::{Duration, Instant, timeout};

use super::{ask::Answers, printer::Printer};

/// After this long without an event the server is asked whether the run still goes on.
const QUIET: Duration = Duration::from_secs(10);

/// How long a server that is gone is waited for.
const GIVE_UP: Duration = Duration::from_secs(60);

/// How long a cancel may take to be confirmed.
const CANCEL: Duration = Duration::from_secs(5);

/// Between two looks at a run that was cancelled.
const PAUSE: Duration = Duration::from_millis(50);

pub(crate) struct Run<'a> {
    pub(crate) client: &'a StakpakClient,
    pub(crate) session: String,
    pub(crate) run: RunId,
}

/// Where a run stands when nothing more is heard of it.
pub(crate) enum Followed {
    Ended(Box<RunRecord>),
    /// These calls wait, and everything else has been done.
    Waiting(Box<RunRecord>, Vec<ProposedToolCall>),
}

impl Run<'_> {
    /// Follows it. A connection that is lost comes back by itself; what cannot be heard any more is asked for.
    pub(crate) async fn follow(&self, cursor: EventId, answers: Answers, printer: &mut Printer) -> Result<Followed> {
        let mut events = self.client.subscribe_events(&self.session, Some(cursor.0)).await?;
        let mut last_contact = Instant::now();
        let mut seen = Seen { last: cursor, ..Seen::default() };
        loop {
            match timeout(QUIET, events.next_event()).await {
                Ok(None) => break,
                Ok(Some(event)) if event.is_control() => self.answer(answers, printer).await,
                Ok(Some(event)) => {
                    seen.last = event.event_id_u64.map_or(seen.last, EventId);
                    let ours = event.envelope().filter(|envelope| envelope.run_id == Some(self.run));
                    if let Some(envelope) = ours {
                        printer.show(&envelope);
                        seen.note(&envelope.event);
                        match envelope.event {
                            Event::WaitingForToolApproval { .. } => self.answer(answers, printer).await,
                            event if event.is_terminal() => break,
                            _ => {}
                        }
                    }
                }
                Err(_quiet) => match self.record().await {
                    Ok(record) if record.state.is_terminal() => break,
                    Ok(_) => {}
                    Err(error) if last_contact.elapsed() > GIVE_UP => {
                        let session = &self.session;
                        bail!("{error}; if the server comes back, the run goes on there in session {session}");
                    }
                    Err(error) => {
                        printer.note(&format!("{error}; waiting for the server to come back"));
                        continue;
                    }
                },
            }
            last_contact = Instant::now();
            if answers == Answers::Later
                && seen.may_wait()
                && let Some((record, calls)) = self.waiting(seen.last).await?
            {
                return Ok(Followed::Waiting(record, calls));
            }
        }
        Ok(Followed::Ended(Box::new(self.record().await?)))
    }

    pub(super) async fn record(&self) -> Result<RunRecord, ClientError> {
        self.client.get_run(&self.session, &self.run.to_string()).await
    }

    /// What waits, if nothing has happened that was not seen: a call that begins is in the same commit as what lets it begin.
    async fn waiting(&self, last: EventId) -> Result<Option<(Box<RunRecord>, Vec<ProposedToolCall>)>> {
        let record = self.record().await?;
        if record.state != RunState::WaitingApproval || record.last_event_id > last {
            return Ok(None);
        }
        let pending = self.client.pending_tools(&self.session).await?;
        Ok((!pending.tool_calls.is_empty()).then(|| (Box::new(record), pending.tool_calls)))
    }

    /// Puts each waiting call to whoever answers. A decision that is not taken does not end the run: it may have ended, or
    /// somebody else may have decided.
    async fn answer(&self, answers: Answers, printer: &Printer) {
        if answers != Answers::Later
            && let Err(error) = self.try_answer(answers).await
        {
            printer.note(&format!("the decision was not taken: {error:#}"));
        }
    }

    async fn try_answer(&self, answers: Answers) -> Result<()> {
        let pending = self.client.pending_tools(&self.session).await?;
        for call in pending.tool_calls {
            let id = call.id.clone();
            let decision = tokio::task::spawn_blocking(move || answers.decide(&call)).await??;
            if let Some(decision) = decision {
                let decisions = HashMap::from([(id, decision)]);
                self.client.resolve_tools(&self.session, &self.run.to_string(), decisions).await?;
            }
        }
        Ok(())
    }

    /// Sends decisions; those that came too late.
    pub(super) async fn decide(&self, decisions: HashMap<String, ToolDecisionInput>) -> Result<Vec<ToolCallId>> {
        let answer = self.client.resolve_tools(&self.session, &self.run.to_string(), decisions).await?;
        let taken = |outcome| matches!(outcome, DecisionOutcome::Applied | DecisionOutcome::Duplicate);
        Ok(answer.results.into_iter().filter(|(_, outcome)| !taken(*outcome)).map(|(call, _)| call).collect())
    }

    /// Cancels and waits, but not for long, until the record says that the run has ended.
    pub(crate) async fn cancel(&self) -> Result<RunRecord> {
        let confirmed = async {
            loop {
                let cancelled = self.client.cancel_run(&self.session, &self.run.to_string()).await;
                match (cancelled, self.record().await?) {
                    // It was over already, or is now.
                    (_, record) if record.state.is_terminal() => return Ok(record),
                    (Err(error), _) => return Err(anyhow::Error::from(error)),
                    (Ok(()), _) => tokio::time::sleep(PAUSE).await,
                }
            }
        };
        match timeout(CANCEL, confirmed).await {
            Ok(Ok(record)) => Ok(record),
            Ok(Err(error)) => Err(error.context("the cancel is not confirmed")),
            Err(_) => bail!("the cancel is not confirmed within {} s", CANCEL.as_secs()),
        }
    }
}

/// What was seen of the run's calls.
#[derive(Debug, Default)]
struct Seen {
    last: EventId,
    /// Whether calls were said to wait.
    waiting: bool,
    running: HashSet<ToolCallId>,
}

impl Seen {
    fn note(&mut self, event: &Event) {
        match event {
            Event::WaitingForToolApproval { .. } => self.waiting = true,
            Event::ToolExecutionStarted { tool_call_id, .. } => {
                self.running.insert(tool_call_id.clone());
            }
            Event::ToolExecutionCompleted { tool_call_id, .. } | Event::ToolRejected { tool_call_id, .. } => {
                self.running.remove(tool_call_id);
            }
            Event::TurnStarted { .. } => *self = Self { last: self.last, ..Self::default() },
            _ => {}
        }
    }

    fn may_wait(&self) -> bool {
        self.waiting && self.running.is_empty()
    }
}
