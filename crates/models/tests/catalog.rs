//! Model strings: which provider and id each one reaches.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use stakpak_agent_core::Models;
use stakpak_models::{ProviderKind, ProviderModels, ProviderSettings, SettingsError};
use stakpak_protocol::ModelCost;

fn provider(id: &str, models: &[&str]) -> ProviderSettings {
    let mut settings = ProviderSettings::new(id, ProviderKind::Chat, "http://127.0.0.1:9/v1");
    settings.models = models.iter().map(|&model| model.to_owned()).collect();
    settings
}

fn names(models: &ProviderModels) -> Vec<String> {
    models.list().iter().map(|model| model.full_id()).collect()
}

#[test]
fn without_providers_the_offline_model_is_all_there_is() {
    let models = ProviderModels::new(vec![], None).unwrap();
    assert_eq!(names(&models), ["builtin/offline"]);
    assert_eq!(models.default_model().as_deref(), Some("builtin/offline"));
    assert!(models.is_offline());
    assert_eq!(models.list()[0].cost.unwrap().input, 0.0);
}

#[test]
fn the_default_comes_first_and_the_offline_model_is_never_it_by_accident() {
    let both = || vec![provider("a", &["m", "n"]), provider("b", &["n"])];
    let models = ProviderModels::new(both(), None).unwrap();
    assert_eq!(names(&models), ["a/m", "a/n", "b/n", "builtin/offline"]);
    assert!(!models.is_offline());

    let models = ProviderModels::new(both(), Some("b/n")).unwrap();
    assert_eq!(names(&models), ["b/n", "a/m", "a/n", "builtin/offline"]);

    let models = ProviderModels::new(both(), Some("a/free/id")).unwrap();
    assert_eq!(names(&models), ["a/free/id", "a/m", "a/n", "b/n", "builtin/offline"]);

    let models = ProviderModels::new(both(), Some("builtin/offline")).unwrap();
    assert!(models.is_offline());

    assert_eq!(ProviderModels::new(vec![provider("a", &[])], None).unwrap_err(), SettingsError::NoDefaultModel);
    let unknown = ProviderModels::new(both(), Some("c/n")).unwrap_err();
    assert!(matches!(unknown, SettingsError::DefaultModel(_)), "{unknown:?}");
}

#[test]
fn model_strings() {
    let providers = vec![
        provider("a", &["x", "shared", "b/shared"]),
        provider("b", &["shared", "openai/gpt"]),
        provider("openrouter", &[]),
    ];
    let models = ProviderModels::new(providers, Some("b/shared")).unwrap();
    let table = [
        ("a/x", "a", "x"),
        ("x", "a", "x"),
        ("shared", "b", "shared"),
        ("a/shared", "a", "shared"),
        ("b/shared", "b", "shared"),
        ("a/b/shared", "a", "b/shared"),
        ("openai/gpt", "b", "openai/gpt"),
        ("openrouter/anthropic/claude-x", "openrouter", "anthropic/claude-x"),
        ("a/x-max", "a", "x-max"),
        (" a/x ", "a", "x"),
        ("offline", "builtin", "offline"),
    ];
    for (string, provider, id) in table {
        let model = models.resolve(string).unwrap_or_else(|error| panic!("{string}: {error}"));
        assert_eq!((model.info().provider.as_str(), model.info().id.as_str()), (provider, id), "{string}");
    }
    let free = models.resolve("openrouter/any").unwrap();
    assert_eq!((free.info().limit.context, free.info().limit.output), (128_000, 8_192));
}

/// A list price belongs to the provider's address, whatever the table is called; what the configuration says wins.
#[test]
fn prices() {
    let own = ModelCost { input: 1.0, output: 2.0, cache_read: None, cache_write: None };
    let mut openai = provider("mine", &["gpt-5", "gpt-4.1", "o3", "gpt-oss"]);
    openai.endpoint = "https://api.openai.com/v1/".to_owned();
    openai.prices = [("gpt-4.1".to_owned(), Some(own)), ("o3".to_owned(), None)].into();
    let mut proxy = provider("openai", &["gpt-5", "free"]);
    proxy.prices = [("free".to_owned(), Some(own))].into();
    let models = ProviderModels::new(vec![openai, proxy], None).unwrap();
    let input = |id: &str| models.resolve(id).unwrap().info().cost.map(|cost| cost.input);
    for (id, expected) in [
        ("mine/gpt-5", Some(1.25)),
        ("mine/gpt-5-2025-08-07", Some(1.25)),
        ("mine/gpt-4.1", Some(1.0)),
        ("mine/o3", None),
        ("mine/gpt-oss", None),
        ("openai/gpt-5", None),
        ("openai/free", Some(1.0)),
        ("builtin/offline", Some(0.0)),
    ] {
        assert_eq!(input(id), expected, "{id}");
    }
}

#[test]
fn unknown_models_name_near_ones() {
    let models = ProviderModels::new(vec![provider("acme", &["qwen3-large", "llama"])], None).unwrap();
    let message = |id: &str| models.resolve(id).err().unwrap().message;
    assert_eq!(message("qwen3-larg"), "unknown model `qwen3-larg`: did you mean `acme/qwen3-large`?");
    assert!(message("acmee/llama").contains("`acme/llama`"), "{}", message("acmee/llama"));
    for id in ["", "/", "acme/", "zzzz"] {
        assert!(message(id).starts_with(&format!("unknown model `{id}`")), "{id}");
    }
}

#[test]
fn settings_that_cannot_work_say_so_without_the_key() {
    for id in ["", "a/b", "builtin"] {
        let error = ProviderModels::new(vec![provider(id, &["m"])], None).unwrap_err();
        assert_eq!(error, SettingsError::ProviderId { id: id.to_owned() });
    }
    for endpoint in ["", "127.0.0.1:80", "ftp://x/", "unix:/x"] {
        let error = ProviderModels::new(vec![ProviderSettings::new("a", ProviderKind::Chat, endpoint)], None);
        assert_eq!(error.unwrap_err(), SettingsError::Endpoint { id: "a".to_owned() }, "{endpoint}");
    }
    let mut settings = provider("a", &["m"]);
    settings.api_key = Some("sk-secret\nx".to_owned());
    assert!(!format!("{settings:?}").contains("secret"));
    let error = ProviderModels::new(vec![settings], None).unwrap_err();
    assert_eq!(error.to_string(), "provider `a`: `authorization` with its value is not a valid HTTP header");
}
