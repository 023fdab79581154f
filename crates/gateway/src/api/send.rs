//! `POST /send`: a text into a chat, and perhaps a run that answers there.
//!
//! Everything that the request starts is one commit under its key. The answer waits a moment for the platform; what is
//! not delivered by then is delivered later, and the answer says so. A run starts when the texts before it are sent, one in
//! a session of its own at the latest when the moment is over; if one is refused for good before, nothing is run.

mod request;
mod turns;

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::{State, rejection::BytesRejection},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use stakpak_client::{ClientError, ErrorCode};
use tokio::time::timeout;
use utoipa::ToSchema;
use uuid::Uuid;

pub(super) use self::request::MAX_BODY;
pub(crate) use self::turns::Turns;
use self::{
    request::{File, Interactive, SendRequest, Session},
    turns::Turn,
};
use super::{ApiError, ErrorAnswer, deliveries};
use crate::{
    Address, Channel, DeliveryContext, StoreError,
    clock::{millis, now_ms},
    dispatcher::SessionError,
    router::resolve_routing_key,
    runtime::Parts,
    store::{Batch, BatchKind, Content, Delivery, KnownSend, NewInbox, NewPart, NewSend, Payload, PromptState},
    targeting::located,
};

/// What became of the request so far.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SendAnswer)]
pub(super) struct Answer {
    delivered: bool,
    /// Delivery and run go on.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    queued: bool,
    delivery_id: String,
    /// Where the run takes place.
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thread_id: Option<String>,
    /// The platform's id of the first message.
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<String>,
}

/// Sends a text into a chat, and perhaps starts a run that answers there.
#[utoipa::path(post, path = "/send", operation_id = "send", tag = "gateway", security(("bearer_auth" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 printable ASCII characters; holds for 24 hours")),
    request_body = SendRequest, responses(
    (status = 200, description = "Delivered", body = Answer),
    (status = 202, description = "Not confirmed by the platform within 8 seconds; goes on", body = Answer),
    (status = 400, body = ErrorAnswer),
    (status = 401, body = ErrorAnswer),
    (status = 403, description = "`interactive` needs a configured token", body = ErrorAnswer),
    (status = 404, description = "The platform is not enabled", body = ErrorAnswer),
    (status = 409, body = ErrorAnswer),
    (status = 413, body = ErrorAnswer),
    (status = 502, description = "Refused by the platform or the agent server; nothing is run", body = ErrorAnswer),
    (status = 503, body = ErrorAnswer),
))]
pub(super) async fn send(
    State(parts): State<Arc<Parts>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let request = SendRequest::read(&headers, body)?;
    let address = request.address()?;
    if parts.draining.is_cancelled() {
        let message = "the gateway is stopping; try again in a moment";
        return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "dispatcher_unavailable", message));
    }
    let key = idempotency_key(&headers)?;
    let id = begin(&parts, &request, &address, key).await?;
    let own_session = request.interactive.as_ref().is_some_and(|interactive| interactive.session == Session::New);
    answer(&parts, &id, own_session).await
}

/// Whether a request that is not known yet can be taken at all.
fn accept<'a>(
    parts: &'a Parts,
    request: &SendRequest,
    address: &Address,
) -> Result<(&'a Arc<dyn Channel>, Vec<File>), ApiError> {
    let channel = channel_of(parts, address)?;
    let files = request.files(&**channel)?;
    if request.interactive.is_some() && parts.config.server.token.expose().is_empty() {
        let message = "interactive sends need a configured bearer token";
        return Err(ApiError::new(StatusCode::FORBIDDEN, "interactive_auth_required", message));
    }
    Ok((channel, files))
}

fn invalid(code: &'static str, message: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, code, message)
}

fn channel_of<'a>(parts: &'a Parts, address: &Address) -> Result<&'a Arc<dyn Channel>, ApiError> {
    parts.channels.iter().find(|channel| channel.id() == address.channel).ok_or_else(|| {
        let message = format!("channel {} is not enabled", address.channel);
        ApiError::new(StatusCode::NOT_FOUND, "channel_not_found", message)
    })
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(key) = headers.get("idempotency-key") else { return Ok(None) };
    let key = key.to_str().ok().filter(|key| (1..=255).contains(&key.len()));
    key.map(|key| Some(key.to_owned())).ok_or_else(|| {
        invalid("invalid_idempotency_key", "Idempotency-Key must be 1 to 255 printable ASCII characters")
    })
}

/// The delivery of the request: a new one, or that of an earlier request with the same key and body.
async fn begin(
    parts: &Parts,
    request: &SendRequest,
    address: &Address,
    key: Option<String>,
) -> Result<String, ApiError> {
    let body_hash = request.hash()?;
    let _turn = match &key {
        Some(key) => Some(turn(parts, key).await?),
        None => None,
    };
    if let Some(key) = &key {
        match parts.store.known_send(key, &body_hash, now_ms()).await? {
            KnownSend::New => {}
            KnownSend::Delivery(id) => return Ok(id),
            KnownSend::OtherBody => return Err(accept(parts, request, address).err().unwrap_or_else(reused)),
        }
    }
    let (channel, files) = accept(parts, request, address)?;
    let address = &located(&**channel, address.clone()).await;
    let delivery_id = Uuid::new_v4().to_string();
    let prompt = match &request.interactive {
        Some(interactive) => Some(prompt(parts, address, interactive, &delivery_id).await?),
        None => None,
    };
    let routing_key = prompt.as_ref().map(|(row, _)| row.routing_key.clone());
    let expires_at = now_ms() + millis(parts.config.gateway.delivery_context_ttl);
    let send = NewSend {
        idem_key: key,
        body_hash,
        parts: messages(parts, request, address, files, &delivery_id),
        delivery_id: delivery_id.clone(),
        address: address.clone(),
        prompt,
        context: request.context.clone().map(|context| (DeliveryContext(context), expires_at)),
    };
    let id = match parts.store.begin_send(send, now_ms()).await? {
        KnownSend::New => delivery_id,
        KnownSend::Delivery(id) => id,
        KnownSend::OtherBody => return Err(reused()),
    };
    tracing::info!(delivery_id = id, target = address.target_key(), routing_key, "a program sends into a chat");
    parts.deliveries.wake(&address.chat_key());
    Ok(id)
}

async fn turn<'a>(parts: &'a Parts, key: &str) -> Result<Turn<'a>, ApiError> {
    parts.turns.take(key, parts.send_patience).await.ok_or_else(|| {
        let message = "a request with this Idempotency-Key is being handled";
        ApiError::new(StatusCode::CONFLICT, "idempotency_in_progress", message).retry_after(1)
    })
}

fn reused() -> ApiError {
    let message = "this Idempotency-Key was used with another body";
    ApiError::new(StatusCode::CONFLICT, "idempotency_key_reused", message)
}

/// What the chat is shown, in its order.
fn messages(
    parts: &Parts,
    request: &SendRequest,
    address: &Address,
    files: Vec<File>,
    delivery_id: &str,
) -> Vec<NewPart> {
    let worker = parts.dispatcher.worker();
    let text = |key: &str, text: &str| worker.parts(address, &format!("send:{delivery_id}:{key}"), text);
    let mut messages = text("text", &request.text);
    let output = request.context.as_ref().and_then(|context| context["check_output"].as_str());
    if let Some(output) = output.filter(|output| request.interactive.is_some() && !output.trim().is_empty()) {
        messages.extend(text("check", output));
    }
    for (index, file) in files.into_iter().enumerate() {
        match file {
            File::Text { name, text: content } => {
                messages.extend(text(&format!("file:{index}"), &format!("{name}\n\n{content}")));
            }
            File::Upload { name, base64 } => messages.push(NewPart {
                idem_key: format!("send:{delivery_id}:file:{index}"),
                address: address.clone(),
                content: Content::File { name, caption: None, base64 },
            }),
        }
    }
    messages
}

/// The prompt as a message of its conversation, with the session it runs in.
async fn prompt(
    parts: &Parts,
    address: &Address,
    interactive: &Interactive,
    delivery_id: &str,
) -> Result<(NewInbox, String), ApiError> {
    let routing_key = routing_key(parts, address, interactive.session, delivery_id);
    let payload = Payload { text: interactive.prompt.clone(), options: interactive.options()?, ..Payload::default() };
    let payload = parts.dispatcher.worker().kept.hide(payload, address, now_ms()).await;
    let row = NewInbox {
        channel: address.channel.to_string(),
        account: "api".to_owned(),
        event_key: delivery_id.to_owned(),
        kind: "api",
        state: "awaiting",
        routing_key: routing_key.clone(),
        address: Some(address.clone()),
        sender: None,
        order_key: now_ms(),
        message_id: None,
        payload: serde_json::to_string(&payload).map_err(StoreError::from)?,
    };
    if let Some(cwd) = &interactive.cwd {
        check_directory(parts, &routing_key, cwd).await?;
    }
    let batch = Batch {
        id: delivery_id.to_owned(),
        kind: BatchKind::Api,
        address: address.clone(),
        sender: None,
        payload,
        vaults: Vec::new(),
        context: None,
        message_id: None,
        attempts: 0,
        model: None,
        session: parts.store.get(&routing_key).await?,
        request: None,
        routing_key,
    };
    let worker = parts.dispatcher.worker();
    let session_id = worker.session(&batch).await.map_err(no_session)?;
    Ok((row, session_id))
}

/// A conversation of its own where the request asks for it, and on Slack, where the first message opens a thread.
fn routing_key(parts: &Parts, address: &Address, session: Session, delivery_id: &str) -> String {
    let of_chat = resolve_routing_key(parts.config.router_config(), address);
    let is_bound = of_chat != format!("{}:group:{}", address.channel, address.chat);
    let opens_thread = address.beneath(delivery_id).is_some() && !is_bound;
    if session == Session::New || opens_thread { format!("{of_chat}#{delivery_id}") } else { of_chat }
}

/// A session stays in the directory it was made in.
async fn check_directory(parts: &Parts, routing_key: &str, cwd: &str) -> Result<(), ApiError> {
    let Some(known) = parts.store.get(routing_key).await? else { return Ok(()) };
    match parts.dispatcher.worker().client.get_session(&known.session_id).await {
        Ok(session) if session.cwd.as_deref() == Some(cwd) => Ok(()),
        Ok(session) => {
            let message = format!(
                "interactive.cwd: the session of this chat works in {}; leave it out, or use session = \"new\"",
                session.cwd.as_deref().unwrap_or("the server's directory")
            );
            Err(invalid("invalid_request", message))
        }
        // It is made anew, there.
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => {
            let message = format!("the session of this chat cannot be read: {error}; nothing was sent");
            Err(ApiError::new(StatusCode::BAD_GATEWAY, "session_lookup_failed", message))
        }
    }
}

fn no_session(error: SessionError) -> ApiError {
    match error {
        SessionError::Store(error) => error.into(),
        SessionError::Server(ClientError::Server(error)) if error.code == ErrorCode::InvalidRequest => {
            invalid("invalid_request", format!("interactive: {error}; nothing was sent"))
        }
        SessionError::Server(error) => {
            let message = format!("the agent server made no session: {error}; nothing was sent");
            ApiError::new(StatusCode::BAD_GATEWAY, "session_create_failed", message)
        }
    }
}

/// What became of the delivery, once each of its messages has come to an end or the patience has. A run in a session of its
/// own does not wait longer for its texts: a chat that is slow delays what is read there, not what is done.
async fn answer(parts: &Parts, id: &str, own_session: bool) -> Result<Response, ApiError> {
    let mut settled = parts.deliveries.worker().settled();
    let all_ended = async {
        loop {
            settled.borrow_and_update();
            let delivery = deliveries::find(parts, id).await?;
            if !delivery.parts.iter().any(|part| matches!(part.state.as_str(), "queued" | "sending")) {
                return Ok::<_, ApiError>(delivery);
            }
            if settled.changed().await.is_err() {
                return Ok(delivery);
            }
        }
    };
    let delivery = match timeout(parts.send_patience, all_ended).await {
        Ok(ended) => ended?,
        Err(_) => {
            if own_session {
                let released = parts.store.release_prompt(id).await?;
                parts.deliveries.worker().release(released);
            }
            deliveries::find(parts, id).await?
        }
    };
    answer_of(id, delivery)
}

fn answer_of(id: &str, delivery: Delivery) -> Result<Response, ApiError> {
    let state = deliveries::state(&delivery.parts);
    if delivery.prompt == Some(PromptState::Refused) {
        let message = format!("the agent server refused the run; the chat was told why (delivery {id})");
        return Err(ApiError::new(StatusCode::BAD_GATEWAY, "interactive_start_failed", message));
    }
    // Also once the text was sent after all: nothing was run, and nothing will be.
    let was_dropped = delivery.prompt == Some(PromptState::Dropped);
    if was_dropped || state == "failed" && delivery.prompt != Some(PromptState::Taken) {
        let reason = deliveries::reason(&delivery.parts).unwrap_or("refused by the platform");
        let message = format!("{reason} (delivery {id})");
        return Err(ApiError::new(StatusCode::BAD_GATEWAY, "delivery_failed", message));
    }
    let delivered = state == "sent";
    let body = Answer {
        delivered,
        queued: !delivered,
        delivery_id: id.to_owned(),
        session_id: delivery.session_id,
        thread_id: delivery.address.thread,
        message_id: delivery.parts.into_iter().next().and_then(|part| part.message_id),
    };
    let status = if delivered { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, Json(body)).into_response())
}
