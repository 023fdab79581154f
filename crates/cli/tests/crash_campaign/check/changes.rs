//! What the session is now (G1): its title and its model are the last that were accepted, and it is deleted if that was.

use stakpak_protocol::{Event, Session, SessionStatus};

use super::{Findings, Kind};
use crate::ledger::{Ledger, What};

pub(super) fn check(ledger: &Ledger, findings: &mut Findings) {
    let Some(session) = &ledger.session else {
        return findings.add(Kind::ChangeLost, "the session cannot be read");
    };
    check_title(ledger, session, findings);
    check_model(ledger, session, findings);
    check_deletion(ledger, session, findings);
}

fn check_title(ledger: &Ledger, session: &Session, findings: &mut Findings) {
    let mut title = ledger.label.as_str();
    for write in &ledger.writes {
        if let What::Title(accepted) = &write.what
            && write.accepted().is_some()
        {
            title = accepted;
        }
    }
    findings.require(session.title == title, Kind::ChangeLost, format!("the title {title:?} is {:?}", session.title));
}

/// Each switch has a name of its own, so that a refused one is told from all others.
fn check_model(ledger: &Ledger, session: &Session, findings: &mut Findings) {
    let mut switched = None;
    for (index, write) in ledger.writes.iter().enumerate() {
        let What::Model(model) = &write.what else { continue };
        if write.accepted().is_some() {
            switched = Some((index, model));
        } else {
            let used = session.model.as_ref() == Some(model);
            findings.require(!used, Kind::RefusedYetDone, format!("the switch to {model}"));
        }
    }
    let Some((index, model)) = switched else { return };
    let now = &session.model;
    findings.require(now.as_ref() == Some(model), Kind::ChangeLost, format!("the model {model} is {now:?}"));
    for write in &ledger.writes[index..] {
        let What::Message(run) = &write.what else { continue };
        for asked in ledger.asked.iter().filter(|asked| asked.run == *run) {
            let told = format!("turn {} of {run} went to {}, not to {model}", asked.turn + 1, asked.model);
            findings.require(model.ends_with(&format!("/{}", asked.model)), Kind::ChangeLost, told);
        }
    }
}

fn check_deletion(ledger: &Ledger, session: &Session, findings: &mut Findings) {
    let deleted = session.status == SessionStatus::Deleted;
    match ledger.is_deleted() {
        true => findings.require(deleted, Kind::DeletionLost, format!("the session is {:?}", session.status)),
        false => findings.require(!deleted, Kind::RefusedYetDone, "the session is deleted"),
    }
    let last = ledger.replay.last().map(|frame| &frame.envelope().event);
    let ended = last.is_none_or(Event::is_terminal);
    findings.require(!deleted || ended, Kind::DeletionLost, format!("the deleted session's last event is {last:?}"));
}
