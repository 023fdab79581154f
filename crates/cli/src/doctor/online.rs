//! What needs the network: whether providers take their keys and platforms their tokens, and whether the clock is right.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use stakpak_models::{ProviderKind, ProviderSettings};

use super::{Probe, files::Files};
use crate::{args::Global, channel::identity, init::models, profiles::ConfigProfiles};

/// How long one of the others may take.
const PATIENCE: Duration = Duration::from_secs(10);
const OFFLINE: &str = "asked with --online only";
/// Tokens and signatures of providers are refused beyond that.
const MOST_OFFSET: TimeDelta = TimeDelta::seconds(30);

/// Whether a model is configured.
pub(super) fn credentials(files: &Files, global: &Global) -> Probe {
    let id = "credentials";
    let Ok(config) = &files.config else { return Probe::skip(id, "config.toml is not read") };
    match ConfigProfiles::providers(config, &global.profile) {
        Err(error) => Probe::warning(id, "the provider cannot be used", vec![error.to_string()], "correct config.toml"),
        Ok(providers) if providers.is_empty() => Probe::info(
            id,
            format!("profile {} has no provider: the built-in offline model answers", global.profile),
            "`stakpak autopilot init` adds one",
        ),
        Ok(providers) => {
            let names: Vec<_> = providers.iter().map(|provider| provider.id.as_str()).collect();
            Probe::pass(id, format!("profile {} uses {}", global.profile, names.join(", ")))
        }
    }
}

pub(super) async fn look(files: &Files, global: &Global, is_wanted: bool) -> Vec<Probe> {
    if !is_wanted {
        return ["model_reachable", "channel_tokens", "clock"].map(|id| Probe::skip(id, OFFLINE)).into();
    }
    let config = files.config.as_ref().ok();
    let providers = config.and_then(|config| ConfigProfiles::providers(config, &global.profile).ok());
    let providers = providers.unwrap_or_default();
    let (models, tokens, clock) = tokio::join!(model(&providers), tokens(files), clock(files, &providers));
    vec![models, tokens, clock]
}

async fn model(providers: &[ProviderSettings]) -> Probe {
    let id = "model_reachable";
    if providers.is_empty() {
        return Probe::skip(id, "no provider is configured");
    }
    // Bedrock lists models elsewhere, and not to every key.
    let providers: Vec<_> = providers.iter().filter(|provider| provider.kind != ProviderKind::Bedrock).collect();
    if providers.is_empty() {
        return Probe::skip(id, "nothing is asked of Bedrock but answers");
    }
    let asked = providers.into_iter().map(|provider| async move {
        let ProviderSettings { id, kind, endpoint, api_key, .. } = provider;
        match tokio::time::timeout(PATIENCE, models(endpoint, id, *kind, api_key.as_deref())).await {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(format!("{error:#}")),
            Err(_) => Some(format!("{id}: no answer in {} s", PATIENCE.as_secs())),
        }
    });
    let bad = futures_util::future::join_all(asked).await.into_iter().flatten().collect();
    let advice = "look at the key and the network";
    Probe::of_details(id, "every provider takes its key", "providers that do not answer as they should", bad, advice)
}

async fn tokens(files: &Files) -> Probe {
    let id = "channel_tokens";
    let Ok(gateway) = &files.gateway else { return Probe::skip(id, "autopilot.toml is not read") };
    let enabled = gateway.channels.settings().filter(|(_, settings)| settings.enabled);
    let asked: Vec<_> = enabled
        .map(|(name, _)| async move {
            match tokio::time::timeout(PATIENCE, identity(gateway, name)).await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(format!("{name}: {error}")),
                Err(_) => Some(format!("{name}: no answer in {} s", PATIENCE.as_secs())),
            }
        })
        .collect();
    if asked.is_empty() {
        return Probe::skip(id, "no channel is configured");
    }
    let bad = futures_util::future::join_all(asked).await.into_iter().flatten().collect();
    let advice = "`stakpak channel test` tells more";
    Probe::of_details(id, "every platform takes its token", "platforms that do not take their token", bad, advice)
}

/// Any server's word for the time is good enough.
async fn clock(files: &Files, providers: &[ProviderSettings]) -> Probe {
    let id = "clock";
    let channels = files.gateway.iter().flat_map(|gateway| gateway.channels.settings());
    let urls = providers.iter().map(|provider| provider.endpoint.clone());
    let urls = urls.chain(channels.map(|(_, settings)| settings.api_base_url.clone()));
    for url in urls {
        let Ok(client) = reqwest::Client::builder().timeout(PATIENCE).build() else { break };
        let Ok(answer) = client.head(url).send().await else { continue };
        let date = answer.headers().get("date").and_then(|date| DateTime::parse_from_rfc2822(date.to_str().ok()?).ok());
        if let Some(date) = date {
            return offset(Utc::now() - date.to_utc());
        }
    }
    Probe::skip(id, "nobody was there to tell the time")
}

fn offset(offset: TimeDelta) -> Probe {
    let id = "clock";
    match offset.abs() > MOST_OFFSET {
        false => Probe::pass(id, "the clock is right"),
        true => {
            let way = if offset > TimeDelta::zero() { "ahead" } else { "behind" };
            let summary = format!("the clock is {} s {way}", offset.num_seconds().abs());
            Probe::warning(
                id,
                summary,
                Vec::new(),
                "have it set by the network, such as with `timedatectl set-ntp true`",
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Status, *};

    #[test]
    fn a_clock_that_is_half_a_minute_off_is_told() {
        assert_eq!(offset(TimeDelta::seconds(-29)).status, Status::Pass);
        let behind = offset(TimeDelta::seconds(-90));
        assert_eq!((behind.status, behind.summary.as_str()), (Status::Fail, "the clock is 90 s behind"));
        assert!(offset(TimeDelta::seconds(31)).summary.ends_with("31 s ahead"));
    }
}
