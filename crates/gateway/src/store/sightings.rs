//! Sessions as programs see them: listed by page, and one with what it does and did last.

use serde::Serialize;
use stakpak_sqlite::rusqlite::{Connection, OptionalExtension, Row, params};
use utoipa::ToSchema;

use super::{
    GatewayStore, SessionMapping, StoreError,
    sessions::{COLUMNS, read},
};

/// Which part of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) limit: u32,
    pub(crate) offset: u32,
    /// Only this platform's.
    pub(crate) channel: Option<String>,
}

/// A session and what it does.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct SessionSighting {
    /// A run goes on, or a message waits for one.
    pub(crate) active: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_run: Option<LastRun>,
    pub(crate) session_id: String,
    pub(crate) title: String,
    /// Unix ms.
    pub(crate) updated_at: i64,
}

/// The run of a session that ended last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct LastRun {
    /// Why it failed, as the chat was told.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// Unix ms.
    finished_at: i64,
    /// `completed`, `failed`, `cancelled` or `timed_out`.
    outcome: String,
    run_id: String,
}

impl GatewayStore {
    /// A page of all mappings, newest first.
    pub(crate) async fn page(&self, page: Page) -> Result<Vec<SessionMapping>, StoreError> {
        self.database
            .read(move |connection| {
                let sql = format!(
                    "SELECT {COLUMNS} FROM sessions WHERE ?3 IS NULL OR channel = ?3
                     ORDER BY updated_at DESC, routing_key LIMIT ?1 OFFSET ?2"
                );
                let mut statement = connection.prepare_cached(&sql)?;
                let rows = statement.query_map(params![page.limit, page.offset, page.channel], read)?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// One session; none if no conversation had it. One that its chat has left behind has no title any more.
    pub(crate) async fn sighting(&self, session_id: &str) -> Result<Option<SessionSighting>, StoreError> {
        let session_id = session_id.to_owned();
        self.database.read(move |connection| sighting(connection, session_id)).await
    }
}

fn sighting(connection: &Connection, session_id: String) -> Result<Option<SessionSighting>, StoreError> {
    let sql = "SELECT title, updated_at FROM sessions WHERE session_id = ?1 ORDER BY updated_at DESC LIMIT 1";
    let mapped: Option<(String, i64)> =
        connection.prepare_cached(sql)?.query_row([&session_id], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let sql = "SELECT run_id, outcome, finished_at, error FROM runs WHERE session_id = ?1 AND state = 'done'
               ORDER BY finished_at DESC, started_at DESC LIMIT 1";
    let last_run = connection.prepare_cached(sql)?.query_row([&session_id], |row| Ok(read_run(row))).optional()?;
    let last_run = last_run.transpose()?;
    let sql = "SELECT EXISTS (SELECT 1 FROM runs WHERE session_id = ?1 AND state = 'open')
               OR EXISTS (SELECT 1 FROM sessions JOIN inbox USING (routing_key) WHERE session_id = ?1
                          AND state IN ('accepted', 'awaiting', 'batched', 'running') AND kind IN ('message', 'api'))";
    let active: bool = connection.prepare_cached(sql)?.query_row([&session_id], |row| row.get(0))?;
    let known = mapped.or_else(|| last_run.as_ref().map(|run: &LastRun| (String::new(), run.finished_at)));
    Ok(known.map(|(title, updated_at)| SessionSighting { active, last_run, session_id, title, updated_at }))
}

fn read_run(row: &Row<'_>) -> Result<LastRun, StoreError> {
    Ok(LastRun { run_id: row.get(0)?, outcome: row.get(1)?, finished_at: row.get(2)?, error: row.get(3)? })
}
