//! `channel add`: the given keys of one table, after the platform has confirmed the token.

use std::{io, path::Path};

use anyhow::{Context, Result, bail};
use serde_json::{Value as Json, json};
use stakpak_config::{Document, EditError, edit, set};
use stakpak_gateway::{ChannelSettings, ChannelTestResult, DmPolicy, GatewayConfig, GatewayStore};
use toml_edit::{Array, DocumentMut, Item, Table, Value, value};

use super::{Desk, live, name_of, probe, tokens};
use crate::{
    args::{ChannelAddArgs, ChannelKeys, Global},
    exit::Failure,
    home::Home,
    place::Place,
    running::RunningGateway,
};

/// What is written.
pub(crate) struct Change {
    pub(crate) channel: &'static str,
    pub(crate) tokens: Vec<(&'static str, String)>,
    pub(crate) profile: Option<String>,
    pub(crate) keys: ChannelKeys,
    /// Whether it is written as it is, without a question to the platform.
    pub(crate) no_test: bool,
}

/// What the platform and the gateway said.
#[derive(Default)]
struct Report {
    identity: Option<ChannelTestResult>,
    owner_code: Option<String>,
    live: Option<Json>,
}

pub(super) async fn run(desk: &Desk<'_>, global: &Global, args: ChannelAddArgs) -> Result<()> {
    let ChannelAddArgs { channel, mut keys, no_test } = args;
    let channel = name_of(channel.get())?;
    keys.token_env.iter().try_for_each(|name| check_variable("--token-env", name))?;
    let profile = given_profile(global);
    if let Some(profile) = &profile {
        desk.home.config_file()?.profile(profile)?;
    }
    let path = desk.place.file();
    let before = Document::load(&path)?;
    let written = |key: &str| before.as_ref().is_some_and(|file| file.locate(&["channels", channel, key]).is_some());
    let tokens = tokens::gather(channel, &keys, written, !desk.json)?;
    let target = keys.target.take();
    let change = Change { channel, tokens, profile, keys, no_test };

    let mut report = Report::default();
    let config = change.candidate(&desk.place)?;
    if !change.no_test {
        report.identity = Some(change.confirmed(&config).await?);
    }
    let running = RunningGateway::find(desk.home)?;
    let was_live = live::of(live::states(running.as_ref()).await.as_ref(), channel).is_some();
    change.write(&path)?;
    if let Some(target) = &target {
        edit(&desk.home.autopilot_toml(), |document| set_notifications(document, channel, target)).map_err(refused)?;
    }
    report.owner_code = owner_code(&config, channel).await?;
    if let Some(running) = running.as_ref().filter(|_| !was_live) {
        report.live = live::taken_up(running, channel).await;
    }
    show(desk, &change, &report, &path, running.is_some());
    Ok(())
}

impl Change {
    /// Of the tokens only.
    pub(crate) fn of_tokens(channel: &'static str, tokens: Vec<(&'static str, String)>) -> Self {
        Self { channel, tokens, profile: None, keys: ChannelKeys::default(), no_test: false }
    }

    /// The configuration as it will be.
    pub(crate) fn candidate(&self, place: &Place) -> Result<GatewayConfig> {
        let path = place.file();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", Home::show(&path))),
        };
        let mut document: DocumentMut = text.parse().context("a file that does not parse is not edited")?;
        self.apply(&mut document).map_err(|error| anyhow::anyhow!("{error}; nothing was written"))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let config = place.read(&Document::parse(&name, document.to_string())?)?;
        let disabled = config.channels.disabled.iter().find(|(name, _)| name == self.channel);
        match disabled {
            // A variable that only the service has.
            Some((_, finding)) if finding.code == "E203" && self.no_test => Ok(config),
            Some((_, finding)) => bail!("{finding}; nothing was written"),
            None => Ok(config),
        }
    }

    pub(crate) async fn confirmed(&self, config: &GatewayConfig) -> Result<ChannelTestResult> {
        match probe::ask(config, self.channel).await {
            Ok((_, result)) => Ok(result),
            Err(problem) => bail!(
                "{}: {}; nothing was written, and with --no-test it is written without a test",
                self.channel,
                problem.error
            ),
        }
    }

    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        edit(path, |document| self.apply(document)).map_err(refused)
    }

    /// Changes the given keys of the table only.
    fn apply(&self, document: &mut DocumentMut) -> io::Result<()> {
        let table = channel_table(document, self.channel)?;
        for (key, token) in &self.tokens {
            set(table, key, token.as_str());
        }
        if let Some(url) = &self.keys.api_base_url {
            set(table, "api_base_url", url.as_str());
        }
        if let Some(profile) = &self.profile {
            set(table, "profile", profile.as_str());
        }
        extend(table, "allow_users", &self.keys.allow_users)?;
        extend(table, "allow_chats", &self.keys.allow_chats)?;
        extend(table, "approvers", &self.keys.approvers)
    }
}

pub(crate) fn refused(error: EditError<io::Error>) -> anyhow::Error {
    match error {
        EditError::Refused(error) => anyhow::anyhow!("{error}; nothing was written"),
        other => other.into(),
    }
}

/// The profile that a flag names: one of the environment is for this command, not for the file.
pub(crate) fn given_profile(global: &Global) -> Option<String> {
    let is_flag = |argument: std::ffi::OsString| {
        argument.to_str().is_some_and(|argument| argument == "--profile" || argument.starts_with("--profile="))
    };
    std::env::args_os().any(is_flag).then(|| global.profile.clone())
}

pub(crate) fn check_variable(flag: &str, name: &str) -> Result<()> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if name.is_empty() || name.starts_with(|first: char| first.is_ascii_digit()) || !name.bytes().all(is_word) {
        // It may be the token itself, so it is not repeated.
        bail!(Failure::Usage(format!("{flag} takes the name of a variable, such as TELEGRAM_BOT_TOKEN")));
    }
    Ok(())
}

fn channel_table<'a>(document: &'a mut DocumentMut, name: &str) -> io::Result<&'a mut Table> {
    let implicit = || {
        let mut table = Table::new();
        table.set_implicit(true);
        Item::Table(table)
    };
    let not_a_table = || io::Error::other(format!("channels.{name} must be written as a [channels.{name}] table"));
    let channels = document.entry("channels").or_insert_with(implicit).as_table_mut().ok_or_else(not_a_table)?;
    channels.entry(name).or_insert_with(|| Item::Table(Table::new())).as_table_mut().ok_or_else(not_a_table)
}

pub(crate) fn set_notifications(document: &mut DocumentMut, channel: &str, target: &str) -> io::Result<()> {
    let not_a_table = || io::Error::other("notifications must be written as a [notifications] table");
    let table = document.entry("notifications").or_insert_with(|| Item::Table(Table::new()));
    let table = table.as_table_mut().ok_or_else(not_a_table)?;
    set(table, "channel", channel);
    set(table, "target", target);
    Ok(())
}

/// Adds ids that are not in the list yet.
fn extend(table: &mut Table, key: &str, ids: &[String]) -> io::Result<()> {
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

/// A code for the first owner, as long as nobody can talk to the bot.
pub(crate) async fn owner_code(config: &GatewayConfig, channel: &str) -> Result<Option<String>> {
    let named = config.channels.settings().find(|(name, _)| *name == channel);
    let guilds = config.channels.discord.as_ref().filter(|_| channel == "discord");
    let has_guilds = guilds.is_some_and(|discord| !discord.guilds.is_empty());
    if has_guilds || named.is_some_and(|(_, settings)| lets_somebody_in(settings)) {
        return Ok(None);
    }
    let path = config.gateway.store_path.clone();
    let store = tokio::task::spawn_blocking(move || GatewayStore::open(&path)).await??;
    if store.access_list().await?.iter().any(|entry| entry.channel.as_str() == channel) {
        return Ok(None);
    }
    Ok(Some(store.new_owner_code(&channel.into()).await?))
}

fn lets_somebody_in(settings: &ChannelSettings) -> bool {
    let ChannelSettings { allow_users, allow_chats, approvers, dm_policy, .. } = settings;
    let listed = [allow_users, allow_chats, approvers].iter().any(|list| !list.is_empty());
    // Where nobody may write directly a code cannot be sent.
    listed || matches!(dm_policy, DmPolicy::Open | DmPolicy::Disabled)
}

fn show(desk: &Desk<'_>, change: &Change, report: &Report, path: &Path, runs: bool) {
    let channel = change.channel;
    if desk.json {
        let result = report.identity.as_ref();
        say!(
            "{}",
            json!({ "command": format!("{}.add", desk.name), "ok": true, "channel": channel,
                "file": path.display().to_string(), "identity": result.map(|result| &result.identity),
                "details": result.map(|result| &result.details), "owner_code": report.owner_code,
                "live": report.live.as_ref().map(|live| &live["status"]) })
        );
        return;
    }
    if let Some(result) = &report.identity {
        say!("{channel}: pass, the bot is {}", result.identity);
        say!("  {}", result.details);
    }
    say!("Channel {channel} is in {}.", Home::show(path));
    match &report.live {
        Some(live) => {
            let error = live["last_error"].as_str().map(|error| format!(": {error}")).unwrap_or_default();
            say!("The running instance has taken it up: {}{error}.", live["status"].as_str().unwrap_or("unknown"));
        }
        None if runs => say!("The running instance takes it up within a second."),
        None => say!("Start it with: stakpak up"),
    }
    if let Some(code) = &report.owner_code {
        say!(
            "Nobody may talk to the bot yet. Within ten minutes, send it this and you are its admin:\n\n  /pair {code}\n"
        );
        say!("Others get a code when they write to it: {} pair approve CODE", desk.typed());
    }
}
