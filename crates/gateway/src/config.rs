//! The gateway's tables of `autopilot.toml` (or `gateway.toml`): `[server] [gateway] [routing] [channels.*]`.
//!
//! * A file that is not TOML stops start-up; a bad `[gateway]` or `[routing]` table does too, a bad channel disables only
//!   itself. Tables of other parts of the product are not looked at.
//! * A key without effect is a warning, never silence.

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

/// `[channels.*]`.
#[derive(Debug, Clone, Default)]
pub struct ChannelConfigs {
    /// `[channels.telegram]`; none if absent or disabled by a finding.
    pub telegram: Option<TelegramConfig>,
    /// Channels of the file that do not work, with the finding that says why.
    pub disabled: Vec<(String, Finding)>,
}

/// `[channels.telegram]`.
#[derive(Debug, Clone)]
pub struct TelegramConfig {
    /// Of BotFather.
    pub token: Secret,
    /// Whether it is started.
    pub enabled: bool,
    /// The Bot API server.
    pub api_base_url: String,
    /// In groups, answer only when addressed.
    pub require_mention: bool,
    /// Users who may talk, by id.
    pub allow_users: Vec<String>,
    /// Chats in which everybody may talk, by id.
    pub allow_chats: Vec<String>,
    /// What runs started here ask for.
    pub run: ChannelRunConfig,
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
        self.channels.telegram.iter().filter(|telegram| telegram.enabled).map(|_| "telegram").collect()
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

    /// What runs of a channel ask for.
    pub(crate) fn run_config(&self, channel: &str) -> ChannelRunConfig {
        match (channel, &self.channels.telegram) {
            ("telegram", Some(telegram)) => telegram.run.clone(),
            _ => ChannelRunConfig::default(),
        }
    }
}
