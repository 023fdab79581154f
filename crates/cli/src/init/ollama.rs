//! An Ollama within reach: <https://github.com/ollama/ollama/blob/main/docs/api.md>.

use std::time::Duration;

use futures_util::future::join_all;
use reqwest::{Client, Url};
use serde_json::{Value, json};

/// On this machine it answers in milliseconds; where none listens, nobody waits.
const PATIENCE: Duration = Duration::from_secs(2);
/// Of how many models it is asked what they can do.
const LOOKED_AT: usize = 10;
const DEFAULT_HOST: &str = "127.0.0.1:11434";
const DEFAULT_PORT: u16 = 11434;

/// One that answers.
#[derive(Debug, Clone)]
pub(super) struct Ollama {
    /// Base URL of its OpenAI-compatible side.
    pub(super) endpoint: String,
    /// Those that can call tools first, else as it lists them: newest first. May be empty.
    pub(super) models: Vec<String>,
}

/// Where it would be, by `OLLAMA_HOST`.
pub(super) fn address() -> Option<Url> {
    base(&std::env::var("OLLAMA_HOST").unwrap_or_default())
}

pub(super) async fn find() -> Option<Ollama> {
    let base = address()?;
    let http = Client::builder().no_proxy().timeout(PATIENCE).build().ok()?;
    let tags: Value = http.get(base.join("api/tags").ok()?).send().await.ok()?.json().await.ok()?;
    let names = tags["models"].as_array()?.iter().filter_map(|model| model["name"].as_str());
    let names: Vec<String> = names.filter(|name| !name.contains("embed")).map(str::to_owned).collect();
    let can_call = join_all(names.iter().take(LOOKED_AT).map(|name| calls_tools(&http, &base, name))).await;
    let mut models: Vec<(bool, String)> =
        names.into_iter().enumerate().map(|(index, name)| (can_call.get(index) != Some(&true), name)).collect();
    models.sort_by_key(|(cannot, _)| *cannot);
    let endpoint = base.join("v1").ok()?.to_string();
    Some(Ollama { endpoint, models: models.into_iter().map(|(_, name)| name).collect() })
}

async fn calls_tools(http: &Client, base: &Url, model: &str) -> bool {
    let ask = async {
        let request = http.post(base.join("api/show").ok()?).json(&json!({ "model": model }));
        let shown: Value = request.send().await.ok()?.json().await.ok()?;
        Some(shown["capabilities"].as_array()?.iter().any(|capability| capability == "tools"))
    };
    ask.await.unwrap_or(false)
}

/// As Ollama reads its variable: scheme and port may be left out. What it listens on everywhere is reached over loopback.
fn base(host: &str) -> Option<Url> {
    let host = Some(host.trim()).filter(|host| !host.is_empty()).unwrap_or(DEFAULT_HOST);
    let bare = !host.contains("://");
    let mut url = Url::parse(&if bare { format!("http://{host}") } else { host.to_owned() }).ok()?;
    if bare && url.port().is_none() && !host.ends_with(":80") {
        url.set_port(Some(DEFAULT_PORT)).ok()?;
    }
    if matches!(url.host_str()?, "0.0.0.0" | "[::]") {
        url.set_host(Some("127.0.0.1")).ok()?;
    }
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Some(url)
}

#[cfg(test)]
mod tests {
    #[test]
    fn its_variable_may_leave_things_out() {
        for (host, base) in [
            ("", "http://127.0.0.1:11434/"),
            ("0.0.0.0", "http://127.0.0.1:11434/"),
            ("gpu:8080", "http://gpu:8080/"),
            ("https://gpu/llm", "https://gpu/llm/"),
        ] {
            assert_eq!(super::base(host).map(String::from).as_deref(), Some(base), "{host}");
        }
    }
}
