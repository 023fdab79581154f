//! The loop: `select!` only tells what happened, the session decides, the journal commits, effects follow.

use std::sync::Arc;

use stakpak_protocol::SessionStatus;
use tokio::sync::mpsc;
use tracing::Instrument;

use super::{
    Agent, Job, RequestError, Resident, Start,
    asking::Prepared,
    days::{Next, Reservation},
    effects::{self, Ask, Effects},
    hidden,
    history::{History, HistoryError},
    run_tools::RunTools,
    slots::Slot,
    spans::RunSpan,
    tail::Tail,
};
use crate::{
    Append, ErrorClass, JournalError, ModelError, Probed, Profile, Receipt, Tools,
    port::SessionSecrets,
    session::{ActiveRun, CallStatus, DeltaKind, Input, Left, Outcome, Owed, Rules, Session},
};

/// Reports that one append may take together: bounds its size, and merges deltas when the disk is the slower side.
const MAX_BATCH: usize = 256;

pub(super) struct Driver<'a> {
    pub(super) agent: &'a Agent,
    secrets: SessionSecrets,
    pub(super) session: Session,
    pub(super) history: History,
    tail: Tail,
    effects: Effects,
    pub(super) tools: RunTools,
    slot: Slot,
    /// Of the day of the run's profile, while the model is asked.
    reservation: Option<Reservation>,
    run_span: RunSpan,
}

enum Happened {
    Job(Job),
    Report(Input),
    EffectGone,
    SlotGranted,
}

impl<'a> Driver<'a> {
    pub(super) fn new(agent: &'a Agent, Resident { session, history, tail }: Resident) -> Self {
        let slot = Slot::new(&agent.slots, session.row.id);
        let run_span = RunSpan::of(&session);
        let tools = RunTools::new(&agent.tools);
        let secrets = SessionSecrets::new(&agent.secrets, session.row.id);
        let effects = Effects::new(secrets.clone());
        Self { agent, secrets, session, history, tail, effects, tools, slot, reservation: None, run_span }
    }

    pub(super) async fn run(mut self, start: Start, jobs: &mut mpsc::Receiver<Job>) -> Result<Resident, JournalError> {
        if let Err(error) = self.drive(start, jobs).await {
            self.run_span.tell(self.session.row.id, &error);
            return Err(error);
        }
        Ok(Resident { session: self.session, history: self.history, tail: self.tail })
    }

    async fn drive(&mut self, start: Start, jobs: &mut mpsc::Receiver<Job>) -> Result<(), JournalError> {
        let span = self.run_span.span();
        self.start(start).instrument(span).await?;
        loop {
            self.slot.settle(self.session.needs_slot());
            let span = self.run_span.span();
            self.reconcile().instrument(span).await?;
            if self.session.active().is_none() && self.effects.is_empty() && jobs.is_empty() {
                self.agent.tools.at_rest(self.session.row.id).await;
                return Ok(());
            }
            let happened = tokio::select! {
                Some(job) = jobs.recv() => Happened::Job(job),
                report = self.effects.next() => report.map_or(Happened::EffectGone, Happened::Report),
                () = self.slot.granted() => Happened::SlotGranted,
            };
            let span = match &happened {
                Happened::Job(job) => self.run_span.applying(&job.span, self.session.row.id),
                _ => self.run_span.span(),
            };
            self.take(happened).instrument(span).await?;
        }
    }

    async fn take(&mut self, happened: Happened) -> Result<(), JournalError> {
        match happened {
            Happened::Job(job) => self.answer(job).await,
            Happened::Report(report) => self.take_reports(report).await,
            Happened::SlotGranted => self.take_reports(Input::SlotTaken).await,
            Happened::EffectGone => Ok(()),
        }
    }

    async fn start(&mut self, start: Start) -> Result<(), JournalError> {
        let input = match start {
            Start::Requests => return Ok(()),
            Start::Recover => Input::Recover { left: self.left().await },
            Start::Fail { code, message } => Input::Fail { code, message, left: self.left().await },
        };
        let tools = self.run_tools();
        let rules = self.rules(tools.as_ref());
        let outcome = self.session.feed(input, &rules);
        self.commit(outcome, None).await
    }

    /// Ends what an earlier process left of calls that have no result, then looks how far they got.
    async fn left(&self) -> Left {
        let started = self.session.active().into_iter().flat_map(|run| &run.calls);
        let mut left = Left::default();
        for call in started.filter(|call| matches!(call.status, CallStatus::Running { .. })) {
            let id = call.resolved.call.id.clone();
            let count = self.agent.tools.end_orphans(self.session.row.id, &id).await;
            left.ended.push((id.clone(), count));
            let (Some(probe), Some(unwatched)) = (&call.probe, effects::unwatched(&self.session)) else { continue };
            let mut probed = self.agent.tools.probed(&call.resolved.call, probe, unwatched).await;
            if let Probed::Done(result) = &mut probed {
                self.secrets.hide(vec![result]).await;
            }
            left.probed.push((id, probed));
        }
        left
    }

    async fn answer(&mut self, job: Job) -> Result<(), JournalError> {
        // The receipt's maker lives to the end of this function: it holds the claim on the idempotency key.
        let Job { mut request, receipt: to_receipt, reply: answer, .. } = job;
        hidden::request(&self.secrets, &mut request).await;
        self.bound(&mut request).await;
        let tools = self.run_tools();
        let rules = self.rules(tools.as_ref());
        let before = self.session.clone();
        match self.session.handle(request, &rules) {
            Err(refusal) => {
                let _ = answer.send(Err(RequestError::Refused(refusal)));
            }
            Ok((reply, outcome)) => {
                let receipt = to_receipt(&reply);
                // A client that is gone does not need its answer: the effect stands.
                match self.commit(outcome, receipt).await {
                    Ok(()) => drop(answer.send(Ok(reply))),
                    // The same request was answered before: nothing of this one was recorded.
                    Err(error @ JournalError::ReceiptExists) => {
                        self.session = before;
                        let _ = answer.send(Err(RequestError::Journal(error)));
                    }
                    Err(error) => {
                        let told = match &error {
                            JournalError::Elsewhere { session, owner } => {
                                JournalError::Elsewhere { session: *session, owner: owner.clone() }
                            }
                            error => JournalError::Storage(error.to_string().into()),
                        };
                        let _ = answer.send(Err(RequestError::Journal(told)));
                        return Err(error);
                    }
                }
            }
        }
        Ok(())
    }

    async fn take_reports(&mut self, first: Input) -> Result<(), JournalError> {
        let mut batch = vec![first];
        while batch.len() < MAX_BATCH {
            let Some(next) = self.effects.try_next() else { break };
            push_merged(&mut batch, next);
        }
        let mut outcome = Outcome::default();
        for mut input in batch {
            if let Input::Answered { answer, .. } = &mut input {
                self.history.make_call_ids_unique(answer);
            }
            let stand_ins = self.stand_ins_for(&input).await?;
            let tools = self.run_tools();
            let rules = Rules { stand_ins, ..self.rules(tools.as_ref()) };
            outcome.extend(self.session.feed(input, &rules));
        }
        self.commit(outcome, None).await
    }

    async fn commit(&mut self, outcome: Outcome, receipt: Option<Receipt>) -> Result<(), JournalError> {
        if outcome.rows.is_empty() && receipt.is_none() {
            return Ok(());
        }
        let stored: usize =
            outcome.rows.iter().filter(|row| row.message_index.is_some()).map(|row| row.payload.len()).sum();
        let mut tail = self.tail;
        let snapshot = tail.grow(&self.session, &outcome.rows);
        let append = Append {
            epoch: self.agent.journal.epoch(),
            session: self.session.row.clone(),
            rows: outcome.rows,
            run: if outcome.run_changed { self.session.run_view() } else { None },
            receipt,
            snapshot,
            spent: outcome.spent,
        };
        self.agent.journal.append(append).await?;
        self.tail = tail;
        self.run_span.follow(&self.session, &outcome.facts);
        for (index, message, reasoning) in outcome.messages {
            self.history.put(index, message, reasoning);
        }
        self.history.grow(stored);
        self.agent.publisher.observe(&outcome.facts);
        self.agent.publisher.publish(self.session.row.id, &outcome.events);
        if self.session.row.status == SessionStatus::Deleted {
            self.agent.publisher.close(self.session.row.id);
        }
        Ok(())
    }

    /// Starts what is owed and does not run; stops what runs and is no longer owed.
    async fn reconcile(&mut self) -> Result<(), JournalError> {
        while self.reconcile_once().await? {}
        Ok(())
    }

    /// Whether the state has changed meanwhile.
    async fn reconcile_once(&mut self) -> Result<bool, JournalError> {
        let owed = self.session.owed();
        let tools = self.run_tools();
        self.effects.stop_others(&owed);
        self.reservation.take_if(|held| !owed.contains(&Owed::Ask { request: held.request }));
        for owed in owed {
            // Without a slot only the clock runs.
            let may_run = self.slot.is_held() || matches!(owed, Owed::Deadline { .. });
            if !may_run || self.effects.has(&owed) || !self.effects.may_start(&owed, tools.as_ref()) {
                continue;
            }
            match &owed {
                Owed::Ask { request } => match self.prepare_ask().await {
                    Ok(Prepared::Ask(ask, profile)) => match self.reserve(*request, &ask, &profile).await? {
                        Ok(()) => self.effects.ask(owed.clone(), *request, ask),
                        Err(message) => {
                            self.effects.report(owed.clone(), Input::OverBudget { request: *request, message });
                        }
                    },
                    Ok(Prepared::Plan(plan)) => {
                        self.take_reports(Input::Planned { request: *request, plan }).await?;
                        return Ok(true);
                    }
                    Err(HistoryError::Journal(error)) => return Err(error),
                    Err(HistoryError::Model(error)) => {
                        self.effects.report(owed.clone(), Input::AskFailed { request: *request, error });
                    }
                },
                Owed::Compact { request, first } => match self.prepare_compaction(*first).await {
                    Ok(compact) => self.effects.compact(owed.clone(), *request, compact),
                    Err(HistoryError::Journal(error)) => return Err(error),
                    Err(HistoryError::Model(error)) => {
                        let failed = Input::CompactionFailed { request: *request, error, instead: None };
                        self.effects.report(owed.clone(), failed);
                    }
                },
                Owed::Wait { .. } | Owed::Deadline { .. } => self.effects.wait(owed, &self.agent.clock),
                Owed::Probe { .. } => self.effects.probe(owed, &tools, &self.session),
                Owed::Run { .. } => self.effects.run(owed, &tools, &self.session),
            }
        }
        if self.session.active().is_some_and(ActiveRun::is_steered) {
            self.effects.steer();
        }
        Ok(false)
    }

    /// Room for the request in the day of the run's profile, or why there is none.
    async fn reserve(
        &mut self,
        request: u64,
        ask: &Ask,
        profile: &Profile,
    ) -> Result<Result<(), String>, JournalError> {
        let Some(run) = self.session.active() else { return Ok(Ok(())) };
        let most = run.most_of_next(ask.request.max_output_tokens);
        let next =
            Next { request, tokens: most.total_tokens, cost: run.accepted.cost_of(&most), is_first: run.turn <= 1 };
        // One that is held already is of the same request, whose effect is gone.
        self.reservation = None;
        let room = self.agent.days.reserve(self.agent.journal.as_ref(), profile, next, self.agent.clock.now()).await?;
        Ok(room.map(|room| self.reservation = Some(room)))
    }

    pub(super) fn run_tools(&mut self) -> Arc<dyn Tools> {
        self.tools.of(self.session.active().map(|run| run.accepted.run_id))
    }

    /// What is decided now may go on at once if a slot is free: a run that starts needs no second append.
    fn rules<'t>(&mut self, tools: &'t dyn Tools) -> Rules<'t>
    where
        'a: 't,
    {
        let has_slot = self.slot.try_take();
        let config = &self.agent.config;
        Rules {
            now: self.agent.clock.now(),
            tools,
            profiles: Some(self.agent.profiles.as_ref()),
            stand_ins: Vec::new(),
            secrets: self.agent.secrets.as_ref(),
            attempts: config.attempts,
            backoff: config.backoff,
            longest_wait: config.longest_wait,
            jitter: fastrand::f64() * 2.0 - 1.0,
            approval_timeout: config.approval_timeout,
            resume_max_age: config.resume_max_age,
            queued_commands: config.queued_commands,
            has_slot,
        }
    }
}

/// Deltas that wait together become one event.
fn push_merged(batch: &mut Vec<Input>, next: Input) {
    if let (
        Some(Input::Delta { request: last, kind: DeltaKind::Text, text }),
        Input::Delta { request, kind: DeltaKind::Text, text: more },
    ) = (batch.last_mut(), &next)
        && last == request
    {
        text.push_str(more);
        return;
    }
    batch.push(next);
}

pub(super) fn internal(message: &str) -> ModelError {
    ModelError::new(ErrorClass::Internal, format!("internal error: {message}"))
}
