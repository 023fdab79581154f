//! Sessions and rows to write.

use chrono::{DateTime, Utc};
use stakpak_agent_core::{Append, Journal, NewSession, Receipt, Row, RowClass, SessionRow};
use stakpak_protocol::{Event, EventEnvelope, EventId, RunId, SessionId, StopReason, Usage, to_ascii_json};
use stakpak_store::SqliteJournal;

pub(crate) async fn make(journal: &SqliteJournal) -> SessionRow {
    let session = SessionRow::new(SessionId::random(), "disk check", None, Utc::now());
    journal.create_session(NewSession { session: session.clone(), receipt: None }).await.unwrap();
    session
}

/// Appends rows, which must continue the session.
pub(crate) fn append(journal: &SqliteJournal, session: &mut SessionRow, rows: Vec<Row>) -> Append {
    session.last_seq = rows.last().map_or(session.last_seq, |row| row.seq);
    Append {
        epoch: journal.epoch(),
        session: session.clone(),
        rows,
        run: None,
        receipt: None,
        snapshot: None,
        spent: None,
    }
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

/// Appends a run that has ended at `at`: its start, a message, the deltas, a message, its end.
pub(crate) async fn talk(journal: &SqliteJournal, session: &mut SessionRow, at: DateTime<Utc>, deltas: usize) {
    let run_id = RunId::random();
    let (mut seq, first, index) = (session.last_seq, session.last_seq + 1, session.message_count);
    let mut rows = Vec::new();
    let mut say = |said: Event| {
        seq += 1;
        let (id, session_id) = (EventId(seq), session.id);
        let envelope = EventEnvelope { id, session_id, run_id: Some(run_id), timestamp: at, event: said };
        let kind = envelope.event.name().to_owned();
        rows.push(Row { kind, ..event(seq, &to_ascii_json(&envelope).unwrap()) });
    };
    say(Event::RunStarted { run_id });
    for number in 0..deltas {
        say(Event::TextDelta { run_id, delta: format!("word {number} ") });
    }
    say(Event::RunCompleted {
        run_id,
        total_turns: 1,
        total_usage: Usage::default(),
        stop_reason: StopReason::Completed,
        detail: None,
        unconsumed: Vec::new(),
    });
    rows.extend([message(seq + 1, index, "asked"), message(seq + 2, index + 1, "answered"), control(seq + 3, "ended")]);
    (session.run_first_seq, session.message_count, session.last_event_id) = (first, index + 2, EventId(seq));
    journal.append(append(journal, session, rows)).await.unwrap();
}
