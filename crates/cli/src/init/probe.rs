//! Asking a provider whether it takes the key, and which models it offers.

use std::time::Duration;

use anyhow::{Result, bail};
use reqwest::{Client, StatusCode, Url};
use serde_json::Value;
use stakpak_models::{KnownProvider, ProviderKind};

const PATIENCE: Duration = Duration::from_secs(20);

/// Why a provider does not tell its models.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unasked {
    /// It does not take the key.
    #[error("{0}")]
    Refused(String),
    /// Nothing is known about the key.
    #[error("{0}")]
    NoAnswer(String),
}

/// Ids of the models on offer; none where the provider does not tell.
pub(super) async fn offered(endpoint: &str, provider: &str, key: Option<&str>) -> Result<Vec<String>> {
    let kind = KnownProvider::named(provider).map_or(ProviderKind::Chat, |known| known.kind);
    match models(endpoint, provider, kind, key).await {
        Ok(models) => Ok(models),
        Err(error @ Unasked::Refused(_)) => bail!("{error}; nothing was written"),
        Err(error @ Unasked::NoAnswer(_)) => bail!("{error}; {NO_TEST}"),
    }
}

/// The same, for whoever writes nothing.
pub(crate) async fn models(
    endpoint: &str,
    provider: &str,
    kind: ProviderKind,
    key: Option<&str>,
) -> Result<Vec<String>, Unasked> {
    let no_answer = |text: String| Unasked::NoAnswer(format!("{provider}: {text}"));
    let url = Url::parse(endpoint).map_err(|error| no_answer(format!("api_endpoint {endpoint}: {error}")))?;
    let host = url.host_str().unwrap_or_default().to_owned();
    // OpenRouter lists its models to everybody; only this asks for the key.
    let path = if provider == "openrouter" { "key" } else { "models" };
    let is_local = matches!(host.as_str(), "localhost" | "127.0.0.1" | "[::1]");
    let http = Client::builder().timeout(PATIENCE);
    let http = if is_local { http.no_proxy() } else { http }.build().map_err(|error| no_answer(error.to_string()))?;
    let mut request = http.get(format!("{}/{path}", endpoint.trim_end_matches('/')));
    for (name, value) in kind.headers(key) {
        request = request.header(name, value);
    }
    let answer = match request.send().await {
        Ok(answer) => answer,
        Err(error) => return Err(no_answer(format!("{host} cannot be reached ({})", cause(&error)))),
    };
    match answer.status() {
        status if status.is_success() => Ok(ids(&answer.json().await.unwrap_or_default())),
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Ok(Vec::new()),
        // Gemini answers 400 to a key that is none.
        status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST) => {
            Err(Unasked::Refused(format!("{provider}: {host} refused the key ({status})")))
        }
        status => Err(no_answer(format!("{host} answered {status}"))),
    }
}

const NO_TEST: &str = "nothing was written, and with --no-test it is written without a test";

fn ids(listed: &Value) -> Vec<String> {
    // Gemini has its own names for them.
    let models = listed["data"].as_array().or(listed["models"].as_array()).into_iter().flatten();
    let ids = models.filter_map(|model| model["id"].as_str().or(model["name"].as_str()));
    ids.map(|id| id.strip_prefix("models/").unwrap_or(id).to_owned()).collect()
}

/// The innermost cause: the outer ones repeat the URL.
fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// The preferred one if it is on offer, else the one with the most similar name; the first where none is preferred.
pub(super) fn pick(models: &[String], preferred: &str) -> Option<String> {
    let alike = |id: &str| id.chars().zip(preferred.chars()).take_while(|(a, b)| a == b).count();
    let exact = models.iter().find(|id| *id == preferred);
    // The last of the greatest is taken by `max_by_key`; the first is meant.
    exact.or_else(|| models.iter().rev().max_by_key(|id| alike(id))).cloned()
}

#[cfg(test)]
mod tests {
    use super::pick;

    #[test]
    fn the_most_similar_model_stands_in_for_the_preferred_one() {
        let models = ["text-embedding-3", "gpt-5-mini", "gpt-6"].map(str::to_owned);
        assert_eq!(pick(&models, "gpt-6").as_deref(), Some("gpt-6"));
        assert_eq!(pick(&models, "gpt-5").as_deref(), Some("gpt-5-mini"));
        assert_eq!(pick(&models, "").as_deref(), Some("text-embedding-3"));
        assert_eq!(pick(&[], "gpt-5"), None);
    }
}
