//! Where the tokens of a channel come from: a flag, the file, a variable of the environment, a person.
//!
//! What comes from the environment is written as a reference, never as itself; what a person types is not echoed.

use std::io::IsTerminal;

use anyhow::{Context, Result, bail};

use crate::{args::ChannelKeys, exit::Failure};

/// A key of a channel's table that holds a token.
struct TokenKey {
    channel: &'static str,
    key: &'static str,
    flag: &'static str,
    variable: &'static str,
    /// What it is called where it comes from.
    title: &'static str,
    /// How to get one.
    steps: &'static str,
}

/// The tokens of all channels, in the order of the file.
const KEYS: [TokenKey; 4] = [
    TokenKey {
        channel: "telegram",
        key: "token",
        flag: "--token",
        variable: "TELEGRAM_BOT_TOKEN",
        title: "Bot token",
        steps: "In Telegram write /newbot to @BotFather; the answer holds the token.",
    },
    TokenKey {
        channel: "slack",
        key: "bot_token",
        flag: "--bot-token",
        variable: "SLACK_BOT_TOKEN",
        title: "Bot token (xoxb-…)",
        steps: "Print the app's manifest with `stakpak channel manifest slack`, make the app from it at \
                https://api.slack.com/apps, install it to the workspace and copy the Bot User OAuth Token.",
    },
    TokenKey {
        channel: "slack",
        key: "app_token",
        flag: "--app-token",
        variable: "SLACK_APP_TOKEN",
        title: "App token (xapp-…)",
        steps: "On the app's page: Basic Information, App-Level Tokens, with the scope connections:write.",
    },
    TokenKey {
        channel: "discord",
        key: "token",
        flag: "--token",
        variable: "DISCORD_BOT_TOKEN",
        title: "Bot token",
        steps: "At https://discord.com/developers/applications: New Application, Bot, switch the Message Content Intent on, \
                Reset Token. Invite it with OAuth2, scopes `bot` and `applications.commands`, permissions 274878008384 \
                (309237746752 if `auto_thread` shall open threads).",
    },
];

fn keys_of(channel: &str) -> impl Iterator<Item = &'static TokenKey> + use<'_> {
    KEYS.iter().filter(move |key| key.channel == channel)
}

/// Whether variables of the environment hold all tokens of a channel.
pub(crate) fn given_by_environment(channel: &str) -> bool {
    keys_of(channel).all(|key| is_set(key.variable))
}

/// What to write: key and value, which may be a reference. `written` tells whether the file has a key already.
pub(crate) fn gather(
    channel: &'static str,
    args: &ChannelKeys,
    written: impl Fn(&str) -> bool,
    may_ask: bool,
) -> Result<Vec<(&'static str, String)>> {
    refuse_flags_of_others(channel, args)?;
    let mut tokens = Vec::new();
    for (index, key) in keys_of(channel).enumerate() {
        if let Some(token) = given(key, args) {
            tokens.push((key.key, token.to_owned()));
        } else if let Some(variable) = args.token_env.get(index) {
            tokens.push((key.key, reference(variable)));
        } else if written(key.key) {
            // It stays.
        } else if is_set(key.variable) {
            tokens.push((key.key, reference(key.variable)));
        } else if may_ask && std::io::stdin().is_terminal() {
            tokens.push((key.key, ask(key)?));
        } else {
            bail!(Failure::Usage(missing(key)));
        }
    }
    Ok(tokens)
}

fn given<'a>(key: &TokenKey, args: &'a ChannelKeys) -> Option<&'a str> {
    let given = match key.flag {
        "--bot-token" => &args.bot_token,
        "--app-token" => &args.app_token,
        _ => &args.token,
    };
    given.as_deref()
}

fn refuse_flags_of_others(channel: &str, args: &ChannelKeys) -> Result<()> {
    let given =
        [("--token", &args.token), ("--bot-token", &args.bot_token), ("--app-token", &args.app_token)].into_iter();
    let mut given = given.filter(|(_, value)| value.is_some()).map(|(flag, _)| flag);
    let own: Vec<&str> = keys_of(channel).map(|key| key.flag).collect();
    if let Some(flag) = given.find(|flag| !own.contains(flag)) {
        bail!(Failure::Usage(format!("{channel} has no {flag}; it takes {}", own.join(" and "))));
    }
    if args.token_env.len() > own.len() {
        bail!(Failure::Usage(format!("{channel} has {} token(s); --token-env was given more often", own.len())));
    }
    Ok(())
}

/// Asks at the terminal for the tokens of a channel; none if the person leaves the first one blank.
pub(crate) fn offer(channel: &'static str) -> Result<Option<Vec<(&'static str, String)>>> {
    let mut tokens = Vec::new();
    for key in keys_of(channel) {
        eprintln!("{channel}: {}", key.steps);
        let token = read(&format!("{channel}: {}, or nothing to leave it out (not shown): ", key.title))?;
        if token.is_empty() && tokens.is_empty() {
            return Ok(None);
        }
        if token.is_empty() {
            bail!(Failure::Usage(missing(key)));
        }
        tokens.push((key.key, token));
    }
    Ok(Some(tokens))
}

fn read(prompt: &str) -> Result<String> {
    Ok(rpassword::prompt_password(prompt).context("no token was read")?.trim().to_owned())
}

fn ask(key: &TokenKey) -> Result<String> {
    eprintln!("{}", key.steps);
    let token = read(&format!("{} (not shown): ", key.title))?;
    if token.is_empty() {
        bail!(Failure::Usage(missing(key)));
    }
    Ok(token)
}

fn missing(key: &TokenKey) -> String {
    let TokenKey { flag, variable, steps, .. } = key;
    format!("no token: give {flag}, or set {variable}, or name a variable with --token-env. {steps}")
}

fn is_set(variable: &str) -> bool {
    std::env::var(variable).is_ok_and(|value| !value.trim().is_empty())
}

fn reference(variable: &str) -> String {
    format!("${{{variable}}}")
}
