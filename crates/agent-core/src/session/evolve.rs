//! Folding: the only place where the state changes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use stakpak_protocol::{EventId, Message, SessionStatus, ToolCallId, Usage, Usd, Visibility};

use super::{ActiveRun, Call, CallStatus, Queued, Repeats, RunClock, Session, Step, repeats};
use crate::{
    CallEnd, ContextState, Effect, Measured, ModelTerms, Record, Row, RunAccepted, SessionRow, Shrinking,
    context::{estimate, estimate_text},
};

impl Session {
    /// The state after the last run's control rows, which begin at [`SessionRow::run_first_seq`].
    ///
    /// # Errors
    /// When a row is no record.
    pub fn fold(row: SessionRow, rows: &[Row]) -> serde_json::Result<Self> {
        let mut session = Self::new(row);
        if let Some(first) = rows.iter().find_map(|row| row.message_index) {
            session.row.message_count = first;
        }
        session.fold_on(rows)?;
        Ok(session)
    }

    /// Folds further control rows.
    ///
    /// # Errors
    /// When a row is no record.
    pub fn fold_on(&mut self, rows: &[Row]) -> serde_json::Result<()> {
        for row in rows {
            self.evolve(row.seq, &Record::from_row(row)?);
        }
        Ok(())
    }

    /// Folds one record that stands at `seq`.
    pub fn evolve(&mut self, seq: u64, record: &Record) {
        self.row.last_seq = self.row.last_seq.max(seq);
        if let (Record::UserMessage { message, .. } | Record::CallEnded { message, .. }, Some(run)) =
            (record, &mut self.run)
        {
            run.context.tokens += estimate(message);
        }
        match record {
            Record::RunAccepted(accepted) => self.begin_run(seq, accepted),
            Record::UserMessage { command, .. } => self.use_message(*command),
            Record::ModelRequested { turn, attempt, restarts } => self.ask(seq, *turn, *attempt, *restarts),
            Record::ModelAnswered { usage, cost_micros, estimated, .. } => {
                self.take_answer(usage, *cost_micros, *estimated);
            }
            Record::CallEnded { call_id, end, message } => self.end_call(call_id, *end, message),
            Record::SessionChanged { title, visibility, .. } => self.change(title.as_ref(), *visibility),
            Record::SessionDeleted { .. } => self.row.status = SessionStatus::Deleted,
            Record::ModelSwitched { model, terms, stands_in: false } => self.switch_model(seq, model, *terms),
            Record::ModelSwitched { model, terms, stands_in: true } => self.stand_in(seq, model, *terms),
            _ => self.evolve_run(seq, record),
        }
        self.project();
    }

    /// Folds an event: it changes nothing but the newest id.
    pub(super) fn note_event(&mut self, id: EventId) {
        self.row.last_seq = id.0;
        self.row.last_event_id = id;
    }

    /// Where the record's message stands in the history.
    pub(super) fn message_index(&self, record: &Record) -> Option<u64> {
        record.message()?;
        match (record, self.run.as_ref().map(|run| &run.step)) {
            (Record::CallEnded { call_id, .. }, Some(Step::Calling { answer_index, .. })) => {
                let calls = &self.run.as_ref()?.calls;
                let position = calls.iter().position(|call| call.resolved.call.id == *call_id)?;
                Some(answer_index + 1 + position as u64)
            }
            _ => Some(self.row.message_count),
        }
    }

    /// Results count once all before them are there: readers never see a hole.
    fn end_call(&mut self, id: &ToolCallId, end: CallEnd, result: &Message) {
        let Some(run) = &mut self.run else { return };
        if let Some(call) = run.call_mut(id) {
            call.status = CallStatus::Ended(end);
            call.outcome = Some(repeats::outcome(&call.resolved.call, result));
        }
        if let Step::Calling { answer_index, .. } = run.step {
            let ended = run.calls.iter().take_while(|call| call.has_ended()).count();
            self.row.message_count = answer_index + 1 + ended as u64;
        }
    }

    fn begin_run(&mut self, seq: u64, accepted: &RunAccepted) {
        self.row.model = Some(accepted.model.clone());
        self.run = Some(ActiveRun {
            accepted: accepted.clone(),
            accepted_at: seq,
            switched_at: None,
            left: BTreeSet::new(),
            turn: 0,
            request: 0,
            total_usage: Usage::default(),
            cost: accepted.terms.price.map(|_| Usd::ZERO),
            context: begun(accepted),
            shrinking: Shrinking::default(),
            clock: RunClock::default(),
            side_effects: false,
            calls: Vec::new(),
            repeats: Repeats::default(),
            settled: BTreeMap::new(),
            queued: VecDeque::new(),
            commands: 0,
            step: Step::Ready,
        });
    }

    fn change(&mut self, title: Option<&String>, visibility: Option<Visibility>) {
        if let Some(title) = title {
            self.row.title.clone_from(title);
        }
        self.row.visibility = visibility.unwrap_or(self.row.visibility);
    }

    fn switch_model(&mut self, seq: u64, model: &str, terms: ModelTerms) {
        self.row.model = Some(model.to_owned());
        if let Some(run) = &mut self.run {
            run.accepted.model = model.to_owned();
            run.accepted.terms = terms;
            run.switched_at = Some(seq);
            run.left.clear();
        }
    }

    /// The session's model stays what it was.
    fn stand_in(&mut self, seq: u64, model: &str, terms: ModelTerms) {
        let Some(run) = &mut self.run else { return };
        run.left.insert(std::mem::replace(&mut run.accepted.model, model.to_owned()));
        run.accepted.terms = terms;
        run.switched_at = Some(seq);
        // What was refused was too long for another model.
        (run.shrinking.refused, run.shrinking.overflows) = (None, 0);
    }

    fn use_message(&mut self, command: Option<u64>) {
        self.row.message_count += 1;
        let Some(run) = &mut self.run else { return };
        run.repeats = Repeats::default();
        if let Some(id) = command {
            run.queued.retain(|queued| queued.id != id);
        }
    }

    fn ask(&mut self, seq: u64, turn: u64, attempt: u64, restarts: u64) {
        let Some(run) = &mut self.run else { return };
        run.turn = turn;
        run.request = seq;
        run.step = Step::Asking { attempt, restarts, text_shown: false };
    }

    fn take_answer(&mut self, usage: &Usage, cost_micros: Option<u64>, estimated: Option<u64>) {
        let answer_index = self.row.message_count;
        self.row.message_count += 1;
        let Some(run) = &mut self.run else { return };
        // Records of before cost was recorded have none, also where the price is known.
        run.spend(usage, cost_micros.map(Usd::from_micros).or_else(|| run.accepted.cost_of(usage)));
        run.context.tokens = usage.prompt_tokens + usage.completion_tokens;
        if let Some(estimated) = estimated {
            let (model, reported) = (run.accepted.model.clone(), usage.prompt_tokens);
            run.context.measured = Some(Measured { model, reported, estimated });
        }
        run.step = Step::Calling { answer_index };
    }

    fn evolve_run(&mut self, seq: u64, record: &Record) {
        let Some(run) = &mut self.run else { return };
        match record {
            Record::BackingOff { attempt, until, restarts } => {
                run.step = Step::BackingOff { attempt: *attempt, until: *until, restarts: *restarts };
            }
            Record::CallsResolved { calls } => run.calls.extend(calls.iter().cloned().map(Call::new)),
            Record::Decided { call_id, decision } => {
                if let Some(call) = run.call_mut(call_id) {
                    call.decided = Some(decision.clone());
                    call.status = CallStatus::Approved;
                }
            }
            Record::CallStarted { call_id, attempt, probe } => {
                if let Some(call) = run.call_mut(call_id) {
                    call.status = CallStatus::Running { attempt: *attempt };
                    call.probe = probe.clone().or(call.probe.take());
                    run.side_effects |= call.resolved.effect != Effect::Pure;
                }
            }
            Record::ClockStopped { at } => run.clock.stop(*at),
            Record::ClockStarted { at } => run.clock.go_on(*at),
            Record::ContextOverflowed { message } => {
                run.shrinking.overflows += 1;
                run.shrinking.refused = Some(message.clone());
            }
            Record::ContextCleared { before, tokens_after, .. } => {
                run.context.cleared = *before;
                run.shrunk_to(*tokens_after);
            }
            Record::ContextCut { cut, tokens_after, .. } => {
                run.context.cut = Some(*cut);
                run.shrunk_to(*tokens_after);
            }
            Record::CompactionStarted { first, tokens_before } => {
                let (attempt, restarts) = match run.step {
                    Step::Asking { attempt, restarts, .. } => (attempt, restarts),
                    _ => (1, 0),
                };
                run.request = seq;
                run.step = Step::Compacting { attempt, restarts, first: *first, tokens_before: *tokens_before };
            }
            Record::Compaction { first, usage, cost_micros, tokens_before, tokens_after, .. } => {
                run.spend(usage, cost_micros.map(Usd::from_micros));
                run.context.first = *first;
                run.context.summary_at = Some(seq);
                run.shrinking.compactions += 1;
                run.shrinking.in_vain = tokens_after * 5 > tokens_before * 4;
                run.shrunk_to(*tokens_after);
            }
            Record::TurnEnded => {
                run.shrinking = Shrinking::default();
                run.repeats.count(&run.calls);
                run.settled.extend(run.calls.drain(..).map(Call::settle));
                run.step = Step::Ready;
            }
            Record::CommandQueued { id, kind, message } => {
                run.commands = *id;
                run.queued.push_back(Queued { id: *id, seq, kind: *kind, message: message.clone() });
            }
            Record::RunEnded { stop_reason, detail, last_error, at } => {
                run.queued.clear();
                let (stop_reason, detail, last_error) = (*stop_reason, *detail, last_error.clone());
                run.step = Step::Ended { stop_reason, detail, last_error, at: *at };
            }
            Record::RunAccepted(_)
            | Record::UserMessage { .. }
            | Record::ModelRequested { .. }
            | Record::ModelAnswered { .. }
            | Record::CallEnded { .. }
            | Record::ModelSwitched { .. }
            | Record::SessionChanged { .. }
            | Record::SessionDeleted { .. } => {}
        }
    }
}

impl ActiveRun {
    fn spend(&mut self, usage: &Usage, cost: Option<Usd>) {
        self.total_usage.add(usage);
        self.cost = self.cost.zip(cost).map(|(sum, cost)| sum.plus(cost));
    }

    fn shrunk_to(&mut self, tokens: u64) {
        self.context.tokens = tokens;
        self.shrinking.refused = None;
    }
}

/// What the first request of a run shows: what the run before left.
fn begun(accepted: &RunAccepted) -> ContextState {
    let mut context = accepted.context.clone();
    if context.tokens == 0 {
        context.tokens = estimate_text(&accepted.system_prompt);
    }
    context
}
