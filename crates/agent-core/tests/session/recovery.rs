//! A new process: what was under way is settled, nothing is done twice that must not be.

use std::time::Duration;

use stakpak_agent_core::{CallEnd, ErrorClass, Probe, Probed, Record, session::Owed};
use stakpak_protocol::{DecisionOutcome, Event, LastErrorCode};

use crate::machine::{APPROVAL_TIMEOUT, BACKOFF, Machine, RESUME_MAX_AGE, accept, answered, call};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn d10_a_waiting_call_waits_on_until_the_same_deadline() {
    let mut machine = Machine::calling([call("a", "ask_act"), call("b", "ask_look")]);
    let owed = machine.session.owed();
    machine.later(APPROVAL_TIMEOUT - SECOND);
    machine.restart();
    assert_eq!(machine.session.owed(), owed);
    let pending =
        Event::WaitingForToolApproval { run_id: machine.run_id, pending_tool_call_ids: vec!["a".into(), "b".into()] };
    assert_eq!(machine.last_events(), [pending.clone(), pending], "told again");
}

#[test]
fn d11_an_accepted_call_starts_and_nobody_is_asked_again() {
    let mut machine = Machine::calling([call("a", "auto_look"), call("b", "ask_act")]);
    machine.decide("b", accept());
    assert_eq!(machine.starts_of("b"), 0);
    let asked =
        |machine: &Machine| machine.events().iter().filter(|event| event.name() == "waiting_for_tool_approval").count();
    assert_eq!(asked(&machine), 1);
    machine.restart();
    assert_eq!(asked(&machine), 1);
    machine.end_call("a");
    assert_eq!(machine.running(), ["b"]);
    assert_eq!(machine.decide("b", accept()), DecisionOutcome::Duplicate);
}

#[test]
fn an_unsafe_call_is_not_run_again() {
    let mut machine = Machine::calling([call("a", "auto_act"), call("b", "ask_act")]);
    machine.restart_after_ending([("a", 2)]);
    let (end, text) = machine.result_of("a").unwrap();
    assert_eq!(end, CallEnd::Unknown);
    assert!(text.starts_with("OUTCOME_UNKNOWN\n"), "{text}");
    assert!(text.contains("(a)") && text.contains("2 of its processes"), "{text}");
    assert_eq!(machine.running(), [""; 0]);
    assert_eq!(machine.waiting(), ["b"]);
    assert_eq!(machine.report("a", 1, "late"), 0);
    machine.decide("b", accept());
    machine.end_call("b");
    assert!(machine.is_asking());
    assert_eq!(machine.starts_of("a"), 1);
}

#[test]
fn a_pure_call_runs_again() {
    let mut machine = Machine::calling([call("a", "auto_look")]);
    assert_eq!(machine.attempt("a"), Some(1));
    machine.restart();
    assert_eq!(machine.attempt("a"), Some(2));
    assert_eq!(machine.report("a", 1, "of the first start"), 0);
    machine.report("a", 2, "of the second");
    assert_eq!(machine.result_of("a"), Some((CallEnd::Done, "of the second".into())));
}

/// C-P25
#[test]
fn what_a_call_changes_is_looked_at_before_it_starts_and_after_a_crash() {
    let running = || {
        let mut machine = Machine::calling([call("a", "auto_change"), call("b", "auto_look")]);
        assert_eq!((machine.to_probe(), machine.running()), (Some("a".into()), vec![]), "no intent without a look");
        machine.restart();
        assert_eq!((machine.to_probe(), machine.starts_of("a")), (Some("a".into()), 0), "and none after a crash");
        machine.probe("a");
        assert_eq!((machine.to_probe(), machine.running()), (None, vec!["a".to_owned()]), "alone");
        let probe = Probe { before: "old".into(), after: "new".into() };
        assert!(machine.records().contains(&Record::CallStarted {
            call_id: "a".into(),
            attempt: 1,
            probe: Some(probe)
        }));
        machine
    };
    let mut machine = running();
    machine.restart_after_looking("a", Probed::Done("it is there".into()));
    assert_eq!(machine.result_of("a"), Some((CallEnd::Done, "it is there".into())));
    assert_eq!((machine.starts_of("a"), machine.running()), (1, vec!["b".to_owned()]));

    let mut machine = running();
    machine.restart_after_looking("a", Probed::Untouched);
    assert_eq!(machine.attempt("a"), Some(2), "run again");
    machine.restart_after_looking("a", Probed::Done("at last".into()));
    assert_eq!(machine.result_of("a"), Some((CallEnd::Done, "at last".into())), "the look of the first start counts");

    for unknown in [Some(Probed::Unknown), None] {
        let mut machine = running();
        match unknown {
            Some(unknown) => machine.restart_after_looking("a", unknown),
            None => machine.restart(),
        }
        assert_eq!(machine.result_of("a").unwrap().0, CallEnd::Unknown);
        assert_eq!(machine.starts_of("a"), 1);
    }
}

#[test]
fn a_call_that_changed_nothing_starts_again_when_the_run_has_left_the_queue_but_not_for_ever() {
    let mut machine = Machine::calling([call("a", "auto_change")]);
    machine.probe("a");
    machine.slots_free = false;
    machine.restart_after_looking("a", Probed::Untouched);
    assert_eq!(machine.starts_of("a"), 1);
    machine.grant_slot();
    assert_eq!(machine.starts_of("a"), 2);
    machine.restart_after_looking("a", Probed::Untouched);
    machine.restart_after_looking("a", Probed::Untouched);
    assert_eq!(machine.result_of("a").unwrap().0, CallEnd::Unknown);
    assert_eq!(machine.starts_of("a"), 3);
}

#[test]
fn steering_comes_before_a_call_that_is_still_looked_at() {
    let mut machine = Machine::calling([call("a", "auto_change")]);
    machine.queue(stakpak_protocol::MessageType::Steering, "stop").unwrap();
    assert_eq!(machine.result_of("a").unwrap().0, CallEnd::Skipped);
    machine.probe("a");
    assert_eq!((machine.starts_of("a"), machine.is_asking()), (0, true));
}

#[test]
fn a_recorded_answer_is_not_asked_for_again() {
    let mut machine = Machine::calling([call("a", "auto_look"), call("b", "ask_look")]);
    machine.end_call("a");
    machine.restart();
    assert_eq!(machine.asked(), 1);
    assert_eq!(machine.starts_of("a"), 1);
}

#[test]
fn the_request_is_repeated_and_the_first_one_no_longer_counts() {
    let mut machine = Machine::asking();
    machine.stream("Let me ");
    let first = machine.request();
    machine.restart();
    let [retry] = machine.last_events();
    assert!(matches!(retry, Event::RetryAttempt { attempt: 1, delay_ms: 0, discard_text: Some(true), .. }));
    assert_eq!(machine.feed(answered(first, [])), 0);
    machine.wait();
    assert_ne!(machine.request(), first);
    assert_eq!(machine.feed(answered(first, [])), 0);
    machine.say("done");
    assert_eq!(machine.session.row.message_count, 2);
    assert_eq!(machine.session.run_view().unwrap().turns, 1);
}

#[test]
fn a_crash_loop_asks_three_times() {
    let mut machine = Machine::asking();
    assert_eq!(machine.restart_and_wait(), Duration::ZERO);
    assert_eq!(machine.restart_and_wait(), BACKOFF);
    assert!(machine.is_asking());
    machine.restart();
    assert_eq!(machine.asked(), 3);
    assert_eq!(machine.terminal_events(), 1);
    let error = machine.last_error().unwrap();
    assert_eq!((error.code, error.retryable), (LastErrorCode::Interrupted, true));
    assert!(error.message.starts_with("interrupted"), "{}", error.message);
}

#[test]
fn restarts_are_counted_by_turn() {
    let mut machine = Machine::asking();
    for id in ["a", "b", "c"] {
        machine.restart_and_wait();
        machine.restart_and_wait();
        machine.answer([call(id, "auto_look")]);
        machine.end_call(id);
    }
    assert!(machine.is_asking());
}

#[test]
fn a_back_off_goes_on() {
    let mut machine = Machine::asking();
    machine.fail(ErrorClass::Overloaded, None);
    let owed = machine.session.owed();
    assert!(matches!(owed[..], [Owed::Wait { .. }]));
    machine.restart();
    assert_eq!(machine.session.owed(), owed);
    machine.wait();
    assert!(machine.is_asking());
}

#[test]
fn an_old_run_is_not_resumed() {
    for (age, resumed) in [(RESUME_MAX_AGE, true), (RESUME_MAX_AGE + SECOND, false)] {
        let mut machine = Machine::asking();
        machine.later(age);
        machine.restart();
        assert_eq!(machine.session.active().is_some(), resumed, "{age:?}");
        let code = machine.last_error().map(|error| error.code);
        assert_eq!(code, (!resumed).then_some(LastErrorCode::Interrupted));
    }
}

#[test]
fn an_old_run_says_what_became_of_its_calls() {
    let mut machine = Machine::calling([call("a", "auto_act"), call("b", "auto_act")]);
    machine.later(RESUME_MAX_AGE + SECOND);
    machine.restart();
    assert_eq!(machine.result_of("a").unwrap().0, CallEnd::Unknown);
    assert_eq!(machine.result_of("b").unwrap().0, CallEnd::Cancelled);
    assert_eq!(machine.last_error().unwrap().code, LastErrorCode::Interrupted);
    assert_eq!(machine.session.row.message_count, 4);
}

#[test]
fn an_old_run_that_waits_for_a_person_goes_on() {
    let mut machine = Machine::calling([call("a", "ask_act")]);
    machine.later(RESUME_MAX_AGE + SECOND);
    machine.restart();
    assert_eq!(machine.waiting(), ["a"]);
    assert_eq!(machine.decide("a", accept()), DecisionOutcome::Applied);
    assert_eq!(machine.running(), ["a"]);
}

#[test]
fn commands_outlive_the_process() {
    let mut machine = Machine::calling([call("a", "auto_look")]);
    machine.follow_up("later");
    machine.steer("now");
    machine.restart();
    machine.end_call("a");
    assert_eq!(machine.user_messages(), ["go", "now"]);
    machine.say("done");
    assert_eq!(machine.user_messages(), ["go", "now", "later"]);
}

/// A read-only call that ends the process each time is not run for ever.
#[test]
fn a_pure_call_is_restarted_twice_at_most() {
    let mut machine = Machine::calling([call("a", "auto_look")]);
    for attempt in [2, 3] {
        machine.restart();
        assert_eq!(machine.attempt("a"), Some(attempt));
    }
    machine.restart();
    assert_eq!(machine.result_of("a").map(|(end, _)| end), Some(CallEnd::Unknown));
    assert!(machine.is_asking());
}

/// G11: a restart in the wait before a repeated request is not counted: nothing was asked.
#[test]
fn restarts_while_nothing_is_asked_are_not_counted() {
    let mut machine = Machine::asking();
    for _ in 0..5 {
        machine.restart();
    }
    machine.wait();
    assert_eq!(machine.asked(), 2);
    let repeated = machine.records().pop().unwrap();
    assert_eq!(repeated, Record::ModelRequested { turn: 1, attempt: 1, restarts: 1 });
    machine.fail(ErrorClass::Overloaded, None);
    machine.wait();
    let next = machine.records().pop().unwrap();
    assert_eq!(next, Record::ModelRequested { turn: 1, attempt: 2, restarts: 0 });
}
