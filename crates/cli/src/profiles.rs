//! Profiles of `config.toml` as the server's port: each resolved when it is asked for, never an empty default.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Result;
use stakpak_agent_core::{Policy, Profile, ProfileError, Profiles, Sandbox, SandboxLevel, check_key};
use stakpak_config::{ConfigFile, Price, ProviderApi, ProviderConfig, ProviderKind as Kind};
use stakpak_models::{
    KNOWN_PROVIDERS, KnownProvider, OFFLINE_PROVIDER, ProviderKind, ProviderModels, ProviderSettings,
};
use stakpak_protocol::ModelCost;

use crate::sandbox;

/// The profiles of a file, with what the command line says about the one it names.
pub(crate) struct ConfigProfiles {
    file: ConfigFile,
    boot: String,
    model: Option<String>,
    approve_all: bool,
    made: Mutex<HashMap<String, Arc<Profile>>>,
}

impl ConfigProfiles {
    /// # Errors
    /// When the boot profile cannot be used.
    pub(crate) fn new(file: ConfigFile, boot: &str, model: Option<String>, approve_all: bool) -> Result<Self> {
        let profiles = Self { file, boot: boot.to_owned(), model, approve_all, made: Mutex::default() };
        let profile = profiles.profile(None)?;
        if let Some(model) = profile.models.default_model() {
            profile.models.resolve(&model)?;
        }
        Ok(profiles)
    }

    /// The providers of a profile, ready to be asked.
    pub(crate) fn providers(file: &ConfigFile, name: &str) -> Result<Vec<ProviderSettings>, ProfileError> {
        of_profile(name, &file.profile(name).map_err(|error| unusable(name, &error))?)
    }

    fn make(&self, name: &str) -> Result<Profile, ProfileError> {
        let profile = self.file.profile(name).map_err(|error| unusable(name, &error))?;
        if let Some((provider, finding)) = profile.invalid_providers.iter().next() {
            return Err(ProfileError {
                message: format!("profile {name}: provider {provider} is unusable: {finding}"),
            });
        }
        let is_boot = name == self.boot;
        let mut settings = of_profile(name, &profile)?;
        for settings in &mut settings {
            settings.prices = self.prices(&settings.id);
        }
        let default = match self.model.as_deref().filter(|_| is_boot).or(profile.model.as_deref()) {
            Some(model) => Some(model.to_owned()),
            None => self.inherited(&settings),
        };
        let models = ProviderModels::new(settings, default.as_deref()).map_err(|error| unusable(name, &error))?;
        Ok(Profile {
            name: name.to_owned(),
            models: Arc::new(models),
            policy: if self.approve_all && is_boot { Policy::All } else { grant(name, &profile)? },
            system_prompt: profile.system_prompt.as_deref().map(Into::into),
            max_turns: profile.max_turns.map(u64::from),
            sandbox: sandbox::of_profile(profile.sandbox.as_ref()),
        })
    }
}

impl ConfigProfiles {
    /// `[cost]` of a provider's models, by their ids.
    fn prices(&self, provider: &str) -> BTreeMap<String, Option<ModelCost>> {
        let of_provider = self.file.prices().iter().filter_map(|(name, price)| {
            let (_, id) = name.split_once('/').filter(|(prefix, _)| *prefix == provider)?;
            Some((id.to_owned(), price.map(model_cost)))
        });
        of_provider.collect()
    }

    /// The levels of sandbox that profiles of the file ask for, each with the name of one that does.
    pub(crate) fn sandbox_levels(&self) -> Vec<(String, SandboxLevel)> {
        sandbox::levels(&self.file)
    }

    /// For a profile that names no model: that of the command line or of the boot profile, if the profile has its provider.
    fn inherited(&self, settings: &[ProviderSettings]) -> Option<String> {
        let of_boot = || self.file.profile(&self.boot).ok()?.model;
        let model = self.model.clone().or_else(of_boot)?;
        let provider = model.split_once('/')?.0;
        (provider == OFFLINE_PROVIDER || settings.iter().any(|settings| settings.id == provider)).then_some(model)
    }
}

impl Profiles for ConfigProfiles {
    fn profile(&self, name: Option<&str>) -> Result<Arc<Profile>, ProfileError> {
        let name = name.unwrap_or(&self.boot);
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(profile) = made.get(name) {
            return Ok(Arc::clone(profile));
        }
        let profile = Arc::new(self.make(name)?);
        made.insert(name.to_owned(), Arc::clone(&profile));
        Ok(profile)
    }
}

/// What a profile lets run, and in what sandbox, whether or not its models can be used.
pub(crate) fn terms(file: &ConfigFile, name: &str) -> Result<(Policy, Sandbox), ProfileError> {
    let profile = file.profile(name).map_err(|error| unusable(name, &error))?;
    Ok((grant(name, &profile)?, sandbox::of_profile(profile.sandbox.as_ref())))
}

/// What runs without a question: `allowed_tools` in place of the safe set, and `auto_approve` besides.
fn grant(name: &str, profile: &stakpak_config::Profile) -> Result<Policy, ProfileError> {
    for (list, keys) in [("allowed_tools", &profile.allowed_tools), ("auto_approve", &profile.auto_approve)] {
        for key in keys.iter().flatten().filter(|key| !key.trim().is_empty() && key.trim() != "*") {
            check_key(key).map_err(|error| ProfileError { message: format!("profiles.{name}.{list}: {error}") })?;
        }
    }
    let granted = match &profile.allowed_tools {
        Some(keys) => Policy::approving(keys.iter().map(String::as_str)),
        None => Policy::with_defaults(),
    };
    Ok(granted.and_approving(profile.auto_approve.iter().flatten().map(String::as_str)))
}

fn of_profile(name: &str, profile: &stakpak_config::Profile) -> Result<Vec<ProviderSettings>, ProfileError> {
    let providers = if profile.providers.is_empty() { of_environment() } else { profile.providers.clone() };
    providers.iter().map(|(id, provider)| settings(name, id, provider)).collect()
}

/// For a profile without a provider: those known by name whose key the environment has. Their models are theirs alone.
fn of_environment() -> BTreeMap<String, ProviderConfig> {
    let with_key =
        KNOWN_PROVIDERS.iter().filter(|known| std::env::var(known.variable).is_ok_and(|key| !key.is_empty()));
    let kinds =
        with_key.filter_map(|known| Some((known.name.to_owned(), ProviderConfig::new(Kind::named(known.name)?))));
    kinds.collect()
}

/// A provider known by name is spoken to as its vendor has it, any other as servers that follow OpenAI have it.
fn settings(profile: &str, id: &str, provider: &ProviderConfig) -> Result<ProviderSettings, ProfileError> {
    let unusable = |text: String| ProfileError { message: format!("profiles.{profile}.providers.{id}: {text}") };
    let known = KnownProvider::named(provider.kind.name());
    if known.is_none() && !matches!(provider.kind, Kind::Custom | Kind::Stakpak) {
        return Err(unusable(format!(
            "type {:?} is not supported by this version; use openai, anthropic, gemini, openrouter, or custom with an \
             OpenAI-compatible api_endpoint",
            provider.kind.name()
        )));
    }
    let own_endpoint = provider.api_endpoint.as_deref();
    let Some(endpoint) = own_endpoint.or(known.map(|known| known.endpoint)) else {
        return Err(unusable("api_endpoint is missing".to_owned()));
    };
    let kind = match (provider.kind, provider.api) {
        (Kind::OpenAi | Kind::Custom, Some(ProviderApi::Chat)) => ProviderKind::Chat,
        (Kind::OpenAi | Kind::Custom, Some(ProviderApi::Responses)) => ProviderKind::Responses,
        (_, Some(_)) => return Err(unusable("api is for types openai and custom: leave it out".to_owned())),
        // Servers that are told to be OpenAI have chat completions; few have responses.
        (Kind::OpenAi, None) if KnownProvider::at(endpoint).is_none() => ProviderKind::Chat,
        (_, None) => known.map_or(ProviderKind::Chat, |known| known.kind),
    };
    let mut settings = ProviderSettings::new(id, kind, endpoint);
    settings.api_key = match (&provider.api_key, known) {
        (Some(key), _) => Some(key.expose().to_owned()),
        (None, Some(known)) => std::env::var(known.variable).ok().filter(|key| !key.is_empty()),
        (None, None) => None,
    };
    settings.models.clone_from(&provider.models);
    if let Some(known) = known {
        if settings.api_key.is_none() && own_endpoint.is_none() {
            return Err(unusable(format!("no key: set api_key, or the variable {}", known.variable)));
        }
        if settings.models.is_empty() {
            settings.models = vec![known.model.to_owned()];
        }
    }
    settings.headers = provider.headers.iter().map(|(name, value)| (name.clone(), value.expose().to_owned())).collect();
    settings.requires_done = provider.requires_done.unwrap_or(true);
    Ok(settings)
}

fn model_cost(price: Price) -> ModelCost {
    let Price { input, output, cache_read, cache_write } = price;
    ModelCost { input, output, cache_read, cache_write }
}

fn unusable(name: &str, error: &dyn std::error::Error) -> ProfileError {
    let mut message = format!("profile {name}: {error}");
    if let Some(cause) = error.source() {
        message.push_str(&format!(": {cause}"));
    }
    ProfileError { message }
}
