//! `[server.limits]`: every key has a default, none can be zero.

use std::{
    num::{NonZeroU32, NonZeroU64},
    time::Duration,
};

use bytesize::ByteSize;
use serde::Deserialize;
use stakpak_agent_core::{AgentConfig, Retention};
use stakpak_protocol::RunLimits;
use stakpak_server::{Limits, edge};

use super::retention::{Keep, RetentionKeys};

/// A body that is smaller cannot hold what the API needs.
const SMALLEST_BODY: ByteSize = ByteSize::kib(1);

/// `[server.limits]`; an absent key means the default.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct LimitsTable {
    active_runs: Option<NonZeroU32>,
    queued_commands: Option<NonZeroU32>,
    streams_per_session: Option<NonZeroU32>,
    streams: Option<NonZeroU32>,
    message_body: Option<BodySize>,
    body: Option<BodySize>,
    #[serde(with = "stakpak_config::duration::option")]
    write_stall: Option<Duration>,
    #[serde(with = "stakpak_config::duration::option")]
    approval_timeout: Option<Duration>,
    #[serde(with = "stakpak_config::duration::option")]
    run_wall_clock: Option<Duration>,
    run_tokens: Option<NonZeroU64>,
    run_cost_usd: Option<Dollars>,
    requests_per_second: Option<NonZeroU32>,
    events_age: Option<Keep<Duration>>,
    events_bytes: Option<Keep<u64>>,
    deleted_sessions: Option<Keep<Duration>>,
    #[serde(with = "stakpak_config::duration::option")]
    idle_after: Option<Duration>,
}

impl LimitsTable {
    /// Bounds of runs.
    pub(crate) fn agent(&self) -> AgentConfig {
        let default = AgentConfig::default();
        AgentConfig {
            active_runs: self.active_runs.map_or(default.active_runs, count),
            queued_commands: self.queued_commands.map_or(default.queued_commands, count),
            approval_timeout: self.approval_timeout.unwrap_or(default.approval_timeout),
            ..default
        }
    }

    /// Most dollars of a run.
    pub(crate) fn agent_cost(&self) -> Option<f64> {
        self.requests().run.cost_usd
    }

    /// Bounds of requests and streams.
    pub(crate) fn requests(&self) -> Limits {
        let default = Limits::default();
        Limits {
            message_body: self.message_body.map_or(default.message_body, |size| size.0),
            body: self.body.map_or(default.body, |size| size.0),
            streams_per_session: self.streams_per_session.map_or(default.streams_per_session, count),
            streams: self.streams.map_or(default.streams, count),
            requests_per_second: self.requests_per_second,
            idle_after: self.idle_after.unwrap_or(default.idle_after),
            run: RunLimits {
                // A part of a second counts as a whole one: no limit is none.
                wall_clock_s: self
                    .run_wall_clock
                    .map(|limit| limit.as_millis().div_ceil(1_000).try_into().unwrap_or(u64::MAX)),
                tokens: self.run_tokens.map(NonZeroU64::get),
                cost_usd: self.run_cost_usd.map(|limit| limit.0),
            },
            ..default
        }
    }

    /// How long things are kept.
    pub(crate) fn retention(&self) -> Retention {
        let Self { events_age, events_bytes, deleted_sessions, .. } = *self;
        RetentionKeys { events_age, events_bytes, deleted_sessions }.retention()
    }

    /// How long a client may accept nothing.
    pub(crate) fn write_stall(&self) -> Duration {
        self.write_stall.unwrap_or(edge::WRITE_STALL)
    }
}

fn count(value: NonZeroU32) -> usize {
    usize::try_from(value.get()).unwrap_or(usize::MAX)
}

/// Bytes, as a number or as people write them: `"16 MiB"`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(try_from = "ByteSize")]
struct BodySize(usize);

impl TryFrom<ByteSize> for BodySize {
    type Error = String;

    fn try_from(size: ByteSize) -> Result<Self, String> {
        if size < SMALLEST_BODY {
            return Err(format!("{size} is too small: at least {SMALLEST_BODY}"));
        }
        Ok(Self(usize::try_from(size.as_u64()).unwrap_or(usize::MAX)))
    }
}

/// An amount of money, more than none.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(try_from = "f64")]
struct Dollars(f64);

impl TryFrom<f64> for Dollars {
    type Error = String;

    fn try_from(amount: f64) -> Result<Self, String> {
        if amount.is_finite() && amount > 0.0 {
            return Ok(Self(amount));
        }
        Err(format!("{amount} is no limit: more than 0, or leave the key out"))
    }
}

#[cfg(test)]
mod tests {
    use stakpak_config::Document;

    use super::*;
    use crate::autopilot_file::AutopilotFile;

    fn read(text: &str) -> Result<AutopilotFile, String> {
        let document = Document::parse("autopilot.toml", text).unwrap();
        AutopilotFile::read(&document).map_err(|error| error.to_string())
    }

    #[test]
    fn absent_keys_are_the_contracts_defaults() {
        let limits = read("").unwrap().server.limits;
        let (agent, requests) = (limits.agent(), limits.requests());
        assert_eq!((agent.active_runs, agent.queued_commands), (64, 128));
        assert_eq!(agent.approval_timeout, Duration::from_secs(24 * 3600));
        assert_eq!((requests.message_body, requests.body), (16 << 20, 2 << 20));
        assert_eq!((requests.streams_per_session, requests.streams), (2_048, 8_192));
        assert_eq!(limits.write_stall(), Duration::from_secs(60));
        assert_eq!((requests.run, requests.requests_per_second), (RunLimits::default(), None));
        assert_eq!(requests.idle_after, Duration::from_secs(300));
    }

    #[test]
    fn every_key_reaches_its_bound() {
        let text = r#"
            [server.limits]
            active_runs = 1
            queued_commands = 2
            streams_per_session = 3
            streams = 4
            message_body = "8 MiB"
            body = 4096
            write_stall = "5s"
            approval_timeout = "1h"
            requests_per_second = 7
            run_wall_clock = "90s"
            run_tokens = 5000
            run_cost_usd = 0.25
            idle_after = "10s"
        "#;
        let file = read(text).unwrap();
        assert!(file.warnings.is_empty(), "{:?}", file.warnings);
        let limits = file.server.limits;
        let (agent, requests) = (limits.agent(), limits.requests());
        assert_eq!((agent.active_runs, agent.queued_commands), (1, 2));
        assert_eq!(agent.approval_timeout, Duration::from_secs(3600));
        assert_eq!((requests.streams_per_session, requests.streams), (3, 4));
        assert_eq!((requests.message_body, requests.body), (8 << 20, 4096));
        assert_eq!(limits.write_stall(), Duration::from_secs(5));
        let run = RunLimits { wall_clock_s: Some(90), tokens: Some(5_000), cost_usd: Some(0.25) };
        assert_eq!((requests.run, requests.requests_per_second), (run, NonZeroU32::new(7)));
        assert_eq!(requests.idle_after, Duration::from_secs(10));
    }

    #[test]
    fn a_bad_value_names_its_key() {
        for (line, key) in [
            ("active_runs = 0", "server.limits.active_runs"),
            ("streams = -1", "server.limits.streams"),
            ("body = \"10 B\"", "server.limits.body"),
            ("message_body = \"much\"", "server.limits.message_body"),
            ("write_stall = 60", "server.limits.write_stall"),
            ("run_tokens = 0", "server.limits.run_tokens"),
            ("run_cost_usd = -1.0", "server.limits.run_cost_usd"),
            ("run_wall_clock = 60", "server.limits.run_wall_clock"),
        ] {
            let error = read(&format!("[server.limits]\n{line}")).err().unwrap();
            assert!(error.contains(key) && error.contains("autopilot.toml:2"), "{line}: {error}");
        }
    }

    #[test]
    fn an_unknown_key_is_a_warning() {
        let file = read("[server.limits]\nactive_run = 1").unwrap();
        assert!(file.warnings[0].to_string().contains("active_runs"), "{:?}", file.warnings);
    }
}
