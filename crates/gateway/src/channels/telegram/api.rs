//! A Bot API server, called by raw requests with the method types of `teloxide`.
//!
//! The requests are not sent by `teloxide` itself: it waits 10 s before it tells of a 5xx, and keeps the status to itself.
//! Answers are decoded to the few fields that are used: a server that leaves out or adds others stays usable, and a text
//! that was sent is never taken for unsent because of a field nobody reads. Only the configured host is ever called.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use teloxide_core::{Bot, requests::Payload};
use teloxide_reqwest::{Client, RequestBuilder, Url, redirect::Policy};

use super::{
    failure::{Failure, Refusal, network},
    methods::{GetMe, GetUpdates, SendDocument, Sent},
};
use crate::{ChannelError, channels::MOST_UNUSED};

/// Of one call.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Spare time of a poll.
const POLL_MARGIN: Duration = Duration::from_secs(15);
/// Of an upload or download.
pub(super) const FILE_TIMEOUT: Duration = Duration::from_secs(300);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Kinds of updates that are of use.
const UPDATES: [&str; 4] = ["message", "edited_message", "callback_query", "my_chat_member"];

/// A bot at a Bot API server.
pub(super) struct Api {
    bot: Bot,
    host: String,
    /// Methods that the server was found not to have.
    missing: Mutex<HashSet<&'static str>>,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").field("host", &self.host).finish_non_exhaustive()
    }
}

/// What every method answers with.
#[derive(Deserialize)]
struct Answer<T> {
    ok: bool,
    result: Option<T>,
    #[serde(flatten)]
    refusal: Refusal,
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

impl Api {
    pub(super) fn new(token: &str, base_url: &str) -> Result<Self, ChannelError> {
        let setup = |reason: String| ChannelError::Setup { reason };
        let url = Url::parse(base_url).map_err(|error| setup(format!("`api_base_url` is not a url: {error}")))?;
        let host = url.host_str().ok_or_else(|| setup("`api_base_url` has no host".to_owned()))?.to_owned();
        let loopback = is_loopback(&host);
        let host = url.port().map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
        let client = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_max_idle_per_host(MOST_UNUSED)
            .timeout(FILE_TIMEOUT)
            .redirect(Policy::none());
        let client = if loopback { client.no_proxy() } else { client };
        let client = client.build().map_err(|error| setup(format!("no http client: {error}")))?;
        Ok(Self { bot: Bot::with_client(token, client).set_api_url(url), host, missing: Mutex::default() })
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn client(&self) -> &Client {
        self.bot.client()
    }

    /// Where a file of this path is.
    pub(super) fn file_url(&self, path: &str) -> Result<Url, ChannelError> {
        let token = format!("bot{}", self.bot.token());
        self.url(["file", &token].into_iter().chain(path.split('/').filter(|part| !part.is_empty())))
    }

    fn url<'a>(&self, path: impl IntoIterator<Item = &'a str>) -> Result<Url, ChannelError> {
        let mut url = self.bot.api_url();
        match url.path_segments_mut() {
            Ok(mut segments) => segments.pop_if_empty().extend(path),
            Err(()) => return Err(ChannelError::Setup { reason: "`api_base_url` has no path".to_owned() }),
        };
        Ok(url)
    }

    pub(super) async fn get_me(&self) -> Result<Me, ChannelError> {
        Ok(self.call(GetMe {}).await?)
    }

    /// Updates from `offset` on, at most 100. Confirms all lower ones.
    pub(super) async fn get_updates(&self, offset: Option<i64>, wait: Duration) -> Result<Vec<Value>, ChannelError> {
        let poll = GetUpdates { offset, timeout: wait.as_secs(), allowed_updates: UPDATES };
        let request = self.request(GetUpdates::NAME)?.json(&poll).timeout(wait + POLL_MARGIN);
        Ok(self.execute(request).await?)
    }

    pub(super) async fn call<P>(&self, payload: P) -> Result<P::Output, Failure>
    where
        P: Payload + Serialize,
        P::Output: DeserializeOwned,
    {
        self.execute(self.request(P::NAME)?.json(&payload).timeout(REQUEST_TIMEOUT)).await
    }

    /// A method that the server may not have; then it is refused.
    pub(super) async fn try_call<P>(&self, payload: P) -> Result<P::Output, Failure>
    where
        P: Payload + Serialize,
        P::Output: DeserializeOwned,
    {
        if self.lacks(P::NAME) {
            return Err(self.missing(P::NAME));
        }
        let outcome = self.call(payload).await;
        self.or_missing(P::NAME, outcome).await
    }

    pub(super) async fn upload(&self, document: SendDocument) -> Result<Sent, Failure> {
        if self.lacks(SendDocument::NAME) {
            return Err(self.missing(SendDocument::NAME));
        }
        let outcome = self.execute(self.request(SendDocument::NAME)?.multipart(document.form())).await;
        self.or_missing(SendDocument::NAME, outcome).await
    }

    fn request(&self, method: &str) -> Result<RequestBuilder, Failure> {
        let token = format!("bot{}", self.bot.token());
        Ok(self.client().post(self.url([&*token, method]).map_err(Failure::Other)?))
    }

    async fn execute<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Failure> {
        // The address holds the token.
        let lost = |error: teloxide_reqwest::Error| Failure::Other(network(self.host.clone(), &error.without_url()));
        let response = request.send().await.map_err(lost)?;
        let status = response.status();
        let body = response.bytes().await.map_err(lost)?;
        match serde_json::from_slice::<Answer<T>>(&body) {
            Ok(Answer { ok: true, result: Some(result), .. }) => Ok(result),
            Ok(Answer { ok: false, refusal, .. }) => Err(refusal.meaning(status, self.host.clone())),
            _ if status.is_client_error() => Err(Refusal::default().meaning(status, self.host.clone())),
            _ => {
                let reason = format!("the answer ({status}) is not one of the Bot API");
                Err(Failure::Other(ChannelError::Uncertain { host: self.host.clone(), reason }))
            }
        }
    }

    /// An unknown token and an unknown method are both "Not Found".
    async fn or_missing<T>(&self, method: &'static str, outcome: Result<T, Failure>) -> Result<T, Failure> {
        let Err(Failure::Other(ChannelError::Unauthorized { .. })) = outcome else { return outcome };
        self.get_me().await.map_err(Failure::Other)?;
        self.missing.lock().unwrap_or_else(PoisonError::into_inner).insert(method);
        tracing::info!(host = self.host, method, "this Bot API server does not have the method; going on without");
        Err(self.missing(method))
    }

    fn lacks(&self, method: &str) -> bool {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner).contains(method)
    }

    fn missing(&self, method: &str) -> Failure {
        Failure::Other(ChannelError::Rejected { reason: format!("{} does not have `{method}`", self.host) })
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}
