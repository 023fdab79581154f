//! What readers saw (G4): one sequence, the same bytes for everybody, whatever was in between.

use super::{Findings, Kind};
use crate::{
    ledger::{Connection, Frame, Ledger},
    reader::is_deletion,
};

pub(super) fn check(ledger: &Ledger, findings: &mut Findings) {
    for pair in ledger.replay.windows(2) {
        let (earlier, later) = (pair[0].id(), pair[1].id());
        findings.require(earlier < later, Kind::EventRepeated, format!("event {later} follows event {earlier}"));
    }
    for connection in &ledger.connections {
        // A deletion says so, when all its events were told.
        let deleted = ledger.is_deleted() && connection.control.last().is_some_and(|last| is_deletion(last));
        for control in &connection.control[..connection.control.len() - usize::from(deleted)] {
            findings.add(Kind::EventMissing, format!("a stream from {} was told {control:?}", connection.after));
        }
        check_connection(connection, &ledger.replay, findings);
    }
}

/// A stream gives exactly what follows its cursor, up to where it was cut.
fn check_connection(connection: &Connection, replay: &[Frame], findings: &mut Findings) {
    let after = connection.after;
    let mut expected = replay.iter().filter(|frame| frame.id() > after);
    for seen in &connection.frames {
        let expected = expected.next();
        if expected.is_some_and(|expected| expected.text() == seen.text()) {
            continue;
        }
        let id = seen.id();
        return match replay.iter().find(|frame| frame.id() == id) {
            Some(now) if now.text() == seen.text() => {
                let missing = expected.is_some_and(|expected| expected.id() < id);
                let kind = if missing { Kind::EventMissing } else { Kind::EventRepeated };
                let expected = expected.map(Frame::id);
                findings.add(kind, format!("a stream from {after} gave event {id}, not {expected:?}"));
            }
            Some(now) => {
                let (was, is) = (seen.text(), now.text());
                findings.add(Kind::EventChanged, format!("event {id} was seen as {was:?} and is {is:?}"));
            }
            None => {
                let was = seen.text();
                findings.add(Kind::EventChanged, format!("event {id} was seen as {was:?} and is gone"));
            }
        };
    }
    if connection.complete
        && let Some(missing) = expected.next()
    {
        findings.add(Kind::EventMissing, format!("a stream from {after} never gave event {}", missing.id()));
    }
}
