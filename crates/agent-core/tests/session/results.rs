//! Results in the history: in declared order, without holes, and side by side where that is safe.

use stakpak_agent_core::{CallEnd, Record, session::Input};
use stakpak_protocol::{Event, FinishReason, MessagePart};

use crate::machine::{Machine, accept, answered, call};

#[test]
fn a_result_counts_once_all_before_it_are_there() {
    let mut machine = Machine::calling([call("a", "auto_look"), call("b", "auto_look"), call("c", "auto_look")]);
    assert_eq!(machine.session.row.message_count, 2);
    for (id, index, count) in [("c", 4, 2), ("a", 2, 3), ("b", 3, 5)] {
        machine.end_call(id);
        assert_eq!(machine.rows.iter().filter_map(|row| row.message_index).max(), Some(4));
        assert_eq!(machine.rows.iter().rev().find_map(|row| row.message_index), Some(index), "{id}");
        assert_eq!(machine.session.row.message_count, count, "after {id}");
    }
}

#[test]
fn refused_and_broken_calls_have_their_place_too() {
    let mut machine = Machine::calling([call("a", "ask_look"), call("b", "deny_act"), call("c", "broken")]);
    assert_eq!(machine.session.row.message_count, 2, "a is undecided");
    assert_eq!(machine.result_of("c"), Some((CallEnd::Invalid, "UNKNOWN_TOOL\nthere is no tool `broken`".into())));
    machine.decide("a", accept());
    machine.end_call("a");
    assert_eq!(machine.session.row.message_count, 5);
    assert!(machine.is_asking());
}

#[test]
fn eight_pure_calls_run_side_by_side() {
    let ids: Vec<String> = (1..=10).map(|n| format!("c{n}")).collect();
    let mut machine = Machine::calling(ids.iter().map(|id| call(id, "auto_look")));
    assert_eq!(machine.running(), ids[..8]);
    machine.end_call("c3");
    assert_eq!(machine.running().len(), 8);
    assert!(machine.running().contains(&"c9".to_owned()));
}

#[test]
fn a_call_with_effects_waits_for_all_before_it() {
    let mut machine = Machine::calling([call("a", "auto_look"), call("b", "auto_act"), call("c", "auto_look")]);
    assert_eq!(machine.running(), ["a"]);
    machine.end_call("a");
    assert_eq!(machine.running(), ["b"]);
    machine.end_call("b");
    assert_eq!(machine.running(), ["c"]);
}

#[test]
fn reports_that_nobody_waits_for_are_dropped() {
    let mut machine = Machine::calling([call("a", "auto_look"), call("b", "ask_look")]);
    assert_eq!(machine.report("a", 2, "of another start"), 0);
    assert_eq!(machine.report("b", 1, "of a call that waits"), 0);
    assert_eq!(machine.report("x", 1, "of nothing"), 0);
    machine.end_call("a");
    assert_eq!(machine.report("a", 1, "again"), 0);
    assert_eq!(machine.feed(answered(1, [])), 0, "the model is not asked");
    assert_eq!(machine.feed(Input::Waited { request: 1 }), 0, "there is no back-off");
    assert_eq!(machine.result_of("a"), Some((CallEnd::Done, "a is done".into())));
}

/// C-P12
#[test]
fn an_answer_that_was_cut_is_told_as_such() {
    let mut machine = Machine::asking();
    let answer = answered(machine.request(), [MessagePart::text("half a sen")]);
    let Input::Answered { request, mut answer, estimated } = answer else { panic!() };
    answer.finish = FinishReason::MaxOutputTokens;
    machine.feed(Input::Answered { request, answer, estimated });
    let is_cut = |event: &Event| {
        let reason = FinishReason::MaxOutputTokens;
        matches!(event, Event::TurnCompleted { truncated: Some(true), finish_reason, .. } if *finish_reason == reason)
    };
    assert!(machine.events().iter().any(is_cut));
}

#[test]
fn usage_is_summed_over_the_answers() {
    let mut machine = Machine::calling([call("a", "auto_look")]);
    machine.end_call("a");
    machine.say("done");
    let run = machine.session.run_view().unwrap();
    assert_eq!((run.turns, run.total_usage.total_tokens, run.side_effects), (2, 24, false));
}

#[test]
fn a_call_is_judged_and_run_as_it_is_meant_and_stays_as_the_model_made_it() {
    let machine = Machine::calling([call("a", "search")]);
    assert_eq!(machine.running(), ["a"], "by the policy of the tool that is meant");
    let proposed = machine.events().into_iter().find_map(|event| match event {
        Event::ToolCallsProposed { tool_calls, .. } => Some(tool_calls[0].name.clone()),
        _ => None,
    });
    assert_eq!(proposed.as_deref(), Some("auto_look"));
    let made = machine.records().into_iter().find_map(|record| match record {
        Record::ModelAnswered { message, .. } => Some(message),
        _ => None,
    });
    assert!(matches!(made.unwrap().parts(), [MessagePart::ToolCall { name, .. }] if name == "search"));
}
