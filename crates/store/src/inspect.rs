//! Looking for damage: pages, rows, holes in sequences, projections.
//!
//! What cannot be read is a finding, never an end of the search.

mod session;

use std::fmt;

use rusqlite::Connection;
use stakpak_protocol::SessionId;

/// Findings kept one by one; a torn file could have millions.
const MOST_FINDINGS: usize = 100;

/// What a look at a journal has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// Sessions there.
    pub sessions: u64,
    /// Rows of their sequences.
    pub rows: u64,
    /// Runs.
    pub runs: u64,
    /// Size of the database.
    pub bytes: u64,
    /// The first hundred.
    pub findings: Vec<Finding>,
    /// Findings beyond those.
    pub more: u64,
}

/// A piece of damage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The damaged session, if it is one.
    pub session: Option<SessionId>,
    /// The damaged or missing row, if it is one.
    pub seq: Option<u64>,
    /// What is wrong.
    pub reason: String,
}

impl Health {
    /// Nothing was found.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.findings.is_empty()
    }

    fn tell(&mut self, session: Option<SessionId>, seq: Option<u64>, reason: impl Into<String>) {
        if self.findings.len() < MOST_FINDINGS {
            self.findings.push(Finding { session, seq, reason: reason.into() });
        } else {
            self.more += 1;
        }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.findings.as_slice() {
            [] => write!(f, "whole"),
            [only] if self.more == 0 => write!(f, "{only}"),
            [first, others @ ..] => write!(f, "{first}; {} more", others.len() as u64 + self.more),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.session, self.seq) {
            (Some(session), Some(seq)) => write!(f, "session {session}, row {seq}: {}", self.reason),
            (Some(session), None) => write!(f, "session {session}: {}", self.reason),
            (None, _) => write!(f, "{}", self.reason),
        }
    }
}

/// Each part in a snapshot of its own: nothing here compares two of them.
pub(crate) fn inspect(conn: &Connection) -> Health {
    let mut health = Health::default();
    for part in [pages, sessions, strangers] {
        if let Err(error) = part(conn, &mut health) {
            health.tell(None, None, format!("the file cannot be read to its end: {error}"));
        }
    }
    health
}

fn pages(conn: &Connection, health: &mut Health) -> rusqlite::Result<()> {
    let size: (u64, u64) = (conn.pragma_query_one(None, "page_count")?, conn.pragma_query_one(None, "page_size")?);
    health.bytes = size.0 * size.1;
    let mut check = conn.prepare(&format!("PRAGMA integrity_check({MOST_FINDINGS})"))?;
    let mut rows = check.query(())?;
    while let Some(columns) = rows.next()? {
        let told: String = columns.get(0)?;
        if told != "ok" {
            health.tell(None, None, told);
        }
    }
    Ok(())
}

fn sessions(conn: &Connection, health: &mut Health) -> rusqlite::Result<()> {
    let keys: Vec<i64> = {
        let mut select = conn.prepare("SELECT key FROM sessions ORDER BY key")?;
        select.query_map((), |columns| columns.get(0))?.collect::<Result<_, _>>()?
    };
    for key in keys {
        if let Err(error) = session::look(conn, key, health) {
            health.tell(None, None, format!("the session under key {key} cannot be read to its end: {error}"));
        }
    }
    Ok(())
}

/// Rows without a session, unless they wait to be removed.
fn strangers(conn: &Connection, health: &mut Health) -> rusqlite::Result<()> {
    let mut select = conn.prepare(
        "SELECT session, count(*) FROM records
         WHERE session NOT IN (SELECT key FROM sessions) AND session NOT IN (SELECT session FROM purging) GROUP BY session",
    )?;
    let mut rows = select.query(())?;
    while let Some(columns) = rows.next()? {
        let (key, count): (i64, u64) = (columns.get(0)?, columns.get(1)?);
        health.tell(None, None, format!("the session under key {key} is missing, {count} of its rows are there"));
    }
    Ok(())
}
