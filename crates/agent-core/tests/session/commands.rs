//! Messages to a run: who is refused, what becomes of an accepted command.

use stakpak_agent_core::session::{Refusal, Request};
use stakpak_protocol::{Event, Message, MessageType, RunId, StopReason, UnconsumedCommand};
use uuid::Uuid;

use crate::machine::{Machine, call};

fn other() -> RunId {
    RunId(Uuid::max())
}

fn unconsumed(machine: &Machine) -> Vec<(String, String)> {
    match machine.events().pop() {
        Some(Event::RunCompleted { unconsumed, .. } | Event::RunError { unconsumed, .. }) => {
            unconsumed.into_iter().map(|UnconsumedCommand { kind, text }| (kind, text)).collect()
        }
        other => panic!("not terminal: {other:?}"),
    }
}

fn pair(kind: &str, text: &str) -> (String, String) {
    (kind.to_owned(), text.to_owned())
}

#[test]
fn one_run_at_a_time() {
    let mut machine = Machine::asking();
    let active = machine.run_id;
    assert_eq!(machine.try_post(None), Err(Refusal::AlreadyRunning(active)));
    assert_eq!(machine.try_post(Some(active)), Err(Refusal::AlreadyRunning(active)));
    assert_eq!(machine.try_post(Some(other())), Err(Refusal::RunMismatch));
    machine.say("done");
    machine.try_post(Some(active)).unwrap();
}

#[test]
fn commands_are_for_the_active_run() {
    for kind in [MessageType::Steering, MessageType::FollowUp] {
        let queue = |run_id| Request::Queue { run_id, kind, message: Message::user("and then") };
        let mut machine = Machine::asking();
        let active = machine.run_id;
        assert_eq!(machine.handle(queue(None)), Err(Refusal::RunMismatch));
        assert_eq!(machine.handle(queue(Some(other()))), Err(Refusal::RunMismatch));
        machine.say("done");
        assert_eq!(machine.handle(queue(None)), Err(Refusal::RunMismatch));
        assert_eq!(machine.handle(queue(Some(active))), Err(Refusal::NotRunning));
    }
}

#[test]
fn cancelling_is_for_the_active_run() {
    let mut machine = Machine::asking();
    let active = machine.run_id;
    assert_eq!(machine.handle(Request::Cancel { run_id: other() }), Err(Refusal::RunMismatch));
    machine.cancel();
    assert_eq!(machine.handle(Request::Cancel { run_id: active }), Err(Refusal::NotRunning));
}

#[test]
fn steering_is_used_before_the_next_request_all_of_it_in_order() {
    let mut machine = Machine::asking();
    machine.steer("one");
    machine.steer("two");
    assert_eq!(machine.user_messages(), ["go"], "a request is not interrupted");
    machine.answer([call("a", "auto_act"), call("b", "ask_act")]);
    assert_eq!(machine.starts_of("a"), 0, "it came before the calls");
    assert_eq!(machine.user_messages(), ["go", "one", "two"]);
    assert!(machine.is_asking());
}

#[test]
fn steering_after_the_last_answer_keeps_the_run_going() {
    let mut machine = Machine::asking();
    machine.follow_up("later");
    machine.steer("first");
    machine.say("done");
    assert_eq!(machine.user_messages(), ["go", "first"]);
    machine.say("done");
    assert_eq!(machine.user_messages(), ["go", "first", "later"]);
    machine.say("done");
    assert_eq!(unconsumed(&machine), []);
}

#[test]
fn follow_ups_are_used_one_at_a_time() {
    let mut machine = Machine::asking();
    machine.follow_up("one");
    machine.follow_up("two");
    machine.answer([call("a", "auto_look")]);
    machine.end_call("a");
    assert_eq!(machine.user_messages(), ["go"], "the turn ended with calls");
    machine.say("done");
    assert_eq!(machine.user_messages(), ["go", "one"]);
    machine.restart_and_wait();
    machine.say("done");
    assert_eq!(machine.user_messages(), ["go", "one", "two"]);
    machine.say("done");
    assert_eq!(machine.session.run_view().unwrap().turns, 4);
}

#[test]
fn unused_commands_are_listed_at_the_end() {
    let mut machine = Machine::asking();
    machine.follow_up("later");
    machine.steer("now");
    machine.cancel();
    assert_eq!(unconsumed(&machine), [pair("follow_up", "later"), pair("steering", "now")]);
    machine.post();
    machine.say("done");
    assert_eq!(unconsumed(&machine), [], "they are gone with their run");
}

#[test]
fn the_last_turn_leaves_follow_ups_unused() {
    let mut machine = Machine::new();
    machine.max_turns = 1;
    machine.post();
    machine.follow_up("later");
    machine.answer([call("a", "auto_look")]);
    machine.end_call("a");
    assert_eq!(machine.session.run_view().unwrap().stop_reason, Some(StopReason::MaxTurns));
    assert_eq!(unconsumed(&machine), [pair("follow_up", "later")]);
}

/// A command that no turn would answer is not swallowed by the history.
#[test]
fn commands_accepted_in_the_last_turn_are_listed_as_unused() {
    let mut machine = Machine::new();
    machine.max_turns = 1;
    machine.post();
    machine.follow_up("later");
    machine.steer("now");
    machine.say("done");
    assert_eq!(machine.session.run_view().unwrap().stop_reason, Some(StopReason::Completed));
    assert_eq!(unconsumed(&machine), [pair("follow_up", "later"), pair("steering", "now")]);
    assert_eq!(machine.user_messages().len(), 1);
}
