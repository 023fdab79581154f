//! How far a run under way has got, and how it ended. Each fact is written before the step that follows from it.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension, params};
use stakpak_protocol::{EventId, RunId, SessionId, StopReason, Usage, Usd};
use uuid::Uuid;

use super::{
    Ledger, LedgerError, Reason, Repeat, RunNumber, RunStatus, attempts, hold, outbox, record::integer, spending,
};
use crate::{
    check::CheckResult,
    spec::{ScheduleSet, ScheduleSpec},
};

/// All output of an agent that is kept.
const STDOUT_CHARACTERS: usize = 100_000;

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Finish {
    pub(crate) status: RunStatus,
    pub(crate) reason: Option<Reason>,
    pub(crate) stop_reason: Option<StopReason>,
    pub(crate) turns: Option<u64>,
    pub(crate) usage: Option<Usage>,
    pub(crate) cost: Option<Usd>,
    pub(crate) checkpoint_id: Option<Uuid>,
    pub(crate) stdout: String,
    pub(crate) message: Option<String>,
    pub(crate) error: Option<String>,
    /// Whether another attempt may follow.
    pub(crate) repeat: Repeat,
    /// How long the server wants to be left alone before that.
    pub(crate) retry_after: Option<Duration>,
    /// The server may still be at it.
    pub(crate) unconfirmed: bool,
    /// What its check did, unless that is known already.
    pub(crate) check: Option<CheckResult>,
}

impl Finish {
    /// Nothing was started on the server.
    pub(crate) fn not_started(status: RunStatus, reason: Option<Reason>, error: String) -> Self {
        Self {
            status,
            reason,
            stop_reason: None,
            turns: None,
            usage: None,
            cost: None,
            checkpoint_id: None,
            stdout: String::new(),
            message: None,
            error: Some(error),
            repeat: Repeat::Never,
            retry_after: None,
            unconfirmed: false,
            check: None,
        }
    }

    /// The check was the end of it.
    pub(crate) fn checked(status: RunStatus, reason: Reason, error: Option<String>, check: CheckResult) -> Self {
        Self { error, check: Some(check), ..Self::not_started(status, Some(reason), String::new()) }
    }
}

impl Ledger {
    /// The message was read from its file; it is sent as it was then, whatever becomes of the file.
    pub(crate) async fn prompt_read(&self, id: RunNumber, prompt: String) -> Result<(), LedgerError> {
        self.update(id, "prompt = ?2", prompt).await
    }

    /// The check says that the agent is wanted, which has to wait for its turn.
    pub(crate) async fn check_passed(
        &self,
        id: RunNumber,
        check: CheckResult,
        now: DateTime<Utc>,
    ) -> Result<(), LedgerError> {
        self.database
            .write(move |connection| {
                store_check(connection, id, &check, now)?;
                connection.execute(
                    "UPDATE runs SET status = 'pending', dispatch_at = min(dispatch_at, ?2), updated_at = ?2
                     WHERE id = ?1 AND status = 'running'",
                    params![id.0, now.timestamp_millis()],
                )?;
                Ok(())
            })
            .await
    }

    /// The chat gateway is asked to start the run from now on.
    pub(crate) async fn handing_over(&self, id: RunNumber, at: DateTime<Utc>) -> Result<(), LedgerError> {
        self.update(id, "way = 'chat', handed_over_at = ?2", at.timestamp_millis()).await
    }

    /// It has refused: the run is started without it.
    pub(crate) async fn gateway_refused(&self, id: RunNumber) -> Result<(), LedgerError> {
        self.update(id, "way = ?2, session_id = NULL", "silent").await
    }

    /// The session exists; the message may be posted now.
    pub(crate) async fn session_created(&self, id: RunNumber, session: SessionId) -> Result<(), LedgerError> {
        self.update(id, "session_id = ?2", session.to_string()).await
    }

    /// The message was accepted.
    pub(crate) async fn run_started(&self, id: RunNumber, run: RunId, cursor: EventId) -> Result<(), LedgerError> {
        self.database
            .write(move |connection| {
                connection.execute(
                    "UPDATE runs SET run_id = ?2, cursor = ?3 WHERE id = ?1",
                    params![id.0, run.to_string(), integer(cursor.0)],
                )?;
                Ok(())
            })
            .await
    }

    /// Events up to here were seen.
    pub(crate) async fn seen(&self, id: RunNumber, cursor: EventId) -> Result<(), LedgerError> {
        self.update(id, "cursor = max(cursor, ?2)", integer(cursor.0)).await
    }

    /// Its time is up; how it ends is told by that, whoever learns of it.
    pub(crate) async fn over_limit(&self, id: RunNumber) -> Result<(), LedgerError> {
        self.update(id, "over_limit = ?2", true).await
    }

    /// Why the run must end, if it must.
    pub(crate) async fn cancel_reason(&self, id: RunNumber) -> Result<Option<Reason>, LedgerError> {
        self.database
            .read(move |connection| {
                let sql = "SELECT cancel_reason FROM runs WHERE id = ?1";
                let reason: Option<Option<Reason>> = connection.query_row(sql, [id.0], |row| row.get(0)).optional()?;
                Ok(reason.flatten())
            })
            .await
    }

    /// Records the end, once: an ended run stays as it is, unless its end was not confirmed. Too many failures in a row hold
    /// the schedule.
    pub(crate) async fn finish(
        &self,
        id: RunNumber,
        finish: Finish,
        (spec, set): (&Arc<ScheduleSpec>, Arc<ScheduleSet>),
        now: DateTime<Utc>,
    ) -> Result<(), LedgerError> {
        let (status, spec) = (finish.status, Arc::clone(spec));
        let ended = self
            .database
            .write(move |connection| {
                let ended = record_end(connection, id, &finish, &spec, now)?;
                spending::alert(connection, &spec, &set, now)?;
                Ok::<_, LedgerError>(ended)
            })
            .await?;
        self.posted.notify_one();
        if let Some(End { schedule, holds }) = ended {
            self.count(&[(schedule.clone(), status)]);
            if holds {
                tracing::warn!(%schedule, "too many failures in a row: the schedule is paused; resume it with: stakpak schedule resume {schedule}");
            }
        }
        Ok(())
    }

    async fn update(
        &self,
        id: RunNumber,
        assignment: &'static str,
        value: impl rusqlite::ToSql + Send + 'static,
    ) -> Result<(), LedgerError> {
        self.database
            .write(move |connection| {
                connection.execute(&format!("UPDATE runs SET {assignment} WHERE id = ?1"), params![id.0, value])?;
                Ok(())
            })
            .await
    }
}

/// What follows from an end.
pub(super) struct End {
    schedule: String,
    /// The schedule fires no more by itself.
    holds: bool,
}

/// None when the run has not ended with this: it had before, or another attempt follows.
pub(super) fn record_end(
    connection: &Connection,
    id: RunNumber,
    finish: &Finish,
    spec: &ScheduleSpec,
    now: DateTime<Utc>,
) -> Result<Option<End>, LedgerError> {
    let sql = "SELECT schedule, status FROM runs
               WHERE id = ?1 AND (status IN ('running', 'paused') OR status = 'unknown' AND unconfirmed = 1)";
    let open: Option<(String, RunStatus)> =
        connection.query_row(sql, [id.0], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let Some((schedule, before)) = open else { return Ok(None) };
    if let Some(check) = &finish.check {
        store_check(connection, id, check, now)?;
    }
    if let Some(usage) = &finish.usage {
        spending::settle(connection, id, (usage, finish.cost), now)?;
    }
    if before == RunStatus::Unknown {
        attempts::correct(connection, id, finish)?;
    } else if attempts::record(connection, id, finish, spec, now)? {
        return Ok(None);
    }
    let usage = finish.usage.as_ref().map(serde_json::to_string).transpose()?;
    let stop_reason = finish.stop_reason.map(serde_json::to_value).transpose()?;
    let stdout: String = finish.stdout.chars().take(STDOUT_CHARACTERS).collect();
    connection.execute(
        "UPDATE runs SET status = ?2, reason = ?3, stop_reason = ?4, turns = ?5, usage_json = ?6,
                checkpoint_id = ?7, agent_stdout = ?8, agent_message = ?9, error = ?10, pause_json = NULL,
                approval_expires_at = NULL,
                finished_at = ?11, updated_at = ?11, unconfirmed = ?12, checking = 0
         WHERE id = ?1",
        params![
            id.0,
            finish.status,
            finish.reason,
            stop_reason.as_ref().and_then(serde_json::Value::as_str),
            finish.turns.map(integer),
            usage,
            finish.checkpoint_id.map(|id| id.to_string()),
            stdout,
            finish.message,
            finish.error,
            now.timestamp_millis(),
            finish.unconfirmed
        ],
    )?;
    outbox::tell(connection, id, spec, now)?;
    // It was counted when it was given up on.
    let note = match before {
        RunStatus::Unknown => None,
        _ => hold::count_outcome(connection, &schedule, finish.status, spec.firing.pause_after_failures, now)?,
    };
    if let Some(note) = &note {
        outbox::tell_schedule_paused(connection, id, note, spec, now)?;
    }
    Ok(Some(End { schedule, holds: note.is_some() }))
}

fn store_check(
    connection: &Connection,
    id: RunNumber,
    check: &CheckResult,
    now: DateTime<Utc>,
) -> Result<(), LedgerError> {
    connection.execute(
        "UPDATE runs SET checking = 0, checked_at = ?2, check_exit_code = ?3, check_signal = ?4, check_timed_out = ?5,
                check_stdout = ?6, check_stderr = ?7, check_truncated = ?8
         WHERE id = ?1",
        params![
            id.0,
            now.timestamp_millis(),
            check.exit_code,
            check.signal,
            check.timed_out,
            check.stdout,
            check.stderr,
            check.truncated
        ],
    )?;
    Ok(())
}
