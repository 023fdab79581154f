//! The chat platform: the channel's table, and where schedules report.

use anyhow::{Result, bail};
use stakpak_config::Document;
use stakpak_gateway::{ChannelTestResult, GatewayConfig};

use super::question::Asker;
use crate::{
    args::{ChannelKeys, Global, InitArgs},
    channel::{self, Change, check_variable, given_by_environment, given_profile, tokens},
    exit::Failure,
    place::Place,
};

/// All of them, in the order in which their variables are looked at.
const CHANNELS: [&str; 3] = ["telegram", "slack", "discord"];

/// A channel that the platform has confirmed.
pub(super) struct Chat {
    pub(super) change: Change,
    /// Where schedules report.
    pub(super) target: Option<String>,
    pub(super) identity: Option<ChannelTestResult>,
    config: GatewayConfig,
}

impl Chat {
    /// None: no flag, no variable and no person names one, or the file has one already.
    pub(super) async fn choose(args: &InitArgs, asker: Asker, global: &Global, place: &Place) -> Result<Option<Self>> {
        let file = Document::load(&place.file())?;
        let configured = file.as_ref().map(|file| file.keys(&["channels"])).transpose()?.unwrap_or_default();
        let Some(channel) = name(args, asker, !configured.is_empty())? else {
            return refuse_leftovers(&args.channel_keys).map(|()| None);
        };
        let mut keys = args.channel_keys.clone();
        keys.token_env.iter().try_for_each(|name| check_variable("--token-env", name))?;
        let written = |key: &str| file.as_ref().is_some_and(|file| file.locate(&["channels", channel, key]).is_some());
        let tokens = tokens::gather(channel, &keys, written, asker.is_person())?;
        ask_about_owner(asker, channel, &mut keys)?;
        let target = keys.target.take();
        let change = Change { channel, tokens, profile: given_profile(global), keys, no_test: args.no_test };
        let config = change.candidate(place)?;
        let identity = if args.no_test { None } else { Some(change.confirmed(&config).await?) };
        Ok(Some(Self { change, target, identity, config }))
    }

    pub(super) async fn owner_code(&self) -> Result<Option<String>> {
        channel::owner_code(&self.config, self.change.channel).await
    }

    /// Whether its tokens are in variables.
    pub(super) fn needs_variables(&self) -> bool {
        self.change.tokens.iter().any(|(_, token)| token.starts_with("${"))
    }
}

fn name(args: &InitArgs, asker: Asker, is_configured: bool) -> Result<Option<&'static str>> {
    if let Some(channel) = args.channel {
        return channel::name_of(channel).map(Some);
    }
    if args.no_channel || (is_configured && !args.force) {
        return Ok(None);
    }
    let detected = CHANNELS.into_iter().find(|channel| given_by_environment(channel));
    asker.checked("Chat platform: telegram, slack, discord or none", detected.unwrap_or("none"), |answer| {
        let known = CHANNELS.into_iter().find(|channel| *channel == answer);
        if known.is_none() && answer != "none" { Err("one of the four, please".to_owned()) } else { Ok(known) }
    })
}

/// Who sets this up may decide what the agent asks, and gets the reports, unless flags say otherwise.
fn ask_about_owner(asker: Asker, channel: &str, keys: &mut ChannelKeys) -> Result<()> {
    let nobody = [&keys.allow_users, &keys.allow_chats, &keys.approvers].iter().all(|list| list.is_empty());
    if nobody {
        let hint = if channel == "telegram" { ", told by @userinfobot" } else { "" };
        let id = asker.text(&format!("Your user id on {channel}{hint}; or nothing, to be let in by a code"), "")?;
        keys.approvers.extend(Some(id).filter(|id| !id.is_empty()));
    }
    if keys.target.is_none() {
        // On Telegram a person's chat has the person's id.
        let own = keys.approvers.first().filter(|_| channel == "telegram").cloned().unwrap_or_default();
        let proposal = if asker.is_person() { own } else { String::new() };
        let target = asker.text("Id of the chat that schedules report to; or nothing", &proposal)?;
        keys.target = Some(target).filter(|target| !target.is_empty());
    }
    Ok(())
}

/// Flags about a channel that there is not.
fn refuse_leftovers(keys: &ChannelKeys) -> Result<()> {
    let ChannelKeys {
        token,
        bot_token,
        app_token,
        token_env,
        target,
        allow_users,
        allow_chats,
        approvers,
        api_base_url,
    } = keys;
    let given = [
        ("--token", token.is_some()),
        ("--bot-token", bot_token.is_some()),
        ("--app-token", app_token.is_some()),
        ("--token-env", !token_env.is_empty()),
        ("--target", target.is_some()),
        ("--allow-user", !allow_users.is_empty()),
        ("--allow-chat", !allow_chats.is_empty()),
        ("--approver", !approvers.is_empty()),
        ("--api-base-url", api_base_url.is_some()),
    ];
    match given.into_iter().find(|(_, given)| *given) {
        Some((flag, _)) => bail!(Failure::Usage(format!("{flag} needs --channel"))),
        None => Ok(()),
    }
}
