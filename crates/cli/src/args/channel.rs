//! Arguments about chat platforms and the people on them.

use clap::{Args, Subcommand, ValueEnum};
use stakpak_gateway::Role;

/// Chat platforms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ChannelType {
    Telegram,
    Slack,
    Discord,
    /// Known, so that the answer can say that there is no such adapter.
    #[value(hide = true)]
    Whatsapp,
    #[value(hide = true)]
    Webhook,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ChannelCommand {
    /// Adds or changes a channel: the token is tested, then the given keys are written
    #[command(after_help = "Examples:
  TELEGRAM_BOT_TOKEN=123:abc stakpak channel add telegram
  stakpak channel add slack --allow-user U0ALICE --target C0OPS
  stakpak channel add discord --token-env MY_BOT --allow-chat 1122334455

Tokens: the flags, else the variables TELEGRAM_BOT_TOKEN, SLACK_BOT_TOKEN and SLACK_APP_TOKEN, DISCORD_BOT_TOKEN (a
reference to them is written), else they are asked for at the terminal.
  telegram   write /newbot to @BotFather; your own id is told by @userinfobot
  slack      make an app from `stakpak channel manifest slack` at https://api.slack.com/apps and install it (xoxb-…);
             Basic Information, App-Level Tokens with connections:write (xapp-…)
  discord    https://discord.com/developers/applications: New Application, Bot, Message Content Intent on, Reset Token")]
    Add(Box<ChannelAddArgs>),
    /// Lists channels: state, who is allowed, who was turned away
    List,
    /// Asks each platform who the bot is and what it may do; fails with the cause
    Test {
        /// Only this one
        channel: Option<ChannelType>,
        /// Send a message there too: a Telegram chat id, a Slack or Discord channel id
        #[arg(long, value_name = "TARGET", allow_hyphen_values = true)]
        send: Option<String>,
        /// Telegram: remove the webhook that keeps updates from arriving here
        #[arg(long)]
        delete_webhook: bool,
    },
    /// Removes a channel from the file
    Remove(ChannelName),
    /// Prints the manifest of the Slack app
    Manifest {
        /// Channel
        channel: ChannelType,
    },
    /// Codes of people who want to be let in
    #[command(subcommand)]
    Pair(PairCommand),
    /// Who is let in, beside those whom the file lists
    #[command(subcommand)]
    Access(AccessCommand),
}

/// A channel, named by position or, as `gateway channels` of 0.3.x had it, by flag.
#[derive(Debug, Default, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct ChannelName {
    /// Channel
    #[arg(value_name = "CHANNEL")]
    channel: Option<ChannelType>,
    /// The same
    #[arg(long = "channel", id = "channel_flag", value_name = "CHANNEL", hide = true)]
    flag: Option<ChannelType>,
}

impl ChannelName {
    /// The parser sees to it that there is one.
    pub(crate) fn get(&self) -> ChannelType {
        self.channel.or(self.flag).unwrap_or(ChannelType::Telegram)
    }
}

#[derive(Debug, Default, Args)]
pub(crate) struct ChannelAddArgs {
    #[command(flatten)]
    pub(crate) channel: ChannelName,
    #[command(flatten)]
    pub(crate) keys: ChannelKeys,
    /// Do not ask the platform whether the token is good
    #[arg(long)]
    pub(crate) no_test: bool,
}

/// What the table of a channel may say.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ChannelKeys {
    /// Bot token of Telegram or Discord
    #[arg(long)]
    pub(crate) token: Option<String>,
    /// Slack: bot token, xoxb-…
    #[arg(long, value_name = "TOKEN")]
    pub(crate) bot_token: Option<String>,
    /// Slack: app-level token, xapp-…
    #[arg(long, value_name = "TOKEN")]
    pub(crate) app_token: Option<String>,
    /// Write a reference to this environment variable instead of a token; Slack: twice, that of the bot token first
    #[arg(long, value_name = "NAME", conflicts_with_all = ["token", "bot_token", "app_token"])]
    pub(crate) token_env: Vec<String>,
    /// Where schedules report: written to `[notifications]`
    #[arg(long, value_name = "CHAT", allow_hyphen_values = true)]
    pub(crate) target: Option<String>,
    /// User id that may talk to the bot; repeat for several
    #[arg(long = "allow-user", value_name = "ID")]
    pub(crate) allow_users: Vec<String>,
    /// Chat id in which everybody may talk to the bot; repeat for several
    #[arg(long = "allow-chat", value_name = "ID", allow_hyphen_values = true)]
    pub(crate) allow_chats: Vec<String>,
    /// User id that may decide what the agent asks; repeat for several
    #[arg(long = "approver", value_name = "ID")]
    pub(crate) approvers: Vec<String>,
    /// Proxy or self-hosted server of the platform's API
    #[arg(long, value_name = "URL")]
    pub(crate) api_base_url: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PairCommand {
    /// Lets the person with this code in
    Approve {
        /// The code they got
        code: String,
        /// What they may do
        #[arg(long, default_value = "user")]
        role: RoleArg,
    },
    /// Makes a code void
    Deny {
        /// The code they got
        code: String,
    },
    /// Lists who waits
    List,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AccessCommand {
    /// Lists who is let in, by the file and since
    List,
    /// Lets somebody in, or gives them another role
    Allow {
        #[command(flatten)]
        who: AccessWho,
        /// What they may do
        #[arg(long, default_value = "user")]
        role: RoleArg,
    },
    /// Takes that back
    Revoke(AccessWho),
}

#[derive(Debug, Args)]
pub(crate) struct AccessWho {
    /// Channel
    pub(crate) channel: ChannelType,
    /// The platform's id; names are not enough
    #[arg(allow_hyphen_values = true)]
    pub(crate) id: String,
    /// The id is that of a chat: everybody in it
    #[arg(long)]
    pub(crate) chat: bool,
}

/// What somebody may do; each includes the ones before it.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum RoleArg {
    /// Talk
    User,
    /// Decide what the agent asks
    Approver,
    /// Let others in
    Admin,
}

impl From<RoleArg> for Role {
    fn from(role: RoleArg) -> Self {
        match role {
            RoleArg::User => Self::User,
            RoleArg::Approver => Self::Approver,
            RoleArg::Admin => Self::Admin,
        }
    }
}
