//! How far a run under way has got, and how it ended. Each fact is written before the step that follows from it.

use chrono::{DateTime, Utc};
use rusqlite::{OptionalExtension, params};
use stakpak_protocol::{EventId, RunId, SessionId, StopReason, Usage};
use uuid::Uuid;

use super::{Ledger, LedgerError, Reason, RunNumber, RunStatus, record::integer};

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
    pub(crate) checkpoint_id: Option<Uuid>,
    pub(crate) stdout: String,
    pub(crate) message: Option<String>,
    pub(crate) error: Option<String>,
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
            checkpoint_id: None,
            stdout: String::new(),
            message: None,
            error: Some(error),
        }
    }
}

impl Ledger {
    /// The message was read from its file; it is sent as it was then, whatever becomes of the file.
    pub(crate) async fn prompt_read(&self, id: RunNumber, prompt: String) -> Result<(), LedgerError> {
        self.update(id, "prompt = ?2", prompt).await
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

    /// The run waits for a person.
    pub(crate) async fn paused(&self, id: RunNumber, calls: String, now: DateTime<Utc>) -> Result<(), LedgerError> {
        self.database
            .write(move |connection| {
                connection.execute(
                    "UPDATE runs SET status = 'paused', pause_json = ?2, paused_at = coalesce(paused_at, ?3), updated_at = ?3
                     WHERE id = ?1 AND status IN ('running', 'paused')",
                    params![id.0, calls, now.timestamp_millis()],
                )?;
                Ok(())
            })
            .await
    }

    /// The run goes on; the wait does not count against its time limit.
    pub(crate) async fn resumed(&self, id: RunNumber, now: DateTime<Utc>) -> Result<(), LedgerError> {
        self.database
            .write(move |connection| {
                connection.execute(
                    "UPDATE runs SET status = 'running', pause_json = NULL, paused_at = NULL,
                            waited_ms = waited_ms + max(0, ?2 - paused_at), updated_at = ?2
                     WHERE id = ?1 AND status = 'paused'",
                    params![id.0, now.timestamp_millis()],
                )?;
                Ok(())
            })
            .await
    }

    /// Records the end, once: an ended run stays as it is.
    pub(crate) async fn finish(&self, id: RunNumber, finish: Finish, now: DateTime<Utc>) -> Result<(), LedgerError> {
        let usage = finish.usage.as_ref().map(serde_json::to_string).transpose()?;
        let stop_reason = finish.stop_reason.map(serde_json::to_value).transpose()?;
        let stdout: String = finish.stdout.chars().take(STDOUT_CHARACTERS).collect();
        let status = finish.status;
        let ended: Option<String> = self
            .database
            .write(move |connection| {
                let schedule = connection.query_row(
                    "UPDATE runs SET status = ?2, reason = ?3, stop_reason = ?4, turns = ?5, usage_json = ?6,
                            checkpoint_id = ?7, agent_stdout = ?8, agent_message = ?9, error = ?10, pause_json = NULL,
                            finished_at = ?11, updated_at = ?11
                     WHERE id = ?1 AND status IN ('running', 'paused') RETURNING schedule",
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
                        now.timestamp_millis()
                    ],
                    |row| row.get(0),
                );
                Ok::<_, LedgerError>(schedule.optional()?)
            })
            .await?;
        if let Some(schedule) = ended {
            self.ended.add(&schedule, status, 1);
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
