//! What the runs of each profile took, by quarters of an hour.

use chrono::{DateTime, Utc};
use rusqlite::Connection;
use stakpak_agent_core::{Spending, Spent};
use stakpak_protocol::Usd;

use crate::{failure::Failure, schema::bound};

const QUARTER_SECONDS: i64 = 15 * 60;

/// Three days: no day that is asked for began earlier.
const KEPT_QUARTERS: i64 = 3 * 24 * 4;

fn quarter(at: DateTime<Utc>) -> i64 {
    at.timestamp().div_euclid(QUARTER_SECONDS)
}

/// Adds to the profile's quarter, and lets go of those that no day needs.
pub(crate) fn add(conn: &Connection, spent: &Spent) -> Result<(), Failure> {
    let (quarter, Spending { tokens, cost, runs }) = (quarter(spent.at), spent.spending);
    let add = "INSERT INTO spending (profile, quarter, tokens, cost_micros, runs) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (profile, quarter) DO UPDATE SET tokens = tokens + excluded.tokens,
             cost_micros = cost_micros + excluded.cost_micros, runs = runs + excluded.runs";
    let row = (&spent.profile, quarter, bound(tokens), bound(cost.micros()), bound(runs));
    conn.prepare_cached(add)?.execute(row)?;
    conn.prepare_cached("DELETE FROM spending WHERE profile = ?1 AND quarter < ?2")?
        .execute((&spent.profile, quarter - KEPT_QUARTERS))?;
    Ok(())
}

/// Since the beginning of a quarter.
pub(crate) fn since(conn: &Connection, profile: &str, since: DateTime<Utc>) -> Result<Spending, Failure> {
    let mut select = conn.prepare_cached(
        "SELECT coalesce(sum(tokens), 0), coalesce(sum(cost_micros), 0), coalesce(sum(runs), 0) FROM spending
         WHERE profile = ?1 AND quarter >= ?2",
    )?;
    let spending = select.query_row((profile, quarter(since)), |columns| {
        Ok(Spending { tokens: columns.get(0)?, cost: Usd::from_micros(columns.get(1)?), runs: columns.get(2)? })
    });
    Ok(spending?)
}
