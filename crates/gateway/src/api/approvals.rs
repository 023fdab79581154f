//! `/approvals`: what waits for a decision, and deciding it by the token.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json,
    extract::{Path, State, rejection::JsonRejection},
    http::StatusCode,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{ApiError, ErrorAnswer};
use crate::{
    approvals::{Act, Call, Which},
    clock::now_ms,
    runtime::Parts,
    store::{Approval, Refused, Resolution, Stage, Wish},
};

/// Longest reason, in characters.
const LONGEST_REASON: usize = 2_000;

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = DecideChatApproval)]
pub(super) struct DecideRequest {
    decision: Choice,
    /// Ids of the calls that are meant; all if absent.
    #[serde(default)]
    calls: Option<Vec<String>>,
    /// For the model, at most 2,000 characters.
    #[serde(default)]
    reason: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ChatApprovalChoice)]
enum Choice {
    Allow,
    Deny,
}

/// What waits for a decision.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ChatApprovals)]
pub(super) struct ListAnswer {
    approvals: Vec<Entry>,
}

/// Calls of a run that somebody is asked about.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ChatApproval)]
struct Entry {
    calls: Vec<Call>,
    /// By call id.
    decisions: BTreeMap<String, Choice>,
    /// Unix ms.
    expires_at: i64,
    id: String,
    /// Who the run works for; none for those of programs.
    requester: Option<Requester>,
    run_id: String,
    session_id: String,
}

/// A person of a chat.
#[derive(Debug, Serialize, ToSchema)]
struct Requester {
    channel: String,
    /// For people; chosen by its bearer.
    display: String,
    user_id: String,
}

/// What is decided of an approval.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ChatApprovalDecided)]
pub(super) struct DecideAnswer {
    /// `decided`, or `open` while a call is not.
    state: &'static str,
    /// By call id.
    decisions: BTreeMap<String, Choice>,
}

/// What chats are asked for, with the arguments of the calls.
#[utoipa::path(get, path = "/approvals", operation_id = "list_approvals", tag = "gateway", security(("bearer_auth" = [])), responses(
    (status = 200, body = ListAnswer),
    (status = 401, body = ErrorAnswer),
    (status = 502, body = ErrorAnswer),
))]
pub(super) async fn list(State(parts): State<Arc<Parts>>) -> Result<Json<ListAnswer>, ApiError> {
    let now = now_ms();
    let open = parts.store.unfinished_approvals().await?;
    let open = open.into_iter().filter(|approval| approval.stage == Stage::Open && approval.expires_at > now);
    Ok(Json(ListAnswer { approvals: open.map(Entry::of).collect() }))
}

/// Decides as the holder of the token.
#[utoipa::path(post, path = "/approvals/{id}", operation_id = "decide_approval", tag = "gateway", security(("bearer_auth" = [])), params(("id" = String, Path)), request_body = DecideRequest, responses(
    (status = 200, body = DecideAnswer),
    (status = 400, body = ErrorAnswer),
    (status = 401, body = ErrorAnswer),
    (status = 404, body = ErrorAnswer),
    (status = 409, description = "Decided already", body = ErrorAnswer),
    (status = 410, description = "Too late", body = ErrorAnswer),
    (status = 502, body = ErrorAnswer),
))]
pub(super) async fn decide(
    State(parts): State<Arc<Parts>>,
    Path(id): Path<String>,
    body: Result<Json<DecideRequest>, JsonRejection>,
) -> Result<Json<DecideAnswer>, ApiError> {
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
            Ok(Json(DecideAnswer { state: state(&approval), decisions: decisions(&approval) }))
        }
        Resolution::Refused(refused) => Err(refusal(&refused)),
    }
}

fn state(approval: &Approval) -> &'static str {
    if approval.undecided().is_empty() { "decided" } else { "open" }
}

fn decisions(approval: &Approval) -> BTreeMap<String, Choice> {
    let choice = |allow: bool| if allow { Choice::Allow } else { Choice::Deny };
    approval.decisions.iter().map(|(id, decision)| (id.clone(), choice(decision.allow))).collect()
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

impl Entry {
    fn of(approval: Approval) -> Self {
        let requester = approval.requester.as_ref().map(|claim| Requester {
            channel: claim.channel().to_owned(),
            display: claim.sender.name().to_owned(),
            user_id: claim.user().to_owned(),
        });
        Self {
            decisions: decisions(&approval),
            calls: approval.calls,
            expires_at: approval.expires_at,
            id: approval.id,
            requester,
            run_id: approval.run_id,
            session_id: approval.session_id,
        }
    }
}
