//! Every way out of a run: one terminal event, nothing owed, late reports dropped.

use stakpak_agent_core::{
    CallEnd, ErrorClass,
    session::{Input, Left},
};
use stakpak_protocol::{Event, FinishReason, LastErrorCode, MessageType, RunStatus, StopReason};

use crate::machine::{Machine, answered, call};

/// A run in each step, with the calls that have no result.
fn every_step() -> Vec<(&'static str, Machine, Vec<&'static str>)> {
    let mut streaming = Machine::asking();
    streaming.stream("Let me ");
    let mut backing_off = Machine::asking();
    backing_off.fail(ErrorClass::Overloaded, None);
    let mut one_ended = Machine::calling([call("a", "auto_act"), call("b", "auto_act"), call("c", "ask_act")]);
    one_ended.end_call("a");
    let mut second_turn = Machine::calling([call("a", "auto_look")]);
    second_turn.end_call("a");
    vec![
        ("asking", Machine::asking(), vec![]),
        ("streaming", streaming, vec![]),
        ("backing off", backing_off, vec![]),
        ("a call waits", Machine::calling([call("b", "ask_act")]), vec!["b"]),
        ("a call runs", Machine::calling([call("b", "auto_act")]), vec!["b"]),
        ("some of each", one_ended, vec!["b", "c"]),
        ("second turn", second_turn, vec![]),
    ]
}

fn assert_closed(machine: &mut Machine, step: &str, open: &[&str], running: CallEnd) {
    for id in open {
        let (end, text) = machine.result_of(id).unwrap();
        // In these steps `b` is the call that was started.
        let started = *id == "b" && step != "a call waits";
        assert_eq!(end, if started { running } else { CallEnd::Cancelled }, "{step}");
        let expected = if end == CallEnd::Unknown { "OUTCOME_UNKNOWN" } else { "TOOL_CALL_CANCELLED" };
        assert!(text.starts_with(expected), "{step}: {text}");
        assert_eq!(machine.report(id, 1, "late"), 0, "{step}");
    }
    assert_eq!(machine.terminal_events(), 1, "{step}");
    assert_eq!(machine.session.owed(), [], "{step}");
    let requests = machine.session.run.as_ref().unwrap().request;
    assert_eq!(machine.feed(answered(requests, [])), 0, "{step}");
    assert_eq!(machine.feed(Input::Waited { request: requests }), 0, "{step}");
    machine.restart();
    assert_eq!(machine.terminal_events(), 1, "{step}");
}

#[test]
fn cancelling_in_every_step() {
    for (step, mut machine, open) in every_step() {
        machine.cancel();
        let run = machine.session.run_view().unwrap();
        assert_eq!((run.stop_reason, run.ended_at), (Some(StopReason::Cancelled), Some(machine.now)), "{step}");
        assert_eq!(
            machine.last_events(),
            [
                Event::TurnCompleted {
                    run_id: machine.run_id,
                    turn: run.turns,
                    finish_reason: FinishReason::Cancelled,
                    truncated: None,
                },
                Event::RunCompleted {
                    run_id: machine.run_id,
                    total_turns: run.turns,
                    total_usage: run.total_usage,
                    stop_reason: StopReason::Cancelled,
                    detail: None,
                    unconsumed: vec![],
                },
            ],
            "{step}"
        );
        assert_eq!(machine.session.row.run_status, RunStatus::Idle, "{step}");
        assert_closed(&mut machine, step, &open, CallEnd::Cancelled);
    }
}

#[test]
fn failing_in_every_step() {
    for (step, mut machine, open) in every_step() {
        let (code, message) = (LastErrorCode::StorageUnavailable, "disk full".to_owned());
        machine.feed(Input::Fail { code, message: message.clone(), left: Left::default() });
        let run_id = machine.run_id;
        let turn = machine.session.run_view().unwrap().turns;
        assert_eq!(
            machine.last_events(),
            [
                Event::TurnCompleted { run_id, turn, finish_reason: FinishReason::Error, truncated: None },
                Event::RunError { run_id, error: message, retryable: true, unconsumed: vec![] },
            ],
            "{step}"
        );
        let last_error = machine.last_error();
        assert_eq!(last_error.as_ref().map(|error| error.code), Some(code), "{step}");
        assert_eq!(machine.session.row.run_status, RunStatus::Failed { last_error }, "{step}");
        assert_closed(&mut machine, step, &open, CallEnd::Unknown);
    }
}

#[test]
fn the_events_of_a_run_in_order() {
    let mut machine = Machine::asking();
    machine.stream("Let me look.");
    machine.answer([stakpak_protocol::MessagePart::text("Let me look."), call("a", "auto_look")]);
    machine.end_call("a");
    machine.say("");
    let events = machine.events();
    let names: Vec<&str> = events.iter().map(Event::name).collect();
    assert_eq!(
        names,
        [
            "run_started",
            "turn_started",
            "text_delta",
            "text_complete",
            "usage_report",
            "tool_calls_proposed",
            "tool_execution_started",
            "tool_execution_completed",
            "turn_completed",
            "turn_started",
            "usage_report",
            "turn_completed",
            "run_completed",
        ]
    );
}

#[test]
fn the_run_ends_at_its_last_turn() {
    let mut machine = Machine::new();
    machine.max_turns = 2;
    machine.post();
    for id in ["a", "b"] {
        machine.answer([call(id, "auto_look")]);
        machine.end_call(id);
    }
    let run = machine.session.run_view().unwrap();
    assert_eq!((run.stop_reason, run.turns), (Some(StopReason::MaxTurns), 2));
    assert_eq!(machine.session.row.run_status, RunStatus::Idle);
}

/// Reports may still be on their way when the next run begins.
#[test]
fn a_late_report_of_an_ended_run_is_not_taken_for_the_next_runs() {
    let mut machine = Machine::asking();
    let late = machine.request();
    machine.cancel();
    machine.post();
    assert_eq!(machine.feed(answered(late, [call("a", "auto_act")])), 0);
    assert_eq!(machine.running(), [""; 0]);
}

#[test]
fn a_command_after_the_end_is_refused_not_lost() {
    let mut machine = Machine::asking();
    machine.say("done");
    assert!(machine.queue(MessageType::FollowUp, "too late").is_err());
}
