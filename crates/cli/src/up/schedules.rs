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
use serde::Deserialize;
use serde_json::{Value, json};
use stakpak_protocol::ErrorCode;
use stakpak_scheduler::{Handle, HeldBy, Hold, LedgerError, RunNumber, TriggerError, TriggerOptions};
use stakpak_server::ApiError;

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
        .route("/v1/schedules/{name}/pause", post(pause))
        .route("/v1/schedules/{name}/resume", post(resume))
        .route("/v1/schedule-runs", get(runs))
        .route("/v1/schedule-runs/{id}", get(run))
        .with_state(handle)
}

async fn list(State(handle): State<Handle>) -> Result<Json<Value>, Failed> {
    let schedules: Vec<Value> = handle.list().await?.iter().map(schedule_json).collect();
    Ok(Json(json!({ "schedules": schedules })))
}

async fn one(State(handle): State<Handle>, Path(name): Path<String>) -> Result<Json<Value>, Failed> {
    let schedules = handle.list().await?;
    let schedule = schedules.iter().find(|schedule| schedule.name == name);
    Ok(Json(schedule.map(schedule_json).ok_or_else(|| unknown(&name))?))
}

async fn trigger(
    State(handle): State<Handle>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Failed> {
    let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok()).map(str::to_owned);
    let options = TriggerOptions { key, ..TriggerOptions::default() };
    Ok((StatusCode::ACCEPTED, Json(handle.trigger(&name, options).await?)).into_response())
}

/// How long a schedule is held; without an end until it is resumed.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Pause {
    until: Option<DateTime<Utc>>,
    #[serde(rename = "for", with = "stakpak_config::duration::option")]
    duration: Option<Duration>,
    note: Option<String>,
}

async fn pause(
    State(handle): State<Handle>,
    Path(name): Path<String>,
    body: Result<Option<Json<Pause>>, JsonRejection>,
) -> Result<Json<Value>, Failed> {
    let Pause { until, duration, note } = body.map_err(|error| invalid(error.body_text()))?.unwrap_or_default().0;
    let since = Utc::now();
    let until = match (until, duration) {
        (Some(_), Some(_)) => return Err(invalid("`until` and `for`: give one of them".to_owned())),
        (until, None) => until,
        (None, Some(duration)) => {
            let duration = TimeDelta::from_std(duration).map_err(|_| invalid("`for` is too long".to_owned()))?;
            Some(since + duration)
        }
    };
    handle.hold(&name, Hold { since, until, by: HeldBy::User, note }).await?;
    Ok(Json(json!({ "name": name, "until": until })))
}

async fn resume(State(handle): State<Handle>, Path(name): Path<String>) -> Result<Json<Value>, Failed> {
    if !handle.release(&name).await? && handle.schedules().get(&name).is_none() {
        return Err(unknown(&name));
    }
    Ok(Json(json!({ "name": name })))
}

#[derive(Debug, Deserialize)]
struct Filter {
    schedule: Option<String>,
    limit: Option<u32>,
}

async fn runs(State(handle): State<Handle>, Query(filter): Query<Filter>) -> Result<Json<Value>, Failed> {
    let limit = filter.limit.unwrap_or(SOME_RUNS);
    if !(1..=MOST_RUNS).contains(&limit) {
        return Err(invalid(format!("`limit` must be between 1 and {MOST_RUNS}")));
    }
    let runs = handle.history(filter.schedule.as_deref(), limit).await?;
    Ok(Json(json!({ "runs": runs })))
}

async fn run(State(handle): State<Handle>, Path(id): Path<i64>) -> Result<Response, Failed> {
    let run = handle.run(RunNumber(id)).await?;
    let none = || Failed(ApiError::new(ErrorCode::NotFound, format!("there is no scheduled run {id}")));
    Ok(Json(run.ok_or_else(none)?).into_response())
}

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
