//! A Bot API server: messages, edits, buttons, files, reactions, topics, by long polling; and able to misbehave.
//!
//! As the real one: an update is delivered until a poll with a higher offset confirms it; a second poll ends the first
//! with 409; texts, entities and keyboards are checked; a call can be refused, rate limited, or done without the answer
//! arriving. `proofs/telegram` holds it against a client that was not written here.

mod calls;
mod chats;
mod faults;
mod files;
mod params;
mod people;
mod record;
mod rules;
mod send;
mod updates;
mod world;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    routing::{get, post},
    serve::ListenerExt,
};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::timeout};

use self::world::World;
pub use self::{
    faults::SendFault,
    people::Words,
    record::{AnsweredPress, BotCall, KeyboardButton, SentFile, SentMessage},
};

/// Longest wait for what a test expects.
const PATIENCE: Duration = Duration::from_secs(30);
/// The largest upload of the platform, and some more.
const LARGEST_BODY: usize = 51 * 1024 * 1024;

/// The server; dropping it closes the port.
#[derive(Debug)]
pub struct BotApi {
    address: SocketAddr,
    state: Arc<Shared>,
    server: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    world: Mutex<World>,
    /// Counts changes: pollers and tests wait for them.
    changed: watch::Sender<u64>,
}

impl BotApi {
    /// The bot's own id.
    pub const BOT: i64 = 666;

    /// Listens on a free port of 127.0.0.1.
    ///
    /// # Panics
    /// If there is no port to listen on.
    #[expect(clippy::expect_used, reason = "a test cannot go on without its server")]
    pub async fn start() -> Self {
        let state = Arc::new(Shared::default());
        let router = Router::new()
            .route("/{bot}/{method}", post(calls::call).get(calls::call))
            .route("/file/{bot}/{*path}", get(files::download))
            .layer(DefaultBodyLimit::max(LARGEST_BODY))
            .with_state(Arc::clone(&state));
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

    /// Waits until what was sent satisfies `enough`.
    ///
    /// # Panics
    /// When it does not come to that within 30 seconds.
    pub async fn wait_for_sent(&self, enough: impl Fn(&[SentMessage]) -> bool) -> Vec<SentMessage> {
        self.wait_for("what is sent", |bot| Some(bot.sent()).filter(|sent| enough(sent))).await
    }

    /// Waits until a poll has confirmed this update.
    ///
    /// # Panics
    /// When it does not come to that within 30 seconds.
    pub async fn wait_for_confirmed(&self, update: i64) {
        self.wait_for("the confirmation", |bot| bot.offsets().contains(&Some(update + 1)).then_some(())).await;
    }

    /// Waits until there is what `find` looks for.
    ///
    /// # Panics
    /// When it does not come to that within 30 seconds.
    #[expect(clippy::panic, reason = "a test that waits in vain has failed")]
    pub async fn wait_for<T>(&self, what: &str, find: impl Fn(&Self) -> Option<T>) -> T {
        let mut changed = self.state.changed.subscribe();
        let wait = async {
            loop {
                changed.borrow_and_update();
                if let Some(found) = find(self) {
                    return found;
                }
                if changed.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        match timeout(PATIENCE, wait).await {
            Ok(found) => found,
            Err(_) => {
                panic!("waited in vain for {what}; offsets {:?}, sent {:#?}", self.offsets(), self.sent())
            }
        }
    }
}

impl Drop for BotApi {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Shared {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self) {
        self.changed.send_modify(|count| *count += 1);
    }
}
