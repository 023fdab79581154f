//! `stakpak channel …` and `stakpak gateway channels …`: edits of the file, identity checks, and what the gateway knows.

mod add;
mod list;
mod live;
mod probe;
mod remove;
pub(crate) mod tokens;

use anyhow::{Result, bail};

use crate::{
    access,
    args::{ChannelCommand, ChannelType, Global},
    exit::Failure,
    home::Home,
    place::Place,
};

pub(crate) use add::{Change, check_variable, given_profile, owner_code, refused, set_notifications};
pub(crate) use list::{Overview, one_line, overview};
pub(crate) use probe::identity;
pub(crate) use tokens::given_by_environment;

/// The app that Slack is told to make.
const SLACK_MANIFEST: &str = include_str!("channel/slack-manifest.yaml");

/// What the commands work on.
pub(crate) struct Desk<'a> {
    pub(crate) home: &'a Home,
    pub(crate) place: Place,
    pub(crate) json: bool,
    /// As it is typed, for advice and JSON: `autopilot.channel`.
    pub(crate) name: &'static str,
}

impl<'a> Desk<'a> {
    /// On the file that `up` reads.
    pub(crate) fn of_up(home: &'a Home, json: bool) -> Self {
        Self { home, place: Place::of_up(home), json, name: "autopilot.channel" }
    }

    /// The command as people type it: `stakpak channel`.
    pub(crate) fn typed(&self) -> &'static str {
        if self.name == "gateway.channels" { "stakpak gateway channels" } else { "stakpak channel" }
    }
}

pub(crate) async fn run(desk: &Desk<'_>, global: &Global, command: ChannelCommand) -> Result<()> {
    match command {
        ChannelCommand::Add(args) => add::run(desk, global, *args).await,
        ChannelCommand::List => list::run(desk).await,
        ChannelCommand::Test { channel, send, delete_webhook } => {
            probe::run(desk, channel, probe::Deed { send: send.as_deref(), delete_webhook }).await
        }
        ChannelCommand::Remove(channel) => remove::run(desk, channel.get()),
        ChannelCommand::Manifest { channel } => manifest(channel),
        ChannelCommand::Pair(command) => access::pair(desk, command).await,
        ChannelCommand::Access(command) => access::access(desk, command).await,
    }
}

fn manifest(channel: ChannelType) -> Result<()> {
    if channel != ChannelType::Slack {
        bail!(Failure::Usage("only slack has a manifest".to_owned()));
    }
    crate::output::piece(SLACK_MANIFEST);
    Ok(())
}

/// The name in the file.
pub(crate) fn name_of(channel: ChannelType) -> Result<&'static str> {
    match channel {
        ChannelType::Telegram => Ok("telegram"),
        ChannelType::Slack => Ok("slack"),
        ChannelType::Discord => Ok("discord"),
        ChannelType::Whatsapp | ChannelType::Webhook => {
            bail!(Failure::Usage("unsupported channel; the supported ones are telegram, slack and discord".to_owned()))
        }
    }
}
