//! What is decided about the calls that a run waits with: durable before the agent server is told, and told to it for as long
//! as it says that a call waits.
//!
//! Invariants: a decision names a call, never "whatever waits"; a call is decided once; who did it, and when, stays.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;
use stakpak_protocol::{DecidedBy, SessionId, ToolCallId, ToolDecision, ToolDecisionAction};
use tokio::sync::watch;

use super::{Ledger, LedgerError, RunNumber, RunRecord, RunStatus, outbox, record, run};
use crate::spec::ScheduleSpec;

/// Who "decides" when nobody does.
const EXPIRY: &str = "expiry";

/// One set of decisions about a paused run. Calls that it does not name are rejected.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decide {
    /// Calls that may run.
    pub approve: Vec<String>,
    /// Calls that may not.
    pub reject: Vec<String>,
    /// All that wait may run, those of `reject` excepted.
    pub approve_all: bool,
    /// None may run.
    pub reject_all: bool,
    /// What the agent is told with each rejection.
    pub message: Option<String>,
    /// Who decides.
    pub by: String,
    /// Of the caller: the same key decides once.
    pub key: Option<String>,
}

/// What was decided about a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Decided {
    /// The call.
    pub call_id: String,
    /// Whether it ran.
    pub action: ToolDecisionAction,
    /// A person, a program, or `expiry`.
    pub by: String,
    /// When.
    pub at: DateTime<Utc>,
}

impl fmt::Display for Decided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let did = match self.action {
            ToolDecisionAction::Accept => "approved",
            ToolDecisionAction::Reject => "rejected",
            ToolDecisionAction::CustomResult => "answered",
        };
        let at = self.at.to_rfc3339_opts(SecondsFormat::Secs, true);
        write!(f, "{} {did} {} at {at}", self.by, self.call_id)
    }
}

/// Why a decision was refused. Nothing was decided.
#[derive(Debug, thiserror::Error)]
pub enum DecideError {
    /// There is no such run.
    #[error("there is no scheduled run {run}")]
    Unknown {
        /// What was asked for.
        run: RunNumber,
    },
    /// It waits for nobody: it was decided, or never asked.
    #[error("scheduled run {run} does not wait for a decision: it is {status}{}", told(decisions))]
    NotPaused {
        /// The run.
        run: RunNumber,
        /// Where it stands.
        status: RunStatus,
        /// What was decided before.
        decisions: Vec<Decided>,
    },
    /// It does not wait with that call.
    #[error("scheduled run {run} does not wait with call `{call}`; it waits with: {}", waiting.join(", "))]
    NoSuchCall {
        /// The run.
        run: RunNumber,
        /// What was asked for.
        call: String,
        /// What it waits with.
        waiting: Vec<String>,
    },
    /// The request contradicts itself, or says nothing.
    #[error("{0}")]
    Invalid(&'static str),
    /// The key was used for something else.
    #[error("this idempotency key was used with another decision")]
    KeyReused,
    /// The ledger cannot be written.
    #[error("the decision could not be recorded")]
    Ledger(#[from] LedgerError),
}

fn told(decisions: &[Decided]) -> String {
    let list = decisions.iter().map(Decided::to_string).collect::<Vec<_>>().join("; ");
    if list.is_empty() { list } else { format!(" ({list})") }
}

impl Decide {
    fn check(&self) -> Result<(), DecideError> {
        let names = !self.approve.is_empty() || !self.reject.is_empty();
        if !names && !self.approve_all && !self.reject_all {
            return Err(DecideError::Invalid("nothing is decided: use approve, reject, approve_all or reject_all"));
        }
        if self.approve_all && self.reject_all {
            return Err(DecideError::Invalid("approve_all and reject_all contradict each other"));
        }
        if self.reject_all && !self.approve.is_empty() {
            return Err(DecideError::Invalid("reject_all and approve contradict each other"));
        }
        if self.approve.iter().any(|call| self.reject.contains(call)) {
            return Err(DecideError::Invalid("a call cannot be both approved and rejected"));
        }
        Ok(())
    }

    fn of(&self, call: &str) -> ToolDecisionAction {
        let named = |calls: &[String]| calls.iter().any(|named| named == call);
        match !named(&self.reject) && (self.approve_all || named(&self.approve)) {
            true => ToolDecisionAction::Accept,
            false => ToolDecisionAction::Reject,
        }
    }

    /// Equal for what is the same decision.
    fn request(&self) -> String {
        let Self { approve, reject, approve_all, reject_all, message, .. } = self;
        format!("{approve:?} {reject:?} {approve_all} {reject_all} {message:?}")
    }
}

/// What a paused run waits with.
struct Waiting {
    session: String,
    calls: Vec<String>,
    expires_at: Option<DateTime<Utc>>,
}

impl Ledger {
    /// Decides about every call that a paused run waits with; the run goes on, at the latest when the scheduler next starts.
    ///
    /// # Errors
    /// When the run does not wait, or not with a call that is named; the error tells who decided before.
    pub async fn decide(&self, id: RunNumber, decide: Decide, now: DateTime<Utc>) -> Result<RunRecord, DecideError> {
        decide.check()?;
        let decided = self.database.write(move |connection| record_decision(connection, id, &decide, now)).await?;
        self.decided.send_replace(());
        decided
    }

    /// Changes whenever something may have been decided.
    pub(crate) fn decisions(&self) -> watch::Receiver<()> {
        self.decided.subscribe()
    }

    /// These calls wait for a person. What is decided about them already; with the others the run is paused.
    pub(crate) async fn paused(
        &self,
        id: RunNumber,
        session: SessionId,
        calls: BTreeMap<String, serde_json::Value>,
        spec: &Arc<ScheduleSpec>,
        now: DateTime<Utc>,
    ) -> Result<HashMap<String, ToolDecision>, LedgerError> {
        let spec = Arc::clone(spec);
        let known = self
            .database
            .write(move |connection| {
                let mut known = decisions_of(connection, id, &session.to_string())?;
                known.retain(|call, _| calls.contains_key(call));
                let undecided: Vec<_> =
                    calls.into_iter().filter(|(call, _)| !known.contains_key(call)).map(|(_, shown)| shown).collect();
                if !undecided.is_empty() {
                    pause(connection, id, &serde_json::to_string(&undecided)?, &spec, now)?;
                }
                Ok::<_, LedgerError>(known)
            })
            .await?;
        self.posted.notify_one();
        Ok(known)
    }

    /// The run goes on; the wait does not count against its time limit.
    pub(crate) async fn resumed(&self, id: RunNumber, now: DateTime<Utc>) -> Result<(), LedgerError> {
        self.database.write(move |connection| go_on(connection, id, now)).await
    }

    /// Nobody decided in time: what the run waits with is rejected.
    pub(crate) async fn expire(&self, id: RunNumber, now: DateTime<Utc>) -> Result<(), LedgerError> {
        self.database
            .write(move |connection| match waiting(connection, id)? {
                Some(waiting) => expire(connection, id, &waiting, now),
                None => Ok(()),
            })
            .await
    }

    /// The server says who decided: that is what counts.
    pub(crate) async fn decided_at_server(
        &self,
        id: RunNumber,
        session: SessionId,
        decided: BTreeMap<ToolCallId, DecidedBy>,
    ) -> Result<(), LedgerError> {
        self.database
            .write(move |connection| {
                for (call, DecidedBy { action, by, at }) in decided {
                    connection.execute(
                        "INSERT INTO decisions (run_id, session_id, call_id, action, decided_by, decided_at)
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                         ON CONFLICT DO UPDATE SET action = ?4, decided_by = ?5, decided_at = ?6 WHERE action <> ?4",
                        params![id.0, session.to_string(), call.0, word(action), by, at.timestamp_millis()],
                    )?;
                }
                Ok(())
            })
            .await
    }

    /// Whether a call of the session was rejected because nobody decided.
    pub(crate) async fn has_expired(&self, id: RunNumber) -> Result<bool, LedgerError> {
        self.database
            .read(move |connection| {
                let sql = "SELECT EXISTS (SELECT 1 FROM decisions JOIN runs ON runs.id = decisions.run_id
                           AND runs.session_id = decisions.session_id WHERE decisions.run_id = ?1 AND decided_by = ?2)";
                Ok(connection.query_row(sql, params![id.0, EXPIRY], |row| row.get(0))?)
            })
            .await
    }
}

type Recorded = Result<RunRecord, DecideError>;

/// The outer result is about the ledger: a refusal is no reason to undo what it tells of.
fn record_decision(
    connection: &Connection,
    id: RunNumber,
    decide: &Decide,
    now: DateTime<Utc>,
) -> Result<Recorded, LedgerError> {
    let Some(before) = run(connection, id)? else { return Ok(Err(DecideError::Unknown { run: id })) };
    if let Some(key) = &decide.key {
        let sql = "SELECT request FROM decisions WHERE run_id = ?1 AND idempotency_key = ?2 LIMIT 1";
        let known: Option<Option<String>> =
            connection.query_row(sql, params![id.0, key], |row| row.get(0)).optional()?;
        if let Some(request) = known {
            let is_same = request.as_deref() == Some(decide.request().as_str());
            return Ok(if is_same { Ok(before) } else { Err(DecideError::KeyReused) });
        }
    }
    let not_paused = |run: RunRecord| DecideError::NotPaused { run: id, status: run.status, decisions: run.decisions };
    let Some(waiting) = waiting(connection, id)? else { return Ok(Err(not_paused(before))) };
    if waiting.expires_at.is_some_and(|at| at <= now) {
        expire(connection, id, &waiting, now)?;
        return Ok(Err(run(connection, id)?.map_or(DecideError::Unknown { run: id }, not_paused)));
    }
    if let Some(call) = decide.approve.iter().chain(&decide.reject).find(|call| !waiting.calls.contains(call)) {
        return Ok(Err(DecideError::NoSuchCall { run: id, call: call.clone(), waiting: waiting.calls }));
    }
    for call in &waiting.calls {
        let action = decide.of(call);
        let content = (action == ToolDecisionAction::Reject).then(|| {
            let text = decide.message.clone();
            text.unwrap_or_else(|| format!("Not run: {} decided against it.", decide.by))
        });
        let key = (decide.key.as_deref(), decide.request());
        insert(connection, id, &waiting.session, call, action, content.as_deref(), &decide.by, Some(key), now)?;
    }
    go_on(connection, id, now)?;
    Ok(run(connection, id)?.ok_or(DecideError::Unknown { run: id }))
}

fn waiting(connection: &Connection, id: RunNumber) -> Result<Option<Waiting>, LedgerError> {
    let sql = "SELECT session_id, pause_json, approval_expires_at FROM runs WHERE id = ?1 AND status = 'paused'";
    let row = connection.query_row(sql, [id.0], |row| {
        let calls: Option<Vec<serde_json::Value>> = record::json(row.get(1)?);
        let ids = calls.unwrap_or_default().iter().filter_map(|call| call["id"].as_str().map(str::to_owned)).collect();
        Ok(Waiting {
            session: row.get::<_, Option<String>>(0)?.unwrap_or_default(),
            calls: ids,
            expires_at: record::instant(row.get(2)?),
        })
    });
    Ok(row.optional()?)
}

fn expire(connection: &Connection, id: RunNumber, waiting: &Waiting, now: DateTime<Utc>) -> Result<(), LedgerError> {
    let text = "Not run: it needs a person's approval and nobody decided in time. Go on without it and say what was left undone.";
    for call in &waiting.calls {
        insert(connection, id, &waiting.session, call, ToolDecisionAction::Reject, Some(text), EXPIRY, None, now)?;
    }
    go_on(connection, id, now)
}

#[expect(clippy::too_many_arguments, reason = "the columns of one row")]
fn insert(
    connection: &Connection,
    id: RunNumber,
    session: &str,
    call: &str,
    action: ToolDecisionAction,
    content: Option<&str>,
    by: &str,
    request: Option<(Option<&str>, String)>,
    now: DateTime<Utc>,
) -> Result<(), LedgerError> {
    let (key, request) = request.map_or((None, None), |(key, request)| (key, Some(request)));
    connection.execute(
        "INSERT INTO decisions (run_id, session_id, call_id, action, content, decided_by, decided_at, idempotency_key, request)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING",
        params![id.0, session, call, word(action), content, by, now.timestamp_millis(), key, request],
    )?;
    Ok(())
}

fn pause(
    connection: &Connection,
    id: RunNumber,
    calls: &str,
    spec: &ScheduleSpec,
    now: DateTime<Utc>,
) -> Result<(), LedgerError> {
    let sql = "SELECT status = 'running' FROM runs WHERE id = ?1";
    let is_new: bool = connection.query_row(sql, [id.0], |row| row.get(0))?;
    let expires_at = now.checked_add_signed(TimeDelta::from_std(spec.approval_timeout).unwrap_or(TimeDelta::MAX));
    connection.execute(
        "UPDATE runs SET status = 'paused', pause_json = ?2, paused_at = coalesce(paused_at, ?3), updated_at = ?3,
                approval_expires_at = coalesce(approval_expires_at, ?4)
         WHERE id = ?1 AND status IN ('running', 'paused')",
        params![id.0, calls, now.timestamp_millis(), expires_at.map(|at| at.timestamp_millis())],
    )?;
    if is_new { outbox::tell(connection, id, spec, now) } else { Ok(()) }
}

fn go_on(connection: &Connection, id: RunNumber, now: DateTime<Utc>) -> Result<(), LedgerError> {
    connection.execute(
        "UPDATE runs SET status = 'running', pause_json = NULL, paused_at = NULL, approval_expires_at = NULL,
                waited_ms = waited_ms + max(0, ?2 - paused_at), updated_at = ?2
         WHERE id = ?1 AND status = 'paused'",
        params![id.0, now.timestamp_millis()],
    )?;
    Ok(())
}

/// What the agent server is to be told about the calls of a session.
fn decisions_of(
    connection: &Connection,
    id: RunNumber,
    session: &str,
) -> Result<HashMap<String, ToolDecision>, LedgerError> {
    let mut statement = connection.prepare_cached(
        "SELECT call_id, action, content, decided_by FROM decisions WHERE run_id = ?1 AND session_id = ?2",
    )?;
    let rows = statement.query_map(params![id.0, session], |row| {
        let (content, by) = (row.get(2)?, Some(row.get(3)?));
        let decision = ToolDecision { action: action(&row.get::<_, String>(1)?), content, scope: None, by };
        Ok((row.get(0)?, decision))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Puts to each run what was decided about its calls.
pub(super) fn attach(connection: &Connection, runs: &mut [RunRecord]) -> Result<(), LedgerError> {
    let mut statement = connection.prepare_cached(
        "SELECT call_id, action, decided_by, decided_at FROM decisions WHERE run_id = ?1 ORDER BY decided_at, rowid",
    )?;
    for run in runs {
        let rows = statement.query_map([run.id.0], |row| {
            Ok(Decided {
                call_id: row.get(0)?,
                action: action(&row.get::<_, String>(1)?),
                by: row.get(2)?,
                at: record::instant(row.get(3)?).unwrap_or_default(),
            })
        })?;
        run.decisions = rows.collect::<Result<_, _>>()?;
    }
    Ok(())
}

fn word(action: ToolDecisionAction) -> &'static str {
    match action {
        ToolDecisionAction::Accept => "accept",
        ToolDecisionAction::Reject => "reject",
        ToolDecisionAction::CustomResult => "custom_result",
    }
}

/// A word of another version does not let a call run.
fn action(word: &str) -> ToolDecisionAction {
    match word {
        "accept" => ToolDecisionAction::Accept,
        "custom_result" => ToolDecisionAction::CustomResult,
        _ => ToolDecisionAction::Reject,
    }
}
