//! Where schedules are told in chats, and what became of that.

use serde_json::{Value, json};
use stakpak_scheduler::{NotificationState, Notify, NotifyOn, RunRecord};

/// Whether a schedule is told, and what is missing if it is not.
struct Readiness {
    state: &'static str,
    hint: Option<&'static str>,
}

fn readiness(notify: &Notify) -> Readiness {
    let (state, hint) = match (notify.channel, &notify.target) {
        _ if notify.on == NotifyOn::None => ("disabled", "notify_on is none"),
        (Some(_), Some(_)) => ("ready", ""),
        (None, Some(_)) => ("missing_channel", "set notify_channel, or channel in [notifications]"),
        (Some(_), None) => ("missing_target", "set notify_target, or target in [notifications]"),
        (None, None) => ("missing_route", "set channel and target in [notifications]"),
    };
    Readiness { state, hint: Some(hint).filter(|hint| !hint.is_empty()) }
}

/// `notification` of a schedule.
pub(super) fn json(notify: &Notify) -> Value {
    let Readiness { state, hint } = readiness(notify);
    json!({
        "channel": notify.channel,
        "target": notify.target,
        "route": notify.route().map(|route| route.to_string()),
        "ready": state == "ready",
        "state": state,
        "hint": hint,
    })
}

/// The route, or a dash when nothing is told.
pub(super) fn column(notify: Option<&Notify>) -> String {
    let told = notify.filter(|notify| notify.on != NotifyOn::None);
    told.and_then(Notify::route).map_or_else(|| "-".to_owned(), |route| route.to_string())
}

/// A line for every attempt of a run that has ended, if it had several.
pub(super) fn attempts(run: &RunRecord) -> impl Iterator<Item = String> {
    let shown = run.attempts.iter().filter(|_| run.attempt > 1);
    shown.map(|attempt| {
        let session = attempt.session_id.map(|session| format!(", session {session}")).unwrap_or_default();
        let error = attempt.error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
        format!("attempt {}  {}{session}{error}", attempt.n, attempt.status)
    })
}

/// Where a run stands, and in which attempt.
pub(super) fn status(run: &RunRecord) -> String {
    match run.attempt {
        0 | 1 => run.status.to_string(),
        attempt => format!("{}, attempt {attempt}", run.status),
    }
}

/// A line for every notification of a run.
pub(super) fn lines(run: &RunRecord) -> impl Iterator<Item = String> {
    run.notifications.iter().map(|told| {
        let times = match told.attempts {
            0 => "not sent yet".to_owned(),
            1 => "sent once".to_owned(),
            times => format!("sent {times} times"),
        };
        let error = told.last_error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
        format!("{} to {}: {}, {times}{error}", told.event, told.route, told.state)
    })
}

/// Those of them that did not arrive and will not.
pub(super) fn failures(run: &RunRecord) -> impl Iterator<Item = String> {
    let is_lost = |state| matches!(state, NotificationState::Failed | NotificationState::Expired);
    let lost: Vec<bool> = run.notifications.iter().map(|told| is_lost(told.state)).collect();
    lines(run).zip(lost).filter_map(|(line, lost)| lost.then_some(line))
}

/// The calls that a paused run waits with.
pub(super) fn calls(run: &RunRecord) -> String {
    let calls = run.pause_reason.as_ref().and_then(Value::as_array);
    let shown = calls.into_iter().flatten().map(|call| {
        format!(
            "{} ({} {})",
            call["id"].as_str().unwrap_or("-"),
            call["name"].as_str().unwrap_or("-"),
            call["arguments"]
        )
    });
    shown.collect::<Vec<_>>().join(", ")
}
