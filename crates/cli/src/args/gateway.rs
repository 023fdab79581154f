//! Arguments of the gateway on its own, and of the server that it may stand beside.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Subcommand};

use super::{AccessCommand, ChannelCommand, PairCommand};

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  stakpak serve\n  stakpak serve --gateway --gateway-config /etc/stakpak/gateway.toml"
)]
pub(crate) struct ServeArgs {
    /// Address to listen on [default: server.listen of autopilot.toml, else 127.0.0.1:4096]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) bind: Option<SocketAddr>,
    /// Model of runs that name none, as provider/id
    #[arg(long, value_name = "MODEL")]
    pub(crate) model: Option<String>,
    /// Open every route without a token; loopback only, never saved
    #[arg(long)]
    pub(crate) no_auth: bool,
    /// Run every tool without a question; this start only
    #[arg(long)]
    pub(crate) auto_approve_all: bool,
    /// With the chat gateway
    #[arg(long)]
    pub(crate) gateway: bool,
    /// Its file [default: gateway.toml of the state directory if it is there, else autopilot.toml]
    #[arg(long, value_name = "PATH", requires = "gateway")]
    pub(crate) gateway_config: Option<PathBuf>,
    /// How long active runs may go on after Ctrl-C [default: server.drain_timeout of autopilot.toml, else 10s]
    #[arg(long, value_name = "DURATION", value_parser = stakpak_config::duration::parse)]
    pub(crate) drain_timeout: Option<Duration>,
}

/// `--config` names the gateway's file here.
#[derive(Debug, Subcommand)]
pub(crate) enum GatewayCommand {
    /// Writes gateway.toml with the channels whose tokens are given
    #[command(after_help = "Example:\n  TELEGRAM_BOT_TOKEN=123:abc stakpak gateway init")]
    Init(GatewayInitArgs),
    /// Runs the gateway next to a server anywhere, in the foreground
    #[command(
        after_help = "The file: --config, else gateway.toml of the state directory, else autopilot.toml.\n\nExample:\n  stakpak gateway run --url https://agent.example.com --token $TOKEN"
    )]
    Run(GatewayRunArgs),
    /// Channels: chat platforms that reach the agent
    #[command(subcommand)]
    Channels(ChannelCommand),
    /// Codes of people who want to be let in
    #[command(subcommand)]
    Pair(PairCommand),
    /// Who is let in, beside those whom the file lists
    #[command(subcommand)]
    Access(AccessCommand),
    /// What the agent asks before it does it
    #[command(subcommand)]
    Approvals(ApprovalsCommand),
    /// Messages that did not arrive
    #[command(subcommand)]
    Outbox(OutboxCommand),
}

#[derive(Debug, Args)]
pub(crate) struct GatewayInitArgs {
    /// Bot token of Telegram
    #[arg(long, value_name = "TOKEN")]
    pub(crate) telegram_token: Option<String>,
    /// Bot token of Discord
    #[arg(long, value_name = "TOKEN")]
    pub(crate) discord_token: Option<String>,
    /// Bot token of Slack, xoxb-…
    #[arg(long, value_name = "TOKEN", requires = "slack_app_token")]
    pub(crate) slack_bot_token: Option<String>,
    /// App-level token of Slack, xapp-…
    #[arg(long, value_name = "TOKEN", requires = "slack_bot_token")]
    pub(crate) slack_app_token: Option<String>,
    /// Change a file that is there: it is copied first, and only the channels named are replaced
    #[arg(long)]
    pub(crate) force: bool,
    /// Do not ask the platforms whether the tokens are good
    #[arg(long)]
    pub(crate) no_verify: bool,
}

#[derive(Debug, Args)]
pub(crate) struct GatewayRunArgs {
    /// The agent server [default: $STAKPAK_GATEWAY_URL, else server.url of the file, else http://127.0.0.1:4096]
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// Its bearer token, which guards the gateway's API too [default: $STAKPAK_GATEWAY_TOKEN, else server.token of the file]
    #[arg(long)]
    pub(crate) token: Option<String>,
    /// The gateway's database [default: gateway.store of the file]
    #[arg(long, value_name = "PATH")]
    pub(crate) store: Option<PathBuf>,
    /// Address of the gateway's API
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:4097")]
    pub(crate) bind: SocketAddr,
    /// Fail unless the server answers now
    #[arg(long)]
    pub(crate) require_server: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ApprovalsCommand {
    /// Lists what waits for a decision
    List,
    /// Lets the calls run
    Allow {
        /// Approval
        id: String,
        /// Only this call; repeat for several
        #[arg(long = "call", value_name = "ID")]
        calls: Vec<String>,
    },
    /// Rejects the calls
    Deny {
        /// Approval
        id: String,
        /// Only this call; repeat for several
        #[arg(long = "call", value_name = "ID")]
        calls: Vec<String>,
        /// Why; the model reads it
        #[arg(long)]
        reason: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum OutboxCommand {
    /// Lists what is not sent, or perhaps not
    List,
    /// Sends a parked message again
    Retry {
        /// Message
        id: i64,
    },
    /// Gives a parked message up
    Drop {
        /// Message
        id: i64,
    },
}
