//! Every row ends once, in a way that its schedule's policies allow.

use super::{Findings, Kind, name_of};
use crate::{
    history::{History, Row},
    schedules::{Check, Millis, Overlap, Schedule},
};

/// A run is taken up again so often.
const RECOVERIES: u32 = 3;

pub fn check(history: &History, schedule: &Schedule, findings: &mut Findings) {
    let rows: Vec<&Row> = history.rows.iter().filter(|row| row.fire.schedule == schedule.name).collect();
    for row in &rows {
        let waits_for_its_time = row.status == "pending" && row.dispatch_at > history.times.now;
        if matches!(row.status.as_str(), "pending" | "running" | "paused") && !waits_for_its_time {
            findings.add(Kind::NotEnded, &schedule.name, name_of(row, schedule));
        } else if !waits_for_its_time && !is_allowed(history, schedule, row, &rows) {
            findings.add(Kind::EndWrong, &schedule.name, name_of(row, schedule));
        }
    }
}

fn is_allowed(history: &History, schedule: &Schedule, row: &Row, rows: &[&Row]) -> bool {
    let wants = schedule.check.wants(row.fire.nominal);
    let has_check = schedule.check != Check::Absent;
    let blocked = || blocked(history, row, rows);
    match (row.status.as_str(), row.reason.as_deref()) {
        ("missed", Some("window" | "policy" | "limit")) => row.started_at.is_none(),
        ("completed", None) => wants,
        ("skipped", Some("check")) => has_check && !wants,
        ("skipped", Some("overlap")) => schedule.overlap != Overlap::QueueAll && blocked(),
        ("skipped", Some("queue_full")) => schedule.overlap == Overlap::QueueAll && blocked(),
        ("skipped", Some("overlap_cancel_failed")) => schedule.overlap == Overlap::CancelRunning && blocked(),
        ("cancelled", Some("superseded")) => schedule.overlap == Overlap::CancelRunning && made_way(row, rows),
        ("timed_out", None) => wants && was_over(history, schedule, row),
        ("failed", Some("agent_error")) => {
            wants && (was_interrupted(history, row) || was_not_begun(history, schedule, row))
        }
        ("failed", Some("crash_limit")) => row.recoveries == RECOVERIES,
        _ => false,
    }
}

/// The time of its agent was up, now or before the clock was set back.
fn was_over(history: &History, schedule: &Schedule, row: &Row) -> bool {
    let (Some(from), Some(end)) = (row.agent_at, row.finished_at) else { return false };
    let limit = from + schedule.timeout;
    end >= limit || history.times.again.iter().any(|(low, high)| *low <= end && limit <= *high)
}

/// It names a run of its schedule that was active. Where the clock went twice, its times do not tell what came first.
fn blocked(history: &History, row: &Row, rows: &[&Row]) -> bool {
    let Some(blocking) = rows.iter().find(|other| Some(other.id) == row.blocking && other.id != row.id) else {
        return false;
    };
    let (Some(from), Some(at)) = (blocking.started_at, row.finished_at) else { return false };
    let Some(to) = blocking.finished_at else { return true };
    let is_ambiguous =
        |time: Millis| history.times.again.iter().any(|(low, high)| (low - 2..=high + 2).contains(&time));
    (from..=to).contains(&at) || [from, at, to].into_iter().any(is_ambiguous)
}

/// For a newer run, which was there before this one ended.
fn made_way(row: &Row, rows: &[&Row]) -> bool {
    rows.iter().any(|other| other.fire.nominal > row.fire.nominal && other.status != "missed")
}

/// The session could not be made before the time was up.
fn was_not_begun(history: &History, schedule: &Schedule, row: &Row) -> bool {
    was_over(history, schedule, row) && has_error(row, "no answer from the agent server to the request for a session")
}

fn has_error(row: &Row, text: &str) -> bool {
    row.error.as_deref().is_some_and(|error| error.contains(text))
}

/// Killed so often while the agent was at work that the server gave it up.
fn was_interrupted(history: &History, row: &Row) -> bool {
    let mut epochs: Vec<u64> =
        history.asked.iter().filter(|asked| asked.fire == row.fire).map(|asked| asked.epoch).collect();
    epochs.dedup();
    epochs.len() > 2 && has_error(row, "interrupted")
}
