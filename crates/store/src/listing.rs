//! Pages of sessions, and the runs that are active.
//!
//! A listing goes on behind its last row, and remembers what it has given: a session that changes moves to the front, and
//! would otherwise be skipped when it was still to come, or given twice when the clock was set back. What it remembers is
//! in the cursor itself, so that a listing costs nothing while nobody asks, and goes on in a later process.

use roaring::RoaringTreemap;
use rusqlite::{Connection, Rows, params};
use stakpak_agent_core::{JournalError, SessionCursor, SessionPage, SessionQuery, SessionRow};
use stakpak_protocol::{Run, RunStatus};

use crate::{
    failure::Failure,
    schema::{bound, nanos},
    session::{decode_or_tell, find_run, fold, open, status_text},
};

/// How long an append can be on its way: its time is taken when it is decided. Beyond it, a change is behind the time at
/// which the listing began.
const LONGEST_APPEND_NANOS: i64 = 60_000_000_000;

/// The page and the total are of one moment: a read sees one snapshot. A session that cannot be read is counted, not listed.
pub(crate) fn page(conn: &Connection, query: &SessionQuery) -> Result<SessionPage, Failure> {
    let (status, search) = (query.status.map(status_text), query.search.as_deref().map(fold));
    let filter = Filter { status, search };
    let total = filter.count(conn)?;
    let mut page = Page { sessions: Vec::new(), limit: query.limit, more: false };
    let state = match &query.cursor {
        None => page.begin(conn, &filter, query.offset)?,
        Some(cursor) => page.go_on(conn, &filter, State::decode(cursor).ok_or(JournalError::BadCursor)?)?,
    };
    let next = state.filter(|_| page.more).map(|state| state.encode());
    Ok(SessionPage { sessions: page.sessions, total, next })
}

/// Runs that have not ended, with the newest event of their session.
pub(crate) fn active_runs(conn: &Connection) -> Result<Vec<Run>, Failure> {
    let mut runs = Vec::new();
    for session in open(conn)? {
        let (RunStatus::Starting { run_id, .. } | RunStatus::Running { run_id, .. }) = session.run_status else {
            continue;
        };
        match find_run(conn, session.id, run_id).map_err(JournalError::from) {
            Ok(Some(run)) => runs.push(Run { last_event_id: session.last_event_id, ..run }),
            Ok(None) => {}
            Err(error @ JournalError::Damaged { .. }) => tracing::error!(%error, %run_id, "a run is left out"),
            Err(error) => return Err(error.into()),
        }
    }
    runs.sort_by_key(|run| (run.started_at, run.run_id));
    Ok(runs)
}

/// Which sessions match.
struct Filter {
    status: Option<&'static str>,
    search: Option<String>,
}

impl Filter {
    fn count(&self, conn: &Connection) -> Result<u64, Failure> {
        let mut count = conn.prepare_cached(
            "SELECT count(*) FROM sessions
             WHERE (?1 IS NULL OR status = ?1) AND (?2 IS NULL OR instr(title_folded, ?2) > 0)",
        )?;
        Ok(count.query_row((self.status, &self.search), |columns| columns.get(0))?)
    }
}

/// What a listing knows between its pages.
#[derive(Debug, Clone, PartialEq)]
struct State {
    /// Every session that changed since the listing began is above this time.
    changed_above: i64,
    /// Sessions made later have a larger key, and are not part of the listing.
    last_key: u64,
    /// Place of the last row that was given in its turn.
    place: (i64, [u8; 16]),
    /// Keys of the sessions given.
    given: RoaringTreemap,
}

impl State {
    /// At the beginning of a listing, in the snapshot of its first page.
    fn begin(conn: &Connection) -> Result<Self, Failure> {
        let mut newest = conn.prepare_cached(
            "SELECT coalesce((SELECT updated_at FROM sessions ORDER BY updated_at DESC LIMIT 1), 0),
                 coalesce((SELECT max(key) FROM sessions), 0)",
        )?;
        let (updated_at, last_key): (i64, u64) =
            newest.query_row((), |columns| Ok((columns.get(0)?, columns.get(1)?)))?;
        let changed_above = updated_at.saturating_sub(LONGEST_APPEND_NANOS);
        Ok(Self { changed_above, last_key, place: (i64::MAX, [0; 16]), given: RoaringTreemap::new() })
    }

    fn place_behind(&mut self, session: &SessionRow) {
        self.place = (nanos(session.updated_at), *session.id.0.as_bytes());
    }

    fn encode(mut self) -> SessionCursor {
        self.given.optimize();
        let mut bytes = Vec::with_capacity(40 + self.given.serialized_size());
        bytes.extend_from_slice(&self.changed_above.to_le_bytes());
        bytes.extend_from_slice(&self.last_key.to_le_bytes());
        bytes.extend_from_slice(&self.place.0.to_le_bytes());
        bytes.extend_from_slice(&self.place.1);
        // Writing to memory does not fail.
        let _ = self.given.serialize_into(&mut bytes);
        SessionCursor(bytes)
    }

    fn decode(SessionCursor(bytes): &SessionCursor) -> Option<Self> {
        let (changed_above, bytes) = bytes.split_first_chunk()?;
        let (last_key, bytes) = bytes.split_first_chunk()?;
        let (updated_at, bytes) = bytes.split_first_chunk()?;
        let (id, bytes) = bytes.split_first_chunk()?;
        Some(Self {
            changed_above: i64::from_le_bytes(*changed_above),
            last_key: u64::from_le_bytes(*last_key),
            place: (i64::from_le_bytes(*updated_at), *id),
            given: RoaringTreemap::deserialize_from(bytes).ok()?,
        })
    }
}

/// A page in the making.
struct Page {
    sessions: Vec<SessionRow>,
    limit: u64,
    /// Whether there was a row more than fits.
    more: bool,
}

impl Page {
    fn is_full(&self) -> bool {
        self.sessions.len() as u64 >= self.limit
    }

    /// The first page; the listing's state if it can go on.
    fn begin(&mut self, conn: &Connection, filter: &Filter, offset: u64) -> Result<Option<State>, Failure> {
        if self.limit == 0 {
            return Ok(None);
        }
        let mut select = conn.prepare_cached(
            "SELECT * FROM sessions
             WHERE (?1 IS NULL OR status = ?1) AND (?2 IS NULL OR instr(title_folded, ?2) > 0)
             ORDER BY updated_at DESC, id LIMIT ?3 OFFSET ?4",
        )?;
        // How many to step over that cannot be read is not known: `take` ends it. The LIMIT keeps the plan that needs no sort.
        let rows = (filter.status, &filter.search, i64::MAX, bound(offset));
        let mut state = State::begin(conn)?;
        self.take(select.query(rows)?, &mut state, true)?;
        if self.more && offset > 0 {
            state.given.extend(keys_before(conn, filter, offset)?);
        }
        Ok(Some(state))
    }

    /// A later page: first what changed before its turn, then what follows.
    fn go_on(&mut self, conn: &Connection, filter: &Filter, mut state: State) -> Result<Option<State>, Failure> {
        if self.limit == 0 {
            return Ok(None);
        }
        let Filter { status, search } = filter;
        let (updated_at, id) = state.place;
        let mut changed = conn.prepare_cached(
            "SELECT * FROM sessions
             WHERE (?1 IS NULL OR status = ?1) AND (?2 IS NULL OR instr(title_folded, ?2) > 0) AND key <= ?3
                 AND updated_at >= ?4 AND (updated_at > ?5 OR id < ?6)
             ORDER BY updated_at DESC, id",
        )?;
        let from = updated_at.max(state.changed_above);
        let rows = changed.query(params![status, search, state.last_key, from, updated_at, id])?;
        self.take(rows, &mut state, false)?;
        let mut following = conn.prepare_cached(
            "SELECT * FROM sessions
             WHERE (?1 IS NULL OR status = ?1) AND (?2 IS NULL OR instr(title_folded, ?2) > 0) AND key <= ?3
                 AND updated_at <= ?4 AND (updated_at < ?4 OR id > ?5)
             ORDER BY updated_at DESC, id",
        )?;
        let rows = following.query(params![status, search, state.last_key, updated_at, id])?;
        self.take(rows, &mut state, true)?;
        Ok(Some(state))
    }

    /// Takes rows that were not given yet until the page is full and one more was seen.
    fn take(&mut self, mut rows: Rows<'_>, state: &mut State, in_turn: bool) -> Result<(), Failure> {
        while !self.more
            && let Some(columns) = rows.next()?
        {
            let key: u64 = columns.get("key")?;
            if state.given.contains(key) {
                continue;
            }
            if self.is_full() {
                self.more = true;
                break;
            }
            state.given.insert(key);
            let Some(session) = decode_or_tell(columns) else { continue };
            if in_turn {
                state.place_behind(&session);
            }
            self.sessions.push(session);
        }
        Ok(())
    }
}

/// Keys of the matches that a first page passes over: they count as given.
fn keys_before(conn: &Connection, filter: &Filter, offset: u64) -> Result<Vec<u64>, Failure> {
    let mut select = conn.prepare_cached(
        "SELECT key FROM sessions
         WHERE (?1 IS NULL OR status = ?1) AND (?2 IS NULL OR instr(title_folded, ?2) > 0)
         ORDER BY updated_at DESC, id LIMIT ?3",
    )?;
    let keys = select.query_map((filter.status, &filter.search, bound(offset)), |columns| columns.get(0))?;
    Ok(keys.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Clients carry the cursor in a URL: it must not grow with what was given where sessions were made in order.
    #[test]
    fn a_cursor_is_small_and_reads_back() {
        let given: RoaringTreemap = (1..=100_000).collect();
        let state = State { changed_above: -1, last_key: 7, place: (3, [9; 16]), given };
        let cursor = state.clone().encode();
        assert!(cursor.0.len() < 200, "{} bytes", cursor.0.len());
        assert_eq!(State::decode(&cursor), Some(state));
    }

    #[test]
    fn a_cursor_of_somebody_else_is_not_read() {
        for bytes in [&b""[..], b"x", &[0; 39], &[0xff; 80]] {
            assert_eq!(State::decode(&SessionCursor(bytes.to_vec())), None, "{bytes:?}");
        }
    }
}
