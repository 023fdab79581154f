//! `[channels.*]`: one table a platform, most keys the same in all.

use std::time::Duration;

use stakpak_config::{Document, Finding, Secret, Severity};

use super::{
    ChannelConfigs, ChannelRunConfig, ChannelSettings, DiscordConfig, DmPolicy, GatewayCliFlags, GroupPolicy,
    SlackConfig, TelegramConfig,
    load::{CHANNEL, Lookup},
    tables::{Channel, Id, Sandbox},
};

/// What differs between the platforms before a table is read.
struct Platform {
    name: &'static str,
    base_url: &'static str,
    base_url_variable: &'static str,
    /// Whether groups need a mention when the file does not say.
    require_mention: bool,
    /// Keys that no other platform has.
    own_keys: &'static [&'static str],
}

const TELEGRAM: Platform = Platform {
    name: "telegram",
    base_url: "https://api.telegram.org",
    base_url_variable: "TELEGRAM_API_BASE_URL",
    require_mention: false,
    own_keys: &["token", "local_mode"],
};
const SLACK: Platform = Platform {
    name: "slack",
    base_url: "https://slack.com/api",
    base_url_variable: "SLACK_API_BASE_URL",
    require_mention: true,
    own_keys: &["bot_token", "app_token", "allow_external"],
};
const DISCORD: Platform = Platform {
    name: "discord",
    base_url: "https://discord.com",
    base_url_variable: "DISCORD_API_BASE_URL",
    require_mention: true,
    own_keys: &["token", "guilds", "auto_thread"],
};
const PLATFORMS: [&Platform; 3] = [&TELEGRAM, &SLACK, &DISCORD];

/// Reads what one table needs.
struct Reader<'a> {
    document: &'a Document,
    platform: &'static Platform,
    /// Whether the file has the table.
    present: bool,
    env: Lookup<'a>,
    /// Of all channels.
    catch_up: Duration,
}

/// All channels; a bad one is a finding and disables only itself.
pub(super) fn channels(
    document: &Document,
    flags: &GatewayCliFlags,
    env: Lookup<'_>,
    catch_up: Duration,
    findings: &mut Vec<Finding>,
) -> Result<ChannelConfigs, Finding> {
    let mut configs = ChannelConfigs::default();
    let names = document.keys(&["channels"])?;
    for name in names.iter().filter(|name| !PLATFORMS.iter().any(|platform| platform.name == **name)) {
        let message = "unknown channel type; the known ones are telegram, slack, discord";
        let finding = document.finding(&["channels", name], "E202", Severity::Error, message);
        configs.disabled.push(((*name).to_owned(), finding));
    }
    let reader = |platform: &'static Platform| {
        let present = names.contains(&platform.name);
        Reader { document, platform, present, env, catch_up }
    };
    let ChannelConfigs { telegram, slack, discord, disabled } = &mut configs;
    let mut keep = |platform: &Platform, error: Finding| disabled.push((platform.name.to_owned(), error));
    match reader(&TELEGRAM).telegram(flags, findings) {
        Ok(read) => *telegram = read,
        Err(error) => keep(&TELEGRAM, error),
    }
    match reader(&SLACK).slack(flags, findings) {
        Ok(read) => *slack = read,
        Err(error) => keep(&SLACK, error),
    }
    match reader(&DISCORD).discord(flags, findings) {
        Ok(read) => *discord = read,
        Err(error) => keep(&DISCORD, error),
    }
    findings.extend(configs.disabled.iter().map(|(_, finding)| finding.clone()));
    Ok(configs)
}

impl Reader<'_> {
    fn telegram(
        &self,
        flags: &GatewayCliFlags,
        findings: &mut Vec<Finding>,
    ) -> Result<Option<TelegramConfig>, Finding> {
        let given = self.given(flags.telegram_token.as_ref(), "TELEGRAM_BOT_TOKEN");
        if !self.present && given.is_none() {
            return Ok(None);
        }
        let mut table = self.table(findings)?;
        let token = self.secret("token", given, table.token.take())?;
        if token.expose().contains(|character: char| character.is_whitespace() || "/?#".contains(character)) {
            return Err(self.error("token", "is not a bot token such as BotFather gives"));
        }
        let local_mode = table.local_mode;
        Ok(Some(TelegramConfig { token, local_mode, settings: self.settings(table, findings)? }))
    }

    fn slack(&self, flags: &GatewayCliFlags, findings: &mut Vec<Finding>) -> Result<Option<SlackConfig>, Finding> {
        let bot = self.given(flags.slack_bot_token.as_ref(), "SLACK_BOT_TOKEN");
        let app = self.given(flags.slack_app_token.as_ref(), "SLACK_APP_TOKEN");
        let (bot, app) = bot.zip(app).unzip();
        if !self.present && bot.is_none() {
            return Ok(None);
        }
        let mut table = self.table(findings)?;
        let bot_token = self.secret("bot_token", bot, table.bot_token.take())?;
        let app_token = self.secret("app_token", app, table.app_token.take())?;
        for (key, token, prefix) in [("bot_token", &bot_token, "xoxb-"), ("app_token", &app_token, "xapp-")] {
            if !token.expose().starts_with(prefix) {
                return Err(self.error(key, &format!("does not begin with `{prefix}`; is it another kind of token?")));
            }
        }
        let allow_external = table.allow_external;
        Ok(Some(SlackConfig { bot_token, app_token, allow_external, settings: self.settings(table, findings)? }))
    }

    fn discord(&self, flags: &GatewayCliFlags, findings: &mut Vec<Finding>) -> Result<Option<DiscordConfig>, Finding> {
        let given = self.given(flags.discord_token.as_ref(), "DISCORD_BOT_TOKEN");
        if !self.present && given.is_none() {
            return Ok(None);
        }
        let mut table = self.table(findings)?;
        let token = self.secret("token", given, table.token.take())?;
        let (guilds, auto_thread) = (ids(std::mem::take(&mut table.guilds)), table.auto_thread);
        Ok(Some(DiscordConfig { token, guilds, auto_thread, settings: self.settings(table, findings)? }))
    }

    /// The flag, or the variable for a table that is absent: it creates a channel, it does not change one.
    fn given(&self, flag: Option<&String>, variable: &str) -> Option<String> {
        flag.cloned().or_else(|| (self.env)(variable).filter(|_| !self.present))
    }

    fn table(&self, findings: &mut Vec<Finding>) -> Result<Channel, Finding> {
        let path = ["channels", self.platform.name];
        let table = self.document.table(&path, CHANNEL, findings)?;
        for key in PLATFORMS.iter().flat_map(|platform| platform.own_keys) {
            if !self.platform.own_keys.contains(key) && self.locate(key) {
                let message = format!("is no key of {}", self.platform.name);
                findings.push(self.finding(key, "W301", Severity::Warning, &message));
            }
        }
        for key in ["model", "auto_approve"] {
            if self.locate(key) {
                findings.push(self.finding(key, "W302", Severity::Warning, "is deprecated, use `profile`"));
            }
        }
        Ok(table)
    }

    fn secret(&self, key: &str, given: Option<String>, written: Option<Secret>) -> Result<Secret, Finding> {
        let secret = given.map(Secret::new).or(written).ok_or_else(|| self.error(key, "required key is missing"))?;
        if secret.expose().trim().is_empty() {
            return Err(self.error(key, "is blank"));
        }
        Ok(secret)
    }

    fn settings(&self, table: Channel, findings: &mut Vec<Finding>) -> Result<ChannelSettings, Finding> {
        let base_url = (self.env)(self.platform.base_url_variable).or(table.api_base_url);
        let api_base_url = base_url.unwrap_or_else(|| self.platform.base_url.to_owned());
        let api_base_url = api_base_url.trim_end_matches('/').to_owned();
        if !table.insecure_api_base_url && !sends_token_safely(&api_base_url) {
            let message = "must be https, or on this machine; `insecure_api_base_url = true` allows other addresses";
            return Err(self.error("api_base_url", message));
        }
        let settings = ChannelSettings {
            enabled: table.enabled.unwrap_or(true),
            api_base_url,
            require_mention: table.require_mention.unwrap_or(self.platform.require_mention),
            allow_users: ids(table.allow_users),
            allow_chats: ids(table.allow_chats),
            approvers: ids(table.approvers),
            dm_policy: table.dm_policy,
            group_policy: table.group_policy,
            catch_up: self.catch_up,
            run: ChannelRunConfig {
                profile: table.profile,
                model: table.model,
                auto_approve: table.auto_approve,
                sandbox: match table.sandbox {
                    Sandbox::Auto => None,
                    Sandbox::On => Some(true),
                    Sandbox::Off => Some(false),
                },
            },
        };
        if settings.dm_policy == DmPolicy::Open || settings.group_policy == GroupPolicy::Open {
            let message = "everybody who finds this bot may talk to it: a policy is `open`";
            let path = ["channels", self.platform.name];
            findings.push(self.document.finding(&path, "W302", Severity::Warning, message));
        }
        Ok(settings)
    }

    fn locate(&self, key: &str) -> bool {
        self.document.locate(&["channels", self.platform.name, key]).is_some()
    }

    fn error(&self, key: &str, message: &str) -> Finding {
        self.finding(key, "E201", Severity::Error, message)
    }

    fn finding(&self, key: &str, code: &'static str, severity: Severity, message: &str) -> Finding {
        self.document.finding(&["channels", self.platform.name, key], code, severity, message)
    }
}

fn ids(ids: Vec<Id>) -> Vec<String> {
    ids.into_iter().map(|Id(id)| id).collect()
}

fn sends_token_safely(url: &str) -> bool {
    let Ok(url) = teloxide_reqwest::Url::parse(url) else { return false };
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let loopback = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    url.scheme() == "https" || (url.scheme() == "http" && loopback)
}
