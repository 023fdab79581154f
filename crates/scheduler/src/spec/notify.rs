//! Who is told what of a schedule: `[notifications]` and the `notify_` keys of an entry.
//!
//! Channel and target are looked for each by itself, from the entry outwards; without both there is no route and nothing is told.

use std::{fmt, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::{Value, json};
use stakpak_config::{Document, Finding, Secret, Severity};

use super::{
    entry::{Entry, RawSchedule},
    read::TABLE_CODES,
};
use crate::ledger::Event;

const MAX_AGE: Duration = Duration::from_secs(24 * 3600);

/// What of a schedule is told, and where. Stored with each run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Notify {
    /// The chat platform.
    #[serde(rename = "notify_channel")]
    pub channel: Option<Platform>,
    /// The place on it: a string, a number, or a table that is passed on as it is.
    #[serde(rename = "notify_target")]
    pub target: Option<Value>,
    /// Which events.
    #[serde(rename = "notify_on")]
    pub on: NotifyOn,
    /// Whether an outcome is told that is the same as the last.
    #[serde(rename = "notify_mode")]
    pub mode: NotifyMode,
    /// Where a schedule that pauses itself is told, when that is another place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_route: Option<Route>,
}

/// A chat platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Platform {
    /// Telegram.
    Telegram,
    /// Slack.
    Slack,
    /// Discord.
    Discord,
}

impl Platform {
    /// As the gateway names it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Telegram => "telegram",
            Self::Slack => "slack",
            Self::Discord => "discord",
        }
    }

    /// What the gateway calls a place there.
    fn target_key(self) -> &'static str {
        match self {
            Self::Telegram => "chat_id",
            Self::Slack => "channel",
            Self::Discord => "channel_id",
        }
    }
}

/// A place on a platform, as the gateway takes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The platform.
    pub channel: Platform,
    /// Keys of the gateway's target.
    pub target: Value,
}

/// `telegram:42`; a thread follows after a slash.
impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(self.channel.as_str(), &self.target))
    }
}

/// A route for people.
pub(crate) fn shown(channel: &str, target: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let Some(keys) = target.as_object() else { return format!("{channel}:{}", text(target)) };
    let found = |names: &[&str]| names.iter().find_map(|name| keys.get(*name)).map(text);
    let place = found(&["chat_id", "channel_id", "channel"]).unwrap_or_else(|| target.to_string());
    let thread = found(&["thread_id", "thread_ts"]).map(|thread| format!("/{thread}")).unwrap_or_default();
    format!("{channel}:{place}{thread}")
}

/// Which events are told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum NotifyOn {
    /// All that say how a run went, or that a person is needed.
    #[default]
    All,
    /// Runs that completed.
    Completions,
    /// What did not.
    Failures,
    /// Nothing.
    None,
    /// Just these.
    Only(Vec<Event>),
}

impl NotifyOn {
    const WORDS: &'static [&'static str] = &["all", "completions", "failures", "none"];

    /// Whether the event is told.
    #[must_use]
    pub fn wants(&self, event: Event) -> bool {
        let is_completion = event == Event::Completed;
        let is_failure =
            matches!(event, Event::Failed | Event::TimedOut | Event::Unknown | Event::Missed | Event::SchedulePaused);
        let needs_somebody =
            matches!(event, Event::Paused | Event::Budget | Event::ConfigInvalid | Event::SchedulerDegraded);
        match self {
            Self::All => {
                is_completion || is_failure || needs_somebody || matches!(event, Event::Cancelled | Event::Recovered)
            }
            Self::Completions => is_completion || needs_somebody,
            Self::Failures => is_failure || needs_somebody,
            Self::None => false,
            Self::Only(events) => events.contains(&event),
        }
    }
}

impl Serialize for NotifyOn {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => serializer.serialize_str("all"),
            Self::Completions => serializer.serialize_str("completions"),
            Self::Failures => serializer.serialize_str("failures"),
            Self::None => serializer.serialize_str("none"),
            Self::Only(events) => events.serialize(serializer),
        }
    }
}

/// A word, or a list of events.
impl<'de> Deserialize<'de> for NotifyOn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NotifyOnVisitor)
    }
}

struct NotifyOnVisitor;

impl<'de> de::Visitor<'de> for NotifyOnVisitor {
    type Value = NotifyOn;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "one of {} or a list of events", NotifyOn::WORDS.join(", "))
    }

    fn visit_str<E: de::Error>(self, word: &str) -> Result<NotifyOn, E> {
        Ok(match word {
            "all" => NotifyOn::All,
            "completions" => NotifyOn::Completions,
            "failures" => NotifyOn::Failures,
            "none" => NotifyOn::None,
            _ => return Err(E::unknown_variant(word, NotifyOn::WORDS)),
        })
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<NotifyOn, A::Error> {
        let mut events = Vec::new();
        while let Some(event) = list.next_element()? {
            events.push(event);
        }
        Ok(NotifyOn::Only(events))
    }
}

/// Whether an outcome is told that is the same as the one before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotifyMode {
    /// It is.
    #[default]
    Every,
    /// It is not.
    Change,
}

impl Notify {
    /// Where the events of the schedule go.
    #[must_use]
    pub fn route(&self) -> Option<Route> {
        let (channel, target) = (self.channel?, self.target.as_ref()?);
        let target = match target {
            Value::Object(_) => target.clone(),
            plain => json!({ channel.target_key(): plain }),
        };
        Some(Route { channel, target })
    }

    /// Where an event of the schedule goes, if it goes anywhere.
    pub(crate) fn route_of(&self, event: Event) -> Option<Route> {
        let system = self.system_route.clone().filter(|_| event == Event::SchedulePaused);
        system.or_else(|| self.route()).filter(|_| self.on.wants(event))
    }
}

/// How notifications are sent, whatever the schedule.
#[derive(Debug, Clone)]
pub struct Notifications {
    /// The gateway; none: the one of this process.
    pub gateway: Option<RemoteGateway>,
    /// Where what concerns no schedule is told.
    pub route: Option<Route>,
    /// What of that.
    pub on: NotifyOn,
    /// What is not delivered by then is given up.
    pub max_age: Duration,
}

impl Default for Notifications {
    fn default() -> Self {
        Self { gateway: None, route: None, on: NotifyOn::All, max_age: MAX_AGE }
    }
}

impl Notifications {
    /// Where an event that concerns no schedule is told, if it is.
    pub(crate) fn route_of(&self, event: Event) -> Option<Route> {
        self.route.clone().filter(|_| self.on.wants(event))
    }
}

/// A gateway of another machine.
#[derive(Debug, Clone)]
pub struct RemoteGateway {
    /// Its address.
    pub url: String,
    /// Its bearer token.
    pub token: Secret,
}

/// `[notifications]`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct RawNotifications {
    gateway_url: Option<String>,
    gateway_token: Option<Secret>,
    notify_on: Option<NotifyOn>,
    channel: Option<Platform>,
    target: Option<Value>,
    chat_id: Option<Value>,
    mode: Option<NotifyMode>,
    #[serde(default, with = "stakpak_config::duration::option")]
    max_age: Option<Duration>,
}

impl RawNotifications {
    fn target(&self) -> Option<&Value> {
        said(&self.target).or_else(|| said(&self.chat_id))
    }

    fn remote_url(&self) -> Option<&str> {
        self.gateway_url.as_deref().map(str::trim).filter(|url| !url.is_empty() && !is_loopback(url))
    }

    /// Whether the gateway is one of another machine.
    pub(super) fn is_remote(&self) -> bool {
        self.remote_url().is_some()
    }

    fn global(&self) -> Notify {
        Notify { channel: self.channel, target: self.target().cloned(), ..Notify::default() }
    }

    /// What all notifications have in common; a value that cannot be used makes the file unusable.
    pub(super) fn settings(&self, document: &Document) -> Result<Notifications, Finding> {
        let error =
            |key, text: &str| document.finding(&["notifications", key], TABLE_CODES.invalid, Severity::Error, text);
        for (key, target) in [("target", &self.target), ("chat_id", &self.chat_id)] {
            if let Some(problem) = said(target).and_then(problem) {
                return Err(error(key, problem));
            }
        }
        if self.max_age.is_some_and(|max_age| max_age.is_zero()) {
            return Err(error("max_age", "must be longer than nothing"));
        }
        let url = self.remote_url();
        if url.is_some_and(|url| !url.starts_with("http://") && !url.starts_with("https://")) {
            return Err(error("gateway_url", "must begin with http:// or https://"));
        }
        let token = self.gateway_token.clone();
        Ok(Notifications {
            gateway: url
                .map(|url| RemoteGateway { url: url.to_owned(), token: token.unwrap_or_else(|| Secret::new("")) }),
            route: self.global().route(),
            on: self.notify_on.clone().unwrap_or_default(),
            max_age: self.max_age.unwrap_or(MAX_AGE),
        })
    }
}

impl Entry<'_> {
    pub(super) fn notify(&self, raw: &RawSchedule, findings: &mut Vec<Finding>) -> Notify {
        let (shared, global) = (self.notifications, self.notifications.global().route());
        let own =
            [("notify_target", &raw.notify_target), ("notify_chat_id", &raw.notify_chat_id), ("channel", &raw.channel)];
        for (key, target) in own {
            if let Some(problem) = said(target).and_then(problem) {
                findings.push(self.error(key, "E110", problem));
            }
        }
        let target = own.into_iter().find_map(|(_, target)| said(target)).or_else(|| shared.target());
        let notify = Notify {
            channel: raw.notify_channel.or(shared.channel),
            target: target.cloned(),
            on: raw.notify_on.clone().or_else(|| shared.notify_on.clone()).unwrap_or_default(),
            mode: shared.mode.unwrap_or_default(),
            system_route: None,
        };
        let system_route = global.filter(|global| Some(global) != notify.route().as_ref());
        Notify { system_route, ..notify }
    }
}

/// A blank string is as good as none.
fn said(target: &Option<Value>) -> Option<&Value> {
    target.as_ref().filter(|target| target.as_str().is_none_or(|text| !text.trim().is_empty()))
}

fn problem(target: &Value) -> Option<&'static str> {
    let usable = match target {
        Value::String(_) => true,
        Value::Number(number) => number.is_i64() || number.is_u64(),
        Value::Object(keys) => !keys.is_empty(),
        Value::Null | Value::Bool(_) | Value::Array(_) => false,
    };
    (!usable).then_some("must be a string, a whole number, or a table such as { chat_id = 1, thread_id = 2 }")
}

/// The gateway of this machine is the one of this process.
fn is_loopback(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{is_loopback, shown};

    #[test]
    fn the_gateway_of_this_machine_is_the_one_of_this_process() {
        let ours =
            ["http://127.0.0.1:4097", "http://localhost", "https://[::1]:1/v1", "127.0.0.1:4096", "http://127.1.2.3/"];
        let others = [
            "http://10.0.0.1:4097",
            "https://localhost.example.org",
            "http://[fe80::1]:4097",
            "http://127.0.0.1.nip.io",
        ];
        assert_eq!(ours.map(is_loopback), [true; 5]);
        assert_eq!(others.map(is_loopback), [false; 4]);
    }

    #[test]
    fn a_route_is_shown_with_its_thread() {
        assert_eq!(shown("slack", &json!("#ops")), "slack:#ops");
        assert_eq!(shown("telegram", &json!({"chat_id": -100, "thread_id": 7})), "telegram:-100/7");
        assert_eq!(shown("discord", &json!({"channel_id": "1"})), "discord:1");
    }
}
