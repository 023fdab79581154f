//! `gateway init`: a `gateway.toml` with the channels whose tokens are given, and a code for the first owner of each.

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use serde_json::json;
use stakpak_config::{create_if_absent, write_private};

use crate::{
    args::{ChannelKeys, GatewayInitArgs},
    channel::{Change, Desk, given_by_environment, owner_code, tokens},
    exit::Failure,
    home::Home,
    place::Place,
};

/// What a new file begins with: tools that only look run, everything else asks.
const TEMPLATE: &str = include_str!("gateway.template.toml");

pub(super) async fn run(desk: &Desk<'_>, named: Option<PathBuf>, args: &GatewayInitArgs) -> Result<()> {
    let path = named.unwrap_or_else(|| desk.home.gateway_toml());
    let exists = path.exists();
    if exists && !args.force {
        bail!("{} is there already; --force changes it and keeps a copy", Home::show(&path));
    }
    let changes = changes(args, desk.json)?;
    let place = Place::standalone(desk.home, Some(&path));
    let mut channels = Vec::new();
    // All are tried before anything is written.
    for change in &changes {
        let config = change.candidate(&place)?;
        let identity = if args.no_verify { None } else { Some(change.confirmed(&config).await?.identity) };
        channels.push(json!({ "channel": change.channel, "identity": identity }));
    }
    let backup = if exists { Some(back_up(&path)?) } else { None };
    create_if_absent(&path, TEMPLATE)?;
    for change in &changes {
        change.write(&path)?;
    }
    let config = place.load()?;
    for (change, channel) in changes.iter().zip(&mut channels) {
        channel["owner_code"] = json!(owner_code(&config, change.channel).await?);
    }
    if desk.json {
        let backup = backup.map(|backup| backup.display().to_string());
        say!(
            "{}",
            json!({ "command": "gateway.init", "ok": true, "file": path.display().to_string(), "backup": backup,
                "channels": channels })
        );
        return Ok(());
    }
    if let Some(backup) = backup {
        say!("The old file is kept as {}.", Home::show(&backup));
    }
    say!("{} is written.", Home::show(&path));
    for channel in &channels {
        let text = |key: &str| channel[key].as_str();
        say!("  {}  {}", text("channel").unwrap_or_default(), text("identity").unwrap_or("not tested"));
        if let Some(code) = text("owner_code") {
            say!("  send it within ten minutes, and you are its admin:  /pair {code}");
        }
    }
    say!("Start it with: stakpak gateway run");
    Ok(())
}

/// The channels whose tokens are given by flag or environment, or else at the terminal.
fn changes(args: &GatewayInitArgs, json: bool) -> Result<Vec<Change>> {
    let given = [
        ("telegram", &args.telegram_token, &None),
        ("slack", &args.slack_bot_token, &args.slack_app_token),
        ("discord", &args.discord_token, &None),
    ];
    let no_flag = given.iter().all(|(_, token, _)| token.is_none());
    let mut changes = Vec::new();
    for (channel, token, app_token) in given {
        if token.is_none() && !(no_flag && given_by_environment(channel)) {
            continue;
        }
        let is_slack = channel == "slack";
        let flags = ChannelKeys {
            token: token.clone().filter(|_| !is_slack),
            bot_token: token.clone().filter(|_| is_slack),
            app_token: app_token.clone(),
            ..ChannelKeys::default()
        };
        changes.push(Change::of_tokens(channel, tokens::gather(channel, &flags, |_| false, false)?));
    }
    if changes.is_empty() && !json && std::io::stdin().is_terminal() {
        for channel in ["telegram", "slack", "discord"] {
            if let Some(tokens) = tokens::offer(channel)? {
                changes.push(Change::of_tokens(channel, tokens));
            }
        }
    }
    if changes.is_empty() {
        let text = "no channel: give --telegram-token, --discord-token, or --slack-bot-token with --slack-app-token, or set \
                    the variables TELEGRAM_BOT_TOKEN, DISCORD_BOT_TOKEN, SLACK_BOT_TOKEN and SLACK_APP_TOKEN";
        bail!(Failure::Usage(text.to_owned()));
    }
    Ok(changes)
}

fn back_up(path: &Path) -> Result<PathBuf> {
    let stamp = chrono::Utc::now().format("%Y%m%dT%H%M%S%.3fZ");
    let mut backup = path.as_os_str().to_owned();
    backup.push(format!(".{stamp}.bak"));
    let backup = PathBuf::from(backup);
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", Home::show(path)))?;
    write_private(&backup, &bytes)?;
    Ok(backup)
}
