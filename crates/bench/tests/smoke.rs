//! Each measurement once, as small as it can be: that it works, not what it measures.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::{
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

/// The figures of a subcommand. None when there is no `stakpak` beside the bench: this crate alone does not build it.
fn figures(arguments: &str) -> Option<Vec<Value>> {
    let bench = Path::new(env!("CARGO_BIN_EXE_stakpak-bench"));
    if !bench.with_file_name("stakpak").is_file() {
        eprintln!("skipped: build the whole workspace first");
        return None;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(bench);
    command.args(arguments.split(' ')).args(["--json", "--repeat", "1", "--directory"]).arg(directory.path());
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    Some(report["figures"].as_array().unwrap().clone())
}

/// Every figure named was measured, and is more than nothing.
fn measured(arguments: &str, names: &[&str]) {
    let Some(figures) = figures(arguments) else { return };
    for name in names {
        let figure = figures.iter().find(|figure| figure["figure"] == *name);
        let figure = figure.unwrap_or_else(|| panic!("{arguments} does not measure {name}: {figures:?}"));
        assert!(figure["value"].as_f64().unwrap() > 0.0, "{figure}");
    }
}

#[test]
fn load_measures_server_and_floor() {
    let arguments = "load --sessions 2 --messages 2 --concurrency 2 --serial-sessions 1";
    let Some(figures) = figures(arguments) else { return };
    let runs = figures.iter().find(|figure| figure["figure"] == "load: runs").unwrap();
    let positive = |key: &str| runs[key].as_f64().unwrap() > 0.0;
    assert!(positive("value") && positive("floor") && runs["met"].is_boolean(), "{runs}");
}

#[test]
fn memory_measures_idle() {
    measured("memory --sessions 2 --settle 1", &["memory: idle after start", "memory: at the end"]);
}

#[test]
fn growth_measures_both_tenths() {
    measured("growth --runs 3", &["growth: run p50, last / first tenth", "growth: journal a run"]);
}

#[test]
fn replay_measures_after_a_restart() {
    measured("replay --runs 2 --readers 2", &["replay: events after a restart"]);
}

#[test]
fn start_measures_a_journal_of_copies() {
    let Some(figures) = figures("start --sessions 3 --events 30") else { return };
    let events = figures.iter().find(|figure| figure["figure"] == "start: events in the large journal").unwrap();
    assert!(events["value"].as_f64().unwrap() >= 30.0, "{events}");
    measured("start --sessions 1 --events 1", &["start: ready on a large journal", "start: newest 100 sessions"]);
}

#[test]
fn fanout_measures_every_reader() {
    measured("fanout --readers 3 --runs 1", &["fanout: last reader behind the first, worst"]);
}

#[test]
fn cancel_measures_every_state() {
    let states = ["model silent", "streaming", "back-off", "waiting for approval", "tool running", "queued"];
    let names = states.map(|state| format!("cancel: {state}, worst"));
    measured("cancel --times 1 --active 2", &names.each_ref().map(String::as_str));
}

#[test]
fn commit_measures_one_and_many() {
    measured("commit --appends 4 --sessions 2", &["commit: one at a time, p50", "commit: 2 at a time, p99"]);
}

#[test]
fn gateway_measures_each_platform_and_what_is_idle() {
    let names = [
        "gateway, spread: answer p50",
        "gateway, in one instant: over plain HTTP p50",
        "gateway: connected to three platforms",
    ];
    measured("gateway --conversations 3 --rounds 1 --idle 3 --settle 1", &names);
}

#[test]
fn redaction_measures_texts_and_the_start() {
    measured("redaction --times 1", &["redaction: start", "redaction: 64 KiB of logs, 1000 known"]);
}
