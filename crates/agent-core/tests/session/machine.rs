//! A session whose rows are kept as a journal keeps them; time and effects are the test's.

use std::{collections::BTreeMap, path::Path, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use stakpak_agent_core::{
    CallEnd, Effect, ErrorClass, InvalidCall, ModelAnswer, ModelError, ModelTerms, NoProgress, Place, Plan, Policy,
    Probe, Probed, Profiles, Record, Row, RowClass, RunAccepted, SessionRow, Snapshot, ToolCall, ToolContext,
    ToolOutcome, ToolSpec, Tools,
    session::{
        CallStatus, DeltaKind, Input, Left, Outcome, Owed, Refusal, Reply, Request, Rules, Session, StandIn, Step,
        Stored, Summary,
    },
};
use stakpak_protocol::{
    Approval, DecisionOutcome, DecisionsResponse, Event, EventEnvelope, EventId, FinishReason, LastError, Message,
    MessagePart, MessageType, ModelCost, RunId, RunLimits, SessionId, ToolCallId, ToolDecision, ToolDecisionAction,
    Usage, Usd,
};
use uuid::Uuid;

pub(crate) const BACKOFF: Duration = Duration::from_secs(2);
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(120);
pub(crate) const APPROVAL_TIMEOUT: Duration = Duration::from_secs(24 * 3600);
pub(crate) const RESUME_MAX_AGE: Duration = Duration::from_secs(3600);

/// Longest answer of the model.
pub(crate) const MAX_OUTPUT: u64 = 100;

/// A dollar a token in, two out.
pub(crate) const PRICE: ModelCost = ModelCost { input: 1e6, output: 2e6, cache_read: None, cache_write: None };

/// Tools by name: `act` in it has effects, `change` one that can be looked at, `broken` cannot run, and the policy goes by what it begins with.
pub(crate) const TOOLS: [&str; 9] =
    ["auto_act", "ask_act", "deny_act", "auto_change", "ask_change", "auto_look", "ask_look", "deny_look", "broken"];

struct Catalogue;

#[async_trait]
impl Tools for Catalogue {
    fn specs(&self) -> std::sync::Arc<[ToolSpec]> {
        std::sync::Arc::default()
    }

    fn meant(&self, call: ToolCall) -> ToolCall {
        if call.name == "search" { ToolCall { name: "auto_look".into(), ..call } } else { call }
    }

    fn check(&self, name: &str, _: &Value) -> Result<(), InvalidCall> {
        match name {
            "broken" => Err(InvalidCall { code: "UNKNOWN_TOOL", message: "there is no tool `broken`".into() }),
            _ => Ok(()),
        }
    }

    fn effect(&self, call: &ToolCall) -> Effect {
        match &*call.name {
            name if name.contains("act") => Effect::Unsafe,
            name if name.contains("change") => Effect::Probe,
            _ => Effect::Pure,
        }
    }

    fn asks_person(&self, call: &ToolCall) -> bool {
        call.name.contains("question") && !call.name.starts_with("broken")
    }

    fn unanswered(&self, _: &ToolCall) -> String {
        "nobody answered".to_owned()
    }

    fn place(&self, _: &ToolCall, _: &Path) -> Option<Place> {
        None
    }
    fn needs_question(&self, _: &ToolCall, _: &Path) -> Option<String> {
        None
    }

    async fn run(&self, _: &ToolCall, _: ToolContext) -> ToolOutcome {
        unreachable!("the machine runs nothing")
    }

    async fn end_orphans(&self, _: SessionId, _: &ToolCallId) -> usize {
        unreachable!("the machine ends nothing")
    }

    async fn forget_session(&self, _: SessionId) -> std::io::Result<()> {
        unreachable!("the machine forgets nothing")
    }
}

pub(crate) struct Machine {
    pub(crate) session: Session,
    /// Of all runs.
    pub(crate) rows: Vec<Row>,
    pub(crate) now: DateTime<Utc>,
    /// The last run that was posted.
    pub(crate) run_id: RunId,
    /// Of runs that are posted from now on.
    pub(crate) max_turns: u64,
    pub(crate) no_progress: NoProgress,
    pub(crate) limits: RunLimits,
    pub(crate) interactive: bool,
    /// In place of what the limits ask for.
    pub(crate) fixed_terms: Option<ModelTerms>,
    pub(crate) jitter: f64,
    pub(crate) queued_commands: usize,
    /// Whether a run that needs a slot gets one.
    pub(crate) slots_free: bool,
    /// As they are now.
    pub(crate) profiles: Option<&'static dyn Profiles>,
    /// Models that can go on where one has failed.
    pub(crate) stand_ins: Vec<StandIn>,
    has_slot: bool,
    runs: u128,
}

impl Machine {
    pub(crate) fn new() -> Self {
        let now: DateTime<Utc> = "2026-03-01T09:00:00Z".parse().unwrap();
        let row = SessionRow::new(SessionId(Uuid::from_u128(0xA)), "", None, now);
        let nobody = RunId(Uuid::nil());
        let session = Session::new(row);
        Self {
            session,
            rows: Vec::new(),
            now,
            run_id: nobody,
            max_turns: 256,
            no_progress: NoProgress::default(),
            limits: RunLimits::default(),
            interactive: false,
            fixed_terms: None,
            jitter: 0.0,
            queued_commands: 1_000,
            slots_free: true,
            profiles: None,
            stand_ins: Vec::new(),
            has_slot: false,
            runs: 0,
        }
    }

    /// The model is asked for its first answer.
    pub(crate) fn asking() -> Self {
        let mut machine = Self::new();
        machine.post();
        machine
    }

    /// The first answer made these calls.
    pub(crate) fn calling(calls: impl IntoIterator<Item = MessagePart>) -> Self {
        let mut machine = Self::asking();
        machine.answer(calls);
        machine
    }

    fn terms(&self) -> ModelTerms {
        if let Some(terms) = self.fixed_terms {
            return terms;
        }
        ModelTerms { price: self.limits.cost_usd.map(|_| PRICE), max_output_tokens: Some(MAX_OUTPUT) }
    }

    pub(crate) fn rules(&self) -> Rules<'static> {
        Rules {
            now: self.now,
            secrets: &stakpak_agent_core::NoSecrets,
            tools: &Catalogue,
            profiles: self.profiles,
            stand_ins: self.stand_ins.clone(),
            attempts: 3,
            backoff: BACKOFF,
            longest_wait: LONGEST_WAIT,
            jitter: self.jitter,
            approval_timeout: APPROVAL_TIMEOUT,
            resume_max_age: RESUME_MAX_AGE,
            queued_commands: self.queued_commands,
            has_slot: self.has_slot,
        }
    }

    pub(crate) fn later(&mut self, duration: Duration) {
        self.now += TimeDelta::from_std(duration).unwrap();
    }

    /// A refused request leaves no trace.
    pub(crate) fn handle(&mut self, request: Request) -> Result<Reply, Refusal> {
        let before = self.session.clone();
        self.has_slot |= self.slots_free;
        match self.session.handle(request, &self.rules()) {
            Ok((reply, outcome)) => {
                self.keep(outcome);
                Ok(reply)
            }
            Err(refusal) => {
                assert_eq!(self.session, before);
                Err(refusal)
            }
        }
    }

    /// How many rows the report came to.
    pub(crate) fn feed(&mut self, input: Input) -> usize {
        self.has_slot |= self.slots_free;
        let outcome = self.session.feed(input, &self.rules());
        let rows = outcome.rows.len();
        self.keep(outcome);
        rows
    }

    fn keep(&mut self, outcome: Outcome) {
        let places = outcome.rows.iter().filter_map(|row| row.message_index);
        assert!(places.eq(outcome.messages.iter().map(|(index, ..)| *index)), "messages are those of the rows");
        let ids = outcome.rows.iter().filter(|row| row.class == RowClass::Event).map(|row| EventId(row.seq));
        assert!(ids.eq(outcome.events.iter().map(|event| event.id)), "events are those of the rows");
        self.rows.extend(outcome.rows);
        self.has_slot &= self.session.needs_slot();
    }

    /// A run that is queued gets a slot; whether it was.
    pub(crate) fn grant_slot(&mut self) -> bool {
        self.slots_free = true;
        let queued = self.is_queued();
        if queued {
            self.feed(Input::SlotTaken);
        }
        queued
    }

    pub(crate) fn is_queued(&self) -> bool {
        self.session.needs_slot() && !self.has_slot
    }

    pub(crate) fn post(&mut self) {
        self.try_post(None).unwrap();
    }

    pub(crate) fn try_post(&mut self, named: Option<RunId>) -> Result<Reply, Refusal> {
        self.runs += 1;
        let run_id = RunId(Uuid::from_u128(self.runs));
        let accepted = RunAccepted {
            run_id,
            at: self.now,
            model: "test/model".into(),
            profile: "default".into(),
            system_prompt: "Be brief.".into(),
            max_turns: self.max_turns,
            no_progress: self.no_progress,
            policy: policy(),
            cwd: "/work".into(),
            limits: self.limits.clone(),
            limit_keys: stakpak_agent_core::LimitKeys::default(),
            terms: self.terms(),
            sandbox: stakpak_agent_core::Sandbox::default(),
            notify_route: None,
            interactive: self.interactive,
            context: stakpak_agent_core::ContextState::default(),
        };
        let message = Message::user("go");
        let reply = self.handle(Request::Post { run_id: named, accepted: Box::new(accepted), message })?;
        self.run_id = run_id;
        Ok(reply)
    }

    pub(crate) fn queue(&mut self, kind: MessageType, text: &str) -> Result<Reply, Refusal> {
        self.handle(Request::Queue { run_id: Some(self.run_id), kind, message: Message::user(text) })
    }

    pub(crate) fn steer(&mut self, text: &str) {
        self.queue(MessageType::Steering, text).unwrap();
    }

    pub(crate) fn follow_up(&mut self, text: &str) {
        self.queue(MessageType::FollowUp, text).unwrap();
    }

    pub(crate) fn cancel(&mut self) {
        self.handle(Request::Cancel { run_id: self.run_id }).unwrap();
    }

    pub(crate) fn switch_model(&mut self, model: &str) {
        self.handle(Request::SwitchModel { run_id: self.run_id, model: model.into(), terms: self.terms() }).unwrap();
    }

    pub(crate) fn retitle(&mut self, title: &str) {
        self.handle(Request::Change { title: Some(title.into()), visibility: None }).unwrap();
    }

    pub(crate) fn delete(&mut self) {
        assert_eq!(self.handle(Request::Delete), Ok(Reply::Deleted));
    }

    /// The decisions of one person about the last run.
    pub(crate) fn try_decide<'a>(
        &mut self,
        by: &str,
        decisions: impl IntoIterator<Item = (&'a str, ToolDecision)>,
    ) -> Result<DecisionsResponse, Refusal> {
        let decisions: BTreeMap<_, _> = decisions.into_iter().map(|(id, decision)| (id.into(), decision)).collect();
        match self.handle(Request::Decide { run_id: self.run_id, decisions, by: by.into() })? {
            Reply::Decided(response) => Ok(response),
            other => panic!("not decided: {other:?}"),
        }
    }

    pub(crate) fn decide(&mut self, id: &str, decision: ToolDecision) -> DecisionOutcome {
        self.try_decide("ann", [(id, decision)]).unwrap().results[&ToolCallId::from(id)]
    }

    pub(crate) fn answer(&mut self, parts: impl IntoIterator<Item = MessagePart>) {
        let input = answered(self.request(), parts);
        self.feed(input);
    }

    /// An answer without calls.
    pub(crate) fn say(&mut self, text: &str) {
        self.answer([MessagePart::text(text)]);
    }

    pub(crate) fn stream(&mut self, text: &str) {
        self.feed(Input::Delta { request: self.request(), kind: DeltaKind::Text, text: text.into() });
    }

    pub(crate) fn fail(&mut self, class: ErrorClass, retry_after: Option<Duration>) {
        self.fail_with(ModelError { retry_after, ..ModelError::new(class, format!("test: {class}")) });
    }

    pub(crate) fn fail_with(&mut self, error: ModelError) {
        self.feed(Input::AskFailed { request: self.request(), error });
    }

    /// The back-off passes; how long it was.
    pub(crate) fn wait(&mut self) -> Duration {
        let [Owed::Wait { request, until }] = self.session.owed()[..] else { panic!("no back-off") };
        let waited = (until - self.now).to_std().unwrap();
        self.now = until;
        self.feed(Input::Waited { request });
        waited
    }

    pub(crate) fn end_call(&mut self, id: &str) {
        let attempt = self.attempt(id).unwrap();
        self.report(id, attempt, &format!("{id} is done"));
    }

    /// A call's report, wanted or not; how many rows it came to.
    pub(crate) fn report(&mut self, id: &str, attempt: u64, text: &str) -> usize {
        self.feed(Input::CallEnded { call_id: id.into(), attempt, outcome: ToolOutcome::text(text) })
    }

    /// The process dies and a new one goes on.
    pub(crate) fn restart(&mut self) {
        self.restart_after_ending([]);
    }

    /// The same, and the wait before the request is repeated has passed; how long it was.
    pub(crate) fn restart_and_wait(&mut self) -> Duration {
        self.restart();
        self.wait()
    }

    /// The same, and the new process has ended these many processes of calls.
    pub(crate) fn restart_after_ending<'a>(&mut self, ended: impl IntoIterator<Item = (&'a str, usize)>) {
        self.session = self.folded();
        self.has_slot = false;
        let ended = ended.into_iter().map(|(id, count)| (id.into(), count)).collect();
        self.feed(Input::Recover { left: Left { ended, probed: Vec::new() } });
    }

    /// The same, and the new process has looked how far a call got.
    pub(crate) fn restart_after_looking(&mut self, id: &str, probed: Probed) {
        self.session = self.folded();
        self.has_slot = false;
        self.feed(Input::Recover { left: Left { ended: Vec::new(), probed: vec![(id.into(), probed)] } });
    }

    /// Somebody has looked at what the next call will change.
    pub(crate) fn probe(&mut self, id: &str) {
        let probe = Probe { before: "old".into(), after: "new".into() };
        self.feed(Input::Probed { call_id: id.into(), probe: Some(probe) });
    }

    /// The call that must be looked at before it starts.
    pub(crate) fn to_probe(&self) -> Option<String> {
        self.session.owed().into_iter().find_map(|owed| match owed {
            Owed::Probe { call } => Some(call.id.0),
            _ => None,
        })
    }

    /// What a new process makes of the stored rows.
    pub(crate) fn folded(&self) -> Session {
        let row = self.session.row.clone();
        let control: Vec<Row> = self.rows_of_run().filter(|row| row.class == RowClass::Control).cloned().collect();
        Session::fold(row, &control).unwrap()
    }

    /// The same from a snapshot, which has to be of the last run.
    pub(crate) fn restored(&self, snapshot: &Snapshot) -> Option<Session> {
        let stored = Stored::read(snapshot)?;
        let named: Vec<Row> =
            stored.places().map(|place| self.rows[usize::try_from(place).unwrap() - 1].clone()).collect();
        let mut session = stored.restore(self.session.row.clone(), &named)?;
        let after = self.rows_of_run().filter(|row| row.class == RowClass::Control && row.seq > snapshot.seq);
        session.fold_on(&after.cloned().collect::<Vec<_>>()).unwrap();
        Some(session)
    }

    fn rows_of_run(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.seq >= self.session.row.run_first_seq)
    }

    /// Records of the last run.
    pub(crate) fn records(&self) -> Vec<Record> {
        let control = self.rows_of_run().filter(|row| row.class == RowClass::Control);
        control.map(|row| Record::from_row(row).unwrap()).collect()
    }

    /// Model requests of the last run.
    pub(crate) fn asked(&self) -> usize {
        self.records().iter().filter(|record| matches!(record, Record::ModelRequested { .. })).count()
    }

    /// Events of the last run.
    pub(crate) fn events(&self) -> Vec<Event> {
        let events = self.rows_of_run().filter(|row| row.class == RowClass::Event);
        events.map(|row| serde_json::from_str::<EventEnvelope>(&row.payload).unwrap().event).collect()
    }

    /// The run's last events.
    pub(crate) fn last_events<const N: usize>(&self) -> [Event; N] {
        let mut events = self.events();
        events.split_off(events.len() - N).try_into().unwrap()
    }

    pub(crate) fn terminal_events(&self) -> usize {
        self.events().iter().filter(|event| event.is_terminal()).count()
    }

    /// The calls that should be running.
    pub(crate) fn running(&self) -> Vec<String> {
        let owed = self.session.owed().into_iter();
        owed.filter_map(|owed| match owed {
            Owed::Run { call, .. } => Some(call.id.0),
            _ => None,
        })
        .collect()
    }

    /// Which start of the call should be running.
    pub(crate) fn attempt(&self, id: &str) -> Option<u64> {
        self.session.owed().into_iter().find_map(|owed| match owed {
            Owed::Run { call, attempt } if call.id.as_str() == id => Some(attempt),
            _ => None,
        })
    }

    pub(crate) fn waiting(&self) -> Vec<String> {
        let calls = self.session.run.iter().flat_map(|run| run.waiting_calls());
        calls.map(|call| call.resolved.call.id.0.clone()).collect()
    }

    pub(crate) fn status(&self, id: &str) -> CallStatus {
        self.session.run.as_ref().unwrap().call(&id.into()).unwrap().status
    }

    /// The request that the model should be answering.
    pub(crate) fn request(&self) -> u64 {
        match self.session.owed()[..] {
            [Owed::Ask { request }] | [Owed::Ask { request }, Owed::Deadline { .. }] => request,
            ref other => panic!("the model is not asked, but {other:?}"),
        }
    }

    /// What the driver found before it sent the request.
    pub(crate) fn plan(&mut self, plan: Plan) {
        self.feed(Input::Planned { request: self.request(), plan });
    }

    /// The request for a summary that the model should be answering.
    pub(crate) fn compacting(&self) -> Option<u64> {
        self.session.owed().into_iter().find_map(|owed| match owed {
            Owed::Compact { request, .. } => Some(request),
            _ => None,
        })
    }

    pub(crate) fn compacted(&mut self, tokens_after: u64) {
        let request = self.compacting().unwrap();
        self.feed(Input::Compacted { request, summary: summary(tokens_after) });
    }

    pub(crate) fn compaction_fails(&mut self, class: ErrorClass) {
        let request = self.compacting().unwrap();
        let error = ModelError::new(class, format!("test: {class}"));
        let instead = Some(Summary { model: None, truncated: true, ..summary(30) });
        self.feed(Input::CompactionFailed { request, error, instead });
    }

    pub(crate) fn is_asking(&self) -> bool {
        matches!(self.session.run.as_ref().unwrap().step, Step::Asking { .. })
    }

    pub(crate) fn starts_of(&self, id: &str) -> usize {
        let records = self.records().into_iter();
        records.filter(|record| matches!(record, Record::CallStarted { call_id, .. } if call_id.as_str() == id)).count()
    }

    /// How the call ended, and what the model is told.
    pub(crate) fn result_of(&self, id: &str) -> Option<(CallEnd, String)> {
        self.records().iter().find_map(|record| match record {
            Record::CallEnded { call_id, end, message } if call_id.as_str() == id => match message.parts() {
                [MessagePart::ToolResult { content: Value::String(text), .. }] => Some((*end, text.clone())),
                [MessagePart::ToolResult { content, .. }] => Some((*end, content.to_string())),
                other => panic!("not one result: {other:?}"),
            },
            _ => None,
        })
    }

    /// The texts that users have put into the history in this run.
    pub(crate) fn user_messages(&self) -> Vec<String> {
        let records = self.records().into_iter();
        records
            .filter_map(|record| match record {
                Record::UserMessage { message, .. } => Some(message.text()),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn last_error(&self) -> Option<LastError> {
        self.session.run_view().unwrap().last_error
    }
}

/// A summary that a model made for 10 tokens.
pub(crate) fn summary(tokens_after: u64) -> Summary {
    Summary {
        text: "what was said".into(),
        model: Some("test/model".into()),
        usage: Usage { prompt_tokens: 8, completion_tokens: 2, total_tokens: 10, ..Usage::default() },
        cost: Some(Usd::ZERO),
        tokens_after,
        truncated: false,
    }
}

pub(crate) fn answered(request: u64, parts: impl IntoIterator<Item = MessagePart>) -> Input {
    let parts: Vec<MessagePart> = parts.into_iter().collect();
    let calls = parts.iter().any(|part| matches!(part, MessagePart::ToolCall { .. }));
    let finish = if calls { FinishReason::ToolCalls } else { FinishReason::Stop };
    let usage = Usage { prompt_tokens: 10, completion_tokens: 2, total_tokens: 12, ..Usage::default() };
    Input::Answered { request, answer: ModelAnswer { parts, reasoning: None, usage, finish }, estimated: 20 }
}

pub(crate) fn call(id: &str, name: &str) -> MessagePart {
    call_with(id, name, json!({}))
}

pub(crate) fn call_on(path: &str, id: &str, name: &str) -> MessagePart {
    call_with(id, name, json!({ "path": path }))
}

pub(crate) fn call_with(id: &str, name: &str, arguments: Value) -> MessagePart {
    MessagePart::ToolCall { id: id.into(), name: name.into(), arguments, metadata: None, provider_options: None }
}

pub(crate) fn accept() -> ToolDecision {
    decision(ToolDecisionAction::Accept, None)
}

pub(crate) fn reject() -> ToolDecision {
    decision(ToolDecisionAction::Reject, None)
}

pub(crate) fn custom_result(content: &str) -> ToolDecision {
    decision(ToolDecisionAction::CustomResult, Some(content))
}

pub(crate) fn decision(action: ToolDecisionAction, content: Option<&str>) -> ToolDecision {
    ToolDecision { action, content: content.map(str::to_owned), scope: None, by: None }
}

fn policy() -> Policy {
    let rule = |name: &&str| match name.split_once('_') {
        Some(("auto", _)) => Some(((*name).to_owned(), Approval::Auto)),
        Some(("deny", _)) => Some(((*name).to_owned(), Approval::Deny)),
        _ => None,
    };
    Policy::Custom {
        rules: TOOLS.iter().chain(&["auto_question", "deny_question"]).filter_map(rule).collect(),
        read_only_commands: false,
        default: Approval::Ask,
        server: BTreeMap::new(),
    }
}
