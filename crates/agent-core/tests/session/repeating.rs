//! C-P13: a run whose turns are all the same is told so, then ended.

use proptest::prelude::*;
use serde_json::json;
use stakpak_agent_core::NoProgress;
use stakpak_protocol::{Event, MessagePart, RunState, StopDetail, StopReason};

use crate::machine::{Machine, accept, call, call_with, decision};

/// A turn with these calls, each with its result.
fn turn(machine: &mut Machine, number: usize, calls: &[(&str, &str)]) {
    let ids: Vec<String> = (0..calls.len()).map(|call| format!("{number}_{call}")).collect();
    machine.answer(ids.iter().zip(calls).map(|(id, (tool, _))| call(id, tool)));
    for (id, (_, result)) in ids.iter().zip(calls) {
        let attempt = machine.attempt(id).unwrap();
        machine.report(id, attempt, result);
    }
}

fn looks(machine: &mut Machine, results: impl IntoIterator<Item = &'static str>) {
    for (number, result) in results.into_iter().enumerate() {
        turn(machine, number, &[("auto_look", result)]);
    }
}

fn end(machine: &Machine) -> (StopReason, Option<StopDetail>, u64) {
    let [Event::RunCompleted { stop_reason, detail, total_turns, .. }] = machine.last_events() else {
        panic!("no end")
    };
    (stop_reason, detail, total_turns)
}

#[test]
fn a_run_that_repeats_itself_is_ended() {
    let mut machine = Machine::asking();
    looks(&mut machine, ["full"; 5]);
    assert!(machine.is_asking());
    turn(&mut machine, 5, &[("auto_look", "full")]);
    assert_eq!(end(&machine), (StopReason::MaxTurns, Some(StopDetail::NoProgress), 6));
    assert_eq!(machine.terminal_events(), 1);
    let run = machine.session.run_view().unwrap();
    assert_eq!((run.state, run.stop_reason), (RunState::Completed, Some(StopReason::MaxTurns)));
    assert_eq!(run.detail, Some(StopDetail::NoProgress));
    assert_eq!(machine.folded(), machine.session);
    machine.post();
    assert!(machine.is_asking(), "the session goes on");
    assert_eq!(machine.session.run_view().unwrap().detail, None);
}

/// A turn whose calls all come to the same, if they run.
fn full(machine: &mut Machine, calls: &[MessagePart]) {
    machine.answer(calls.to_vec());
    for id in machine.running() {
        machine.report(&id, 1, "full");
    }
}

type Change = fn(&mut Machine);

/// Whatever changes is progress: the result, the tool, the arguments, another call beside it.
#[test]
fn whatever_changes_begins_anew() {
    let changes: [(&str, Change); 5] = [
        ("result", |machine| turn(machine, 90, &[("auto_look", "half full")])),
        ("error", |machine| full(machine, &[call("90", "broken")])),
        ("arguments", |machine| full(machine, &[call_with("90", "auto_look", json!({"of": "disk"}))])),
        ("another call", |machine| turn(machine, 90, &[("auto_look", "full"), ("auto_look", "half full")])),
        ("no call", |machine| {
            machine.follow_up("go on");
            machine.say("what else?");
        }),
    ];
    for (what, change) in changes {
        let mut machine = Machine::asking();
        looks(&mut machine, ["full"; 5]);
        change(&mut machine);
        assert!(machine.is_asking(), "{what}");
        for number in 10..15 {
            turn(&mut machine, number, &[("auto_look", "full")]);
            assert!(machine.is_asking(), "{what} {number}");
        }
        turn(&mut machine, 15, &[("auto_look", "full")]);
        assert_eq!(end(&machine).1, Some(StopDetail::NoProgress), "{what}");
    }
}

/// The order of keys in the arguments is the model's mood, and a tool has one name.
#[test]
fn the_same_call_in_other_words_is_the_same() {
    let mut machine = Machine::asking();
    let spellings = [r#"{"a":1,"b":{"c":2,"d":3}}"#, r#"{"b":{"d":3,"c":2},"a":1}"#];
    for number in 0..6 {
        let arguments = serde_json::from_str(spellings[number % 2]).unwrap();
        let (id, tool) = (number.to_string(), ["auto_look", "search"][number / 2 % 2]);
        machine.answer([MessagePart::text(format!("attempt {number}")), call_with(&id, tool, arguments)]);
        machine.report(&id, 1, "full");
    }
    assert_eq!(end(&machine).1, Some(StopDetail::NoProgress));
}

/// Calls of one turn are one, however they end; one that differs is enough.
#[test]
fn a_turn_of_several_calls_counts_once() {
    let mut machine = Machine::asking();
    for number in 0..5 {
        turn(&mut machine, number, &[("auto_look", "full"), ("auto_look", "full"), ("auto_look", "full")]);
    }
    assert!(machine.is_asking());
    for number in 5..10 {
        turn(&mut machine, number, &[("auto_look", "full"), ("auto_look", "empty")]);
    }
    assert!(machine.is_asking());
    turn(&mut machine, 10, &[("auto_look", "full"), ("auto_look", "empty")]);
    assert_eq!(end(&machine), (StopReason::MaxTurns, Some(StopDetail::NoProgress), 11));
}

/// Results of people and of policy count by what they say.
#[test]
fn refusals_are_results() {
    let rejected = |machine: &mut Machine, id: &str, why: &str| {
        machine.answer([call(id, "ask_act")]);
        machine.decide(id, decision(stakpak_protocol::ToolDecisionAction::Reject, Some(why)));
    };
    let mut machine = Machine::asking();
    for id in ["a", "b", "c", "d", "e"] {
        rejected(&mut machine, id, "no");
    }
    rejected(&mut machine, "f", "not on Fridays");
    assert!(machine.is_asking());
    for id in ["g", "h", "i", "j", "k"] {
        rejected(&mut machine, id, "not on Fridays");
    }
    assert_eq!(end(&machine).1, Some(StopDetail::NoProgress));
    for tool in ["deny_act", "broken"] {
        let mut machine = Machine::asking();
        for id in ["a", "b", "c", "d", "e", "f"] {
            machine.answer([call(id, tool)]);
        }
        assert_eq!(end(&machine).1, Some(StopDetail::NoProgress), "{tool}");
    }
    let mut machine = Machine::asking();
    for id in ["a", "b", "c", "d", "e", "f"] {
        machine.answer([call(id, "ask_act")]);
        machine.decide(id, accept());
        machine.report(id, 1, "done");
    }
    assert_eq!(end(&machine).1, Some(StopDetail::NoProgress), "accepted again and again");
}

/// A message of the user changes what the same call means, also one that waits when the run would be ended.
#[test]
fn a_message_of_the_user_begins_anew() {
    let mut machine = Machine::asking();
    looks(&mut machine, ["full"; 5]);
    machine.answer([call("last", "auto_look")]);
    machine.steer("once more, please");
    machine.report("last", 1, "full");
    assert!(machine.is_asking());
    looks(&mut machine, ["full"; 5]);
    assert!(machine.is_asking());
    machine.follow_up("and then?");
    turn(&mut machine, 5, &[("auto_look", "full")]);
    let [Event::RunCompleted { detail, unconsumed, .. }] = machine.last_events() else { panic!("no end") };
    assert_eq!((detail, unconsumed.len()), (Some(StopDetail::NoProgress), 1), "a follow-up waits for an answer");
}

#[test]
fn the_profile_says_how_often() {
    let mut machine = Machine::new();
    machine.no_progress = NoProgress { warn: 2, stop: 2 };
    machine.post();
    looks(&mut machine, ["full", "full"]);
    assert_eq!(end(&machine), (StopReason::MaxTurns, Some(StopDetail::NoProgress), 2));
}

proptest! {
    /// Whenever the process dies, and from whichever snapshot it goes on, the same turn is the last.
    #[test]
    fn a_restart_goes_on_counting(kills in prop::collection::vec(0..4u8, 6), snapshots in prop::collection::vec(any::<bool>(), 6)) {
        let mut machine = Machine::asking();
        for (number, (kill, from_snapshot)) in kills.into_iter().zip(snapshots).enumerate() {
            prop_assert!(machine.is_asking());
            if from_snapshot {
                let snapshot = machine.session.snapshot().unwrap();
                prop_assert_eq!(machine.restored(&snapshot), Some(machine.folded()));
            }
            if kill == 1 {
                machine.restart_and_wait();
            }
            let ids = [format!("{number}_a"), format!("{number}_b")];
            machine.answer(ids.each_ref().map(|id| call(id, "auto_look")));
            for (id, at) in ids.iter().zip([2, 3]) {
                if kill == at {
                    machine.restart();
                }
                let attempt = machine.attempt(id).unwrap();
                machine.report(id, attempt, "full");
            }
        }
        prop_assert_eq!(end(&machine), (StopReason::MaxTurns, Some(StopDetail::NoProgress), 6));
    }
}
