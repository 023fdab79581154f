//! Following a run to its end: text as it comes, questions as they come, the outcome from the server's record.

use std::collections::HashMap;

use anyhow::{Result, bail};
use serde_json::json;
use stakpak_client::{ClientError, EventEnvelope, Run as RunRecord, RunState, StakpakClient};
use stakpak_protocol::{Event, EventId, RunId};
use tokio::time::{Duration, Instant, timeout};

use super::ask::Answers;
use crate::{exit::Failure, output};

/// After this long without an event the server is asked whether the run still goes on.
const QUIET: Duration = Duration::from_secs(10);

/// How long a server that is gone is waited for.
const GIVE_UP: Duration = Duration::from_secs(60);

/// How long a cancel may take to be confirmed.
const CANCEL: Duration = Duration::from_secs(5);

pub(crate) struct Run<'a> {
    pub(crate) client: &'a StakpakClient,
    pub(crate) session: String,
    pub(crate) run: RunId,
    pub(crate) json: bool,
}

impl Run<'_> {
    /// Follows to the end. A connection that is lost comes back by itself; what cannot be heard any more is asked for.
    pub(crate) async fn follow(&self, cursor: EventId, answers: Answers) -> Result<()> {
        let mut events = self.client.subscribe_events(&self.session, Some(cursor.0)).await?;
        let mut printer = Printer { json: self.json, ..Printer::default() };
        let mut last_contact = Instant::now();
        loop {
            let event = match timeout(QUIET, events.next_event()).await {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(_quiet) => match self.state().await {
                    Ok(record) if record.state.is_terminal() => break,
                    Ok(_) => {
                        last_contact = Instant::now();
                        continue;
                    }
                    Err(error) if last_contact.elapsed() > GIVE_UP => {
                        let session = &self.session;
                        bail!("{error}; if the server comes back, the run goes on there in session {session}");
                    }
                    Err(error) => {
                        printer.note(&format!("{error}; waiting for the server to come back"));
                        continue;
                    }
                },
            };
            last_contact = Instant::now();
            if event.is_control() {
                self.answer(answers, &mut printer).await;
                continue;
            }
            let Some(envelope) = event.envelope().filter(|envelope| envelope.run_id == Some(self.run)) else {
                continue;
            };
            printer.show(&envelope);
            if let Event::WaitingForToolApproval { .. } = envelope.event {
                self.answer(answers, &mut printer).await;
            }
            if envelope.event.is_terminal() {
                break;
            }
        }
        let record = self.state().await?;
        self.finish(&record, &printer)
    }

    async fn state(&self) -> Result<RunRecord, ClientError> {
        self.client.get_run(&self.session, &self.run.to_string()).await
    }

    /// Puts each waiting call to whoever answers. A decision that is not taken does not end the run: it may have ended, or
    /// somebody else may have decided.
    async fn answer(&self, answers: Answers, printer: &mut Printer) {
        if let Err(error) = self.try_answer(answers).await {
            printer.note(&format!("the decision was not taken: {error:#}"));
        }
    }

    async fn try_answer(&self, answers: Answers) -> Result<()> {
        let pending = self.client.pending_tools(&self.session).await?;
        for call in pending.tool_calls {
            let id = call.id.to_string();
            let decision = tokio::task::spawn_blocking(move || answers.decide(&call)).await??;
            let decisions = HashMap::from([(id, decision)]);
            self.client.resolve_tools(&self.session, &self.run.to_string(), decisions).await?;
        }
        Ok(())
    }

    pub(crate) async fn cancel(&self) {
        eprintln!("\ncancelling …");
        let run = self.run.to_string();
        match timeout(CANCEL, self.client.cancel_run(&self.session, &run)).await {
            Ok(Ok(())) => eprintln!("cancelled"),
            Ok(Err(error)) => eprintln!("not confirmed: {error}"),
            Err(_) => eprintln!("not confirmed in {} s", CANCEL.as_secs()),
        }
    }

    fn finish(&self, record: &RunRecord, printer: &Printer) -> Result<()> {
        if self.json {
            let outcome = match record.state {
                RunState::Completed => "completed",
                RunState::Cancelled => "cancelled",
                _ => "failed",
            };
            let manifest = json!({
                "outcome": outcome, "session_id": self.session, "run_id": self.run, "steps": record.turns,
                "total_steps": record.turns, "usage": record.total_usage, "stop_reason": record.stop_reason,
                "agent_message": printer.text, "checkpoint_id": record.checkpoint_id,
                "exit_code": i32::from(record.state != RunState::Completed),
            });
            output::line(&format!("{manifest:#}"));
        }
        match record.state {
            RunState::Completed => Ok(()),
            RunState::Failed => {
                let message = record.last_error.as_ref().map_or("the run failed", |error| error.message.as_str());
                bail!("{message}")
            }
            _ if self.json => bail!(Failure::Silent),
            _ => bail!("the run was cancelled"),
        }
    }
}

/// Prints a run as it goes.
#[derive(Debug, Default)]
struct Printer {
    json: bool,
    /// The last answer's text.
    text: String,
    at_line_start: bool,
}

impl Printer {
    fn show(&mut self, envelope: &EventEnvelope) {
        match &envelope.event {
            Event::TurnStarted { .. } => self.text.clear(),
            Event::TextDelta { delta, .. } => self.print(delta),
            Event::TextComplete { text, .. } => {
                self.text.clone_from(text);
                self.end_line();
            }
            Event::ToolExecutionStarted { tool_name, .. } => self.note(&format!("running {tool_name} …")),
            Event::ToolRejected { tool_name, reason, .. } => self.note(&format!("{tool_name} was not run: {reason}")),
            Event::RetryAttempt { delay_ms, reason, .. } => {
                self.note(&format!(
                    "{reason}; trying again in {:.1} s",
                    Duration::from_millis(*delay_ms).as_secs_f64()
                ));
            }
            _ => {}
        }
    }

    fn print(&mut self, delta: &str) {
        if !self.json {
            output::piece(delta);
        }
        self.at_line_start = delta.ends_with('\n');
    }

    fn end_line(&mut self) {
        if !self.at_line_start && !self.json {
            output::line("");
        }
        self.at_line_start = true;
    }

    fn note(&mut self, text: &str) {
        if !self.json {
            eprintln!("· {text}");
        }
    }
}
