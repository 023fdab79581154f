//! Schedules and runs as tables and as JSON. Times for people carry their zone.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Value, json};
use stakpak_protocol::Usd;
use stakpak_scheduler::{
    CheckResult, Definition, MissedInstants, RunRecord, RunStatus, ScheduleOverview, ScheduleSet, ScheduleState, Source,
};

use super::told;

/// Longest answer shown in a table.
const ANSWER: usize = 400;

pub(crate) fn local(instant: DateTime<Utc>, zone: Tz) -> String {
    instant.with_timezone(&zone).format("%Y-%m-%d %H:%M:%S %Z").to_string()
}

fn plain(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_header(header.to_vec());
    table
}

pub(crate) fn schedules(schedules: &[ScheduleOverview]) -> Table {
    let mut table = plain(&["NAME", "CRON", "STATUS", "ZONE", "NEXT RUN", "NOTIFICATION", "LAST"]);
    for schedule in schedules {
        let (cron, zone) = match &schedule.spec {
            Some(spec) => (spec.when.to_string(), spec.timezone),
            None => ("-".to_owned(), Tz::UTC),
        };
        table.add_row([
            schedule.name.clone(),
            cron,
            state(schedule.state).to_owned(),
            zone.name().to_owned(),
            schedule.next_run_at.map_or_else(|| "-".to_owned(), |next| local(next, zone)),
            told::column(schedule.spec.as_ref().map(|spec| &spec.notify)),
            schedule.last_run.as_ref().map_or_else(|| "-".to_owned(), |run| run.status.to_string()),
        ]);
    }
    table
}

fn state(state: ScheduleState) -> &'static str {
    match state {
        ScheduleState::Active => "active",
        ScheduleState::Disabled => "disabled",
        ScheduleState::Invalid => "invalid",
        ScheduleState::Done => "done",
        ScheduleState::Paused => "paused",
    }
}

pub(crate) fn json(schedule: &ScheduleOverview) -> Value {
    json!({
        "name": schedule.name,
        "cron": schedule.spec.as_ref().and_then(|spec| spec.when.cron()),
        "enabled": schedule.spec.as_ref().is_some_and(|spec| spec.enabled),
        "sandbox": schedule.spec.as_ref().is_some_and(|spec| spec.sandbox),
        "state": schedule.state,
        "timezone": schedule.spec.as_ref().map(|spec| spec.timezone.name()),
        "next_run": schedule.next_run_at.map(|next| next.format("%Y-%m-%d %H:%M").to_string()),
        "next_run_at": schedule.next_run_at,
        "last_run": schedule.last_run,
        "active_run_ids": schedule.active_runs,
        "errors": schedule.errors,
        "hold": schedule.hold,
        "notification": schedule.spec.as_ref().map(|spec| told::json(&spec.notify)),
    })
}

pub(crate) fn runs(runs: &[RunRecord], set: &ScheduleSet) -> String {
    history(runs, &[], set)
}

/// Runs and, where they belong, rows for missed instants that have none of their own; both newest first.
pub(crate) fn history(runs: &[RunRecord], missed: &[MissedInstants], set: &ScheduleSet) -> String {
    let header = ["ID", "SCHEDULE", "STARTED", "SOURCE", "STATUS", "REASON", "CHECK", "DURATION", "COST", "SESSION"];
    let mut table = plain(&header);
    let mut missed = missed.iter().peekable();
    for run in runs {
        while let Some(instants) = missed.next_if(|instants| instants.to >= run.stands_for()) {
            table.add_row(missed_row(instants, set));
        }
        table.add_row(run_row(run, set));
    }
    table.add_rows(missed.map(|instants| missed_row(instants, set)));
    format!("{table}{}", remarks(runs))
}

fn run_row(run: &RunRecord, set: &ScheduleSet) -> [String; 10] {
    [
        run.id.to_string(),
        run.schedule.clone(),
        local(run.started_at.unwrap_or(run.planned_at), zone_of(set, &run.schedule)),
        run.source.to_string(),
        told::status(run),
        run.reason.map_or_else(|| "-".to_owned(), |reason| reason.to_string()),
        run.check.as_ref().map_or_else(|| "-".to_owned(), check),
        run.duration_ms.map_or_else(|| "-".to_owned(), |ms| format!("{}.{:01} s", ms / 1000, ms % 1000 / 100)),
        run.cost_usd.map_or_else(|| "-".to_owned(), cost),
        run.session_id.map_or_else(|| "-".to_owned(), |session| session.to_string()),
    ]
}

fn missed_row(instants: &MissedInstants, set: &ScheduleSet) -> [String; 10] {
    let zone = zone_of(set, &instants.schedule);
    let none = || "-".to_owned();
    [
        none(),
        instants.schedule.clone(),
        format!("{} to {}", local(instants.from, zone), local(instants.to, zone)),
        Source::Cron.to_string(),
        format!("{}, {} times", RunStatus::Missed, instants.count),
        instants.reason.to_string(),
        none(),
        none(),
        none(),
        none(),
    ]
}

/// What the newest runs said, and what could not be told.
fn remarks(runs: &[RunRecord]) -> String {
    let mut text = String::new();
    for run in runs.iter().take(3) {
        if let Some(said) = run.agent_message.as_ref().or(run.error.as_ref()) {
            let cut: String = said.chars().take(ANSWER).collect();
            text.push_str(&format!("\n\nRun {}:\n{}", run.id, cut.trim_end()));
        }
    }
    for run in runs {
        for failure in told::failures(run) {
            text.push_str(&format!("\n\nNot told of run {}: {failure}", run.id));
        }
    }
    text
}

/// To the hundredth of a cent; what is less is not nothing.
fn cost(cost: Usd) -> String {
    match cost.micros() {
        1..50 => "<$0.0001".to_owned(),
        _ => format!("${:.4}", cost.dollars()),
    }
}

/// How a check ended: its exit code, the signal, or its time limit.
fn check(check: &CheckResult) -> String {
    match (check.timed_out, check.exit_code, check.signal) {
        (true, _, _) => "timeout".to_owned(),
        (false, Some(code), _) => code.to_string(),
        (false, None, Some(signal)) => format!("signal {signal}"),
        (false, None, None) => "?".to_owned(),
    }
}

pub(super) fn zone_of(set: &ScheduleSet, name: &str) -> Tz {
    match set.get(name).map(|schedule| &schedule.definition) {
        Some(Definition::Valid { spec, .. }) => spec.timezone,
        _ => Tz::UTC,
    }
}
