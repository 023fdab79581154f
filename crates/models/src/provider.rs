//! A configured provider: where it is, how it is addressed, and the one HTTP client behind all its models.
//!
//! The key is in no `Debug`, error or URL.

use std::{
    collections::BTreeMap,
    fmt,
    net::IpAddr,
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use genai::{Client, ModelIden, ServiceTarget, resolver::AuthData, resolver::Endpoint};
use reqwest::header::{HeaderName, HeaderValue};
use stakpak_agent_core::{ErrorClass, ModelError};
use stakpak_protocol::{ModelCost, ModelLimit};
use url::{Host, Url};

use crate::{
    Gates, KeySource, KnownProvider, SettingsError,
    gate::{Credential, Gate},
    key::HeldKey,
    prices::list_price,
};

/// The protocol a provider speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProviderKind {
    /// Chat completions of OpenAI, which nearly every server has.
    Chat,
    /// Responses of OpenAI.
    Responses,
    /// Messages of Anthropic.
    Anthropic,
    /// The Gemini API.
    Gemini,
    /// ConverseStream of Amazon Bedrock, with a bearer key.
    Bedrock,
}

impl ProviderKind {
    /// Its name, as it is stored with what goes back to a provider.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Responses => "responses",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Bedrock => "bedrock",
        }
    }
}

/// Requests at once with one key, unless it is said otherwise.
const MAX_CONCURRENT: usize = 16;
/// Connections to a provider that wait for use; what a burst needed besides is closed at once, because each holds buffers.
const MOST_UNUSED: usize = 4;

/// A provider as configured, with every secret resolved.
#[derive(Clone)]
pub struct ProviderSettings {
    /// Key of its table and prefix of its models.
    pub id: String,
    /// Its protocol.
    pub kind: ProviderKind,
    /// Base URL, normally ending in its version such as `/v1`; a query is kept.
    pub endpoint: String,
    /// Sent as the protocol has it: as bearer token, or in a header of its own.
    pub api_key: Option<String>,
    /// Where the key is looked for again when it was refused; without one it is what it is.
    pub key_source: Option<Arc<dyn KeySource>>,
    /// Ids of its catalogue; other ids work too.
    pub models: Vec<String>,
    /// Prices by id that win over the list; none: not known, whatever the list says.
    pub prices: BTreeMap<String, Option<ModelCost>>,
    /// Limits by id; others have those of a model that nobody knows.
    pub limits: BTreeMap<String, ModelLimit>,
    /// Sent with every request; they win over what the product sends.
    pub headers: BTreeMap<String, String>,
    /// Whether a stream must end with `[DONE]`; false for servers that leave it out.
    pub requires_done: bool,
    /// Requests at once with this key, those of all profiles together; more wait.
    pub max_concurrent: usize,
    /// How long to wait.
    pub timeouts: Timeouts,
}

impl ProviderSettings {
    /// A provider without key and catalogue.
    #[must_use]
    pub fn new(id: impl Into<String>, kind: ProviderKind, endpoint: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            kind,
            endpoint: endpoint.into(),
            api_key: None,
            key_source: None,
            models: Vec::new(),
            prices: BTreeMap::new(),
            limits: BTreeMap::new(),
            headers: BTreeMap::new(),
            requires_done: true,
            max_concurrent: MAX_CONCURRENT,
            timeouts: Timeouts::default(),
        }
    }
}

impl fmt::Debug for ProviderSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProviderSettings").field("id", &self.id).field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// How long to wait for a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection.
    pub connect: Duration,
    /// For the headers of the answer.
    pub headers: Duration,
    /// For the next bytes of the answer.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(10), headers: Duration::from_secs(60), idle: Duration::from_secs(120) }
    }
}

/// Shorter values are no secrets, and hiding them would garble ordinary words.
const MIN_SECRET: usize = 8;

/// A provider ready for use.
pub(crate) struct Provider {
    pub(crate) id: String,
    pub(crate) kind: ProviderKind,
    pub(crate) requires_done: bool,
    pub(crate) timeouts: Timeouts,
    /// `host:port`, which may be shown.
    pub(crate) address: String,
    /// What its requests have in common with those of other profiles.
    pub(crate) gate: Arc<Gate>,
    pub(crate) key: HeldKey,
    base: Url,
    /// As configured, names in lower case.
    headers: BTreeMap<String, String>,
    client: Mutex<Option<Client>>,
    /// Name of the provider whose list prices hold at this address.
    known: Option<&'static str>,
    prices: BTreeMap<String, Option<ModelCost>>,
    limits: BTreeMap<String, ModelLimit>,
}

impl Provider {
    pub(crate) fn new(settings: ProviderSettings, gates: &Gates) -> Result<Self, SettingsError> {
        let ProviderSettings {
            id,
            kind,
            endpoint,
            api_key,
            key_source,
            prices,
            limits,
            headers,
            requires_done,
            max_concurrent,
            timeouts,
            models: _,
        } = settings;
        if id.is_empty() || id.contains('/') || id == crate::OFFLINE_PROVIDER {
            return Err(SettingsError::ProviderId { id });
        }
        let Some((base, address)) = addresses(&endpoint) else {
            return Err(SettingsError::Endpoint { id });
        };
        let known = KnownProvider::at(&endpoint).map(|known| known.name);
        let api_key = api_key.filter(|key| !key.is_empty());
        let headers: BTreeMap<String, String> =
            headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
        let sent = sent(kind, api_key.as_deref(), &headers);
        if let Some((name, _)) = sent.iter().find(|(name, value)| !is_header(name, value)) {
            return Err(SettingsError::Header { id, name: name.clone() });
        }
        let credential = Credential { endpoint: base.to_string(), key: api_key.clone(), most_at_once: max_concurrent };
        Ok(Self {
            gate: gates.of(credential),
            key: HeldKey::new(api_key, key_source),
            id,
            kind,
            requires_done,
            timeouts,
            address,
            base,
            headers,
            client: Mutex::new(None),
            known,
            prices,
            limits,
        })
    }

    /// How much a model of this id takes and says.
    pub(crate) fn limit(&self, id: &str) -> ModelLimit {
        self.limits.get(id).copied().unwrap_or_default()
    }

    /// What a model of this id costs here, if that is known.
    pub(crate) fn price(&self, id: &str) -> Option<ModelCost> {
        match self.prices.get(id) {
            Some(own) => *own,
            None => list_price(self.known?, id),
        }
    }

    /// Who gets back what it said: another protocol at the same place could not read it.
    pub(crate) fn identity(&self) -> String {
        format!("{} ({})", self.id, self.kind.name())
    }

    /// OpenAI takes one; other servers may refuse what they do not know.
    pub(crate) fn takes_cache_key(&self) -> bool {
        self.known == Some("openai") || self.kind == ProviderKind::Responses
    }

    /// Everything spelled out, so that no name decides which adapter, endpoint or key is used.
    pub(crate) fn target(&self, model: &str, key: Option<&str>) -> Result<ServiceTarget, ModelError> {
        let url = self.kind.url(&self.base, model).ok_or_else(|| self.unusable("no URL could be made"))?;
        Ok(ServiceTarget {
            endpoint: Endpoint::from_owned(self.base.as_str()),
            auth: AuthData::RequestOverride {
                url: url.to_string(),
                headers: sent(self.kind, key, &self.headers).into_iter().collect::<Vec<_>>().into(),
            },
            model: ModelIden::new(self.kind.adapter(), model.to_owned()),
        })
    }

    /// The client, made by the first request: reading the certificates of the system takes milliseconds.
    pub(crate) fn client(&self) -> Result<Client, ModelError> {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = client.as_ref() {
            return Ok(client.clone());
        }
        let mut http = reqwest::Client::builder()
            .user_agent(concat!("stakpak/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(self.timeouts.connect)
            .pool_max_idle_per_host(MOST_UNUSED)
            .tcp_nodelay(true)
            // A redirect would carry the key to another place.
            .redirect(reqwest::redirect::Policy::none());
        if is_loopback(&self.base) {
            http = http.no_proxy();
        }
        let built = http.build().map(|http| Client::builder().with_reqwest(http).build());
        match built {
            Ok(Ok(made)) => Ok(client.insert(made).clone()),
            _ => Err(self.unusable("no HTTP client could be made")),
        }
    }

    fn unusable(&self, why: &str) -> ModelError {
        ModelError::new(ErrorClass::BadRequest, format!("{}: {why}", self.id))
    }

    /// A provider's words, fit to be shown: one short line without URLs, and without our secrets.
    pub(crate) fn public(&self, text: &str) -> String {
        const MAX_CHARS: usize = 200;
        let key = self.key.value();
        let secrets = key.iter().chain(self.headers.values()).filter(|value| value.len() >= MIN_SECRET);
        let text = secrets.fold(text.to_owned(), |text, secret| text.replace(secret, "***"));
        let words = text.split_whitespace().filter(|word| !word.contains("://"));
        let line = words.collect::<Vec<_>>().join(" ");
        match line.char_indices().nth(MAX_CHARS) {
            Some((end, _)) => format!("{}…", &line[..end]),
            None => line,
        }
    }
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider").field("id", &self.id).field("address", &self.address).finish_non_exhaustive()
    }
}

/// Base URL (its last segment survives a join only with a slash behind it) and `host:port`.
pub(crate) fn addresses(endpoint: &str) -> Option<(Url, String)> {
    let mut base = Url::parse(endpoint.trim()).ok()?;
    if !matches!(base.scheme(), "http" | "https") {
        return None;
    }
    if !base.path().ends_with('/') {
        let path = format!("{}/", base.path());
        base.set_path(&path);
    }
    let address = format!("{}:{}", base.host_str()?, base.port_or_known_default()?);
    Some((base, address))
}

/// The headers of a request; those of the configuration win.
fn sent(kind: ProviderKind, key: Option<&str>, configured: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let own = kind.headers(key).into_iter().map(|(name, value)| (name.to_owned(), value));
    own.chain(configured.clone()).collect()
}

fn is_header(name: &str, value: &str) -> bool {
    HeaderName::from_str(name).is_ok() && HeaderValue::from_str(value).is_ok()
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
        None => false,
    }
}
