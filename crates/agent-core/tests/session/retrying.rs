//! Failed requests: which are repeated, when, and how the run ends otherwise.

use std::time::Duration;

use stakpak_agent_core::{
    ErrorClass,
    session::{Input, Step},
};
use stakpak_protocol::{Event, LastErrorCode};

use crate::machine::{LONGEST_WAIT, Machine, call};

const RETRYABLE: [ErrorClass; 6] = [
    ErrorClass::RateLimited,
    ErrorClass::Overloaded,
    ErrorClass::Server,
    ErrorClass::Network,
    ErrorClass::Timeout,
    ErrorClass::StreamTruncated,
];

const FINAL: [ErrorClass; 6] = [
    ErrorClass::Quota,
    ErrorClass::Auth,
    ErrorClass::Permission,
    ErrorClass::ModelNotFound,
    ErrorClass::BadRequest,
    ErrorClass::ContentFilter,
];

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn delays(machine: &Machine) -> Vec<(u64, u64, Option<bool>)> {
    let events = machine.events().into_iter();
    events
        .filter_map(|event| match event {
            Event::RetryAttempt { attempt, delay_ms, discard_text, .. } => Some((attempt, delay_ms, discard_text)),
            _ => None,
        })
        .collect()
}

#[test]
fn three_attempts_with_two_and_four_seconds_between() {
    for class in RETRYABLE {
        let mut machine = Machine::asking();
        machine.fail(class, None);
        assert_eq!(machine.wait(), seconds(2));
        machine.fail(class, None);
        assert_eq!(machine.wait(), seconds(4));
        machine.fail(class, None);
        assert_eq!(delays(&machine), [(1, 2000, None), (2, 4000, None)], "{class}");
        let error = machine.last_error().unwrap();
        assert_eq!((error.code, error.retryable), (LastErrorCode::ProviderError, true), "{class}");
        assert_eq!(error.message, format!("test: {class}"));
        assert_eq!(machine.terminal_events(), 1);
    }
}

#[test]
fn the_spread_is_a_fifth() {
    for (jitter, wait) in [(-1.0, 1600), (1.0, 2400)] {
        let mut machine = Machine::asking();
        machine.jitter = jitter;
        machine.fail(ErrorClass::Overloaded, None);
        assert_eq!(machine.wait(), Duration::from_millis(wait));
    }
}

#[test]
fn the_longer_of_the_two_waits_wins() {
    for (asked, wait) in [(seconds(1), seconds(2)), (seconds(30), seconds(30)), (LONGEST_WAIT, LONGEST_WAIT)] {
        let mut machine = Machine::asking();
        machine.fail(ErrorClass::RateLimited, Some(asked));
        assert_eq!(machine.wait(), wait);
        machine.say("done");
        assert_eq!(machine.last_error(), None);
    }
}

#[test]
fn a_wait_that_is_too_long_fails_at_once_and_is_named() {
    let mut machine = Machine::asking();
    machine.fail(ErrorClass::RateLimited, Some(seconds(3600)));
    let error = machine.last_error().unwrap();
    assert!(error.message.contains("3600 s"), "{}", error.message);
    assert!(error.retryable);
    assert_eq!(delays(&machine), []);
}

#[test]
fn what_cannot_work_later_is_asked_once() {
    for class in FINAL {
        let mut machine = Machine::asking();
        machine.fail(class, Some(seconds(1)));
        let error = machine.last_error().unwrap();
        assert_eq!((error.code, error.retryable), (LastErrorCode::ProviderError, false), "{class}");
        assert_eq!(machine.asked(), 1, "{class}");
    }
}

#[test]
fn text_that_readers_saw_is_taken_back() {
    let mut machine = Machine::asking();
    machine.stream("Let me ");
    machine.fail(ErrorClass::StreamTruncated, None);
    machine.wait();
    machine.fail(ErrorClass::StreamTruncated, None);
    assert_eq!(delays(&machine), [(1, 2000, Some(true)), (2, 4000, None)]);
    assert_eq!(machine.session.row.message_count, 1, "nothing of it enters the history");
}

#[test]
fn each_turn_has_its_own_attempts() {
    let mut machine = Machine::asking();
    machine.fail(ErrorClass::Server, None);
    machine.wait();
    machine.fail(ErrorClass::Server, None);
    machine.wait();
    machine.answer([call("a", "auto_look")]);
    machine.end_call("a");
    machine.fail(ErrorClass::Server, None);
    assert!(matches!(machine.session.run.as_ref().unwrap().step, Step::BackingOff { attempt: 1, .. }));
}

#[test]
fn reports_of_an_earlier_attempt_are_dropped() {
    let mut machine = Machine::asking();
    machine.fail(ErrorClass::Server, None);
    machine.wait();
    machine.fail(ErrorClass::Server, None);
    assert_eq!(machine.feed(Input::Waited { request: 1 }), 0);
    assert_eq!(machine.feed(crate::machine::answered(1, [])), 0);
    assert_eq!(machine.wait(), seconds(4));
}
