//! What happens to the session beside its runs: changed, given another model, deleted.

use stakpak_agent_core::{
    ModelTerms, Record,
    session::{Owed, Refusal, Reply, Request},
};
use stakpak_protocol::{Event, MessageType, RunId, SessionStatus, StopReason, Visibility};
use uuid::Uuid;

use crate::machine::{Machine, accept, call};

#[test]
fn a_change_is_recorded_and_touches_nothing_else() {
    let mut machine = Machine::calling([call("c", "ask_act")]);
    let (owed, events) = (machine.session.owed(), machine.events().len());
    let change = Request::Change { title: Some("disks".into()), visibility: Some(Visibility::Public) };
    let Ok(Reply::Changed(row)) = machine.handle(change) else { panic!("not changed") };
    assert_eq!((row.title.as_str(), row.visibility), ("disks", Visibility::Public));
    assert_eq!(*row, machine.session.row);
    assert_eq!((machine.session.owed(), machine.events().len()), (owed, events));
    assert_eq!(machine.folded(), machine.session);
}

#[test]
fn a_change_of_nothing_leaves_no_trace() {
    let mut machine = Machine::new();
    let before = machine.session.clone();
    let nothing = Request::Change { title: None, visibility: None };
    assert_eq!(machine.handle(nothing), Ok(Reply::Changed(Box::new(before.row.clone()))));
    assert_eq!((machine.session, machine.rows.len()), (before, 0));
}

/// P20: the switch is part of the state that a new process folds, also one that comes between two attempts.
#[test]
fn a_switched_model_is_that_of_the_run_and_of_the_session() {
    let mut machine = Machine::asking();
    let asked = machine.session.owed();
    machine.switch_model("test/other");
    assert_eq!(machine.session.owed(), asked, "the request that is under way goes on");
    machine.restart();
    assert_eq!(machine.session.run.as_ref().unwrap().accepted.model, "test/other");
    machine.wait();
    machine.say("done");
    assert_eq!(machine.session.row.model.as_deref(), Some("test/other"));
    let late =
        Request::SwitchModel { run_id: machine.run_id, model: "test/model".into(), terms: ModelTerms::default() };
    assert_eq!(machine.handle(late), Err(Refusal::NotRunning));
}

#[test]
fn a_switch_names_the_active_run() {
    let mut machine = Machine::asking();
    let run_id = RunId(Uuid::from_u128(99));
    assert_eq!(
        machine.handle(Request::SwitchModel { run_id, model: "m".into(), terms: ModelTerms::default() }),
        Err(Refusal::RunMismatch)
    );
}

/// P6: whatever the run waits for, it ends as cancelled with the deletion, in one transaction.
#[test]
fn a_deletion_ends_the_run() {
    for mut machine in [Machine::asking(), Machine::calling([call("c", "ask_act"), call("d", "auto_act")])] {
        machine.follow_up("never used");
        machine.delete();
        let [Event::RunCompleted { stop_reason, unconsumed, .. }] = machine.last_events() else { panic!("no end") };
        assert_eq!((stop_reason, unconsumed.len()), (StopReason::Cancelled, 1));
        assert_eq!(machine.terminal_events(), 1);
        assert_eq!(machine.records().last(), Some(&Record::SessionDeleted { at: machine.now }));
        assert_eq!(machine.session.row.status, SessionStatus::Deleted);
        assert_eq!(machine.session.owed(), Vec::<Owed>::new());
        assert_eq!(machine.folded(), machine.session);
    }
}

/// P34: nothing but another deletion, which changes nothing.
#[test]
fn a_deleted_session_takes_no_request() {
    let mut machine = Machine::calling([call("c", "ask_act")]);
    machine.delete();
    let (rows, updated_at) = (machine.rows.len(), machine.session.row.updated_at);
    machine.later(std::time::Duration::from_secs(1));
    machine.delete();
    assert_eq!(machine.try_post(None), Err(Refusal::Deleted));
    assert_eq!(machine.queue(MessageType::Steering, "x"), Err(Refusal::Deleted));
    assert_eq!(machine.try_decide("ann", [("c", accept())]), Err(Refusal::Deleted));
    for request in [
        Request::Cancel { run_id: machine.run_id },
        Request::SwitchModel { run_id: machine.run_id, model: "m".into(), terms: ModelTerms::default() },
        Request::Change { title: None, visibility: None },
    ] {
        assert_eq!(machine.handle(request), Err(Refusal::Deleted));
    }
    assert_eq!((machine.rows.len(), machine.session.row.updated_at), (rows, updated_at));
}
