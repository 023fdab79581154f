//! What the ledger tells about a run, and the words it is told in.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use serde::{Deserialize, Serialize};
use stakpak_protocol::{RunId, SessionId, StopReason, Usage, Usd};
use uuid::Uuid;

use super::{Attempt, Decided};
use crate::check::CheckResult;

/// A word that is none of those there are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected one of {allowed}")]
pub struct UnknownWord {
    allowed: String,
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $text)] $variant,)*
        }

        impl $name {
            /// The word in the ledger, in JSON and in tables.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($text => Ok(Self::$variant),)*
                    _ => Err(UnknownWord { allowed: [$($text),*].join(", ") }),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl ToSql for $name {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                Ok(self.as_str().into())
            }
        }

        impl FromSql for $name {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                value.as_str()?.parse().map_err(|_| FromSqlError::InvalidType)
            }
        }
    };
}

words!(
    /// Where a run stands. The last seven never change again, except `unknown`.
    RunStatus {
        /// Planned, not started.
        Pending = "pending",
        /// Handed to the server, not known to have ended.
        Running = "running",
        /// A call waits for a person.
        Paused = "paused",
        /// The agent ended by itself.
        Completed = "completed",
        /// See the reason.
        Failed = "failed",
        /// Cancelled at its time limit.
        TimedOut = "timed_out",
        /// Ended by request.
        Cancelled = "cancelled",
        /// Not run; see the reason.
        Skipped = "skipped",
        /// Its instant passed while nobody could run it.
        Missed = "missed",
        /// The server does not know it, or did not confirm its end.
        Unknown = "unknown",
    }
);

words!(
    /// Why a run ended so.
    Reason {
        /// Another run of the schedule was active.
        Overlap = "overlap",
        /// As many wait as may.
        QueueFull = "queue_full",
        /// The active run should have made way, and its end was not confirmed.
        OverlapCancelFailed = "overlap_cancel_failed",
        /// A day's budget is used up.
        Budget = "budget",
        /// The schedule is held.
        Paused = "paused",
        /// The schedule is disabled, or its entry has errors.
        Disabled = "disabled",
        /// The schedule is no longer in the file.
        Removed = "removed",
        /// Late, and the policy fires only the newest instant.
        Policy = "policy",
        /// Later than the catch-up window allows.
        Window = "window",
        /// Late, and as many newer ones fire as may.
        Limit = "limit",
        /// The check said that the agent is not wanted.
        Check = "check",
        /// The check could not be run.
        CheckError = "check_error",
        /// The check was ended at its time limit.
        CheckTimeout = "check_timeout",
        /// The agent run ended in an error.
        AgentError = "agent_error",
        /// The agent run used up its turns.
        MaxTurns = "max_turns",
        /// The server refused the request.
        ServerRejected = "server_rejected",
        /// The server does not know the profile.
        ProfileInvalid = "profile_invalid",
        /// The server does not know the model.
        ModelUnavailable = "model_unavailable",
        /// The schedule must be isolated and the server has no isolation.
        SandboxUnavailable = "sandbox_unavailable",
        /// The chat gateway did not answer in time.
        GatewayUnreachable = "gateway_unreachable",
        /// Nobody decided in time, and the run came to nothing without.
        ApprovalExpired = "approval_expired",
        /// It has used more than it may.
        BudgetExceeded = "budget_exceeded",
        /// It has a limit in dollars, and what its model costs is not known.
        PriceUnknown = "price_unknown",
        /// Recovered three times already, or not to be recovered at all.
        CrashLimit = "crash_limit",
        /// By a person, or by another program.
        User = "user",
        /// It made way for a newer run of the schedule.
        Superseded = "superseded",
    }
);

words!(
    /// What made a run.
    Source {
        /// A nominal instant.
        Cron = "cron",
        /// A person or a program.
        Manual = "manual",
        /// A nominal instant that a person or a program asked for afterwards.
        Backfill = "backfill",
    }
);

words!(
    /// Something that may be told in a chat.
    Event {
        /// The agent is at work.
        Started = "started",
        /// A run completed.
        Completed = "completed",
        /// The first that completed after one that did not.
        Recovered = "recovered",
        /// A run failed.
        Failed = "failed",
        /// A run was ended at its time limit.
        TimedOut = "timed_out",
        /// What became of a run cannot be found out.
        Unknown = "unknown",
        /// Instants passed while nobody could run them.
        Missed = "missed",
        /// A run was ended, and not by a person.
        Cancelled = "cancelled",
        /// An instant was not run.
        Skipped = "skipped",
        /// A run waits for a person.
        Paused = "paused",
        /// A schedule failed too often and fires no more.
        SchedulePaused = "schedule_paused",
        /// A budget is used up, or nearly.
        Budget = "budget",
        /// `autopilot.toml` has changed and cannot be used.
        ConfigInvalid = "config_invalid",
        /// Schedules do not fire as they should.
        SchedulerDegraded = "scheduler_degraded",
    }
);

words!(
    /// Where a notification stands.
    NotificationState {
        /// It is to be delivered.
        Pending = "pending",
        /// The chat has it.
        Delivered = "delivered",
        /// It was refused, and is not tried again.
        Failed = "failed",
        /// It could not be delivered in time.
        Expired = "expired",
    }
);

/// What was told about a run, or is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Notification {
    /// What happened.
    pub event: Event,
    /// Where it is told, such as `telegram:42`.
    pub route: String,
    /// Where it stands.
    pub state: NotificationState,
    /// How often it was sent.
    pub attempts: u32,
    /// Why it is not there, or was not at the last attempt.
    pub last_error: Option<String>,
    /// Since when the chat has it.
    pub delivered_at: Option<DateTime<Utc>>,
}

/// Number of a run: its row in the ledger. Grows with each run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct RunNumber(pub i64);

impl fmt::Display for RunNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One run as history shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunRecord {
    /// Its number.
    pub id: RunNumber,
    /// Name of the schedule.
    #[serde(rename = "schedule_name")]
    pub schedule: String,
    /// What made it.
    pub source: Source,
    /// The instant it stands for; none for a manual trigger.
    pub nominal_at: Option<DateTime<Utc>>,
    /// Unique; the `Idempotency-Key` of the agent run.
    pub fire_key: String,
    /// Where it stands.
    pub status: RunStatus,
    /// Why it ended so.
    pub reason: Option<Reason>,
    /// The active run that an `overlap` refers to.
    pub blocking_run: Option<RunNumber>,
    /// Profile it was started with.
    pub profile: Option<String>,
    /// Model it was started with, if one was named.
    pub model: Option<String>,
    /// When the row was written.
    pub planned_at: DateTime<Utc>,
    /// When it was handed to the server.
    pub started_at: Option<DateTime<Utc>>,
    /// When its end was learnt.
    pub finished_at: Option<DateTime<Utc>>,
    /// From start to end.
    pub duration_ms: Option<i64>,
    /// What its check did.
    pub check: Option<CheckResult>,
    /// Its session.
    pub session_id: Option<SessionId>,
    /// Its run on the server.
    pub run_id: Option<RunId>,
    /// Version 5 id of (session, last message) at its end.
    pub checkpoint_id: Option<Uuid>,
    /// Why the agent stopped.
    pub stop_reason: Option<StopReason>,
    /// Turns begun.
    pub turns: Option<u64>,
    /// Tokens, summed over its answers.
    pub usage: Option<Usage>,
    /// What they cost, all its attempts together; none while nothing was asked, and where the price of a call is not known.
    pub cost_usd: Option<Usd>,
    /// All text of the agent, cut at 100,000 characters.
    #[serde(skip)]
    pub agent_stdout: Option<String>,
    /// The final message of the agent.
    pub agent_message: Option<String>,
    /// What went wrong, for people.
    #[serde(rename = "error_message")]
    pub error: Option<String>,
    /// The calls it waits for, while paused.
    pub pause_reason: Option<serde_json::Value>,
    /// When they are rejected, while paused.
    pub approval_expires_at: Option<DateTime<Utc>>,
    /// How to go on, while paused.
    pub resume_hint: Option<String>,
    /// Which attempt it is at, or ended with.
    pub attempt: u32,
    /// Its attempts that have ended, if it may have several.
    pub attempts: Vec<Attempt>,
    /// What was decided about its calls, oldest first.
    pub decisions: Vec<Decided>,
    /// How often it was taken up again after a crash.
    pub recoveries: u32,
    /// What was told about it, oldest first.
    pub notifications: Vec<Notification>,
}

/// Columns of [`RunRecord::from_row`], in its order.
pub(super) const COLUMNS: &str = "id, schedule, source, nominal_at, fire_key, status, reason, blocking_run, profile, model, \
     planned_at, started_at, finished_at, session_id, run_id, checkpoint_id, stop_reason, turns, usage_json, agent_stdout, \
     agent_message, error, pause_json, recoveries, checked_at, check_exit_code, check_signal, check_timed_out, check_stdout, \
     check_stderr, check_truncated, approval_expires_at, attempt, cost_usd_micros";

impl RunRecord {
    /// Without its notifications and decisions.
    pub(super) fn from_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        let (id, status) = (RunNumber(row.get(0)?), row.get(5)?);
        let started_at = instant(row.get(11)?);
        let finished_at = instant(row.get(12)?);
        Ok(Self {
            id,
            schedule: row.get(1)?,
            source: row.get(2)?,
            nominal_at: instant(row.get(3)?),
            fire_key: row.get(4)?,
            status,
            reason: row.get(6)?,
            blocking_run: row.get::<_, Option<i64>>(7)?.map(RunNumber),
            profile: row.get(8)?,
            model: row.get(9)?,
            planned_at: instant(row.get(10)?).unwrap_or_default(),
            started_at,
            finished_at,
            duration_ms: started_at.zip(finished_at).map(|(start, end)| (end - start).num_milliseconds()),
            session_id: parsed(row.get(13)?),
            run_id: parsed(row.get(14)?),
            checkpoint_id: parsed(row.get(15)?),
            stop_reason: word(row.get(16)?),
            turns: row.get::<_, Option<i64>>(17)?.map(natural),
            usage: json(row.get(18)?),
            cost_usd: usd(row.get(33)?),
            agent_stdout: row.get(19)?,
            agent_message: row.get(20)?,
            error: row.get(21)?,
            pause_reason: json(row.get(22)?),
            recoveries: row.get(23)?,
            check: check(row, 24)?,
            approval_expires_at: instant(row.get(31)?),
            resume_hint: (status == RunStatus::Paused).then(|| resume_hint(id)),
            attempt: row.get(32)?,
            attempts: Vec::new(),
            decisions: Vec::new(),
            notifications: Vec::new(),
        })
    }
}

/// The command that lets a paused run go on.
fn resume_hint(id: RunNumber) -> String {
    format!("stakpak schedule resume run:{id} --approve-all")
}

/// From `checked_at` on, in the order of the columns.
pub(super) const CHECK_COLUMNS: &str =
    "checked_at, check_exit_code, check_signal, check_timed_out, check_stdout, check_stderr, check_truncated";

/// None while there is no result.
pub(super) fn check(row: &rusqlite::Row<'_>, first: usize) -> rusqlite::Result<Option<CheckResult>> {
    if row.get::<_, Option<i64>>(first)?.is_none() {
        return Ok(None);
    }
    Ok(Some(CheckResult {
        exit_code: row.get(first + 1)?,
        signal: row.get(first + 2)?,
        timed_out: row.get(first + 3)?,
        stdout: row.get::<_, Option<String>>(first + 4)?.unwrap_or_default(),
        stderr: row.get::<_, Option<String>>(first + 5)?.unwrap_or_default(),
        truncated: row.get(first + 6)?,
    }))
}

/// SQLite's integers are signed; a number that does not fit is not one that can occur.
pub(super) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn natural(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

/// Money is in millionths of a dollar.
pub(super) fn usd(micros: Option<i64>) -> Option<Usd> {
    micros.map(|micros| Usd::from_micros(natural(micros)))
}

/// The ledger's times are Unix milliseconds.
pub(super) fn instant(millis: Option<i64>) -> Option<DateTime<Utc>> {
    millis.and_then(DateTime::from_timestamp_millis)
}

pub(super) fn parsed<T: std::str::FromStr>(text: Option<String>) -> Option<T> {
    text.and_then(|text| text.parse().ok())
}

pub(super) fn json<T: serde::de::DeserializeOwned>(text: Option<String>) -> Option<T> {
    text.and_then(|text| serde_json::from_str(&text).ok())
}

pub(super) fn word<T: serde::de::DeserializeOwned>(text: Option<String>) -> Option<T> {
    text.and_then(|text| serde_json::from_value(serde_json::Value::String(text)).ok())
}
