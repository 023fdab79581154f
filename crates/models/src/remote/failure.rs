//! From what genai reports to a typed error.
//!
//! Nothing of genai's own `Display` is shown: it holds bodies and whole requests.

use std::{error::Error as StdError, io, string::FromUtf8Error, time::Duration};

use chrono::{DateTime, Utc};
use genai::webc::StreamTimeout;
use reqwest::header::HeaderMap;
use serde_json::Value;
use stakpak_agent_core::{ErrorClass, ModelError};

use super::details::Details;
use crate::provider::Provider;

pub(super) const CUT_OFF: &str = "the connection ended in the middle of the answer";
const KEY_REFUSED: &str = "check the api_key of this provider";

pub(super) fn from_genai(provider: &Provider, error: &genai::Error) -> ModelError {
    match error {
        genai::Error::WebStream { error: cause, .. } => from_transport(provider, cause.as_ref()),
        genai::Error::ChatResponse { body, .. } => from_event(provider, body),
        // JSON that just stops: genai hands over what came before the body ended.
        genai::Error::StreamParse { serde_error, .. } if serde_error.is_eof() => {
            self::error(provider, ErrorClass::StreamTruncated, None, CUT_OFF)
        }
        genai::Error::StreamParse { .. } => {
            self::error(provider, ErrorClass::Decode, None, "the answer holds something that is not JSON")
        }
        _ => self::error(provider, ErrorClass::BadRequest, None, "the request could not be built"),
    }
}

/// The one form of every message: `provider: status class: text`.
pub(super) fn error(provider: &Provider, class: ErrorClass, status: Option<u16>, text: &str) -> ModelError {
    let status = status.map(|status| format!("{status} ")).unwrap_or_default();
    let text = provider.public(text);
    let text = if text.is_empty() { text } else { format!(": {text}") };
    ModelError::new(class, format!("{}: {status}{class}{text}", provider.id))
}

fn from_transport(provider: &Provider, cause: &(dyn StdError + Send + Sync + 'static)) -> ModelError {
    if let Some(genai::Error::HttpError { status, body, headers, .. }) = cause.downcast_ref() {
        return from_http(provider, status.as_u16(), body, headers);
    }
    if let Some(timeout) = cause.downcast_ref::<StreamTimeout>() {
        let text = match timeout {
            StreamTimeout::Headers => format!("{} did not answer in time", provider.address),
            StreamTimeout::Read => format!("{} stopped sending", provider.address),
        };
        return error(provider, ErrorClass::Timeout, None, &text);
    }
    if let Some(http) = cause.downcast_ref::<reqwest::Error>() {
        return from_reqwest(provider, http);
    }
    if let Some(text) = cause.downcast_ref::<FromUtf8Error>() {
        return match text.utf8_error().error_len() {
            None => error(provider, ErrorClass::StreamTruncated, None, CUT_OFF),
            Some(_) => error(provider, ErrorClass::Decode, None, "the answer is not UTF-8 text"),
        };
    }
    error(provider, ErrorClass::Network, None, "the connection failed")
}

fn from_reqwest(provider: &Provider, http: &reqwest::Error) -> ModelError {
    let address = &provider.address;
    if http.is_connect() {
        let message = format!("{}: cannot reach {address}: {}", provider.id, cause(http));
        return ModelError::new(ErrorClass::Network, message);
    }
    if http.is_body() || http.is_decode() {
        return error(provider, ErrorClass::StreamTruncated, None, CUT_OFF);
    }
    if http.is_builder() {
        return error(provider, ErrorClass::BadRequest, None, "the request could not be built");
    }
    error(provider, ErrorClass::Network, None, &format!("the connection to {address} broke: {}", cause(http)))
}

/// The innermost cause, in words that hold no URL.
fn cause(http: &reqwest::Error) -> String {
    let mut innermost: &(dyn StdError + 'static) = http;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    match innermost.downcast_ref::<io::Error>() {
        Some(error) if error.raw_os_error().is_some() => error.kind().to_string(),
        _ if http.is_timeout() => "timed out".to_owned(),
        _ if innermost.is::<reqwest::Error>() => "failed".to_owned(),
        // A name that does not resolve, a certificate that is not trusted.
        _ => innermost.to_string(),
    }
}

fn from_http(provider: &Provider, status: u16, body: &str, headers: &HeaderMap) -> ModelError {
    let details = Details::of(&serde_json::from_str(body).unwrap_or_default());
    let class = details.class_of_status(status);
    let text = match class {
        // The provider's text may repeat parts of the key.
        ErrorClass::Auth => KEY_REFUSED,
        _ if (300..400).contains(&status) => "the endpoint redirects elsewhere; check api_endpoint",
        _ => &details.message,
    };
    let retry_after = retry_after(headers, Utc::now()).or(details.retry_after);
    let is_final = headers.get("x-should-retry").is_some_and(|value| value == "false");
    ModelError { retry_after, is_final, ..error(provider, class, Some(status), text) }
}

/// An error event in a stream that began with 200.
pub(super) fn from_event(provider: &Provider, body: &Value) -> ModelError {
    let details = Details::of(body);
    let class = details.class_of_event();
    let text = if class == ErrorClass::Auth { KEY_REFUSED } else { &details.message };
    error(provider, class, details.status(), text)
}

/// `retry-after-ms`, else `retry-after` in seconds or as a date.
fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let number = |name: &str| text(name).and_then(|text| text.parse::<f64>().ok());
    let seconds = number("retry-after-ms").map(|ms| ms / 1_000.0).or_else(|| number("retry-after"));
    if let Some(wait) = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) {
        return Some(wait);
    }
    let date = DateTime::parse_from_rfc2822(text("retry-after")?).ok()?;
    // A date that has passed means now.
    Some((date.to_utc() - now).to_std().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderName, HeaderValue};
    use serde_json::json;

    use super::*;
    use crate::{ProviderKind, ProviderSettings};

    fn provider() -> Provider {
        let mut settings = ProviderSettings::new("acme", ProviderKind::Chat, "https://user:pw@example.com/v1?x=y");
        settings.api_key = Some("sk-very-secret".to_owned());
        Provider::new(settings, &crate::Gates::default()).unwrap()
    }

    #[test]
    fn what_is_shown_holds_no_key_url_or_body() {
        let provider = provider();
        let echo = r#"{"error":{"message":"bad key sk-very-secret,\nsee https://example.com/v1/x?key=1 for help"}}"#;
        let message = |status, body: &str| from_http(&provider, status, body, &HeaderMap::new()).message;
        assert_eq!(message(400, echo), "acme: 400 bad request: bad key ***, see for help");
        assert_eq!(message(401, echo), "acme: 401 key refused: check the api_key of this provider");
        assert_eq!(message(502, "<html><h1>Bad gateway</h1></html>"), "acme: 502 server error");
        let long = json!({ "error": "ä".repeat(1_000) }).to_string();
        assert!(message(400, &long).chars().count() < 250);
        assert_eq!(provider.address, "example.com:443");
        assert!(!format!("{provider:?}").contains("secret") && !format!("{provider:?}").contains("pw"));
    }

    #[test]
    fn waits_asked_for() {
        let now = DateTime::parse_from_rfc3339("2026-03-01T12:00:00Z").unwrap().to_utc();
        let asked = |pairs: &[(&'static str, &str)]| {
            let header = |&(name, value): &(&'static str, &str)| {
                (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
            };
            retry_after(&pairs.iter().map(header).collect(), now)
        };
        assert_eq!(asked(&[("retry-after", "2")]), Some(Duration::from_secs(2)));
        assert_eq!(asked(&[("retry-after", "0.5")]), Some(Duration::from_millis(500)));
        assert_eq!(asked(&[("retry-after-ms", "250"), ("retry-after", "9")]), Some(Duration::from_millis(250)));
        assert_eq!(asked(&[("retry-after", "Sun, 01 Mar 2026 12:00:30 GMT")]), Some(Duration::from_secs(30)));
        assert_eq!(asked(&[("retry-after", "Sun, 01 Mar 2026 11:00:00 GMT")]), Some(Duration::ZERO));
        assert_eq!(asked(&[("retry-after", "soon")]), None);
        assert_eq!(asked(&[("retry-after", "-1")]), None);
        assert_eq!(asked(&[]), None);
    }
}
