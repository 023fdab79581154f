//! Which model will answer: what flags say, what the file says already, what is detected, what a person chooses.

use anyhow::{Context, Result, bail};
use stakpak_models::{KNOWN_PROVIDERS, KnownProvider};

use super::{
    ollama::{self, Ollama},
    probe,
    question::Asker,
};
use crate::{
    args::{InitArgs, ProviderChoice},
    channel::check_variable,
    exit::Failure,
    offline,
};

/// Key of the table of an endpoint that has no name of its own.
const CUSTOM: &str = "my";

/// What the set-up comes to.
#[derive(Debug)]
pub(super) enum Answer {
    /// The file has a provider or a model, and stays; the model, if it names one.
    Kept(Option<String>),
    /// The file stays but for the model.
    Model(String),
    /// No provider: the built-in model answers.
    Offline,
    /// This one is written.
    Provider(Provider),
}

/// A provider as it is written.
#[derive(Debug)]
pub(super) struct Provider {
    /// Key of its table.
    pub(super) name: String,
    /// `type`.
    pub(super) kind: &'static str,
    pub(super) endpoint: Option<String>,
    pub(super) key: Key,
    pub(super) model: String,
    /// Whether it was asked.
    pub(super) tested: bool,
}

impl Provider {
    /// As `provider/id`.
    pub(super) fn full_model(&self) -> String {
        format!("{}/{}", self.name, self.model)
    }
}

/// The key of a provider.
#[derive(Debug, Clone)]
pub(super) enum Key {
    None,
    /// Name of a variable.
    Variable(String),
    Literal(String),
}

impl Key {
    /// As it is written.
    pub(super) fn written(&self) -> Option<String> {
        match self {
            Self::None => None,
            Self::Variable(name) => Some(format!("env:{name}")),
            Self::Literal(key) => Some(key.clone()),
        }
    }

    fn value(&self) -> Option<String> {
        match self {
            Self::None => None,
            Self::Variable(name) => set(name),
            Self::Literal(key) => Some(key.clone()),
        }
    }
}

enum Source {
    Known(&'static KnownProvider),
    Ollama(Ollama),
    Custom,
    Offline,
}

/// `kept` is there if the profile has a provider or a model: the model, if it names one.
pub(super) async fn choose(args: &InitArgs, asker: Asker, kept: Option<Option<String>>) -> Result<Answer> {
    let is_kept = kept.is_some();
    let source = match (given(args).await?, kept) {
        (Some(source), _) => source,
        (None, Some(model)) if !args.force => {
            return Ok(args.model.clone().map_or(Answer::Kept(model), Answer::Model));
        }
        (None, _) => proposed(asker).await?,
    };
    let provider = match source {
        // Said in so many words: what is in the environment would answer otherwise.
        Source::Offline if is_kept || KNOWN_PROVIDERS.iter().any(|known| set(known.variable).is_some()) => {
            return Ok(Answer::Model(offline::MODEL.to_owned()));
        }
        Source::Offline => return Ok(Answer::Offline),
        Source::Known(known) => of_known(args, asker, known).await?,
        Source::Ollama(ollama) => of_ollama(args, asker, ollama)?,
        Source::Custom => of_custom(args, asker).await?,
    };
    Ok(Answer::Provider(provider))
}

async fn given(args: &InitArgs) -> Result<Option<Source>> {
    let Some(choice) = args.provider else {
        if args.api_endpoint.is_some() {
            return Ok(Some(Source::Custom));
        }
        if args.api_key.is_some() || args.api_key_env.is_some() {
            bail!(Failure::Usage("a key needs --provider, or --api-endpoint".to_owned()));
        }
        return Ok(None);
    };
    Ok(Some(match choice {
        ProviderChoice::Anthropic => known("anthropic")?,
        ProviderChoice::Openai => known("openai")?,
        ProviderChoice::Gemini => known("gemini")?,
        ProviderChoice::Openrouter => known("openrouter")?,
        ProviderChoice::Custom => Source::Custom,
        ProviderChoice::Offline => Source::Offline,
        ProviderChoice::Ollama => Source::Ollama(ollama::find().await.with_context(|| {
            let address = ollama::address().map(String::from).unwrap_or_default();
            format!("no Ollama answers at {address}; start it, or name its place with OLLAMA_HOST")
        })?),
    }))
}

fn known(name: &str) -> Result<Source> {
    Ok(Source::Known(KnownProvider::named(name).with_context(|| format!("no provider is known as {name}"))?))
}

/// What is detected first, and the rest for a person to choose from. Nobody gets the first that is detected.
async fn proposed(asker: Asker) -> Result<Source> {
    let mut sources: Vec<(&str, String, Source)> = Vec::new();
    for known in KNOWN_PROVIDERS.iter().filter(|known| set(known.variable).is_some()) {
        sources.push((known.name, format!("key in {}", known.variable), Source::Known(known)));
    }
    if let Some(ollama) = ollama::find().await.filter(|ollama| !ollama.models.is_empty()) {
        let text = format!("{}, {} models", ollama.endpoint.trim_end_matches("/v1"), ollama.models.len());
        sources.push(("ollama", text, Source::Ollama(ollama)));
    }
    if !asker.is_person() {
        return Ok(sources.into_iter().next().map_or(Source::Offline, |(_, _, source)| source));
    }
    sources.push(("offline", "the built-in model: needs no key, understands a few words".to_owned(), Source::Offline));
    for known in KNOWN_PROVIDERS.iter().filter(|known| set(known.variable).is_none()) {
        sources.push((known.name, "asks for your key".to_owned(), Source::Known(known)));
    }
    sources.push(("custom", "another endpoint that speaks the protocol of OpenAI".to_owned(), Source::Custom));
    asker.tell("Which model answers?");
    for (number, (name, text, _)) in (1..).zip(&sources) {
        asker.tell(&format!("  {number}  {name:<11} {text}"));
    }
    let chosen = asker.checked("Number or name", "1", |answer| {
        let number = answer.parse().ok().and_then(|number: usize| number.checked_sub(1));
        let named = sources.iter().position(|(name, _, _)| *name == answer);
        number.filter(|number| *number < sources.len()).or(named).ok_or_else(|| "one of the list, please".to_owned())
    })?;
    Ok(sources.swap_remove(chosen).2)
}

async fn of_known(args: &InitArgs, asker: Asker, known: &'static KnownProvider) -> Result<Provider> {
    let key = match given_key(args)? {
        Key::None if set(known.variable).is_some() => Key::Variable(known.variable.to_owned()),
        Key::None => match asker.secret(&format!("Key of {}", known.name))? {
            Some(key) => Key::Literal(key),
            None => {
                let text = format!("no key: set {}, or give --api-key or --api-key-env", known.variable);
                bail!(Failure::Usage(text))
            }
        },
        key => key,
    };
    let endpoint = args.api_endpoint.as_deref().unwrap_or(known.endpoint);
    let offered = offered(args, known.name, endpoint, &key).await?;
    let proposal = probe::pick(&offered, known.model).unwrap_or_else(|| known.model.to_owned());
    Ok(Provider {
        name: known.name.to_owned(),
        kind: known.name,
        endpoint: args.api_endpoint.clone(),
        key,
        model: model(args, asker, known.name, &proposal, &offered)?,
        tested: !args.no_test,
    })
}

fn of_ollama(args: &InitArgs, asker: Asker, ollama: Ollama) -> Result<Provider> {
    let Ollama { endpoint, models } = ollama;
    let proposal = models.first().cloned().unwrap_or_default();
    if proposal.is_empty() && args.model.is_none() {
        bail!("the Ollama at {endpoint} has no model; get one, for example with: ollama pull qwen3");
    }
    let model = model(args, asker, "ollama", &proposal, &models)?;
    let name = "ollama".to_owned();
    Ok(Provider { name, kind: "custom", endpoint: Some(endpoint), key: Key::None, model, tested: true })
}

async fn of_custom(args: &InitArgs, asker: Asker) -> Result<Provider> {
    let given = args.api_endpoint.clone().unwrap_or_default();
    let is_asked = given.is_empty();
    let endpoint = if is_asked { asker.text("Base URL, such as http://127.0.0.1:8000/v1", "")? } else { given };
    if endpoint.is_empty() {
        bail!(Failure::Usage("no endpoint: give --api-endpoint".to_owned()));
    }
    let key = match given_key(args)? {
        Key::None if is_asked => asker.secret("Key, or nothing for none")?.map_or(Key::None, Key::Literal),
        key => key,
    };
    let offered = offered(args, CUSTOM, &endpoint, &key).await?;
    let model = model(args, asker, CUSTOM, offered.first().map_or("", String::as_str), &offered)?;
    if model.is_empty() {
        bail!(Failure::Usage("the endpoint lists no models: name one with --model".to_owned()));
    }
    let name = CUSTOM.to_owned();
    Ok(Provider { name, kind: "custom", endpoint: Some(endpoint), key, model, tested: !args.no_test })
}

async fn offered(args: &InitArgs, name: &str, endpoint: &str, key: &Key) -> Result<Vec<String>> {
    if args.no_test {
        return Ok(Vec::new());
    }
    probe::offered(endpoint, name, key.value().as_deref()).await
}

/// The id without the provider.
fn model(args: &InitArgs, asker: Asker, provider: &str, proposal: &str, offered: &[String]) -> Result<String> {
    let model = match &args.model {
        Some(model) => model.clone(),
        None => asker.text(&format!("Model of {provider}"), proposal)?,
    };
    let prefixed = model.strip_prefix(provider).and_then(|rest| rest.strip_prefix('/'));
    // `openrouter/auto` is an id of OpenRouter's own.
    let model = prefixed.filter(|_| !offered.contains(&model) && model != proposal).unwrap_or(&model).to_owned();
    if !offered.is_empty() && !offered.contains(&model) {
        asker.tell(&format!("  {provider} does not list {model}"));
    }
    Ok(model)
}

fn given_key(args: &InitArgs) -> Result<Key> {
    if let Some(name) = &args.api_key_env {
        check_variable("--api-key-env", name)?;
        return Ok(Key::Variable(name.clone()));
    }
    match args.api_key.as_deref() {
        Some("-") => {
            let mut line = String::new();
            std::io::stdin().read_line(&mut line)?;
            match line.trim() {
                "" => bail!(Failure::Usage("--api-key -: there is no key on stdin".to_owned())),
                key => Ok(Key::Literal(key.to_owned())),
            }
        }
        Some(key) => Ok(Key::Literal(key.to_owned())),
        None => Ok(Key::None),
    }
}

fn set(variable: &str) -> Option<String> {
    std::env::var(variable).ok().filter(|value| !value.trim().is_empty())
}
