//! Sandboxes of profiles, as the shipped binary keeps them.

use std::fs;

use serde_json::{Value, json};
use stakpak_test_support::FakeEngine;

use crate::{
    operations::until_ready,
    support::{Home, stderr, stdout},
};

const COMMAND: &str = "run cat ../.stakpak/config.toml; touch ../escaped; touch made; echo over";

/// With a working directory of its own.
fn home(config: &str) -> Home {
    let home = Home::new();
    home.write("config.toml", config);
    fs::create_dir(home.path("project")).unwrap();
    home
}

fn doctor(home: &Home, id: &str) -> (Value, Value) {
    let told: Value = serde_json::from_slice(&home.run(&["doctor", "--json"]).stdout).unwrap();
    let probes = told["probes"].as_array().unwrap();
    let probe = probes.iter().find(|probe| probe["id"] == id).unwrap();
    (told["ok"].clone(), probe.clone())
}

/// C-P45, C-P47: by profile or by flag, a run is confined.
#[test]
fn a_run_is_confined_where_it_is_asked_for() {
    let home = home("[profiles.boxed]\nsandbox = \"landlock\"\n[profiles.open]\nmodel = \"builtin/offline\"\n");
    for (arguments, is_confined) in [
        (["--profile", "boxed"].as_slice(), true),
        (&["--profile", "open", "--sandbox"], true),
        (&["--profile", "open"], false),
    ] {
        let run = [&["run", "--approve-all", "--workdir", "project"], arguments, &[COMMAND]].concat();
        let output = home.run(&run);
        let text = format!("{}{}", stdout(&output), stderr(&output));
        assert!(text.contains("over"), "{text}");
        assert!(home.path("project/made").exists(), "{text}");
        assert_eq!(home.path("escaped").exists(), !is_confined, "{arguments:?} {text}");
        assert_eq!(text.contains("[profiles.boxed]"), !is_confined, "{arguments:?} {text}");
        fs::remove_file(home.path("project/made")).unwrap();
    }
    let (is_ok, landlock) = doctor(&home, "landlock");
    assert_eq!((is_ok, &landlock["status"]), (json!(true), &json!("pass")), "{landlock}");
    assert!(landlock["summary"].as_str().unwrap().starts_with("Landlock ABI "), "{landlock}");
    let up = home.up();
    until_ready(&up, 200, &json!({"journal": "ok", "scheduler": "ok", "channels": "off", "sandbox": "ok"}));
}

/// A-P22, C-P46: never on the host instead, nor in less than was asked for.
#[test]
fn a_level_that_is_not_there_runs_nothing() {
    let home = home("[profiles.boxed]\nsandbox = \"container\"\n");
    let refused = home.run(&["run", "--approve-all", "--profile", "boxed", "--workdir", "project", COMMAND]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("the level `container` needs an image"), "{}", stderr(&refused));
    assert!(!home.path("project/made").exists() && !home.path("escaped").exists());
    let (is_ok, accessible) = doctor(&home, "docker_accessible");
    assert_eq!((is_ok, &accessible["status"]), (json!(true), &json!("fail")), "{accessible}");
    assert_eq!(accessible["severity"], "warning");
    assert!(accessible["details"].as_str().unwrap().contains("profile boxed"), "{accessible}");
    let up = home.up();
    until_ready(&up, 503, &json!({"journal": "ok", "scheduler": "ok", "channels": "off", "sandbox": "failed"}));
}

/// The container of a run, from the file to the engine, and what is told of it.
#[test]
fn a_run_in_a_container_is_asked_for_by_its_profile() {
    let engine = FakeEngine::new("docker");
    let path = format!("{}:{}", engine.bin().display(), std::env::var("PATH").unwrap());
    let home =
        home("[profiles.boxed]\nsandbox = { level = \"container\", image = \"mine:1\", memory = \"64m\", cpus = 1 }\n");
    let run = ["run", "--approve-all", "--profile", "boxed", "--workdir", "project", "run touch made; echo over"];
    let output = home.command(&run).env("PATH", &path).output().unwrap();
    let text = format!("{}{}", stdout(&output), stderr(&output));
    assert!(text.contains("over") && home.path("project/made").exists(), "{text}");
    let runs = engine.calls_of("run");
    let started = runs[0].join(" ");
    assert!(
        started.contains(" --memory 64m ") && started.contains(" --cpus 1 ") && started.contains(" mine:1 "),
        "{started}"
    );
    assert_eq!(engine.containers(), [""; 0], "it ends with its server");
    let told = home.command(&["doctor", "--json"]).env("PATH", &path).output().unwrap();
    let told: Value = serde_json::from_slice(&told.stdout).unwrap();
    let accessible =
        told["probes"].as_array().unwrap().iter().find(|probe| probe["id"] == "docker_accessible").unwrap();
    assert_eq!(
        (&accessible["status"], &accessible["summary"]),
        (&json!("pass"), &json!("docker 28.2.2")),
        "{accessible}"
    );
    home.write("autopilot.toml", "[server]\nsandbox_mode = \"ephemral\"\n");
    assert!(stdout(&home.run(&["config", "validate"])).contains("ephemral"));
}

/// Readiness is of the profiles as they are, not as they were at the start.
#[test]
fn readiness_follows_the_profiles() {
    let parts = |sandbox: &str| json!({"journal": "ok", "scheduler": "ok", "channels": "off", "sandbox": sandbox});
    let home = home("");
    let up = home.up();
    until_ready(&up, 200, &parts("off"));
    for (level, status, state) in [("container", 503, "failed"), ("landlock", 200, "ok"), ("off", 200, "off")] {
        home.write("config.toml", &format!("[profiles.boxed]\nsandbox = \"{level}\"\n"));
        until_ready(&up, status, &parts(state));
    }
    let said = stdout(&home.run(&["logs", "-n", "1000"]));
    assert_eq!(said.matches("the sandbox of a profile cannot be had").count(), 1, "{said}");
}
