//! Sandboxes of profiles, as the shipped binary keeps them.

use std::fs;

use serde_json::{Value, json};

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

fn doctor(home: &Home) -> (Value, Value) {
    let told: Value = serde_json::from_slice(&home.run(&["doctor", "--json"]).stdout).unwrap();
    let probes = told["probes"].as_array().unwrap();
    let landlock = probes.iter().find(|probe| probe["id"] == "landlock").unwrap();
    (told["ok"].clone(), landlock.clone())
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
    let (is_ok, landlock) = doctor(&home);
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
    assert!(stderr(&refused).contains("`container` is not part of this version"), "{}", stderr(&refused));
    assert!(!home.path("project/made").exists() && !home.path("escaped").exists());
    let (is_ok, landlock) = doctor(&home);
    assert_eq!((is_ok, &landlock["status"], &landlock["severity"]), (json!(true), &json!("fail"), &json!("warning")));
    assert!(landlock["details"].as_str().unwrap().contains("profile boxed"), "{landlock}");
    let up = home.up();
    until_ready(&up, 503, &json!({"journal": "ok", "scheduler": "ok", "channels": "off", "sandbox": "failed"}));
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
