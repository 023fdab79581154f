//! `/v1/schedules` and `/v1/schedule-runs`: what `stakpak schedule` does, for chats and programs.

use std::time::Duration;

use axum::{
    Json, Router,
    extract::{Path, Query, State, rejection::JsonRejection},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use stakpak_protocol::{ErrorBody, ErrorCode};
use stakpak_scheduler::{
    Asked, Backfill, BackfillError, CancelError, Decide, DecideError, Handle, HeldBy, HistoryFilter, Hold, HoldError,
    LedgerError, Overlap, RunNumber, RunRecord, TriggerError, TriggerOptions,
};
use stakpak_server::ApiError;
use utoipa::{IntoParams, OpenApi, ToSchema};

use crate::schedule::schedule_json;

/// Most runs of one answer.
const MOST_RUNS: u32 = 1000;
const SOME_RUNS: u32 = 20;

/// The bearer check is put in front of it.
pub(super) fn router(handle: Handle) -> Router {
    Router::new()
        .route("/v1/schedules", get(list))
        .route("/v1/schedules/{name}", get(one))
        .route("/v1/schedules/{name}/trigger", post(trigger))
        .route("/v1/schedules/{name}/backfill", post(backfill))
        .route("/v1/schedules/{name}/pause", post(pause))
        .route("/v1/schedules/{name}/resume", post(resume))
        .route("/v1/schedule-runs", get(runs))
        .route("/v1/schedule-runs/{id}", get(run))
        .route("/v1/schedule-runs/{id}/resume", post(decide))
        .route("/v1/schedule-runs/{id}/cancel", post(cancel))
        .with_state(handle)
}

/// All schedules, in the order of the file.
#[utoipa::path(get, path = "/v1/schedules", operation_id = "list_schedules", tag = "schedules", security(("bearer_auth" = [])), responses(
    (status = 200, description = "As `stakpak schedule list --json`", body = Object),
    (status = 401, body = ErrorBody),
    (status = 429, body = ErrorBody),
    (status = 503, body = ErrorBody),
))]
async fn list(State(handle): State<Handle>) -> Result<Json<Value>, Failed> {
    let schedules: Vec<Value> = handle.list().await?.iter().map(schedule_json).collect();
    Ok(Json(json!({ "schedules": schedules })))
}

/// One schedule.
#[utoipa::path(get, path = "/v1/schedules/{name}", operation_id = "get_schedule", tag = "schedules", security(("bearer_auth" = [])), params(("name" = String, Path)), responses(
    (status = 200, description = "As an entry of the list", body = Object),
    (status = 401, body = ErrorBody),
    (status = 404, body = ErrorBody),
    (status = 429, body = ErrorBody),
    (status = 503, body = ErrorBody),
))]
async fn one(State(handle): State<Handle>, Path(name): Path<String>) -> Result<Json<Value>, Failed> {
    let schedules = handle.list().await?;
    let schedule = schedules.iter().find(|schedule| schedule.name == name);
    Ok(Json(schedule.map(schedule_json).ok_or_else(|| unknown(&name))?))
}

/// How a run is started.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
#[schema(as = TriggerSchedule)]
struct Trigger {
    /// Beside a run that is active.
    force: bool,
    /// Without the check.
    no_check: bool,
}

/// Starts a run of a schedule now.
#[utoipa::path(post, path = "/v1/schedules/{name}/trigger", operation_id = "trigger_schedule", tag = "schedules", security(("bearer_auth" = [])), params(("name" = String, Path),
    ("Idempotency-Key" = Option<String>, Header, description = "One run for one key")), request_body = Option<Trigger>, responses(
    (status = 202, description = "The run, as the history shows it", body = Object),
    (status = 400, body = ErrorBody),
    (status = 401, body = ErrorBody),
    (status = 404, body = ErrorBody),
    (status = 429, body = ErrorBody),
    (status = 503, body = ErrorBody),
))]
async fn trigger(
    State(handle): State<Handle>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Result<Option<Json<Trigger>>, JsonRejection>,
) -> Result<Response, Failed> {
    let Trigger { force, no_check } = body.map_err(|error| invalid(error.body_text()))?.unwrap_or_default().0;
    let options = TriggerOptions { force, no_check, key: key_of(&headers) };
    Ok((StatusCode::ACCEPTED, Json(handle.trigger(&name, options).await?)).into_response())
}

/// Which instants are run afterwards.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = BackfillSchedule)]
struct Fill {
    /// The first instant: RFC 3339, or a local time of the schedule's zone.
    from: String,
    /// The first instant that is not meant.
    to: String,
    /// More runs than this are refused; 100 if absent.
    #[serde(default = "some_instants")]
    limit: u32,
    /// `skip`, `queue_one`, `queue_all` or `cancel_running`; `queue_all`, one at a time, if absent.
    #[schema(value_type = Option<String>)]
    overlap: Option<Overlap>,
    /// Also those that have a run.
    #[serde(default)]
    force: bool,
    /// Say which, and write nothing.
    #[serde(default)]
    dry_run: bool,
}

fn some_instants() -> u32 {
    crate::args::BACKFILL_LIMIT
}

/// Runs instants of a schedule that have passed and have no run.
#[utoipa::path(post, path = "/v1/schedules/{name}/backfill", operation_id = "backfill_schedule", tag = "schedules", security(("bearer_auth" = [])), params(("name" = String, Path),
    ("Idempotency-Key" = Option<String>, Header, description = "The runs once for one key")), request_body = Fill, responses(
    (status = 200, description = "What it would be, for `dry_run`", body = Object),
    (status = 202, description = "`instants`, oldest first, with their `run_ids`, and how many were `left_out`", body = Object),
    (status = 400, description = "Also when they are more than `limit`: the text says how many", body = ErrorBody),
    (status = 401, body = ErrorBody),
    (status = 404, body = ErrorBody),
    (status = 409, description = "The key was used with another request", body = ErrorBody),
    (status = 429, body = ErrorBody),
    (status = 503, body = ErrorBody),
))]
async fn backfill(
    State(handle): State<Handle>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Result<Json<Fill>, JsonRejection>,
) -> Result<Response, Failed> {
    let Json(Fill { from, to, limit, overlap, force, dry_run }) = body.map_err(|error| invalid(error.body_text()))?;
    let (overlap, key) = (overlap.unwrap_or(Overlap::QueueAll), key_of(&headers));
    let filled = handle.backfill(&name, Backfill { from, to, limit, overlap, force, dry_run, key }).await?;
    Ok((if dry_run { StatusCode::OK } else { StatusCode::ACCEPTED }, Json(filled)).into_response())
}

/// How long a schedule is held; without an end until it is resumed.
#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(default)]
#[schema(as = PauseSchedule)]
struct Pause {
    until: Option<DateTime<Utc>>,
    /// `1h 30m`, in the place of `until`.
    #[schema(value_type = Option<String>)]
    #[serde(rename = "for", with = "stakpak_config::duration::option")]
    duration: Option<Duration>,
    note: Option<String>,
}

/// Holds a schedule: what falls due meanwhile is skipped.
#[utoipa::path(post, path = "/v1/schedules/{name}/pause", operation_id = "pause_schedule", tag = "schedules", security(("bearer_auth" = [])), params(("name" = String, Path),
    ("Idempotency-Key" = Option<String>, Header, description = "One pause for one key: repeated, it is answered the same, and changes nothing")), request_body = Option<Pause>, responses(
    (status = 200, description = "`name` and `until`", body = Object),
    (status = 400, body = ErrorBody),
    (status = 401, body = ErrorBody),
    (status = 404, body = ErrorBody),
    (status = 409, description = "The key was used with another request", body = ErrorBody),
    (status = 429, body = ErrorBody),
    (status = 503, body = ErrorBody),
))]
async fn pause(
    State(handle): State<Handle>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Result<Option<Json<Pause>>, JsonRejection>,
) -> Result<Json<Value>, Failed> {
    let said = body.map_err(|error| invalid(error.body_text()))?.unwrap_or_default().0;
    let asked = key_of(&headers).map(|key| Asked { key, request: json!(said).to_string() });
    let Pause { until, duration, note } = said;
    let since = Utc::now();
    let until = match (until, duration) {
        (Some(_), Some(_)) => return Err(invalid("`until` and `for`: give one of them".to_owned())),
        (until, None) => until,
        (None, Some(duration)) => {
            let duration = TimeDelta::from_std(duration).map_err(|_| invalid("`for` is too long".to_owned()))?;
            Some(since + duration)
        }
    };
    let until = handle.hold(&name, Hold { since, until, by: HeldBy::User, note }, asked).await?;
    Ok(Json(json!({ "name": name, "until": until })))
}

/// Lets a schedule go on.
#[utoipa::path(post, path = "/v1/schedules/{name}/resume", operation_id = "resume_schedule", tag = "schedules", security(("bearer_auth" = [])), params(("name" = String, Path),
    ("Idempotency-Key" = Option<String>, Header, description = "Repeated under its key, it does not end a later pause")), responses(
    (status = 200, description = "`name`", body = Object),
    (status = 401, body = ErrorBody),
    (status = 404, body = ErrorBody),
    (status = 429, body = ErrorBody),
    (status = 503, body = ErrorBody),
))]
async fn resume(
    State(handle): State<Handle>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, Failed> {
    handle.release(&name, key_of(&headers).map(|key| Asked { key, request: String::new() })).await?;
    Ok(Json(json!({ "name": name })))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Filter {
    /// Only those of this schedule.
    schedule: Option<String>,
    /// Only those that stand so: `pending`, `running`, `paused`, `completed`, `failed`, `timed_out`, `cancelled`, `skipped`,
    /// `missed`, `unknown`.
    status: Option<String>,
    /// 1 to 1,000; 20 if absent.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<i64>,
}

/// Scheduled runs, newest first.
#[utoipa::path(get, path = "/v1/schedule-runs", operation_id = "list_schedule_runs", tag = "schedules", security(("bearer_auth" = [])), params(Filter), responses(
    (status = 200, description = "`runs`, as `stakpak schedule history --json` has them, `missed_ranges` between them, and `next_cursor`, null on the last page", body = Object),
    (status = 400, body = ErrorBody),
    (status = 401, body = ErrorBody),
    (status = 429, body = ErrorBody),
    (status = 503, body = ErrorBody),
))]
async fn runs(State(handle): State<Handle>, Query(filter): Query<Filter>) -> Result<Json<Value>, Failed> {
    let limit = filter.limit.unwrap_or(SOME_RUNS);
    if !(1..=MOST_RUNS).contains(&limit) {
        return Err(invalid(format!("`limit` must be between 1 and {MOST_RUNS}")));
    }
    let status = filter.status.as_deref().map(str::parse).transpose();
    let status = status.map_err(|error| invalid(format!("`status`: {error}")))?;
    let before = filter.cursor.map(RunNumber);
    let wanted = HistoryFilter { schedule: filter.schedule.as_deref(), status, since: None, before };
    let runs = handle.history(wanted, limit).await?;
    let missed = handle.missed_beside(wanted, limit, &runs).await?;
    let next_cursor = runs.last().filter(|_| runs.len() == limit as usize).map(|run| run.id);
    Ok(Json(json!({ "runs": runs, "missed_ranges": missed, "next_cursor": next_cursor })))
}

/// One scheduled run.
#[utoipa::path(get, path = "/v1/schedule-runs/{id}", operation_id = "get_schedule_run", tag = "schedules", security(("bearer_auth" = [])), params(("id" = i64, Path)), responses(
    (status = 200, description = "As an entry of the history", body = Object),
    (status = 401, body = ErrorBody),
    (status = 404, body = ErrorBody),
    (status = 429, body = ErrorBody),
    (status = 503, body = ErrorBody),
))]
async fn run(State(handle): State<Handle>, Path(id): Path<i64>) -> Result<Response, Failed> {
    let run = handle.run(RunNumber(id)).await?;
    let none = || Failed(ApiError::new(ErrorCode::NotFound, format!("there is no scheduled run {id}")));
    Ok(Json(run.ok_or_else(none)?).into_response())
}

/// Decisions about the calls that a paused run waits with; those that are not named are rejected.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = ResumeScheduleRun)]
struct Decisions {
    /// Calls that may run.
    approve: Vec<String>,
    /// Calls that may not.
    reject: Vec<String>,
    approve_all: bool,
    reject_all: bool,
    /// What the agent is told with each rejection.
    message: Option<String>,
    /// Who decides; `http` if absent.
    by: Option<String>,
}

/// Decides about the calls that a paused run waits with.
#[utoipa::path(post, path = "/v1/schedule-runs/{id}/resume", operation_id = "resume_schedule_run", tag = "schedules", security(("bearer_auth" = [])), params(("id" = i64, Path),
    ("Idempotency-Key" = Option<String>, Header, description = "One decision for one key")), request_body = Decisions, responses(
    (status = 200, description = "The run, which goes on", body = Object),
    (status = 400, body = ErrorBody),
    (status = 401, body = ErrorBody),
    (status = 404, body = ErrorBody),
    (status = 409, description = "It does not wait; the text says who decided what, and when", body = ErrorBody),
    (status = 429, body = ErrorBody),
    (status = 503, body = ErrorBody),
))]
async fn decide(
    State(handle): State<Handle>,
    Path(id): Path<i64>,
    headers: HeaderMap,
    body: Result<Json<Decisions>, JsonRejection>,
) -> Result<Json<RunRecord>, Failed> {
    let Json(said) = body.map_err(|error| invalid(error.body_text()))?;
    let Decisions { approve, reject, approve_all, reject_all, message, by } = said;
    let by = by.filter(|by| !by.trim().is_empty()).unwrap_or_else(|| "http".to_owned());
    let key = key_of(&headers);
    let decide = Decide { approve, reject, approve_all, reject_all, message, by, key };
    Ok(Json(handle.decide(RunNumber(id), decide).await?))
}

/// Ends a run: at once if it waits for its turn, else when the server has confirmed it.
#[utoipa::path(post, path = "/v1/schedule-runs/{id}/cancel", operation_id = "cancel_schedule_run", tag = "schedules", security(("bearer_auth" = [])), params(("id" = i64, Path),
    ("Idempotency-Key" = Option<String>, Header, description = "One cancel for one key: repeated, it is answered also after the end")), responses(
    (status = 202, description = "The run", body = Object),
    (status = 401, body = ErrorBody),
    (status = 404, body = ErrorBody),
    (status = 409, description = "It has ended", body = ErrorBody),
    (status = 429, body = ErrorBody),
    (status = 503, body = ErrorBody),
))]
async fn cancel(State(handle): State<Handle>, Path(id): Path<i64>, headers: HeaderMap) -> Result<Response, Failed> {
    Ok((StatusCode::ACCEPTED, Json(handle.cancel(RunNumber(id), key_of(&headers)).await?)).into_response())
}

fn key_of(headers: &HeaderMap) -> Option<String> {
    headers.get("idempotency-key").and_then(|key| key.to_str().ok()).map(str::to_owned)
}

/// These routes, for the document of the API.
pub(super) fn openapi() -> utoipa::openapi::OpenApi {
    Api::openapi()
}

#[derive(OpenApi)]
#[openapi(paths(list, one, trigger, backfill, pause, resume, runs, run, decide, cancel))]
struct Api;

/// As the server answers.
struct Failed(ApiError);

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        self.0.into_response()
    }
}

fn invalid(text: String) -> Failed {
    Failed(ApiError::new(ErrorCode::InvalidRequest, text))
}

fn unknown(name: &str) -> Failed {
    TriggerError::Unknown { name: name.to_owned() }.into()
}

impl From<LedgerError> for Failed {
    fn from(error: LedgerError) -> Self {
        TriggerError::Ledger(error).into()
    }
}

impl From<DecideError> for Failed {
    fn from(error: DecideError) -> Self {
        let code = match error {
            DecideError::Unknown { .. } => ErrorCode::NotFound,
            DecideError::NotPaused { .. } => ErrorCode::SessionNotRunning,
            DecideError::NoSuchCall { .. } | DecideError::Invalid(_) => ErrorCode::InvalidRequest,
            DecideError::KeyReused => ErrorCode::IdempotencyKeyReused,
            DecideError::Ledger(_) => ErrorCode::StorageUnavailable,
        };
        Self(ApiError::new(code, error.to_string()))
    }
}

impl From<BackfillError> for Failed {
    fn from(error: BackfillError) -> Self {
        let code = match error {
            BackfillError::Schedule(error) => return error.into(),
            BackfillError::KeyReused => ErrorCode::IdempotencyKeyReused,
            BackfillError::Time { .. }
            | BackfillError::Limit
            | BackfillError::TooMany { .. }
            | BackfillError::TooLong { .. } => ErrorCode::InvalidRequest,
        };
        Self(ApiError::new(code, error.to_string()))
    }
}

impl From<HoldError> for Failed {
    fn from(error: HoldError) -> Self {
        let code = match error {
            HoldError::Unknown { .. } => ErrorCode::NotFound,
            HoldError::KeyReused => ErrorCode::IdempotencyKeyReused,
            HoldError::Ledger(_) => ErrorCode::StorageUnavailable,
        };
        Self(ApiError::new(code, error.to_string()))
    }
}

impl From<CancelError> for Failed {
    fn from(error: CancelError) -> Self {
        let code = match error {
            CancelError::Unknown { .. } => ErrorCode::NotFound,
            CancelError::Ended { .. } => ErrorCode::SessionNotRunning,
            CancelError::Ledger(_) => ErrorCode::StorageUnavailable,
        };
        Self(ApiError::new(code, error.to_string()))
    }
}

impl From<TriggerError> for Failed {
    fn from(error: TriggerError) -> Self {
        let code = match error {
            TriggerError::Unknown { .. } => ErrorCode::NotFound,
            TriggerError::Invalid { .. } => ErrorCode::InvalidRequest,
            TriggerError::Ledger(_) => ErrorCode::StorageUnavailable,
        };
        Self(ApiError::new(code, error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn the_document_and_the_router_have_the_same_routes() {
        let source = include_str!("schedules.rs");
        let (_, router) = source.split_once("fn router").unwrap();
        let (router, _) = router.split_once("\n}\n").unwrap();
        let routed: BTreeSet<_> = router.split('"').skip(1).step_by(2).map(str::to_owned).collect();
        let documented: BTreeSet<_> = super::openapi().paths.paths.into_keys().collect();
        assert_eq!(documented, routed);
    }
}
