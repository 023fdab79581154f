//! What a decision comes to: the vectors of the contract by their numbers, then decisions after the end.

use std::collections::BTreeMap;

use stakpak_agent_core::{
    CallEnd,
    session::{CallStatus, Input, Owed, Refusal, Request},
};
use stakpak_protocol::{
    DecidedBy,
    DecisionOutcome::{Applied, Denied, Duplicate, TooLate, Unknown},
    Event, StopReason, ToolDecisionAction,
};

use crate::machine::{APPROVAL_TIMEOUT, BACKOFF, Machine, accept, call, call_on, custom_result, decision, reject};

#[test]
fn d1_a_decision_counts_while_another_call_runs() {
    let mut machine = Machine::calling([call("a", "auto_act"), call("b", "ask_act")]);
    assert_eq!(machine.running(), ["a"]);
    assert_eq!(machine.decide("b", accept()), Applied);
    assert_eq!(machine.running(), ["a"]);
    machine.end_call("a");
    assert_eq!(machine.running(), ["b"]);
    machine.end_call("b");
    machine.say("done");
    assert_eq!(machine.session.run_view().unwrap().stop_reason, Some(StopReason::Completed));
}

#[test]
fn d2_accepting_what_policy_approved_changes_nothing() {
    let mut machine = Machine::calling([call("first", "auto_act"), call("a", "auto_act")]);
    assert_eq!(machine.decide("a", accept()), Duplicate);
    machine.end_call("first");
    assert_eq!(machine.running(), ["a"]);
    assert_eq!(machine.decide("a", accept()), Duplicate);
    machine.end_call("a");
    assert_eq!(machine.decide("a", accept()), Duplicate);
    assert_eq!(machine.starts_of("a"), 1);
}

#[test]
fn d3_what_policy_approved_can_be_refused_before_it_starts() {
    for refusal in [reject(), custom_result("no need")] {
        let mut machine = Machine::calling([call("first", "auto_act"), call("a", "auto_act")]);
        assert_eq!(machine.decide("a", refusal), Applied);
        machine.end_call("first");
        assert!(machine.is_asking());
        assert_eq!(machine.starts_of("a"), 0);
    }
}

#[test]
fn d4_a_running_call_cannot_be_refused() {
    let mut machine = Machine::calling([call("a", "auto_act")]);
    assert_eq!(machine.decide("a", reject()), TooLate);
    assert_eq!(machine.decide("a", custom_result("42")), TooLate);
    machine.end_call("a");
    assert_eq!(machine.decide("a", reject()), TooLate);
    assert_eq!(machine.result_of("a"), Some((CallEnd::Done, "a is done".into())));
}

#[test]
fn d5_the_first_decision_stands() {
    let mut machine = Machine::calling([call("a", "auto_act"), call("b", "ask_act")]);
    assert_eq!(machine.decide("b", accept()), Applied);
    assert_eq!(machine.decide("b", accept()), Duplicate);
    assert_eq!(machine.decide("b", reject()), TooLate);
    machine.end_call("a");
    assert_eq!(machine.running(), ["b"]);
}

#[test]
fn d6_nobody_can_accept_what_policy_refuses() {
    let mut machine = Machine::calling([call("a", "deny_look"), call("b", "ask_look")]);
    assert_eq!(machine.decide("a", accept()), Denied);
    assert_eq!(machine.decide("a", custom_result("42")), Denied);
    assert_eq!(machine.decide("a", reject()), Duplicate);
    let (end, text) = machine.result_of("a").unwrap();
    assert_eq!(end, CallEnd::Rejected);
    assert!(text.contains("deny_look"), "{text}");
    assert_eq!(machine.starts_of("a"), 0);
    assert_eq!(machine.waiting(), ["b"]);
}

#[test]
fn d7_an_unknown_call_does_not_spoil_the_batch() {
    let mut machine = Machine::calling([call("a", "ask_look")]);
    let response = machine.try_decide("ann", [("a", accept()), ("x", accept())]).unwrap();
    assert_eq!(response.results, BTreeMap::from([("a".into(), Applied), ("x".into(), Unknown)]));
    assert_eq!(machine.running(), ["a"]);
}

#[test]
fn d8_a_persons_result_stands_and_nothing_runs() {
    let mut machine = Machine::calling([call("b", "ask_act")]);
    assert_eq!(machine.decide("b", custom_result("42")), Applied);
    assert_eq!(machine.result_of("b"), Some((CallEnd::Answered, "42".into())));
    assert_eq!(machine.starts_of("b"), 0);
    assert!(machine.is_asking());
    let completed = machine.events().into_iter().find(|event| event.name() == "tool_execution_completed");
    assert!(matches!(completed, Some(Event::ToolExecutionCompleted { is_error: false, .. })), "{completed:?}");
}

#[test]
fn d9_no_decision_in_time_means_no() {
    let mut machine = Machine::calling([call("b", "ask_act")]);
    let deadline = machine.now + APPROVAL_TIMEOUT;
    assert_eq!(machine.session.owed(), [Owed::Deadline { at: deadline }]);
    machine.later(APPROVAL_TIMEOUT - BACKOFF);
    assert_eq!(machine.feed(Input::DeadlinePassed), 0, "it has not passed");
    assert_eq!(machine.session.owed(), [Owed::Deadline { at: deadline }]);

    machine.later(BACKOFF);
    machine.feed(Input::DeadlinePassed);
    let (end, text) = machine.result_of("b").unwrap();
    assert_eq!(end, CallEnd::Rejected);
    assert!(text.contains("no decision in time"), "{text}");
    assert!(machine.is_asking());
}

#[test]
fn d12_steering_skips_what_waits() {
    let mut machine = Machine::calling([call("a", "auto_act"), call("b", "ask_act")]);
    machine.steer("look elsewhere");
    assert_eq!(machine.result_of("b").unwrap().0, CallEnd::Skipped);
    assert!(machine.result_of("b").unwrap().1.contains("skipped"));
    assert_eq!(machine.decide("b", accept()), TooLate);
    assert_eq!(machine.running(), ["a"], "what runs is left alone");
    machine.end_call("a");
    assert_eq!(machine.user_messages(), ["go", "look elsewhere"]);
    assert!(machine.is_asking());
    assert_eq!(machine.starts_of("b"), 0);
}

#[test]
fn d13_cancelling_ends_what_waits() {
    let mut machine = Machine::calling([call("b", "ask_act")]);
    machine.cancel();
    assert_eq!(machine.result_of("b"), Some((CallEnd::Cancelled, "TOOL_CALL_CANCELLED".into())));
    assert_eq!(machine.terminal_events(), 1);
    assert_eq!(machine.session.owed(), []);
}

#[test]
fn d14_an_undecided_call_does_not_hold_back_pure_ones() {
    let mut machine = Machine::calling([call("p", "auto_look"), call("b", "ask_act"), call("q", "auto_look")]);
    assert_eq!(machine.running(), ["p", "q"]);
    machine.end_call("p");
    machine.end_call("q");
    assert_eq!(machine.waiting(), ["b"]);
    assert_eq!(machine.decide("b", accept()), Applied);
    assert_eq!(machine.running(), ["b"]);
}

#[test]
fn d15_a_look_at_a_file_waits_for_the_call_that_changes_it() {
    for (decision, first) in [(accept(), Some("create")), (reject(), None)] {
        let mut machine = Machine::calling([
            call_on("f", "create", "ask_act"),
            call_on("f", "view", "auto_look"),
            call_on("g", "other", "auto_look"),
        ]);
        assert_eq!(machine.running(), ["other"]);
        machine.end_call("other");
        assert_eq!(machine.decide("create", decision), Applied);
        if let Some(first) = first {
            assert_eq!(machine.running(), [first]);
            machine.end_call(first);
        }
        assert_eq!(machine.running(), ["view"]);
    }
}

#[test]
fn d17_of_two_people_the_first_decides() {
    let mut machine = Machine::calling([call("b", "ask_act")]);
    let at = machine.now;
    let first = machine.try_decide("ann", [("b", accept())]).unwrap();
    assert_eq!((first.results, first.decided), (BTreeMap::from([("b".into(), Applied)]), BTreeMap::new()));
    machine.later(BACKOFF);
    let second = machine.try_decide("bob", [("b", accept())]).unwrap();
    assert_eq!(second.results, BTreeMap::from([("b".into(), Duplicate)]));
    let ann = DecidedBy { action: ToolDecisionAction::Accept, by: "ann".into(), at };
    assert_eq!(second.decided, BTreeMap::from([("b".into(), ann)]));
    machine.end_call("b");
    assert_eq!(machine.starts_of("b"), 1);
}

#[test]
fn d18_calls_with_effects_run_in_declared_order() {
    let ids: Vec<String> = (1..=20).map(|n| format!("c{n}")).collect();
    let mut machine = Machine::calling(ids.iter().map(|id| call(id, "ask_act")));
    for id in ids.iter().rev() {
        assert_eq!(machine.running(), [""; 0], "the first is undecided");
        assert_eq!(machine.decide(id, accept()), Applied);
    }
    for id in &ids {
        assert_eq!(machine.running(), [id.as_str()]);
        machine.end_call(id);
    }
    assert!(machine.is_asking());
}

#[test]
fn a_reject_tells_the_model_why() {
    for (content, text) in [
        (None, "Tool call rejected by user"),
        (Some("  "), "Tool call rejected by user"),
        (Some("not on prod"), "Tool call rejected by user: not on prod"),
    ] {
        let mut machine = Machine::calling([call("b", "ask_act")]);
        machine.decide("b", decision(ToolDecisionAction::Reject, content));
        assert_eq!(machine.result_of("b"), Some((CallEnd::Rejected, text.into())));
        let rejected = machine.events().into_iter().find_map(|event| match event {
            Event::ToolRejected { reason, .. } => Some(reason),
            _ => None,
        });
        assert_eq!(rejected.as_deref(), Some(text));
    }
}

/// Ended: `a` by itself, `b` as accepted, `c` refused by policy, `d` and `e` cancelled.
fn ended() -> Machine {
    let calls = [("a", "auto_look"), ("b", "ask_act"), ("c", "deny_act"), ("d", "ask_act"), ("e", "auto_act")];
    let mut machine = Machine::calling(calls.map(|(id, name)| call(id, name)));
    machine.end_call("a");
    machine.decide("b", accept());
    machine.end_call("b");
    assert_eq!(machine.status("d"), CallStatus::Waiting);
    assert_eq!(machine.status("e"), CallStatus::Approved);
    machine.cancel();
    machine
}

#[test]
fn an_ended_run_answers_for_calls_that_were_decided() {
    for (id, decision, outcome) in [
        ("a", accept(), Duplicate),
        ("a", reject(), TooLate),
        ("b", accept(), Duplicate),
        ("b", reject(), TooLate),
        ("b", custom_result("42"), TooLate),
        ("c", accept(), Denied),
        ("c", reject(), Duplicate),
    ] {
        let mut machine = ended();
        let rows = machine.rows.len();
        assert_eq!(machine.decide(id, decision.clone()), outcome, "{id} {decision:?}");
        assert_eq!(machine.rows.len(), rows, "nothing is recorded");
    }
}

#[test]
fn an_ended_run_refuses_decisions_about_other_calls() {
    for batch in [vec!["d"], vec!["e"], vec!["x"], vec!["b", "d"], vec!["b", "x"]] {
        let decisions = batch.iter().map(|id| (*id, accept()));
        assert_eq!(ended().try_decide("ann", decisions), Err(Refusal::NotRunning), "{batch:?}");
    }
}

#[test]
fn the_last_run_does_not_answer_for_one_before() {
    let mut machine = ended();
    let old = machine.run_id;
    let about_old =
        || Request::Decide { run_id: old, decisions: BTreeMap::from([("b".into(), accept())]), by: "ann".into() };
    machine.post();
    assert_eq!(machine.handle(about_old()), Err(Refusal::RunMismatch));
    machine.say("done");
    assert_eq!(machine.handle(about_old()), Err(Refusal::NotRunning));
}

/// The deadline decides, also when its timer comes late: after sleep, or after a restart.
#[test]
fn an_accept_after_the_deadline_is_too_late() {
    for restarted in [false, true] {
        let mut machine = Machine::calling([call("b", "ask_act")]);
        machine.later(APPROVAL_TIMEOUT);
        if restarted {
            machine.restart();
        }
        assert_ne!(machine.decide("b", accept()), Applied);
        assert_eq!(machine.starts_of("b"), 0);
    }
}
