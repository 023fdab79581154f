//! `pair` and `access`: who may talk to the bots, beside those whom the file lists.
//!
//! A running gateway is asked to settle codes, so that it tells their bearers at once; without one the store is enough.

use anyhow::{Result, bail};
use comfy_table::{Table, presets};
use serde_json::{Value, json};
use stakpak_gateway::{GatewayStore, Role, Subject};

use crate::{
    args::{AccessCommand, AccessWho, PairCommand},
    channel::{Desk, name_of},
    running::{RunningGateway, Unanswered},
};

pub(crate) async fn pair(desk: &Desk<'_>, command: PairCommand) -> Result<()> {
    match command {
        PairCommand::List => list_codes(desk).await,
        PairCommand::Approve { code, role } => {
            let role = Role::from(role);
            let settled = match asked(desk, "pairings/approve", &json!({ "code": code, "role": role })).await? {
                Some(settled) => Some(settled),
                None => store(desk).await?.approve_pairing(&code, role).await?.map(|settled| json!(settled.pairing)),
            };
            let Some(settled) = settled else { bail!("{WRONG_CODE}") };
            let text = format!("{} may talk to the bot of {} as {}.", who(&settled), channel(&settled), role.as_str());
            say_settled(desk, "approve", &settled, &text);
            Ok(())
        }
        PairCommand::Deny { code } => {
            let settled = match asked(desk, "pairings/deny", &json!({ "code": code })).await? {
                Some(settled) => Some(settled),
                None => store(desk).await?.deny_pairing(&code).await?.map(|settled| json!(settled.pairing)),
            };
            let Some(settled) = settled else { bail!("{WRONG_CODE}") };
            let text = format!("{} of {} stays out; the code is void.", who(&settled), channel(&settled));
            say_settled(desk, "deny", &settled, &text);
            Ok(())
        }
    }
}

const WRONG_CODE: &str = "the code is wrong, was used, or has expired";

/// What the running gateway says; none where there is none to ask.
async fn asked(desk: &Desk<'_>, path: &str, body: &Value) -> Result<Option<Value>> {
    let Some(running) = RunningGateway::find(desk.home)? else { return Ok(None) };
    match running.post(path, body).await {
        Ok(settled) => Ok(Some(settled)),
        Err(Unanswered::Absent(_)) => Ok(None),
        Err(Unanswered::Refused { code, .. }) if code == "not_found" => bail!("{WRONG_CODE}"),
        Err(refused) => Err(refused.into()),
    }
}

async fn list_codes(desk: &Desk<'_>) -> Result<()> {
    let pairings = store(desk).await?.pairings().await?;
    if desk.json {
        say!("{}", json!({ "command": "channel.pair.list", "ok": true, "pairings": pairings }));
        return Ok(());
    }
    if pairings.is_empty() {
        say!("Nobody waits to be let in. Who writes to a bot gets a code.");
        return Ok(());
    }
    let mut table = plain(&["CHANNEL", "USER", "NAME", "EXPIRES"]);
    for pairing in &pairings {
        let expires = chrono::DateTime::from_timestamp_millis(pairing.expires_at).unwrap_or_default();
        let expires = expires.format("%Y-%m-%d %H:%M:%S UTC").to_string();
        table.add_row([pairing.channel.as_str(), &pairing.user_id, &pairing.display_name, &expires]);
    }
    say!("{table}\nThe codes are with them: {} pair approve CODE", desk.typed());
    Ok(())
}

pub(crate) async fn access(desk: &Desk<'_>, command: AccessCommand) -> Result<()> {
    match command {
        AccessCommand::List => list_access(desk).await,
        AccessCommand::Allow { who, role } => {
            let (channel, kind) = (name_of(who.channel)?, subject(&who));
            store(desk).await?.access_allow(&channel.into(), kind, &who.id, role.into()).await?;
            let what = if who.chat { "Everybody in chat" } else { "User" };
            say_access(desk, "allow", &who, &format!("{what} {} may talk to the bot of {channel}.", who.id));
            Ok(())
        }
        AccessCommand::Revoke(who) => revoke(desk, &who).await,
    }
}

/// Whether a grant was taken back, or the file still lists them.
async fn revoke(desk: &Desk<'_>, who: &AccessWho) -> Result<()> {
    let channel = name_of(who.channel)?;
    let revoked = store(desk).await?.access_revoke(&channel.into(), subject(who), &who.id).await?;
    let config = desk.place.load()?;
    let settings = config.channels.settings().find(|(name, _)| *name == channel).map(|(_, settings)| settings);
    let is_listed = settings.is_some_and(|settings| match who.chat {
        true => settings.allow_chats.contains(&who.id),
        false => settings.allow_users.contains(&who.id) || settings.approvers.contains(&who.id),
    });
    if is_listed {
        let file = crate::home::Home::show(&desk.place.file());
        bail!("{} is listed in [channels.{channel}] of {file}: remove it there", who.id);
    }
    if !revoked {
        bail!("{} was not let in on {channel}; see: {} access list", who.id, desk.typed());
    }
    say_access(desk, "revoke", who, &format!("{} is not answered on {channel} any more.", who.id));
    Ok(())
}

async fn list_access(desk: &Desk<'_>) -> Result<()> {
    let mut entries: Vec<Value> = Vec::new();
    for (channel, settings) in desk.place.load()?.channels.settings() {
        let lists = [
            ("user", "user", &settings.allow_users),
            ("user", "approver", &settings.approvers),
            ("chat", "user", &settings.allow_chats),
        ];
        for (kind, role, ids) in lists {
            let of_file = |id: &String| json!({ "channel": channel, "display_name": "", "id": id, "kind": kind, "origin": "file", "role": role });
            entries.extend(ids.iter().map(of_file));
        }
    }
    entries.extend(store(desk).await?.access_list().await?.iter().map(|entry| json!(entry)));
    if desk.json {
        say!("{}", json!({ "command": "channel.access.list", "ok": true, "access": entries }));
        return Ok(());
    }
    if entries.is_empty() {
        say!("Nobody is let in. {} access allow telegram 42", desk.typed());
        return Ok(());
    }
    let mut table = plain(&["CHANNEL", "KIND", "ID", "ROLE", "FROM", "NAME"]);
    for entry in &entries {
        let cell = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        table.add_row(["channel", "kind", "id", "role", "origin", "display_name"].map(cell));
    }
    say!("{table}");
    Ok(())
}

async fn store(desk: &Desk<'_>) -> Result<GatewayStore> {
    let path = desk.place.load()?.gateway.store_path;
    Ok(tokio::task::spawn_blocking(move || GatewayStore::open(&path)).await??)
}

fn subject(who: &AccessWho) -> Subject {
    if who.chat { Subject::Chat } else { Subject::User }
}

fn plain(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.to_vec());
    table
}

fn who(settled: &Value) -> String {
    let name = settled["display"].as_str().filter(|name| !name.is_empty());
    let id = settled["user_id"].as_str().unwrap_or_default();
    name.map_or_else(|| id.to_owned(), |name| format!("{name} ({id})"))
}

fn channel(settled: &Value) -> &str {
    settled["channel"].as_str().unwrap_or_default()
}

fn say_settled(desk: &Desk<'_>, verb: &str, settled: &Value, text: &str) {
    if desk.json {
        say!("{}", json!({ "command": format!("channel.pair.{verb}"), "ok": true, "pairing": settled }));
    } else {
        say!("{text}");
    }
}

fn say_access(desk: &Desk<'_>, verb: &str, who: &AccessWho, text: &str) {
    if desk.json {
        let channel = name_of(who.channel).unwrap_or_default();
        let kind = subject(who);
        say!(
            "{}",
            json!({ "command": format!("channel.access.{verb}"), "ok": true, "channel": channel, "id": who.id,
                "kind": kind })
        );
    } else {
        say!("{text}");
    }
}
