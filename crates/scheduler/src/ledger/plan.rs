//! Planning: rows for due instants and the cursors that say what was accounted for, in one transaction.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use rusqlite::{Connection, OptionalExtension, params};

use super::{Ledger, LedgerError, Reason, RunNumber, RunStatus, Source, outbox, record};
use crate::{due::Due, fire::FireKey, notice::Gap, spec::ScheduleSpec};

/// A schedule whose instants are tracked.
#[derive(Debug, Clone)]
pub(crate) struct Tracked {
    pub(crate) name: String,
    /// Hash of all that decides its instants: cron, zone, enabled.
    pub(crate) timing: String,
    /// Its instant, if it has one only.
    pub(crate) only_instant: Option<DateTime<Utc>>,
}

/// What a schedule owes, to be written down.
#[derive(Debug, Clone)]
pub(crate) struct Planned {
    pub(crate) spec: Arc<ScheduleSpec>,
    /// Its fires are spread over this time.
    pub(crate) jitter: TimeDelta,
    pub(crate) due: Due,
}

/// Stored for a name that is no longer in the file, so that coming back counts as a change.
const ABSENT: &str = "";

impl Ledger {
    /// Takes note of the schedules of a file and returns their cursors, in the same order. The cursor of a schedule that is
    /// new, was away, or whose timing changed, moves up to `now`. `kept` names entries that are in the file but cannot be
    /// tracked at present; their cursors stay. `None`: its only instant had passed when it was first seen, so that it is
    /// not tracked.
    pub(crate) async fn track(
        &self,
        schedules: Vec<Tracked>,
        kept: Vec<String>,
        now: DateTime<Utc>,
    ) -> Result<Vec<Option<DateTime<Utc>>>, LedgerError> {
        self.database
            .write(move |connection| {
                let known: Vec<String> = connection
                    .prepare_cached("SELECT name FROM schedule_state WHERE spec_hash <> ''")?
                    .query_map([], |row| row.get(0))?
                    .collect::<Result<_, _>>()?;
                let present: std::collections::HashSet<&str> = schedules
                    .iter()
                    .map(|schedule| schedule.name.as_str())
                    .chain(kept.iter().map(String::as_str))
                    .collect();
                for name in known.iter().filter(|name| !present.contains(name.as_str())) {
                    connection
                        .execute("UPDATE schedule_state SET spec_hash = ?2 WHERE name = ?1", params![name, ABSENT])?;
                }
                schedules.iter().map(|schedule| cursor_of(connection, schedule, now)).collect()
            })
            .await
    }

    /// Writes a row for every due instant and moves the cursors. An instant that has a row already keeps it.
    pub(crate) async fn plan(&self, planned: Vec<Planned>, now: DateTime<Utc>) -> Result<(), LedgerError> {
        let missed: Vec<(String, u64)> =
            planned.iter().map(|planned| (planned.spec.name.clone(), planned.due.missed())).collect();
        self.database
            .write(move |connection| {
                for planned in &planned {
                    record_due(connection, planned, now)?;
                }
                beat(connection, now)
            })
            .await?;
        if missed.iter().any(|(_, count)| *count > 0) {
            self.posted.notify_one();
        }
        for (schedule, count) in missed {
            self.ended.add(&schedule, RunStatus::Missed.as_str(), count);
        }
        Ok(())
    }

    /// Notes that the planning loop is alive, durably: so it also tells whether the ledger can be written.
    pub(crate) async fn beat(&self, now: DateTime<Utc>) -> Result<(), LedgerError> {
        self.database.write(move |connection| beat(connection, now)).await
    }

    /// Notes the start of a scheduler.
    pub(crate) async fn started(&self, boot_id: String, now: DateTime<Utc>) -> Result<(), LedgerError> {
        self.database
            .write(move |connection| {
                connection.prepare_cached(
                    "INSERT INTO scheduler_state (id, boot_id, pid, started_at, heartbeat_at) VALUES (1, ?1, ?2, ?3, ?3)
                     ON CONFLICT (id) DO UPDATE SET boot_id = ?1, pid = ?2, started_at = ?3, heartbeat_at = ?3",
)?.execute(params![boot_id, std::process::id(), now.timestamp_millis()],
                )?;
                Ok(())
            })
            .await
    }
}

fn beat(connection: &Connection, now: DateTime<Utc>) -> Result<(), LedgerError> {
    connection.execute("UPDATE scheduler_state SET heartbeat_at = ?1", [now.timestamp_millis()])?;
    Ok(())
}

fn cursor_of(
    connection: &Connection,
    schedule: &Tracked,
    now: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>, LedgerError> {
    let stored: Option<(String, i64)> = connection
        .prepare_cached("SELECT spec_hash, cursor_at FROM schedule_state WHERE name = ?1")?
        .query_row([&schedule.name], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let cursor = match stored {
        Some((timing, cursor)) if timing == schedule.timing => return Ok(record::instant(Some(cursor))),
        _ if schedule.only_instant.is_some_and(|at| at <= now) => return Ok(None),
        Some((_, cursor)) => cursor.max(now.timestamp_millis()),
        None => now.timestamp_millis(),
    };
    let sql = "INSERT INTO schedule_state (name, spec_hash, cursor_at) VALUES (?1, ?2, ?3)
               ON CONFLICT (name) DO UPDATE SET spec_hash = ?2, cursor_at = ?3";
    connection.prepare_cached(sql)?.execute(params![schedule.name, schedule.timing, cursor])?;
    Ok(record::instant(Some(cursor)))
}

fn record_due(connection: &Connection, planned: &Planned, now: DateTime<Utc>) -> Result<(), LedgerError> {
    let Planned { spec, jitter, due } = planned;
    let schedule = &spec.name;
    let mut newest = None;
    for (instant, reason) in &due.missed {
        let key = FireKey::nominal(schedule, *instant);
        insert_missed(connection, schedule, *instant, &key, *reason, now)?;
        newest = Some((key, *instant));
    }
    if let Some((key, to)) = newest {
        let sql = "SELECT id FROM runs WHERE fire_key = ?1";
        let id = connection.query_row(sql, [key.as_str()], |row| row.get(0).map(RunNumber))?;
        let first = due.range.map(|range| range.from).or_else(|| due.missed.first().map(|(instant, _)| *instant));
        let gap = Gap { from: first.unwrap_or(to), to, count: due.missed() };
        outbox::tell_missed(connection, id, gap, spec, now)?;
    }
    for fire in &due.fires {
        let key = FireKey::nominal(schedule, fire.nominal);
        // One fire does not overtake the next.
        let gap = fire.next.map_or(TimeDelta::MAX, |next| next - fire.nominal - TimeDelta::milliseconds(1));
        let dispatch_at = fire.nominal + key.jitter((*jitter).min(gap));
        insert(connection, schedule, Source::Cron, Some(fire.nominal), &key, (now, dispatch_at))?;
    }
    if let Some(range) = due.range {
        connection
            .prepare_cached(
                "INSERT INTO missed_ranges (schedule, from_at, to_at, count, reason) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![
                schedule,
                range.from.timestamp_millis(),
                range.to.timestamp_millis(),
                record::integer(range.count),
                range.reason
            ])?;
    }
    connection
        .prepare_cached("UPDATE schedule_state SET cursor_at = max(cursor_at, ?2) WHERE name = ?1")?
        .execute(params![schedule, due.cursor.timestamp_millis()])?;
    Ok(())
}

/// A pending row; if the key has a row already, that one.
pub(super) fn insert(
    connection: &Connection,
    schedule: &str,
    source: Source,
    nominal_at: Option<DateTime<Utc>>,
    key: &FireKey,
    (now, dispatch_at): (DateTime<Utc>, DateTime<Utc>),
) -> Result<RunNumber, LedgerError> {
    connection
        .prepare_cached(
            "INSERT INTO runs (schedule, source, nominal_at, fire_key, status, planned_at, dispatch_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?6) ON CONFLICT (fire_key) DO NOTHING",
        )?
        .execute(params![
            schedule,
            source,
            nominal_at.map(|instant| instant.timestamp_millis()),
            key.as_str(),
            RunStatus::Pending,
            now.timestamp_millis(),
            dispatch_at.timestamp_millis()
        ])?;
    let id = connection.query_row("SELECT id FROM runs WHERE fire_key = ?1", [key.as_str()], |row| row.get(0))?;
    Ok(RunNumber(id))
}

fn insert_missed(
    connection: &Connection,
    schedule: &str,
    instant: DateTime<Utc>,
    key: &FireKey,
    reason: Reason,
    now: DateTime<Utc>,
) -> Result<(), LedgerError> {
    connection.prepare_cached(
        "INSERT INTO runs (schedule, source, nominal_at, fire_key, status, reason, planned_at, dispatch_at, finished_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?3, ?7, ?7) ON CONFLICT (fire_key) DO NOTHING",
)?.execute(params![
            schedule,
            Source::Cron,
            instant.timestamp_millis(),
            key.as_str(),
            RunStatus::Missed,
            reason,
            now.timestamp_millis()
        ],
    )?;
    Ok(())
}
