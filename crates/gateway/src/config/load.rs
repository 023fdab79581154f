//! From file, environment and flags to a [`GatewayConfig`]: flag over environment over file over default.

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use stakpak_config::{Codes, Document, Secret, Severity};

use super::{
    GatewayCliFlags, GatewayConfig, GatewayConfigError, GatewaySettings, ServerConfig,
    channels::channels,
    tables::{BindingTable, Gateway, Id, Routing, Server},
};
use crate::{Binding, BindingMatch, PeerMatch, PeerMatchKind, RouterConfig};

/// Where the configuration is looked for, unless `~/.stakpak/gateway.toml` is there.
pub const DEFAULT_GATEWAY_CONFIG_PATH: &str = "~/.stakpak/autopilot.toml";

const DEFAULT_URL: &str = "http://127.0.0.1:4096";
const DEFAULT_STORE: &str = "~/.stakpak/autopilot/gateway.db";
const STATE_DIR: &str = "~/.stakpak/autopilot";
const TOKEN_FILE: &str = "~/.stakpak/autopilot/token";
const DEFAULT_TITLE: &str = "{channel} / {peer}";
const DEFAULT_CONTEXT_TTL_HOURS: u64 = 4;
const DEFAULT_CATCH_UP_HOURS: u64 = 24;

const TABLE: Codes = Codes::all("E002");
pub(super) const CHANNEL: Codes = Codes { reference: "E203", ..Codes::all("E201") };

pub(super) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The file that is read when none is named.
#[must_use]
pub fn default_gateway_config_path() -> PathBuf {
    let own = expand("~/.stakpak/gateway.toml");
    if own.exists() { own } else { expand(DEFAULT_GATEWAY_CONFIG_PATH) }
}

/// A path that may be left out.
#[derive(Debug, Clone, Copy)]
pub struct ConfigPath<'a>(Option<&'a Path>);

impl<'a> From<&'a Path> for ConfigPath<'a> {
    fn from(path: &'a Path) -> Self {
        Self(Some(path))
    }
}

impl<'a> From<&'a PathBuf> for ConfigPath<'a> {
    fn from(path: &'a PathBuf) -> Self {
        Self(Some(path))
    }
}

impl<'a> From<Option<&'a Path>> for ConfigPath<'a> {
    fn from(path: Option<&'a Path>) -> Self {
        Self(path)
    }
}

impl GatewayConfig {
    /// Reads the default file.
    pub fn load_default(flags: &GatewayCliFlags) -> Result<Self, GatewayConfigError> {
        Self::load(None, flags)
    }

    /// Reads a file (`&Path`, `&PathBuf`, or `Option<&Path>` for the default); an absent one counts as empty.
    ///
    /// Bad channels are findings, see [`GatewayConfig::findings`].
    pub fn load<'a>(path: impl Into<ConfigPath<'a>>, flags: &GatewayCliFlags) -> Result<Self, GatewayConfigError> {
        let path = path.into().0.map_or_else(default_gateway_config_path, Path::to_owned);
        let document = match Document::load(&path)? {
            Some(document) => document,
            None => Document::parse(&path.file_name().unwrap_or_default().to_string_lossy(), "")?,
        };
        Self::from_document(&document, flags)
    }

    /// As [`GatewayConfig::load`], of a document that is read already.
    pub fn from_document(document: &Document, flags: &GatewayCliFlags) -> Result<Self, GatewayConfigError> {
        Self::read(document, flags, &|name| env::var(name).ok().filter(|value| !value.trim().is_empty()))
    }

    fn read(document: &Document, flags: &GatewayCliFlags, env: Lookup<'_>) -> Result<Self, GatewayConfigError> {
        let mut findings = Vec::new();
        // Its other keys belong to the server, which warns about them.
        let server: Server = document.table(&["server"], TABLE, &mut Vec::new())?;
        let gateway: Gateway = document.table(&["gateway"], TABLE, &mut findings)?;
        let routing: Routing = document.table(&["routing"], TABLE, &mut findings)?;
        let catch_up = hours(gateway.catch_up_hours.unwrap_or(DEFAULT_CATCH_UP_HOURS));
        let settings = settings(gateway, flags);
        let channels = channels(document, flags, env, catch_up, &mut findings)?;
        if settings.approval_mode == Some(super::ApprovalMode::Allowlist) && settings.approval_allowlist.is_empty() {
            let message = "no tool is listed in `approval_allowlist`: a person is asked about every call";
            findings.push(document.finding(&["gateway", "approval_mode"], "W302", Severity::Warning, message));
        }
        if settings.approval_mode == Some(super::ApprovalMode::AllowAll)
            && channels.settings().any(|(_, it)| it.enabled)
        {
            let message = "whoever may talk to a bot runs any tool unasked; leave it out to be asked";
            findings.push(document.finding(&["gateway", "approval_mode"], "W302", Severity::Warning, message));
        }
        Ok(Self {
            server: server_config(server, flags, env),
            gateway: settings,
            routing: router_config(routing),
            channels,
            findings,
        })
    }
}

fn server_config(server: Server, flags: &GatewayCliFlags, env: Lookup<'_>) -> ServerConfig {
    let url = flags.url.clone().or_else(|| env("STAKPAK_GATEWAY_URL")).or(server.url);
    let url = url.filter(|url| !url.trim().is_empty()).unwrap_or_else(|| DEFAULT_URL.to_owned());
    let given = flags.token.clone().or_else(|| env("STAKPAK_GATEWAY_TOKEN")).map(Secret::new).or(server.token);
    let token = given.filter(|token| !token.expose().trim().is_empty()).or_else(|| token_file(&url));
    ServerConfig { url, token: token.unwrap_or_else(|| Secret::new("")) }
}

/// The token that a server on this machine made for itself.
fn token_file(url: &str) -> Option<Secret> {
    let rest = url.split_once("://")?.1;
    let host = rest.split(['/', '?']).next()?;
    let name = if host.starts_with('[') { host.split_inclusive(']').next()? } else { host.split(':').next()? };
    let address = name.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    let loopback = name == "localhost" || address.is_ok_and(|address| address.is_loopback());
    let text = loopback.then(|| fs::read_to_string(expand(TOKEN_FILE)).ok())??;
    Some(Secret::new(text.trim())).filter(|token| !token.expose().is_empty())
}

fn settings(gateway: Gateway, flags: &GatewayCliFlags) -> GatewaySettings {
    let store = gateway.store.unwrap_or_else(|| DEFAULT_STORE.to_owned());
    GatewaySettings {
        store_path: flags.store.clone().unwrap_or_else(|| expand(&store)),
        model: gateway.model,
        title_template: gateway.title_template.unwrap_or_else(|| DEFAULT_TITLE.to_owned()),
        delivery_context_ttl: hours(gateway.delivery_context_ttl_hours.unwrap_or(DEFAULT_CONTEXT_TTL_HOURS)),
        approval_mode: gateway.approval_mode,
        approval_allowlist: gateway.approval_allowlist,
        approval_timeout: minutes(gateway.approval_timeout_minutes.unwrap_or(60)),
        approval_route: gateway.approval_route,
        two_person: gateway.two_person,
        message_while_pending: gateway.message_while_pending,
        busy_policy: gateway.busy_policy,
        queued: gateway.queued,
        queue_limit: gateway.queue_limit.unwrap_or(100),
        run_timeout: gateway.run_timeout_minutes.filter(|given| *given > 0).map(minutes),
        stale_after: Some(gateway.stale_after_minutes.unwrap_or(60)).filter(|given| *given > 0).map(minutes),
        progress: gateway.progress,
        long_reply_chunks: gateway.long_reply_chunks.unwrap_or(5).max(1),
        max_attachment: gateway.max_attachment_mb.unwrap_or(20).saturating_mul(1024 * 1024),
        state_dir: expand(STATE_DIR),
        prune_after: hours(gateway.prune_after_hours.unwrap_or(168)),
    }
}

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes.saturating_mul(60))
}

fn hours(hours: u64) -> Duration {
    Duration::from_secs(hours.saturating_mul(3600))
}

fn router_config(routing: Routing) -> RouterConfig {
    let binding = |table: BindingTable| {
        let peer = match (table.direct, table.group) {
            (Some(Id(id)), _) => Some(PeerMatch { kind: PeerMatchKind::Direct, id }),
            (None, Some(Id(id))) => Some(PeerMatch { kind: PeerMatchKind::Group, id }),
            (None, None) => None,
        };
        let matching = BindingMatch { channel: table.channel.into(), peer };
        Binding { matching, routing_key: table.routing_key }
    };
    RouterConfig { dm_scope: routing.dm_scope, bindings: routing.bindings.into_iter().map(binding).collect() }
}

fn expand(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> GatewayConfig {
        load_with(text, &GatewayCliFlags::default(), &[])
    }

    fn load_with(text: &str, flags: &GatewayCliFlags, variables: &[(&str, &str)]) -> GatewayConfig {
        let document = Document::parse("autopilot.toml", text).unwrap();
        let lookup = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        GatewayConfig::read(&document, flags, &lookup).unwrap()
    }

    fn lines(config: &GatewayConfig) -> Vec<String> {
        config.findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_bad_channel_disables_only_itself_and_says_where() {
        let config = load(
            "[channels.slack]\nbot_token = 'x'\n[channels.telegram]\ntoken = 't'\nallow_users = [1, '2']\n[channels.fax]\n",
        );
        assert_eq!(config.enabled_channels(), ["telegram"]);
        let telegram = config.channels.telegram.as_ref().unwrap();
        assert_eq!(telegram.settings.allow_users, ["1", "2"]);
        let lines = lines(&config);
        assert!(lines[0].contains("error[E202] channels.fax: unknown channel type"), "{lines:?}");
        assert_eq!(lines[1], "autopilot.toml:1:1: error[E201] channels.slack.app_token: required key is missing");
        assert_eq!(lines.len(), 2);
    }

    #[test]
    fn a_blank_token_is_an_error_of_the_channel_and_no_channel_an_error_of_the_whole() {
        let config = load("[channels.telegram]\ntoken = ' '\n");
        assert_eq!(lines(&config), ["autopilot.toml:2:9: error[E201] channels.telegram.token: is blank"]);
        let error = config.validate().unwrap_err().to_string();
        assert!(error.contains("autopilot.toml:2:9"), "{error}");
        assert_eq!(load("").validate(), Err(super::super::GatewayConfigValidationError::NoChannel));
    }

    #[test]
    fn unknown_keys_warn_and_so_do_those_of_another_platform() {
        let config = load(
            "[channels.telegram]\ntoken = 't'\nguilds = [1]\n[gateway]\ntitle_templat = 'x'\n[server]\nlisten = 'y'\n",
        );
        let lines = lines(&config);
        assert_eq!(
            lines,
            [
                "autopilot.toml:5:1: warning[W301] gateway.title_templat: unknown key, did you mean `title_template`?",
                "autopilot.toml:3:10: warning[W301] channels.telegram.guilds: is no key of telegram"
            ]
        );
    }

    #[test]
    fn keys_that_have_an_effect_do_not_warn() {
        let text =
            "[gateway]\ncatch_up_hours = 3\nprogress = 'live'\n[channels.discord]\ntoken = 't'\nauto_thread = true\n";
        let config = load(text);
        assert_eq!(config.findings, []);
        assert!(config.channels.discord.unwrap().auto_thread);
    }

    #[test]
    fn flags_go_before_the_environment_and_that_before_the_file() {
        let text =
            "[server]\nurl = 'http://file'\ntoken = 'file'\n[channels.telegram]\ntoken = 'file'\nallow_chats = [-5]\n";
        let variables = [("STAKPAK_GATEWAY_URL", "http://env"), ("TELEGRAM_BOT_TOKEN", "env")];
        let config = load_with(text, &GatewayCliFlags::default(), &variables);
        assert_eq!(config.server.url, "http://env");
        assert_eq!(config.server.token.expose(), "file");
        assert_eq!(config.channels.telegram.unwrap().token.expose(), "file");
        let flags = GatewayCliFlags {
            url: Some("http://flag".into()),
            telegram_token: Some("flag".into()),
            ..Default::default()
        };
        let config = load_with(text, &flags, &variables);
        assert_eq!(config.server.url, "http://flag");
        let telegram = config.channels.telegram.unwrap();
        assert_eq!((telegram.token.expose(), telegram.settings.allow_chats), ("flag", vec!["-5".to_owned()]));
        let created = load_with("", &GatewayCliFlags::default(), &variables).channels.telegram.unwrap();
        assert_eq!(created.token.expose(), "env");
    }

    /// A-P36: these are read by the same code for each.
    #[test]
    fn every_channel_has_its_switch_its_profile_its_sandbox_and_its_exception() {
        for (name, tokens) in [
            ("telegram", "token = 't'"),
            ("slack", "bot_token = 'xoxb-1'\napp_token = 'xapp-1'"),
            ("discord", "token = 't'"),
        ] {
            let config = |keys: &str| load(&format!("[channels.{name}]\n{tokens}\nallow_users = ['1']\n{keys}"));
            assert_eq!(config("").enabled_channels(), [name]);
            assert_eq!(config("enabled = false").enabled_channels(), [""; 0]);
            let set = config("profile = 'ops'\nsandbox = 'on'");
            let (_, settings) = set.channels.settings().next().unwrap();
            assert_eq!((settings.run.profile.as_deref(), settings.run.sandbox), (Some("ops"), Some(true)), "{name}");
            let elsewhere = "api_base_url = 'http://example.com'";
            assert_eq!(config(elsewhere).enabled_channels(), [""; 0], "{name}");
            let excepted = config(&format!("{elsewhere}\ninsecure_api_base_url = true"));
            assert_eq!(excepted.enabled_channels(), [name], "{:?}", excepted.findings);
        }
    }

    #[test]
    fn a_token_goes_to_https_or_this_machine_only() {
        let config =
            |url: &str| load(&format!("[channels.telegram]\ntoken = 't'\nallow_users = [1]\napi_base_url = '{url}'"));
        assert!(config("http://example.com").channels.telegram.is_none());
        assert!(config("http://localhost:81/").channels.telegram.is_some());
        assert!(config("https://example.com").channels.telegram.is_some());
    }
}
