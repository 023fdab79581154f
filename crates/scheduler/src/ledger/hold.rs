//! Schedules that are held: by a person, or because they failed too often in a row. Kept here and not in the file.

use std::collections::HashMap;

use chrono::{DateTime, SubsecRound, Utc};
use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;

use super::{
    Asked, HoldError, Ledger, LedgerError, RunStatus,
    asked::{self, Earlier, Kind},
    record,
};

/// Who holds a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HeldBy {
    /// A person or a program.
    User,
    /// Its failures.
    Failures,
}

/// A schedule does not fire by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hold {
    /// Since when.
    pub since: DateTime<Utc>,
    /// Until when; none: until it is resumed.
    pub until: Option<DateTime<Utc>>,
    /// Who did it.
    pub by: HeldBy,
    /// Why, in words.
    pub note: Option<String>,
}

impl Hold {
    /// Whether it has not run out.
    pub(crate) fn holds(&self, now: DateTime<Utc>) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    /// Whether a fire of `nominal` does not run: it came meanwhile, or would start meanwhile.
    pub(super) fn covers(&self, nominal: Option<DateTime<Utc>>, now: DateTime<Utc>) -> bool {
        let came_meanwhile = nominal.is_some_and(|at| at >= self.since && self.until.is_none_or(|until| at < until));
        came_meanwhile || self.holds(now)
    }
}

impl Ledger {
    /// Holds a schedule: its fires are `skipped(paused)` until then, and are not caught up on. Until when: of the hold that
    /// the same request made before, if it is repeated under its key.
    ///
    /// # Errors
    /// The key was used for something else, or the file cannot be written.
    pub async fn hold(
        &self,
        schedule: &str,
        hold: Hold,
        asked: Option<Asked>,
    ) -> Result<Option<DateTime<Utc>>, HoldError> {
        let schedule = schedule.to_owned();
        // As the file keeps it, so that a repeated request is answered the same.
        let hold = Hold { until: hold.until.map(|until| until.trunc_subsecs(3)), ..hold };
        let held = move |connection: &Connection| -> Result<_, LedgerError> {
            if let Some(asked) = &asked {
                match asked::earlier(connection, &schedule, Kind::Hold, asked)? {
                    Earlier::None => {}
                    Earlier::Same(until) => return Ok(Ok(until)),
                    Earlier::Other => return Ok(Err(HoldError::KeyReused)),
                }
                asked::note(connection, &schedule, Kind::Hold, asked, (hold.until, hold.since))?;
            }
            set(connection, &schedule, &hold)?;
            Ok(Ok(hold.until))
        };
        self.database.write(held).await?
    }

    /// Lets a schedule fire again, from now on. Whether it was held, or had been when the same request came first.
    ///
    /// # Errors
    /// The key was used for something else, or the file cannot be written.
    pub async fn release(&self, schedule: &str, now: DateTime<Utc>, asked: Option<Asked>) -> Result<bool, HoldError> {
        let schedule = schedule.to_owned();
        let released = move |connection: &Connection| -> Result<_, LedgerError> {
            if let Some(asked) = &asked {
                match asked::earlier(connection, &schedule, Kind::Release, asked)? {
                    Earlier::None => {}
                    Earlier::Same(_) => return Ok(Ok(true)),
                    Earlier::Other => return Ok(Err(HoldError::KeyReused)),
                }
            }
            let released = lift(connection, &schedule, now)?;
            if let Some(asked) = asked.as_ref().filter(|_| released) {
                asked::note(connection, &schedule, Kind::Release, asked, (None, now))?;
            }
            Ok(Ok(released))
        };
        self.database.write(released).await?
    }
}

fn lift(connection: &Connection, schedule: &str, now: DateTime<Utc>) -> Result<bool, LedgerError> {
    let released = connection.execute(
        "UPDATE schedule_state SET paused_at = NULL, paused_until = NULL, paused_by = NULL, pause_note = NULL,
                failure_streak = 0, cursor_at = max(cursor_at, ?2)
         WHERE name = ?1 AND paused_at IS NOT NULL",
        params![schedule, now.timestamp_millis()],
    )?;
    // What waited from the time of the hold does not fire either.
    connection.execute(
        "UPDATE runs SET status = 'skipped', reason = 'paused', finished_at = ?2, updated_at = ?2
         WHERE schedule = ?1 AND status = 'pending' AND started_at IS NULL AND source = 'cron'
           AND nominal_at <= ?2 AND ?3",
        params![schedule, now.timestamp_millis(), released > 0],
    )?;
    Ok(released > 0)
}

fn set(connection: &Connection, schedule: &str, hold: &Hold) -> Result<(), LedgerError> {
    let since = hold.since.timestamp_millis();
    let by = match hold.by {
        HeldBy::User => "user",
        HeldBy::Failures => "failures",
    };
    connection.execute(
        "INSERT INTO schedule_state (name, spec_hash, cursor_at, paused_at, paused_until, paused_by, pause_note)
         VALUES (?1, '', ?2, ?2, ?3, ?4, ?5)
         ON CONFLICT (name) DO UPDATE SET paused_at = ?2, paused_until = ?3, paused_by = ?4, pause_note = ?5",
        params![schedule, since, hold.until.map(|until| until.timestamp_millis()), by, hold.note],
    )?;
    Ok(())
}

const COLUMNS: &str = "paused_at, paused_until, paused_by, pause_note";

fn from_row(row: &rusqlite::Row<'_>, first: usize) -> rusqlite::Result<Hold> {
    let by: Option<String> = row.get(first + 2)?;
    Ok(Hold {
        since: record::instant(row.get(first)?).unwrap_or_default(),
        until: record::instant(row.get(first + 1)?),
        by: if by.as_deref() == Some("failures") { HeldBy::Failures } else { HeldBy::User },
        note: row.get(first + 3)?,
    })
}

/// Every schedule that is or was held and not resumed.
pub(super) fn all(connection: &Connection) -> Result<HashMap<String, Hold>, LedgerError> {
    let mut statement = connection
        .prepare_cached(&format!("SELECT name, {COLUMNS} FROM schedule_state WHERE paused_at IS NOT NULL"))?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, from_row(row, 1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn of(connection: &Connection, schedule: &str) -> Result<Option<Hold>, LedgerError> {
    let sql = format!("SELECT {COLUMNS} FROM schedule_state WHERE name = ?1 AND paused_at IS NOT NULL");
    Ok(connection.query_row(&sql, [schedule], |row| from_row(row, 0)).optional()?)
}

/// Counts the outcome of a run; too many failures in a row hold the schedule. If this one did, the note of that.
pub(super) fn count_outcome(
    connection: &Connection,
    schedule: &str,
    status: RunStatus,
    pause_after: u32,
    now: DateTime<Utc>,
) -> Result<Option<String>, LedgerError> {
    let counted = match status {
        RunStatus::Completed => "UPDATE schedule_state SET failure_streak = 0 WHERE name = ?1 RETURNING failure_streak",
        RunStatus::Failed | RunStatus::TimedOut | RunStatus::Unknown => {
            "UPDATE schedule_state SET failure_streak = failure_streak + 1 WHERE name = ?1 RETURNING failure_streak"
        }
        _ => return Ok(None),
    };
    let streak: Option<u32> = connection.query_row(counted, [schedule], |row| row.get(0)).optional()?;
    let Some(streak) = streak.filter(|streak| pause_after > 0 && *streak >= pause_after) else { return Ok(None) };
    if of(connection, schedule)?.is_some_and(|hold| hold.holds(now)) {
        return Ok(None);
    }
    let note = format!("{streak} runs in a row failed");
    set(connection, schedule, &Hold { since: now, until: None, by: HeldBy::Failures, note: Some(note.clone()) })?;
    Ok(Some(note))
}
