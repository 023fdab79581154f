//! `autopilot.toml`: one strict parser, used by every command and by the running process.

mod ceiling;
mod limits;
mod retention;
mod tokens;

use std::{collections::BTreeMap, fmt, net::SocketAddr, time::Duration};

use anyhow::{Context, Result};
use chrono::Utc;
use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, Unexpected, Visitor},
};
use stakpak_config::{Codes, Document, Finding, LoadError, Secret, Severity, create_if_absent};
use stakpak_gateway::{GatewayCliFlags, GatewayConfig, GatewayConfigError};
use stakpak_scheduler::ScheduleSet;
use stakpak_server::ApprovalCeiling;
use stakpak_tools::ContainerMode;

use crate::{home::Home, logging::LogFormat};
pub(crate) use limits::LimitsTable;

const TEMPLATE: &str = include_str!("autopilot.template.toml");
const CODES: Codes = Codes::all("E002");
const TABLES: [&str; 10] =
    ["server", "watch", "defaults", "budget", "notifications", "schedules", "gateway", "routing", "channels", "strict"];

/// The file as this process reads it.
pub(crate) struct AutopilotFile {
    pub(crate) server: ServerTable,
    pub(crate) schedules: ScheduleSet,
    /// What is odd but stops nothing.
    pub(crate) warnings: Vec<Finding>,
}

/// `[server]`. Keys that have no effect yet are known, so that files of 0.3.x are read without a warning.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct ServerTable {
    #[serde(deserialize_with = "address")]
    pub(crate) listen: SocketAddr,
    pub(crate) model: Option<String>,
    pub(crate) auto_approve_all: bool,
    pub(crate) token: Option<Secret>,
    tokens: BTreeMap<String, Secret>,
    pub(crate) allowed_hosts: Vec<String>,
    pub(crate) allowed_origins: Vec<String>,
    #[serde(with = "stakpak_config::duration")]
    pub(crate) drain_timeout: Duration,
    #[serde(with = "stakpak_config::duration")]
    pub(crate) resume_max_age: Duration,
    show_token: IgnoredAny,
    no_auth: IgnoredAny,
    pub(crate) sandbox_mode: ContainerMode,
    url: IgnoredAny,
    pub(crate) log_format: LogFormat,
    pub(crate) tasks_on_shutdown: TasksOnShutdown,
    /// Whether `/v1/mcp` is there.
    pub(crate) mcp: bool,
    #[serde(deserialize_with = "ceiling::deserialize")]
    pub(crate) approval_ceiling: ApprovalCeiling,
    pub(crate) limits: LimitsTable,
}

/// What becomes of tasks when the server stops.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TasksOnShutdown {
    /// They go on.
    #[default]
    Keep,
    /// They are ended.
    Kill,
}

/// As a visitor, so that the error is placed at the value.
fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    struct Address;

    impl Visitor<'_> for Address {
        type Value = SocketAddr;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an address with a port, such as \"127.0.0.1:4096\"")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<SocketAddr, E> {
            text.parse().map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
        }
    }

    deserializer.deserialize_str(Address)
}

impl Default for ServerTable {
    fn default() -> Self {
        Self {
            listen: ([127, 0, 0, 1], 4096).into(),
            model: None,
            auto_approve_all: false,
            token: None,
            tokens: BTreeMap::new(),
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            drain_timeout: Duration::from_secs(10),
            resume_max_age: Duration::from_secs(3600),
            show_token: IgnoredAny,
            no_auth: IgnoredAny,
            sandbox_mode: ContainerMode::default(),
            url: IgnoredAny,
            log_format: LogFormat::default(),
            tasks_on_shutdown: TasksOnShutdown::default(),
            mcp: false,
            approval_ceiling: ApprovalCeiling::All,
            limits: LimitsTable::default(),
        }
    }
}

impl ServerTable {
    /// Keys that differ and are read at the start only.
    pub(crate) fn restart_required(&self, now: &Self) -> Vec<&'static str> {
        let keys = [
            ("server.listen", self.listen != now.listen),
            ("server.auto_approve_all", self.auto_approve_all != now.auto_approve_all),
            ("server.token", self.token != now.token),
            ("server.tokens", self.tokens != now.tokens),
            ("server.allowed_hosts", self.allowed_hosts != now.allowed_hosts),
            ("server.allowed_origins", self.allowed_origins != now.allowed_origins),
            ("server.drain_timeout", self.drain_timeout != now.drain_timeout),
            ("server.resume_max_age", self.resume_max_age != now.resume_max_age),
            ("server.sandbox_mode", self.sandbox_mode != now.sandbox_mode),
            ("server.log_format", self.log_format != now.log_format),
            ("server.tasks_on_shutdown", self.tasks_on_shutdown != now.tasks_on_shutdown),
            ("server.mcp", self.mcp != now.mcp),
            ("server.approval_ceiling", self.approval_ceiling != now.approval_ceiling),
            ("server.limits", self.limits != now.limits),
        ];
        keys.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
    }
}

impl AutopilotFile {
    /// Reads the file; an absent one is an empty one.
    ///
    /// # Errors
    /// File, line and what is expected. The file is never changed.
    pub(crate) fn load(home: &Home) -> Result<Self> {
        let document = match Document::load(&home.autopilot_toml())? {
            Some(document) => document,
            None => Document::parse("autopilot.toml", "")?,
        };
        Self::read(&document)
    }

    /// What of the file can be read, and what keeps the rest from it: for whoever tells how things are.
    ///
    /// # Errors
    /// The file is there and its bytes cannot be had.
    pub(crate) fn load_readable(home: &Home) -> Result<(Self, Vec<Finding>)> {
        let (document, broken) = match Document::load(&home.autopilot_toml()) {
            Ok(Some(document)) => (document, None),
            Ok(None) => (Document::parse("autopilot.toml", "")?, None),
            Err(LoadError::Syntax(finding)) => (Document::parse("autopilot.toml", "")?, Some(finding)),
            Err(error) => return Err(error.into()),
        };
        let of_gateway = match GatewayConfig::from_document(&document, &GatewayCliFlags::default()) {
            Err(GatewayConfigError::Table(finding)) => Some(finding),
            _ => None,
        };
        let broken: Vec<_> = broken.into_iter().chain(of_gateway).collect();
        if let (true, Ok(file)) = (broken.is_empty(), Self::read(&document)) {
            return Ok((file, broken));
        }
        let nothing = Self::read(&Document::parse("autopilot.toml", "")?)?;
        let (mut findings, schedules) = Self::findings(&document);
        findings.retain(|finding| finding.severity == Severity::Error);
        findings.extend(broken);
        let server = document.table(&["server"], CODES, &mut Vec::new()).unwrap_or_default();
        Ok((Self { server, schedules: schedules.unwrap_or(nothing.schedules), ..nothing }, findings))
    }

    pub(crate) fn read(document: &Document) -> Result<Self> {
        let mut warnings = document.unknown_tables(&TABLES);
        let server: ServerTable = document.table(&["server"], CODES, &mut warnings)?;
        let schedules = ScheduleSet::read(document, Utc::now()).map_err(|findings| {
            anyhow::anyhow!(findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
        })?;
        warnings.extend(schedules.warnings.iter().cloned());
        Ok(Self { server, schedules, warnings })
    }

    /// All that is wrong with a document, in one pass, and the schedules if their tables can be read.
    pub(crate) fn findings(document: &Document) -> (Vec<Finding>, Option<ScheduleSet>) {
        let mut findings = document.unknown_tables(&TABLES);
        let server = document.table::<ServerTable>(&["server"], CODES, &mut findings);
        findings.extend(server.err());
        match ScheduleSet::read(document, Utc::now()) {
            Ok(set) => {
                findings.extend(set.warnings.iter().chain(set.errors()).cloned());
                (findings, Some(set))
            }
            Err(errors) => {
                findings.extend(errors);
                (findings, None)
            }
        }
    }

    /// The bearer token: that of the file, else the one that is kept beside it.
    pub(crate) fn token(&self, home: &Home) -> Result<String> {
        match self.server.token.as_ref().map(|token| token.expose().trim()) {
            Some(token) if !token.is_empty() => Ok(token.to_owned()),
            _ => home.token(),
        }
    }

    /// `[server.tokens]`, valid beside the first.
    pub(crate) fn named_tokens(&self, first: &str) -> Result<BTreeMap<String, String>> {
        tokens::checked(&self.server.tokens, first)
    }

    /// Writes the commented template if there is no file. Whether it did.
    pub(crate) fn create(home: &Home) -> Result<bool> {
        let zone = iana_time_zone::get_timezone().unwrap_or_else(|_| "UTC".to_owned());
        let template = TEMPLATE.replace("@TIMEZONE@", &zone);
        create_if_absent(&home.autopilot_toml(), &template).context("autopilot.toml cannot be written")
    }
}
