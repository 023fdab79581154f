//! Sessions and rows to write.

use chrono::{DateTime, Utc};
use stakpak_agent_core::{Append, Journal, NewSession, Receipt, Row, RowClass, SessionRow};
use stakpak_protocol::SessionId;
use stakpak_store::SqliteJournal;

pub(crate) async fn make(journal: &SqliteJournal) -> SessionRow {
    let session = SessionRow::new(SessionId::random(), "disk check", None, Utc::now());
    journal.create_session(NewSession { session: session.clone(), receipt: None }).await.unwrap();
    session
}

/// Appends rows, which must continue the session.
pub(crate) fn append(journal: &SqliteJournal, session: &mut SessionRow, rows: Vec<Row>) -> Append {
    session.last_seq = rows.last().map_or(session.last_seq, |row| row.seq);
    Append { epoch: journal.epoch(), session: session.clone(), rows, run: None, receipt: None }
}

pub(crate) fn event(seq: u64, payload: &str) -> Row {
    Row { seq, class: RowClass::Event, kind: "text_delta".into(), payload: payload.into(), message_index: None }
}

pub(crate) fn control(seq: u64, payload: &str) -> Row {
    Row { class: RowClass::Control, kind: "turn".into(), ..event(seq, payload) }
}

pub(crate) fn message(seq: u64, index: u64, payload: &str) -> Row {
    Row { message_index: Some(index), ..control(seq, payload) }
}

pub(crate) fn receipt(scope: &str, expires_at: DateTime<Utc>) -> Receipt {
    Receipt { scope: scope.into(), body_hash: [1; 32], status: 200, body: "{}".into(), expires_at }
}
