//! Discord: REST v10 and the gateway WebSocket v10 in JSON, on a real socket; and able to misbehave.
//!
//! As the real one: the gateway keeps what it dispatched until the session ends, and replays it to a RESUME; events reach
//! only those intents that were asked for, and message content only with its intent; each route has a rate limit bucket;
//! a nonce makes at most one message; an interaction that nobody answers within 3 seconds fails. Ids are snowflakes, so
//! they grow with time.
//!
//! What it saw is in [`DiscordRecord`], for a checker. Persons and buttons are driven by the methods of [`FakeDiscord`].

mod faults;
mod gateway;
mod interactions;
mod limits;
mod messages;
mod people;
mod record;
mod rest;
mod world;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::serve::ListenerExt;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::timeout};

use self::{faults::Faults, limits::Buckets, world::World};
pub use self::{
    faults::{DiscordCall, DiscordFault, GatewayFault},
    people::Said,
    record::{
        DiscordButton, DiscordEdit, DiscordMessage, DiscordReaction, DiscordRecord, Followup, Identify,
        InteractionAnswer, Resume,
    },
};

/// The server; dropping it closes the port.
#[derive(Debug)]
pub struct FakeDiscord {
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    address: SocketAddr,
    state: Mutex<State>,
    /// Counts changes: connections and tests wait for them.
    changed: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    world: World,
    record: DiscordRecord,
    faults: Faults,
    buckets: Buckets,
    settings: Settings,
}

/// What a test may change.
#[derive(Debug, Clone)]
struct Settings {
    heartbeat: Duration,
    message_content: bool,
    identify_every: Duration,
    identifies_left: u32,
}

impl FakeDiscord {
    /// The token of the bot.
    pub const TOKEN: &'static str = "MTAwMDAwMDAwMDAwMDAwMDAx.fake.discord-bot-token";
    /// The bot's user id.
    pub const BOT: u64 = 100_000_000_000_000_001;
    /// The bot's name.
    pub const BOT_NAME: &'static str = "ops-bot";
    /// The application's id.
    pub const APPLICATION: u64 = 100_000_000_000_000_002;

    /// Listens on a free port of 127.0.0.1.
    ///
    /// # Panics
    /// If there is no port to listen on.
    #[expect(clippy::expect_used, reason = "a test cannot go on without its server")]
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        Self::serve(listener)
    }

    /// Listens on a port that was in use before, for a platform that comes back.
    ///
    /// # Panics
    /// If the port is taken.
    #[expect(clippy::expect_used, reason = "a test cannot go on without its server")]
    pub async fn start_at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.expect("the port is free again");
        Self::serve(listener)
    }

    #[expect(clippy::expect_used, reason = "a test cannot go on without its server")]
    fn serve(listener: TcpListener) -> Self {
        let address = listener.local_addr().expect("a bound listener has an address");
        let state = State {
            world: World::new(),
            record: DiscordRecord::default(),
            faults: Faults::default(),
            buckets: Buckets::default(),
            settings: Settings {
                heartbeat: Duration::from_millis(41_250),
                message_content: true,
                identify_every: Duration::from_secs(5),
                identifies_left: 1000,
            },
        };
        let shared = Arc::new(Shared { address, state: Mutex::new(state), changed: watch::Sender::default() });
        let router = rest::router(Arc::clone(&shared));
        let listener = listener.tap_io(|socket| drop(socket.set_nodelay(true)));
        let server = tokio::spawn(async move { drop(axum::serve(listener, router).await) });
        Self { shared, server }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// For `api_base_url`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.shared.address)
    }

    /// How often a client has to send heartbeats; one that is silent for twice as long is closed with 4009.
    pub fn heartbeat_every(&self, interval: Duration) {
        self.shared.state().settings.heartbeat = interval;
    }

    /// Whether the Message Content intent is enabled for the application.
    pub fn message_content_intent(&self, enabled: bool) {
        self.shared.state().settings.message_content = enabled;
    }

    /// How far apart two IDENTIFYs have to be; a sooner one gets INVALID SESSION.
    pub fn identify_every(&self, interval: Duration) {
        self.shared.state().settings.identify_every = interval;
    }

    /// How many IDENTIFYs are left of the daily budget.
    pub fn identifies_left(&self, count: u32) {
        self.shared.state().settings.identifies_left = count;
    }

    /// What it saw so far.
    #[must_use]
    pub fn seen(&self) -> DiscordRecord {
        self.shared.state().record.clone()
    }

    /// Looks at what it saw so far, without a copy.
    pub fn look<T>(&self, look: impl FnOnce(&DiscordRecord) -> T) -> T {
        look(&self.shared.state().record)
    }

    /// When each message of the bot reached a channel, thread or direct chat.
    #[must_use]
    pub fn arrivals(&self, channel: u64) -> Vec<Instant> {
        self.shared.state().record.arrivals.get(&channel).cloned().unwrap_or_default()
    }

    /// Waits until what it saw satisfies `enough`.
    ///
    /// # Panics
    /// When it does not come to that within 30 seconds.
    #[expect(clippy::panic, reason = "a test that waits in vain has failed")]
    pub async fn wait_for(&self, what: &str, enough: impl Fn(&DiscordRecord) -> bool) -> DiscordRecord {
        let mut changed = self.shared.changed.subscribe();
        let wait = async {
            loop {
                changed.borrow_and_update();
                let seen = self.seen();
                if enough(&seen) {
                    return seen;
                }
                if changed.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        match timeout(Duration::from_secs(30), wait).await {
            Ok(seen) => seen,
            Err(_) => panic!("waited in vain for {what}; seen: {:#?}", self.seen()),
        }
    }
}

impl Drop for FakeDiscord {
    fn drop(&mut self) {
        self.server.abort();
        // Connections are tasks of their own; they end when they see this.
        self.shared.state().faults.inject(GatewayFault::Drop);
        self.shared.change();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and wakes everybody who waits for a change.
    fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let outcome = change(&mut self.state());
        self.change();
        outcome
    }

    fn change(&self) {
        self.changed.send_modify(|count| *count += 1);
    }
}
