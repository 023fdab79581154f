//! The REST API: one call, and what its failure means.
//!
//! * Everything goes to the configured host, whose certificate is checked against the system's store; nothing is redirected.
//! * Routes and bodies are those of serenity; its own client is not used, because it waits out rate limits inside of a
//!   call and hides `retry_after` from the delivery, which has to know it.
//! * Buckets are obeyed here: a call that would exceed one is not made. A wait of up to a second is waited, a longer one
//!   is told to the caller, as is a 429.
//! * Of answers only the fields that are used are decoded.

use std::{
    collections::HashMap,
    error::Error,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, de::DeserializeOwned};
use serenity::{
    http::{RatelimitingBucket, Route},
    model::id::{ApplicationId, ChannelId, MessageId, UserId},
};
use stakpak_config::Secret;
use teloxide_reqwest::{
    Client, Method, RequestBuilder, Response, Url,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap},
    multipart::Form,
    redirect::Policy,
};
use tokio::time::{Instant, sleep};

use super::failure::Failure;
use crate::{ChannelError, channels::MOST_UNUSED};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// The documentation asks for this form.
const USER_AGENT: &str = concat!("DiscordBot (https://stakpak.dev, ", env!("CARGO_PKG_VERSION"), ")");
/// Where serenity's routes point.
const ROUTES_AT: &str = "https://discord.com";
/// A wait for a bucket that a caller need not know of.
pub(super) const SHORT_WAIT: Duration = Duration::from_secs(1);
/// Attempts of a read, with waits that double from [`SHORT_WAIT`].
const READ_ATTEMPTS: u32 = 4;

/// A bot at the API.
pub(super) struct Api {
    client: Client,
    base: String,
    host: String,
    secure: bool,
    token: Secret,
    /// Buckets that are used up, until when.
    full: Mutex<HashMap<(Method, RatelimitingBucket), Instant>>,
}

/// The body of a call.
pub(super) enum Payload {
    None,
    Json(Vec<u8>),
    Form(Form),
}

/// The bot itself.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Me {
    pub(super) id: UserId,
    pub(super) username: String,
}

/// The application of the bot.
#[derive(Debug, Deserialize)]
pub(super) struct Application {
    pub(super) id: ApplicationId,
    #[serde(default)]
    pub(super) flags: u64,
}

impl Application {
    /// Bits 18 and 19: enabled by Discord, or by the owner while the bot is in few guilds.
    pub(super) fn reads_content(&self) -> bool {
        self.flags & (1 << 18 | 1 << 19) != 0
    }
}

/// Where to connect, and how often one may.
#[derive(Debug, Deserialize)]
pub(super) struct GatewayInfo {
    pub(super) url: String,
    pub(super) session_start_limit: StartLimit,
}

#[derive(Debug, Deserialize)]
pub(super) struct StartLimit {
    pub(super) remaining: u64,
    /// Milliseconds.
    pub(super) reset_after: u64,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").field("host", &self.host).finish_non_exhaustive()
    }
}

impl Api {
    pub(super) fn new(token: &Secret, base_url: &str) -> Result<Self, ChannelError> {
        let setup = |reason: String| ChannelError::Setup { reason };
        let url = Url::parse(base_url).map_err(|error| setup(format!("`api_base_url` is not a url: {error}")))?;
        let host = url.host_str().ok_or_else(|| setup("`api_base_url` has no host".to_owned()))?.to_owned();
        let client = Client::builder()
            .user_agent(USER_AGENT)
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_max_idle_per_host(MOST_UNUSED)
            .timeout(REQUEST_TIMEOUT)
            .redirect(Policy::none());
        let client = if is_loopback(&host) { client.no_proxy() } else { client };
        let client = client.build().map_err(|error| setup(format!("no http client: {error}")))?;
        let host = url.port().map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
        let (base, secure) = (base_url.trim_end_matches('/').to_owned(), url.scheme() == "https");
        Ok(Self { client, base, host, secure, token: token.clone(), full: Mutex::default() })
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Whether the API is reached over TLS; then the gateway must be, too.
    pub(super) fn secure(&self) -> bool {
        self.secure
    }

    pub(super) fn token(&self) -> &Secret {
        &self.token
    }

    pub(super) async fn me(&self) -> Result<Me, ChannelError> {
        Ok(self.get(Route::UserMe, "").await?)
    }

    pub(super) async fn application(&self) -> Result<Application, ChannelError> {
        Ok(self.get(Route::Oauth2ApplicationCurrent, "").await?)
    }

    pub(super) async fn gateway(&self) -> Result<GatewayInfo, ChannelError> {
        Ok(self.get(Route::GatewayBot, "").await?)
    }

    pub(super) async fn channel(&self, channel_id: ChannelId) -> Result<serde_json::Value, ChannelError> {
        Ok(self.read(Route::Channel { channel_id }, "").await?)
    }

    /// The messages that follow `after`, oldest first, at most 100.
    pub(super) async fn messages_after(
        &self,
        channel_id: ChannelId,
        after: u64,
    ) -> Result<Vec<serde_json::Value>, ChannelError> {
        Ok(self.messages(channel_id, &format!("?after={after}&limit=100")).await?)
    }

    /// The last messages, oldest first.
    pub(super) async fn last_messages(&self, channel_id: ChannelId) -> Result<Vec<serde_json::Value>, Failure> {
        self.messages(channel_id, "?limit=100").await
    }

    async fn messages(&self, channel_id: ChannelId, query: &str) -> Result<Vec<serde_json::Value>, Failure> {
        let mut messages: Vec<serde_json::Value> = self.read(Route::ChannelMessages { channel_id }, query).await?;
        messages.sort_by_key(|message| message["id"].as_str().and_then(|id| id.parse::<u64>().ok()));
        Ok(messages)
    }

    pub(super) async fn message<T: DeserializeOwned>(
        &self,
        channel_id: ChannelId,
        message_id: MessageId,
    ) -> Result<T, ChannelError> {
        Ok(self.read(Route::ChannelMessage { channel_id, message_id }, "").await?)
    }

    async fn get<T: DeserializeOwned>(&self, route: Route<'_>, query: &str) -> Result<T, Failure> {
        Ok(self.decode(self.attempt(Method::GET, route, query, Payload::None).await?).await?)
    }

    /// As `get`, and repeated when it fails for a while: what depends on it must not be skipped.
    async fn read<T: DeserializeOwned>(&self, route: Route<'_>, query: &str) -> Result<T, Failure> {
        let mut wait = SHORT_WAIT;
        for _ in 1..READ_ATTEMPTS {
            let outcome = self.get(route, query).await;
            match outcome.as_ref().map_err(Failure::error) {
                Err(ChannelError::RateLimited { retry_after }) => sleep(*retry_after).await,
                Err(ChannelError::Unreachable { .. } | ChannelError::Uncertain { .. }) => sleep(wait).await,
                _ => return outcome,
            }
            wait *= 2;
        }
        self.get(route, query).await
    }

    pub(super) async fn decode<T: DeserializeOwned>(&self, response: Response) -> Result<T, ChannelError> {
        response.json().await.map_err(|error| self.failed(&error))
    }

    /// Makes a call with the bot's token.
    pub(super) async fn call(
        &self,
        method: Method,
        route: Route<'_>,
        query: &str,
        payload: Payload,
    ) -> Result<Response, ChannelError> {
        Ok(self.attempt(method, route, query, payload).await?)
    }

    /// The same, for a caller who wants to know how the platform numbers the failure.
    pub(super) async fn attempt(
        &self,
        method: Method,
        route: Route<'_>,
        query: &str,
        payload: Payload,
    ) -> Result<Response, Failure> {
        // Putting a reaction and taking it away count as one.
        let counted = if method == Method::DELETE { Method::PUT } else { method.clone() };
        let bucket = (counted, route.ratelimiting_bucket());
        self.wait_for(&bucket).await?;
        let url = format!("{}{query}", route.path().replacen(ROUTES_AT, &self.base, 1));
        let request = self.client.request(method, url).header(AUTHORIZATION, format!("Bot {}", self.token.expose()));
        let response = match payload {
            Payload::None => request,
            Payload::Json(body) => request.header(CONTENT_TYPE, "application/json").body(body),
            Payload::Form(form) => request.multipart(form),
        };
        let response = response.send().await.map_err(|error| self.failed(&error))?;
        self.note(bucket, response.headers());
        if response.status().is_success() { Ok(response) } else { Err(Failure::read(response, &self.host).await) }
    }

    /// A request without the token, for what is not the API.
    pub(super) fn foreign(&self, url: Url) -> RequestBuilder {
        self.client.get(url)
    }

    async fn wait_for(&self, bucket: &(Method, RatelimitingBucket)) -> Result<(), ChannelError> {
        let until = self.full().get(bucket).copied();
        let wait = until.map(|until| until.saturating_duration_since(Instant::now())).unwrap_or_default();
        if wait > SHORT_WAIT {
            return Err(ChannelError::RateLimited { retry_after: wait });
        }
        if !wait.is_zero() {
            sleep(wait).await;
        }
        Ok(())
    }

    fn note(&self, bucket: (Method, RatelimitingBucket), headers: &HeaderMap) {
        let number = |name: &str| headers.get(name)?.to_str().ok()?.parse::<f64>().ok();
        let now = Instant::now();
        let mut full = self.full();
        full.retain(|_, until| *until > now);
        if let (Some(0.0), Some(reset)) = (number("x-ratelimit-remaining"), number("x-ratelimit-reset-after")) {
            full.insert(bucket, now + seconds(reset));
        }
    }

    fn full(&self) -> std::sync::MutexGuard<'_, HashMap<(Method, RatelimitingBucket), Instant>> {
        self.full.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn failed(&self, error: &teloxide_reqwest::Error) -> ChannelError {
        let host = self.host.clone();
        if error.is_builder() {
            return ChannelError::Setup { reason: innermost(error) };
        }
        if error.is_connect() {
            return ChannelError::Unreachable { host, reason: innermost(error) };
        }
        let reason = if error.is_timeout() { "timed out".to_owned() } else { innermost(error) };
        ChannelError::Uncertain { host, reason }
    }
}

/// As Discord writes durations; nothing it says can make this panic.
pub(super) fn seconds(number: f64) -> Duration {
    Duration::try_from_secs_f64(number).unwrap_or(SHORT_WAIT)
}

/// The last cause says what happened.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

pub(super) fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}
