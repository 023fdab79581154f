//! Platforms that refuse everything for a while: the binary goes on, does not storm, and catches up by itself.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Bytes, to_bytes},
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use stakpak_test_support::{Gate, GatewayFault, Reply};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use crate::{
    platforms::{PLATFORMS, Platform, Stage},
    support::{PATIENCE, until},
};

/// How long the platforms refuse.
const OUTAGE: Duration = Duration::from_secs(6);
/// Requests of all kinds to one platform in that time. With back-off there are some tens; without, thousands.
const STORM: usize = 300;

/// What a platform does with requests.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mode {
    Open,
    /// 429, try again in a second.
    Limiting,
    /// 503.
    Broken,
    /// Nothing listens.
    Gone,
}

/// Stands between the binary and a fake platform.
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: Option<JoinHandle<()>>,
}

struct Shared {
    target: String,
    http: reqwest::Client,
    mode: watch::Sender<Mode>,
    refused: AtomicUsize,
}

impl Relay {
    /// To the platform at this base URL.
    pub async fn start(base_url: &str) -> Self {
        let target = reqwest::Url::parse(base_url).unwrap().origin().ascii_serialization();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let (mode, refused) = (watch::Sender::new(Mode::Open), AtomicUsize::new(0));
        let shared = Arc::new(Shared { target, http, mode, refused });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut relay = Self { address: listener.local_addr().unwrap(), shared, server: None };
        relay.serve(listener);
        relay
    }

    /// The same path here.
    pub fn base_url(&self, base_url: &str) -> String {
        let path = reqwest::Url::parse(base_url).unwrap().path().trim_end_matches('/').to_owned();
        format!("http://{}{path}", self.address)
    }

    fn serve(&mut self, listener: TcpListener) {
        let router = Router::new().fallback(pass).with_state(Arc::clone(&self.shared));
        let mut mode = self.shared.mode.subscribe();
        let gone = async move {
            let _ = mode.wait_for(|mode| *mode == Mode::Gone).await;
        };
        self.server = Some(tokio::spawn(async move {
            axum::serve(listener, router).with_graceful_shutdown(gone).await.unwrap();
        }));
    }

    async fn switch(&mut self, mode: Mode) {
        let before = self.shared.mode.send_replace(mode);
        if mode == Mode::Gone
            && let Some(server) = self.server.take()
        {
            server.await.unwrap();
        }
        if before == Mode::Gone {
            let listener = TcpListener::bind(self.address).await.unwrap();
            self.serve(listener);
        }
    }

    fn refused(&self) -> usize {
        self.shared.refused.load(Ordering::SeqCst)
    }
}

async fn pass(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let mut mode = shared.mode.subscribe();
    let refusal = *mode.borrow();
    if let Some(status) = status(refusal) {
        shared.refused.fetch_add(1, Ordering::SeqCst);
        return refuse(status);
    }
    tokio::select! {
        answer = forward(&shared, request) => answer,
        _ = mode.wait_for(|mode| *mode != Mode::Open) => refuse(StatusCode::BAD_GATEWAY),
    }
}

fn status(mode: Mode) -> Option<StatusCode> {
    match mode {
        Mode::Open => None,
        Mode::Limiting => Some(StatusCode::TOO_MANY_REQUESTS),
        Mode::Broken | Mode::Gone => Some(StatusCode::SERVICE_UNAVAILABLE),
    }
}

/// As each of the platforms says it.
fn refuse(status: StatusCode) -> Response {
    let wait = (status == StatusCode::TOO_MANY_REQUESTS).then_some(1);
    let body = serde_json::json!({
        "description": "refused", "error": "ratelimited", "error_code": status.as_u16(), "global": true,
        "message": "refused", "ok": false, "parameters": { "retry_after": wait }, "retry_after": wait
    });
    let mut response = (status, axum::Json(body)).into_response();
    if wait.is_some() {
        response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
    }
    response
}

async fn forward(shared: &Shared, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut headers = parts.headers;
    headers.remove(header::HOST);
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let request = shared.http.request(parts.method, format!("{}{path}", shared.target)).headers(headers).body(body);
    let Ok(answer) = request.send().await else { return refuse(StatusCode::BAD_GATEWAY) };
    let (status, headers) = (answer.status(), answer.headers().clone());
    let body: Bytes = answer.bytes().await.unwrap_or_default();
    let mut response = (status, body).into_response();
    for (name, value) in &headers {
        if name != header::TRANSFER_ENCODING {
            response.headers_mut().insert(name.clone(), value.clone());
        }
    }
    response
}

/// Every platform refuses like this; what was to be said meanwhile is said afterwards, in order, by the same process.
async fn outage(mode: Mode) {
    let mut relays = Vec::new();
    // Nothing is shown before the end of a run.
    let stage = Stage::with("[gateway]\nprogress = \"final\"", async |base_url| {
        let relay = Relay::start(&base_url).await;
        let reached = relay.base_url(&base_url);
        relays.push(relay);
        reached
    })
    .await;
    let mut up = stage.up().await;
    for platform in PLATFORMS {
        stage.direct(platform).say("before");
        stage.direct(platform).hears("before");
    }
    // Runs that end while nothing can be sent.
    let gate = Gate::new();
    let asked = stage.llm.requests().len();
    stage.llm.always(Reply::text(["an answer"]));
    for _ in PLATFORMS {
        stage.llm.push(Reply::text(["the first "]).then_wait(&gate).then_text("answer"));
    }
    for platform in PLATFORMS {
        stage.direct(platform).say("first");
    }
    stage.llm.wait_for_requests(asked + PLATFORMS.len()).await;
    for platform in PLATFORMS {
        for number in 2..=3 {
            stage.direct(platform).say(&format!("number {number}"));
        }
    }
    let waiting = async {
        while Stage::ask(&up, "status").await["inbox_pending"] != PLATFORMS.len() * 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("all messages are taken");
    for relay in &mut relays {
        relay.switch(mode).await;
    }
    stage.slack.drop_sockets();
    stage.discord.disturb(GatewayFault::Drop);
    gate.open();
    tokio::time::sleep(OUTAGE).await;
    for (relay, platform) in relays.iter().zip(PLATFORMS) {
        let refused = relay.refused();
        assert!(refused < STORM, "{refused} requests to {platform:?} in {OUTAGE:?}");
        assert!(refused > 0 || mode == Mode::Gone, "{platform:?} was not asked at all");
    }
    for platform in PLATFORMS {
        assert_eq!(stage.direct(platform).heard().len(), 1, "{platform:?} refuses everything");
        if platform != Platform::Telegram {
            stage.direct(platform).say("said in the outage");
        }
    }
    for relay in &mut relays {
        relay.switch(Mode::Open).await;
    }
    for platform in PLATFORMS {
        let chat = stage.direct(platform);
        let expected = if platform == Platform::Telegram { 4 } else { 5 };
        let what = format!("{expected} answers on {platform:?}");
        let answers = || chat.heard().into_iter().filter(|text| text != "…").collect::<Vec<_>>();
        until(&what, || (answers().len() >= expected).then_some(()));
        let heard = answers();
        assert!(heard[1].contains("the first answer"), "{platform:?}: in order: {heard:#?}");
        chat.say("after");
        until("an answer afterwards", || (answers().len() > expected).then_some(()));
    }
    assert_eq!(up.child.try_wait().unwrap(), None, "no restart was needed");
}

/// G-P42 for all at once: the platforms' own limits.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_429s_is_waited_out() {
    outage(Mode::Limiting).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_5xx_is_waited_out() {
    outage(Mode::Broken).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_refused_connections_is_waited_out() {
    outage(Mode::Gone).await;
}
