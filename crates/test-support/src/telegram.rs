//! A Bot API server: `getMe`, `getUpdates` by long polling, `sendMessage`; and able to misbehave.
//!
//! As the real one: an update is delivered until a poll with a higher offset confirms it; a second poll ends the first
//! with 409; a message can be refused, rate limited, or accepted without the answer arriving.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
    serve::ListenerExt,
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::timeout};

/// Updates of one answer at most.
const BATCH: usize = 100;

/// The server; dropping it closes the port.
#[derive(Debug)]
pub struct BotApi {
    address: SocketAddr,
    state: Arc<Shared>,
    server: JoinHandle<()>,
}

/// A message that a bot sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentMessage {
    /// The chat.
    pub chat_id: i64,
    /// The text.
    pub text: String,
}

/// What goes wrong with the next `sendMessage`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendFault {
    /// 429 with `retry_after` in seconds; not sent.
    RateLimited(u64),
    /// 400; not sent.
    Refused,
    /// 502; not sent.
    BadGateway,
    /// Sent, and the answer never comes.
    AnswerLost,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<Account>,
    /// Counts changes: pollers and tests wait for them.
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Account {
    updates: VecDeque<Value>,
    confirmed: Vec<Value>,
    next_id: i64,
    offsets: Vec<Option<i64>>,
    sent: Vec<SentMessage>,
    faults: VecDeque<SendFault>,
    polls: u64,
}

impl BotApi {
    /// Listens on a free port of 127.0.0.1.
    ///
    /// # Panics
    /// If there is no port to listen on.
    #[expect(clippy::expect_used, reason = "a test cannot go on without its server")]
    pub async fn start() -> Self {
        let state = Arc::new(Shared::default());
        state.account().next_id = 500;
        let router = Router::new().route("/{bot}/{method}", post(call)).with_state(Arc::clone(&state));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let listener = listener.tap_io(|socket| drop(socket.set_nodelay(true)));
        let server = tokio::spawn(async move { drop(axum::serve(listener, router).await) });
        Self { address, state, server }
    }

    /// For `api_base_url`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A person writes to the bot. The id of the update.
    pub fn say(&self, user: i64, text: &str) -> i64 {
        self.say_in(&json!({ "id": user, "type": "private" }), user, text)
    }

    /// A person writes in a group that the bot is in. The id of the update.
    pub fn say_in_group(&self, group: i64, user: i64, text: &str) -> i64 {
        self.say_in(&json!({ "id": group, "type": "supergroup", "title": "a group" }), user, text)
    }

    fn say_in(&self, chat: &Value, user: i64, text: &str) -> i64 {
        let id = {
            let mut account = self.state.account();
            account.next_id += 1;
            let id = account.next_id;
            let from = json!({ "id": user, "is_bot": false, "first_name": format!("User {user}") });
            let message = json!({ "message_id": id, "date": 1_790_000_000, "chat": chat, "from": from, "text": text });
            account.updates.push_back(json!({ "update_id": id, "message": message }));
            id
        };
        self.state.change();
        id
    }

    /// Delivers everything again that was confirmed before.
    pub fn redeliver(&self) {
        let mut account = self.state.account();
        let again = std::mem::take(&mut account.confirmed);
        for update in again.into_iter().rev() {
            account.updates.push_front(update);
        }
        drop(account);
        self.state.change();
    }

    /// The next message that is sent meets this.
    pub fn fail_next(&self, fault: SendFault) {
        self.state.account().faults.push_back(fault);
    }

    /// The offsets of all polls so far.
    #[must_use]
    pub fn offsets(&self) -> Vec<Option<i64>> {
        self.state.account().offsets.clone()
    }

    /// The messages that reached their chat.
    #[must_use]
    pub fn sent(&self) -> Vec<SentMessage> {
        self.state.account().sent.clone()
    }

    /// Waits until what was sent satisfies `enough`.
    ///
    /// # Panics
    /// When it does not come to that within 30 seconds.
    #[expect(clippy::panic, reason = "a test that waits in vain has failed")]
    pub async fn wait_for_sent(&self, enough: impl Fn(&[SentMessage]) -> bool) -> Vec<SentMessage> {
        let mut changed = self.state.changed.subscribe();
        let wait = async {
            loop {
                changed.borrow_and_update();
                let sent = self.sent();
                if enough(&sent) {
                    return sent;
                }
                if changed.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        match timeout(Duration::from_secs(30), wait).await {
            Ok(sent) => sent,
            Err(_) => panic!("not sent in time; so far: {:?}", self.sent()),
        }
    }

    /// Waits until a poll has confirmed this update.
    ///
    /// # Panics
    /// When it does not come to that within 30 seconds.
    #[expect(clippy::panic, reason = "a test that waits in vain has failed")]
    pub async fn wait_for_confirmed(&self, update: i64) {
        let mut changed = self.state.changed.subscribe();
        let wait = async {
            while !self.offsets().contains(&Some(update + 1)) {
                if changed.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        if timeout(Duration::from_secs(30), wait).await.is_err() {
            panic!("update {update} was not confirmed; offsets: {:?}", self.offsets());
        }
    }
}

impl Drop for BotApi {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Shared {
    fn account(&self) -> MutexGuard<'_, Account> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self) {
        self.changed.send_modify(|count| *count += 1);
    }
}

async fn call(
    State(shared): State<Arc<Shared>>,
    Path((_bot, method)): Path<(String, String)>,
    body: Option<Json<Value>>,
) -> Response {
    let body = body.map(|Json(body)| body).unwrap_or_default();
    match method.to_ascii_lowercase().as_str() {
        "getme" => ok(&json!({
            "id": 666, "is_bot": true, "first_name": "Test", "username": "test_bot", "can_join_groups": true,
            "can_read_all_group_messages": true, "supports_inline_queries": false
        })),
        "getupdates" => get_updates(&shared, &body).await,
        "sendmessage" => send_message(&shared, &body).await,
        _ => refused(StatusCode::NOT_FOUND, "Not Found", None),
    }
}

async fn get_updates(shared: &Shared, body: &Value) -> Response {
    let offset = body["offset"].as_i64();
    let wait = Duration::from_secs(body["timeout"].as_u64().unwrap_or(0));
    let mut changed = shared.changed.subscribe();
    let poll = {
        let mut account = shared.account();
        account.polls += 1;
        account.offsets.push(offset);
        while let Some(update) = account
            .updates
            .pop_front_if(|update| offset.is_some_and(|offset| update["update_id"].as_i64() < Some(offset)))
        {
            account.confirmed.push(update);
        }
        account.polls
    };
    shared.change();
    let updates = async {
        loop {
            changed.borrow_and_update();
            {
                let account = shared.account();
                if account.polls != poll {
                    return None;
                }
                let batch: Vec<Value> = account.updates.iter().take(BATCH).cloned().collect();
                if !batch.is_empty() {
                    return Some(batch);
                }
            }
            if changed.changed().await.is_err() {
                return Some(Vec::new());
            }
        }
    };
    match timeout(wait, updates).await {
        Ok(Some(batch)) => ok(&json!(batch)),
        Ok(None) => refused(StatusCode::CONFLICT, "Conflict: terminated by other getUpdates request", None),
        Err(_) => ok(&json!([])),
    }
}

async fn send_message(shared: &Shared, body: &Value) -> Response {
    let fault = shared.account().faults.pop_front();
    match fault {
        Some(SendFault::RateLimited(seconds)) => {
            let text = format!("Too Many Requests: retry after {seconds}");
            return refused(StatusCode::TOO_MANY_REQUESTS, &text, Some(seconds));
        }
        Some(SendFault::Refused) => return refused(StatusCode::BAD_REQUEST, "Bad Request: chat not found", None),
        Some(SendFault::BadGateway) => return refused(StatusCode::BAD_GATEWAY, "Bad Gateway", None),
        Some(SendFault::AnswerLost) | None => {}
    }
    let sent = SentMessage {
        chat_id: body["chat_id"].as_i64().unwrap_or_default(),
        text: body["text"].as_str().unwrap_or_default().to_owned(),
    };
    let id = {
        let mut account = shared.account();
        account.sent.push(sent.clone());
        account.sent.len()
    };
    shared.change();
    if fault == Some(SendFault::AnswerLost) {
        std::future::pending::<()>().await;
    }
    ok(&json!({
        "message_id": id, "date": 1_790_000_000, "chat": { "id": sent.chat_id, "type": "private" }, "text": sent.text
    }))
}

fn ok(result: &Value) -> Response {
    Json(json!({ "ok": true, "result": result })).into_response()
}

fn refused(status: StatusCode, description: &str, retry_after: Option<u64>) -> Response {
    let mut body = json!({ "ok": false, "error_code": status.as_u16(), "description": description });
    if let Some(seconds) = retry_after {
        body["parameters"] = json!({ "retry_after": seconds });
    }
    (status, Json(body)).into_response()
}
