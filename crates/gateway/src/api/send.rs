//! `POST /send`: a text into a chat, and perhaps a run that answers there.
//!
//! Everything that the request starts is one commit under its key. The answer waits a moment for the platform; what is
//! not delivered by then is delivered later, and the answer says so.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{State, rejection::JsonRejection},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use stakpak_client::CallerContextInput;
use stakpak_protocol::{AutoApproveOverride, RunOverrides};
use tokio::time::timeout;
use uuid::Uuid;

use super::ApiError;
use crate::{
    Address, DeliveryContext, StoreError,
    clock::{millis, now_ms},
    dispatcher::{SessionError, SessionRequest},
    router::resolve_routing_key,
    runtime::Parts,
    store::{Batch, BatchKind, NewInbox, NewSend, PartState, Payload, RunOptions, SendBegun},
    targeting::parse_target,
};

/// How long the answer waits for the platform.
const PATIENCE: Duration = Duration::from_secs(8);
const MAX_PROMPT: usize = 32 * 1024;
const MAX_CONTEXT_ITEMS: usize = 50;
const MAX_CONTEXT_NAME: usize = 256;
const MAX_CONTEXT_ITEM: usize = 10 * 1024;
const MAX_TOTAL: usize = 100 * 1024;

/// The body.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SendRequest {
    channel: String,
    target: Value,
    text: String,
    #[serde(default)]
    context: Option<Value>,
    #[serde(default)]
    interactive: Option<Interactive>,
    /// Not built yet, and refused.
    #[serde(default)]
    attachments: Option<Value>,
}

/// A run that answers in the chat.
#[derive(Debug, Serialize, Deserialize)]
struct Interactive {
    prompt: String,
    #[serde(default)]
    caller_context: Vec<CallerContextInput>,
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    sandbox: Option<bool>,
    #[serde(default)]
    profile: Option<String>,
    #[serde(default)]
    max_turns: Option<u64>,
    #[serde(default)]
    auto_approve: Option<AutoApproveOverride>,
    /// Not built yet, and refused: leaving them out silently would change what runs.
    #[serde(default)]
    timeout: Option<Value>,
    #[serde(default)]
    limits: Option<Value>,
    #[serde(default)]
    session: Option<String>,
    #[serde(default)]
    cwd: Option<Value>,
}

pub(super) async fn send(
    State(parts): State<Arc<Parts>>,
    headers: HeaderMap,
    body: Result<Json<SendRequest>, JsonRejection>,
) -> Result<Response, ApiError> {
    let Json(body) = body.map_err(|error| invalid("invalid_request", error.body_text()))?;
    let address =
        parse_target(&body.channel, &body.target).map_err(|error| invalid("invalid_target", error.to_string()))?;
    if !parts.channels.iter().any(|channel| channel.id() == address.channel) {
        let message = format!("channel {} is not enabled", address.channel);
        return Err(ApiError::new(StatusCode::NOT_FOUND, "channel_not_found", message));
    }
    if body.text.trim().is_empty() {
        return Err(invalid("invalid_request", "text: must not be blank"));
    }
    if body.attachments.is_some() {
        return Err(invalid("invalid_request", "attachments: not supported by this version; leave them out"));
    }
    if let Some(interactive) = &body.interactive {
        check(&parts, interactive)?;
    }
    let idem_key = idempotency_key(&headers)?;
    let run = body.interactive.as_ref().map(|interactive| batch(&parts, &address, interactive));
    let session_id = match &run {
        Some(batch) => Some(
            parts.dispatcher.worker().session(SessionRequest { batch, refresh: false }).await.map_err(no_session)?,
        ),
        None => None,
    };
    let begun = parts.store.begin_send(new_send(&parts, &body, &address, idem_key, run.as_ref())?, now_ms()).await?;
    let SendBegun::Delivery { id, .. } = begun else {
        let message = "this Idempotency-Key was used with another body";
        return Err(ApiError::new(StatusCode::CONFLICT, "idempotency_key_reused", message));
    };
    parts.deliveries.wake(&address.chat_key());
    if let Some(batch) = &run {
        parts.dispatcher.wake(&batch.routing_key);
    }
    let states = wait(&parts, &id).await?;
    answer(&id, &address, session_id, &states)
}

fn invalid(code: &'static str, message: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, code, message)
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(key) = headers.get("idempotency-key") else { return Ok(None) };
    let key = key.to_str().ok().filter(|key| (1..=255).contains(&key.len()));
    key.map(|key| Some(key.to_owned())).ok_or_else(|| {
        invalid("invalid_idempotency_key", "Idempotency-Key must be 1 to 255 printable ASCII characters")
    })
}

fn check(parts: &Parts, interactive: &Interactive) -> Result<(), ApiError> {
    if parts.config.server.token.expose().is_empty() {
        let message = "interactive sends need a configured bearer token";
        return Err(ApiError::new(StatusCode::FORBIDDEN, "interactive_auth_required", message));
    }
    if interactive.prompt.trim().is_empty() || interactive.prompt.len() > MAX_PROMPT {
        return Err(invalid("invalid_interactive_prompt", "interactive.prompt: 1 byte to 32 KiB, not blank"));
    }
    if interactive.timeout.is_some() {
        let message = "interactive.timeout: not supported by this version; leave it out";
        return Err(invalid("invalid_interactive_timeout", message));
    }
    let new_session = interactive.session.as_deref().is_some_and(|session| session != "chat");
    if new_session || interactive.limits.is_some() || interactive.cwd.is_some() {
        let message =
            "interactive.session = \"new\", .limits and .cwd are not supported by this version; leave them out";
        return Err(invalid("invalid_request", message));
    }
    let context = &interactive.caller_context;
    let bad = |item: &CallerContextInput| {
        item.name.trim().is_empty() || item.name.len() > MAX_CONTEXT_NAME || item.content.len() > MAX_CONTEXT_ITEM
    };
    let total = interactive.prompt.len() + context.iter().map(|item| item.content.len()).sum::<usize>();
    if context.len() > MAX_CONTEXT_ITEMS || context.iter().any(bad) || total > MAX_TOTAL {
        let message = "interactive.caller_context: at most 50 items with a name, 10 KiB each, 100 KiB with the prompt";
        return Err(invalid("invalid_interactive_caller_context", message));
    }
    Ok(())
}

/// The prompt as a message of the conversation at this address.
fn batch(parts: &Parts, address: &Address, interactive: &Interactive) -> Batch {
    let overrides = RunOverrides {
        profile: interactive.profile.clone(),
        max_turns: interactive.max_turns,
        auto_approve: interactive.auto_approve.clone(),
        ..RunOverrides::default()
    };
    let options = RunOptions {
        title: interactive.title.clone(),
        model: interactive.model.clone(),
        sandbox: interactive.sandbox,
        context: interactive.caller_context.clone(),
        overrides: (overrides != RunOverrides::default()).then_some(overrides),
        files: Vec::new(),
    };
    Batch {
        id: Uuid::new_v4().to_string(),
        kind: BatchKind::Api,
        routing_key: resolve_routing_key(parts.config.router_config(), address),
        address: address.clone(),
        sender: None,
        payload: Payload { text: interactive.prompt.clone(), options, ..Payload::default() },
        context: None,
        attempts: 0,
        posted: false,
    }
}

fn new_send(
    parts: &Parts,
    body: &SendRequest,
    address: &Address,
    idem_key: Option<String>,
    run: Option<&Batch>,
) -> Result<NewSend, ApiError> {
    let delivery_id = Uuid::new_v4().to_string();
    let canonical = serde_json::to_vec(body).map_err(StoreError::from)?;
    let worker = parts.dispatcher.worker();
    let mut texts = worker.parts(address, &format!("send:{delivery_id}:text"), &body.text);
    let check_output = body.context.as_ref().and_then(|context| context["check_output"].as_str());
    if let Some(output) = check_output.filter(|output| run.is_some() && !output.trim().is_empty()) {
        texts.extend(worker.parts(address, &format!("send:{delivery_id}:check"), output));
    }
    let prompt = run.map(|batch| {
        let payload = serde_json::to_string(&batch.payload).map_err(StoreError::from)?;
        Ok::<_, StoreError>(NewInbox {
            channel: address.channel.to_string(),
            account: "api".to_owned(),
            event_key: delivery_id.clone(),
            kind: "api",
            state: "accepted",
            routing_key: batch.routing_key.clone(),
            address: Some(address.clone()),
            sender: None,
            order_key: now_ms(),
            message_id: None,
            payload,
        })
    });
    // The one-shot context belongs to the run of this request, or else to the next message.
    let ttl = millis(parts.config.gateway.delivery_context_ttl);
    let context = body.context.clone().map(|context| (address.clone(), DeliveryContext(context), now_ms() + ttl));
    Ok(NewSend {
        idem_key,
        body_hash: Sha256::digest(canonical).iter().map(|byte| format!("{byte:02x}")).collect(),
        delivery_id,
        parts: texts,
        prompt: prompt.transpose()?,
        context,
    })
}

fn no_session(error: SessionError) -> ApiError {
    match error {
        SessionError::Store(error) => error.into(),
        SessionError::Server(error) => {
            let message = format!("the agent server made no session: {error}; nothing was sent");
            ApiError::new(StatusCode::BAD_GATEWAY, "session_create_failed", message)
        }
    }
}

/// The states of the delivery's texts, once each has come to an end or the patience has.
async fn wait(parts: &Parts, delivery_id: &str) -> Result<Vec<PartState>, ApiError> {
    let mut settled = parts.deliveries.worker().settled();
    let prefix = format!("send:{delivery_id}:");
    let all_ended = async {
        loop {
            settled.borrow_and_update();
            let states = parts.store.part_states(prefix.clone()).await?;
            if states.iter().all(|part| matches!(part.state.as_str(), "sent" | "failed" | "unknown")) {
                return Ok::<_, StoreError>(());
            }
            if settled.changed().await.is_err() {
                return Ok(());
            }
        }
    };
    if let Ok(ended) = timeout(PATIENCE, all_ended).await {
        ended?;
    }
    Ok(parts.store.part_states(prefix).await?)
}

fn answer(
    delivery_id: &str,
    address: &Address,
    session_id: Option<String>,
    states: &[PartState],
) -> Result<Response, ApiError> {
    if let Some(failed) = states.iter().find(|part| matches!(part.state.as_str(), "failed" | "unknown")) {
        let reason = failed.error.clone().unwrap_or_else(|| "refused by the platform".to_owned());
        return Err(ApiError::new(StatusCode::BAD_GATEWAY, "delivery_failed", reason));
    }
    let delivered = states.iter().all(|part| part.state == "sent");
    let mut body = json!({ "delivered": delivered, "delivery_id": delivery_id });
    if let Some(session_id) = session_id {
        body["session_id"] = session_id.into();
    }
    if let Some(thread) = &address.thread {
        body["thread_id"] = thread.as_str().into();
    }
    if let Some(message_id) = states.last().and_then(|part| part.message_id.clone()) {
        body["message_id"] = message_id.into();
    }
    if delivered {
        return Ok(Json(body).into_response());
    }
    body["queued"] = true.into();
    Ok((StatusCode::ACCEPTED, Json(body)).into_response())
}
