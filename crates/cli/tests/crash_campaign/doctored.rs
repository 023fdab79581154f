//! The checks can fail: a healthy ledger passes, and each way of doctoring it is found and named.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use stakpak_protocol::{Message, MessageType, RunId, Session, SessionStatus, ToolDecisionAction, to_ascii_json};
use stakpak_test_support::Gate;

use crate::{
    check::{Kind, check},
    ledger::{Answer, Connection, Frame, Ledger, What, Write},
    model::{Asked, Call, Plan, Turn},
};

const NOTE: &str = "NOTE more";

/// The moment of an event, in seconds from the first.
fn at(second: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::seconds(second)
}

fn run_id() -> RunId {
    "7d0c2a64-52f1-4f0b-8f3e-1a2b3c4d5e6f".parse().unwrap()
}

fn frame(id: u64, event: &Value) -> Frame {
    let event = serde_json::from_value(event.clone()).unwrap();
    let envelope = stakpak_protocol::EventEnvelope {
        id: stakpak_protocol::EventId(id),
        session_id: "0b8f7a52-3c1e-4d55-9a57-6f0d2f1c9e11".parse().unwrap(),
        run_id: Some(run_id()),
        timestamp: at(id.cast_signed()),
        event,
    };
    let data = to_ascii_json(&envelope).unwrap();
    Frame::read(&format!("id: {id}\nevent: {}\ndata: {data}\n\n", envelope.event.name())).unwrap()
}

fn event(name: &str, mut payload: Value) -> Value {
    payload["run_id"] = json!(run_id());
    json!({ name: payload })
}

fn plan() -> Plan {
    let call = Call { before_ms: 0, after_ms: 0 };
    let calling = Turn { words: 1, calls: vec![call, call], ..Turn::default() };
    Plan { run: "s0.0".to_owned(), turns: vec![calling, Turn { words: 2, ..Turn::default() }] }
}

/// Two calls (one accepted, one rejected) after a restart in the answer, then an answer, then a follow-up's.
fn events() -> Vec<Value> {
    let plan = plan();
    let ids = [plan.call_id(0, 0), plan.call_id(0, 1)];
    let tool = "stakpak__run_command";
    let call = |id: &String| json!({ "id": id, "name": tool, "arguments": {} });
    let usage = json!({ "prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2 });
    let mut events = vec![
        event("RunStarted", json!({})),
        event("TurnStarted", json!({ "turn": 1 })),
        event("TextDelta", json!({ "delta": "cut off" })),
        event("RetryAttempt", json!({ "attempt": 1, "delay_ms": 0, "reason": "restarted", "discard_text": true })),
        event("TextDelta", json!({ "delta": plan.text(0) })),
        event("TextComplete", json!({ "text": plan.text(0) })),
        event("UsageReport", json!({ "turn": 1, "usage": usage })),
        event("ToolCallsProposed", json!({ "tool_calls": [call(&ids[0]), call(&ids[1])] })),
        event("WaitingForToolApproval", json!({ "pending_tool_call_ids": ids })),
        event("ToolRejected", json!({ "tool_call_id": ids[1], "tool_name": tool, "reason": "no" })),
        event("ToolExecutionStarted", json!({ "tool_call_id": ids[0], "tool_name": tool })),
        event(
            "ToolExecutionCompleted",
            json!({ "tool_call_id": ids[0], "tool_name": tool, "result": "No output", "is_error": false }),
        ),
        event("TurnCompleted", json!({ "turn": 1, "finish_reason": "tool_calls" })),
    ];
    for turn in [1, 2] {
        events.push(event("TurnStarted", json!({ "turn": turn + 1 })));
        events.push(event("TextDelta", json!({ "delta": plan.text(turn) })));
        events.push(event("TextComplete", json!({ "text": plan.text(turn) })));
        events.push(event("UsageReport", json!({ "turn": turn + 1, "usage": usage })));
        events.push(event("TurnCompleted", json!({ "turn": turn + 1, "finish_reason": "stop" })));
    }
    let end = json!({ "total_turns": 3, "total_usage": usage, "stop_reason": "completed" });
    events.push(event("RunCompleted", end));
    events
}

fn history() -> Vec<Message> {
    let plan = plan();
    let ids = [plan.call_id(0, 0), plan.call_id(0, 1)];
    let call = |id: &String| json!({ "type": "tool_call", "id": id, "name": "stakpak__run_command", "arguments": {} });
    let result = |id: &String, content: &str| json!({ "role": "tool", "content": [{ "type": "tool_result", "tool_call_id": id, "content": content }] });
    let text = |turn| json!({ "type": "text", "text": plan.text(turn) });
    let messages = json!([
        { "role": "system", "content": "be useful" },
        { "role": "user", "content": plan.message() },
        { "role": "assistant", "content": [text(0), call(&ids[0]), call(&ids[1])] },
        result(&ids[0], "No output"),
        result(&ids[1], "rejected"),
        { "role": "assistant", "content": [text(1)] },
        { "role": "user", "content": NOTE },
        { "role": "assistant", "content": [text(2)] },
    ]);
    serde_json::from_value(messages).unwrap()
}

fn write(key: &str, what: What, status: u16, body: &Value) -> Write {
    let answer = Answer { status, body: body.to_string(), replayed: false, at: at(10) };
    let again = Answer { replayed: true, ..answer.clone() };
    let body = json!({ "run_id": run_id() });
    Write {
        method: reqwest::Method::POST,
        path: String::new(),
        body,
        key: key.to_owned(),
        what,
        answers: vec![answer, again],
        unanswered: 0,
    }
}

fn session() -> Session {
    let session = json!({
        "created_at": at(0), "cwd": null, "id": "0b8f7a52-3c1e-4d55-9a57-6f0d2f1c9e11", "run_status": { "state": "idle" },
        "title": "s0", "updated_at": at(0),
    });
    serde_json::from_value(session).unwrap()
}

fn healthy() -> Ledger {
    let plan = plan();
    let replay: Vec<Frame> = events().iter().zip(1..).map(|(event, id)| frame(id, event)).collect();
    let asked = |turn, second| Asked {
        run: plan.run.clone(),
        turn,
        at: at(second),
        model: "test".to_owned(),
        sent: Gate::new(),
    };
    let posted = json!({ "run_id": run_id(), "cursor": 0 });
    let actions = [ToolDecisionAction::Accept, ToolDecisionAction::Reject];
    let ids = [plan.call_id(0, 0), plan.call_id(0, 1)].map(stakpak_protocol::ToolCallId);
    let results = json!({ "results": { ids[0].0.clone(): "applied", ids[1].0.clone(): "applied" } });
    Ledger {
        label: "s0".to_owned(),
        writes: vec![
            write("s0-0", What::Session, 201, &json!({ "id": "x" })),
            write("s0-1", What::Message(plan.run.clone()), 200, &posted),
            write("s0-2", What::Decision(ids.into_iter().zip(actions).collect()), 200, &results),
            write("s0-3", What::Command(NOTE.to_owned()), 200, &posted),
        ],
        connections: vec![
            Connection { frames: replay[..3].to_vec(), ..Connection::default() },
            Connection { after: 3, frames: replay[3..].to_vec(), complete: true, ..Connection::default() },
        ],
        history: history(),
        witness: vec![plan.call_id(0, 0)],
        asked: vec![asked(0, 2), asked(0, 4), asked(1, 13), asked(2, 18)],
        sessions: 1,
        session: Some(session()),
        kills: 1,
        replay,
        plans: vec![plan],
        ..Ledger::default()
    }
}

/// What is found in a ledger after this was done to it.
fn found(doctor: impl FnOnce(&mut Ledger)) -> Vec<Kind> {
    let mut ledger = healthy();
    doctor(&mut ledger);
    let mut kinds: Vec<Kind> = check(&ledger).into_iter().map(|violation| violation.kind).collect();
    kinds.sort();
    kinds.dedup();
    kinds
}

/// What is found when the events were these; readers saw the same.
fn found_in(doctor: impl FnOnce(&mut Vec<Value>)) -> Vec<Kind> {
    let mut events = events();
    doctor(&mut events);
    found(|ledger| {
        ledger.replay = events.iter().zip(1..).map(|(event, id)| frame(id, event)).collect();
        ledger.connections.clear();
    })
}

/// The same event with another payload.
fn with(event: &Value, field: &str, value: Value) -> Value {
    let mut event = event.clone();
    *event.as_object_mut().unwrap().values_mut().next().unwrap().get_mut(field).unwrap() = value;
    event
}

#[test]
fn a_healthy_session_passes() {
    assert_eq!(check(&healthy()), []);
}

#[test]
fn a_lost_or_repeated_message_is_found() {
    assert_eq!(found(|ledger| drop(ledger.history.remove(1))), [Kind::MessageLost]);
    assert_eq!(found(|ledger| ledger.history.insert(1, ledger.history[1].clone())), [Kind::MessageRepeated]);
    assert_eq!(found(|ledger| ledger.sessions = 2), [Kind::MessageRepeated]);
    let no_events = found(|ledger| {
        ledger.replay.clear();
        ledger.connections.clear();
    });
    assert!(no_events.contains(&Kind::MessageLost), "{no_events:?}");
    let other_run = found(|ledger| ledger.writes[1].answers[0].body = json!({ "run_id": RunId::random() }).to_string());
    assert!(other_run.contains(&Kind::MessageLost) && other_run.contains(&Kind::MessageRepeated), "{other_run:?}");
}

#[test]
fn a_lost_command_is_found_and_an_unconsumed_one_is_not_lost() {
    assert_eq!(found(|ledger| drop(ledger.history.remove(6))), [Kind::CommandLost]);
    let reported = |ledger: &mut Ledger| {
        ledger.history.remove(6);
        let unconsumed = json!([{ "type": MessageType::FollowUp, "text": NOTE }]);
        let mut end = events().pop().unwrap();
        end["RunCompleted"]["unconsumed"] = unconsumed;
        let id = ledger.replay.len() as u64;
        ledger.replay.pop();
        ledger.replay.push(frame(id, &end));
        ledger.connections.clear();
    };
    assert_eq!(found(reported), []);
    let twice = |ledger: &mut Ledger| {
        reported(ledger);
        ledger.history = history();
    };
    assert_eq!(found(twice), [Kind::MessageRepeated]);
}

#[test]
fn what_was_refused_must_not_be_done() {
    let refused = |ledger: &mut Ledger| {
        for answer in &mut ledger.writes[3].answers {
            *answer =
                Answer { status: 409, body: json!({ "code": "session_not_running" }).to_string(), ..answer.clone() };
        }
    };
    assert_eq!(found(refused), [Kind::RefusedYetDone]);
}

/// G4: what a reader saw stays, byte by byte.
#[test]
fn a_changed_or_vanished_event_is_found() {
    let changed = with(&events()[2], "delta", json!("something else"));
    assert_eq!(found(|ledger| ledger.connections[0].frames[2] = frame(3, &changed)), [Kind::EventChanged]);
    let last = events().len() as u64;
    let vanished = frame(last + 1, &events()[0]);
    assert_eq!(found(|ledger| ledger.connections[1].frames.push(vanished)), [Kind::EventChanged]);
}

#[test]
fn a_gap_and_a_duplicate_are_found() {
    assert_eq!(found(|ledger| drop(ledger.connections[1].frames.remove(2))), [Kind::EventMissing]);
    assert_eq!(found(|ledger| drop(ledger.connections[1].frames.pop())), [Kind::EventMissing]);
    assert_eq!(found(|ledger| drop(ledger.connections[0].frames.pop())), [], "a stream that was cut ends anywhere");
    assert_eq!(found(|ledger| ledger.connections[1].after = 4), [Kind::EventRepeated]);
    assert_eq!(found(|ledger| ledger.connections[0].control.push("gap_detected".into())), [Kind::EventMissing]);
    let same_id = |ledger: &mut Ledger| {
        let again = ledger.replay[4].clone();
        ledger.replay.insert(5, again);
        ledger.connections.clear();
    };
    assert!(found(same_id).contains(&Kind::EventRepeated));
}

/// P28: exactly one terminal event, and it is the last.
#[test]
fn a_run_ends_once_and_last() {
    assert_eq!(found_in(|events| drop(events.pop())), [Kind::EndMissing]);
    assert_eq!(found_in(|events| events.push(events[events.len() - 1].clone())), [Kind::EndRepeated]);
    let after_end = found_in(|events| events.push(events[2].clone()));
    assert_eq!(after_end, [Kind::EventAfterEnd, Kind::OrderBroken]);
    let early = found_in(|events| drop(events.drain(13..23)));
    assert!(early.contains(&Kind::RunFailed), "{early:?}");
    let failed = event("RunError", json!({ "error": "interrupted: again and again", "retryable": true }));
    assert_eq!(found_in(|events| *events.last_mut().unwrap() = failed.clone()), [Kind::RunFailed]);
}

/// P30: deltas since the last discard are the text, and the text is the model's.
#[test]
fn texts_are_their_deltas() {
    assert_eq!(found_in(|events| events[4] = with(&events[4], "delta", json!("half"))), [Kind::TextWrong]);
    assert_eq!(found_in(|events| drop(events.remove(4))), [Kind::TextWrong]);
    let not_discarded = found_in(|events| events[3] = with(&events[3], "discard_text", json!(false)));
    assert_eq!(not_discarded, [Kind::TextWrong]);
}

/// G6, P22: an effect happens at most once, and exactly once if its call says so.
#[test]
fn a_repeated_missing_or_unwanted_effect_is_found() {
    assert_eq!(found(|ledger| ledger.witness.push(plan().call_id(0, 0))), [Kind::EffectRepeated]);
    assert_eq!(found(|ledger| ledger.witness.clear()), [Kind::EffectWrong]);
    assert_eq!(found(|ledger| ledger.witness.push(plan().call_id(0, 1))), [Kind::EffectWrong]);
    assert_eq!(found(|ledger| ledger.witness.push("nobody's".to_owned())), [Kind::EffectWrong]);
    let started_twice = found_in(|events| events.insert(11, events[10].clone()));
    assert_eq!(started_twice, [Kind::EffectRepeated]);
    assert_eq!(found(|ledger| ledger.processes.push("42".to_owned())), [Kind::ProcessLeft]);
}

/// G5: what was recorded is not paid for again.
#[test]
fn a_recorded_answer_that_is_asked_for_again_is_found() {
    let after_the_answer = Asked { at: at(19), ..healthy().asked[2].clone() };
    assert_eq!(found(|ledger| ledger.asked.push(after_the_answer)), [Kind::AskedAgain]);
    let unannounced = Asked { at: at(5), ..healthy().asked[0].clone() };
    assert_eq!(found(|ledger| ledger.asked.push(unannounced)), [Kind::AskedAgain]);
    let answered_twice = found_in(|events| events.insert(7, events[6].clone()));
    assert_eq!(answered_twice, [Kind::OrderBroken]);
}

/// P9: a decision that was answered holds.
#[test]
fn a_lost_decision_is_found() {
    let not_rejected = found(|ledger| {
        let What::Decision(decisions) = &mut ledger.writes[2].what else { panic!("no decision") };
        *decisions.values_mut().next().unwrap() = ToolDecisionAction::Reject;
    });
    assert_eq!(not_rejected, [Kind::DecisionLost]);
    let asked_again = found(|ledger| ledger.writes[2].answers[0].at = at(8));
    assert_eq!(asked_again, [Kind::DecisionLost]);
}

#[test]
fn a_lost_cancel_is_found() {
    let cancel = write("s0-4", What::Cancel(run_id()), 200, &json!({ "cancelled": true, "run_id": run_id() }));
    assert_eq!(found(|ledger| ledger.writes.push(cancel)), [Kind::CancelLost]);
}

#[test]
fn a_lost_title_is_found() {
    let renamed = |ledger: &mut Ledger| {
        ledger.writes.push(write("s0-4", What::Title("s0, new".to_owned()), 200, &json!({})));
    };
    assert_eq!(found(renamed), [Kind::ChangeLost]);
    let kept = |ledger: &mut Ledger| {
        renamed(ledger);
        ledger.session.as_mut().unwrap().title = "s0, new".to_owned();
    };
    assert_eq!(found(kept), []);
    let unwanted = found(|ledger| ledger.session.as_mut().unwrap().title = "s0, new".to_owned());
    assert_eq!(unwanted, [Kind::ChangeLost]);
    assert_eq!(found(|ledger| ledger.session = None), [Kind::ChangeLost]);
}

#[test]
fn a_lost_or_unwanted_model_is_found() {
    let switch = |status, place, now: Option<&str>| {
        found(|ledger| {
            let refusal = json!({ "code": "session_not_running" });
            ledger.writes.insert(place, write("s0-4", What::Model("my/other".to_owned()), status, &refusal));
            ledger.session.as_mut().unwrap().model = now.map(str::to_owned);
            if status == 409 {
                ledger.writes[place].answers.iter_mut().for_each(|answer| answer.replayed = false);
            }
        })
    };
    assert_eq!(switch(200, 4, Some("my/other")), []);
    assert_eq!(switch(200, 4, Some("my/test")), [Kind::ChangeLost]);
    assert_eq!(switch(200, 1, Some("my/other")), [Kind::ChangeLost], "the run after it asked another");
    assert_eq!(switch(409, 4, Some("my/test")), []);
    assert_eq!(switch(409, 4, Some("my/other")), [Kind::RefusedYetDone]);
}

#[test]
fn a_lost_or_unwanted_deletion_is_found() {
    let deleted = |ledger: &mut Ledger| ledger.session.as_mut().unwrap().status = SessionStatus::Deleted;
    let delete = |ledger: &mut Ledger| ledger.writes.push(write("s0-4", What::Deletion, 204, &Value::Null));
    assert_eq!(found(delete), [Kind::DeletionLost]);
    assert_eq!(found(deleted), [Kind::RefusedYetDone]);
    let told = |ledger: &mut Ledger| ledger.connections[1].control.push("event: session_deleted\ndata: {}\n\n".into());
    let both = |ledger: &mut Ledger| {
        delete(ledger);
        deleted(ledger);
        told(ledger);
    };
    assert_eq!(found(both), []);
    assert_eq!(found(told), [Kind::EventMissing], "nobody asked for it");
    let running = found(|ledger| {
        both(ledger);
        ledger.connections.clear();
        ledger.replay.pop();
    });
    assert_eq!(running, [Kind::EndMissing, Kind::DeletionLost]);
}

/// G3: the same key gives the same answer, and is done once.
#[test]
fn an_answer_that_is_not_replayed_is_found() {
    assert_eq!(found(|ledger| ledger.writes[1].answers[1].body.push(' ')), [Kind::AnswerChanged]);
    assert_eq!(found(|ledger| ledger.writes[1].answers[1].replayed = false), [Kind::AnswerChanged]);
    assert_eq!(found(|ledger| ledger.writes[1].answers[1].status = 409), [Kind::AnswerChanged]);
    assert_eq!(found(|ledger| ledger.writes[0].answers[0].status = 500), [Kind::AnswerChanged, Kind::AnswerUnexpected]);
}

#[test]
fn a_broken_history_is_found() {
    assert_eq!(found(|ledger| drop(ledger.history.remove(3))), [Kind::HistoryBroken]);
    assert_eq!(found(|ledger| ledger.history.swap(3, 4)), [Kind::HistoryBroken]);
    assert_eq!(found(|ledger| drop(ledger.history.pop())), [Kind::HistoryBroken]);
    assert_eq!(found(|ledger| drop(ledger.history.remove(0))), [Kind::HistoryBroken]);
}

#[test]
fn a_stuck_session_is_found() {
    assert_eq!(found(|ledger| ledger.stuck = Some("the end".to_owned())), [Kind::SessionStuck]);
}

#[test]
fn a_cursor_that_is_not_the_place_before_the_run_is_found() {
    let moved = json!({ "run_id": run_id(), "cursor": 3 }).to_string();
    let move_all =
        |ledger: &mut Ledger| ledger.writes[1].answers.iter_mut().for_each(|answer| answer.body.clone_from(&moved));
    assert_eq!(found(move_all), [Kind::OrderBroken]);
}

/// The summary counts by name.
#[test]
fn every_kind_has_its_own_words() {
    let words: std::collections::BTreeSet<String> = Kind::ALL.iter().map(ToString::to_string).collect();
    assert_eq!(words.len(), Kind::ALL.len());
}
