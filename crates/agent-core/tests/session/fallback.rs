//! Other models that go on where one has failed: which, when, and for how long.

use std::time::Duration;

use stakpak_agent_core::{
    ErrorClass, ModelError, ModelTerms, Plan, Record,
    session::{Request, StandIn},
};
use stakpak_protocol::{Event, LastErrorCode};

use crate::machine::{Machine, call};

const AFTER_ATTEMPTS: [ErrorClass; 6] = [
    ErrorClass::RateLimited,
    ErrorClass::Overloaded,
    ErrorClass::Server,
    ErrorClass::Network,
    ErrorClass::Timeout,
    ErrorClass::StreamTruncated,
];

const AT_ONCE: [ErrorClass; 4] =
    [ErrorClass::Quota, ErrorClass::Auth, ErrorClass::Permission, ErrorClass::ModelNotFound];

const NEVER: [ErrorClass; 3] = [ErrorClass::BadRequest, ErrorClass::ContentFilter, ErrorClass::Internal];

fn stand_in(model: &str, context: u64) -> StandIn {
    let terms = ModelTerms { max_output_tokens: Some(context), ..ModelTerms::default() };
    StandIn { model: model.into(), context, is_larger: context > 100, terms }
}

fn machine() -> Machine {
    let mut machine = Machine::asking();
    machine.stand_ins = vec![stand_in("a/one", 100), stand_in("b/two", 300), stand_in("c/three", 200)];
    machine
}

fn model(machine: &Machine) -> &str {
    &machine.session.run.as_ref().unwrap().accepted.model
}

/// Attempt, wait, reason and whether text is taken back, of every retry that was told.
fn told(machine: &Machine) -> Vec<(u64, u64, String, Option<bool>)> {
    let events = machine.events().into_iter();
    events
        .filter_map(|event| match event {
            Event::RetryAttempt { attempt, delay_ms, reason, discard_text, .. } => {
                Some((attempt, delay_ms, reason, discard_text))
            }
            _ => None,
        })
        .collect()
}

#[test]
fn after_its_attempts_at_once_or_never() {
    for class in AFTER_ATTEMPTS {
        let mut machine = machine();
        machine.fail(class, None);
        machine.wait();
        machine.fail(class, None);
        machine.wait();
        assert_eq!(model(&machine), "test/model", "{class}");
        machine.fail(class, None);
        assert_eq!((model(&machine), machine.asked()), ("a/one", 4), "{class}: asked at once");
        machine.fail(class, None);
        machine.wait();
        assert_eq!(model(&machine), "a/one", "{class}: it has attempts of its own");
    }
    for class in AT_ONCE {
        let mut machine = machine();
        machine.fail(class, None);
        assert_eq!((model(&machine), machine.asked()), ("a/one", 2), "{class}");
        assert_eq!(told(&machine), [(1, 0, format!("test: {class}; using a/one"), None)]);
    }
    for class in NEVER {
        let mut machine = machine();
        machine.fail(class, None);
        let error = machine.last_error().unwrap();
        assert_eq!((error.code, error.retryable), (LastErrorCode::ProviderError, false), "{class}");
        assert_eq!((model(&machine), machine.asked()), ("test/model", 1), "{class}");
    }
}

#[test]
fn an_answer_that_cannot_be_read_is_asked_for_once_more() {
    let mut machine = machine();
    machine.fail(ErrorClass::Decode, None);
    machine.wait();
    assert_eq!(model(&machine), "test/model");
    machine.fail(ErrorClass::Decode, None);
    assert_eq!(model(&machine), "a/one");
}

/// `x-should-retry: false`, and a wait that is too long.
#[test]
fn a_wait_that_is_of_no_use_is_not_waited() {
    for error in [
        ModelError { is_final: true, ..ModelError::new(ErrorClass::Server, "test: 500") },
        ModelError {
            retry_after: Some(Duration::from_secs(3600)),
            ..ModelError::new(ErrorClass::RateLimited, "test: 429")
        },
    ] {
        let mut machine = machine();
        machine.fail_with(error.clone());
        assert_eq!((model(&machine), machine.asked()), ("a/one", 2), "{error}");
        machine.stand_ins.clear();
        machine.fail_with(error.clone());
        assert_eq!(machine.last_error().unwrap().retryable, !error.is_final);
        assert_eq!(machine.asked(), 2, "{error}");
    }
}

#[test]
fn text_that_readers_saw_is_taken_back_at_once() {
    let mut machine = machine();
    machine.stream("Let me ");
    machine.fail(ErrorClass::Quota, None);
    assert_eq!(told(&machine)[0].3, Some(true));
    machine.say("done");
    assert_eq!(machine.session.row.message_count, 2, "nothing of it enters the history");
}

/// For the rest of the run, after a restart too; the session and its next run keep their model.
#[test]
fn it_goes_on_for_the_rest_of_the_run() {
    let mut machine = machine();
    machine.fail(ErrorClass::Quota, None);
    machine.restart_and_wait();
    assert_eq!(model(&machine), "a/one");
    machine.answer([call("x", "auto_look")]);
    machine.end_call("x");
    assert_eq!(model(&machine), "a/one");
    let terms = machine.session.run.as_ref().unwrap().accepted.terms;
    assert_eq!(terms.max_output_tokens, Some(100));
    let snapshot = machine.session.snapshot().unwrap();
    assert_eq!(machine.restored(&snapshot).unwrap(), machine.session);
    machine.say("done");
    assert_eq!(machine.session.row.model.as_deref(), Some("test/model"));
    machine.post();
    assert_eq!(model(&machine), "test/model");
    assert_eq!(machine.session.run.as_ref().unwrap().left.len(), 0);
}

/// Every model is asked; none twice.
#[test]
fn the_last_one_ends_the_run() {
    let mut machine = machine();
    machine.stand_ins.push(stand_in("test/model", 100));
    machine.stand_ins.push(stand_in("a/one", 100));
    for expected in ["a/one", "b/two", "c/three"] {
        machine.fail(ErrorClass::Auth, None);
        assert_eq!(model(&machine), expected);
    }
    machine.fail(ErrorClass::Auth, None);
    assert_eq!(machine.last_error().unwrap().message, "test: key refused");
    assert_eq!((machine.asked(), machine.terminal_events()), (4, 1));
    let switches = machine.records().into_iter();
    let switches = switches.filter(|record| matches!(record, Record::ModelSwitched { stands_in: true, .. }));
    assert_eq!(switches.count(), 3);
}

/// A switch of the user is one for good, and begins anew.
#[test]
fn a_switch_of_the_user_is_heeded() {
    let mut machine = machine();
    machine.fail(ErrorClass::Auth, None);
    let (run_id, terms) = (machine.run_id, ModelTerms::default());
    machine.handle(Request::SwitchModel { run_id, model: "d/four".into(), terms }).unwrap();
    assert_eq!((model(&machine), machine.session.row.model.as_deref()), ("d/four", Some("d/four")));
    machine.fail(ErrorClass::Auth, None);
    assert_eq!((model(&machine), machine.session.row.model.as_deref()), ("a/one", Some("d/four")));
    let snapshot = machine.session.snapshot().unwrap();
    assert_eq!(machine.restored(&snapshot).unwrap(), machine.session);
}

/// What is too long goes to the model that takes most, when nothing else helped; never to one that takes no more.
#[test]
fn what_is_too_long_goes_to_a_larger_one() {
    let mut machine = machine();
    machine.fail(ErrorClass::ContextOverflow, None);
    assert_eq!(model(&machine), "test/model", "made smaller first");
    machine.plan(Plan::Stuck);
    assert_eq!(model(&machine), "b/two");
    let run = machine.session.run.as_ref().unwrap();
    assert_eq!((run.shrinking.overflows, run.shrinking.refused.as_ref()), (0, None));
    machine.stand_ins.iter_mut().for_each(|other| other.is_larger = false);
    for _ in 0..3 {
        assert_eq!(model(&machine), "b/two");
        machine.fail(ErrorClass::ContextOverflow, None);
    }
    assert_eq!(machine.last_error().unwrap().code, LastErrorCode::ContextOverflow);
}

#[test]
fn a_model_that_cannot_sum_up_is_left() {
    let mut machine = machine();
    machine.plan(Plan::Compact { first: 1, tokens: 100 });
    machine.compaction_fails(ErrorClass::Quota);
    assert_eq!(model(&machine), "a/one");
    machine.plan(Plan::Compact { first: 1, tokens: 100 });
    machine.compacted(30);
    machine.say("done");
    assert_eq!(machine.last_error(), None);
}
