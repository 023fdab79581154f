//! `channel list`: what is configured, how it goes, who is let in and who was turned away.

use anyhow::Result;
use comfy_table::{Table, presets};
use serde::Serialize;
use serde_json::json;
use stakpak_gateway::{AccessEntry, ChannelSettings, GatewayConfig, GatewayStore, Subject};

use super::{Desk, live};
use crate::running::RunningGateway;

/// A channel as `list` and `status` show it.
#[derive(Debug, Serialize)]
pub(crate) struct Overview {
    name: String,
    channel_type: String,
    /// `connected`, `connecting`, `degraded`, `failed`, `disabled`; `stopped` when nothing runs.
    state: String,
    /// The bot's name, once the gateway knows it.
    identity: Option<String>,
    last_error: Option<String>,
    profile: Option<String>,
    allow_users: Vec<String>,
    allow_chats: Vec<String>,
    approvers: Vec<String>,
    enabled: bool,
    /// Who was let in while the gateway ran.
    access: Vec<AccessEntry>,
    /// People who were turned away of late.
    strangers: Vec<Stranger>,
}

#[derive(Debug, Clone, Serialize)]
struct Stranger {
    #[serde(skip)]
    channel: String,
    user_id: String,
    name: String,
    allow_with: String,
}

/// What the store knows about people.
#[derive(Default)]
struct People {
    access: Vec<AccessEntry>,
    strangers: Vec<Stranger>,
}

/// The configured channels with their live state.
pub(crate) async fn overview(desk: &Desk<'_>, running: Option<&RunningGateway>) -> Result<Vec<Overview>> {
    let config = desk.place.load()?;
    let states = live::states(running).await;
    let people = People::read(desk, &config).await?;
    let settings = config.channels.settings();
    let mut channels: Vec<_> = settings
        .map(|(name, settings)| {
            let live = live::of(states.as_ref(), name);
            let text = |key: &str| live.and_then(|live| live[key].as_str()).map(str::to_owned);
            let state = match (settings.enabled, running) {
                (false, _) => "disabled".to_owned(),
                (true, None) => "stopped".to_owned(),
                (true, Some(_)) => text("status").unwrap_or_else(|| "unknown".to_owned()),
            };
            Overview {
                state,
                identity: text("identity"),
                last_error: text("last_error"),
                ..Overview::of(name, settings, &people)
            }
        })
        .collect();
    channels.extend(config.channels.disabled.iter().map(|(name, finding)| Overview {
        name: name.clone(),
        channel_type: name.clone(),
        state: "disabled".to_owned(),
        identity: None,
        last_error: Some(finding.to_string()),
        profile: None,
        allow_users: Vec::new(),
        allow_chats: Vec::new(),
        approvers: Vec::new(),
        enabled: false,
        access: Vec::new(),
        strangers: Vec::new(),
    }));
    Ok(channels)
}

impl Overview {
    fn of(name: &str, settings: &ChannelSettings, people: &People) -> Self {
        Self {
            name: name.to_owned(),
            channel_type: name.to_owned(),
            state: String::new(),
            identity: None,
            last_error: None,
            profile: settings.run.profile.clone(),
            allow_users: settings.allow_users.clone(),
            allow_chats: settings.allow_chats.clone(),
            approvers: settings.approvers.clone(),
            enabled: settings.enabled,
            access: people.access.iter().filter(|entry| entry.channel.as_str() == name).cloned().collect(),
            strangers: people.strangers.iter().filter(|stranger| stranger.channel == name).cloned().collect(),
        }
    }

    /// Who may talk, on one line.
    fn allowed(&self) -> String {
        let users = self.allow_users.iter().chain(&self.approvers).map(|user| format!("user {user}"));
        let chats = self.allow_chats.iter().map(|chat| format!("chat {chat}"));
        let granted = self.access.iter().map(|entry| match entry.kind {
            Subject::User => format!("user {} ({})", entry.id, entry.role.as_str()),
            Subject::Chat => format!("chat {}", entry.id),
        });
        let mut allowed: Vec<String> = users.chain(chats).chain(granted).collect();
        allowed.dedup();
        if allowed.is_empty() { "nobody".to_owned() } else { allowed.join(", ") }
    }
}

impl People {
    async fn read(desk: &Desk<'_>, config: &GatewayConfig) -> Result<Self> {
        let path = config.gateway.store_path.clone();
        if !path.exists() {
            return Ok(Self::default());
        }
        let store = tokio::task::spawn_blocking(move || GatewayStore::open(&path)).await??;
        let strangers = store.strangers().await?;
        let strangers = strangers.into_iter().map(|stranger| Stranger {
            allow_with: format!("{} add {} --allow-user {}", desk.typed(), stranger.channel, stranger.user_id),
            channel: stranger.channel.clone(),
            user_id: stranger.user_id,
            name: stranger.display_name,
        });
        Ok(Self { strangers: strangers.collect(), access: store.access_list().await? })
    }
}

/// For `status`.
pub(crate) fn one_line(channels: &[Overview]) -> String {
    channels.iter().map(|channel| format!("{} {}", channel.name, channel.state)).collect::<Vec<_>>().join(", ")
}

pub(super) async fn run(desk: &Desk<'_>) -> Result<()> {
    let running = RunningGateway::find(desk.home)?;
    let channels = overview(desk, running.as_ref()).await?;
    if desk.json {
        say!("{}", json!({ "command": format!("{}.list", desk.name), "ok": true, "channels": channels }));
        return Ok(());
    }
    if channels.is_empty() {
        say!("No channels. Add one: {} add telegram", desk.typed());
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["CHANNEL", "STATUS", "BOT", "PROFILE", "ALLOWED"]);
    for channel in &channels {
        let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let [bot, profile] = [&channel.identity, &channel.profile].map(or_dash);
        table.add_row([&channel.name, &channel.state, &bot, &profile, &channel.allowed()]);
    }
    say!("{table}");
    for channel in &channels {
        if let Some(error) = &channel.last_error {
            say!("{}: {error}", channel.name);
        }
        for Stranger { user_id, name, allow_with, .. } in &channel.strangers {
            say!("{}: turned away {user_id} ({name}); let them in with: {allow_with}", channel.name);
        }
    }
    Ok(())
}
