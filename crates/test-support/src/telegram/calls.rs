//! One call of the bot: what stands in its way, what it does, what is answered.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{Path, Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use futures_util::stream;
use serde_json::{Value, json};

use super::{
    BotApi, Shared,
    faults::SendFault,
    files,
    params::{Params, number},
    record::BotCall,
    send, updates,
    world::{World, chat_json, user_json},
};

/// What became of a call.
pub(super) type Outcome = Result<Value, Refusal>;

/// A call that was not done.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    description: String,
    parameters: Value,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, description: impl Into<String>) -> Self {
        Self { status, description: description.into(), parameters: Value::Null }
    }

    pub(super) fn bad(reason: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, format!("Bad Request: {reason}"))
    }

    pub(super) fn with(self, parameters: Value) -> Self {
        Self { parameters, ..self }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self { status, description, parameters } = self;
        let mut body = json!({ "description": description, "error_code": status.as_u16(), "ok": false });
        if !parameters.is_null() {
            body["parameters"] = parameters;
        }
        (status, Json(body)).into_response()
    }
}

pub(super) async fn call(
    State(shared): State<Arc<Shared>>,
    Path((_bot, method)): Path<(String, String)>,
    request: Request,
) -> Response {
    let Some(params) = Params::read(request).await else {
        return Refusal::bad("can't parse the request").into_response();
    };
    let method = method.to_ascii_lowercase();
    let latency = shared.world().latency;
    if latency > Duration::ZERO {
        tokio::time::sleep(latency).await;
    }
    let fault = {
        let mut world = shared.world();
        world.calls.push(BotCall { method: method.clone(), params: params.values.clone() });
        if world.revoked {
            return Refusal::new(StatusCode::UNAUTHORIZED, "Unauthorized").into_response();
        }
        if world.without.contains(&method) {
            return Refusal::new(StatusCode::NOT_FOUND, "Not Found").into_response();
        }
        world.faults.take(&method, params.number("chat_id"))
    };
    let refused = match fault {
        Some(SendFault::RateLimited(seconds)) => Some(
            Refusal::new(StatusCode::TOO_MANY_REQUESTS, format!("Too Many Requests: retry after {seconds}"))
                .with(json!({ "retry_after": seconds })),
        ),
        Some(SendFault::Refused) => Some(Refusal::bad("chat not found")),
        Some(SendFault::Blocked) => Some(Refusal::new(StatusCode::FORBIDDEN, "Forbidden: bot was blocked by the user")),
        Some(SendFault::BadGateway) => Some(bad_gateway()),
        _ => None,
    };
    if let Some(refused) = refused {
        shared.change();
        return refused.into_response();
    }
    let outcome = match method.as_str() {
        "getupdates" => updates::get(&shared, &params).await,
        _ => done(&mut shared.world(), &method, &params),
    };
    shared.change();
    match fault {
        Some(SendFault::AnswerLost) => std::future::pending().await,
        Some(SendFault::AnswerCut) => cut(),
        Some(SendFault::BadGatewayAfter) => bad_gateway().into_response(),
        _ => match outcome {
            Ok(result) => Json(json!({ "ok": true, "result": result })).into_response(),
            Err(refusal) => refusal.into_response(),
        },
    }
}

fn done(world: &mut World, method: &str, params: &Params) -> Outcome {
    match method {
        "getme" => {
            let mut me = user_json(BotApi::BOT);
            me["can_join_groups"] = true.into();
            me["can_read_all_group_messages"] = true.into();
            me["supports_inline_queries"] = false.into();
            Ok(me)
        }
        "deletewebhook" => {
            world.webhook = false;
            Ok(true.into())
        }
        "getwebhookinfo" => {
            let url = if world.webhook { "https://elsewhere.example/hook" } else { "" };
            Ok(json!({ "has_custom_certificate": false, "pending_update_count": 0, "url": url }))
        }
        "setmycommands" => send::commands(world, params),
        "sendmessage" => send::message(world, params),
        "senddocument" => send::document(world, params),
        "editmessagetext" => send::edit(world, params),
        "setmessagereaction" => send::reaction(world, params),
        "sendchataction" => send::action(world, params),
        "answercallbackquery" => send::answer(world, params),
        "getchat" => {
            let (chat, _) = place(world, params)?;
            Ok(chat_json(chat, false))
        }
        "getfile" => files::get(world, params),
        _ => Err(Refusal::new(StatusCode::NOT_FOUND, "Not Found")),
    }
}

fn bad_gateway() -> Refusal {
    Refusal::new(StatusCode::BAD_GATEWAY, "Bad Gateway")
}

/// The connection ends within the answer.
fn cut() -> Response {
    let begun = [Ok(Bytes::from_static(b"{\"ok\":")), Err(std::io::Error::other("cut"))];
    Response::new(Body::from_stream(stream::iter(begun)))
}

/// The chat of a call, and the topic if it has one; refused as the real server refuses.
pub(super) fn place(world: &mut World, params: &Params) -> Result<(i64, Option<i64>), Refusal> {
    let named = || world.names.get(&params.text("chat_id")?.to_lowercase()).copied();
    let id = params.number("chat_id").or_else(named).ok_or_else(|| Refusal::bad("chat not found"))?;
    let chat = world.chat(id);
    if chat.blocked {
        return Err(Refusal::new(StatusCode::FORBIDDEN, "Forbidden: bot was blocked by the user"));
    }
    if let Some(to) = chat.moved_to {
        let refusal = Refusal::bad("group chat was upgraded to a supergroup chat");
        return Err(refusal.with(json!({ "migrate_to_chat_id": to })));
    }
    let thread = params.number("message_thread_id");
    if thread.is_some_and(|thread| !chat.topics.contains(&thread)) {
        return Err(Refusal::bad("message thread not found"));
    }
    Ok((id, thread))
}

/// The message that a new one answers.
pub(super) fn replied(world: &mut World, chat: i64, params: &Params) -> Result<Option<i64>, Refusal> {
    let reply = params.get("reply_parameters");
    let Some(id) = number(&reply["message_id"]) else { return Ok(None) };
    let found = world.chat(chat).message(id).is_some();
    if !found && reply["allow_sending_without_reply"] != true {
        return Err(Refusal::bad("message to be replied not found"));
    }
    Ok(found.then_some(id))
}
