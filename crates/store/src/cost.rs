//! P44, P45: what reading and appending cost in a long session, in steps of SQLite's machine.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use chrono::Utc;
use rusqlite::Connection;
use stakpak_agent_core::{Append, NewSession, Row, RowClass, SessionQuery, SessionRow};
use stakpak_protocol::{EventId, SessionId};

use crate::{
    append::{PreparedAppend, PreparedSession},
    failure::Failure,
    listing, record,
    schema::MIGRATIONS,
    session,
};

const ROWS_OF_A_TURN: u64 = 8;

/// A turn's rows: it is accepted, the messages of both sides, and events.
fn turn(session: &SessionRow) -> Vec<Row> {
    let first = session.last_seq + 1;
    let row = |place: u64| {
        let message_index = match place {
            1 => Some(session.message_count),
            6 => Some(session.message_count + 1),
            _ => None,
        };
        let class = if matches!(place, 0 | 1 | 6) { RowClass::Control } else { RowClass::Event };
        Row { seq: first + place, class, kind: "text_delta".into(), payload: "some words ".repeat(20), message_index }
    };
    (0..ROWS_OF_A_TURN).map(row).collect()
}

fn append_turn(conn: &Connection, session: &mut SessionRow) -> Result<(), Failure> {
    let rows = turn(session);
    session.run_first_seq = session.last_seq + 1;
    session.last_seq += ROWS_OF_A_TURN;
    session.message_count += 2;
    session.last_event_id = EventId(session.last_seq);
    let append =
        Append { epoch: 0, session: session.clone(), rows, run: None, receipt: None, snapshot: None, spent: None };
    PreparedAppend::new(append, Utc::now())?.write(conn, None)
}

/// Steps of the machine that this takes.
fn steps(conn: &mut Connection, job: impl FnOnce(&Connection) -> Result<(), Failure>) -> u64 {
    let counted = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&counted);
    conn.progress_handler(1, Some(move || counter.fetch_add(1, Ordering::Relaxed) == u64::MAX)).unwrap();
    job(conn).unwrap();
    conn.progress_handler(0, None::<fn() -> bool>).unwrap();
    counted.load(Ordering::Relaxed)
}

/// What each way of using a session takes.
fn costs(conn: &mut Connection, session: &mut SessionRow) -> Vec<(&'static str, u64)> {
    let (id, seq, messages) = (session.id, session.last_seq, session.message_count);
    let middle = messages / 2;
    let list = SessionQuery { limit: 100, ..SessionQuery::default() };
    vec![
        ("a page of messages", steps(conn, |conn| record::messages(conn, id, middle - 5, middle + 5).map(drop))),
        ("the last messages", steps(conn, |conn| record::messages(conn, id, messages - 10, messages).map(drop))),
        ("the last run", steps(conn, |conn| record::control(conn, id, seq - ROWS_OF_A_TURN + 1, seq).map(drop))),
        ("the newest events", steps(conn, |conn| record::events(conn, id, EventId(seq - 20), usize::MAX).map(drop))),
        ("some events", steps(conn, |conn| record::events(conn, id, EventId(3), 2_000).map(drop))),
        ("the session", steps(conn, |conn| session::find(conn, id).map(drop))),
        ("the list", steps(conn, |conn| listing::page(conn, &list).map(drop))),
        ("the active runs", steps(conn, |conn| listing::active_runs(conn).map(drop))),
        ("a turn", steps(conn, |conn| append_turn(conn, session))),
    ]
}

#[test]
fn a_long_session_costs_what_a_short_one_does() {
    let mut conn = Connection::open_in_memory().unwrap();
    MIGRATIONS.iter().for_each(|migration| conn.execute_batch(migration.sql).unwrap());
    let mut session = SessionRow::new(SessionId::random(), "long", None, Utc::now());
    let new = NewSession { session: session.clone(), receipt: None };
    PreparedSession::new(0, new, Utc::now()).unwrap().write(&conn).unwrap();
    (0..20).for_each(|_| append_turn(&conn, &mut session).unwrap());
    let short = costs(&mut conn, &mut session);
    (0..5_000).for_each(|_| append_turn(&conn, &mut session).unwrap());
    let long = costs(&mut conn, &mut session);
    for ((what, short), (_, long)) in short.into_iter().zip(long) {
        assert!(short > 0 && long <= 2 * short, "{what} took {short} steps of 20 turns, {long} of 5,000");
    }
}
