//! Messages: post one, read the history.

use axum::{extract::State, response::Response};
use serde::Deserialize;
use stakpak_agent_core::{
    JournalError, Record, RunAccepted, SessionRow,
    session::{Reply, Request},
};
use stakpak_protocol::{
    CallerContext, ErrorBody, Message, MessageContent, MessageType, MessagesResponse, PostMessageRequest,
    PostMessageResponse, Role, SessionId,
};
use utoipa::IntoParams;

use super::sessions::visible_messages;
use crate::{
    ApiError, Server,
    extract::{Json, Path, Query},
    idempotency::{Begun, Keep, Key},
    prompt, validate,
};

const DEFAULT_LIMIT: u64 = 100;
const MAX_LIMIT: u64 = 1_000;

/// Which messages to read.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Page size; 100 if absent, above 1000 counts as 1000.
    limit: Option<u64>,
    /// Counted from the oldest.
    offset: Option<u64>,
}

/// Accepts a message: starts a run, or gives the active one a steering or follow-up.
#[utoipa::path(post, path = "/v1/sessions/{session_id}/messages", operation_id = "post_message", tag = "messages", security(("bearer_auth" = [])),
    params(("session_id" = SessionId, Path),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 printable ASCII characters")),
    request_body = PostMessageRequest, responses(
    (status = 200, body = PostMessageResponse),
    (status = 400, body = ErrorBody),
    (status = 401, body = ErrorBody),
    (status = 403, body = ErrorBody),
    (status = 404, body = ErrorBody),
    (status = 408, body = ErrorBody),
    (status = 409, body = ErrorBody),
    (status = 413, body = ErrorBody),
    (status = 415, body = ErrorBody),
    (status = 422, body = ErrorBody),
    (status = 429, body = ErrorBody),
    (status = 500, body = ErrorBody),
    (status = 503, body = ErrorBody),
))]
pub(super) async fn post(
    State(server): State<Server>,
    Path(id): Path<SessionId>,
    key: Key,
    Json(body): Json<PostMessageRequest>,
) -> Result<Response, ApiError> {
    let claim = match server.begin(key, &body, Keep::Month).await? {
        Begun::Replay(response) => return Ok(response),
        Begun::Go(claim) => claim,
    };
    let session = server.writable_session(id).await?;
    let context = body.context.clone().unwrap_or_default();
    validate::message(&body.message)?;
    validate::context(&context)?;
    let context = server.hidden(id, context).await;
    let accepted = server.accept(&body, &session)?;
    let kind = body.message_type.unwrap_or_default();
    let (request, ignored) = match kind {
        MessageType::Message => {
            let first = session.run_first_seq == 0;
            let message = if first || !context.is_empty() {
                prompt::with_context(body.message, accepted.cwd.as_ref(), &context)
            } else {
                body.message
            };
            (Request::Post { run_id: body.run_id, accepted: Box::new(accepted), message }, Vec::new())
        }
        MessageType::Steering | MessageType::FollowUp => {
            let ignored = unapplied_options(&body);
            (Request::Queue { run_id: body.run_id, kind, message: body.message }, ignored)
        }
    };
    let answer = move |reply: &Reply| match reply {
        Reply::Posted(posted) => Some(PostMessageResponse { ignored: ignored.clone(), ..posted.clone() }),
        _ => None,
    };
    let response = server.ask(id, request, claim, answer).await?;
    response.ok_or_else(ApiError::unexpected_reply)
}

/// Options that are checked and have no effect on a steering or follow-up.
fn unapplied_options(body: &PostMessageRequest) -> Vec<String> {
    let given = [
        ("model", body.model.is_some()),
        ("sandbox", body.sandbox.is_some()),
        ("context", body.context.is_some()),
        ("overrides", body.overrides.is_some()),
        ("notify_route", body.notify_route.is_some()),
        ("interactive", body.interactive.is_some()),
    ];
    given.iter().filter(|(_, given)| *given).map(|(name, _)| (*name).to_owned()).collect()
}

/// The recorded history, oldest first; index 0 is the system message once a run has begun.
#[utoipa::path(get, path = "/v1/sessions/{session_id}/messages", operation_id = "list_messages", tag = "messages", security(("bearer_auth" = [])),
    params(("session_id" = SessionId, Path), ListQuery), responses(
    (status = 200, body = MessagesResponse),
    (status = 400, body = ErrorBody),
    (status = 401, body = ErrorBody),
    (status = 404, body = ErrorBody),
    (status = 500, body = ErrorBody),
    (status = 503, body = ErrorBody),
))]
pub(super) async fn list(
    State(server): State<Server>,
    Path(id): Path<SessionId>,
    Query(query): Query<ListQuery>,
) -> Result<axum::Json<MessagesResponse>, ApiError> {
    let session = server.session(id).await?;
    let total = visible_messages(&session);
    let from = query.offset.unwrap_or(0).min(total);
    let to = from.saturating_add(query.limit.unwrap_or(DEFAULT_LIMIT).min(MAX_LIMIT)).min(total);
    let mut messages = Vec::new();
    let has_system = u64::from(session.run_first_seq > 0);
    if from < has_system && to > from {
        messages.push(server.system_message(&session).await?);
    }
    let (from, to) = (from.saturating_sub(has_system), to.saturating_sub(has_system));
    if from < to {
        for row in server.agent().journal.message_rows(id, from, to).await? {
            let damaged = JournalError::Damaged { session: id, seq: row.seq };
            let record = Record::from_row(&row).map_err(|_| damaged)?;
            messages.extend(record.message().cloned());
        }
    }
    Ok(axum::Json(MessagesResponse { messages, total, last_event_id: session.last_event_id }))
}

impl Server {
    /// The latest run's system prompt.
    async fn system_message(&self, session: &SessionRow) -> Result<Message, ApiError> {
        let damaged = JournalError::Damaged { session: session.id, seq: session.run_first_seq };
        let accepted = self.latest_run(session).await?.ok_or(damaged)?;
        Ok(Message::new(Role::System, MessageContent::Text(accepted.system_prompt)))
    }

    /// Before it is escaped: a secret must come back as it was.
    async fn hidden(&self, session: SessionId, mut context: Vec<CallerContext>) -> Vec<CallerContext> {
        for entry in &mut context {
            for text in [&mut entry.name, &mut entry.content] {
                *text = self.agent().secrets.hide(session, std::mem::take(text)).await;
            }
        }
        context
    }

    /// The latest run as it was accepted; none before the first.
    pub(super) async fn latest_run(&self, session: &SessionRow) -> Result<Option<RunAccepted>, ApiError> {
        let first = session.run_first_seq;
        if first == 0 {
            return Ok(None);
        }
        let rows = self.agent().journal.control_rows(session.id, first, first + 1).await?;
        Ok(rows.iter().find_map(|row| match Record::from_row(row) {
            Ok(Record::RunAccepted(accepted)) => Some(accepted),
            _ => None,
        }))
    }
}
