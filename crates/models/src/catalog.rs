//! The models of one profile: what its providers list, any further id they take, and the offline model.

use std::sync::Arc;

use stakpak_agent_core::{Model, Models, UnknownModel};
use stakpak_protocol::ModelInfo;

use crate::{Gates, OfflineModel, ProviderSettings, SettingsError, provider::Provider, remote::RemoteModel};

/// The models behind a list of providers; without providers, the offline model alone.
///
/// A `ProviderModels` is read-only and cheap to share; clients are made by the first request.
pub struct ProviderModels {
    providers: Vec<Arc<Provider>>,
    /// Default first, the offline model last unless it is the default. Never empty.
    models: Vec<Arc<dyn Model>>,
}

impl ProviderModels {
    /// The catalogue; `default_model` is a model string as in [`Models::resolve`].
    ///
    /// # Errors
    /// Settings that cannot work, among them providers without any model.
    pub fn new(providers: Vec<ProviderSettings>, default_model: Option<&str>) -> Result<Self, SettingsError> {
        Self::behind(&Gates::default(), providers, default_model)
    }

    /// The same, sharing what holds of a key with others.
    ///
    /// # Errors
    /// As [`ProviderModels::new`].
    pub fn behind(
        gates: &Gates,
        providers: Vec<ProviderSettings>,
        default_model: Option<&str>,
    ) -> Result<Self, SettingsError> {
        let mut catalog = Self { providers: Vec::new(), models: Vec::new() };
        for mut settings in providers {
            let ids = std::mem::take(&mut settings.models);
            let provider = Arc::new(Provider::new(settings, gates)?);
            catalog.models.extend(ids.iter().map(|id| model(&provider, id)));
            catalog.providers.push(provider);
        }
        if default_model.is_none() && catalog.models.is_empty() && !catalog.providers.is_empty() {
            return Err(SettingsError::NoDefaultModel);
        }
        catalog.models.push(Arc::new(OfflineModel::new()));
        if let Some(wanted) = default_model {
            let default = catalog.resolve(wanted).map_err(SettingsError::DefaultModel)?;
            catalog.models.retain(|model| model.info() != default.info());
            catalog.models.insert(0, default);
        }
        Ok(catalog)
    }

    /// Whether the offline model answers unless told otherwise.
    #[must_use]
    pub fn is_offline(&self) -> bool {
        self.models.first().is_some_and(|model| model.info().provider == crate::OFFLINE_PROVIDER)
    }

    fn find(&self, id: &str) -> Option<Arc<dyn Model>> {
        let exact = self.models.iter().find(|model| model.info().full_id() == id);
        exact.or_else(|| self.by_bare_id(id)).cloned()
    }

    /// The default's provider comes first, the others in order.
    fn by_bare_id(&self, id: &str) -> Option<&Arc<dyn Model>> {
        let default = self.models.first().map(|model| model.info().provider.as_str());
        let mut found: Vec<_> = self.models.iter().filter(|model| model.info().id == id).collect();
        found.sort_by_key(|model| Some(model.info().provider.as_str()) != default);
        found.first().copied()
    }

    /// Ids outside the catalogue work at any provider: nobody lists all models of a gateway.
    fn free(&self, id: &str) -> Option<Arc<dyn Model>> {
        let (provider, id) = id.split_once('/').filter(|(_, id)| !id.is_empty())?;
        self.providers.iter().find(|known| known.id == provider).map(|provider| model(provider, id))
    }

    fn unknown(&self, id: &str) -> UnknownModel {
        const NEAR: f64 = 0.7;
        const SHOWN: usize = 3;
        let mut near: Vec<(f64, String)> = self
            .models
            .iter()
            .map(|model| {
                let full = model.info().full_id();
                let score = strsim::jaro_winkler(id, &full).max(strsim::jaro_winkler(id, &model.info().id));
                (score, full)
            })
            .filter(|(score, _)| *score >= NEAR)
            .collect();
        near.sort_by(|a, b| b.0.total_cmp(&a.0));
        let names: Vec<String> = near.into_iter().take(SHOWN).map(|(_, name)| format!("`{name}`")).collect();
        let hint = match names.as_slice() {
            [] => "GET /v1/models lists the known ones".to_owned(),
            names => format!("did you mean {}?", names.join(" or ")),
        };
        UnknownModel { message: format!("unknown model `{id}`: {hint}") }
    }
}

impl std::fmt::Debug for ProviderModels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ids: Vec<String> = self.models.iter().map(|model| model.info().full_id()).collect();
        f.debug_struct("ProviderModels").field("providers", &self.providers).field("models", &ids).finish()
    }
}

impl Models for ProviderModels {
    fn list(&self) -> Vec<ModelInfo> {
        self.models.iter().map(|model| model.info().clone()).collect()
    }

    fn default_model(&self) -> Option<String> {
        self.models.first().map(|model| model.info().full_id())
    }

    fn resolve(&self, id: &str) -> Result<Arc<dyn Model>, UnknownModel> {
        let id = id.trim();
        self.find(id).or_else(|| self.free(id)).ok_or_else(|| self.unknown(id))
    }
}

fn model(provider: &Arc<Provider>, id: &str) -> Arc<dyn Model> {
    let info = ModelInfo {
        id: id.to_owned(),
        name: id.to_owned(),
        provider: provider.id.clone(),
        reasoning: false,
        cost: provider.price(id),
        limit: provider.limit(id),
        release_date: None,
    };
    Arc::new(RemoteModel::new(Arc::clone(provider), info))
}
