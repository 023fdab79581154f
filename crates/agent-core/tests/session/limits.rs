//! Bounds of a run: what it ends with, what is not counted, what a restart changes.

use std::time::Duration;

use stakpak_agent_core::{
    CallEnd, ErrorClass, ModelTerms,
    session::{Input, Owed, Request},
};
use stakpak_protocol::{Event, LastErrorCode, MessageType, ModelCost, RunLimits, StopReason, Usd};

use crate::machine::{MAX_OUTPUT, Machine, PRICE, accept, call};

const MINUTE: Duration = Duration::from_secs(60);

fn limited(limits: RunLimits) -> Machine {
    let mut machine = Machine::new();
    machine.limits = limits;
    machine.post();
    machine
}

fn one_minute() -> Machine {
    limited(RunLimits { wall_clock_s: Some(60), ..RunLimits::default() })
}

fn failed_with(machine: &Machine) -> Option<LastErrorCode> {
    assert_eq!(machine.terminal_events(), usize::from(machine.last_error().is_some()));
    machine.last_error().map(|error| error.code)
}

fn deadline(machine: &Machine) -> Option<i64> {
    machine.session.owed().into_iter().find_map(|owed| match owed {
        Owed::Deadline { at } => Some((at - machine.now).num_seconds()),
        _ => None,
    })
}

#[test]
fn a_run_without_limits_owes_no_deadline() {
    assert_eq!(deadline(&limited(RunLimits::default())), None);
}

#[test]
fn the_wall_clock_ends_a_model_that_says_nothing() {
    let mut machine = one_minute();
    assert_eq!(deadline(&machine), Some(60));
    machine.later(MINUTE - Duration::from_secs(1));
    assert_eq!(machine.feed(Input::DeadlinePassed), 0, "not yet");
    machine.later(Duration::from_secs(1));
    machine.feed(Input::DeadlinePassed);
    assert_eq!(failed_with(&machine), Some(LastErrorCode::DeadlineExceeded));
    assert_eq!(machine.session.owed(), []);
    let [.., end] = machine.last_events::<2>();
    assert!(matches!(end, Event::RunError { retryable: false, .. }), "{end:?}");
}

#[test]
fn the_wall_clock_ends_a_call_that_hangs() {
    let mut machine = one_minute();
    machine.answer([call("a", "auto_act")]);
    assert_eq!(machine.running(), ["a"]);
    machine.later(MINUTE);
    machine.feed(Input::DeadlinePassed);
    assert_eq!(machine.result_of("a").unwrap().0, CallEnd::Cancelled);
    assert_eq!((failed_with(&machine), machine.session.owed()), (Some(LastErrorCode::DeadlineExceeded), vec![]));
}

#[test]
fn the_wall_clock_is_looked_at_before_each_request() {
    let mut machine = one_minute();
    machine.answer([call("a", "auto_act")]);
    machine.later(MINUTE);
    machine.end_call("a");
    assert_eq!((machine.asked(), failed_with(&machine)), (1, Some(LastErrorCode::DeadlineExceeded)));
    let mut machine = one_minute();
    machine.fail(ErrorClass::Overloaded, None);
    machine.later(MINUTE);
    let request = machine.session.run.as_ref().unwrap().request;
    machine.feed(Input::Waited { request });
    assert_eq!((machine.asked(), failed_with(&machine)), (1, Some(LastErrorCode::DeadlineExceeded)));
}

#[test]
fn waiting_for_a_person_is_not_counted_also_over_a_restart() {
    let mut machine = one_minute();
    machine.later(Duration::from_secs(20));
    machine.answer([call("a", "ask_act")]);
    let approval = deadline(&machine).unwrap();
    assert!(approval > 3_600, "only that of the approval: {approval}");
    machine.later(MINUTE * 10);
    machine.restart();
    machine.later(MINUTE * 10);
    machine.feed(Input::DeadlinePassed);
    assert_eq!(failed_with(&machine), None);
    machine.decide("a", accept());
    assert_eq!((machine.running(), deadline(&machine)), (vec!["a".to_owned()], Some(40)));
    assert_eq!(machine.folded().owed(), machine.session.owed());
    machine.later(Duration::from_secs(40));
    machine.feed(Input::DeadlinePassed);
    assert_eq!(failed_with(&machine), Some(LastErrorCode::DeadlineExceeded));
}

#[test]
fn a_call_that_runs_beside_one_that_waits_is_counted() {
    let mut machine = one_minute();
    machine.answer([call("a", "auto_look"), call("b", "ask_act")]);
    machine.later(MINUTE);
    machine.feed(Input::DeadlinePassed);
    assert_eq!(failed_with(&machine), Some(LastErrorCode::DeadlineExceeded));
}

/// An answer of the test's model takes 12 tokens; the next request is reserved with what it may take.
#[test]
fn tokens_are_reserved_before_each_request() {
    let tokens = |tokens| RunLimits { tokens: Some(tokens), ..RunLimits::default() };
    let machine = limited(tokens(MAX_OUTPUT));
    assert_eq!((machine.asked(), failed_with(&machine)), (0, Some(LastErrorCode::BudgetExceeded)));
    for (limit, asked) in [(MAX_OUTPUT + 12 + 10, 1), (MAX_OUTPUT + 12 + 12 + 20, 2)] {
        let mut machine = limited(tokens(limit));
        machine.answer([call("a", "auto_act")]);
        machine.end_call("a");
        assert_eq!(machine.asked(), asked, "{limit}");
        let expected = (asked == 1).then_some(LastErrorCode::BudgetExceeded);
        assert_eq!(failed_with(&machine), expected, "{limit}");
    }
}

/// A dollar a token in and two out: an answer costs 14.
#[test]
fn cost_is_reserved_before_each_request() {
    let cost = |usd| RunLimits { cost_usd: Some(usd), ..RunLimits::default() };
    let most = 200.0;
    let machine = limited(cost(most));
    assert_eq!((machine.asked(), failed_with(&machine)), (0, Some(LastErrorCode::BudgetExceeded)));
    for (limit, asked) in [(most + 14.0 + 10.0, 1), (most + 14.0 + 40.0, 2)] {
        let mut machine = limited(cost(limit));
        machine.answer([call("a", "auto_act")]);
        machine.end_call("a");
        assert_eq!(machine.asked(), asked, "{limit}");
        assert_eq!(machine.session.run.as_ref().unwrap().cost.map(Usd::dollars), Some(14.0));
        assert_eq!(machine.folded().run, machine.session.run);
    }
}

#[test]
fn an_answer_at_the_limit_completes_and_lists_what_it_cannot_use() {
    let mut machine = limited(RunLimits { tokens: Some(MAX_OUTPUT + 20), ..RunLimits::default() });
    machine.queue(MessageType::FollowUp, "and?").unwrap();
    machine.say("done");
    let [end] = machine.last_events();
    let Event::RunCompleted { stop_reason: StopReason::Completed, unconsumed, .. } = end else { panic!("{end:?}") };
    assert_eq!(unconsumed.len(), 1);
}

/// What was spent is counted at the price it was spent at; what is reserved, at the new model's.
#[test]
fn another_model_brings_its_own_price() {
    let mut machine = limited(RunLimits { cost_usd: Some(250.0), ..RunLimits::default() });
    machine.answer([call("a", "ask_act")]);
    let price = ModelCost { input: 1e6, output: 20e6, cache_read: None, cache_write: None };
    let terms = ModelTerms { price: Some(price), max_output_tokens: Some(MAX_OUTPUT) };
    machine.handle(Request::SwitchModel { run_id: machine.run_id, model: "test/dear".into(), terms }).unwrap();
    assert_eq!(machine.session.run.as_ref().unwrap().cost.map(Usd::dollars), Some(14.0));
    assert_eq!(machine.folded().run, machine.session.run);
    machine.decide("a", accept());
    machine.end_call("a");
    assert_eq!((machine.asked(), failed_with(&machine)), (1, Some(LastErrorCode::BudgetExceeded)));
}

/// A limit far away: what is spent is told with each answer and in all, at the price of the moment.
#[test]
fn cost_is_told_with_each_answer() {
    let mut machine = limited(RunLimits { cost_usd: Some(1e6), ..RunLimits::default() });
    machine.answer([call("a", "auto_act")]);
    let told = |machine: &Machine| machine.session.run_view().unwrap().cost_usd.map(Usd::dollars);
    assert_eq!(told(&machine), Some(14.0));
    let reports = machine.events().into_iter().filter_map(|event| match event {
        Event::UsageReport { cost_usd, .. } => Some(cost_usd.map(Usd::dollars)),
        _ => None,
    });
    assert_eq!(reports.collect::<Vec<_>>(), [Some(14.0)]);
    machine.end_call("a");
    machine.say("done");
    assert_eq!(told(&machine), Some(28.0));
    assert_eq!(machine.folded().run, machine.session.run);
}

/// What it cost is not known, rather than only a part of it.
#[test]
fn a_model_without_a_price_makes_the_cost_unknown() {
    let priced = ModelTerms { price: Some(PRICE), max_output_tokens: None };
    for (before, after) in [(priced, ModelTerms::default()), (ModelTerms::default(), priced)] {
        let mut machine = Machine::new();
        machine.fixed_terms = Some(before);
        machine.post();
        machine.answer([call("a", "ask_act")]);
        machine
            .handle(Request::SwitchModel { run_id: machine.run_id, model: "test/other".into(), terms: after })
            .unwrap();
        machine.decide("a", accept());
        machine.end_call("a");
        machine.say("done");
        assert_eq!(machine.session.run_view().unwrap().cost_usd, None);
        assert_eq!(machine.folded().run, machine.session.run);
    }
}

/// A record of before cost was recorded: its limit still counts what it cost.
#[test]
fn an_answer_without_its_cost_costs_what_it_would_now() {
    let mut machine = limited(RunLimits { cost_usd: Some(1e6), ..RunLimits::default() });
    machine.say("done");
    for row in &mut machine.rows {
        row.payload = row.payload.replace(",\"cost_micros\":14000000", "");
    }
    assert!(machine.rows.iter().all(|row| !row.payload.contains("cost_micros")));
    assert_eq!(machine.folded().run, machine.session.run);
}
