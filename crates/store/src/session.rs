//! The projections: what is known of sessions and runs without folding.
//!
//! A projection that cannot be read is reported as damage at position 0: its rows are whole, folding them restores it.

use rusqlite::{Connection, OptionalExtension, Row as Columns, named_params};
use stakpak_agent_core::{JournalError, SessionRow};
use stakpak_protocol::{EventId, Run, RunId, RunStatus, SessionId, SessionStatus, Visibility};
use uuid::Uuid;

use crate::{
    failure::{Failure, storage},
    schema::{nanos, time},
};

/// A projection with its JSON, encoded before it queues for the writer.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) session: SessionRow,
    run_status: String,
    title_folded: String,
}

impl Encoded {
    pub(crate) fn new(session: SessionRow) -> Result<Self, JournalError> {
        let run_status = serde_json::to_string(&session.run_status).map_err(storage)?;
        let title_folded = fold(&session.title);
        Ok(Self { session, run_status, title_folded })
    }
}

/// Where a session stands, read by the writer before it changes it.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) key: i64,
    pub(crate) epoch: u64,
    pub(crate) last_seq: u64,
}

pub(crate) fn head(conn: &Connection, id: SessionId) -> Result<Head, Failure> {
    let mut select = conn.prepare_cached("SELECT key, epoch, last_seq FROM sessions WHERE id = ?1")?;
    let head = select.query_row((id.0.as_bytes(),), |columns| {
        Ok(Head { key: columns.get(0)?, epoch: columns.get(1)?, last_seq: columns.get(2)? })
    });
    Ok(head.optional()?.ok_or(JournalError::UnknownSession(id))?)
}

/// Under a key that is larger than that of any session there ever was.
pub(crate) fn insert(conn: &Connection, epoch: u64, new: &Encoded) -> Result<(), Failure> {
    let mut insert = conn.prepare_cached(
        "INSERT INTO sessions (key, id, epoch, last_seq, last_event_id, run_first_seq, message_count, open, created_at,
             updated_at, status, visibility, run_status, checkpoint_id, model, cwd, title, title_folded)
         VALUES ((SELECT 1 + max(coalesce((SELECT max(key) FROM sessions), 0),
                                  (SELECT value FROM meta WHERE key = 'purged_key'))),
             :id, :epoch, :last_seq, :last_event_id, :run_first_seq, :message_count, :open, :created_at,
             :updated_at, :status, :visibility, :run_status, :checkpoint_id, :model, :cwd, :title, :title_folded)
         ON CONFLICT (id) DO NOTHING",
    )?;
    let session = &new.session;
    let made = insert.execute(named_params! {
        ":id": session.id.0.as_bytes(),
        ":epoch": epoch,
        ":last_seq": session.last_seq,
        ":last_event_id": session.last_event_id.0,
        ":run_first_seq": session.run_first_seq,
        ":message_count": session.message_count,
        ":open": is_open(&session.run_status),
        ":created_at": nanos(session.created_at),
        ":updated_at": nanos(session.updated_at),
        ":status": status_text(session.status),
        ":visibility": visibility_text(session.visibility),
        ":run_status": new.run_status,
        ":checkpoint_id": session.checkpoint_id.as_ref().map(Uuid::as_bytes),
        ":model": session.model,
        ":cwd": session.cwd,
        ":title": session.title,
        ":title_folded": new.title_folded,
    })?;
    if made == 0 { Err(JournalError::SessionExists(session.id).into()) } else { Ok(()) }
}

/// Everything but the id and the time it was made.
pub(crate) fn update(conn: &Connection, key: i64, epoch: u64, changed: &Encoded) -> Result<(), Failure> {
    let mut update = conn.prepare_cached(
        "UPDATE sessions SET epoch = :epoch, last_seq = :last_seq, last_event_id = :last_event_id,
             run_first_seq = :run_first_seq, message_count = :message_count, open = :open, updated_at = :updated_at,
             status = :status, visibility = :visibility, run_status = :run_status, checkpoint_id = :checkpoint_id,
             model = :model, cwd = :cwd, title = :title, title_folded = :title_folded
         WHERE key = :key",
    )?;
    let session = &changed.session;
    update.execute(named_params! {
        ":key": key,
        ":epoch": epoch,
        ":last_seq": session.last_seq,
        ":last_event_id": session.last_event_id.0,
        ":run_first_seq": session.run_first_seq,
        ":message_count": session.message_count,
        ":open": is_open(&session.run_status),
        ":updated_at": nanos(session.updated_at),
        ":status": status_text(session.status),
        ":visibility": visibility_text(session.visibility),
        ":run_status": changed.run_status,
        ":checkpoint_id": session.checkpoint_id.as_ref().map(Uuid::as_bytes),
        ":model": session.model,
        ":cwd": session.cwd,
        ":title": session.title,
        ":title_folded": changed.title_folded,
    })?;
    Ok(())
}

pub(crate) fn find(conn: &Connection, id: SessionId) -> Result<Option<SessionRow>, Failure> {
    let mut select = conn.prepare_cached("SELECT * FROM sessions WHERE id = ?1")?;
    select.query_and_then((id.0.as_bytes(),), decode)?.next().transpose()
}

pub(crate) fn open(conn: &Connection) -> Result<Vec<SessionRow>, Failure> {
    let mut select = conn.prepare_cached("SELECT * FROM sessions WHERE open = 1 ORDER BY key")?;
    let mut rows = select.query(())?;
    let mut sessions = Vec::new();
    while let Some(columns) = rows.next()? {
        sessions.extend(decode_or_tell(columns));
    }
    Ok(sessions)
}

pub(crate) fn upsert_run(conn: &Connection, key: i64, run: RunId, json: &str) -> Result<(), Failure> {
    let mut upsert = conn.prepare_cached(
        "INSERT INTO runs (session, run_id, run) VALUES (?1, ?2, ?3)
         ON CONFLICT (session, run_id) DO UPDATE SET run = excluded.run",
    )?;
    upsert.execute((key, run.0.as_bytes(), json))?;
    Ok(())
}

pub(crate) fn find_run(conn: &Connection, session: SessionId, run: RunId) -> Result<Option<Run>, Failure> {
    let mut select = conn.prepare_cached(
        "SELECT run FROM runs WHERE run_id = ?2 AND session = (SELECT key FROM sessions WHERE id = ?1)",
    )?;
    let json = select.query_row((session.0.as_bytes(), run.0.as_bytes()), |columns| columns.get::<_, String>(0));
    let Some(json) = json.optional()? else { return Ok(None) };
    let run = serde_json::from_str(&json).map_err(|_| JournalError::Damaged { session, seq: 0 })?;
    Ok(Some(run))
}

/// For those who want many: a projection that cannot be read must not take the others with it. It is told in the log.
pub(crate) fn decode_or_tell(columns: &Columns<'_>) -> Option<SessionRow> {
    match decode(columns) {
        Ok(session) => Some(session),
        Err(failure) => {
            let error = JournalError::from(failure);
            tracing::error!(session_id = name(columns), %error, "a session is left out: its projection cannot be read");
            None
        }
    }
}

/// The session's id, or what stands in its place.
pub(crate) fn name(columns: &Columns<'_>) -> String {
    let id = columns.get::<_, [u8; 16]>("id").map(|id| Uuid::from_bytes(id).to_string());
    id.unwrap_or_else(|_| "without a readable id".to_owned())
}

pub(crate) fn decode(columns: &Columns<'_>) -> Result<SessionRow, Failure> {
    let id = SessionId(Uuid::from_bytes(columns.get("id")?));
    let damaged = || JournalError::Damaged { session: id, seq: 0 };
    let run_status: String = columns.get("run_status")?;
    let status: String = columns.get("status")?;
    let visibility: String = columns.get("visibility")?;
    Ok(SessionRow {
        id,
        title: columns.get("title")?,
        cwd: columns.get("cwd")?,
        created_at: time(columns.get("created_at")?),
        updated_at: time(columns.get("updated_at")?),
        run_status: serde_json::from_str(&run_status).map_err(|_| damaged())?,
        status: status_from(&status).ok_or_else(damaged)?,
        visibility: visibility_from(&visibility).ok_or_else(damaged)?,
        model: columns.get("model")?,
        message_count: columns.get("message_count")?,
        last_event_id: EventId(columns.get("last_event_id")?),
        last_seq: columns.get("last_seq")?,
        run_first_seq: columns.get("run_first_seq")?,
        checkpoint_id: columns.get::<_, Option<[u8; 16]>>("checkpoint_id")?.map(Uuid::from_bytes),
    })
}

const fn is_open(run_status: &RunStatus) -> bool {
    match run_status {
        RunStatus::Starting { .. } | RunStatus::Running { .. } => true,
        RunStatus::Idle | RunStatus::Failed { .. } => false,
    }
}

/// Letter by letter, so that a part of a title folds to a part of the folded title.
pub(crate) fn fold(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).collect()
}

pub(crate) const fn status_text(status: SessionStatus) -> &'static str {
    match status {
        SessionStatus::Active => "ACTIVE",
        SessionStatus::Deleted => "DELETED",
    }
}

fn status_from(text: &str) -> Option<SessionStatus> {
    match text {
        "ACTIVE" => Some(SessionStatus::Active),
        "DELETED" => Some(SessionStatus::Deleted),
        _ => None,
    }
}

const fn visibility_text(visibility: Visibility) -> &'static str {
    match visibility {
        Visibility::Private => "PRIVATE",
        Visibility::Public => "PUBLIC",
    }
}

fn visibility_from(text: &str) -> Option<Visibility> {
    match text {
        "PRIVATE" => Some(Visibility::Private),
        "PUBLIC" => Some(Visibility::Public),
        _ => None,
    }
}
