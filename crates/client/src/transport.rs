//! One HTTP request and its answer: authorization, time limits, repeats, error bodies.
//!
//! No proxy and no redirect is followed, so the token goes to the configured host only.

use std::{fmt, time::Duration};

use reqwest::{
    Method, Response, StatusCode, Url,
    header::{self, HeaderMap, HeaderValue},
    redirect,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use stakpak_protocol::{ErrorCode, Ready};

use crate::{ClientError, ServerError, SetupError, Timing};

/// A safe call is tried this often before its error goes to the caller, who knows better how long it matters.
const ATTEMPTS: u32 = 3;

const IDEMPOTENCY_KEY: &str = "idempotency-key";
const REQUEST_ID: &str = "x-request-id";
const LAST_EVENT_ID: &str = "last-event-id";
const EVENT_STREAM: &str = "text/event-stream";

pub(crate) struct Transport {
    http: reqwest::Client,
    base: Url,
    address: String,
    authorization: Option<HeaderValue>,
    timing: Timing,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("address", &self.address)
            .field("timing", &self.timing)
            .finish_non_exhaustive()
    }
}

/// One request, repeatable.
pub(crate) struct Call<'a> {
    method: Method,
    path: String,
    query: Vec<(&'static str, String)>,
    body: Option<Value>,
    idempotency_key: Option<&'a str>,
}

impl<'a> Call<'a> {
    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), query: Vec::new(), body: None, idempotency_key: None }
    }

    pub(crate) fn page(mut self, limit: usize, offset: usize) -> Self {
        self.query = vec![("limit", limit.to_string()), ("offset", offset.to_string())];
        self
    }

    pub(crate) fn query(mut self, name: &'static str, value: &str) -> Self {
        self.query.push((name, value.to_owned()));
        self
    }

    pub(crate) fn write(method: Method, path: impl Into<String>, idempotency_key: Option<&'a str>) -> Self {
        Self { method, idempotency_key, ..Self::get(path) }
    }

    pub(crate) fn json<T: Serialize>(mut self, body: &T) -> Result<Self, ClientError> {
        let body = serde_json::to_value(body)
            .map_err(|_| ClientError::InvalidArgument("the request cannot be written as json"))?;
        self.body = Some(body);
        Ok(self)
    }

    fn is_safe(&self) -> bool {
        self.method == Method::GET || self.idempotency_key.is_some()
    }
}

impl Transport {
    pub(crate) fn new(base_url: &str, token: &str, timing: Timing) -> Result<Self, SetupError> {
        let base = Url::parse(base_url.trim()).map_err(|_| SetupError::BaseUrl)?;
        if !matches!(base.scheme(), "http" | "https") {
            return Err(SetupError::BaseUrl);
        }
        let host = base.host_str().ok_or(SetupError::BaseUrl)?;
        let address = match base.port_or_known_default() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let authorization = match token.trim() {
            "" => None,
            token => {
                let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| SetupError::Token)?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        let http = http_client(base.scheme() == "https", timing)?;
        Ok(Self { http, base, address, authorization, timing })
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn timing(&self) -> Timing {
        self.timing
    }

    /// Sends a call and reads its answer.
    pub(crate) async fn call<T: DeserializeOwned>(&self, call: &Call<'_>) -> Result<T, ClientError> {
        let body = self.bytes(call).await?;
        serde_json::from_slice(&body)
            .map_err(|source| ClientError::UnexpectedAnswer { address: self.address.clone(), source: Some(source) })
    }

    /// Sends a call whose answer says nothing but that it worked.
    pub(crate) async fn call_for_effect(&self, call: &Call<'_>) -> Result<(), ClientError> {
        self.bytes(call).await.map(drop)
    }

    async fn bytes(&self, call: &Call<'_>) -> Result<Vec<u8>, ClientError> {
        let mut retry = Retry::new(self.timing);
        loop {
            let error = match self.bytes_once(call).await {
                Ok(body) => return Ok(body),
                Err(error) => error,
            };
            match retry.wait_before_repeat(&error).filter(|_| call.is_safe()) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return Err(error),
            }
        }
    }

    async fn bytes_once(&self, call: &Call<'_>) -> Result<Vec<u8>, ClientError> {
        let mut request = self.request(call.method.clone(), &call.path).timeout(self.timing.request).query(&call.query);
        if let Some(key) = call.idempotency_key {
            let key = HeaderValue::from_str(key).map_err(|_| {
                ClientError::InvalidArgument("the idempotency key holds characters that a header cannot carry")
            })?;
            request = request.header(IDEMPOTENCY_KEY, key);
        }
        if let Some(body) = &call.body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|error| self.failed(error))?;
        let response = self.accepted(response).await?;
        let body = response.bytes().await.map_err(|error| self.failed(error))?;
        Ok(body.into())
    }

    /// Reads the one answer that is no error with its 503.
    pub(crate) async fn ready(&self) -> Result<Ready, ClientError> {
        let request = self.request(Method::GET, "ready").timeout(self.timing.request);
        let mut response = request.send().await.map_err(|error| self.failed(error))?;
        if response.status() != StatusCode::SERVICE_UNAVAILABLE {
            response = self.accepted(response).await?;
        }
        let body = response.bytes().await.map_err(|error| self.failed(error))?;
        serde_json::from_slice(&body)
            .map_err(|source| ClientError::UnexpectedAnswer { address: self.address.clone(), source: Some(source) })
    }

    /// Opens an event stream, with repeats.
    pub(crate) async fn open_events(&self, path: &str, cursor: u64) -> Result<Response, ClientError> {
        let mut retry = Retry::new(self.timing);
        loop {
            let error = match self.open_events_once(path, cursor).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            match retry.wait_before_repeat(&error) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return Err(error),
            }
        }
    }

    /// Opens an event stream behind `cursor`.
    pub(crate) async fn open_events_once(&self, path: &str, cursor: u64) -> Result<Response, ClientError> {
        let response = self
            .request(Method::GET, path)
            .header(header::ACCEPT, EVENT_STREAM)
            .header(LAST_EVENT_ID, cursor)
            .send()
            .await
            .map_err(|error| self.failed(error))?;
        let response = self.accepted(response).await?;
        let is_stream = text_header(response.headers(), header::CONTENT_TYPE.as_str())
            .is_some_and(|kind| kind.starts_with(EVENT_STREAM));
        if is_stream {
            Ok(response)
        } else {
            Err(ClientError::UnexpectedAnswer { address: self.address.clone(), source: None })
        }
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let mut url = self.base.clone();
        url.set_path(&format!("{}/v1/{path}", self.base.path().trim_end_matches('/')));
        let request = self.http.request(method, url);
        match &self.authorization {
            Some(authorization) => request.header(header::AUTHORIZATION, authorization),
            None => request,
        }
    }

    async fn accepted(&self, response: Response) -> Result<Response, ClientError> {
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let request_id = text_header(response.headers(), REQUEST_ID).map(str::to_owned);
        let retry_after = text_header(response.headers(), header::RETRY_AFTER.as_str())
            .and_then(|seconds| seconds.trim().parse().ok())
            .map(Duration::from_secs);
        let body = response.bytes().await.map_err(|error| self.failed(error))?;
        let mut error = read_error(&body, status);
        error.request_id = error.request_id.or(request_id);
        error.retry_after = retry_after;
        Err(ClientError::Server(Box::new(error)))
    }

    fn failed(&self, error: reqwest::Error) -> ClientError {
        ClientError::transport(&self.address, error)
    }
}

/// The error bodies there are: of the agent server, whose earlier versions leave out the request id, and of the gateway.
#[derive(Deserialize)]
#[serde(untagged)]
enum ErrorBody {
    Server {
        error: String,
        code: ErrorCode,
        #[serde(default)]
        request_id: Option<String>,
        #[serde(default)]
        details: Option<Value>,
    },
    Gateway {
        error: String,
        message: String,
    },
}

fn read_error(body: &[u8], status: StatusCode) -> ServerError {
    let error = ServerError {
        status: status.as_u16(),
        code: ErrorCode::Unknown,
        gateway_code: None,
        message: String::new(),
        request_id: None,
        details: None,
        retry_after: None,
    };
    match serde_json::from_slice(body) {
        Ok(ErrorBody::Server { error: message, code, request_id, details }) => {
            ServerError { message, code, request_id, details, ..error }
        }
        Ok(ErrorBody::Gateway { error: code, message }) => ServerError { message, gateway_code: Some(code), ..error },
        // Never the body itself: a proxy's page helps nobody.
        Err(_) => {
            let reason = status.canonical_reason().unwrap_or("error");
            ServerError { message: format!("{reason} from something that is not an agent server"), ..error }
        }
    }
}

/// Bounded repeats of one call.
struct Retry {
    left: u32,
    wait: Duration,
    longest: Duration,
}

impl Retry {
    fn new(timing: Timing) -> Self {
        Self { left: ATTEMPTS - 1, wait: timing.retry_first, longest: timing.retry_max }
    }

    /// A call that timed out is not repeated: three time limits in a row would be felt as a hang.
    fn wait_before_repeat(&mut self, error: &ClientError) -> Option<Duration> {
        let timed_out =
            matches!(error, ClientError::Transport { source, .. } if source.is_timeout() && !source.is_connect());
        if self.left == 0 || timed_out || !error.is_retryable() {
            return None;
        }
        self.left -= 1;
        let wait = error.retry_after().unwrap_or(self.wait);
        self.wait = (self.wait * 2).min(self.longest);
        (wait <= self.longest).then_some(wait)
    }
}

fn text_header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// A connection that nobody uses is closed after so long: its buffers cost more than another connection to this machine.
const UNUSED: Duration = Duration::from_secs(10);
/// Connections that wait for use; what a burst needed besides is closed at once.
const MOST_UNUSED: usize = 8;

fn http_client(tls: bool, timing: Timing) -> Result<reqwest::Client, SetupError> {
    // The binary installs a provider at start; a program that only links this crate has none, and building a client
    // would panic. Losing a race against another installer is fine.
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        rustls::crypto::ring::default_provider().install_default().ok();
    }
    let mut builder = reqwest::Client::builder()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .tcp_nodelay(true)
        .pool_idle_timeout(UNUSED)
        .pool_max_idle_per_host(MOST_UNUSED)
        .connect_timeout(timing.connect)
        .read_timeout(timing.idle);
    if !tls {
        // Loading the system's certificates costs time, and fails where there are none.
        builder = builder.tls_certs_only([]);
    }
    builder.build().map_err(|_| SetupError::Tls)
}
