//! The gateway as a whole: made from a configuration, run until cancelled.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use stakpak_client::StakpakClient;
use stakpak_redact::Redactor;
use tokio::{
    task::JoinSet,
    time::{Instant, interval, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Channel, ChannelError, ChannelHealth, ChannelId, GatewayConfig, GatewayStore, InboundSink, StoreError,
    api::{self, Turns},
    approvals::{Approvals, Desk},
    channels::{build_channels, supervisor::supervise},
    clock::{millis, now_ms},
    commands::{Commander, Commands},
    delivery::{Deliveries, Sender},
    dispatcher::{Conversations, Dispatcher},
    intake::Intake,
    ownership::{Ownership, OwnershipError},
    store::{Gate, QueueAges, QueueCounts},
    tally::Happened,
};

/// How long texts on their way may still be sent once the gateway is asked to stop.
const FLUSH: Duration = Duration::from_secs(5);
/// How often the gateway notes that it is there.
const ALIVE_EVERY: Duration = Duration::from_secs(30);
/// How often old entries of the store are looked for.
const PRUNE_EVERY: Duration = Duration::from_secs(3600);
/// The answer of `POST /send` waits this long for the platform.
const SEND_PATIENCE: Duration = Duration::from_secs(8);
/// After an absence, what the platforms kept meanwhile comes in within this time.
const ARRIVES_LATE: Duration = Duration::from_secs(30);

/// Why there is no gateway, or none any more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayError {
    /// The store cannot be used.
    #[error("the gateway store cannot be used")]
    Store(#[from] StoreError),
    /// A channel cannot be set up.
    #[error("a channel cannot be set up")]
    Channel(#[from] ChannelError),
    /// A secret cannot be searched for.
    #[error("the redactor cannot be built")]
    Redactor(#[from] stakpak_redact::BuildError),
    /// The blocking part of the start was lost.
    #[error("the gateway could not be opened")]
    Lost(#[source] tokio::task::JoinError),
    /// Another gateway has the store or a bot token.
    #[error(transparent)]
    Owned(#[from] OwnershipError),
    /// It ran already; make a new one.
    #[error("this gateway has been stopped; make a new one")]
    Stopped,
}

/// Joins the configured channels to the agent server.
#[derive(Debug)]
pub struct Gateway {
    parts: Arc<Parts>,
    intake: Arc<Intake>,
    draining: CancellationToken,
}

/// What the HTTP API shares with the gateway.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) config: GatewayConfig,
    pub(crate) store: GatewayStore,
    pub(crate) channels: Vec<Arc<dyn Channel>>,
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) commands: Arc<Commands>,
    pub(crate) deliveries: Arc<Deliveries>,
    pub(crate) approvals: Arc<Approvals>,
    pub(crate) started: Instant,
    pub(crate) draining: CancellationToken,
    /// Keys of `POST /send` at work.
    pub(crate) turns: Turns,
    /// How long `POST /send` waits for the platform.
    pub(crate) send_patience: Duration,
    /// The store could not be written when that was last tried.
    pub(crate) store_failing: AtomicBool,
}

impl Gateway {
    /// Opens the store, which blocks for a few milliseconds, and connects to nothing yet.
    ///
    /// # Errors
    /// The store or a channel cannot be used.
    pub fn new(config: GatewayConfig) -> Result<Self, GatewayError> {
        let channels = build_channels(&config)?;
        Self::with_channels(config, channels)
    }

    /// [`Gateway::new`] with other adapters than those of the configuration.
    ///
    /// # Errors
    /// As [`Gateway::new`].
    pub fn with_channels(config: GatewayConfig, channels: Vec<Arc<dyn Channel>>) -> Result<Self, GatewayError> {
        let store = GatewayStore::open(&config.gateway.store_path)?;
        let secrets = config.channels.secrets().chain([config.server.token.expose()]);
        let redactor = Redactor::new(secrets.filter(|secret| !secret.is_empty()))?;
        let client = StakpakClient::new(&config.server.url, config.server.token.expose());
        let draining = CancellationToken::new();
        let deliveries = Deliveries::new(Sender::new(store.clone(), &channels, draining.clone()));
        let gate = Arc::new(Gate::new(&config));
        let approvals = Approvals::new(Desk::new(
            &config,
            store.clone(),
            client.clone(),
            Arc::clone(&deliveries),
            redactor.clone(),
            Arc::clone(&gate),
        ));
        let conversations = Conversations::new(
            &config,
            store.clone(),
            client,
            Arc::clone(&deliveries),
            redactor,
            Arc::clone(&approvals),
        );
        let dispatcher = Dispatcher::new(conversations);
        let commands = Commands::new(Commander {
            dispatcher: Arc::clone(&dispatcher),
            gate: Arc::clone(&gate),
            approvals: Arc::clone(&approvals),
        });
        let intake = Arc::new(Intake {
            store: store.clone(),
            gate,
            router: config.router_config().clone(),
            dispatcher: Arc::clone(&dispatcher),
            commands: Arc::clone(&commands),
            approvals: Arc::clone(&approvals),
            answers: TaskTracker::new(),
        });
        let parts = Parts {
            config,
            store,
            channels,
            dispatcher,
            commands,
            deliveries,
            approvals,
            started: Instant::now(),
            draining: draining.clone(),
            turns: Turns::default(),
            send_patience: SEND_PATIENCE,
            store_failing: AtomicBool::new(false),
        };
        Ok(Self { parts: Arc::new(parts), intake, draining })
    }

    /// How long `POST /send` waits for the platform before it answers that the text is queued; eight seconds unless said
    /// here. Without effect once the gateway is in use.
    #[must_use]
    pub fn with_send_patience(mut self, patience: Duration) -> Self {
        if let Some(parts) = Arc::get_mut(&mut self.parts) {
            parts.send_patience = patience;
        }
        self
    }

    /// [`Gateway::new`] without blocking the caller's thread.
    ///
    /// # Errors
    /// As [`Gateway::new`].
    pub async fn open(config: GatewayConfig) -> Result<Self, GatewayError> {
        tokio::task::spawn_blocking(|| Self::new(config)).await.map_err(GatewayError::Lost)?
    }

    /// Takes up what an earlier process left, then receives and answers until cancelled. Once only. Meanwhile the store and
    /// the bot tokens are this gateway's alone.
    ///
    /// Dropping the future stops everything where it is; the store says what is left to do.
    ///
    /// # Errors
    /// The store cannot be read, another gateway has it or a bot token, or the gateway ran already.
    pub async fn run(&self, cancel: CancellationToken) -> Result<(), GatewayError> {
        if self.draining.is_cancelled() {
            return Err(GatewayError::Stopped);
        }
        let _ours = Ownership::claim(&self.parts.config)?;
        let stop = CancellationToken::new();
        let _stop_when_dropped = stop.clone().drop_guard();
        let Parts { store, channels, dispatcher, commands, deliveries, approvals, .. } = &*self.parts;
        self.after_absence().await?;
        let (lanes, conversations) = (store.unfinished_lanes().await?, store.unfinished_conversations().await?);
        let sending = deliveries.start(stop.clone());
        let conversing = dispatcher.start(stop.clone());
        let obeying = commands.start(stop.clone());
        let deciding = approvals.start(stop.clone());
        deciding.spawn(stop.clone().run_until_cancelled_owned(Arc::clone(approvals).keep_time()));
        conversing.spawn(stop.clone().run_until_cancelled_owned(release_prompts(Arc::clone(&self.parts))));
        // What was asked for while this began woke nobody.
        for lane in lanes.into_iter().chain(store.queued_lanes().await?) {
            deliveries.wake(&lane);
        }
        for routing_key in conversations {
            dispatcher.wake(&routing_key);
            commands.wake(&routing_key);
        }
        let mut receiving = JoinSet::new();
        for channel in channels {
            let inbound = Arc::clone(&self.intake) as Arc<dyn InboundSink>;
            receiving.spawn(supervise(Arc::clone(channel), inbound, cancel.clone()));
        }
        tokio::select! {
            () = cancel.cancelled() => {}
            () = self.keep_house() => {}
        }
        self.draining.cancel();
        receiving.shutdown().await;
        sending.close();
        if timeout(FLUSH, sending.wait()).await.is_err() {
            tracing::warn!("texts on their way are sent at the next start");
        }
        deliveries.stop();
        dispatcher.stop();
        commands.stop();
        approvals.stop();
        stop.cancel();
        for tasks in [conversing, obeying, deciding] {
            tasks.close();
            tasks.wait().await;
        }
        sending.wait().await;
        Ok(())
    }

    /// Notes that the gateway is there, and forgets what is old.
    async fn keep_house(&self) {
        let Parts { config, store, .. } = &*self.parts;
        let (mut alive, mut prune) = (interval(ALIVE_EVERY), interval(PRUNE_EVERY));
        loop {
            let kept = tokio::select! {
                _ = alive.tick() => {
                    let noted = store.note_alive(now_ms()).await;
                    self.parts.store_failing.store(noted.is_err(), Ordering::Relaxed);
                    noted
                }
                _ = prune.tick() => match store.prune_all(config.gateway.prune_after, now_ms()).await {
                    Ok(()) => self.parts.dispatcher.worker().kept.prune(store).await,
                    failed => failed,
                },
            };
            if let Err(error) = kept {
                tracing::error!(%error, "the gateway store could not be kept in order");
            }
        }
    }

    /// What waited while the gateway was away for long may no longer be wanted.
    async fn after_absence(&self) -> Result<(), StoreError> {
        let Parts { config, store, .. } = &*self.parts;
        let (Some(stale_after), Some(last)) = (config.gateway.stale_after, store.last_alive().await?) else {
            return Ok(());
        };
        let now = now_ms();
        if now - last > millis(stale_after) {
            self.intake.gate.late_until.store(now + millis(ARRIVES_LATE), Ordering::Relaxed);
            store.hold_waiting(now).await?;
        }
        Ok(())
    }

    /// The HTTP API, with routes relative to `/v1/gateway`. It checks the bearer token itself; `Host`, `Origin`, request ids
    /// and limits are up to whoever mounts it.
    pub fn api_router(&self) -> axum::Router {
        api::router(Arc::clone(&self.parts))
    }

    /// The adapters.
    #[must_use]
    pub fn channels(&self) -> &[Arc<dyn Channel>] {
        &self.parts.channels
    }

    /// How each channel goes.
    #[must_use]
    pub fn health(&self) -> Vec<(ChannelId, ChannelHealth)> {
        self.parts.channels.iter().map(|channel| (channel.id(), channel.health())).collect()
    }

    /// What waits in the store.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn queue_counts(&self) -> Result<QueueCounts, StoreError> {
        self.parts.store.queue_counts().await
    }

    /// How long the oldest of it has waited.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn queue_ages(&self) -> Result<QueueAges, StoreError> {
        self.parts.store.queue_ages().await
    }

    /// What happened since this gateway was made.
    #[must_use]
    pub fn happened(&self) -> Happened {
        self.parts.deliveries.worker().tally.read()
    }
}

/// Prompts of programs run when the texts before them are sent.
async fn release_prompts(parts: Arc<Parts>) {
    let mut released = parts.deliveries.worker().released();
    while released.changed().await.is_ok() {
        match parts.store.released_prompts().await {
            Ok(keys) => keys.iter().for_each(|key| parts.dispatcher.wake(key)),
            Err(error) => tracing::error!(%error, "the prompts of programs could not be read"),
        }
    }
}
