//! What model calls took, a row for each, and what the budgets say about their sums.
//!
//! Money is in millionths of a US dollar, at the price that the server told with the call; where it told none, no limit in
//! dollars lets a run go on.
//!
//! Invariants: a call is counted once, however often its report is seen; what no report told is made up for at the end of an
//! attempt, from the server's total; a row is kept for longer than any day.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use rusqlite::{Connection, params};
use stakpak_protocol::{EventId, Usage, Usd};

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
    /// What the calls cost whose price is known.
    pub usd: Usd,
    /// Of `tokens`, those of calls whose price is not known.
    pub unpriced_tokens: u64,
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
        (usage, cost): (&Usage, Option<Usd>),
        (spec, set): (&Arc<ScheduleSpec>, Arc<ScheduleSet>),
        now: DateTime<Utc>,
    ) -> Result<Option<Exceeded>, LedgerError> {
        let (spec, taken) = (Arc::clone(spec), Taken { tokens: tokens(usage), cost });
        let exceeded = self
            .database
            .write(move |connection| {
                note(connection, id, report, taken, now)?;
                alert(connection, &spec, &set, now)?;
                if cost.is_none() && has_cost_limit(&spec, &set.budget) {
                    return stop_unpriced(connection, id).map(Some);
                }
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
                let day = Day { whose: Whose::All, limits, zone };
                let Spent { usd, tokens, runs } = day.spent(connection, None, now)?;
                let sql = "SELECT coalesce(sum(tokens), 0) FROM spending WHERE spent_at >= ?1 AND usd_micros IS NULL";
                let start = day_start(zone, now).timestamp_millis();
                let unpriced_tokens = connection.query_row(sql, [start], |row| row.get(0).map(record::natural))?;
                Ok(SpentToday { usd, unpriced_tokens, tokens, runs, limits })
            })
            .await
    }
}

/// Both ways, also of a server that does not add them up.
fn tokens(usage: &Usage) -> u64 {
    usage.total_tokens.max(usage.prompt_tokens.saturating_add(usage.completion_tokens))
}

/// What one call took, or several.
#[derive(Clone, Copy)]
struct Taken {
    tokens: u64,
    cost: Option<Usd>,
}

impl Taken {
    fn micros(self) -> Option<i64> {
        self.cost.map(|cost| record::integer(cost.micros()))
    }
}

fn note(
    connection: &Connection,
    id: RunNumber,
    report: EventId,
    taken: Taken,
    now: DateTime<Utc>,
) -> Result<(), LedgerError> {
    let report = record::integer(report.0);
    connection
        .prepare_cached(
            "INSERT INTO spending (session_id, event_id, run_id, schedule, spent_at, tokens, usd_micros)
             SELECT session_id, ?2, id, schedule, ?3, ?4, ?5 FROM runs WHERE id = ?1 AND session_id IS NOT NULL
             ON CONFLICT DO NOTHING",
        )?
        .execute(params![id.0, report, now.timestamp_millis(), record::integer(taken.tokens), taken.micros()])?;
    connection.prepare_cached("UPDATE runs SET cursor = max(cursor, ?2) WHERE id = ?1")?.execute([id.0, report])?;
    add_up(connection, id)
}

/// What the run cost so far: not known when that of one call is not.
fn add_up(connection: &Connection, id: RunNumber) -> Result<(), LedgerError> {
    let sql = "UPDATE runs SET cost_usd_micros =
                 (SELECT CASE WHEN count(*) = count(usd_micros) THEN sum(usd_micros) END FROM spending WHERE run_id = ?1)
               WHERE id = ?1";
    connection.prepare_cached(sql)?.execute([id.0])?;
    Ok(())
}

/// Makes up for calls whose reports were not seen, from the total that the server tells at the end of an attempt.
pub(super) fn settle(
    connection: &Connection,
    id: RunNumber,
    (total, cost): (&Usage, Option<Usd>),
    now: DateTime<Utc>,
) -> Result<(), LedgerError> {
    let sql = "SELECT coalesce(sum(tokens), 0), coalesce(sum(usd_micros), 0) FROM spending
               WHERE session_id = (SELECT session_id FROM runs WHERE id = ?1)";
    let (told, told_cost) = connection.query_row(sql, [id.0], sums)?;
    let rest = Taken {
        tokens: tokens(total).saturating_sub(told),
        cost: cost.map(|cost| Usd::from_micros(cost.micros().saturating_sub(told_cost.micros()))),
    };
    if rest.tokens > 0 || rest.cost.is_some_and(|cost| cost > Usd::ZERO) {
        connection.execute(
            "INSERT INTO spending (session_id, event_id, run_id, schedule, spent_at, tokens, usd_micros)
             SELECT session_id, ?2, id, schedule, ?3, ?4, ?5 FROM runs WHERE id = ?1 AND session_id IS NOT NULL
             ON CONFLICT DO UPDATE SET tokens = tokens + ?4, usd_micros = usd_micros + ?5",
            params![id.0, REST, now.timestamp_millis(), record::integer(rest.tokens), rest.micros()],
        )?;
        add_up(connection, id)?;
    }
    Ok(())
}

/// The agent is about to be asked, by an attempt of this run that may cost so much. What it is asked for stays the same, however
/// often it has to be repeated.
pub(super) fn begun(
    connection: &Connection,
    id: RunNumber,
    spec: &ScheduleSpec,
    shared: &SharedBudget,
    now: DateTime<Utc>,
) -> Result<Option<Usd>, LedgerError> {
    let of_run = match spec.budget.usd_per_run {
        Some(limit) => Some(limit.micros().saturating_sub(of_run(connection, id)?.usd.micros())),
        None => None,
    };
    // Of a day the whole, not what is left of it: who has passed it is stopped, and nobody is started after that.
    let of_days = days(spec, shared).filter_map(|day| day.limits.usd_per_day).map(Usd::micros);
    let limit = of_run.into_iter().chain(of_days).min().map(Usd::from_micros);
    let sql = "UPDATE runs SET agent_began_at = coalesce(agent_began_at, ?2), cost_limit_micros = ?3 WHERE id = ?1";
    let micros = limit.map(|limit| record::integer(limit.micros()));
    connection.prepare_cached(sql)?.execute(params![id.0, now.timestamp_millis(), micros])?;
    Ok(limit)
}

/// The key that sets what the server was asked to let a run cost.
pub(crate) fn cost_key(spec: &ScheduleSpec, shared: &SharedBudget, limit: Usd) -> String {
    let day = days(spec, shared).find(|day| day.limits.usd_per_day == Some(limit));
    match day.filter(|_| spec.budget.usd_per_run != Some(limit)).map(|day| day.whose) {
        Some(Whose::All) => "usd_per_day of [budget]".to_owned(),
        Some(_) => format!("budget.usd_per_day of schedule {}", spec.name),
        // Less, where earlier attempts took their share.
        None => format!("budget.usd_per_run of schedule {}", spec.name),
    }
}

fn has_cost_limit(spec: &ScheduleSpec, shared: &SharedBudget) -> bool {
    spec.budget.usd_per_run.is_some() || days(spec, shared).any(|day| day.limits.usd_per_day.is_some())
}

/// Why the agent may not be asked now, if a budget is used up.
pub(super) fn used_up(
    connection: &Connection,
    id: RunNumber,
    spec: &ScheduleSpec,
    shared: &SharedBudget,
    now: DateTime<Utc>,
) -> Result<Option<String>, LedgerError> {
    if let Some(why) = run_used(connection, id, spec, |spent, limit| spent >= limit)? {
        return Ok(Some(why));
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
    if let Some(why) = run_used(connection, id, spec, |spent, limit| spent > limit)? {
        return Ok(Some((Whose::Run, why)));
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

/// A limit in dollars holds, and what the call cost is not known.
fn stop_unpriced(connection: &Connection, id: RunNumber) -> Result<Exceeded, LedgerError> {
    let why = "it has a budget in dollars, and the price of its model is not known; give it one in config.toml: \
               [cost.\"provider/id\"]";
    connection.execute(
        "UPDATE runs SET cancel_reason = ?2, error = ?3 WHERE id = ?1 AND cancel_reason IS NULL",
        params![id.0, Reason::PriceUnknown, why],
    )?;
    Ok(Exceeded { others: false })
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
    usd: Usd,
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
        let (tokens, usd) = connection
            .prepare_cached(
                "SELECT coalesce(sum(tokens), 0), coalesce(sum(usd_micros), 0) FROM spending
                 WHERE spent_at >= ?1 AND (?2 IS NULL OR schedule = ?2)",
            )?
            .query_row(params![start, schedule], sums)?;
        let runs = connection
            .prepare_cached(
                "SELECT count(*) FROM runs WHERE agent_began_at >= ?1 AND (?2 IS NULL OR schedule = ?2) AND id IS NOT ?3",
            )?
            .query_row(params![start, schedule, but.map(|run| run.0)], |row| row.get(0).map(record::natural))?;
        Ok(Spent { usd, tokens, runs })
    }

    /// Each limit: what is used of it, it, and of what.
    fn uses(&self, spent: Spent) -> impl Iterator<Item = (u64, u64, Unit)> {
        let Spent { usd, tokens, runs } = spent;
        let DayLimits { usd_per_day, tokens_per_day, runs_per_day } = self.limits;
        [
            (usd.micros(), usd_per_day.map(Usd::micros), Unit::Usd),
            (tokens, tokens_per_day, Unit::Tokens),
            (runs, runs_per_day, Unit::Runs),
        ]
        .into_iter()
        .filter_map(|(spent, limit, unit)| Some((spent, limit?, unit)))
    }

    /// The first limit for which `is_used` holds, in words.
    fn used(&self, spent: Spent, is_used: impl Fn(u64, u64) -> bool) -> Option<String> {
        let (spent, limit, unit) = self.uses(spent).find(|(spent, limit, _)| is_used(*spent, *limit))?;
        Some(unit.share(spent, limit))
    }
}

/// What is counted.
#[derive(Clone, Copy)]
enum Unit {
    /// In millionths.
    Usd,
    Tokens,
    Runs,
}

impl Unit {
    fn word(self) -> &'static str {
        match self {
            Self::Usd => "USD",
            Self::Tokens => "tokens",
            Self::Runs => "runs",
        }
    }

    fn share(self, spent: u64, limit: u64) -> String {
        let amount = |number| match self {
            Self::Usd => Usd::from_micros(number).to_string(),
            Self::Tokens | Self::Runs => number.to_string(),
        };
        format!("{} of {} {}", amount(spent), amount(limit), self.word())
    }
}

/// A sum of tokens, and one of money.
fn sums(row: &rusqlite::Row<'_>) -> rusqlite::Result<(u64, Usd)> {
    Ok((record::natural(row.get(0)?), Usd::from_micros(record::natural(row.get(1)?))))
}

/// What a run took, all its attempts together.
fn of_run(connection: &Connection, id: RunNumber) -> Result<Spent, LedgerError> {
    let sql = "SELECT coalesce(sum(tokens), 0), coalesce(sum(usd_micros), 0) FROM spending WHERE run_id = ?1";
    let (tokens, usd) = connection.prepare_cached(sql)?.query_row([id.0], sums)?;
    Ok(Spent { usd, tokens, runs: 1 })
}

/// The first limit of the run for which `is_used` holds, in words.
fn run_used(
    connection: &Connection,
    id: RunNumber,
    spec: &ScheduleSpec,
    is_used: impl Fn(u64, u64) -> bool,
) -> Result<Option<String>, LedgerError> {
    let (usd, tokens) = (spec.budget.usd_per_run, spec.budget.tokens_per_run);
    if usd.is_none() && tokens.is_none() {
        return Ok(None);
    }
    let spent = of_run(connection, id)?;
    if let Some(limit) = usd.filter(|limit| is_used(spent.usd.micros(), limit.micros())) {
        return Ok(Some(format!("the run has cost {} USD, and its budget is {limit}", spent.usd)));
    }
    let limit = tokens.filter(|limit| is_used(spent.tokens, *limit));
    Ok(limit.map(|limit| format!("the run has taken {} tokens, and its budget is {limit}", spent.tokens)))
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
        for (spent, limit, unit) in day.uses(spent) {
            let Some(percent) = set.budget.reached(spent, limit) else { continue };
            let whose = day.whose.label();
            let start = day_start(day.zone, now).timestamp();
            let key = format!("notify:budget:{start}:{}:{limit}:{percent}:{whose}", unit.word());
            let text = format!("{percent} % of the budget of {whose} is reached: {} a day", unit.share(spent, limit));
            let notice = notice::of_system(Event::Budget, &text, "stakpak status");
            outbox::insert(connection, None, Event::Budget, &route, &key, &notice, now)?;
        }
    }
    Ok(())
}
