//! `stakpak channel …`: edits of `autopilot.toml`, identity checks, and what the gateway knows.

use std::io;

use anyhow::{Context, Result, bail};
use comfy_table::{Table, presets};
use serde::Serialize;
use serde_json::json;
use stakpak_config::{ConfigFile, Document, edit, set};
use stakpak_gateway::{GatewayCliFlags, GatewayConfig, GatewayStore, build_channels};
use toml_edit::{Array, DocumentMut, Item, Table as TomlTable, Value, value};

use crate::{
    args::{ChannelAddArgs, ChannelCommand, ChannelType, Global},
    autopilot_file::AutopilotFile,
    exit::Failure,
    home::Home,
    instance::Facts,
};

/// The profile that runs get anyway.
const DEFAULT_PROFILE: &str = "default";

/// Where the token comes from when no flag says so.
const TOKEN_VARIABLE: &str = "TELEGRAM_BOT_TOKEN";

pub(crate) async fn run(home: &Home, global: &Global, command: ChannelCommand) -> Result<()> {
    match command {
        ChannelCommand::Add(args) => add(home, global, &args).await,
        ChannelCommand::List => show_list(home, global.json).await,
        ChannelCommand::Test { channel } => test(home, global.json, channel).await,
        ChannelCommand::Remove { channel } => remove(home, global.json, channel),
    }
}

/// A channel as `list` and `status` show it.
#[derive(Debug, Serialize)]
pub(crate) struct Overview {
    name: String,
    channel_type: String,
    /// `connected`, `connecting`, `degraded`, `failed`, `disabled`; `stopped` when nothing runs.
    state: String,
    last_error: Option<String>,
    profile: Option<String>,
    allow_users: Vec<String>,
    allow_chats: Vec<String>,
    enabled: bool,
    /// People who were turned away of late.
    strangers: Vec<Stranger>,
}

#[derive(Debug, Serialize)]
struct Stranger {
    user_id: String,
    name: String,
    allow_with: String,
}

/// The configured channels with their live state.
pub(crate) async fn overview(home: &Home, running: Option<&Facts>, token: &str) -> Result<Vec<Overview>> {
    let config = load(home)?;
    let live = match running {
        Some(facts) => live_states(&facts.url, token).await,
        None => None,
    };
    let mut channels = Vec::new();
    if let Some(telegram) = &config.channels.telegram {
        let live = live.as_ref().and_then(|channels| channels.iter().find(|channel| channel["id"] == "telegram"));
        let text = |key: &str| live.and_then(|live| live[key].as_str()).map(str::to_owned);
        let state = match (telegram.settings.enabled, running) {
            (false, _) => "disabled".to_owned(),
            (true, None) => "stopped".to_owned(),
            (true, Some(_)) => text("status").unwrap_or_else(|| "unknown".to_owned()),
        };
        channels.push(Overview {
            name: "telegram".to_owned(),
            channel_type: "telegram".to_owned(),
            state,
            last_error: text("last_error"),
            profile: telegram.settings.run.profile.clone(),
            allow_users: telegram.settings.allow_users.clone(),
            allow_chats: telegram.settings.allow_chats.clone(),
            enabled: telegram.settings.enabled,
            strangers: strangers(&config, "telegram").await?,
        });
    }
    for (name, finding) in &config.channels.disabled {
        channels.push(Overview {
            name: name.clone(),
            channel_type: name.clone(),
            state: "disabled".to_owned(),
            last_error: Some(finding.to_string()),
            profile: None,
            allow_users: Vec::new(),
            allow_chats: Vec::new(),
            enabled: false,
            strangers: Vec::new(),
        });
    }
    Ok(channels)
}

async fn live_states(url: &str, token: &str) -> Option<Vec<serde_json::Value>> {
    let client = reqwest::Client::builder().no_proxy().timeout(std::time::Duration::from_secs(5)).build().ok()?;
    let answer = client.get(format!("{url}/v1/gateway/channels")).bearer_auth(token).send().await.ok()?;
    let body: serde_json::Value = answer.json().await.ok()?;
    body["channels"].as_array().cloned()
}

async fn strangers(config: &GatewayConfig, channel: &str) -> Result<Vec<Stranger>> {
    let path = config.gateway.store_path.clone();
    if !path.exists() {
        return Ok(Vec::new());
    }
    let store = tokio::task::spawn_blocking(move || GatewayStore::open(&path)).await??;
    let strangers = store.strangers().await?;
    let of_channel = strangers.into_iter().filter(|stranger| stranger.channel == channel);
    Ok(of_channel
        .map(|stranger| Stranger {
            allow_with: format!("stakpak channel add {channel} --allow-user {}", stranger.user_id),
            user_id: stranger.user_id,
            name: stranger.display_name,
        })
        .collect())
}

/// For `status`.
pub(crate) fn one_line(channels: &[Overview]) -> String {
    if channels.is_empty() {
        return "none".to_owned();
    }
    channels.iter().map(|channel| format!("{} {}", channel.name, channel.state)).collect::<Vec<_>>().join(", ")
}

async fn show_list(home: &Home, json: bool) -> Result<()> {
    let running = Facts::of_running(home)?.filter(|facts| facts.mode == "up");
    let channels = overview(home, running.as_ref(), &AutopilotFile::load(home)?.token(home)?).await?;
    if json {
        say!("{}", json!({ "command": "autopilot.channel.list", "ok": true, "channels": channels }));
        return Ok(());
    }
    if channels.is_empty() {
        say!("No channels. Add one: stakpak channel add telegram --allow-user <your id>");
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["CHANNEL", "STATUS", "PROFILE", "ALLOWED"]);
    for channel in &channels {
        let users = channel.allow_users.iter().map(|user| format!("user {user}"));
        let chats = channel.allow_chats.iter().map(|chat| format!("chat {chat}"));
        let allowed = users.chain(chats).collect::<Vec<_>>().join(", ");
        let allowed = if allowed.is_empty() { "nobody".to_owned() } else { allowed };
        table.add_row([&channel.name, &channel.state, channel.profile.as_deref().unwrap_or("-"), &allowed]);
    }
    say!("{table}");
    for channel in &channels {
        if let Some(error) = &channel.last_error {
            say!("{}: {error}", channel.name);
        }
        for stranger in &channel.strangers {
            say!(
                "{}: turned away {} ({}); let them in with: {}",
                channel.name,
                stranger.user_id,
                stranger.name,
                stranger.allow_with
            );
        }
    }
    Ok(())
}

/// The gateway's tables of `autopilot.toml`; its store is in the state directory unless the file says otherwise.
pub(crate) fn load(home: &Home) -> Result<GatewayConfig> {
    let path = home.autopilot_toml();
    let named = Document::load(&path)?.is_some_and(|document| document.text(&["gateway", "store"]).is_some());
    let store = (!named).then(|| home.autopilot("gateway.db"));
    Ok(GatewayConfig::load(path.as_path(), &GatewayCliFlags { store, ..GatewayCliFlags::default() })?)
}

async fn add(home: &Home, global: &Global, args: &ChannelAddArgs) -> Result<()> {
    let json = global.json;
    let name = only_telegram(args.channel)?;
    let profile = Some(global.profile.as_str()).filter(|profile| *profile != DEFAULT_PROFILE);
    if let Some(profile) = profile {
        ConfigFile::load(home.config_toml())?.profile(profile)?;
    }
    let path = home.autopilot_toml();
    edit(&path, |document| write_channel(document, name, profile, args)).map_err(|error| match error {
        stakpak_config::EditError::Refused(error) => anyhow::anyhow!("{error}; nothing was written"),
        other => other.into(),
    })?;
    if !json {
        say!("Channel {name} is in {}.", Home::show(&path));
    }
    if !args.no_test {
        test(home, json, Some(args.channel)).await.with_context(|| {
            format!("channel {name} is written, but it does not work yet; try again with: stakpak channel test {name}")
        })?;
    } else if json {
        say!("{}", json!({ "command": "autopilot.channel.add", "ok": true, "channel": name }));
    }
    if !json && args.allow_users.is_empty() && args.allow_chats.is_empty() {
        say!("Nobody is answered until you allow somebody: write to the bot, then see: stakpak channel list");
    }
    if !json && Facts::of_running(home)?.is_none() {
        say!("Start it with: stakpak up");
    }
    Ok(())
}

fn only_telegram(channel: ChannelType) -> Result<&'static str> {
    match channel {
        ChannelType::Telegram => Ok("telegram"),
        ChannelType::Slack => bail!(Failure::Usage("slack is not supported by this version; telegram is".to_owned())),
        ChannelType::Discord => {
            bail!(Failure::Usage("discord is not supported by this version; telegram is".to_owned()))
        }
    }
}

/// Changes the given keys of the table only.
fn write_channel(
    document: &mut DocumentMut,
    name: &str,
    profile: Option<&str>,
    args: &ChannelAddArgs,
) -> io::Result<()> {
    let table = channel_table(document, name)?;
    let reference = |variable: &str| format!("${{{variable}}}");
    if let Some(token) = &args.token {
        set(table, "token", token.as_str());
    } else if let Some(variable) = &args.token_env {
        set(table, "token", reference(variable));
    } else if !table.contains_key("token") {
        if std::env::var_os(TOKEN_VARIABLE).is_none() {
            let text = format!("no token: give --token, or set {TOKEN_VARIABLE}, or name a variable with --token-env");
            return Err(io::Error::other(text));
        }
        set(table, "token", reference(TOKEN_VARIABLE));
    }
    if let Some(url) = &args.api_base_url {
        set(table, "api_base_url", url.as_str());
    }
    if let Some(profile) = profile {
        set(table, "profile", profile);
    }
    extend(table, "allow_users", &args.allow_users)?;
    extend(table, "allow_chats", &args.allow_chats)
}

fn channel_table<'a>(document: &'a mut DocumentMut, name: &str) -> io::Result<&'a mut TomlTable> {
    let implicit = || {
        let mut table = TomlTable::new();
        table.set_implicit(true);
        Item::Table(table)
    };
    let not_a_table = || io::Error::other(format!("channels.{name} must be written as a [channels.{name}] table"));
    let channels = document.entry("channels").or_insert_with(implicit).as_table_mut().ok_or_else(not_a_table)?;
    channels.entry(name).or_insert_with(|| Item::Table(TomlTable::new())).as_table_mut().ok_or_else(not_a_table)
}

/// Adds ids that are not in the list yet.
fn extend(table: &mut TomlTable, key: &str, ids: &[String]) -> io::Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    let list = table.entry(key).or_insert_with(|| value(Array::new()));
    let list = list.as_array_mut().ok_or_else(|| io::Error::other(format!("{key} must be a list")))?;
    for id in ids {
        if !list.iter().any(|known| same_id(known, id)) {
            list.push(id.as_str());
        }
    }
    Ok(())
}

fn same_id(known: &Value, id: &str) -> bool {
    known.as_str() == Some(id) || known.as_integer().is_some_and(|known| known.to_string() == id)
}

/// Asks each platform who the bot is. One that fails does not keep the others from being asked.
async fn test(home: &Home, json: bool, only: Option<ChannelType>) -> Result<()> {
    let only = only.map(only_telegram).transpose()?;
    let config = load(home)?;
    let mut results = Vec::new();
    for (name, finding) in &config.channels.disabled {
        results.push(json!({ "channel": name, "ok": false, "error": finding.to_string() }));
    }
    for channel in build_channels(&config)? {
        results.push(match channel.test().await {
            Ok(result) => json!({ "channel": channel.id().as_str(), "ok": true, "identity": result.identity, "details": result.details }),
            Err(error) => json!({ "channel": channel.id().as_str(), "ok": false, "error": error.to_string() }),
        });
    }
    results.retain(|result| only.is_none_or(|only| result["channel"] == only));
    if results.is_empty() {
        bail!("no such channel is configured; add one: stakpak channel add telegram");
    }
    let failed = results.iter().any(|result| result["ok"] == false);
    if json {
        say!("{}", json!({ "command": "autopilot.channel.test", "ok": !failed, "channels": results }));
    } else {
        for result in &results {
            let name = result["channel"].as_str().unwrap_or_default();
            match result["error"].as_str() {
                None => say!("{name}: pass, the bot is {}", result["identity"].as_str().unwrap_or_default()),
                Some(error) => eprintln!("{name}: FAILED: {error}"),
            }
        }
    }
    if failed {
        bail!(Failure::Silent);
    }
    Ok(())
}

fn remove(home: &Home, json: bool, channel: ChannelType) -> Result<()> {
    let name = match channel {
        ChannelType::Telegram => "telegram",
        ChannelType::Slack => "slack",
        ChannelType::Discord => "discord",
    };
    let path = home.autopilot_toml();
    let removed = edit(&path, |document| {
        let channels = document.get_mut("channels").and_then(Item::as_table_like_mut);
        Ok::<_, io::Error>(channels.is_some_and(|channels| channels.remove(name).is_some()))
    })?;
    if !removed {
        bail!("there is no channel {name} in {}", Home::show(&path));
    }
    if json {
        say!("{}", json!({ "command": "autopilot.channel.remove", "ok": true, "channel": name }));
    } else {
        say!("Channel {name} is removed from {}.", Home::show(&path));
    }
    Ok(())
}
