//! A conversation that is too long: what is recorded, what readers see, and what becomes of the run.

use stakpak_agent_core::{Cut, ErrorClass, Plan, Record};
use stakpak_protocol::{Event, LastErrorCode, StopReason};

use crate::machine::{Machine, call};

const COMPACT: Plan = Plan::Compact { first: 4, tokens: 100 };

fn names(machine: &Machine) -> Vec<&'static str> {
    machine.events().iter().map(Event::name).collect()
}

fn kinds(machine: &Machine) -> Vec<String> {
    let control = machine.rows.iter().filter(|row| row.class == stakpak_agent_core::RowClass::Control);
    control.map(|row| row.kind.clone()).collect()
}

/// The compaction is inside the turn, its tokens count, and the turn's number does not go back.
#[test]
fn older_messages_are_summed_up_and_the_turn_goes_on() {
    let mut machine = Machine::calling([call("a", "auto_look")]);
    machine.end_call("a");
    let turn = machine.session.run.as_ref().unwrap().turn;
    machine.plan(COMPACT);
    assert!(machine.compacting().is_some());
    machine.compacted(30);
    let run = machine.session.run.as_ref().unwrap();
    assert_eq!((run.turn, run.context.first, run.context.tokens), (turn, 4, 30));
    let place = usize::try_from(run.context.summary_at.unwrap()).unwrap();
    assert_eq!(machine.rows[place - 1].kind, "compaction", "the state names the record of the summary");
    let count = machine.session.row.message_count;
    machine.say("done");
    assert_eq!(machine.session.row.message_count, count + 1, "the summary is no message");
    assert_eq!(machine.session.run.as_ref().unwrap().total_usage.total_tokens, 12 + 10 + 12);
    assert_eq!(
        names(&machine)[names(&machine).len() - 7..],
        [
            "turn_started",
            "compaction_started",
            "compaction_completed",
            "text_complete",
            "usage_report",
            "turn_completed",
            "run_completed"
        ]
    );
    let [.., completed, _, _, _, _] = machine.last_events::<6>();
    let Event::CompactionCompleted { tokens_before, tokens_after, truncated, .. } = completed else { panic!() };
    assert_eq!((tokens_before, tokens_after, truncated), (100, 30, false));
}

/// C-P18: what a view shows is handed on from run to run, and over a restart.
#[test]
fn the_next_run_shows_what_the_last_one_showed() {
    let mut machine = Machine::asking();
    machine.plan(Plan::Clear { before: 2, tokens: (100, 60) });
    machine.plan(COMPACT);
    machine.compacted(30);
    machine.plan(Plan::Cut { cut: Cut { before: 9, keep: 400 }, tokens: (40, 20) });
    machine.say("done");
    let before = machine.session.run.as_ref().unwrap().context.clone();
    assert_eq!((before.cleared, before.first, before.cut), (2, 4, Some(Cut { before: 9, keep: 400 })));
    machine.post();
    let after = machine.session.run.as_ref().unwrap().context.clone();
    assert_eq!((after.cleared, after.first, after.summary_at, after.cut), (2, 4, before.summary_at, before.cut));
    assert_eq!(machine.folded().run.unwrap().context, after);
}

/// C-P18: a process that dies while it sums up begins again, at most twice, and nothing was changed.
#[test]
fn a_compaction_survives_a_restart() {
    let mut machine = Machine::asking();
    machine.plan(COMPACT);
    let late = machine.compacting().unwrap();
    for _ in 0..2 {
        machine.restart_and_wait();
        assert_eq!(machine.session.run.as_ref().unwrap().context.first, 0);
        machine.plan(COMPACT);
    }
    let summary = crate::machine::summary(1);
    let input = stakpak_agent_core::session::Input::Compacted { request: late, summary };
    assert_eq!(machine.feed(input), 0, "what an earlier process asked for is not wanted any more");
    let mut again = Machine::asking();
    again.plan(COMPACT);
    again.restart_and_wait();
    again.plan(COMPACT);
    again.compacted(30);
    again.say("done");
    assert_eq!(again.last_error(), None);
    machine.restart();
    assert_eq!(machine.last_error().unwrap().code, LastErrorCode::Interrupted);
    assert_eq!(machine.terminal_events(), 1);
}

/// C-P5: three times a turn, compactions among them.
#[test]
fn a_provider_that_always_overflows_is_called_three_times() {
    let mut machine = Machine::asking();
    machine.fail(ErrorClass::ContextOverflow, None);
    machine.plan(COMPACT);
    machine.compaction_fails(ErrorClass::ContextOverflow);
    assert_eq!(machine.last_error(), None, "the run goes on with what can be said without a model");
    machine.fail(ErrorClass::ContextOverflow, None);
    let error = machine.last_error().unwrap();
    assert_eq!((error.code, error.message.as_str()), (LastErrorCode::ContextOverflow, "test: conversation too long"));
    assert_eq!((machine.terminal_events(), machine.session.owed()), (1, vec![]));
    let calls = kinds(&machine).into_iter().filter(|kind| kind == "model_requested" || kind == "compaction_started");
    assert_eq!(calls.count(), 4, "the second request was refused; the first was asked again after it");
}

/// C-P5: a 429 that speaks of tokens and limits is a matter of time, not of size.
#[test]
fn a_rate_limit_is_never_compacted_for() {
    let mut machine = Machine::asking();
    for _ in 0..2 {
        machine.fail(ErrorClass::RateLimited, None);
        machine.wait();
        assert!(machine.is_asking());
    }
    machine.fail(ErrorClass::RateLimited, None);
    assert_eq!(machine.last_error().unwrap().code, LastErrorCode::ProviderError);
    let run = machine.session.run.as_ref().unwrap();
    assert_eq!((run.shrinking.overflows, run.shrinking.refused.as_ref()), (0, None));
    assert!(!kinds(&machine).iter().any(|kind| kind.starts_with("compaction") || kind.starts_with("context")));
}

/// One that cannot be made smaller is not sent again.
#[test]
fn what_cannot_be_made_smaller_ends_the_run_with_the_providers_words() {
    let mut machine = Machine::asking();
    machine.fail(ErrorClass::ContextOverflow, None);
    machine.plan(Plan::Stuck);
    let error = machine.last_error().unwrap();
    assert_eq!((error.code, error.retryable), (LastErrorCode::ContextOverflow, false));
    assert_eq!(error.message, "test: conversation too long");
    machine.post();
    let run = machine.session.run.as_ref().unwrap();
    assert_eq!(run.shrinking.refused, None, "of that turn only");
}

/// C-P9: a summary that cannot be had ends the run or is done without; either way once.
#[test]
fn a_failing_summary() {
    use ErrorClass as C;
    for class in [C::BadRequest, C::ContentFilter, C::Decode, C::ContextOverflow] {
        let mut machine = Machine::asking();
        machine.plan(COMPACT);
        machine.compaction_fails(class);
        machine.say("done");
        assert_eq!(machine.last_error(), None, "{class}");
        let truncated =
            machine.events().iter().any(|event| matches!(event, Event::CompactionCompleted { truncated: true, .. }));
        assert!(truncated, "{class}");
    }
    for class in [C::Auth, C::Quota, C::Permission, C::ModelNotFound] {
        let mut machine = Machine::asking();
        machine.plan(COMPACT);
        machine.compaction_fails(class);
        assert_eq!(machine.last_error().unwrap().code, LastErrorCode::ProviderError, "{class}");
        assert_eq!(machine.session.run.as_ref().unwrap().context.first, 0, "{class}: nothing is left out");
    }
    let mut machine = Machine::asking();
    for _ in 0..2 {
        machine.plan(COMPACT);
        machine.compaction_fails(C::RateLimited);
        machine.wait();
    }
    machine.plan(COMPACT);
    machine.compaction_fails(C::RateLimited);
    assert!(machine.last_error().unwrap().retryable, "three attempts, as of any request");
    assert_eq!(machine.session.run.as_ref().unwrap().context.first, 0);
}

#[test]
fn cancelling_ends_a_compaction() {
    let mut machine = Machine::asking();
    machine.plan(COMPACT);
    machine.cancel();
    assert_eq!(machine.session.owed(), []);
    let end = machine.events().pop().unwrap();
    assert!(matches!(end, Event::RunCompleted { stop_reason: StopReason::Cancelled, .. }));
}

/// The report of a request's size is kept with what was expected of it.
#[test]
fn reports_are_kept() {
    let mut machine = Machine::asking();
    machine.say("done");
    let measured = machine.session.run.as_ref().unwrap().context.measured.clone().unwrap();
    assert_eq!((measured.model.as_str(), measured.reported, measured.estimated), ("test/model", 10, 20));
    let answered = machine.records().into_iter().find_map(|record| match record {
        Record::ModelAnswered { estimated, .. } => estimated,
        _ => None,
    });
    assert_eq!(answered, Some(20));
}

/// A compaction that made it hardly smaller is not repeated in the turn.
#[test]
fn what_was_in_vain_is_remembered_for_the_turn() {
    let mut machine = Machine::asking();
    machine.plan(COMPACT);
    machine.compacted(90);
    assert!(machine.session.run.as_ref().unwrap().shrinking.in_vain);
    machine.answer([call("a", "auto_look")]);
    machine.end_call("a");
    assert_eq!(machine.session.run.as_ref().unwrap().shrinking, Default::default());
}
