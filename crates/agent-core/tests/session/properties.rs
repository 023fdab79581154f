//! Whatever happens in whatever order: what must hold after every step.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::Duration,
};

use proptest::{prelude::*, sample::Index};
use stakpak_agent_core::{
    Cut, Effect, ErrorClass, Plan, Probed, Record, RowClass, Snapshot, ToolOutcome,
    session::{Input, Owed, Session, Step},
};
use stakpak_protocol::{
    EventEnvelope, MessagePart, MessageType, RunId, RunLimits, SessionStatus, ToolCallId, ToolDecisionAction,
};

use crate::machine::{APPROVAL_TIMEOUT, Machine, RESUME_MAX_AGE, TOOLS, call, call_on, decision};

#[derive(Debug, Clone)]
enum Happening {
    Post,
    Delta,
    /// Tools by number, and whether they name the one file.
    Answer(Vec<(usize, bool)>),
    AskFails {
        retryable: bool,
    },
    Wait,
    Probed,
    CallEnds(Index, ToolOutcome),
    Decide(Index, ToolDecisionAction),
    DeadlinePasses,
    Steer,
    FollowUp,
    Cancel,
    SwitchModel,
    Retitle,
    /// The conversation is too long: found before the request is sent, or said by the provider.
    TooLong(u8),
    /// A summary comes, or does not.
    Summary(bool),
    Restart,
    /// The first call that runs has done nothing.
    RestartUntouched,
    LateRestart,
    SlotsRunOut,
    SlotsAreFree,
}

fn happening() -> impl Strategy<Value = Happening> {
    let outcome = prop_oneof![
        4 => Just(ToolOutcome::text("done")),
        1 => Just(ToolOutcome::error("FAILED", "no")),
        1 => Just(ToolOutcome::Cancelled),
    ];
    let action = prop_oneof![
        3 => Just(ToolDecisionAction::Accept),
        1 => Just(ToolDecisionAction::Reject),
        1 => Just(ToolDecisionAction::CustomResult),
    ];
    prop_oneof![
        6 => Just(Happening::Post),
        2 => Just(Happening::Delta),
        8 => prop::collection::vec((0..TOOLS.len(), any::<bool>()), 0..6).prop_map(Happening::Answer),
        2 => prop::bool::weighted(0.8).prop_map(|retryable| Happening::AskFails { retryable }),
        3 => Just(Happening::Wait),
        6 => Just(Happening::Probed),
        10 => (any::<Index>(), outcome).prop_map(|(which, outcome)| Happening::CallEnds(which, outcome)),
        8 => (any::<Index>(), action).prop_map(|(which, action)| Happening::Decide(which, action)),
        1 => Just(Happening::DeadlinePasses),
        2 => Just(Happening::Steer),
        2 => Just(Happening::FollowUp),
        1 => Just(Happening::Cancel),
        1 => Just(Happening::SwitchModel),
        1 => Just(Happening::Retitle),
        2 => (0..6u8).prop_map(Happening::TooLong),
        2 => any::<bool>().prop_map(Happening::Summary),
        4 => Just(Happening::Restart),
        2 => Just(Happening::RestartUntouched),
        1 => Just(Happening::LateRestart),
        2 => Just(Happening::SlotsRunOut),
        4 => Just(Happening::SlotsAreFree),
    ]
}

/// What does not fit the state is refused by the machine, or is no report that a driver could make.
fn happen(machine: &mut Machine, calls: &mut Vec<String>, happening: Happening) {
    match happening {
        Happening::Post => drop(machine.try_post(None)),
        Happening::Delta if asked(machine) => machine.stream("text"),
        Happening::Answer(tools) if asked(machine) => {
            let parts: Vec<MessagePart> = tools.into_iter().map(|tool| declare(calls, tool)).collect();
            machine.answer(parts);
        }
        Happening::AskFails { retryable } if asked(machine) => {
            machine.fail(if retryable { ErrorClass::Overloaded } else { ErrorClass::Auth }, None);
        }
        Happening::Wait => {
            machine.later(Duration::from_secs(10));
            if let Some(Owed::Wait { request, .. }) = machine.session.owed().first().cloned()
                && !machine.is_queued()
            {
                machine.feed(Input::Waited { request });
            }
        }
        Happening::Probed => {
            if let Some(id) = machine.to_probe().filter(|_| !machine.is_queued()) {
                machine.probe(&id);
            }
        }
        Happening::CallEnds(which, outcome) => {
            let running = machine.running();
            if !running.is_empty() && !machine.is_queued() {
                let id = which.get(&running);
                let attempt = machine.attempt(id).unwrap();
                machine.feed(Input::CallEnded { call_id: id.as_str().into(), attempt, outcome });
            }
        }
        Happening::Decide(which, action) if !calls.is_empty() => {
            let id = which.get(calls);
            drop(machine.try_decide("ann", [(id.as_str(), decision(action, Some("because")))]));
        }
        Happening::DeadlinePasses => {
            machine.later(APPROVAL_TIMEOUT);
            machine.feed(Input::DeadlinePassed);
        }
        Happening::Steer => drop(machine.queue(MessageType::Steering, "now")),
        Happening::FollowUp => drop(machine.queue(MessageType::FollowUp, "later")),
        Happening::Cancel if machine.session.active().is_some() => machine.cancel(),
        Happening::SwitchModel if machine.session.active().is_some() => machine.switch_model("test/other"),
        Happening::Retitle if machine.session.row.status == SessionStatus::Active => machine.retitle("renamed"),
        Happening::TooLong(what) if asked(machine) => is_too_long(machine, what),
        Happening::Summary(comes) if machine.compacting().is_some() && !machine.is_queued() => {
            if comes {
                machine.compacted(5);
            } else {
                machine.compaction_fails(ErrorClass::Overloaded);
            }
        }
        Happening::Restart => machine.restart(),
        Happening::RestartUntouched => {
            let running = machine.running();
            match running.first() {
                Some(id) => machine.restart_after_looking(id, Probed::Untouched),
                None => machine.restart(),
            }
        }
        Happening::LateRestart => {
            machine.later(RESUME_MAX_AGE * 2);
            machine.restart();
        }
        Happening::SlotsRunOut => machine.slots_free = false,
        Happening::SlotsAreFree => drop(machine.grant_slot()),
        Happening::Delta
        | Happening::Answer(_)
        | Happening::AskFails { .. }
        | Happening::Decide(..)
        | Happening::Cancel
        | Happening::SwitchModel
        | Happening::Retitle
        | Happening::TooLong(_)
        | Happening::Summary(_) => {}
    }
}

fn is_too_long(machine: &mut Machine, what: u8) {
    match what {
        0 => machine.fail(ErrorClass::ContextOverflow, None),
        1 => machine.plan(Plan::Clear { before: 1, tokens: (10, 5) }),
        2 => machine.plan(Plan::Cut { cut: Cut { before: 1, keep: 100 }, tokens: (10, 5) }),
        3 => machine.plan(Plan::Stuck),
        _ => machine.plan(Plan::Compact { first: 1, tokens: 10 }),
    }
}

fn asked(machine: &Machine) -> bool {
    matches!(machine.session.owed().first(), Some(Owed::Ask { .. }))
}

fn declare(calls: &mut Vec<String>, (tool, on_file): (usize, bool)) -> MessagePart {
    let id = format!("call_{}", calls.len() + 1);
    let part = if on_file { call_on("f", &id, TOOLS[tool]) } else { call(&id, TOOLS[tool]) };
    calls.push(id);
    part
}

/// What the rows so far have said.
#[derive(Default)]
struct Ledger {
    rows: usize,
    begun: HashSet<RunId>,
    ended: HashSet<RunId>,
    effects: HashMap<ToolCallId, Effect>,
    started: HashSet<ToolCallId>,
    results: HashSet<ToolCallId>,
    places: BTreeSet<u64>,
    /// Of the last run.
    snapshots: Vec<Snapshot>,
}

impl Ledger {
    fn read(&mut self, machine: &Machine) {
        for row in &machine.rows[self.rows..] {
            self.rows += 1;
            assert_eq!(row.seq, self.rows as u64, "rows are consecutive from 1");
            if let Some(place) = row.message_index {
                assert!(self.places.insert(place), "place {place} is used twice");
            }
            match row.class {
                RowClass::Event => self.read_event(&serde_json::from_str(&row.payload).unwrap(), row.seq),
                RowClass::Control => self.read_record(Record::from_row(row).unwrap(), row.message_index),
            }
        }
    }

    fn read_event(&mut self, envelope: &EventEnvelope, seq: u64) {
        let run_id = envelope.event.run_id();
        assert_eq!((envelope.id.0, envelope.run_id), (seq, Some(run_id)));
        assert!(!self.ended.contains(&run_id), "{} after the terminal event", envelope.event.name());
        self.begun.insert(run_id);
        if envelope.event.is_terminal() {
            self.ended.insert(run_id);
        }
    }

    fn read_record(&mut self, record: Record, place: Option<u64>) {
        assert_eq!(record.message().is_some(), place.is_some(), "{record:?}");
        match record {
            Record::CallsResolved { calls } => {
                self.effects.extend(calls.into_iter().map(|call| (call.call.id, call.effect)));
            }
            Record::CallStarted { call_id, .. } => {
                let again = !self.started.insert(call_id.clone());
                assert!(!again || self.effects[&call_id] != Effect::Unsafe, "{call_id} is started again");
                assert!(!self.results.contains(&call_id), "{call_id} is started after its result");
            }
            Record::CallEnded { call_id, .. } => {
                assert!(self.effects.contains_key(&call_id), "{call_id} was not declared");
                assert!(self.results.insert(call_id), "a second result");
            }
            _ => {}
        }
    }
}

fn check(machine: &Machine, ledger: &mut Ledger) {
    ledger.read(machine);
    let folded = machine.folded();
    assert_eq!(folded, forgetting_readers(&machine.session), "folding gives the live state");
    ledger.snapshots.retain(|snapshot| snapshot.seq >= machine.session.row.run_first_seq);
    ledger.snapshots.extend(machine.session.snapshot());
    let (first, last) = (ledger.snapshots.first(), ledger.snapshots.last());
    for snapshot in first.into_iter().chain(last) {
        assert_eq!(machine.restored(snapshot).as_ref(), Some(&folded), "folding from {snapshot:?} gives the same");
    }
    let count = machine.session.row.message_count;
    assert_eq!(ledger.places.range(..count).count() as u64, count, "no hole below the message count");
    let owed = machine.session.owed();
    let acting = owed.iter().filter(|owed| matches!(owed, Owed::Run { call, .. } if !call.name.contains("look")));
    assert!(acting.count() <= 1, "two calls with effects overlap: {owed:?}");
    if machine.session.active().is_some() {
        assert!(!owed.is_empty() || machine.is_queued(), "the run is stuck");
    } else {
        assert_eq!(owed, []);
        assert_eq!(ledger.begun, ledger.ended, "an ended run has its terminal event");
        assert_eq!(ledger.places.len() as u64, count, "places are dense");
        assert_eq!(ledger.results.len(), ledger.effects.len(), "each call has a result");
    }
}

/// Whether text was shown is not stored: after a restart it is always taken back.
fn forgetting_readers(session: &Session) -> Session {
    let mut session = session.clone();
    if let Some(Step::Asking { text_shown, .. }) = session.run.as_mut().map(|run| &mut run.step) {
        *text_shown = false;
    }
    session
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_session_holds_its_promises(happenings in prop::collection::vec(happening(), 1..50), limited in any::<bool>(), deleted in any::<bool>()) {
        let mut machine = Machine::new();
        machine.max_turns = 5;
        if limited {
            machine.limits = RunLimits { wall_clock_s: Some(1_000_000), cost_usd: Some(1e6), ..RunLimits::default() };
        }
        let (mut ledger, mut calls) = (Ledger::default(), Vec::new());
        for next in happenings {
            happen(&mut machine, &mut calls, next);
            check(&machine, &mut ledger);
        }
        machine.grant_slot();
        check(&machine, &mut ledger);
        // Whatever state it is left in, a deletion or a cancel ends it.
        if deleted {
            machine.delete();
            check(&machine, &mut ledger);
        } else if machine.session.active().is_some() {
            machine.cancel();
            check(&machine, &mut ledger);
        }
        for snapshot in &ledger.snapshots {
            assert_eq!(machine.restored(snapshot), Some(machine.folded()), "folding from {snapshot:?} gives the same");
        }
    }
}
