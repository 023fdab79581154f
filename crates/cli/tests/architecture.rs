//! The crate drawing of ARCHITECTURE.md, held against what cargo sees.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::BTreeSet;

use cargo_metadata::{DependencyKind, MetadataCommand, Package};

/// What each crate may use of the others. `cli` may use all of them, `test-support` is for tests only, `bench` measures.
const DRAWN: [(&str, &[&str]); 17] = [
    ("protocol", &[]),
    ("sqlite", &[]),
    ("config", &[]),
    ("redact", &[]),
    ("shell", &[]),
    ("agent-core", &["protocol", "shell"]),
    ("store", &["agent-core", "protocol", "sqlite"]),
    ("models", &["agent-core", "protocol"]),
    ("tools", &["agent-core", "protocol", "redact", "shell"]),
    ("mcp", &["agent-core", "protocol", "redact", "config"]),
    ("client", &["protocol"]),
    ("server", &["agent-core", "protocol", "redact"]),
    ("gateway", &["client", "protocol", "sqlite", "config", "redact"]),
    ("scheduler", &["client", "protocol", "sqlite", "config", "redact"]),
    ("test-support", &[]),
    ("bench", &["agent-core", "protocol", "redact", "store", "test-support"]),
    (
        "cli",
        &[
            "protocol",
            "sqlite",
            "config",
            "redact",
            "shell",
            "agent-core",
            "store",
            "models",
            "tools",
            "mcp",
            "client",
            "server",
            "gateway",
            "scheduler",
        ],
    ),
];

/// Heavy dependencies, each in the crates that may name it.
const QUARANTINED: [(&str, &[&str]); 6] = [
    ("brush-parser", &["shell"]),
    ("opentelemetry_sdk", &["cli"]),
    ("genai", &["models"]),
    ("rmcp", &["mcp"]),
    ("teloxide-core", &["gateway"]),
    ("clap", &["cli", "bench"]),
];

fn short(package: &str) -> Option<&str> {
    if package == "stakpak" { Some("cli") } else { package.strip_prefix("stakpak-") }
}

fn wrong_edges(package: &Package) -> Vec<String> {
    let name = short(&package.name).unwrap();
    let (_, allowed) = DRAWN.iter().find(|(drawn, _)| *drawn == name).expect("every crate is drawn");
    let shipped = package.dependencies.iter().filter(|dependency| dependency.kind != DependencyKind::Development);
    let mut wrong = Vec::new();
    for dependency in shipped {
        if short(&dependency.name).is_some_and(|used| !allowed.contains(&used)) {
            wrong.push(format!("{name} uses {}", dependency.name));
        }
        if QUARANTINED.iter().any(|(heavy, homes)| *heavy == dependency.name && !homes.contains(&name)) {
            wrong.push(format!("{name} names {}", dependency.name));
        }
    }
    wrong
}

/// A-P47: the clock that a file sets is in no release artefact: nothing turns the feature on by itself, and a release build
/// with it does not compile.
#[test]
fn only_a_campaign_has_a_clock_that_is_set() {
    let metadata = MetadataCommand::new().no_deps().exec().unwrap();
    let mut having = BTreeSet::new();
    for package in &metadata.packages {
        let turns_on = |feature: &&String| feature.contains("campaign");
        assert!(package.dependencies.iter().all(|dependency| !dependency.features.iter().any(|f| turns_on(&f))));
        for (name, features) in package.features.iter().filter(|(name, _)| *name != "campaign") {
            assert!(!features.iter().any(|feature| turns_on(&feature)), "{name} of {} turns it on", package.name);
        }
        having.extend(package.features.contains_key("campaign").then(|| package.name.to_string()));
    }
    assert_eq!(having, ["stakpak", "stakpak-scheduler"].map(str::to_owned).into());
    let main = include_str!("../src/main.rs");
    assert!(main.contains("#[cfg(all(feature = \"campaign\", not(debug_assertions)))]\ncompile_error!("));
}

#[test]
fn crates_depend_only_as_drawn() {
    let metadata = MetadataCommand::new().no_deps().exec().unwrap();
    let wrong: Vec<String> = metadata.packages.iter().flat_map(wrong_edges).collect();
    assert!(wrong.is_empty(), "edges that ARCHITECTURE.md does not draw: {wrong:#?}");
    let there: BTreeSet<&str> = metadata.packages.iter().filter_map(|package| short(&package.name)).collect();
    assert_eq!(there, DRAWN.iter().map(|(name, _)| *name).collect());
}
