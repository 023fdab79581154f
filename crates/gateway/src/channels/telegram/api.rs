//! The three calls of the Bot API, as raw requests of `teloxide`.
//!
//! Answers are decoded to the few fields that are used: a server that leaves out or adds others stays usable, and a text
//! that was sent is never taken for unsent because of a field nobody reads.

use std::{error::Error, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use teloxide_core::{
    ApiError, Bot, RequestError,
    requests::{JsonRequest, Payload, Request},
};
use teloxide_reqwest::{Client, Url};

use crate::{Body, ChannelError};

/// Spare time of a request over the long poll.
const REQUEST_MARGIN: Duration = Duration::from_secs(15);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A bot at a Bot API server.
#[derive(Clone)]
pub(super) struct Api {
    bot: Bot,
    host: String,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").field("host", &self.host).finish_non_exhaustive()
    }
}

/// The bot itself.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Me {
    pub(super) id: i64,
    #[serde(default)]
    pub(super) username: Option<String>,
    #[serde(default)]
    first_name: Option<String>,
    #[serde(default)]
    pub(super) can_read_all_group_messages: Option<bool>,
}

impl Me {
    pub(super) fn identity(&self) -> String {
        match (&self.username, &self.first_name) {
            (Some(username), _) => format!("@{username}"),
            (None, Some(name)) => name.clone(),
            (None, None) => self.id.to_string(),
        }
    }
}

/// A message that was sent.
#[derive(Debug, Deserialize)]
pub(super) struct Sent {
    pub(super) message_id: i64,
}

#[derive(Serialize)]
struct GetMe {}

impl Payload for GetMe {
    type Output = Me;
    const NAME: &'static str = "getMe";
}

#[derive(Serialize)]
struct GetUpdates {
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<i64>,
    timeout: u64,
    allowed_updates: [&'static str; 1],
}

impl Payload for GetUpdates {
    type Output = Vec<Value>;
    const NAME: &'static str = "getUpdates";
}

#[derive(Serialize)]
struct SendMessage {
    chat_id: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_thread_id: Option<i64>,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    entities: Option<Value>,
}

impl Payload for SendMessage {
    type Output = Sent;
    const NAME: &'static str = "sendMessage";
}

impl Api {
    pub(super) fn new(token: &str, base_url: &str, long_poll: Duration) -> Result<Self, ChannelError> {
        let setup = |reason: String| ChannelError::Setup { reason };
        let url = Url::parse(base_url).map_err(|error| setup(format!("`api_base_url` is not a url: {error}")))?;
        let host = url.host_str().ok_or_else(|| setup("`api_base_url` has no host".to_owned()))?.to_owned();
        let loopback = is_loopback(&host);
        let host = url.port().map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
        let client = Client::builder().connect_timeout(CONNECT_TIMEOUT).timeout(long_poll + REQUEST_MARGIN);
        let client = if loopback { client.no_proxy() } else { client };
        let client = client.build().map_err(|error| setup(format!("no http client: {error}")))?;
        Ok(Self { bot: Bot::with_client(token, client).set_api_url(url), host })
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) async fn get_me(&self) -> Result<Me, ChannelError> {
        self.call(GetMe {}).await
    }

    /// Updates from `offset` on, at most 100. Confirms all lower ones.
    pub(super) async fn get_updates(&self, offset: Option<i64>, wait: Duration) -> Result<Vec<Value>, ChannelError> {
        self.call(GetUpdates { offset, timeout: wait.as_secs(), allowed_updates: ["message"] }).await
    }

    pub(super) async fn send_message(
        &self,
        chat: &str,
        thread: Option<&str>,
        body: Body,
    ) -> Result<Sent, ChannelError> {
        let chat_id = chat.parse::<i64>().map_or_else(|_| Value::from(chat), Value::from);
        let message_thread_id = thread.and_then(|thread| thread.parse().ok());
        let entities = body.format.and_then(|mut format| format.get_mut("entities").map(Value::take));
        self.call(SendMessage { chat_id, message_thread_id, text: body.text, entities }).await
    }

    async fn call<P>(&self, payload: P) -> Result<P::Output, ChannelError>
    where
        P: Payload + Serialize + Send + 'static,
        P::Output: serde::de::DeserializeOwned + Send + 'static,
    {
        JsonRequest::new(self.bot.clone(), payload).send().await.map_err(|error| self.classify(&error))
    }

    fn classify(&self, error: &RequestError) -> ChannelError {
        let host = self.host.clone();
        match error {
            RequestError::Api(error) => classify_refusal(host, error),
            RequestError::RetryAfter(seconds) => ChannelError::RateLimited { retry_after: seconds.duration() },
            RequestError::MigrateToChatId(chat) => {
                ChannelError::Rejected { reason: format!("the group is now the supergroup {chat}") }
            }
            RequestError::Network(error) if error.is_connect() => {
                ChannelError::Unreachable { host, reason: innermost(error.as_ref()) }
            }
            RequestError::Network(error) if error.is_timeout() => {
                ChannelError::Uncertain { host, reason: "timed out".to_owned() }
            }
            RequestError::Network(error) => ChannelError::Uncertain { host, reason: innermost(error.as_ref()) },
            RequestError::InvalidJson { .. } => {
                ChannelError::Uncertain { host, reason: "the answer is not one of the Bot API".to_owned() }
            }
            RequestError::Io(error) => ChannelError::Uncertain { host, reason: error.to_string() },
        }
    }
}

/// `teloxide` gives the description only; its first word is the platform's name of the status.
fn classify_refusal(host: String, error: &ApiError) -> ChannelError {
    let reason = match error {
        ApiError::Unknown(text) => text.clone(),
        known => known.to_string(),
    };
    let starts = |words: &[&str]| words.iter().any(|word| reason.starts_with(word));
    match error {
        ApiError::CantGetUpdates => ChannelError::Conflict { reason: format!("{reason}; a webhook is set") },
        ApiError::InvalidToken => ChannelError::Unauthorized { host, reason },
        _ if starts(&["Conflict"]) => ChannelError::Conflict { reason },
        // Also "Unauthorized: bot was kicked", which is about the chat and not about the token.
        _ if starts(&["Forbidden", "Unauthorized:"]) => ChannelError::NotAllowed { reason },
        _ if starts(&["Internal Server Error", "Bad Gateway", "Gateway Timeout"]) => {
            ChannelError::Uncertain { host, reason }
        }
        _ => ChannelError::Rejected { reason },
    }
}

/// The last cause says what happened; those above it repeat the address, which holds the token.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}
