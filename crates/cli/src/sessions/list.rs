//! `sessions list`.

use anyhow::Result;
use comfy_table::{Table, presets};
use serde_json::json;
use stakpak_client::{Session, StakpakClient};

use super::{as_json, backend, failed};
use crate::{args::Global, run::Connected};

/// Longest title of the table.
const TITLE: usize = 60;

pub(super) async fn run(
    server: &Connected,
    global: &Global,
    search: Option<&str>,
    limit: usize,
    offset: usize,
) -> Result<()> {
    let sessions = find(&server.client, search, offset.saturating_add(limit)).await?;
    let sessions = sessions.get(offset..).unwrap_or_default();
    if global.json {
        let sessions: Vec<_> = sessions.iter().map(as_json).collect();
        say!("{}", json!({ "backend": backend(&server.home, global), "sessions": sessions }));
        return Ok(());
    }
    if sessions.is_empty() {
        say!("No sessions.");
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["ID", "UPDATED", "MESSAGES", "TITLE"]);
    for session in sessions {
        let title: String = session.title.chars().take(TITLE).collect();
        let updated = session.updated_at.format("%Y-%m-%d %H:%M UTC").to_string();
        table.add_row([session.id.to_string(), updated, session.message_count.to_string(), title]);
    }
    say!("{table}");
    Ok(())
}

/// The newest sessions whose title holds `search`, whatever its case; at most `most`.
async fn find(client: &StakpakClient, search: Option<&str>, most: usize) -> Result<Vec<Session>> {
    let search = search.map(str::to_lowercase);
    let fits = |session: &Session| search.as_ref().is_none_or(|search| session.title.to_lowercase().contains(search));
    let (mut found, mut page) = (Vec::new(), None);
    loop {
        let (sessions, next) = client.list_sessions_page(page.as_deref()).await.map_err(|error| failed(&error))?;
        found.extend(sessions.into_iter().filter(fits));
        page = next;
        if found.len() >= most || page.is_none() {
            found.truncate(most);
            return Ok(found);
        }
    }
}
