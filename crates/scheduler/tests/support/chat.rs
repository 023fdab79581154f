//! The gateway's way into chats: what it is sent under which key, and answers as the contract has them.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};

/// What becomes of a send.
#[derive(Debug, Clone, Default)]
pub enum Fate {
    /// The platform has it.
    #[default]
    Delivered,
    /// The gateway has it; see [`Chat::deliveries_are`].
    Queued,
    /// Refused with this status and code, and perhaps a time to wait.
    Refused(u16, &'static str, Option<&'static str>),
    /// Nobody serves the path.
    Away,
    /// No answer, ever.
    Silent,
    /// It has its effect, and no answer comes of it.
    Lost,
    /// Accepted, and then the server refuses its run.
    Buried,
}

#[derive(Debug, Clone, Default)]
pub struct Chat(Arc<Mutex<Model>>);

#[derive(Debug, Default)]
struct Model {
    next: VecDeque<Fate>,
    then: Fate,
    /// Body and answer of each key that had an effect.
    known: HashMap<String, (Value, u16, Value)>,
    /// Keys of all requests, in their order.
    asked: Vec<String>,
    /// What people see, in its order.
    shown: Vec<Value>,
    delivery: Value,
    looked_at: usize,
}

impl Chat {
    /// `start` makes the session of a run that is asked for, and starts it there if told so.
    pub(super) fn router(&self, start: impl Fn(&Value, bool) -> String + Clone + Send + Sync + 'static) -> Router {
        let send = async move |State(chat): State<Self>, headers: HeaderMap, Json(body): Json<Value>| match send(
            &chat, &headers, body, start,
        ) {
            Some(answer) => answer,
            None => std::future::pending().await,
        };
        Router::new()
            .route("/v1/gateway/send", post(send))
            .route("/v1/gateway/deliveries/{id}", get(delivery))
            .with_state(self.clone())
    }

    /// What becomes of sends from now on.
    pub fn will(&self, fate: Fate) {
        self.model().then = fate;
    }

    /// What becomes of the next sends, before that.
    pub fn first(&self, fates: impl IntoIterator<Item = Fate>) {
        self.model().next.extend(fates);
    }

    /// What is answered to who asks for a delivery; null when there is none of that id.
    pub fn deliveries_are(&self, delivery: Value) {
        self.model().delivery = delivery;
    }

    /// Bodies that were shown.
    pub fn shown(&self) -> Vec<Value> {
        self.model().shown.clone()
    }

    /// First lines of what was shown.
    pub fn headings(&self) -> Vec<String> {
        self.shown().iter().map(|body| body["text"].as_str().unwrap().lines().next().unwrap().to_owned()).collect()
    }

    /// Keys of all sends, repeats too.
    pub fn asked(&self) -> Vec<String> {
        self.model().asked.clone()
    }

    /// How often deliveries were asked for.
    pub fn looked_at(&self) -> usize {
        self.model().looked_at
    }

    fn model(&self) -> MutexGuard<'_, Model> {
        self.0.lock().unwrap()
    }
}

fn refused(status: u16, code: &str) -> Response {
    let body = json!({ "error": code, "message": format!("the platform says {code} hunter2-hunter2-hunter2") });
    (StatusCode::from_u16(status).unwrap(), Json(body)).into_response()
}

/// None: no answer, ever.
fn send(chat: &Chat, headers: &HeaderMap, body: Value, start: impl Fn(&Value, bool) -> String) -> Option<Response> {
    let key = headers["idempotency-key"].to_str().unwrap().to_owned();
    let fate = {
        let mut model = chat.model();
        model.asked.push(key.clone());
        if let Some((known, status, answer)) = model.known.get(&key) {
            return Some(match *known == body {
                true => (StatusCode::from_u16(*status).unwrap(), Json(answer.clone())).into_response(),
                false => refused(409, "idempotency_key_reused"),
            });
        }
        model.next.pop_front().unwrap_or_else(|| model.then.clone())
    };
    let session = |runs: bool| body.get("interactive").map(|interactive| start(interactive, runs));
    Some(match fate {
        Fate::Delivered | Fate::Lost => {
            let mut answer = json!({ "delivered": true, "delivery_id": "d-1", "message_id": "7" });
            session(true).into_iter().for_each(|session| answer["session_id"] = session.into());
            let mut model = chat.model();
            model.known.insert(key, (body.clone(), 200, answer.clone()));
            model.shown.push(body);
            drop(model);
            if matches!(fate, Fate::Lost) {
                return None;
            }
            Json(answer).into_response()
        }
        Fate::Queued => {
            let mut answer = json!({ "delivered": false, "queued": true, "delivery_id": "d-1" });
            session(true).into_iter().for_each(|session| answer["session_id"] = session.into());
            chat.model().known.insert(key, (body, 202, answer.clone()));
            (StatusCode::ACCEPTED, Json(answer)).into_response()
        }
        Fate::Buried => {
            let answer = json!({ "delivered": true, "delivery_id": "d-1", "session_id": session(false) });
            let later = json!({ "error": "interactive_start_failed", "message": "no such profile" });
            chat.model().known.insert(key, (body, 502, later));
            Json(answer).into_response()
        }
        Fate::Refused(status, code, retry_after) => {
            let mut response = refused(status, code);
            if let Some(seconds) = retry_after {
                response.headers_mut().insert(header::RETRY_AFTER, seconds.parse().unwrap());
            }
            response
        }
        Fate::Away => {
            let body = json!({ "error": "there is no such path", "code": "not_found", "request_id": "req_1" });
            (StatusCode::NOT_FOUND, Json(body)).into_response()
        }
        Fate::Silent => return None,
    })
}

async fn delivery(State(chat): State<Chat>, Path(id): Path<String>) -> Response {
    assert_eq!(id, "d-1");
    let mut model = chat.model();
    model.looked_at += 1;
    match model.delivery.clone() {
        Value::Null => refused(404, "not_found"),
        delivery => Json(delivery).into_response(),
    }
}
