//! What is to be told in chats: written in the transaction of what happened, delivered by somebody else, later.
//!
//! Invariants: an event of a run is told once, under a key of its own; a row that has ended stays as it is.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use rusqlite::{Connection, OptionalExtension, params};
use serde_json::Value;

use super::{
    Event, Ledger, LedgerError, Notification, NotificationState, Reason, RunNumber, RunRecord, RunStatus, record, run,
};
use crate::{
    notice::{self, Gap, Notice},
    spec::{NotifyMode, Route, ScheduleSpec, shown_route},
};

/// A row to be delivered.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outgoing {
    pub(crate) id: i64,
    pub(crate) event: Event,
    pub(crate) channel: String,
    pub(crate) target: Value,
    pub(crate) key: String,
    pub(crate) notice: Notice,
    /// How often it was sent.
    pub(crate) attempts: u32,
    /// The gateway has it.
    pub(crate) delivery_id: Option<String>,
    pub(crate) created_at: DateTime<Utc>,
}

impl Outgoing {
    /// Where it goes, for people.
    pub(crate) fn route(&self) -> String {
        shown_route(&self.channel, &self.target)
    }
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Attempted {
    /// It has come to its end.
    Ended(NotificationState, Option<String>),
    /// It is tried again.
    Again {
        /// Not before.
        at: DateTime<Utc>,
        /// What the gateway calls it, if it has it.
        delivery_id: Option<String>,
        /// Why it is not there yet.
        error: Option<String>,
    },
}

/// Notifications that did not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct OutboxCounts {
    /// To be delivered.
    pub pending: u64,
    /// Given up within a day.
    pub failed: u64,
}

const COUNTED_FOR: TimeDelta = TimeDelta::hours(24);

impl Ledger {
    /// The oldest of each route that is due, and when the next one will be.
    pub(crate) async fn outgoing(
        &self,
        now: DateTime<Utc>,
    ) -> Result<(Vec<Outgoing>, Option<DateTime<Utc>>), LedgerError> {
        self.database
            .read(move |connection| {
                let mut due = connection.prepare_cached(
                    "SELECT id, event, channel, target_json, idempotency_key, body_json, attempts, delivery_id, created_at
                     FROM outbox WHERE id IN
                       (SELECT min(id) FROM outbox WHERE state = 'pending' AND next_at <= ?1 GROUP BY channel, target_json)
                     ORDER BY id",
                )?;
                let rows = due.query_map([now.timestamp_millis()], from_row)?.collect::<Result<_, _>>()?;
                let sql = "SELECT min(next_at) FROM outbox WHERE state = 'pending' AND next_at > ?1";
                let next = connection.query_row(sql, [now.timestamp_millis()], |row| row.get(0))?;
                Ok((rows, record::instant(next)))
            })
            .await
    }

    /// Notes that a row is about to be sent.
    pub(crate) async fn sending(&self, id: i64) -> Result<(), LedgerError> {
        self.database
            .write(move |connection| {
                connection.execute("UPDATE outbox SET attempts = attempts + 1 WHERE id = ?1", [id])?;
                Ok(())
            })
            .await
    }

    /// Notes what came of an attempt.
    pub(crate) async fn attempted(&self, id: i64, attempted: Attempted, now: DateTime<Utc>) -> Result<(), LedgerError> {
        let ended = match attempted {
            Attempted::Ended(state, _) => Some(state),
            Attempted::Again { .. } => None,
        };
        self.database
            .write(move |connection| match attempted {
                Attempted::Ended(state, error) => {
                    connection.execute(
                        "UPDATE outbox SET state = ?2, last_error = coalesce(?3, iif(?2 = 'delivered', NULL, last_error)), ended_at = ?4
                         WHERE id = ?1 AND state = 'pending'",
                        params![id, state, error, now.timestamp_millis()],
                    )?;
                    Ok::<_, LedgerError>(())
                }
                Attempted::Again { at, delivery_id, error } => {
                    connection.execute(
                        "UPDATE outbox SET next_at = ?2, delivery_id = ?3, last_error = coalesce(?4, last_error)
                         WHERE id = ?1 AND state = 'pending'",
                        params![id, at.timestamp_millis(), delivery_id, error],
                    )?;
                    Ok(())
                }
            })
            .await?;
        if let Some(state) = ended {
            self.deliveries.add("", state.as_str(), 1);
        }
        Ok(())
    }

    /// Tells what concerns no schedule.
    pub(crate) async fn tell_system(
        &self,
        event: Event,
        route: Route,
        notice: Notice,
        now: DateTime<Utc>,
    ) -> Result<(), LedgerError> {
        self.database
            .write(move |connection| {
                let key = format!("notify:{event}:{}", now.timestamp_millis());
                insert(connection, None, event, &route, &key, &notice, now)
            })
            .await?;
        self.posted.notify_one();
        Ok(())
    }

    /// Notifications that did not arrive.
    ///
    /// # Errors
    /// Only of the file.
    pub async fn outbox(&self, now: DateTime<Utc>) -> Result<OutboxCounts, LedgerError> {
        self.database
            .read(move |connection| {
                let pending = "SELECT count(*) FROM outbox WHERE state = 'pending'";
                let failed = "SELECT count(*) FROM outbox WHERE state IN ('failed', 'expired') AND ended_at > ?1";
                let since = (now - COUNTED_FOR).timestamp_millis();
                Ok(OutboxCounts {
                    pending: connection.query_row(pending, [], |row| row.get(0).map(record::natural))?,
                    failed: connection.query_row(failed, [since], |row| row.get(0).map(record::natural))?,
                })
            })
            .await
    }

    /// Notifications that came to an end while this process lived, by state.
    pub(crate) fn delivered(&self) -> BTreeMap<&'static str, u64> {
        self.deliveries.read().into_iter().map(|((_, state), count)| (state, count)).collect()
    }
}

/// Tells what the row says now, where its schedule wants that told.
pub(super) fn tell(
    connection: &Connection,
    id: RunNumber,
    spec: &ScheduleSpec,
    now: DateTime<Utc>,
) -> Result<(), LedgerError> {
    if spec.notify.route().is_none() {
        return Ok(());
    }
    let Some(run) = run(connection, id)? else { return Ok(()) };
    let Some(event) = event_of(connection, &run, spec)? else { return Ok(()) };
    if event == Event::Completed && took_place_in_chat(connection, id)? {
        return Ok(());
    }
    tell_event(connection, event, &run, spec, now)
}

/// Tells that the agent is at work.
pub(super) fn tell_started(
    connection: &Connection,
    id: RunNumber,
    spec: &ScheduleSpec,
    now: DateTime<Utc>,
) -> Result<(), LedgerError> {
    if spec.notify.route_of(Event::Started).is_none() {
        return Ok(());
    }
    let Some(run) = run(connection, id)? else { return Ok(()) };
    tell_event(connection, Event::Started, &run, spec, now)
}

fn tell_event(
    connection: &Connection,
    event: Event,
    run: &RunRecord,
    spec: &ScheduleSpec,
    now: DateTime<Utc>,
) -> Result<(), LedgerError> {
    let Some(route) = spec.notify.route_of(event) else { return Ok(()) };
    let key = key(connection, run.id, event)?;
    insert(connection, Some(run.id), event, &route, &key, &notice::of_run(event, run, spec), now)
}

/// Tells of instants that nobody could run; the row `id` is the newest of them.
pub(super) fn tell_missed(
    connection: &Connection,
    id: RunNumber,
    gap: Gap,
    spec: &ScheduleSpec,
    now: DateTime<Utc>,
) -> Result<(), LedgerError> {
    let Some(route) = spec.notify.route_of(Event::Missed) else { return Ok(()) };
    let Some(run) = run(connection, id)? else { return Ok(()) };
    if run.status != RunStatus::Missed || is_repeat(connection, Event::Missed, &run, spec)? {
        return Ok(());
    }
    let key = key(connection, id, Event::Missed)?;
    insert(connection, Some(id), Event::Missed, &route, &key, &notice::of_gap(gap, &run, spec), now)
}

/// Tells that the schedule fires no more since the run.
pub(super) fn tell_schedule_paused(
    connection: &Connection,
    id: RunNumber,
    note: &str,
    spec: &ScheduleSpec,
    now: DateTime<Utc>,
) -> Result<(), LedgerError> {
    let Some(route) = spec.notify.route_of(Event::SchedulePaused) else { return Ok(()) };
    let Some(run) = run(connection, id)? else { return Ok(()) };
    let key = key(connection, id, Event::SchedulePaused)?;
    insert(connection, Some(id), Event::SchedulePaused, &route, &key, &notice::of_pause(&spec.name, note, &run), now)
}

/// What the state of a run is called; none when nobody is told of it.
fn event_of(connection: &Connection, run: &RunRecord, spec: &ScheduleSpec) -> Result<Option<Event>, LedgerError> {
    let event = match run.status {
        RunStatus::Completed if is_recovery(connection, run, spec)? => Event::Recovered,
        RunStatus::Completed => Event::Completed,
        RunStatus::Failed => Event::Failed,
        RunStatus::TimedOut => Event::TimedOut,
        RunStatus::Unknown => Event::Unknown,
        RunStatus::Skipped => Event::Skipped,
        RunStatus::Paused => Event::Paused,
        // Who did it knows.
        RunStatus::Cancelled if run.reason == Some(Reason::User) => return Ok(None),
        RunStatus::Cancelled => Event::Cancelled,
        // Told together with the others of their gap.
        RunStatus::Missed | RunStatus::Pending | RunStatus::Running => return Ok(None),
    };
    let is_outcome = !matches!(event, Event::Paused | Event::Skipped);
    let repeats = is_outcome && is_repeat(connection, event, run, spec)?;
    Ok(Some(event).filter(|_| !repeats))
}

/// Whether the chat has the answer itself.
fn took_place_in_chat(connection: &Connection, id: RunNumber) -> Result<bool, LedgerError> {
    let sql = "SELECT coalesce(way = 'chat', 0) AND session_id IS NOT NULL FROM runs WHERE id = ?1";
    Ok(connection.query_row(sql, [id.0], |row| row.get(0))?)
}

/// A schedule that tells changes only does not tell the same outcome twice in a row. That a check saw nothing to do is an
/// outcome, too.
fn is_repeat(connection: &Connection, event: Event, run: &RunRecord, spec: &ScheduleSpec) -> Result<bool, LedgerError> {
    if spec.notify.mode == NotifyMode::Every {
        return Ok(false);
    }
    let sql = "SELECT status FROM runs WHERE schedule = ?1 AND id < ?2
               AND (status IN ('completed', 'failed', 'timed_out', 'unknown', 'missed', 'cancelled')
                    OR status = 'skipped' AND reason = 'check')
               ORDER BY id DESC LIMIT 1";
    Ok(previous(connection, sql, run)?.is_some_and(|status| status.as_str() == event.as_str()))
}

/// Whether the run before did not complete.
fn is_recovery(connection: &Connection, run: &RunRecord, spec: &ScheduleSpec) -> Result<bool, LedgerError> {
    if !spec.notify.on.wants(Event::Recovered) {
        return Ok(false);
    }
    let sql = "SELECT status FROM runs WHERE schedule = ?1 AND id < ?2
               AND status IN ('completed', 'failed', 'timed_out', 'unknown') ORDER BY id DESC LIMIT 1";
    Ok(previous(connection, sql, run)?.is_some_and(|status| status != RunStatus::Completed))
}

fn previous(connection: &Connection, sql: &str, run: &RunRecord) -> Result<Option<RunStatus>, LedgerError> {
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.query_row(params![run.schedule, run.id.0], |row| row.get(0)).optional()?)
}

/// A run may wait for a person more than once; all else happens to it once.
fn key(connection: &Connection, id: RunNumber, event: Event) -> Result<String, LedgerError> {
    let sql = "SELECT count(*) FROM outbox WHERE run_id = ?1 AND event = ?2";
    let told: u64 = connection.query_row(sql, params![id.0, event], |row| row.get(0).map(record::natural))?;
    Ok(match told {
        times @ 1.. if event == Event::Paused => format!("notify:{id}:{event}:{}", times + 1),
        _ => format!("notify:{id}:{event}"),
    })
}

pub(super) fn insert(
    connection: &Connection,
    run: Option<RunNumber>,
    event: Event,
    route: &Route,
    key: &str,
    notice: &Notice,
    now: DateTime<Utc>,
) -> Result<(), LedgerError> {
    connection.execute(
        "INSERT INTO outbox (run_id, event, channel, target_json, idempotency_key, body_json, state, next_at, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'pending', ?7, ?7) ON CONFLICT (idempotency_key) DO NOTHING",
        params![
            run.map(|run| run.0),
            event,
            route.channel.as_str(),
            route.target.to_string(),
            key,
            serde_json::to_string(notice)?,
            now.timestamp_millis()
        ],
    )?;
    Ok(())
}

fn from_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Outgoing> {
    let body: Option<Notice> = record::json(row.get(5)?);
    Ok(Outgoing {
        id: row.get(0)?,
        event: row.get(1)?,
        channel: row.get(2)?,
        target: record::json(row.get(3)?).unwrap_or_default(),
        key: row.get(4)?,
        notice: body.unwrap_or_else(Notice::unreadable),
        attempts: row.get(6)?,
        delivery_id: row.get(7)?,
        created_at: record::instant(row.get(8)?).unwrap_or_default(),
    })
}

/// Puts to each run what was told about it.
pub(super) fn attach(connection: &Connection, runs: &mut [RunRecord]) -> Result<(), LedgerError> {
    if runs.is_empty() {
        return Ok(());
    }
    let mut statement = connection.prepare_cached(
        "SELECT run_id, event, channel, target_json, state, attempts, last_error, ended_at
         FROM outbox WHERE run_id IN (SELECT value FROM json_each(?1)) ORDER BY id",
    )?;
    let ids = serde_json::to_string(&runs.iter().map(|run| run.id).collect::<Vec<_>>())?;
    let rows = statement.query_map([ids], |row| {
        let (run, channel): (i64, String) = (row.get(0)?, row.get(2)?);
        let (target, state) = (record::json(row.get(3)?).unwrap_or_default(), row.get(4)?);
        let notification = Notification {
            event: row.get(1)?,
            route: shown_route(&channel, &target),
            state,
            attempts: row.get(5)?,
            last_error: row.get(6)?,
            delivered_at: record::instant(row.get(7)?).filter(|_| state == NotificationState::Delivered),
        };
        Ok((run, notification))
    })?;
    let mut told: HashMap<i64, Vec<Notification>> = HashMap::new();
    for row in rows {
        let (run, notification) = row?;
        told.entry(run).or_default().push(notification);
    }
    for run in runs {
        run.notifications = told.remove(&run.id.0).unwrap_or_default();
    }
    Ok(())
}
