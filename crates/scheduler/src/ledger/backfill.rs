//! Rows of instants that have passed, in one transaction.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension, params};

use super::{Ledger, LedgerError, RunNumber, Source, plan, record};
use crate::{backfill::Backfilled, fire::FireKey, spec::Overlap};

/// What is to be written.
#[derive(Debug, Clone)]
pub(crate) struct Filling {
    pub(crate) schedule: String,
    pub(crate) from: DateTime<Utc>,
    pub(crate) to: DateTime<Utc>,
    /// All of the schedule in that time, oldest first.
    pub(crate) instants: Vec<DateTime<Utc>>,
    pub(crate) limit: u32,
    pub(crate) overlap: Overlap,
    pub(crate) force: bool,
    pub(crate) dry_run: bool,
    pub(crate) key: Option<String>,
}

/// What became of it.
pub(crate) enum Filled {
    Done(Backfilled),
    /// Nothing was written: so many are more than the limit.
    TooMany(u64),
    /// Nothing was written: the key stands for another one.
    KeyReused,
}

impl Filling {
    /// Equal for what is the same request.
    fn request(&self) -> String {
        let Self { from, to, limit, overlap, force, .. } = self;
        format!("{} {} {limit} {overlap:?} {force}", from.timestamp(), to.timestamp())
    }
}

impl Ledger {
    /// Writes the rows that are wanted, all or none.
    pub(crate) async fn fill(&self, filling: Filling, now: DateTime<Utc>) -> Result<Filled, LedgerError> {
        self.database.write(move |connection| fill(connection, &filling, now)).await
    }
}

fn fill(connection: &Connection, filling: &Filling, now: DateTime<Utc>) -> Result<Filled, LedgerError> {
    if let Some(known) = known(connection, filling)? {
        return Ok(known);
    }
    let taken = taken(connection, filling)?;
    let is_taken = |instant: &DateTime<Utc>| taken.contains(&instant.timestamp_millis());
    let wanted = |instant: &DateTime<Utc>| filling.force || !is_taken(instant);
    let instants: Vec<_> = filling.instants.iter().copied().filter(wanted).collect();
    let left_out = (filling.instants.len() - instants.len()) as u64;
    if instants.len() as u64 > u64::from(filling.limit) {
        return Ok(Filled::TooMany(instants.len() as u64));
    }
    let mut filled = Backfilled {
        schedule_name: filling.schedule.clone(),
        dry_run: filling.dry_run,
        instants,
        left_out,
        run_ids: Vec::new(),
    };
    if !filling.dry_run {
        let id = note(connection, filling, left_out, now)?;
        for instant in &filled.instants {
            filled.run_ids.push(insert(connection, filling, *instant, id, now)?);
        }
    }
    Ok(Filled::Done(filled))
}

/// What the key stands for, if it was used.
fn known(connection: &Connection, filling: &Filling) -> Result<Option<Filled>, LedgerError> {
    let Some(key) = filling.key.as_ref().filter(|_| !filling.dry_run) else { return Ok(None) };
    let sql = "SELECT id, request, left_out FROM backfills WHERE schedule = ?1 AND idempotency_key = ?2";
    let before: Option<(i64, String, i64)> = connection
        .query_row(sql, params![filling.schedule, key], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let Some((id, request, left_out)) = before else { return Ok(None) };
    if request != filling.request() {
        return Ok(Some(Filled::KeyReused));
    }
    let mut statement =
        connection.prepare_cached("SELECT id, nominal_at FROM runs WHERE backfill_id = ?1 ORDER BY id")?;
    let rows = statement
        .query_map([id], |row| Ok((RunNumber(row.get(0)?), record::instant(row.get(1)?).unwrap_or_default())))?;
    let (run_ids, instants) = rows.collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
    let (schedule_name, left_out) = (filling.schedule.clone(), record::natural(left_out));
    Ok(Some(Filled::Done(Backfilled { schedule_name, dry_run: false, instants, left_out, run_ids })))
}

/// Instants of that time, in milliseconds, that have a run, also one whose output was let go of.
fn taken(connection: &Connection, filling: &Filling) -> Result<HashSet<i64>, LedgerError> {
    let sql = "SELECT nominal_at FROM runs
               WHERE schedule = ?1 AND nominal_at >= ?2 AND nominal_at < ?3 AND status <> 'missed'";
    let mut statement = connection.prepare_cached(sql)?;
    let (from, to) = (filling.from.timestamp_millis(), filling.to.timestamp_millis());
    let taken = statement.query_map(params![filling.schedule, from, to], |row| row.get(0))?;
    Ok(taken.collect::<Result<_, _>>()?)
}

fn note(connection: &Connection, filling: &Filling, left_out: u64, now: DateTime<Utc>) -> Result<i64, LedgerError> {
    connection.execute(
        "INSERT INTO backfills (schedule, idempotency_key, request, left_out, created_at) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![filling.schedule, filling.key, filling.request(), record::integer(left_out), now.timestamp_millis()],
    )?;
    Ok(connection.last_insert_rowid())
}

fn insert(
    connection: &Connection,
    filling: &Filling,
    instant: DateTime<Utc>,
    backfill: i64,
    now: DateTime<Utc>,
) -> Result<RunNumber, LedgerError> {
    let nominal = FireKey::nominal(&filling.schedule, instant);
    let sql = "SELECT EXISTS (SELECT 1 FROM runs WHERE fire_key = ?1)";
    let has_row: bool = connection.prepare_cached(sql)?.query_row([nominal.as_str()], |row| row.get(0))?;
    let key = if has_row { FireKey::backfill(&filling.schedule, instant, backfill) } else { nominal };
    let id = plan::insert(connection, &filling.schedule, Source::Backfill, Some(instant), &key, (now, now))?;
    let overlap = serde_json::to_value(filling.overlap)?;
    connection.prepare_cached("UPDATE runs SET backfill_id = ?2, overlap = ?3 WHERE id = ?1")?.execute(params![
        id.0,
        backfill,
        overlap.as_str()
    ])?;
    Ok(id)
}
