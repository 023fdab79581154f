//! The gateway's tables of `autopilot.toml` (or `gateway.toml`): `[server] [gateway] [routing] [channels.*]`.
//!
//! * A file that is not TOML stops start-up; a bad `[gateway]` or `[routing]` table does too, a bad channel disables only
//!   itself. Tables of other parts of the product are not looked at.
//! * A key without effect is a warning, never silence.

mod channels;
mod load;
mod tables;

use std::{path::PathBuf, time::Duration};

use stakpak_config::{Finding, LoadError, Secret};

pub use load::{DEFAULT_GATEWAY_CONFIG_PATH, default_gateway_config_path};

use crate::RouterConfig;

/// Flags that replace what the file says.
#[derive(Clone, Default)]
pub struct GatewayCliFlags {
    /// The agent server.
    pub url: Option<String>,
    /// Its bearer token.
    pub token: Option<String>,
    /// Replaces the token of `[channels.telegram]`.
    pub telegram_token: Option<String>,
    /// Replaces the token of `[channels.discord]`.
    pub discord_token: Option<String>,
    /// Only together with the app token.
    pub slack_bot_token: Option<String>,
    /// Only together with the bot token.
    pub slack_app_token: Option<String>,
    /// The gateway's database.
    pub store: Option<PathBuf>,
}

impl std::fmt::Debug for GatewayCliFlags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GatewayCliFlags").field("url", &self.url).field("store", &self.store).finish_non_exhaustive()
    }
}

/// Everything the gateway is told.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// The agent server.
    pub server: ServerConfig,
    /// Store, titles, approvals.
    pub gateway: GatewaySettings,
    /// Sessions of chats.
    pub routing: RouterConfig,
    /// The platforms.
    pub channels: ChannelConfigs,
    /// Warnings and disabled channels, with their place in the file.
    pub findings: Vec<Finding>,
}

/// Where the agent server is.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Without a path.
    pub url: String,
    /// Also guards the gateway's own API; may be blank.
    pub token: Secret,
}

/// `[gateway]`.
#[derive(Debug, Clone)]
pub struct GatewaySettings {
    /// The database.
    pub store_path: PathBuf,
    /// Where gateways of different stores find each other out: locks of bot tokens.
    pub state_dir: PathBuf,
    /// Used when nothing else names a model.
    pub model: Option<String>,
    /// With `{channel}`, `{peer}`, `{chat_type}`, `{chat_id}`.
    pub title_template: String,
    /// Life of a one-shot context.
    pub delivery_context_ttl: Duration,
    /// Absent: ask.
    pub approval_mode: Option<ApprovalMode>,
    /// Tools that `allowlist` allows.
    pub approval_allowlist: Vec<String>,
    /// How long an approval waits; then it is denied.
    pub approval_timeout: Duration,
    /// Where approvals are asked instead of in the chat: `slack:C0OPS`.
    pub approval_route: Option<String>,
    /// Who asked may not approve.
    pub two_person: bool,
    /// What becomes of a message while an approval is open.
    pub message_while_pending: MessageWhilePending,
    /// What becomes of a message while a run goes on.
    pub busy_policy: BusyPolicy,
    /// How waiting messages become runs.
    pub queued: Queued,
    /// Most waiting messages of a conversation.
    pub queue_limit: u32,
    /// How long a run may take; none: as long as it does.
    pub run_timeout: Option<Duration>,
    /// Messages that waited longer for a gateway that was down are confirmed first; none: they run.
    pub stale_after: Option<Duration>,
    /// What is shown while a run goes on.
    pub progress: Progress,
    /// Answers of more messages go as a file.
    pub long_reply_chunks: usize,
    /// Bytes of the largest attachment.
    pub max_attachment: u64,
    /// After this long without a message a conversation gets a new session.
    pub prune_after: Duration,
}

/// What becomes of a message while an approval is open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageWhilePending {
    /// It waits; nothing is decided by it.
    #[default]
    Queue,
    /// It denies the approval, as in 0.3.x.
    Reject,
}

/// What becomes of a message while a run goes on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BusyPolicy {
    /// It waits for its own run.
    #[default]
    Queue,
    /// It goes into the run.
    Steer,
    /// It ends the run and has its own.
    Interrupt,
}

/// How waiting messages become runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Queued {
    /// Each its own, in order.
    #[default]
    Each,
    /// All of a chat become one message, a line each.
    Merge,
}

/// What is shown while a run goes on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// One message that is edited.
    #[default]
    Live,
    /// Messages as the text grows.
    Messages,
    /// The answer only.
    Final,
}

/// What happens to a tool call that waits for a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalMode {
    /// Accepted.
    AllowAll,
    /// Rejected.
    DenyAll,
    /// Accepted if listed.
    Allowlist,
}

/// `[channels.*]`; none if absent or disabled by a finding.
#[derive(Debug, Clone, Default)]
pub struct ChannelConfigs {
    /// `[channels.telegram]`.
    pub telegram: Option<TelegramConfig>,
    /// `[channels.slack]`.
    pub slack: Option<SlackConfig>,
    /// `[channels.discord]`.
    pub discord: Option<DiscordConfig>,
    /// Channels of the file that do not work, with the finding that says why.
    pub disabled: Vec<(String, Finding)>,
}

/// What every channel can be told.
#[derive(Debug, Clone)]
pub struct ChannelSettings {
    /// Whether it is started.
    pub enabled: bool,
    /// The platform's API, or a proxy of it.
    pub api_base_url: String,
    /// In groups, answer only when addressed.
    pub require_mention: bool,
    /// Users who may talk, by id.
    pub allow_users: Vec<String>,
    /// Chats in which everybody may talk, by id.
    pub allow_chats: Vec<String>,
    /// Users who may decide approvals, by id.
    pub approvers: Vec<String>,
    /// Who else may write directly.
    pub dm_policy: DmPolicy,
    /// Who else may talk in groups.
    pub group_policy: GroupPolicy,
    /// How far back messages are fetched after a time without connection: `gateway.catch_up_hours`.
    pub catch_up: Duration,
    /// What runs started here ask for.
    pub run: ChannelRunConfig,
}

/// What becomes of a direct message of somebody who is not listed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DmPolicy {
    /// They get a code that the operator can approve.
    #[default]
    Pairing,
    /// Refused.
    Allowlist,
    /// Accepted.
    Open,
    /// No direct messages at all, also of those who are listed.
    Disabled,
}

/// What becomes of a message in a group that is not listed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupPolicy {
    /// Refused, unless its writer is listed.
    #[default]
    Allowlist,
    /// Accepted.
    Open,
    /// No messages of groups at all.
    Disabled,
}

/// `[channels.telegram]`.
#[derive(Debug, Clone)]
pub struct TelegramConfig {
    /// Of BotFather.
    pub token: Secret,
    /// A Bot API server of one's own in local mode: file paths are of this machine.
    pub local_mode: bool,
    /// The rest.
    pub settings: ChannelSettings,
}

/// `[channels.slack]`.
#[derive(Debug, Clone)]
pub struct SlackConfig {
    /// `xoxb-…`: the Web API.
    pub bot_token: Secret,
    /// `xapp-…`: Socket Mode.
    pub app_token: Secret,
    /// People of other workspaces may talk too, if they are allowed.
    pub allow_external: bool,
    /// The rest.
    pub settings: ChannelSettings,
}

/// `[channels.discord]`.
#[derive(Debug, Clone)]
pub struct DiscordConfig {
    /// Of the developer portal.
    pub token: Secret,
    /// Guilds whose members may talk; if there are any, all other guilds are refused.
    pub guilds: Vec<String>,
    /// A thread is opened for each mention outside of threads.
    pub auto_thread: bool,
    /// The rest.
    pub settings: ChannelSettings,
}

/// What runs of a channel ask of the server.
#[derive(Debug, Clone, Default)]
pub struct ChannelRunConfig {
    /// A profile of the server; it wins over model and auto-approve.
    pub profile: Option<String>,
    /// Deprecated.
    pub model: Option<String>,
    /// Deprecated; an empty list asks for all.
    pub auto_approve: Option<Vec<String>>,
    /// None: the profile decides.
    pub sandbox: Option<bool>,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayConfigError {
    /// The file.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A table of it.
    #[error(transparent)]
    Table(#[from] Finding),
    /// There is no home directory to look in.
    #[error("there is no home directory to find the configuration in")]
    NoHome,
}

/// What stands in the way of receiving anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayConfigValidationError {
    /// No channel at all.
    #[error("no channel is configured; add one with `stakpak autopilot channel add telegram --token <token>`")]
    NoChannel,
    /// Channels, but none that works.
    #[error("no channel can be used: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    AllDisabled(Vec<Finding>),
}

impl GatewayConfig {
    /// The same with another server.
    #[must_use]
    pub fn with_server(mut self, url: impl Into<String>, token: impl Into<String>) -> Self {
        self.server = ServerConfig { url: url.into(), token: Secret::new(token) };
        self
    }

    /// Whether messages can come in at all.
    pub fn validate(&self) -> Result<(), GatewayConfigValidationError> {
        if self.has_channels() {
            return Ok(());
        }
        let disabled: Vec<_> = self.channels.disabled.iter().map(|(_, finding)| finding.clone()).collect();
        Err(if disabled.is_empty() {
            GatewayConfigValidationError::NoChannel
        } else {
            GatewayConfigValidationError::AllDisabled(disabled)
        })
    }

    /// Names of the channels that are started.
    #[must_use]
    pub fn enabled_channels(&self) -> Vec<&'static str> {
        self.channels.settings().filter(|(_, settings)| settings.enabled).map(|(name, _)| name).collect()
    }

    /// Whether any channel is started.
    #[must_use]
    pub fn has_channels(&self) -> bool {
        !self.enabled_channels().is_empty()
    }

    /// How sessions are chosen.
    #[must_use]
    pub fn router_config(&self) -> &RouterConfig {
        &self.routing
    }
}

impl ChannelConfigs {
    /// Name and settings of each channel that can be used.
    pub fn settings(&self) -> impl Iterator<Item = (&'static str, &ChannelSettings)> {
        let telegram = self.telegram.as_ref().map(|telegram| ("telegram", &telegram.settings));
        let slack = self.slack.as_ref().map(|slack| ("slack", &slack.settings));
        let discord = self.discord.as_ref().map(|discord| ("discord", &discord.settings));
        [telegram, slack, discord].into_iter().flatten()
    }

    /// Their tokens, for the redactor.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &str> {
        let telegram = self.telegram.iter().map(|telegram| &telegram.token);
        let slack = self.slack.iter().flat_map(|slack| [&slack.bot_token, &slack.app_token]);
        let discord = self.discord.iter().map(|discord| &discord.token);
        telegram.chain(slack).chain(discord).map(Secret::expose)
    }

    /// The tokens that channels receive with: those of enabled ones.
    pub(crate) fn tokens(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let telegram = self.telegram.iter().map(|it| ("telegram", &it.settings, &it.token));
        let slack = self.slack.iter().map(|it| ("slack", &it.settings, &it.app_token));
        let discord = self.discord.iter().map(|it| ("discord", &it.settings, &it.token));
        let all = telegram.chain(slack).chain(discord);
        all.filter(|(_, settings, _)| settings.enabled).map(|(name, _, token)| (name, token.expose()))
    }
}
