//! `channel remove`: the table goes, everything else stays.

use std::io;

use anyhow::{Result, bail};
use serde_json::json;
use stakpak_config::{Document, edit};
use toml_edit::Item;

use super::{Desk, name_of};
use crate::{args::ChannelType, comments::keep_comments, home::Home};

pub(super) fn run(desk: &Desk<'_>, channel: ChannelType) -> Result<()> {
    let name = name_of(channel)?;
    let path = desk.place.file();
    let removed = edit(&path, |document| {
        let channels = document.get_mut("channels").and_then(Item::as_table_like_mut);
        let removed = channels.and_then(|channels| channels.remove(name));
        if let Some(table) = removed.as_ref().and_then(Item::as_table) {
            keep_comments(document, table);
        }
        Ok::<_, io::Error>(removed.is_some())
    })?;
    if !removed {
        bail!("there is no channel {name} in {}", Home::show(&path));
    }
    if desk.json {
        say!("{}", json!({ "command": format!("{}.remove", desk.name), "ok": true, "channel": name }));
        return Ok(());
    }
    say!("Channel {name} is removed from {}.", Home::show(&path));
    let notified = Document::load(&desk.home.autopilot_toml())?;
    if notified.is_some_and(|document| document.text(&["notifications", "channel"]) == Some(name)) {
        say!("[notifications] still names it: what schedules report goes nowhere until you change that.");
    }
    Ok(())
}
