//! One profile: `[profiles.NAME]`.
//!
//! Invariants: a profile that could not be read entirely is not there, except that a broken provider breaks
//! only itself; whether it is broken stays visible in the profile.

use std::collections::BTreeMap;

use serde::{Deserialize, de::IgnoredAny};

use crate::{
    budget::Budget,
    compaction::CompactionConfig,
    document::{Codes, Document},
    finding::{Finding, Severity},
    no_progress::NoProgressConfig,
    provider::{ProviderConfig, ProviderKind},
    reasoning::Reasoning,
    sandbox::{SandboxConfig, SandboxLevel, Warden},
    secret::Secret,
};

const CODES: Codes = Codes::all("E002");
const MAX_SYSTEM_PROMPT_CHARS: usize = 32_768;
const MAX_TURNS: std::ops::RangeInclusive<u32> = 1..=256;

/// What a run may use and do. An absent field leaves the decision to the next level.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// `provider/id` or an id. The first of `model`, `smart_model`, `eco_model`, `recovery_model`.
    pub model: Option<String>,
    /// Tools that need no approval, in place of the safe set; an empty list grants nothing.
    pub allowed_tools: Option<Vec<String>>,
    /// Tools that need no approval besides those.
    pub auto_approve: Option<Vec<String>>,
    /// At most 32,768 characters.
    pub system_prompt: Option<String>,
    /// 1 to 256.
    pub max_turns: Option<u32>,
    /// How often its runs may repeat themselves.
    pub no_progress: NoProgressConfig,
    /// How much its models think before they answer; without it as their providers have it.
    pub reasoning: Option<Reasoning>,
    /// What confines its tools.
    pub sandbox: Option<SandboxConfig>,
    /// What its runs may take.
    pub budget: Budget,
    /// How long conversations are made to fit.
    pub compaction: CompactionConfig,
    /// The model that sums up what no longer fits: `models.compaction`.
    pub compaction_model: Option<String>,
    /// Models that stand in for one that fails, in this order: `models.fallback`.
    pub fallback_models: Option<Vec<String>>,
    /// By the key in the file.
    pub providers: BTreeMap<String, ProviderConfig>,
    /// Providers that are configured and cannot be used. They must not be taken for absent.
    pub invalid_providers: BTreeMap<String, Finding>,
}

/// The keys of a profile. Those that mean nothing here are listed so that they are not unknown.
#[derive(Default, Deserialize)]
#[serde(default)]
struct ProfileTable {
    model: Option<String>,
    smart_model: Option<String>,
    eco_model: Option<String>,
    recovery_model: Option<String>,
    allowed_tools: Option<Vec<String>>,
    auto_approve: Option<Vec<String>>,
    system_prompt: Option<String>,
    max_turns: Option<u32>,
    no_progress: NoProgressConfig,
    reasoning: Option<Reasoning>,
    providers: IgnoredAny,
    api_endpoint: IgnoredAny,
    api_key: IgnoredAny,
    provider: IgnoredAny,
    sandbox: Option<SandboxConfig>,
    warden: Warden,
    budget: Budget,
    on_unknown: IgnoredAny,
    models: ModelsTable,
    compaction: CompactionConfig,
    secrets: IgnoredAny,
    subagent: IgnoredAny,
    recent_models: IgnoredAny,
    rulebooks: IgnoredAny,
    openai: IgnoredAny,
    gemini: IgnoredAny,
    anthropic: IgnoredAny,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ModelsTable {
    compaction: Option<String>,
    fallback: Option<Vec<String>>,
}

impl Profile {
    /// Reads `[profiles.NAME]`; warnings and the errors of providers go to `findings`.
    pub(crate) fn read(document: &Document, name: &str, findings: &mut Vec<Finding>) -> Result<Self, Finding> {
        let table: ProfileTable = document.table(&["profiles", name], CODES, findings)?;
        check(document, name, &table)?;
        let mut profile = Self {
            model: table.model.or(table.smart_model).or(table.eco_model).or(table.recovery_model),
            allowed_tools: table.allowed_tools,
            auto_approve: table.auto_approve,
            system_prompt: table.system_prompt,
            max_turns: table.max_turns,
            no_progress: table.no_progress,
            reasoning: table.reasoning,
            sandbox: table.sandbox.or_else(|| table.warden.sandbox()),
            budget: table.budget,
            compaction: table.compaction,
            compaction_model: table.models.compaction,
            fallback_models: table.models.fallback,
            ..Self::default()
        };
        let path = ["profiles", name, "providers"];
        for (key, provider) in document.entries(&path, CODES, findings)? {
            match provider.and_then(|provider| complete(document, name, &key, provider, findings)) {
                Ok(provider) => {
                    profile.providers.insert(key, provider);
                }
                Err(finding) => {
                    findings.push(finding.clone());
                    profile.invalid_providers.insert(key, finding);
                }
            }
        }
        Ok(profile)
    }

    /// With these keys for the providers that have none; one that needs only a key is there by it.
    pub(crate) fn with_keys(mut self, keys: BTreeMap<&str, &Secret>) -> Self {
        for (name, key) in keys {
            if self.invalid_providers.contains_key(name) {
                continue;
            }
            if let Some(provider) = self.providers.get_mut(name) {
                provider.api_key.get_or_insert_with(|| key.clone());
            } else if let Some(kind) = ProviderKind::named(name).filter(|kind| kind.needs_only_a_key()) {
                let mut provider = ProviderConfig::new(kind);
                provider.api_key = Some(key.clone());
                self.providers.insert(name.to_owned(), provider);
            }
        }
        self
    }

    /// The same without what it grants, and confined: the safe set is what a profile without grants has.
    pub(crate) fn granting_the_safe_set(self) -> Self {
        let sandbox = self.sandbox.filter(|sandbox| sandbox.level != SandboxLevel::Off);
        let sandbox = sandbox.unwrap_or_else(|| SandboxConfig::new(SandboxLevel::Strongest));
        Self { allowed_tools: None, auto_approve: None, sandbox: Some(sandbox), ..self }
    }

    /// This profile where it says something, `below` where it does not. Lists replace each other, providers
    /// are taken one by one.
    pub(crate) fn over(self, below: &Self) -> Self {
        let below = below.clone();
        let mut providers = below.providers;
        let mut invalid_providers = below.invalid_providers;
        providers.retain(|key, _| !self.invalid_providers.contains_key(key));
        invalid_providers.retain(|key, _| !self.providers.contains_key(key));
        providers.extend(self.providers);
        invalid_providers.extend(self.invalid_providers);
        Self {
            model: self.model.or(below.model),
            allowed_tools: self.allowed_tools.or(below.allowed_tools),
            auto_approve: self.auto_approve.or(below.auto_approve),
            system_prompt: self.system_prompt.or(below.system_prompt),
            max_turns: self.max_turns.or(below.max_turns),
            no_progress: self.no_progress.over(below.no_progress),
            reasoning: self.reasoning.or(below.reasoning),
            sandbox: self.sandbox.or(below.sandbox),
            budget: self.budget.over(below.budget),
            compaction: self.compaction.over(below.compaction),
            compaction_model: self.compaction_model.or(below.compaction_model),
            fallback_models: self.fallback_models.or(below.fallback_models),
            providers,
            invalid_providers,
        }
    }
}

fn check(document: &Document, name: &str, table: &ProfileTable) -> Result<(), Finding> {
    let bad = |key, message: &str| Err(document.finding(&["profiles", name, key], "E002", Severity::Error, message));
    if table.max_turns.is_some_and(|turns| !MAX_TURNS.contains(&turns)) {
        return bad("max_turns", "expected a number from 1 to 256");
    }
    if let Some((key, message)) = table.compaction.wrong() {
        let path = ["profiles", name, "compaction", key];
        return Err(document.finding(&path, "E002", Severity::Error, message));
    }
    if let Some((key, message)) = table.no_progress.wrong() {
        let path = ["profiles", name, "no_progress", key];
        return Err(document.finding(&path, "E002", Severity::Error, message));
    }
    let prompt = table.system_prompt.as_deref().unwrap_or_default();
    if prompt.chars().count() > MAX_SYSTEM_PROMPT_CHARS {
        return bad("system_prompt", "longer than 32768 characters");
    }
    if let Some(key) = table.budget.unusable() {
        let path = ["profiles", name, "budget", key];
        return Err(document.finding(&path, "E002", Severity::Error, "must be more than 0"));
    }
    Ok(())
}

fn complete(
    document: &Document,
    profile: &str,
    key: &str,
    mut provider: ProviderConfig,
    findings: &mut Vec<Finding>,
) -> Result<ProviderConfig, Finding> {
    if let Some(auth) = provider.auth.take() {
        let key = auth.usable(document, &["profiles", profile, "providers", key, "auth"], findings)?;
        provider.api_key = key.or(provider.api_key);
    }
    if provider.max_concurrent == Some(0) {
        let path = ["profiles", profile, "providers", key, "max_concurrent"];
        return Err(document.finding(&path, "E002", Severity::Error, "must be 1 or more"));
    }
    if provider.kind != ProviderKind::Custom || provider.api_endpoint.is_some() {
        return Ok(provider);
    }
    let path = ["profiles", profile, "providers", key, "api_endpoint"];
    Err(document.finding(&path, "E002", Severity::Error, "required for type \"custom\""))
}
