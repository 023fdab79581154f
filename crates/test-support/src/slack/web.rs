//! The Web API: arguments, tokens, scopes, faults; each method is elsewhere.
//!
//! Methods that only read take no JSON, as with most of the real ones: such arguments count as absent.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, Path, RawQuery, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{any, get, post},
};
use futures_util::stream;
use serde_json::{Map, Value, json};

use super::{
    SlackApi, SlackCall, chat, conversations,
    faults::SlackFault,
    files, socket,
    workspace::{Shared, Workspace},
};

/// What a method answers.
pub(super) type Answer = Result<Value, Refusal>;

/// `ok: false`.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) error: String,
    /// More keys of the answer.
    pub(super) more: Value,
}

impl<T: Into<String>> From<T> for Refusal {
    fn from(error: T) -> Self {
        Self { error: error.into(), more: Value::Null }
    }
}

type Handler = fn(&Arc<Shared>, &Value) -> Answer;

struct Method {
    handler: Handler,
    /// Without it the call is refused; methods about conversations look at the kind instead.
    scope: Option<&'static str>,
    takes_json: bool,
}

fn method(name: &str) -> Option<Method> {
    let write = |handler: Handler, scope| Some(Method { handler, scope: Some(scope), takes_json: true });
    let read = |handler: Handler, scope| Some(Method { handler, scope, takes_json: false });
    match name {
        "apps.connections.open" => Some(Method { handler: socket::open, scope: None, takes_json: true }),
        "auth.test" => Some(Method { handler: auth_test, scope: None, takes_json: true }),
        "chat.postMessage" => write(chat::post_message, "chat:write"),
        "chat.update" => write(chat::update, "chat:write"),
        "chat.postEphemeral" => write(chat::post_ephemeral, "chat:write"),
        "reactions.add" => write(chat::add_reaction, "reactions:write"),
        "reactions.remove" => write(chat::remove_reaction, "reactions:write"),
        "conversations.history" => read(conversations::history, None),
        "conversations.replies" => read(conversations::replies, None),
        "conversations.info" => read(conversations::info, None),
        "conversations.list" | "users.conversations" => read(conversations::list, None),
        "conversations.open" => write(conversations::open, "im:write"),
        "users.info" => read(conversations::user_info, Some("users:read")),
        "files.getUploadURLExternal" => read(files::upload_url, Some("files:write")),
        "files.completeUploadExternal" => write(files::complete_upload, "files:write"),
        _ => None,
    }
}

pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/api/{method}", any(call))
        .route("/upload/{id}", post(files::upload))
        .route("/files/{id}/{name}", get(files::download))
        .route("/link", get(socket::connect))
        .layer(DefaultBodyLimit::disable())
        .with_state(shared)
}

async fn call(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let found = method(&name);
    let takes_json = found.as_ref().is_none_or(|method| method.takes_json);
    let mut arguments = arguments(&headers, query.as_deref(), &body, takes_json);
    let token = token(&headers, &mut arguments);
    let (fault, latency) = {
        let mut workspace = shared.workspace();
        let fault = workspace.faults.take(&name, arguments["channel"].as_str());
        (fault, workspace.faults.latency)
    };
    let slow = if let Some(SlackFault::Slow(slow)) = &fault { *slow } else { Duration::ZERO };
    if latency + slow > Duration::ZERO {
        tokio::time::sleep(latency + slow).await;
    }
    let record = |outcome: String| {
        let call = SlackCall { method: name.clone(), arguments: arguments.clone(), outcome };
        shared.workspace().calls.push(call);
        shared.change();
    };
    match &fault {
        Some(SlackFault::RateLimited(seconds)) => {
            record("rate limited".to_owned());
            let body = Json(json!({ "ok": false, "error": "ratelimited" }));
            return (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, seconds.to_string())], body).into_response();
        }
        Some(SlackFault::ErrorBefore) => {
            record("503 before".to_owned());
            return unavailable();
        }
        Some(SlackFault::Refused(error)) => {
            record((*error).to_owned());
            return Json(json!({ "ok": false, "error": error })).into_response();
        }
        _ => {}
    }
    let answer = match found {
        Some(method) => {
            let admitted = admit(&shared.workspace(), &name, &method, token.as_deref());
            admitted.and_then(|()| (method.handler)(&shared, &arguments))
        }
        None => Err("unknown_method".into()),
    };
    let scopes = shared.workspace().scopes.join(",");
    let (outcome, answer) = match answer {
        Ok(body) => ("ok".to_owned(), with("ok", Value::Bool(true), body)),
        Err(Refusal { error, more }) => {
            let body = with("error", error.clone().into(), more);
            (error, with("ok", Value::Bool(false), body))
        }
    };
    match fault {
        Some(SlackFault::ErrorAfter) => {
            record("503 after".to_owned());
            return unavailable();
        }
        Some(SlackFault::AnswerLost) => {
            record("answer lost".to_owned());
            return Response::new(Body::from_stream(stream::once(async {
                Err::<Bytes, _>(std::io::Error::other("the connection ends here"))
            })));
        }
        _ => record(outcome),
    }
    let mut response = Json(answer).into_response();
    if token.as_deref() == Some(SlackApi::BOT_TOKEN)
        && let Ok(scopes) = HeaderValue::from_str(&scopes)
    {
        response.headers_mut().insert("x-oauth-scopes", scopes);
    }
    response
}

fn admit(workspace: &Workspace, name: &str, method: &Method, token: Option<&str>) -> Result<(), Refusal> {
    let token = token.ok_or("not_authed")?;
    if workspace.revoked || ![SlackApi::BOT_TOKEN, SlackApi::APP_TOKEN].contains(&token) {
        return Err("invalid_auth".into());
    }
    let app_level = name == "apps.connections.open";
    if (token == SlackApi::APP_TOKEN) != app_level {
        return Err("not_allowed_token_type".into());
    }
    method.scope.map_or(Ok(()), |scope| workspace.require(scope))
}

impl Workspace {
    pub(super) fn require(&self, scope: &str) -> Result<(), Refusal> {
        if self.scopes.iter().any(|granted| granted == scope) {
            return Ok(());
        }
        let more = json!({ "needed": scope, "provided": self.scopes.join(",") });
        Err(Refusal { error: "missing_scope".to_owned(), more })
    }
}

fn auth_test(shared: &Arc<Shared>, _arguments: &Value) -> Answer {
    let url = format!("http://{}/", shared.address);
    Ok(json!({
        "url": url, "team": "Test", "user": "stakpak", "team_id": SlackApi::TEAM, "user_id": SlackApi::BOT_USER,
        "bot_id": SlackApi::BOT_ID, "is_enterprise_install": false
    }))
}

fn token(headers: &HeaderMap, arguments: &mut Value) -> Option<String> {
    let given = arguments.as_object_mut().and_then(|arguments| arguments.remove("token"));
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    bearer.map(str::to_owned).or_else(|| given?.as_str().map(str::to_owned)).filter(|token| !token.is_empty())
}

fn arguments(headers: &HeaderMap, query: Option<&str>, body: &[u8], takes_json: bool) -> Value {
    let mut arguments = Map::new();
    let mut add = |form: &[u8]| {
        for (key, value) in form_urlencoded::parse(form) {
            // Lists and objects come as JSON in a form.
            let value = match value.chars().next() {
                Some('[' | '{') => serde_json::from_str(&value).unwrap_or_else(|_| value.as_ref().into()),
                _ => Value::from(value.as_ref()),
            };
            arguments.insert(key.into_owned(), value);
        }
    };
    add(query.unwrap_or_default().as_bytes());
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if kind.starts_with("application/x-www-form-urlencoded") {
        add(body);
    } else if kind.starts_with("application/json")
        && takes_json
        && let Ok(Value::Object(given)) = serde_json::from_slice(body)
    {
        arguments.extend(given);
    }
    Value::Object(arguments)
}

/// A string argument that must be there.
pub(super) fn required<'a>(arguments: &'a Value, key: &str) -> Result<&'a str, Refusal> {
    arguments[key].as_str().filter(|value| !value.is_empty()).ok_or_else(|| Refusal::from("invalid_arguments"))
}

/// A switch: a form has only texts.
pub(super) fn flag(value: &Value) -> bool {
    value.as_bool().unwrap_or_else(|| matches!(value.as_str(), Some("true" | "1")))
}

/// A number: a form has only texts.
pub(super) fn number(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|number| usize::try_from(number).ok()).or_else(|| value.as_str()?.parse().ok())
}

fn with(key: &str, value: Value, body: Value) -> Value {
    let mut object = Map::from_iter([(key.to_owned(), value)]);
    if let Value::Object(body) = body {
        object.extend(body);
    }
    Value::Object(object)
}

fn unavailable() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "upstream connect error").into_response()
}
