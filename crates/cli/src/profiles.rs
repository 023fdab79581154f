//! Profiles of `config.toml` as the server's port: each resolved when it is asked for, never an empty default.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use anyhow::Result;
use async_trait::async_trait;
use stakpak_agent_core::{
    Calendar, Compaction, DayBudget, Effort, Models as _, NoProgress, Policy, Profile, ProfileError, Profiles,
    Reasoning, Sandbox, check_key,
};
use stakpak_config::{ConfigFile, Price, ProviderApi, ProviderConfig, ProviderKind as Kind};
use stakpak_models::{
    Gates, KNOWN_PROVIDERS, KeyError, KeySource, KnownProvider, OFFLINE_PROVIDER, ProviderKind, ProviderModels,
    ProviderSettings,
};
use stakpak_protocol::{ModelCost, ModelLimit, RunLimits, Usd};
use stakpak_scheduler::SharedBudget;

use crate::sandbox;

/// The profiles of a file, with what the command line says about the one it names.
pub(crate) struct ConfigProfiles {
    boot: String,
    approve_all: bool,
    gates: Gates,
    current: RwLock<Arc<Version>>,
}

/// The file as it was at one time. A run keeps what it was given of it.
struct Version {
    file: ConfigFile,
    boot: String,
    /// Of the command line, or of `[server]`.
    model: Option<String>,
    approve_all: bool,
    calendar: Calendar,
    gates: Gates,
    made: Mutex<HashMap<String, Arc<Profile>>>,
}

impl ConfigProfiles {
    /// # Errors
    /// When the boot profile cannot be used.
    pub(crate) fn new(file: ConfigFile, boot: &str, model: Option<String>, approve_all: bool) -> Result<Self> {
        Self::in_days_of(&SharedBudget::default(), file, boot, model, approve_all)
    }

    /// The same to run by: its days are those of `[defaults].timezone`.
    pub(crate) fn in_days_of(
        days: &SharedBudget,
        file: ConfigFile,
        boot: &str,
        model: Option<String>,
        approve_all: bool,
    ) -> Result<Self> {
        let gates = Gates::default();
        let current = RwLock::new(Arc::new(Version::new(file, boot, model, approve_all, days, &gates)?));
        Ok(Self { boot: boot.to_owned(), approve_all, gates, current })
    }

    /// From now on another file holds, for runs that begin.
    ///
    /// # Errors
    /// When the boot profile cannot be used; the old file stays then.
    pub(crate) fn reload(&self, file: ConfigFile, model: Option<String>, days: &SharedBudget) -> Result<()> {
        let version = Arc::new(Version::new(file, &self.boot, model, self.approve_all, days, &self.gates)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = version;
        Ok(())
    }

    fn current(&self) -> Arc<Version> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The levels of sandbox that profiles of the file ask for, each with the name of one that does.
    pub(crate) fn sandbox_levels(&self) -> Vec<(String, Sandbox)> {
        sandbox::asked_for(&self.current().file)
    }

    /// The providers of a profile, ready to be asked.
    pub(crate) fn providers(file: &ConfigFile, name: &str) -> Result<Vec<ProviderSettings>, ProfileError> {
        of_profile(name, &file.profile(name).map_err(|error| unusable(name, &error))?)
    }
}

impl Profiles for ConfigProfiles {
    fn profile(&self, name: Option<&str>) -> Result<Arc<Profile>, ProfileError> {
        self.current().profile(name)
    }
}

impl Version {
    fn new(
        file: ConfigFile,
        boot: &str,
        model: Option<String>,
        approve_all: bool,
        days: &SharedBudget,
        gates: &Gates,
    ) -> Result<Self> {
        let days = days.clone();
        let calendar = Calendar::new(move |now| days.day_began(now));
        let (boot, gates) = (boot.to_owned(), gates.clone());
        let version = Self { file, boot, model, approve_all, calendar, gates, made: Mutex::default() };
        let profile = version.profile(None)?;
        if let Some(model) = profile.models.default_model() {
            profile.models.resolve(&model)?;
        }
        Ok(version)
    }

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

    fn make(&self, name: &str) -> Result<Profile, ProfileError> {
        let profile = self.file.profile(name).map_err(|error| unusable(name, &error))?;
        if let Some((provider, finding)) = profile.invalid_providers.iter().next() {
            return Err(ProfileError {
                message: format!("profile {name}: provider {provider} is unusable: {finding}"),
            });
        }
        let approve_all = self.approve_all && name == self.boot;
        let mut settings = of_profile(name, &profile)?;
        for settings in &mut settings {
            settings.prices = self.prices(&settings.id);
            settings.limits = self.limits(&settings.id);
            settings.key_source = Some(Arc::new(ConfiguredKey::of(&self.file, name, &settings.id)));
        }
        let default = match self.model.as_deref().filter(|_| name == self.boot).or(profile.model.as_deref()) {
            Some(model) => Some(model.to_owned()),
            None => self.inherited(&settings),
        };
        let models = ProviderModels::behind(&self.gates, settings, default.as_deref())
            .map_err(|error| unusable(name, &error))?;
        let fallback = fallback(name, &profile, &models)?;
        Ok(Profile {
            name: name.to_owned(),
            models: Arc::new(models),
            policy: if approve_all { Policy::All } else { grant(name, &profile)? },
            has_own_policy: approve_all || profile.allowed_tools.is_some() || profile.auto_approve.is_some(),
            system_prompt: profile.system_prompt.as_deref().map(Into::into),
            max_turns: profile.max_turns.map(u64::from),
            no_progress: no_progress(&profile),
            limits: RunLimits {
                tokens: profile.budget.tokens_per_run,
                cost_usd: profile.budget.usd_per_run,
                ..RunLimits::default()
            },
            day: DayBudget {
                tokens: profile.budget.tokens_per_day,
                cost: profile.budget.usd_per_day.map(Usd::from_dollars),
                runs: profile.budget.runs_per_day,
                calendar: self.calendar.clone(),
            },
            sandbox: sandbox::of_profile(profile.sandbox.as_ref()),
            compaction: compaction(&profile),
            reasoning: profile.reasoning.map(reasoning),
            fallback,
        })
    }

    /// `[cost]` of a provider's models, by their ids.
    fn prices(&self, provider: &str) -> BTreeMap<String, Option<ModelCost>> {
        let of_provider = self.file.prices().iter().filter_map(|(name, price)| {
            let (_, id) = name.split_once('/').filter(|(prefix, _)| *prefix == provider)?;
            Some((id.to_owned(), price.map(model_cost)))
        });
        of_provider.collect()
    }

    /// `[limits]` of a provider's models, by their ids.
    fn limits(&self, provider: &str) -> BTreeMap<String, ModelLimit> {
        let of_provider = self.file.limits().iter().filter_map(|(name, limits)| {
            let (_, id) = name.split_once('/').filter(|(prefix, _)| *prefix == provider)?;
            let default = ModelLimit::default();
            let (context, output) =
                (limits.context.unwrap_or(default.context), limits.output.unwrap_or(default.output));
            Some((id.to_owned(), ModelLimit { context, output }))
        });
        of_provider.collect()
    }

    /// For a profile that names no model: that of the command line or of the boot profile, if the profile has its provider.
    fn inherited(&self, settings: &[ProviderSettings]) -> Option<String> {
        let of_boot = || self.file.profile(&self.boot).ok()?.model;
        let model = self.model.clone().or_else(of_boot)?;
        let provider = model.split_once('/')?.0;
        (provider == OFFLINE_PROVIDER || settings.iter().any(|settings| settings.id == provider)).then_some(model)
    }
}

/// The key of a provider as its files, or what they refer to, have it by now.
struct ConfiguredKey {
    file: ConfigFile,
    profile: String,
    provider: String,
}

impl ConfiguredKey {
    fn of(file: &ConfigFile, profile: &str, provider: &str) -> Self {
        Self { file: file.clone(), profile: profile.to_owned(), provider: provider.to_owned() }
    }

    fn read(&self) -> Result<Option<String>> {
        let providers = ConfigProfiles::providers(&self.file.again()?, &self.profile)?;
        Ok(providers.into_iter().find(|settings| settings.id == self.provider).and_then(|settings| settings.api_key))
    }
}

#[async_trait]
impl KeySource for ConfiguredKey {
    async fn fetch(&self) -> Result<Option<String>, KeyError> {
        self.read().map_err(|error| KeyError { message: format!("{error:#}") })
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
    if known.is_none() && !matches!(provider.kind, Kind::Custom | Kind::Stakpak | Kind::AmazonBedrock) {
        return Err(unusable(format!(
            "type {:?} is not supported by this version; use openai, anthropic, gemini, openrouter, amazon-bedrock, or \
             custom with an OpenAI-compatible api_endpoint",
            provider.kind.name()
        )));
    }
    let of_region = bedrock_endpoint(provider).map_err(unusable)?;
    let own_endpoint = provider.api_endpoint.as_deref().or(of_region.as_deref());
    let Some(endpoint) = own_endpoint.or(known.map(|known| known.endpoint)) else {
        return Err(unusable("api_endpoint is missing".to_owned()));
    };
    let kind = match (provider.kind, provider.api) {
        (Kind::OpenAi | Kind::Custom, Some(ProviderApi::Chat)) => ProviderKind::Chat,
        (Kind::OpenAi | Kind::Custom, Some(ProviderApi::Responses)) => ProviderKind::Responses,
        (_, Some(_)) => return Err(unusable("api is for types openai and custom: leave it out".to_owned())),
        // Servers that are told to be OpenAI have chat completions; few have responses.
        (Kind::OpenAi, None) if KnownProvider::at(endpoint).is_none() => ProviderKind::Chat,
        (Kind::AmazonBedrock, None) => ProviderKind::Bedrock,
        (_, None) => known.map_or(ProviderKind::Chat, |known| known.kind),
    };
    let mut settings = ProviderSettings::new(id, kind, endpoint);
    settings.api_key = match (&provider.api_key, known) {
        (Some(key), _) => Some(key.expose().to_owned()),
        (None, Some(known)) => variable(known.variable),
        (None, None) if kind == ProviderKind::Bedrock => variable(BEDROCK_KEY),
        (None, None) => None,
    };
    if kind == ProviderKind::Bedrock && settings.api_key.is_none() {
        return Err(unusable(format!(
            "no key: set api_key or the variable {BEDROCK_KEY} to a Bedrock API key; other credentials of AWS are not \
             supported by this version"
        )));
    }
    settings.models.clone_from(&provider.models);
    if let Some(known) = known {
        if settings.api_key.is_none() && own_endpoint.is_none() {
            return Err(unusable(format!(
                "no key: run `stakpak auth login --provider {id}`, or set api_key or the variable {}",
                known.variable
            )));
        }
        if settings.models.is_empty() {
            settings.models = vec![known.model.to_owned()];
        }
    }
    settings.headers = provider.headers.iter().map(|(name, value)| (name.clone(), value.expose().to_owned())).collect();
    settings.requires_done = provider.requires_done.unwrap_or(true);
    settings.max_concurrent = provider.max_concurrent.unwrap_or(settings.max_concurrent);
    Ok(settings)
}

/// The models that stand in for one that fails, by their full names.
fn fallback(
    name: &str,
    profile: &stakpak_config::Profile,
    models: &ProviderModels,
) -> Result<Vec<String>, ProfileError> {
    let wrong = |text: String| ProfileError { message: format!("profiles.{name}.models.fallback: {text}") };
    let resolved = profile.fallback_models.iter().flatten().map(|model| {
        let info = models.resolve(model).map_err(|error| wrong(error.to_string()))?.info().clone();
        if info.provider == OFFLINE_PROVIDER {
            return Err(wrong(format!("`{model}` answers nothing that a failed model was asked; leave it out")));
        }
        Ok(info.full_id())
    });
    resolved.collect()
}

/// The usual variable of a Bedrock API key.
pub(crate) const BEDROCK_KEY: &str = "AWS_BEARER_TOKEN_BEDROCK";

fn bedrock_endpoint(provider: &ProviderConfig) -> Result<Option<String>, String> {
    if provider.kind != Kind::AmazonBedrock || provider.api_endpoint.is_some() {
        return Ok(None);
    }
    let region = provider.region.clone().or_else(|| variable("AWS_REGION")).or_else(|| variable("AWS_DEFAULT_REGION"));
    let region = region.ok_or("region is missing, such as \"eu-central-1\"")?;
    Ok(Some(format!("https://bedrock-runtime.{region}.amazonaws.com")))
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn no_progress(profile: &stakpak_config::Profile) -> NoProgress {
    let (own, default) = (profile.no_progress, NoProgress::default());
    NoProgress { warn: own.warn.unwrap_or(default.warn), stop: own.stop.unwrap_or(default.stop) }
}

fn compaction(profile: &stakpak_config::Profile) -> Compaction {
    let (own, default) = (profile.compaction, Compaction::default());
    Compaction {
        enabled: own.enabled.unwrap_or(default.enabled),
        trigger: own.trigger.unwrap_or(default.trigger),
        target: own.target.unwrap_or(default.target),
        model: profile.compaction_model.clone(),
    }
}

fn reasoning(reasoning: stakpak_config::Reasoning) -> Reasoning {
    match reasoning {
        stakpak_config::Reasoning::Low => Reasoning::Effort(Effort::Low),
        stakpak_config::Reasoning::Medium => Reasoning::Effort(Effort::Medium),
        stakpak_config::Reasoning::High => Reasoning::Effort(Effort::High),
        stakpak_config::Reasoning::Budget(tokens) => Reasoning::Budget(tokens),
    }
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

#[cfg(test)]
mod tests {
    use chrono_tz::Tz;
    use stakpak_config::Document;

    use super::*;

    #[test]
    fn days_of_a_profile_are_of_the_zone_of_the_defaults_also_after_a_reload() {
        let days = |zone| SharedBudget { zone, ..SharedBudget::default() };
        let text = "[profiles.default]
budget = { runs_per_day = 3 }
";
        let file = || ConfigFile::read(&Document::parse("config.toml", text).unwrap()).unwrap();
        let profiles = ConfigProfiles::in_days_of(&days(Tz::Asia__Tokyo), file(), "default", None, false).unwrap();
        let began = || {
            let day = profiles.profile(None).unwrap().day.clone();
            assert_eq!(day.runs, Some(3));
            day.calendar.day_began("2026-05-01T12:00:00Z".parse().unwrap()).to_rfc3339()
        };
        assert_eq!(began(), "2026-04-30T15:00:00+00:00");
        profiles.reload(file(), None, &days(Tz::UTC)).unwrap();
        assert_eq!(began(), "2026-05-01T00:00:00+00:00");
    }

    fn profile(more: &str) -> Arc<Profile> {
        let text = format!(
            "[profiles.default]\nmodel = \"my/small\"\n[profiles.default.providers.my]\ntype = \"custom\"\n\
             api_endpoint = \"http://127.0.0.1:1/v1\"\n{more}"
        );
        let file = ConfigFile::read(&Document::parse("config.toml", text).unwrap()).unwrap();
        assert_eq!(file.findings(), [], "{more}");
        Version::new(file, "default", None, false, &SharedBudget::default(), &Gates::default())
            .unwrap()
            .profile(None)
            .unwrap()
    }

    #[test]
    fn what_a_profile_says_of_long_conversations() {
        let keys = "[profiles.default.compaction]\nenabled = false\ntrigger = 0.7\ntarget = 0.3\n\
                    [profiles.default.models]\ncompaction = \"my/cheap\"\n";
        let told = Compaction { enabled: false, trigger: 0.7, target: 0.3, model: Some("my/cheap".to_owned()) };
        assert_eq!(profile(keys).compaction, told);
        assert_eq!(profile("").compaction, Compaction::default());
        let below = "[profiles.all.compaction]\ntrigger = 0.5\n[profiles.default.compaction]\ntarget = 0.2\n";
        assert_eq!(profile(below).compaction, Compaction { trigger: 0.5, target: 0.2, ..Compaction::default() });
    }

    #[test]
    fn what_a_profile_says_of_repeating() {
        let of = |more: &str| profile(more).no_progress;
        assert_eq!(of(""), NoProgress { warn: 3, stop: 6 });
        let below = "[profiles.all]\nno_progress = { warn = 4, stop = 9 }\n[profiles.default.no_progress]\nstop = 12\n";
        assert_eq!(of(below), NoProgress { warn: 4, stop: 12 });
    }

    #[test]
    fn where_bedrock_is() {
        let settings = |more: &str| {
            let text = format!("[profiles.default.providers.aws]\ntype = \"amazon-bedrock\"\n{more}");
            let file = ConfigFile::read(&Document::parse("config.toml", &text).unwrap()).unwrap();
            ConfigProfiles::providers(&file, "default").map(|settings| (settings[0].kind, settings[0].endpoint.clone()))
        };
        let endpoint = "https://bedrock-runtime.eu-central-1.amazonaws.com".to_owned();
        let found = settings("region = \"eu-central-1\"\napi_key = \"k\"\n").unwrap();
        assert_eq!(found, (ProviderKind::Bedrock, endpoint));
        let keyless = settings("region = \"eu-central-1\"\n").unwrap_err();
        assert!(keyless.message.contains("AWS_BEARER_TOKEN_BEDROCK"), "{keyless}");
        assert!(settings("api_key = \"k\"\n").unwrap_err().message.contains("region is missing"));
    }

    #[test]
    fn models_that_stand_in_are_checked() {
        assert_eq!(profile("[profiles.default.models]\nfallback = [\"my/large\"]\n").fallback, ["my/large"]);
        assert_eq!(profile("[profiles.all.models]\nfallback = [\"small\"]\n").fallback, ["my/small"], "by its id");
        assert_eq!(profile("").fallback, Vec::<String>::new());
        for (model, why) in [("nobody", "unknown model `nobody`"), ("builtin/offline", "leave it out")] {
            let text = format!(
                "[profiles.default]\nmodel = \"my/small\"\nmodels = {{ fallback = [\"{model}\"] }}\n\
                 [profiles.default.providers.my]\ntype = \"custom\"\napi_endpoint = \"http://127.0.0.1:1/v1\"\n"
            );
            let file = ConfigFile::read(&Document::parse("config.toml", &text).unwrap()).unwrap();
            let error = ConfigProfiles::new(file, "default", None, false).err().unwrap().to_string();
            assert!(error.contains("profiles.default.models.fallback") && error.contains(why), "{error}");
        }
    }

    /// C-P20: what is not said is that of a model which nobody knows.
    #[test]
    fn limits_are_those_of_the_file() {
        let limit = |more: &str| profile(more).models.resolve("my/small").unwrap().info().limit;
        let ModelLimit { context, output } = ModelLimit::default();
        assert_eq!(limit(""), ModelLimit { context, output });
        let own = "[limits.\"my/small\"]\ncontext = 16384\noutput = 1024\n[limits.\"my/other\"]\ncontext = 5000\n";
        assert_eq!(limit(own), ModelLimit { context: 16_384, output: 1_024 });
        assert_eq!(limit("[limits.\"my/small\"]\ncontext = 16384\n"), ModelLimit { context: 16_384, output });
        assert_eq!(limit("[limits.\"my/small\"]\noutput = 1024\n"), ModelLimit { context, output: 1_024 });
    }

    #[test]
    fn shares_and_limits_that_cannot_be_are_findings() {
        for (text, key) in [
            ("[profiles.default.compaction]\ntrigger = 1.5\n", "trigger"),
            ("[profiles.default.compaction]\ntarget = 0.75\n", "target"),
            ("[profiles.default.no_progress]\nwarn = 1\n", "warn"),
            ("[profiles.default.no_progress]\nstop = 257\n", "stop"),
            ("[limits.\"my/small\"]\ncontext = 10\n", "context"),
            ("[limits.small]\ncontext = 16384\n", "small"),
        ] {
            let file = ConfigFile::read(&Document::parse("config.toml", text).unwrap()).unwrap();
            let found = format!("{:?}", file.findings());
            assert!(file.findings().len() == 1 && found.contains(key), "{text}: {found}");
        }
    }
}
