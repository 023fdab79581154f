//! Targets of outbound texts, as programs name them, and titles of sessions.

use std::time::Duration;

use serde_json::{Map, Value};
use stakpak_protocol::NotifyRoute;
use tokio::time::timeout;

use crate::{Address, Channel, ChatType};

/// How long a program waits for the platform to say what a name stands for.
const PATIENCE: Duration = Duration::from_secs(3);

/// A target names no place on its platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// No such platform.
    #[error("unknown channel `{0}`")]
    UnknownChannel(String),
    /// The target lacks the id of the chat, or it is of another shape.
    #[error("the target of `{channel}` needs `{key}`")]
    MissingId {
        /// The platform.
        channel: String,
        /// The key.
        key: &'static str,
    },
    /// Telegram knows people by their ids only.
    #[error(
        "`chat_id` of telegram is the id of a chat or a person, or the `@name` of a public group or channel; {given:?} is \
         neither"
    )]
    NoChat {
        /// What there is.
        given: String,
    },
}

/// Keys of the chat and of the part of it in a target.
fn keys(channel: &str) -> Option<(&'static str, &'static str)> {
    Some(match channel {
        "telegram" => ("chat_id", "thread_id"),
        "slack" => ("channel", "thread_ts"),
        "discord" => ("channel_id", "thread_id"),
        _ => return None,
    })
}

/// An address as programs name it: what [`parse_target`] reads.
pub(crate) fn route_of(address: &Address) -> NotifyRoute {
    let (chat_key, thread_key) = keys(address.channel.as_str()).unwrap_or(("chat_id", "thread_id"));
    let mut target = Map::new();
    target.insert(chat_key.to_owned(), address.chat.clone().into());
    if let Some(thread) = &address.thread {
        target.insert(thread_key.to_owned(), thread.clone().into());
    }
    NotifyRoute { channel: address.channel.to_string(), target }
}

/// Reads the `target` object of `POST /send`; ids come as strings or numbers.
pub fn parse_target(channel: &str, target: &Value) -> Result<Address, TargetError> {
    let (chat_key, thread_key) = keys(channel).ok_or_else(|| TargetError::UnknownChannel(channel.to_owned()))?;
    let missing = || TargetError::MissingId { channel: channel.to_owned(), key: chat_key };
    let chat = id(&target[chat_key]).ok_or_else(missing)?;
    if channel == "telegram" && !is_telegram_chat(&chat) {
        return Err(TargetError::NoChat { given: chat });
    }
    let thread = id(&target[thread_key]);
    // On Telegram the id of a private chat is the id of its person; those of groups are negative.
    let is_person = match channel {
        "telegram" => !chat.starts_with(['-', '@']),
        "slack" => is_slack_id(&chat, &['U', 'W']),
        _ => false,
    };
    let direct = is_person.then(|| chat.as_str().into());
    Ok(Address { channel: channel.into(), chat, thread, direct })
}

/// A number, or the name of a public chat.
fn is_telegram_chat(text: &str) -> bool {
    let is_name = |name: &str| !name.is_empty() && name.chars().all(|it| it.is_ascii_alphanumeric() || it == '_');
    text.parse::<i64>().is_ok() || text.strip_prefix('@').is_some_and(is_name)
}

/// Whether it is an id of Slack that begins so: they are upper case letters and digits, names are lower case.
pub(crate) fn is_slack_id(text: &str, kinds: &[char]) -> bool {
    text.starts_with(kinds) && text.chars().all(|it| it.is_ascii_uppercase() || it.is_ascii_digit())
}

/// As [`Channel::locate`]; as it was named where the platform does not tell in time. Then the receipt of the first message
/// tells.
pub(crate) async fn located(channel: &dyn Channel, address: Address) -> Address {
    match timeout(PATIENCE, channel.locate(&address)).await {
        Ok(Ok(located)) => return located,
        Ok(Err(error)) => tracing::warn!(target = address.target_key(), %error, "a target could not be looked up"),
        Err(_) => tracing::warn!(target = address.target_key(), "a target could not be looked up in time"),
    }
    address
}

/// Reads `slack:C0OPS`: a platform and the id of a chat on it.
pub fn parse_route(route: &str) -> Result<Address, TargetError> {
    let (channel, chat) = route.split_once(':').unwrap_or((route, ""));
    let target = serde_json::json!({ "channel": chat, "channel_id": chat, "chat_id": chat });
    parse_target(channel.trim(), &target)
}

/// Fills `{channel}`, `{peer}`, `{chat_type}` and `{chat_id}`.
#[must_use]
pub fn render_title_template(template: &str, address: &Address, peer: &str) -> String {
    let kind = match address.chat_type() {
        ChatType::Direct => "dm",
        ChatType::Group { .. } => "group",
        ChatType::Thread { .. } => "thread",
    };
    // One pass, so that a name that looks like a placeholder stays a name.
    let values = [
        ("{channel}", address.channel.as_str()),
        ("{peer}", peer),
        ("{chat_type}", kind),
        ("{chat_id}", &address.chat),
    ];
    let mut title = String::new();
    let mut rest = template;
    while let Some(start) = rest.find('{') {
        let (before, tail) = rest.split_at(start);
        title.push_str(before);
        let (text, consumed) = values
            .iter()
            .find(|(name, _)| tail.starts_with(name))
            .map_or(("{", 1), |(name, value)| (*value, name.len()));
        title.push_str(text);
        rest = &tail[consumed..];
    }
    title.push_str(rest);
    title
}

fn id(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.trim().is_empty() => Some(text.trim().to_owned()),
        Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ids_are_strings_or_numbers_and_positive_telegram_chats_are_direct() {
        let direct = parse_target("telegram", &json!({"chat_id": 42})).unwrap();
        assert_eq!(direct, parse_target("telegram", &json!({"chat_id": "42"})).unwrap());
        assert_eq!(direct.direct, Some("42".into()));
        let topic = parse_target("telegram", &json!({"chat_id": -100, "thread_id": 7})).unwrap();
        assert_eq!(topic.target_key(), "telegram:chat:-100:thread:7");
        assert_eq!(topic.direct, None);
        let person = parse_target("slack", &json!({"channel": "U0ANN"})).unwrap();
        assert_eq!(person.chat_type(), ChatType::Direct);
        let name = parse_target("slack", &json!({"channel": "Users"})).unwrap();
        assert_eq!(name.direct, None);
        assert!(parse_target("telegram", &json!({"chat": 1})).is_err());
        assert_eq!(parse_target("telegram", &json!({"chat_id": "@ops_room"})).unwrap().direct, None);
        for wrong in ["ops_room", "@", "@ops room", "https://t.me/ops"] {
            let error = parse_target("telegram", &json!({"chat_id": wrong})).unwrap_err();
            assert!(error.to_string().contains("@name") && error.to_string().contains(wrong), "{error}");
        }
        assert!(parse_target("whatsapp", &json!({})).is_err());
    }

    #[test]
    fn an_address_is_the_target_that_names_it() {
        for (channel, target) in [
            ("telegram", json!({"chat_id": "42"})),
            ("telegram", json!({"chat_id": "-100", "thread_id": "7"})),
            ("slack", json!({"channel": "C1", "thread_ts": "17.1"})),
            ("discord", json!({"channel_id": "5", "thread_id": "6"})),
        ] {
            let route = route_of(&parse_target(channel, &target).unwrap());
            assert_eq!((route.channel.as_str(), Value::Object(route.target)), (channel, target));
        }
    }

    #[test]
    fn a_name_that_looks_like_a_placeholder_stays_a_name() {
        let address = parse_target("telegram", &json!({"chat_id": -5})).unwrap();
        let title = render_title_template("{channel} / {peer} {x} {chat_type} {chat_id}", &address, "{chat_id}");
        assert_eq!(title, "telegram / {chat_id} {x} group -5");
    }
}
