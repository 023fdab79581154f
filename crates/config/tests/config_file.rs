//! `config.toml`: profiles, the merge of `all`, what one error breaks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::{error::Error as _, fs};

use stakpak_config::{
    ConfigFile, Credentials, Document, Environment, Finding, ProfileError, ProviderApi, ProviderKind, SandboxConfig,
    SandboxLevel,
};

fn read(source: &str) -> ConfigFile {
    let set = |name: &str| (name == "KEY").then(|| "sk-value".to_owned());
    let document = Document::parse("config.toml", source).unwrap();
    ConfigFile::read(&document.with_environment(Environment::new(set))).unwrap()
}

fn shown(config: &ConfigFile) -> Vec<String> {
    config.findings().iter().map(Finding::to_string).collect()
}

#[test]
fn an_absent_file_has_an_empty_default_profile_and_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let config = ConfigFile::load(&directory.path().join("config.toml")).unwrap();
    let profile = config.profile("default").unwrap();
    assert!(profile.model.is_none() && profile.providers.is_empty());
    assert!(matches!(config.profile("ops"), Err(ProfileError::Unknown { .. })));
}

#[test]
fn all_lies_below_every_profile_field_by_field() {
    let config = read(
        r#"
[profiles.all]
model = "anthropic/base"
auto_approve = ["view"]
allowed_tools = ["view", "search_docs"]
max_turns = 10
[profiles.all.providers.anthropic]
type = "anthropic"
api_key = "from-all"
[profiles.all.providers.openai]
type = "openai"
api_key = "from-all"

[profiles.ops]
smart_model = "smart"
eco_model = "eco"
allowed_tools = []
[profiles.ops.providers.openai]
type = "openai"
api_key = "env:KEY"
[profiles.ops.providers.local]
type = "custom"
api_endpoint = "http://127.0.0.1:1/v1"
models = ["tiny"]
headers = { "X-Key" = "${KEY}" }
requires_done = false
max_concurrent = 2
"#,
    );
    assert_eq!(shown(&config), Vec::<String>::new());
    let ops = config.profile("ops").unwrap();
    assert_eq!(ops.model.as_deref(), Some("smart"));
    assert_eq!(ops.allowed_tools, Some(vec![]));
    assert_eq!(ops.auto_approve, Some(vec!["view".to_owned()]));
    assert_eq!(ops.max_turns, Some(10));
    let key = |name: &str| ops.providers[name].api_key.as_ref().unwrap().expose();
    assert_eq!((key("anthropic"), key("openai")), ("from-all", "sk-value"));
    let local = &ops.providers["local"];
    assert_eq!(local.kind, ProviderKind::Custom);
    assert_eq!(local.models, ["tiny"]);
    assert_eq!(local.headers["X-Key"].expose(), "sk-value");
    assert_eq!((local.requires_done, local.max_concurrent), (Some(false), Some(2)));
    let debug = format!("{config:?}{ops:?}");
    assert!(!debug.contains("sk-value") && !debug.contains("from-all"), "{debug}");

    let default = config.profile("default").unwrap();
    assert_eq!(default.model.as_deref(), Some("anthropic/base"));
    assert_eq!(default.providers.len(), 2);
    assert!(matches!(config.profile("all"), Err(ProfileError::Reserved)));
    assert_eq!(config.names().collect::<Vec<_>>(), ["default", "readonly", "ops"]);
}

#[test]
fn an_unknown_profile_names_the_nearest() {
    let config = read("[profiles.monitoring]\n[profiles.all]\n");
    let error = config.profile("monitorng").unwrap_err();
    assert_eq!(error.to_string(), "no profile is named \"monitorng\", did you mean \"monitoring\"?");
    assert_eq!(config.profile("xyz").unwrap_err().to_string(), "no profile is named \"xyz\"");
}

#[test]
fn a_broken_profile_breaks_only_itself() {
    let config = read("[profiles.bad]\nmax_turns = 300\n[profiles.worse]\nmodel = 3\n[profiles.good]\nmodel = \"m\"\n");
    assert_eq!(
        shown(&config),
        [
            "config.toml:2:13: error[E002] profiles.bad.max_turns: expected a number from 1 to 256",
            "config.toml:4:9: error[E002] profiles.worse.model: \
             expected a string, found integer `3`",
        ]
    );
    let error = config.profile("bad").unwrap_err();
    assert_eq!(error.to_string(), "profile \"bad\" is invalid");
    assert!(error.source().unwrap().to_string().starts_with("config.toml:2:13"));
    assert_eq!(config.profile("good").unwrap().model.as_deref(), Some("m"));

    let config = read("[profiles.all]\nmax_turns = 0\n[profiles.good]\n");
    assert!(matches!(config.profile("good"), Err(ProfileError::Invalid { .. })));
}

#[test]
fn a_broken_provider_stays_visible_and_breaks_only_itself() {
    let config = read(
        r#"
[profiles.all.providers.openai]
type = "openai"
api_key = "good"
[profiles.default.providers.openai]
type = "openai"
api_key = "${NOPE}"
[profiles.default.providers.local]
type = "custom"
[profiles.default.providers.google]
type = "google"
api = "responses"
[profiles.default.providers.odd]
type = "odd"
"#,
    );
    let profile = config.profile("default").unwrap();
    assert_eq!(profile.providers.keys().collect::<Vec<_>>(), ["google"]);
    assert_eq!(profile.providers["google"].kind, ProviderKind::Gemini);
    assert_eq!(profile.providers["google"].api, Some(ProviderApi::Responses));
    assert_eq!(profile.invalid_providers.keys().collect::<Vec<_>>(), ["local", "odd", "openai"]);
    let findings = shown(&config);
    assert_eq!(
        findings[..2],
        [
            "config.toml:7:11: error[E002] profiles.default.providers.openai.api_key: \
             variable NOPE is not set",
            "config.toml:8:1: error[E002] profiles.default.providers.local.api_endpoint: \
             required for type \"custom\"",
        ]
    );
    assert!(findings[2].starts_with("config.toml:14:8: error[E002] profiles.default.providers.odd.type"));
    assert_eq!(findings.len(), 3);
    assert_eq!(read("[profiles.default]\n").findings(), []);
}

#[test]
fn every_key_of_the_contract_is_known_and_a_wrong_one_is_not() {
    let config = read(
        r#"
[settings]
machine_name = "m"
[cost."a/b"]
input = 1
output = 2.5
cache_read = 0.1
cache_write = 1.25
[profiles.default]
api_endpoint = "x"
api_key = "x"
provider = "local"
model = "a"
recovery_model = "r"
system_prompt = "s"
recent_models = []
sandbox = "landlock"
budget = { usd_per_day = 1 }
on_unknown = "ask"
models = { fallback = [] }
secrets = { rules = [] }
subagent = { model = "x" }
warden = { enabled = true }
rulebooks = { include = [] }
openai = { api_key = "x" }
gemini = {}
anthropic = {}
allowed_tool = []
[profiles.default.providers.b]
type = "bedrock"
region = "eu"
profile_name = "p"
auth = { type = "api", key = "k" }
"#,
    );
    assert_eq!(
        shown(&config),
        ["config.toml:28:1: warning[W301] profiles.default.allowed_tool: \
             unknown key, did you mean `allowed_tools`?"]
    );
}

#[test]
fn a_sandbox_is_a_level_or_a_table_with_one() {
    let sandbox = |line: &str| {
        let config = read(&format!("[profiles.default]\n{line}\n"));
        assert_eq!(config.findings(), [], "{line}");
        config.profile("default").unwrap().sandbox
    };
    let landlock = SandboxConfig::new(SandboxLevel::Landlock);
    assert_eq!(sandbox(""), None);
    assert_eq!(sandbox("sandbox = \"landlock\""), Some(landlock.clone()));
    assert_eq!(sandbox("sandbox = \"workspace\""), Some(landlock.clone()));
    assert_eq!(sandbox("warden = { enabled = true, volumes = [] }"), Some(SandboxConfig::new(SandboxLevel::Container)));
    assert_eq!(sandbox("warden = { enabled = false }"), None);
    let table = "sandbox = { level = \"landlock\", read = [\"/srv\"], write = [\"/var/x\"], network = true, \
                 unix_sockets = true, secrets = [\"aws\"] }";
    let granted = SandboxConfig {
        read: vec!["/srv".into()],
        write: vec!["/var/x".into()],
        network: true,
        unix_sockets: true,
        secrets: vec!["aws".into()],
        ..landlock
    };
    assert_eq!(sandbox(table), Some(granted));
    let table = "sandbox = { level = \"container\", image = \"debian:12\", memory = \"512m\", cpus = 2 }";
    let bounded = SandboxConfig {
        image: Some("debian:12".to_owned()),
        memory: Some("512m".to_owned()),
        cpus: Some(2.try_into().unwrap()),
        ..SandboxConfig::new(SandboxLevel::Container)
    };
    assert_eq!(sandbox(table), Some(bounded));
    for (line, wrong) in [
        ("sandbox = \"docker\"", "profiles.default.sandbox: "),
        ("sandbox = true", "profiles.default.sandbox: "),
        ("sandbox = { network = true }", "level"),
        ("sandbox = { level = \"landlock\", netwrk = true }", "unknown field `netwrk`"),
        ("sandbox = { level = \"landlok\" }", "profiles.default.sandbox.level: "),
        ("sandbox = { level = \"landlock\", write = [\"var\"] }", "an absolute path"),
        ("sandbox = { level = \"container\", image = \"--privileged\" }", "is not the name of an image"),
        ("sandbox = { level = \"container\", memory = \"much\" }", "is not a size"),
        ("sandbox = { level = \"container\", cpus = 0 }", "profiles.default.sandbox.cpus: "),
    ] {
        let config = read(&format!("[profiles.default]\n{line}\n"));
        assert!(shown(&config)[0].contains("error[E002]"), "{:?}", shown(&config));
        assert!(shown(&config)[0].contains(wrong), "{:?}", shown(&config));
        assert!(config.profile("default").is_err(), "never less than what was meant");
    }
}

/// `readonly` is confined by what there is, unless `default` says by what.
#[test]
fn the_read_only_profile_is_confined() {
    let level = |text: &str| read(text).profile("readonly").unwrap().sandbox.unwrap().level;
    assert_eq!(level(""), SandboxLevel::Strongest);
    assert_eq!(level("[profiles.default]\nsandbox = \"off\"\n"), SandboxLevel::Strongest);
    assert_eq!(level("[profiles.default]\nsandbox = \"landlock\"\n"), SandboxLevel::Landlock);
}

#[test]
fn a_file_that_is_not_a_configuration_is_an_error_with_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.toml");
    for (source, expected) in [
        ("profiles = 1\n", "config.toml:1:12: error[E001] profiles: expected a table, found an integer"),
        ("[profiles.default\n", "config.toml:1:18: error[E001] "),
    ] {
        fs::write(&path, source).unwrap();
        let error = ConfigFile::load(&path).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}

/// A profile that can be asked for without being written; a table of its name wins.
#[test]
fn readonly_is_default_without_its_grants() {
    let config = read("[profiles.default]\nmodel = \"a/b\"\nallowed_tools = [\"*\"]\nauto_approve = [\"x\"]\n");
    let readonly = config.profile("readonly").unwrap();
    assert_eq!(readonly.model.as_deref(), Some("a/b"));
    assert!(readonly.allowed_tools.is_none() && readonly.auto_approve.is_none());
    assert_eq!(config.names().collect::<Vec<_>>(), ["readonly", "default"]);

    let own = read("[profiles.readonly]\nallowed_tools = [\"view\"]\n").profile("readonly").unwrap();
    assert_eq!(own.allowed_tools, Some(vec!["view".to_owned()]));
}

#[test]
fn prices_are_of_models_and_a_wrong_one_is_not_taken_for_absent() {
    let config = read(
        r#"
[cost."a/b/c"]
input = 3
output = 15.0
cache_read = 0.3
[cost.lonely]
input = 1
output = 1
[cost."a/half"]
input = 1
[cost."a/below"]
input = 1
output = -1
[cost."a/odd"]
input = 1
output = 2
thinking = 3
"#,
    );
    let price = config.prices()["a/b/c"].unwrap();
    assert_eq!((price.input, price.output, price.cache_read, price.cache_write), (3.0, 15.0, Some(0.3), None));
    for wrong in ["lonely", "a/half", "a/below"] {
        assert_eq!(config.prices()[wrong], None, "{wrong}");
    }
    assert_eq!(config.prices()["a/odd"].unwrap().output, 2.0);
    let told: Vec<_> = config.findings().iter().map(|finding| (finding.line, finding.code)).collect();
    assert_eq!(told, [(6, "E002"), (9, "E002"), (13, "E002"), (17, "W301")]);
}

fn credentials(source: &str) -> Credentials {
    Credentials::read(&Document::parse("auth.toml", source).unwrap()).unwrap()
}

/// `auth` > `api_key` > `auth.toml` of the profile > of `all`; what is left is the environment's.
#[test]
fn a_key_is_taken_from_the_first_place_that_has_one() {
    let config = read(
        "[profiles.ops.providers.openai]\ntype = \"openai\"\napi_key = \"of-file\"\n\
         [profiles.ops.providers.gemini]\ntype = \"gemini\"\napi_key = \"of-file\"\nauth = { type = \"api\", key = \"of-auth\" }\n\
         [profiles.ops.providers.my]\ntype = \"custom\"\napi_endpoint = \"http://127.0.0.1:1/v1\"\n",
    );
    let config = config.with_credentials(credentials(
        "[ops]\nopenai = { type = \"api\", key = \"of-ops\" }\ngemini = { type = \"api\", key = \"of-ops\" }\n\
         [ops.my]\ntype = \"api\"\nkey = \"of-ops\"\n[all.my]\ntype = \"api\"\nkey = \"of-all\"\n\
         [all.anthropic]\ntype = \"api\"\nkey = \"of-all\"\n[all.stakpak]\ntype = \"api\"\nkey = \"of-all\"\n",
    ));
    let key = |profile: &str, provider: &str| {
        let profile = config.profile(profile).unwrap();
        profile.providers.get(provider).and_then(|it| it.api_key.clone()).map(|key| key.expose().to_owned())
    };
    for (provider, expected) in
        [("openai", "of-file"), ("gemini", "of-auth"), ("my", "of-ops"), ("anthropic", "of-all")]
    {
        assert_eq!(key("ops", provider).as_deref(), Some(expected), "{provider}");
    }
    assert_eq!(key("default", "anthropic").as_deref(), Some("of-all"));
    // What needs more than a key is not there by its key.
    assert_eq!((key("default", "my"), key("default", "stakpak")), (None, None));
}

/// A file of 0.3.x with a login in the browser is no reason to fail, and its tokens are not taken for a key.
#[test]
fn tokens_of_a_login_are_told_and_not_used() {
    let oauth = "type = \"oauth\"\naccess = \"a\"\nrefresh = \"r\"\nexpires = 1\nname = \"n\"\n";
    let auth = credentials(&format!("[all.anthropic]\n{oauth}[all.openai]\ntype = \"api\"\n"));
    let told: Vec<String> = auth.findings().iter().map(Finding::to_string).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("warning[W302] all.anthropic"), "{told:?}");
    assert!(told[1].contains("error[E002] all.openai") && told[1].contains("`key`"), "{told:?}");
    assert!(ConfigFile::default().with_credentials(auth).profile("default").unwrap().providers.is_empty());

    let config = read(&format!(
        "[profiles.default.providers.anthropic]\ntype = \"anthropic\"\n[profiles.default.providers.anthropic.auth]\n{oauth}"
    ));
    assert!(config.profile("default").unwrap().providers["anthropic"].api_key.is_none());
    assert!(shown(&config)[0].contains("W302"), "{:?}", shown(&config));
}

/// A limit of `all` holds where the profile does not set its own; one that lets nothing run breaks its profile only.
#[test]
fn a_budget_is_merged_limit_by_limit() {
    let config = read(
        "[profiles.all]\nbudget = { usd_per_run = 1, runs_per_day = 9 }\n[profiles.ops]\nbudget = { usd_per_run = 0.5 }\n\
         [profiles.bad]\nbudget = { tokens_per_day = 0 }\n",
    );
    let budget = config.profile("ops").unwrap().budget;
    assert_eq!((budget.usd_per_run, budget.runs_per_day, budget.usd_per_day), (Some(0.5), Some(9), None));
    assert!(config.profile("bad").is_err());
    let shown = shown(&config).join("\n");
    assert!(shown.contains("error[E002] profiles.bad.budget.tokens_per_day"), "{shown}");
    assert!(!shown.contains("W302"), "{shown}");
}
