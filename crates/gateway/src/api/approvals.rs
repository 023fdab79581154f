//! `/approvals`: what waits for a decision, and deciding it by the token.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json,
    extract::{Path, State, rejection::JsonRejection},
    http::StatusCode,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::ApiError;
use crate::{
    approvals::{Act, Which},
    clock::now_ms,
    runtime::Parts,
    store::{Approval, Refused, Resolution, Stage, Wish},
};

/// Longest reason, in characters.
const LONGEST_REASON: usize = 2_000;

#[derive(Debug, Deserialize)]
pub(super) struct DecideRequest {
    decision: Choice,
    #[serde(default)]
    calls: Option<Vec<String>>,
    #[serde(default)]
    reason: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Choice {
    Allow,
    Deny,
}

pub(super) async fn list(State(parts): State<Arc<Parts>>) -> Result<Json<Value>, ApiError> {
    let now = now_ms();
    let open = parts.store.unfinished_approvals().await?;
    let open = open.iter().filter(|approval| approval.stage == Stage::Open && approval.expires_at > now);
    Ok(Json(json!({ "approvals": open.map(entry).collect::<Vec<_>>() })))
}

pub(super) async fn decide(
    State(parts): State<Arc<Parts>>,
    Path(id): Path<String>,
    body: Result<Json<DecideRequest>, JsonRejection>,
) -> Result<Json<Value>, ApiError> {
    let Json(DecideRequest { decision, calls, reason }) =
        body.map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, "invalid_request", error.body_text()))?;
    if reason.as_ref().is_some_and(|reason| reason.chars().count() > LONGEST_REASON) {
        let message = "reason: at most 2,000 characters";
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "invalid_request", message));
    }
    let act = if decision == Choice::Allow { Act::Allow } else { Act::Deny };
    let wish = Wish { act, which: calls.map_or(Which::All, Which::Ids), reason };
    match parts.approvals.decide_by_operator(&id, wish).await? {
        Resolution::Decided(approval) | Resolution::Show(approval) => {
            Ok(Json(json!({ "state": state(&approval), "decisions": decisions(&approval) })))
        }
        Resolution::Refused(refused) => Err(refusal(&refused)),
    }
}

fn state(approval: &Approval) -> &'static str {
    if approval.undecided().is_empty() { "decided" } else { "open" }
}

fn decisions(approval: &Approval) -> BTreeMap<&str, &'static str> {
    let word = |allow: bool| if allow { "allow" } else { "deny" };
    approval.decisions.iter().map(|(id, decision)| (id.as_str(), word(decision.allow))).collect()
}

fn refusal(refused: &Refused) -> ApiError {
    let (status, code) = match refused {
        Refused::Decided(_) => (StatusCode::CONFLICT, "already_decided"),
        Refused::Expired => (StatusCode::GONE, "expired"),
        Refused::Unknown => (StatusCode::NOT_FOUND, "not_found"),
        _ => (StatusCode::BAD_REQUEST, "invalid_request"),
    };
    ApiError::new(status, code, refused.to_string())
}

fn entry(approval: &Approval) -> Value {
    let requester = approval
        .requester
        .as_ref()
        .map(|claim| json!({ "channel": claim.channel(), "display": claim.sender.name(), "user_id": claim.user() }));
    json!({
        "calls": approval.calls,
        "decisions": decisions(approval),
        "expires_at": approval.expires_at,
        "id": approval.id,
        "requester": requester,
        "run_id": approval.run_id,
        "session_id": approval.session_id,
    })
}
