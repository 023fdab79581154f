//! What model calls took, a row for each, and what the budgets say about their sums.
//!
//! Invariants: a call is counted once, however often its report is seen; what no report told is made up for at the end of an
//! attempt, from the server's total; a row is kept for longer than any day.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use rusqlite::{Connection, params};
use stakpak_protocol::{EventId, Usage};

use super::{Event, Ledger, LedgerError, Reason, RunNumber, outbox, record};
use crate::{
    notice,
    spec::{DayLimits, ScheduleSet, ScheduleSpec, SharedBudget, day_start},
};

/// The event of the row that holds what no report of a session told: no event has this number.
const REST: i64 = 0;

/// A budget that is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exceeded {
    /// Runs besides the one that spent must end too.
    pub(crate) others: bool,
}

/// What today took, and what it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpentToday {
    /// In and out.
    pub tokens: u64,
    /// Runs of the agent.
    pub runs: u64,
    /// `[budget]`.
    pub limits: DayLimits,
}

impl Ledger {
    /// Notes a model call and that events up to its report were seen, in one transaction with what follows: a run that has
    /// passed a limit must end, and so must all that share a day's limit which is passed.
    pub(crate) async fn spent(
        &self,
        id: RunNumber,
        report: EventId,
        usage: &Usage,
        (spec, set): (&Arc<ScheduleSpec>, Arc<ScheduleSet>),
        now: DateTime<Utc>,
    ) -> Result<Option<Exceeded>, LedgerError> {
        let (spec, tokens) = (Arc::clone(spec), tokens(usage));
        let exceeded = self
            .database
            .write(move |connection| {
                note(connection, id, report, tokens, now)?;
                alert(connection, &spec, &set, now)?;
                match exceeded(connection, id, &spec, &set.budget, now)? {
                    Some((whose, why)) => stop(connection, id, whose, &why).map(Some),
                    None => Ok(None),
                }
            })
            .await?;
        self.posted.notify_one();
        Ok(exceeded)
    }

    /// What today took of `[budget]`.
    ///
    /// # Errors
    /// Only of the file.
    pub async fn spent_today(&self, budget: &SharedBudget, now: DateTime<Utc>) -> Result<SpentToday, LedgerError> {
        let (limits, zone) = (budget.day, budget.zone);
        self.database
            .read(move |connection| {
                let Spent { tokens, runs } = Day { whose: Whose::All, limits, zone }.spent(connection, None, now)?;
                Ok(SpentToday { tokens, runs, limits })
            })
            .await
    }
}

/// Both ways, also of a server that does not add them up.
fn tokens(usage: &Usage) -> u64 {
    usage.total_tokens.max(usage.prompt_tokens.saturating_add(usage.completion_tokens))
}

fn note(
    connection: &Connection,
    id: RunNumber,
    report: EventId,
    tokens: u64,
    now: DateTime<Utc>,
) -> Result<(), LedgerError> {
    let report = record::integer(report.0);
    connection
        .prepare_cached(
            "INSERT INTO spending (session_id, event_id, run_id, schedule, spent_at, tokens)
             SELECT session_id, ?2, id, schedule, ?3, ?4 FROM runs WHERE id = ?1 AND session_id IS NOT NULL
             ON CONFLICT DO NOTHING",
        )?
        .execute(params![id.0, report, now.timestamp_millis(), record::integer(tokens)])?;
    connection.prepare_cached("UPDATE runs SET cursor = max(cursor, ?2) WHERE id = ?1")?.execute([id.0, report])?;
    Ok(())
}

/// Makes up for calls whose reports were not seen, from the total that the server tells at the end of an attempt.
pub(super) fn settle(
    connection: &Connection,
    id: RunNumber,
    total: &Usage,
    now: DateTime<Utc>,
) -> Result<(), LedgerError> {
    let sql = "SELECT coalesce(sum(tokens), 0) FROM spending
               WHERE session_id = (SELECT session_id FROM runs WHERE id = ?1)";
    let told = connection.query_row(sql, [id.0], |row| row.get(0).map(record::natural))?;
    let rest = tokens(total).saturating_sub(told);
    if rest > 0 {
        connection.execute(
            "INSERT INTO spending (session_id, event_id, run_id, schedule, spent_at, tokens)
             SELECT session_id, ?2, id, schedule, ?3, ?4 FROM runs WHERE id = ?1 AND session_id IS NOT NULL
             ON CONFLICT DO UPDATE SET tokens = tokens + ?4",
            params![id.0, REST, now.timestamp_millis(), record::integer(rest)],
        )?;
    }
    Ok(())
}

/// The agent is about to be asked, for the first time in this run.
pub(super) fn begun(connection: &Connection, id: RunNumber, now: DateTime<Utc>) -> Result<(), LedgerError> {
    let sql = "UPDATE runs SET agent_began_at = coalesce(agent_began_at, ?2) WHERE id = ?1";
    connection.prepare_cached(sql)?.execute(params![id.0, now.timestamp_millis()])?;
    Ok(())
}

/// Why the agent may not be asked now, if a budget is used up.
pub(super) fn used_up(
    connection: &Connection,
    id: RunNumber,
    spec: &ScheduleSpec,
    shared: &SharedBudget,
    now: DateTime<Utc>,
) -> Result<Option<String>, LedgerError> {
    if let Some(limit) = spec.budget.tokens_per_run {
        let spent = of_run(connection, id)?;
        if spent >= limit {
            return Ok(Some(format!("the run has taken {spent} tokens, and its budget is {limit}")));
        }
    }
    for day in days(spec, shared) {
        let spent = day.spent(connection, Some(id), now)?;
        if let Some(what) = day.used(spent, |spent, limit| spent >= limit) {
            return Ok(Some(format!("the budget of {} is used up: {what} a day", day.whose.label())));
        }
    }
    Ok(None)
}

/// Whose limit the run has passed, and in what words, if it has.
fn exceeded<'a>(
    connection: &Connection,
    id: RunNumber,
    spec: &'a ScheduleSpec,
    shared: &SharedBudget,
    now: DateTime<Utc>,
) -> Result<Option<(Whose<'a>, String)>, LedgerError> {
    if let Some(limit) = spec.budget.tokens_per_run {
        let spent = of_run(connection, id)?;
        if spent > limit {
            return Ok(Some((Whose::Run, format!("the run has taken {spent} tokens, and its budget is {limit}"))));
        }
    }
    for mut day in days(spec, shared) {
        // A run that has begun may go on.
        day.limits.runs_per_day = None;
        let spent = day.spent(connection, Some(id), now)?;
        if let Some(what) = day.used(spent, |spent, limit| spent > limit) {
            let why = format!("the budget of {} is exceeded: {what} a day", day.whose.label());
            return Ok(Some((day.whose, why)));
        }
    }
    Ok(None)
}

/// Asks for the end of the run and of those at work that share the limit. One that waits for a person spends nothing.
fn stop(connection: &Connection, id: RunNumber, whose: Whose<'_>, why: &str) -> Result<Exceeded, LedgerError> {
    let set = "UPDATE runs SET cancel_reason = ?2, error = ?3 WHERE cancel_reason IS NULL";
    connection.execute(&format!("{set} AND id = ?1"), params![id.0, Reason::BudgetExceeded, why])?;
    let schedule = match whose {
        Whose::Run => return Ok(Exceeded { others: false }),
        Whose::Schedule(name) => Some(name),
        Whose::All => None,
    };
    let others = connection.execute(
        &format!("{set} AND id <> ?1 AND status = 'running' AND checking = 0 AND (?4 IS NULL OR schedule = ?4)"),
        params![id.0, Reason::BudgetExceeded, why, schedule],
    )?;
    Ok(Exceeded { others: others > 0 })
}

/// Who shares a limit.
#[derive(Debug, Clone, Copy)]
enum Whose<'a> {
    Run,
    Schedule(&'a str),
    All,
}

impl Whose<'_> {
    fn label(&self) -> String {
        match self {
            Self::Run => "the run".to_owned(),
            Self::Schedule(name) => format!("schedule {name}"),
            Self::All => "all schedules together".to_owned(),
        }
    }
}

/// Limits of a day, whose they are, and where it is that day.
struct Day<'a> {
    whose: Whose<'a>,
    limits: DayLimits,
    zone: Tz,
}

/// What a day took so far.
#[derive(Clone, Copy)]
struct Spent {
    tokens: u64,
    runs: u64,
}

fn days<'a>(spec: &'a ScheduleSpec, shared: &SharedBudget) -> impl Iterator<Item = Day<'a>> {
    let own = Day { whose: Whose::Schedule(&spec.name), limits: spec.budget.day, zone: spec.timezone };
    let all = Day { whose: Whose::All, limits: shared.day, zone: shared.zone };
    [own, all].into_iter().filter(|day| !day.limits.is_none())
}

impl Day<'_> {
    /// The run `but` is not counted as one.
    fn spent(&self, connection: &Connection, but: Option<RunNumber>, now: DateTime<Utc>) -> Result<Spent, LedgerError> {
        let start = day_start(self.zone, now).timestamp_millis();
        let schedule = match self.whose {
            Whose::Schedule(name) => Some(name),
            Whose::Run | Whose::All => None,
        };
        let tokens = connection
            .prepare_cached(
                "SELECT coalesce(sum(tokens), 0) FROM spending WHERE spent_at >= ?1 AND (?2 IS NULL OR schedule = ?2)",
            )?
            .query_row(params![start, schedule], |row| row.get(0).map(record::natural))?;
        let runs = connection
            .prepare_cached(
                "SELECT count(*) FROM runs WHERE agent_began_at >= ?1 AND (?2 IS NULL OR schedule = ?2) AND id IS NOT ?3",
            )?
            .query_row(params![start, schedule, but.map(|run| run.0)], |row| row.get(0).map(record::natural))?;
        Ok(Spent { tokens, runs })
    }

    /// Each limit: what is used of it, it, and of what.
    fn uses(&self, spent: Spent) -> impl Iterator<Item = (u64, u64, &'static str)> {
        let Spent { tokens, runs } = spent;
        [(tokens, self.limits.tokens_per_day, "tokens"), (runs, self.limits.runs_per_day, "runs")]
            .into_iter()
            .filter_map(|(spent, limit, what)| Some((spent, limit?, what)))
    }

    /// The first limit for which `is_used` holds, in words.
    fn used(&self, spent: Spent, is_used: impl Fn(u64, u64) -> bool) -> Option<String> {
        let (spent, limit, what) = self.uses(spent).find(|(spent, limit, _)| is_used(*spent, *limit))?;
        Some(format!("{spent} of {limit} {what}"))
    }
}

/// What a run took, all its attempts together.
fn of_run(connection: &Connection, id: RunNumber) -> Result<u64, LedgerError> {
    let sql = "SELECT coalesce(sum(tokens), 0) FROM spending WHERE run_id = ?1";
    Ok(connection.prepare_cached(sql)?.query_row([id.0], |row| row.get(0).map(record::natural))?)
}

/// Tells of the largest share of each limit of a day that is reached, once a day.
pub(super) fn alert(
    connection: &Connection,
    spec: &ScheduleSpec,
    set: &ScheduleSet,
    now: DateTime<Utc>,
) -> Result<(), LedgerError> {
    let Some(route) = set.notifications.route_of(Event::Budget) else { return Ok(()) };
    for day in days(spec, &set.budget) {
        let spent = day.spent(connection, None, now)?;
        for (spent, limit, what) in day.uses(spent) {
            let Some(percent) = set.budget.reached(spent, limit) else { continue };
            let whose = day.whose.label();
            let start = day_start(day.zone, now).timestamp();
            let key = format!("notify:budget:{start}:{what}:{limit}:{percent}:{whose}");
            let text = format!("{percent} % of the budget of {whose} is reached: {spent} of {limit} {what} a day");
            let notice = notice::of_system(Event::Budget, &text, "stakpak status");
            outbox::insert(connection, None, Event::Budget, &route, &key, &notice, now)?;
        }
    }
    Ok(())
}
