//! Calls that are questions to a person: what policy says of them, who answers, and what becomes of them when nobody does.

use stakpak_agent_core::{CallEnd, session::Input};
use stakpak_protocol::{DecisionOutcome::Applied, MessagePart};

use crate::machine::{APPROVAL_TIMEOUT, Machine, accept, call, custom_result};

fn asked(interactive: bool, calls: impl IntoIterator<Item = MessagePart>) -> Machine {
    let mut machine = Machine::new();
    machine.interactive = interactive;
    machine.post();
    machine.answer(calls);
    machine
}

#[test]
fn a_question_waits_whatever_policy_approves_and_its_answer_is_the_result() {
    let mut machine = asked(true, [call("a", "auto_question"), call("b", "auto_act")]);
    assert_eq!(machine.waiting(), ["a"]);
    machine.restart();
    assert_eq!(machine.waiting(), ["a"]);
    assert_eq!(machine.decide("a", custom_result("{\"completed\":true}")), Applied);
    assert_eq!(machine.result_of("a"), Some((CallEnd::Answered, "{\"completed\":true}".into())));
    assert_eq!(machine.starts_of("a"), 0);
}

#[test]
fn where_nobody_can_answer_it_does_not_wait() {
    for name in ["auto_question", "ask_question"] {
        let machine = asked(false, [call("a", name)]);
        let (end, text) = machine.result_of("a").unwrap();
        assert!(end == CallEnd::Invalid && text.starts_with("INTERACTIVE_REQUIRED\n"), "{name}: {text}");
        assert!(machine.waiting().is_empty() && machine.is_asking() && machine.starts_of("a") == 0, "{name}");
    }
}

#[test]
fn a_denial_is_one() {
    let machine = asked(true, [call("a", "deny_question")]);
    assert_eq!(machine.result_of("a").unwrap().0, CallEnd::Rejected);
}

#[test]
fn no_answer_in_time_is_an_answer_that_is_none() {
    let mut machine = asked(true, [call("a", "auto_question")]);
    machine.later(APPROVAL_TIMEOUT);
    machine.feed(Input::DeadlinePassed);
    assert_eq!(machine.result_of("a"), Some((CallEnd::Answered, "nobody answered".into())));
    assert!(machine.is_asking());
}

#[test]
fn who_only_approves_it_lets_the_tool_say_so() {
    let mut machine = asked(true, [call("a", "auto_question")]);
    assert_eq!(machine.decide("a", accept()), Applied);
    assert_eq!(machine.running(), ["a"]);
}
