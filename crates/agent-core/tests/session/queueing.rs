//! Slots and bounds: a run without a slot is accepted and does nothing; commands that nobody reads are bounded.

use stakpak_agent_core::{
    CallEnd, Record,
    session::{Input, Owed, Refusal},
};
use stakpak_protocol::{DecisionOutcome, Event, MessageType, RunStatus, StopReason};

use crate::machine::{APPROVAL_TIMEOUT, Machine, accept, call, reject};

fn queued() -> Machine {
    let mut machine = Machine::new();
    machine.slots_free = false;
    machine.post();
    machine
}

#[test]
fn a_queued_run_is_accepted_and_asks_nothing() {
    let mut machine = queued();
    assert_eq!(machine.events(), [Event::RunStarted { run_id: machine.run_id }]);
    assert_eq!((machine.asked(), machine.session.owed(), machine.is_queued()), (0, vec![], true));
    machine.follow_up("later");
    assert_eq!(machine.asked(), 0);
    assert!(machine.grant_slot());
    assert!(machine.is_asking());
    machine.say("done");
    assert_eq!(machine.user_messages(), ["go", "later"]);
}

#[test]
fn a_queued_run_can_be_cancelled() {
    let mut machine = queued();
    machine.cancel();
    assert_eq!(machine.session.row.run_status, RunStatus::Idle);
    let [end] = machine.last_events();
    assert!(matches!(end, Event::RunCompleted { stop_reason: StopReason::Cancelled, total_turns: 0, .. }), "{end:?}");
    assert!(!machine.is_queued());
}

/// A restart finds the run where it was; that it waited is no failed attempt.
#[test]
fn a_queued_run_queues_again_after_a_restart() {
    let mut machine = queued();
    for _ in 0..5 {
        machine.restart();
        assert!(machine.is_queued());
    }
    machine.grant_slot();
    assert_eq!(machine.records().pop().unwrap(), Record::ModelRequested { turn: 1, attempt: 1, restarts: 0 });
}

#[test]
fn a_run_that_waits_for_a_person_holds_no_slot_and_takes_one_before_its_next_call() {
    let mut machine = Machine::calling([call("a", "auto_act"), call("b", "ask_act"), call("c", "auto_act")]);
    assert!(machine.session.needs_slot(), "a call runs");
    machine.end_call("a");
    assert!(!machine.session.needs_slot(), "the third call waits for the second, and that for a person");
    machine.slots_free = false;
    assert_eq!(machine.decide("b", accept()), DecisionOutcome::Applied);
    assert_eq!((machine.starts_of("b"), machine.is_queued()), (0, true));
    machine.grant_slot();
    assert_eq!(machine.running(), ["b"]);
}

#[test]
fn a_run_without_a_slot_asks_only_when_it_gets_one() {
    let mut machine = Machine::calling([call("a", "ask_act")]);
    machine.slots_free = false;
    machine.decide("a", reject());
    assert_eq!(machine.asked(), 1);
    let [completed] = machine.last_events();
    assert!(matches!(completed, Event::TurnCompleted { turn: 1, .. }), "{completed:?}");
    machine.grant_slot();
    assert_eq!(machine.asked(), 2);
}

#[test]
fn a_deadline_passes_also_without_a_slot() {
    let mut machine = Machine::calling([call("a", "ask_act")]);
    machine.slots_free = false;
    assert!(matches!(machine.session.owed()[..], [Owed::Deadline { .. }]));
    machine.later(APPROVAL_TIMEOUT);
    machine.feed(Input::DeadlinePassed);
    assert_eq!(machine.result_of("a").unwrap().0, CallEnd::Rejected);
    assert!(machine.is_queued());
}

/// What an earlier process had under way is settled at once and goes on when there is a slot.
#[test]
fn recovered_runs_queue() {
    let mut machine = Machine::calling([call("a", "auto_look"), call("b", "auto_act")]);
    machine.slots_free = false;
    machine.restart();
    assert_eq!((machine.starts_of("a"), machine.is_queued()), (1, true));
    machine.restart();
    machine.grant_slot();
    assert_eq!((machine.starts_of("a"), machine.attempt("a")), (2, Some(2)));
    machine.end_call("a");

    let mut machine = Machine::calling([call("b", "auto_act")]);
    machine.slots_free = false;
    machine.restart();
    assert_eq!(machine.result_of("b").unwrap().0, CallEnd::Unknown);
    assert_eq!(machine.asked(), 1);

    let mut machine = Machine::asking();
    machine.slots_free = false;
    machine.restart();
    assert!(matches!(machine.session.owed()[..], [Owed::Wait { .. }]));
    assert!(machine.is_queued());
}

/// P18, in the machine: what nobody reads is bounded, and what was accepted is kept.
#[test]
fn commands_that_nobody_reads_are_refused_beyond_the_bound() {
    let mut machine = Machine::asking();
    machine.queued_commands = 2;
    machine.follow_up("one");
    machine.steer("two");
    for kind in [MessageType::Steering, MessageType::FollowUp] {
        assert_eq!(machine.queue(kind, "three"), Err(Refusal::QueueFull(2)));
    }
    machine.say("done");
    machine.follow_up("three");
    machine.say("done");
    machine.say("done");
    assert_eq!(machine.user_messages(), ["go", "two", "one", "three"]);
}
