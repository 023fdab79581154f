//! Runs of 0.3.x, which kept them in the same file: copied once into the history.
//!
//! Invariants: the tables of 0.3.x are only read (migrating had copied the file before); a run keeps its number; what had not
//! ended, here or there, is `unknown` and stands in nobody's way; what had been triggered and not begun is not run.

use chrono::{DateTime, NaiveDateTime, Utc};
use rusqlite::{Connection, Row, Transaction, TransactionBehavior, params, types::Value};

use super::{RunStatus, Source};

/// Their table of runs.
const TABLE: &str = "trigger_runs";

/// Integers from here on are milliseconds, smaller ones seconds.
const MILLIS_FROM: i64 = 100_000_000_000;

/// Characters kept of a text.
const LONGEST_TEXT: usize = 100_000;

/// What is copied, and the columns it may be in: minor versions of 0.3.x differ, so what is not there is left out.
const COLUMNS: [&[&str]; 14] = [
    &["id"],
    &["schedule_name", "trigger_name", "schedule", "name"],
    &["status"],
    &["started_at", "triggered_at", "created_at"],
    &["finished_at", "ended_at", "completed_at"],
    &["agent_session_id", "session_id"],
    &["agent_last_checkpoint_id", "agent_checkpoint_id", "checkpoint_id"],
    &["error_message", "error"],
    &["agent_message"],
    &["agent_stdout", "stdout"],
    &["check_exit_code"],
    &["check_timed_out"],
    &["check_stdout"],
    &["check_stderr"],
];

/// Copies them, unless that was done. All or nothing.
pub(super) fn import(connection: &Connection) -> rusqlite::Result<()> {
    if !is_wanted(connection)? {
        return Ok(());
    }
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    // Another process may have been faster while this one waited for the lock.
    if !is_wanted(&transaction)? {
        return Ok(());
    }
    let runs = copy(&transaction, Utc::now())?;
    transaction.execute("INSERT INTO earlier_import (id, runs) VALUES (1, ?1)", [runs])?;
    transaction.commit()?;
    tracing::info!(runs, "the runs of 0.3.x are in the history");
    Ok(())
}

fn is_wanted(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1)
                AND NOT EXISTS (SELECT 1 FROM earlier_import)",
        [TABLE],
        |row| row.get(0),
    )
}

/// How many there were.
fn copy(connection: &Connection, now: DateTime<Utc>) -> rusqlite::Result<i64> {
    let mut insert = connection.prepare(
        "INSERT OR IGNORE INTO runs (id, schedule, source, fire_key, status, planned_at, dispatch_at, started_at,
                finished_at, updated_at, session_id, checkpoint_id, error, agent_message, agent_stdout, checked_at,
                check_exit_code, check_timed_out, check_stdout, check_stderr)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?6, ?7, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)",
    )?;
    let mut select = connection.prepare(&selection(connection)?)?;
    let mut rows = select.query([])?;
    let mut count = 0;
    while let Some(row) = rows.next()? {
        let Some(id) = row.get::<_, Option<i64>>(0)? else { continue };
        let started = instant(row.get(3)?).unwrap_or_else(|| now.timestamp_millis());
        let finished = instant(row.get(4)?);
        let status = status(text(row, 2)?.as_deref());
        let error =
            text(row, 7)?.or_else(|| (status == RunStatus::Unknown).then(|| "it had not ended in 0.3.x".into()));
        let check_exit_code = integer(row, 10)?;
        let timed_out = integer(row, 11)?.unwrap_or_default() != 0;
        let checked_at = (check_exit_code.is_some() || timed_out).then_some(started);
        count += insert.execute(params![
            id,
            text(row, 1)?.unwrap_or_default(),
            Source::Cron,
            format!("0.3:{id}"),
            status,
            started,
            finished.unwrap_or(started),
            text(row, 5)?,
            text(row, 6)?,
            error,
            text(row, 8)?,
            text(row, 9)?,
            checked_at,
            check_exit_code,
            timed_out,
            text(row, 12)?,
            text(row, 13)?,
        ])?;
    }
    Ok(i64::try_from(count).unwrap_or(i64::MAX))
}

/// What there is of [`COLUMNS`], in their order.
fn selection(connection: &Connection) -> rusqlite::Result<String> {
    let present: Vec<String> = connection
        .prepare("SELECT name FROM pragma_table_info(?1)")?
        .query_map([TABLE], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let is_there = |name: &&&str| present.iter().any(|found| found == **name);
    let columns: Vec<_> =
        COLUMNS.iter().map(|names| names.iter().find(is_there).map_or("NULL", |name| *name)).collect();
    Ok(format!("SELECT {} FROM {TABLE}", columns.join(", ")))
}

/// A run that waits for a person cannot be resumed here: its session is not in our journal.
fn status(word: Option<&str>) -> RunStatus {
    match word.and_then(|word| word.parse().ok()) {
        None | Some(RunStatus::Pending | RunStatus::Running | RunStatus::Paused) => RunStatus::Unknown,
        Some(ended) => ended,
    }
}

/// Whatever the column holds, as text that is not too long.
fn text(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<String>> {
    let text = match row.get(index)? {
        Value::Null => return Ok(None),
        Value::Text(text) => text,
        Value::Integer(number) => number.to_string(),
        Value::Real(number) => number.to_string(),
        Value::Blob(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
    };
    Ok(Some(text.chars().take(LONGEST_TEXT).collect()))
}

fn integer(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<i64>> {
    Ok(match row.get(index)? {
        Value::Integer(number) => Some(number),
        Value::Text(text) => text.parse().ok(),
        Value::Null | Value::Real(_) | Value::Blob(_) => None,
    })
}

/// Unix milliseconds, from any way to write an instant; without a zone it is UTC.
fn instant(value: Value) -> Option<i64> {
    let text = match value {
        Value::Integer(number) if number >= MILLIS_FROM => return Some(number),
        Value::Integer(number) => return number.checked_mul(1000),
        Value::Text(text) => text,
        Value::Null | Value::Real(_) | Value::Blob(_) => return None,
    };
    let zoned = DateTime::parse_from_rfc3339(&text).ok().map(|instant| instant.to_utc());
    let plain = |format| NaiveDateTime::parse_from_str(&text, format).ok().map(|instant| instant.and_utc());
    let instant = zoned.or_else(|| plain("%Y-%m-%d %H:%M:%S%.f")).or_else(|| plain("%Y-%m-%dT%H:%M:%S%.f"));
    instant.map(|instant| instant.timestamp_millis())
}
