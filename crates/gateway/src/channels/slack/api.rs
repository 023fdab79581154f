//! Calls of the Web API: forms out, JSON in, and what a refusal means.
//!
//! The calls are raw, because what matters is beside the answers: granted scopes and `Retry-After` are headers, files are
//! no JSON. Tokens go to the configured host, the bot token for files also to `files.slack.com`; redirects are not followed.

use std::{error::Error, time::Duration};

use reqwest::{Client, RequestBuilder, Response, StatusCode, Url, header, redirect};
use serde_json::Value;

use crate::{ChannelError, SlackConfig, channels::MOST_UNUSED};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Where Slack keeps files.
const FILE_HOST: &str = "files.slack.com";
/// A 429 without a time.
const UNTOLD_WAIT: Duration = Duration::from_secs(30);

/// The Web API as one bot sees it.
#[derive(Clone)]
pub(super) struct Api {
    client: Client,
    base: Url,
    /// Host and port, for errors.
    host: String,
    bot_token: String,
    app_token: String,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").field("host", &self.host).finish_non_exhaustive()
    }
}

/// An answer and the scopes of the token that asked, if the server tells.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) body: Value,
    pub(super) scopes: Option<Vec<String>>,
}

/// Arguments of a call.
pub(super) type Form<'a> = &'a [(&'a str, &'a str)];

impl Api {
    pub(super) fn new(config: &SlackConfig) -> Result<Self, ChannelError> {
        let setup = |reason: String| ChannelError::Setup { reason };
        let base = Url::parse(&format!("{}/", config.settings.api_base_url.trim_end_matches('/')))
            .map_err(|error| setup(format!("`api_base_url` is not a url: {error}")))?;
        let name = base.host_str().ok_or_else(|| setup("`api_base_url` has no host".to_owned()))?.to_owned();
        let host = base.port().map_or_else(|| name.clone(), |port| format!("{name}:{port}"));
        // The binary installs a provider at start; a program that only links this crate may have none, and building a
        // client would panic.
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            rustls::crypto::ring::default_provider().install_default().ok();
        }
        let client = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_max_idle_per_host(MOST_UNUSED)
            .timeout(REQUEST_TIMEOUT)
            .redirect(redirect::Policy::none());
        let client = if is_loopback(&name) { client.no_proxy() } else { client };
        let client = client.build().map_err(|error| setup(format!("no http client: {error}")))?;
        let (bot_token, app_token) = (config.bot_token.expose().to_owned(), config.app_token.expose().to_owned());
        Ok(Self { client, base, host, bot_token, app_token })
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// The address as the library of Socket Mode wants it.
    pub(super) fn base_url(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    pub(super) fn app_token(&self) -> &str {
        &self.app_token
    }

    /// A method under the bot token.
    pub(super) async fn call(&self, method: &str, arguments: Form<'_>) -> Result<Value, ChannelError> {
        self.post(method, &self.bot_token, arguments).await.map(|answered| answered.body)
    }

    /// Who the bot token belongs to, and what it may do.
    pub(super) async fn auth_test(&self) -> Result<Answered, ChannelError> {
        self.post("auth.test", &self.bot_token, &[]).await
    }

    /// Whether the app token opens sockets. The address that comes back is let go.
    pub(super) async fn check_app_token(&self) -> Result<(), ChannelError> {
        match self.post("apps.connections.open", &self.app_token, &[]).await {
            Ok(_) => Ok(()),
            Err(ChannelError::Unauthorized { host, reason }) => {
                Err(ChannelError::Unauthorized { host, reason: format!("`app_token`: {reason}") })
            }
            Err(other) => Err(other),
        }
    }

    async fn post(&self, method: &str, token: &str, arguments: Form<'_>) -> Result<Answered, ChannelError> {
        let url = self.base.join(method).map_err(|error| self.uncertain(error.to_string()))?;
        let response = self.send(self.client.post(url).bearer_auth(token).form(arguments)).await?;
        let scopes = response.headers().get("x-oauth-scopes").and_then(|scopes| scopes.to_str().ok());
        let scopes = scopes.map(|scopes| scopes.split(',').map(|scope| scope.trim().to_owned()).collect());
        let body = response.bytes().await.map_err(|error| self.uncertain(innermost(&error)))?;
        let body: Value = serde_json::from_slice(&body)
            .map_err(|_| self.uncertain(format!("the answer to {method} is not one of the Web API")))?;
        match body["ok"].as_bool() {
            Some(true) => Ok(Answered { body, scopes }),
            Some(false) => Err(self.refusal(&body)),
            None => Err(self.uncertain(format!("the answer to {method} is not one of the Web API"))),
        }
    }

    /// Puts the content of a file where the platform said.
    pub(super) async fn upload(&self, url: &str, content: Vec<u8>) -> Result<(), ChannelError> {
        let url = self.platform_url(url)?;
        let request = self.client.post(url).header(header::CONTENT_TYPE, "application/octet-stream").body(content);
        self.send(request).await.map(drop)
    }

    /// The content of a file, at most `limit` bytes.
    pub(super) async fn download(&self, url: &str, limit: u64) -> Result<Vec<u8>, ChannelError> {
        let url = self.platform_url(url)?;
        let mut response = self.send(self.client.get(url).bearer_auth(&self.bot_token)).await?;
        let too_large = || ChannelError::Rejected { reason: format!("the file is larger than {limit} bytes") };
        if response.content_length().is_some_and(|length| length > limit) {
            return Err(too_large());
        }
        let mut content = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.uncertain(innermost(&error)))? {
            content.extend_from_slice(&chunk);
            if content.len() as u64 > limit {
                return Err(too_large());
            }
        }
        Ok(content)
    }

    /// Refuses every host but the platform's: these addresses come from outside.
    fn platform_url(&self, url: &str) -> Result<Url, ChannelError> {
        let refused = || ChannelError::Rejected { reason: "the file is not at a host of the platform".to_owned() };
        let url = Url::parse(url).map_err(|_| refused())?;
        let of_api = url.origin() == self.base.origin();
        let of_files = url.scheme() == "https" && url.host_str() == Some(FILE_HOST) && url.port().is_none();
        if of_api || of_files { Ok(url) } else { Err(refused()) }
    }

    /// Up to the headers of an answer that is not refused by its status.
    async fn send(&self, request: RequestBuilder) -> Result<Response, ChannelError> {
        let response = request.send().await.map_err(|error| match error.is_connect() {
            true => ChannelError::Unreachable { host: self.host.clone(), reason: innermost(&error) },
            false if error.is_timeout() => self.uncertain("timed out".to_owned()),
            false => self.uncertain(innermost(&error)),
        })?;
        let status = response.status();
        match status {
            StatusCode::TOO_MANY_REQUESTS => Err(ChannelError::RateLimited { retry_after: retry_after(&response) }),
            // The login page: the token may not read this file.
            _ if status.is_redirection() => Err(ChannelError::NotAllowed {
                reason: "the platform asks to log in; is `files:read` granted?".to_owned(),
            }),
            _ if status.is_success() => Ok(response),
            _ if status.is_client_error() => Err(ChannelError::Rejected { reason: status.to_string() }),
            _ => Err(self.uncertain(status.to_string())),
        }
    }

    fn refusal(&self, body: &Value) -> ChannelError {
        let host = self.host.clone();
        let error = body["error"].as_str().unwrap_or("no reason given");
        match error {
            "invalid_auth"
            | "not_authed"
            | "account_inactive"
            | "token_revoked"
            | "token_expired"
            | "not_allowed_token_type"
            | "org_login_required"
            | "invalid_app_id" => ChannelError::Unauthorized { host, reason: error.to_owned() },
            "missing_scope" => {
                let scope = body["needed"].as_str().unwrap_or("another scope").to_owned();
                ChannelError::MissingScope { host, scope }
            }
            "ratelimited" | "rate_limited" => ChannelError::RateLimited { retry_after: UNTOLD_WAIT },
            "not_in_channel" | "is_archived" | "restricted_action" | "access_denied" | "ekm_access_denied" => {
                ChannelError::NotAllowed { reason: error.to_owned() }
            }
            "internal_error" | "fatal_error" | "service_unavailable" | "request_timeout" => {
                self.uncertain(error.to_owned())
            }
            _ => ChannelError::Rejected { reason: with_details(error, body) },
        }
    }

    fn uncertain(&self, reason: String) -> ChannelError {
        ChannelError::Uncertain { host: self.host.clone(), reason }
    }
}

/// The reason and what the platform says of the place.
fn with_details(error: &str, body: &Value) -> String {
    let messages = body["response_metadata"]["messages"].as_array().into_iter().flatten();
    let messages: Vec<&str> = messages.filter_map(Value::as_str).take(3).collect();
    if messages.is_empty() { error.to_owned() } else { format!("{error}: {}", messages.join("; ")) }
}

fn retry_after(response: &Response) -> Duration {
    let seconds = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    seconds.map_or(UNTOLD_WAIT, Duration::from_secs)
}

/// The last cause says what happened; those above it repeat the address.
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
