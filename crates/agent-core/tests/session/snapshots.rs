//! The stored form of the state. That folding from it gives the same is a property of `properties.rs`.

use stakpak_agent_core::{Record, Snapshot, session::Stored};
use stakpak_protocol::{RunLimits, ToolDecisionAction};

use crate::machine::{Machine, accept, call, decision};

/// A run with a bit of everything: a limit, another model, calls of all fates, a command that waits.
fn full() -> Machine {
    let mut machine = Machine::new();
    machine.limits = RunLimits { wall_clock_s: Some(600), cost_usd: Some(10_000.0), ..RunLimits::default() };
    machine.post();
    machine.switch_model("test/other");
    machine.follow_up("and the memory?");
    machine.answer([call("a", "auto_look"), call("b", "ask_act"), call("c", "deny_act"), call("d", "broken")]);
    machine.decide("b", accept());
    machine.end_call("a");
    machine.end_call("b");
    machine
}

/// A contract with the past: a form that changes gets another version.
#[test]
fn the_stored_form_stays() {
    let Snapshot { seq, version, state } = full().session.snapshot().unwrap();
    let state: serde_json::Value = serde_json::from_str(&state).unwrap();
    let state = serde_json::to_string_pretty(&sorted(&state)).unwrap();
    insta::assert_snapshot!(format!("{seq} {version} {state}"));
}

/// Whatever the order of keys that this build keeps.
fn sorted(value: &serde_json::Value) -> serde_json::Value {
    match value {
        serde_json::Value::Object(map) => {
            let keys: std::collections::BTreeMap<_, _> = map.iter().collect();
            keys.into_iter().map(|(key, value)| (key.clone(), sorted(value))).collect()
        }
        serde_json::Value::Array(items) => items.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

/// The records that hold them are named instead.
#[test]
fn a_snapshot_holds_no_message_and_no_prompt() {
    let machine = full();
    let snapshot = machine.session.snapshot().unwrap();
    for text in ["go", "Be brief", "and the memory", "is done", "denies"] {
        assert!(machine.rows.iter().any(|row| row.payload.contains(text)), "{text}");
        assert!(!snapshot.state.contains(text), "{}", snapshot.state);
    }
    let stored = Stored::read(&snapshot).unwrap();
    let kinds = stored.places().map(|place| machine.rows[usize::try_from(place).unwrap() - 1].kind.as_str());
    assert_eq!(kinds.collect::<Vec<_>>(), ["run_accepted", "model_switched", "command_queued"]);
}

#[test]
fn there_is_none_while_calls_are_open() {
    let mut machine = Machine::calling([call("a", "ask_act")]);
    assert_eq!(machine.session.snapshot(), None);
    machine.decide("a", decision(ToolDecisionAction::Reject, None));
    assert!(machine.session.snapshot().is_some());
    assert_eq!(Machine::new().session.snapshot(), None, "there is nothing to fold");
}

/// Everything is folded then.
#[test]
fn one_that_does_not_read_is_none() {
    let machine = full();
    let good = machine.session.snapshot().unwrap();
    assert_eq!(machine.restored(&good), Some(machine.folded()));
    let state = good.state.replace("\"turn\"", "\"turns\"");
    assert_ne!(state, good.state);
    let bad = [
        Snapshot { version: good.version + 1, ..good.clone() },
        Snapshot { state, ..good.clone() },
        Snapshot { state: good.state[..good.state.len() - 1].to_owned(), ..good.clone() },
        Snapshot { state: String::new(), ..good.clone() },
    ];
    for bad in bad {
        assert_eq!(machine.restored(&bad), None, "{bad:?}");
    }
}

/// Rows that are not those it names: it is of another sequence.
#[test]
fn one_whose_records_are_others_is_none() {
    let machine = full();
    let snapshot = machine.session.snapshot().unwrap();
    let places: Vec<u64> = Stored::read(&snapshot).unwrap().places().collect();
    let row = |place: u64| machine.rows[usize::try_from(place).unwrap() - 1].clone();
    let answered = machine.rows.iter().find(|row| matches!(Record::from_row(row), Ok(Record::ModelAnswered { .. })));
    let restore = |rows: &[_]| Stored::read(&snapshot).unwrap().restore(machine.session.row.clone(), rows);
    let named: Vec<_> = places.iter().map(|place| row(*place)).collect();
    assert!(restore(&named).is_some());
    for missing in 0..named.len() {
        let mut others = named.clone();
        others.remove(missing);
        assert_eq!(restore(&others), None, "without {missing}");
        others.push(answered.unwrap().clone());
        assert_eq!(restore(&others), None, "another for {missing}");
    }
}

/// What grows with a run is small: a run of 256 turns of two calls has a snapshot at its end. Twenty calls a turn are too much.
#[test]
fn the_size_is_bounded() {
    let mut machine = Machine::asking();
    for turn in 0..255 {
        let ids = [0, 1].map(|number| format!("call_{turn:016x}{number:016x}"));
        machine.answer(ids.each_ref().map(|id| call(id, if turn % 4 == 0 { "ask_look" } else { "auto_look" })));
        for id in &ids {
            if turn % 4 == 0 {
                machine.decide(id, accept());
            }
            machine.end_call(id);
        }
    }
    machine.say("done");
    assert!(machine.session.active().is_none());
    let snapshot = machine.session.snapshot().unwrap();
    assert!(snapshot.state.len() < 48 << 10, "{} bytes", snapshot.state.len());

    let ids: Vec<_> = (0..2_000).map(|number| format!("call_{number:032x}")).collect();
    let mut machine = Machine::calling(ids.iter().map(|id| call(id, "broken")));
    assert!(machine.is_asking());
    assert_eq!(machine.session.snapshot(), None);
    machine.cancel();
    assert_eq!(machine.session.snapshot(), None);
}
