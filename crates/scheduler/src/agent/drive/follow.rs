//! A run that exists: its events drive what is done, its recorded state says how it ended.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use stakpak_client::{EventStream, ProposedToolCall, SseEvent, StakpakClient, ToolDecisionInput};
use stakpak_protocol::{
    DecisionsRequest, Event, EventId, Run, RunId, RunState, SessionId, StopDetail, StopReason, ToolCallId,
    ToolDecision, ToolDecisionAction,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    Limits, Observer, Progress,
    transcript::{self, Transcript},
};
use crate::{
    agent::{
        AgentOutcome, AgentReport, AgentResult, WhenAsked, build_tool_decisions, reject_unattended,
        retry::{Backoff, is_transient},
    },
    clock::Clock,
};

/// The run is asked for at least this often, whatever the stream says or does not say.
const POLL: Duration = Duration::from_secs(30);

pub(super) struct Follower<'a, O> {
    client: &'a StakpakClient,
    clock: &'a dyn Clock,
    when_asked: &'a WhenAsked,
    stop_grace: TimeDelta,
    deadline: DateTime<Utc>,
    stop: CancellationToken,
    observer: &'a O,
    session: SessionId,
    run: RunId,
    /// Since when calls have been waiting for a person.
    paused_since: Option<DateTime<Utc>>,
    /// An earlier process was to cancel it at its limit.
    over_limit: bool,
    /// The calls that do.
    waiting: Vec<String>,
    decisions: Option<watch::Receiver<()>>,
}

/// What happened while following.
enum Input {
    Event(Box<SseEvent>),
    StreamEnded,
    Poll,
    Deadline,
    Expired,
    Stop,
}

/// What the run's record says.
enum Seen {
    Ended(Box<Run>),
    Gone,
    Waiting(Vec<ProposedToolCall>),
    Active,
    NoAnswer,
}

impl<'a, O: Observer> Follower<'a, O> {
    pub(super) fn new(
        client: &'a StakpakClient,
        clock: &'a dyn Clock,
        when_asked: &'a WhenAsked,
        limits: Limits,
        observer: &'a O,
        (session, run): (SessionId, RunId),
        progress: Progress,
    ) -> Self {
        let (waiting, decisions) = (Vec::new(), observer.decisions());
        let Limits { mut deadline, stop_grace, stop } = limits;
        let Progress { paused_since, over_limit, .. } = progress;
        if over_limit {
            deadline = deadline.min(clock.now());
        }
        Self {
            client,
            clock,
            when_asked,
            stop_grace,
            deadline,
            stop,
            observer,
            session,
            run,
            paused_since,
            over_limit,
            waiting,
            decisions,
        }
    }

    /// When what waits is rejected; never while nothing does.
    fn expires_at(&self) -> Option<DateTime<Utc>> {
        match self.when_asked {
            WhenAsked::Wait { at_most } => self.paused_since?.checked_add_signed(*at_most),
            _ => None,
        }
    }

    pub(super) async fn follow(mut self, mut cursor: EventId) -> Result<AgentReport, O::Error> {
        let session = self.session.to_string();
        let mut backoff = Backoff::new();
        loop {
            let opened = tokio::select! {
                opened = self.client.subscribe_events(&session, Some(cursor.0)) => Ok(opened),
                () = self.clock.sleep_until(self.deadline), if self.paused_since.is_none() => Err(Input::Deadline),
                () = self.stop.cancelled() => Err(Input::Stop),
            };
            let report = match opened {
                Err(Input::Stop) => Some(self.cancel(false).await),
                Err(_) => self.at_deadline().await?,
                Ok(opened) => match (self.look().await?, opened) {
                    (Some(report), _) => Some(report),
                    (None, Ok(stream)) => self.read(stream, &mut cursor).await?,
                    (None, Err(error)) => {
                        tracing::warn!(%error, "no event stream yet");
                        None
                    }
                },
            };
            if let Some(report) = report {
                return Ok(report);
            }
            backoff.wait(None).await;
        }
    }

    /// Reads one stream to its end; `None` means: open another.
    async fn read(&mut self, mut stream: EventStream, cursor: &mut EventId) -> Result<Option<AgentReport>, O::Error> {
        loop {
            let expires_at = self.expires_at();
            let input = tokio::select! {
                event = stream.next_event() => event.map_or(Input::StreamEnded, |event| Input::Event(Box::new(event))),
                () = tokio::time::sleep(POLL) => Input::Poll,
                () = self.clock.sleep_until(self.deadline), if self.paused_since.is_none() => Input::Deadline,
                () = expiry(self.clock, expires_at) => Input::Expired,
                () = changed(&mut self.decisions), if self.paused_since.is_some() => Input::Poll,
                () = self.stop.cancelled() => Input::Stop,
            };
            let report = match input {
                Input::Event(event) => self.on_event(&event, cursor).await?,
                Input::Poll => self.look().await?,
                Input::Deadline => self.at_deadline().await?,
                Input::Expired => {
                    self.observer.expired().await?;
                    self.look().await?
                }
                Input::Stop => Some(self.cancel(false).await),
                Input::StreamEnded => {
                    let report = self.look().await?;
                    if report.is_none() {
                        return Ok(None);
                    }
                    report
                }
            };
            if report.is_some() {
                return Ok(report);
            }
        }
    }

    async fn on_event(&mut self, event: &SseEvent, cursor: &mut EventId) -> Result<Option<AgentReport>, O::Error> {
        if event.is_control() {
            return self.look().await;
        }
        if let Some(id) = event.event_id_u64 {
            *cursor = EventId(id);
        }
        let Some(envelope) = event.envelope().filter(|envelope| envelope.run_id == Some(self.run)) else {
            return Ok(None);
        };
        match envelope.event {
            // Too many to pay a write for each; seeing them again costs nothing.
            Event::TextDelta { .. } | Event::ThinkingDelta { .. } | Event::ToolExecutionProgress { .. } => Ok(None),
            Event::UsageReport { ref usage, cost_usd, .. } => {
                match self.observer.spent(*cursor, usage, cost_usd).await? {
                    true => {
                        // Whoever settles what is not confirmed has to know that this was no time limit.
                        self.stop.cancel();
                        Ok(Some(self.cancel(false).await))
                    }
                    false => Ok(None),
                }
            }
            Event::WaitingForToolApproval { .. } | Event::RunCompleted { .. } | Event::RunError { .. } => {
                self.look().await
            }
            Event::ToolExecutionStarted { .. } | Event::ToolRejected { .. } | Event::TurnStarted { .. }
                if self.paused_since.is_some() =>
            {
                self.look().await
            }
            _ => {
                self.observer.seen(*cursor).await?;
                Ok(None)
            }
        }
    }

    /// Reads the run's record and does what it asks for.
    async fn look(&mut self) -> Result<Option<AgentReport>, O::Error> {
        match self.seen().await {
            Seen::Ended(run) => {
                self.ask_who_decided().await?;
                Ok(Some(self.ended(&run, false).await))
            }
            Seen::Gone => Ok(Some(self.unknown("the server does not know the run").await)),
            Seen::Waiting(calls) => self.answer(calls).await,
            Seen::NoAnswer => Ok(None),
            Seen::Active => {
                if self.paused_since.is_some() {
                    self.go_on();
                    self.observer.resumed().await?;
                    self.ask_who_decided().await?;
                }
                Ok(None)
            }
        }
    }

    async fn seen(&self) -> Seen {
        let session = self.session.to_string();
        match self.client.get_run(&session, &self.run.to_string()).await {
            Ok(run) if run.state.is_terminal() => Seen::Ended(Box::new(run)),
            Ok(run) if run.state == RunState::WaitingApproval => match self.client.pending_tools(&session).await {
                Ok(pending) if pending.run_id == Some(self.run.0) && !pending.tool_calls.is_empty() => {
                    Seen::Waiting(pending.tool_calls)
                }
                // Decided between the two questions; an event will say so.
                Ok(_) => Seen::NoAnswer,
                Err(_) => Seen::NoAnswer,
            },
            Ok(_) => Seen::Active,
            Err(error) if error.is_not_found() => Seen::Gone,
            Err(error) => {
                tracing::warn!(%error, "the state of a run could not be read");
                Seen::NoAnswer
            }
        }
    }

    async fn answer(&mut self, calls: Vec<ProposedToolCall>) -> Result<Option<AgentReport>, O::Error> {
        match self.when_asked {
            WhenAsked::Reject { profile } => {
                self.decide(reject_unattended(&calls, profile)).await;
                Ok(None)
            }
            WhenAsked::AllowListed(allowed) => {
                let names: Vec<_> = calls.into_iter().map(|call| (call.id, call.name)).collect();
                self.decide(build_tool_decisions(&names, allowed)).await;
                Ok(None)
            }
            WhenAsked::Wait { .. } => {
                // Before it is written: who reads there that it waits may count from then.
                let now = self.clock.now();
                let known = self.observer.paused(&calls).await?;
                let undecided = calls.into_iter().map(|call| call.id).filter(|call| !known.contains_key(call));
                self.waiting = undecided.collect();
                if self.waiting.is_empty() {
                    self.go_on();
                } else {
                    self.paused_since.get_or_insert(now);
                }
                if !known.is_empty() {
                    self.tell(known).await?;
                }
                Ok(None)
            }
            // Their decision is an event.
            WhenAsked::InChat => Ok(None),
            WhenAsked::Return => Ok(Some(self.paused(&calls).await)),
        }
    }

    /// The time spent waiting does not count.
    fn go_on(&mut self) {
        if let Some(since) = self.paused_since.take() {
            self.deadline += (self.clock.now() - since).max(TimeDelta::zero());
        }
    }

    /// Tells the server what was decided here, and keeps what was decided elsewhere before.
    async fn tell(&self, decisions: HashMap<String, ToolDecision>) -> Result<(), O::Error> {
        let decisions = decisions.into_iter().map(|(call, decision)| (ToolCallId(call), decision)).collect();
        let request = DecisionsRequest { run_id: self.run, decisions };
        let mut backoff = Backoff::new();
        for _ in 0..3 {
            match self.client.resolve_tool_calls(&self.session.to_string(), &request).await {
                Ok(answer) if answer.decided.is_empty() => return Ok(()),
                Ok(answer) => return self.observer.decided(answer.decided).await,
                Err(error) if is_transient(&error) => backoff.wait(Some(&error)).await,
                Err(error) => {
                    tracing::info!(%error, "a decision was not taken");
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The calls it waited with were decided, and not here: a decision that comes too late is answered with who did it.
    async fn ask_who_decided(&mut self) -> Result<(), O::Error> {
        let calls = std::mem::take(&mut self.waiting);
        if calls.is_empty() {
            return Ok(());
        }
        let late = ToolDecision { action: ToolDecisionAction::Reject, content: None, scope: None, by: None };
        let decisions: BTreeMap<_, _> = calls.into_iter().map(|call| (ToolCallId(call), late.clone())).collect();
        let request = DecisionsRequest { run_id: self.run, decisions };
        match self.client.resolve_tool_calls(&self.session.to_string(), &request).await {
            Ok(answer) => self.observer.decided(answer.decided).await,
            Err(error) => {
                tracing::info!(%error, "who decided is not known");
                Ok(())
            }
        }
    }

    /// A decision that is a duplicate, too late, or for a run that has ended changes nothing; one that got no answer is sent
    /// again when the run is next seen waiting.
    async fn decide(&self, decisions: HashMap<String, ToolDecisionInput>) {
        let mut backoff = Backoff::new();
        for _ in 0..3 {
            let sent =
                self.client.resolve_tools(&self.session.to_string(), &self.run.to_string(), decisions.clone()).await;
            match sent {
                Err(error) if is_transient(&error) => backoff.wait(Some(&error)).await,
                Err(error) => {
                    tracing::info!(%error, "a decision was not taken");
                    return;
                }
                Ok(_) => return,
            }
        }
    }

    /// Unless it turns out that the run waits for a person, or has ended, it is stopped.
    async fn at_deadline(&mut self) -> Result<Option<AgentReport>, O::Error> {
        match self.look().await? {
            None if self.paused_since.is_none() => {
                self.observer.over_limit().await?;
                Ok(Some(self.cancel(true).await))
            }
            seen => Ok(seen),
        }
    }

    /// Cancels, and waits until the record says so, but not for ever.
    async fn cancel(&self, at_limit: bool) -> AgentReport {
        let give_up = self.clock.now() + self.stop_grace;
        tokio::select! {
            report = self.settle(at_limit) => report,
            () = self.clock.sleep_until(give_up) => {
                let said = transcript::read(self.client, self.session).await;
                let why = "the server has not confirmed that the run was cancelled";
                self.report(AgentOutcome::Unconfirmed, Some(1), why.to_owned(), said)
            }
        }
    }

    /// Cancels until the record says how the run ended, or that there is none.
    pub(super) async fn settle(&self, at_limit: bool) -> AgentReport {
        let mut backoff = Backoff::new();
        loop {
            if let Err(error) = self.client.cancel_run(&self.session.to_string(), &self.run.to_string()).await {
                tracing::warn!(%error, "cancel was not accepted");
            }
            match self.seen().await {
                Seen::Ended(run) => return self.ended(&run, at_limit).await,
                Seen::Gone => return self.unknown("the server does not know the run").await,
                Seen::Waiting(_) | Seen::Active | Seen::NoAnswer => backoff.wait(None).await,
            }
        }
    }

    async fn ended(&self, run: &Run, at_limit: bool) -> AgentReport {
        let said = transcript::read(self.client, self.session).await;
        let error = run.last_error.as_ref().map(|error| error.message.clone());
        let at_limit = at_limit || self.over_limit;
        let (outcome, exit_code, stderr) = match (run.state, run.stop_reason) {
            (RunState::Cancelled, _) if at_limit => {
                (AgentOutcome::TimedOut, None, "cancelled at its time limit".to_owned())
            }
            (RunState::Cancelled, _) => (AgentOutcome::Cancelled, Some(1), "cancelled".to_owned()),
            (_, Some(StopReason::MaxTurns)) => (AgentOutcome::MaxTurns, Some(1), out_of_turns(run)),
            (RunState::Completed, None | Some(StopReason::Completed)) => {
                (AgentOutcome::Completed, Some(0), String::new())
            }
            _ => (AgentOutcome::Failed, Some(1), error.unwrap_or_else(|| "the run failed".to_owned())),
        };
        let mut report = self.report(outcome, exit_code, stderr, said);
        report.result.timed_out = outcome == AgentOutcome::TimedOut;
        report.result.checkpoint_id = run.checkpoint_id.map(|id| id.to_string());
        report.stop_reason = run.stop_reason;
        report.turns = Some(run.turns);
        report.retryable = run.last_error.as_ref().is_some_and(|error| error.retryable);
        report.side_effects = run.side_effects;
        report.usage = Some(run.total_usage.clone());
        report.cost = run.cost_usd;
        report.error_code = run.last_error.as_ref().map(|error| error.code);
        report
    }

    async fn unknown(&self, why: &str) -> AgentReport {
        let said = transcript::read(self.client, self.session).await;
        self.report(AgentOutcome::Unknown, Some(1), why.to_owned(), said)
    }

    async fn paused(&self, calls: &[ProposedToolCall]) -> AgentReport {
        let said = transcript::read(self.client, self.session).await;
        let mut report = self.report(AgentOutcome::Paused, Some(10), String::new(), said);
        report.result.paused = true;
        report.result.pause_reason = Some(pause_reason(calls).to_string());
        report
    }

    fn report(&self, outcome: AgentOutcome, exit_code: Option<i32>, stderr: String, said: Transcript) -> AgentReport {
        let result = AgentResult {
            exit_code,
            session_id: Some(self.session.to_string()),
            stdout: said.text,
            stderr,
            ..AgentResult::default()
        };
        AgentReport {
            result,
            run_id: Some(self.run),
            outcome,
            stop_reason: None,
            turns: None,
            usage: None,
            cost: None,
            error_code: None,
            retryable: false,
            side_effects: true,
            final_message: said.last,
        }
    }
}

/// Why a run that could have gone on did not.
fn out_of_turns(run: &Run) -> String {
    match run.detail {
        Some(StopDetail::NoProgress) => format!(
            "stopped after {} turns, the last of which made the same calls with the same results: change the prompt, or \
             no_progress.stop of the profile",
            run.turns
        ),
        None => format!("stopped after {} turns, the most allowed", run.turns),
    }
}

async fn expiry(clock: &dyn Clock, at: Option<DateTime<Utc>>) {
    match at {
        Some(at) => clock.sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn changed(decisions: &mut Option<watch::Receiver<()>>) {
    let Some(decisions) = decisions else { return std::future::pending().await };
    if decisions.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Ids, names and arguments of the calls that wait.
pub(crate) fn pause_reason(calls: &[ProposedToolCall]) -> serde_json::Value {
    calls
        .iter()
        .map(|call| serde_json::json!({ "id": call.id, "name": call.name, "arguments": call.arguments }))
        .collect()
}
