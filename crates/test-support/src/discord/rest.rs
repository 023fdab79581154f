//! The REST API: who may call, what a call is, and everything that is not about messages.
//!
//! Each call passes one gate: faults that come before its effect, the token, the rate limit; and after it the faults that
//! hide its answer.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, Query, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, patch, post, put},
};
use serde_json::{Value, json};
use std::{collections::HashMap, time::Duration};

use super::{
    FakeDiscord, Shared,
    faults::{DiscordCall, DiscordFault},
    gateway, interactions,
    limits::Standing,
    messages,
};

/// A refusal in Discord's form.
#[derive(Debug)]
pub(super) struct Refusal(pub(super) StatusCode, pub(super) u32, pub(super) &'static str);

impl Refusal {
    pub(super) const UNKNOWN_CHANNEL: Self = Self(StatusCode::NOT_FOUND, 10003, "Unknown Channel");
    pub(super) const UNKNOWN_GUILD: Self = Self(StatusCode::NOT_FOUND, 10004, "Unknown Guild");
    pub(super) const UNKNOWN_MESSAGE: Self = Self(StatusCode::NOT_FOUND, 10008, "Unknown Message");
    pub(super) const UNKNOWN_USER: Self = Self(StatusCode::NOT_FOUND, 10013, "Unknown User");
    pub(super) const UNKNOWN_WEBHOOK: Self = Self(StatusCode::NOT_FOUND, 10015, "Unknown Webhook");
    pub(super) const UNKNOWN_INTERACTION: Self = Self(StatusCode::NOT_FOUND, 10062, "Unknown interaction");
    pub(super) const ALREADY_ANSWERED: Self =
        Self(StatusCode::BAD_REQUEST, 40060, "Interaction has already been acknowledged.");
    pub(super) const MISSING_ACCESS: Self = Self(StatusCode::FORBIDDEN, 50001, "Missing Access");
    pub(super) const NOT_THE_AUTHOR: Self =
        Self(StatusCode::FORBIDDEN, 50005, "Cannot edit a message authored by another user");
    pub(super) const EMPTY_MESSAGE: Self = Self(StatusCode::BAD_REQUEST, 50006, "Cannot send an empty message");
    pub(super) const MISSING_PERMISSIONS: Self = Self(StatusCode::FORBIDDEN, 50013, "Missing Permissions");
    pub(super) const WRONG_CHANNEL_TYPE: Self =
        Self(StatusCode::BAD_REQUEST, 50024, "Cannot execute action on this channel type");
    pub(super) const THREAD_EXISTS: Self =
        Self(StatusCode::BAD_REQUEST, 160_004, "A thread has already been created for this message");
    pub(super) const INVALID_FORM: Self = Self(StatusCode::BAD_REQUEST, 50035, "Invalid Form Body");
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "message": self.2, "code": self.1 }))).into_response()
    }
}

pub(super) type Answer = Result<Response, Refusal>;

pub(super) fn ok(value: &Value) -> Response {
    Json(value).into_response()
}

pub(super) fn router(shared: Arc<Shared>) -> Router {
    let api = Router::new()
        .route("/gateway", get(gateway_url))
        .route("/gateway/bot", get(gateway_bot))
        .route("/users/@me", get(me))
        .route("/users/@me/channels", post(direct))
        .route("/oauth2/applications/@me", get(application))
        .route("/applications/@me", get(application))
        .route("/guilds/{guild}", get(guild))
        .route("/guilds/{guild}/channels", get(guild_channels))
        .route("/channels/{channel}", get(channel))
        .route("/channels/{channel}/typing", post(typing))
        .route("/channels/{channel}/threads", post(thread))
        .route("/channels/{channel}/messages", get(messages::list).post(messages::create))
        .route("/channels/{channel}/messages/{message}/threads", post(message_thread))
        .route("/channels/{channel}/messages/{message}", patch(messages::edit).get(messages::one))
        .route(
            "/channels/{channel}/messages/{message}/reactions/{emoji}/@me",
            put(messages::react).delete(messages::unreact),
        )
        .route("/interactions/{interaction}/{token}/callback", post(interactions::answer))
        .route("/webhooks/{application}/{token}", post(interactions::follow_up))
        .fallback(|| async { Refusal(StatusCode::NOT_FOUND, 0, "404: Not Found") });
    Router::new()
        .nest("/api/v10", api)
        .route("/attachments/{channel}/{attachment}/{name}", get(messages::download))
        .route("/socket", get(gateway::connect))
        .route("/resume", get(gateway::connect_to_resume))
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), gate))
        .with_state(shared)
}

/// What a call is, and the channel whose bucket it counts in.
fn classify(method: &Method, path: &str) -> (DiscordCall, u64) {
    let Some(path) = path.strip_prefix("/api/v10/") else {
        let file = path.starts_with("/attachments/");
        return (if file { DiscordCall::Download } else { DiscordCall::Other }, 0);
    };
    let parts: Vec<&str> = path.split('/').collect();
    let number = parts.get(1).and_then(|part| part.parse().ok()).unwrap_or_default();
    let call = match (method, parts.as_slice()) {
        (_, ["gateway", ..]) => DiscordCall::Gateway,
        (_, ["users", "@me"] | ["oauth2" | "applications", ..]) => DiscordCall::Identity,
        (_, ["channels", _, "messages", _, "reactions", ..]) => DiscordCall::React,
        (&Method::GET, ["channels", _, "messages", ..]) => DiscordCall::ReadMessages,
        (&Method::POST, ["channels", _, "messages"]) => DiscordCall::SendMessage,
        (&Method::PATCH, ["channels", _, "messages", _]) => DiscordCall::EditMessage,
        (_, ["channels", _, "typing"]) => DiscordCall::Typing,
        (_, ["channels" | "guilds", ..]) => DiscordCall::Channel,
        (_, ["interactions", ..]) => DiscordCall::AnswerInteraction,
        (_, ["webhooks", ..]) => DiscordCall::Followup,
        _ => DiscordCall::Other,
    };
    (call, number)
}

async fn gate(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let (call, channel) = classify(&method, uri.path());
    let fault = shared.update(|state| {
        state.record.requests.push(format!("{method} {uri}"));
        state.faults.take(call)
    });
    let socket = matches!(uri.path(), "/socket" | "/resume");
    match fault {
        Some(DiscordFault::RateLimited { retry_after, global }) => {
            shared.update(|state| state.record.rate_limited += 1);
            return too_many(retry_after, global, None);
        }
        Some(DiscordFault::Refused { status, code }) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
            return Refusal(status, code, "refused on command").into_response();
        }
        Some(DiscordFault::ServerErrorBefore) => return bad_gateway(),
        Some(DiscordFault::Slow(delay)) => tokio::time::sleep(delay).await,
        Some(DiscordFault::ServerErrorAfter | DiscordFault::AnswerLost) | None => {}
    }
    if socket || call == DiscordCall::Download {
        return next.run(request).await;
    }
    // Interactions and their webhooks carry a token of their own in the path.
    let open = matches!(call, DiscordCall::AnswerInteraction | DiscordCall::Followup)
        || (call == DiscordCall::Gateway && uri.path().ends_with("/gateway"));
    if !open && !authorized(request.headers()) {
        return Refusal(StatusCode::UNAUTHORIZED, 0, "401: Unauthorized").into_response();
    }
    let standing = shared.state().buckets.count(call, channel);
    if standing.exceeded {
        shared.update(|state| state.record.rate_limited += 1);
        return too_many(standing.reset_after, false, Some(standing));
    }
    let mut response = next.run(request).await;
    describe(response.headers_mut(), call, channel, standing);
    match fault {
        Some(DiscordFault::ServerErrorAfter) => bad_gateway(),
        Some(DiscordFault::AnswerLost) => std::future::pending().await,
        _ => response,
    }
}

fn authorized(headers: &HeaderMap) -> bool {
    let expected = format!("Bot {}", FakeDiscord::TOKEN);
    headers.get(header::AUTHORIZATION).is_some_and(|given| given.as_bytes() == expected.as_bytes())
}

fn bad_gateway() -> Response {
    (StatusCode::BAD_GATEWAY, Body::from("<html>502: Bad gateway</html>")).into_response()
}

fn too_many(retry_after: Duration, global: bool, standing: Option<Standing>) -> Response {
    let seconds = retry_after.as_secs_f64();
    let body = json!({ "message": "You are being rate limited.", "retry_after": seconds, "global": global });
    let mut response = (StatusCode::TOO_MANY_REQUESTS, Json(body)).into_response();
    let headers = response.headers_mut();
    if let Some(standing) = standing {
        describe(headers, DiscordCall::Other, 0, standing);
    }
    put_header(headers, "retry-after", &seconds.ceil().to_string());
    put_header(headers, "x-ratelimit-scope", if global { "global" } else { "user" });
    if global {
        put_header(headers, "x-ratelimit-global", "true");
    }
    response
}

fn describe(headers: &mut HeaderMap, call: DiscordCall, channel: u64, standing: Standing) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    put_header(headers, "x-ratelimit-limit", &standing.limit.to_string());
    put_header(headers, "x-ratelimit-remaining", &standing.remaining.to_string());
    put_header(headers, "x-ratelimit-reset", &format!("{:.3}", (now + standing.reset_after).as_secs_f64()));
    put_header(headers, "x-ratelimit-reset-after", &format!("{:.3}", standing.reset_after.as_secs_f64()));
    put_header(headers, "x-ratelimit-bucket", &format!("{call:?}-{channel}").to_lowercase());
}

fn put_header(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

async fn gateway_url(State(shared): State<Arc<Shared>>) -> Response {
    ok(&json!({ "url": format!("ws://{}/socket", shared.address) }))
}

async fn gateway_bot(State(shared): State<Arc<Shared>>) -> Response {
    let remaining = shared.state().settings.identifies_left;
    ok(&json!({
        "url": format!("ws://{}/socket", shared.address), "shards": 1,
        "session_start_limit": { "total": 1000, "remaining": remaining, "reset_after": 14_400_000, "max_concurrency": 1 }
    }))
}

async fn me(State(shared): State<Arc<Shared>>) -> Response {
    ok(&shared.state().world.user(FakeDiscord::BOT))
}

/// Bit 19 of the flags: the Message Content intent is enabled, for an application in less than 100 guilds.
async fn application(State(shared): State<Arc<Shared>>) -> Response {
    let state = shared.state();
    let flags: u32 = if state.settings.message_content { 1 << 19 } else { 0 };
    ok(&json!({
        "id": FakeDiscord::APPLICATION.to_string(), "name": FakeDiscord::BOT_NAME, "icon": null, "description": "",
        "bot_public": false, "bot_require_code_grant": false, "verify_key": "0", "flags": flags, "team": null,
        "summary": "", "bot": state.world.user(FakeDiscord::BOT)
    }))
}

async fn guild(State(shared): State<Arc<Shared>>, Path(guild): Path<u64>) -> Answer {
    shared.state().world.guild(guild).map(|guild| ok(&guild)).ok_or(Refusal::UNKNOWN_GUILD)
}

async fn guild_channels(State(shared): State<Arc<Shared>>, Path(guild): Path<u64>) -> Answer {
    let state = shared.state();
    let created = state.world.guild_created(guild).ok_or(Refusal::UNKNOWN_GUILD)?;
    Ok(ok(&created["channels"]))
}

async fn channel(State(shared): State<Arc<Shared>>, Path(channel): Path<u64>) -> Answer {
    let state = shared.state();
    visible(&state, channel)?;
    state.world.channel(channel).map(|channel| ok(&channel)).ok_or(Refusal::UNKNOWN_CHANNEL)
}

async fn direct(State(shared): State<Arc<Shared>>, Json(body): Json<Value>) -> Answer {
    shared.update(|state| {
        let person = super::world::id_of(&body["recipient_id"]).ok_or(Refusal::INVALID_FORM)?;
        if !state.world.people.contains_key(&person) {
            return Err(Refusal::UNKNOWN_USER);
        }
        let existing = state.world.direct(person);
        let id = existing.unwrap_or_else(|| state.world.open_channel(1, "", None, None, Some(person)));
        state.world.channel(id).map(|channel| ok(&channel)).ok_or(Refusal::UNKNOWN_CHANNEL)
    })
}

async fn thread(State(shared): State<Arc<Shared>>, Path(parent): Path<u64>, Json(body): Json<Value>) -> Answer {
    shared.update(|state| {
        visible(state, parent)?;
        let name = body["name"].as_str().filter(|name| (1..=100).contains(&name.chars().count()));
        let name = name.ok_or(Refusal::INVALID_FORM)?;
        let guild = state.world.channels.get(&parent).and_then(|channel| channel.guild);
        let id = state.world.open_channel(11, name, guild, Some(parent), None);
        let channel = state.world.channel(id).ok_or(Refusal::UNKNOWN_CHANNEL)?;
        Ok((StatusCode::CREATED, ok(&channel)).into_response())
    })
}

/// From a message, which gives the thread its id; one thread a message.
async fn message_thread(
    State(shared): State<Arc<Shared>>,
    Path((parent, message)): Path<(u64, u64)>,
    Json(body): Json<Value>,
) -> Answer {
    shared.update(|state| {
        visible(state, parent)?;
        let name = body["name"].as_str().filter(|name| (1..=100).contains(&name.chars().count()));
        let name = name.ok_or(Refusal::INVALID_FORM)?;
        let world = &mut state.world;
        let channel = world.channels.get(&parent).ok_or(Refusal::UNKNOWN_CHANNEL)?;
        if channel.kind != 0 {
            return Err(Refusal::WRONG_CHANNEL_TYPE);
        }
        if channel.threadless {
            return Err(Refusal::MISSING_PERMISSIONS);
        }
        world.message(parent, message).ok_or(Refusal::UNKNOWN_MESSAGE)?;
        if world.channels.contains_key(&message) {
            return Err(Refusal::THREAD_EXISTS);
        }
        world.open_thread(parent, message, name);
        let thread = world.channel(message).ok_or(Refusal::UNKNOWN_CHANNEL)?;
        Ok((StatusCode::CREATED, ok(&thread)).into_response())
    })
}

async fn typing(State(shared): State<Arc<Shared>>, Path(channel): Path<u64>) -> Answer {
    shared.update(|state| {
        visible(state, channel)?;
        state.record.typing.push(channel);
        Ok(StatusCode::NO_CONTENT.into_response())
    })
}

/// The channel exists and the bot may see it.
pub(super) fn visible(state: &super::State, channel: u64) -> Result<(), Refusal> {
    match state.world.channels.get(&channel) {
        None => Err(Refusal::UNKNOWN_CHANNEL),
        Some(channel) if channel.hidden => Err(Refusal::MISSING_ACCESS),
        Some(_) => Ok(()),
    }
}

/// Parameters after the question mark.
pub(super) type Parameters = Query<HashMap<String, String>>;
