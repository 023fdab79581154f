//! A run from its first request to its recorded end, or from where an earlier process had got.
//!
//! Whatever is learnt goes to the [`Observer`] before the step that follows from it, so that this future may be dropped at any
//! await and started again with what the observer holds.

mod follow;
mod hand_over;
mod transcript;

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use stakpak_client::{
    CallerContextInput, ClientError, CreateSessionOptions, ProposedToolCall, SendMessageOptions, StakpakClient,
};
use stakpak_protocol::{
    DecidedBy, EventId, Message, RunId, RunOverrides, SessionId, ToolCallId, ToolDecision, Usage, Usd,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

pub(crate) use follow::pause_reason;
pub(crate) use hand_over::HandOver;

use super::{
    AgentError, AgentReport, AgentRequest, WhenAsked,
    retry::{Backoff, is_transient},
};
use crate::clock::Clock;

/// A minute or so, with waits that double.
const CALL_OFF_ATTEMPTS: u32 = 10;

/// What is to be run.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    /// `Idempotency-Key` of the message; the session's is `<key>:session`.
    pub(crate) key: String,
    pub(crate) title: String,
    pub(crate) cwd: Option<String>,
    pub(crate) prompt: String,
    pub(crate) context: Vec<CallerContextInput>,
    pub(crate) model: Option<String>,
    pub(crate) sandbox: Option<bool>,
    pub(crate) overrides: RunOverrides,
    pub(crate) when_asked: WhenAsked,
    /// The chat that it takes place in, if it does.
    pub(crate) chat: Option<HandOver>,
}

/// How long it may take.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// Then it is cancelled; moves on while a person is waited for.
    pub(crate) deadline: DateTime<Utc>,
    /// Then a cancel that is not confirmed leaves it unknown.
    pub(crate) stop_grace: TimeDelta,
    /// Then it is cancelled too.
    pub(crate) stop: CancellationToken,
}

/// Who starts the run: once a way may have worked, there is no other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Way {
    /// Nobody was asked yet.
    #[default]
    Open,
    /// The chat gateway, which was asked at that time.
    Chat(DateTime<Utc>),
    /// This process: the gateway has refused.
    Silent,
}

/// How far an earlier process got.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Progress {
    pub(crate) way: Way,
    pub(crate) session: Option<SessionId>,
    pub(crate) run: Option<RunId>,
    pub(crate) cursor: EventId,
    /// Since when it has been waiting for a person.
    pub(crate) paused_since: Option<DateTime<Utc>>,
    /// Its time was up, and it was to be cancelled.
    pub(crate) over_limit: bool,
}

/// Keeps what was learnt. Each method returns once it is durable.
#[async_trait]
pub(crate) trait Observer: Send + Sync {
    /// Why it could not be kept.
    type Error: Send;
    /// The chat gateway is about to be asked, for the first time.
    async fn handing_over(&self, at: DateTime<Utc>) -> Result<(), Self::Error>;
    /// It has refused, and nothing was started: its session, if it made one, counts for nothing.
    async fn refused(&self) -> Result<(), Self::Error>;
    /// The session exists.
    async fn session_created(&self, session: SessionId) -> Result<(), Self::Error>;
    /// The message was accepted.
    async fn run_started(&self, run: RunId, cursor: EventId) -> Result<(), Self::Error>;
    /// Events up to here need not be seen again.
    async fn seen(&self, cursor: EventId) -> Result<(), Self::Error>;
    /// A model call took this much, and cost this where the price is known, as the event says. Whether the run has to end for
    /// it.
    async fn spent(&self, report: EventId, usage: &Usage, cost: Option<Usd>) -> Result<bool, Self::Error>;
    /// Calls wait for a person. Which of them are decided already, and how.
    async fn paused(&self, calls: &[ProposedToolCall]) -> Result<HashMap<String, ToolDecision>, Self::Error>;
    /// They no longer do.
    async fn resumed(&self) -> Result<(), Self::Error>;
    /// Nobody decided in time; what `paused` says next has to be that they are rejected.
    async fn expired(&self) -> Result<(), Self::Error>;
    /// Its time is up: it is cancelled next.
    async fn over_limit(&self) -> Result<(), Self::Error>;
    /// The server says who decided.
    async fn decided(&self, decided: BTreeMap<ToolCallId, DecidedBy>) -> Result<(), Self::Error>;
    /// Changes whenever `paused` may say something new; none: never.
    fn decisions(&self) -> Option<watch::Receiver<()>>;
}

/// Why there is no report.
#[derive(Debug)]
pub(crate) enum DriveError<E> {
    /// No run was started.
    Agent(AgentError),
    /// The observer failed.
    Observer(E),
}

impl<E> From<AgentError> for DriveError<E> {
    fn from(error: AgentError) -> Self {
        Self::Agent(error)
    }
}

/// Sees one run to its end.
pub(crate) async fn drive<O: Observer>(
    client: &StakpakClient,
    clock: &dyn Clock,
    order: &Order,
    limits: Limits,
    progress: Progress,
    observer: &O,
) -> Result<AgentReport, DriveError<O::Error>> {
    let at = Place { client, clock, limits: &limits, observer };
    let chat = order.chat.as_ref().filter(|_| match progress.way {
        Way::Open => progress.session.is_none(),
        Way::Chat(_) => true,
        Way::Silent => false,
    });
    let begun = match chat {
        Some(chat) => hand_over::begin(&at, &order.key, chat, progress).await?.map(|begun| (begun, &chat.when_asked)),
        None => None,
    };
    let (Begun { session, run, cursor }, when_asked) = match begun {
        Some(begun) => begun,
        // The session of a gateway that has refused is not ours.
        None if chat.is_some() => (begin(&at, order, Progress::default()).await?, &order.when_asked),
        None => (begin(&at, order, progress).await?, &order.when_asked),
    };
    let follower = follow::Follower::new(client, clock, when_asked, limits, observer, (session, run), progress);
    let span = tracing::info_span!("follow", session_id = %session, run_id = %run);
    follower.follow(cursor).instrument(span).await.map_err(DriveError::Observer)
}

/// What every request is made with.
struct Place<'a, O> {
    client: &'a StakpakClient,
    clock: &'a dyn Clock,
    limits: &'a Limits,
    observer: &'a O,
}

/// A run that exists, and the last of its events that need not be seen again.
struct Begun {
    session: SessionId,
    run: RunId,
    cursor: EventId,
}

/// Starts the run at the server.
async fn begin<O: Observer>(
    Place { client, clock, limits, observer }: &Place<'_, O>,
    order: &Order,
    progress: Progress,
) -> Result<Begun, DriveError<O::Error>> {
    let session = match progress.session {
        Some(session) => session,
        None => {
            let create = || create(client, order);
            let session = until(*clock, limits, AgentRequest::Session, is_transient, create).await?;
            observer.session_created(session).await.map_err(DriveError::Observer)?;
            session
        }
    };
    let (run, cursor) = match progress.run {
        Some(run) => (run, progress.cursor),
        None => {
            let may_be_posted = progress.session.is_some();
            let begun = || find_or_post(client, order, session, may_be_posted);
            let (run, cursor) = until(*clock, limits, AgentRequest::Message, is_transient, begun).await?;
            observer.run_started(run, cursor).await.map_err(DriveError::Observer)?;
            (run, cursor)
        }
    };
    Ok(Begun { session, run, cursor })
}

async fn create(client: &StakpakClient, order: &Order) -> Result<SessionId, ClientError> {
    let options = CreateSessionOptions { title: order.title.clone(), cwd: order.cwd.clone() };
    let session = client.with_idempotency_key(format!("{}:session", order.key)).create_session_with(options).await?;
    Ok(SessionId(session.id))
}

/// The run that the message has started, or starts now.
async fn find_or_post(
    client: &StakpakClient,
    order: &Order,
    session: SessionId,
    may_be_posted: bool,
) -> Result<(RunId, EventId), ClientError> {
    let posted = if may_be_posted { posted(client, session).await? } else { None };
    match posted {
        Some(run) => Ok((run, EventId(0))),
        None => post(client, order, session).await,
    }
}

async fn post(client: &StakpakClient, order: &Order, session: SessionId) -> Result<(RunId, EventId), ClientError> {
    let options = SendMessageOptions {
        model: order.model.clone(),
        sandbox: order.sandbox,
        context: order.context.clone(),
        overrides: Some(order.overrides.clone()),
        ..SendMessageOptions::default()
    };
    let message = Message::user(order.prompt.clone());
    let accepted = client
        .with_idempotency_key(order.key.clone())
        .send_messages(&session.to_string(), vec![message], options)
        .await?;
    Ok((RunId(accepted.run_id), EventId(accepted.cursor)))
}

/// The run of a session that an earlier process may have posted to. Asking for it under the same key once more would start
/// another one after the server has forgotten the key.
async fn posted(client: &StakpakClient, session: SessionId) -> Result<Option<RunId>, ClientError> {
    if client.get_messages(&session.to_string(), 0, 0).await?.total == 0 {
        return Ok(None);
    }
    let mut events = client.subscribe_events(&session.to_string(), Some(0)).await?;
    while let Some(event) = events.next_event().await {
        if let Some(run) = event.envelope().and_then(|envelope| envelope.run_id) {
            return Ok(Some(run));
        }
    }
    Ok(None)
}

/// Cancels a run whose end nobody waits for, if the server can be asked.
pub(crate) async fn call_off(client: &StakpakClient, session: SessionId, run: RunId) {
    let mut backoff = Backoff::new();
    for _ in 0..CALL_OFF_ATTEMPTS {
        match client.cancel_run(&session.to_string(), &run.to_string()).await {
            Err(error) if is_transient(&error) => backoff.wait(Some(&error)).await,
            Err(error) => return tracing::info!(%session, %error, "a run that was given up is not cancelled"),
            Ok(()) => return,
        }
    }
}

/// Cancels a run that should have ended until the server tells how it ended, or that it does not know the run. One whose
/// message had no answer is found first, under the same key.
pub(crate) async fn settle<O: Observer>(
    client: &StakpakClient,
    clock: &dyn Clock,
    order: &Order,
    limits: Limits,
    (session, run): (SessionId, Option<RunId>),
    observer: &O,
) -> Result<AgentReport, DriveError<O::Error>> {
    let at_limit = !limits.stop.is_cancelled();
    let run = match run {
        Some(run) => run,
        None => {
            let found = || find_or_post(client, order, session, true);
            let (run, cursor) = answered(AgentRequest::Message, &mut None, is_transient, found).await?;
            observer.run_started(run, cursor).await.map_err(DriveError::Observer)?;
            run
        }
    };
    let (asked, known) = (&order.when_asked, (session, run));
    let follower = follow::Follower::new(client, clock, asked, limits, observer, known, Progress::default());
    Ok(follower.settle(at_limit).await)
}

/// Repeats a request, under its key, until it is answered or the time is up. A run that is to be stopped may exist already: its
/// request is repeated for as long as a cancel may take.
async fn until<T, F: Future<Output = Result<T, ClientError>>>(
    clock: &dyn Clock,
    limits: &Limits,
    request: AgentRequest,
    repeats: impl Fn(&ClientError) -> bool,
    attempt: impl Fn() -> F,
) -> Result<T, AgentError> {
    let mut last = None;
    let end = match request {
        // It may have started a run, which has to be known to be cancelled.
        AgentRequest::Message => limits.deadline.checked_add_signed(limits.stop_grace).unwrap_or(limits.deadline),
        AgentRequest::Session | AgentRequest::HandOver => limits.deadline,
    };
    let answered = answered(request, &mut last, repeats, attempt);
    let in_time = in_time(clock, limits, end, answered).await;
    in_time.unwrap_or_else(|| Err(AgentError::NoAnswer { request, source: last }))
}

/// None when it is `end`, or when it should stop and has not within the time for that.
async fn in_time<T>(
    clock: &dyn Clock,
    limits: &Limits,
    end: DateTime<Utc>,
    work: impl Future<Output = T>,
) -> Option<T> {
    tokio::select! {
        done = work => Some(done),
        () = clock.sleep_until(end) => None,
        () = stopped(clock, limits) => None,
    }
}

/// Repeats a request, under its key, until it is answered.
async fn answered<T, F: Future<Output = Result<T, ClientError>>>(
    request: AgentRequest,
    last: &mut Option<ClientError>,
    repeats: impl Fn(&ClientError) -> bool,
    attempt: impl Fn() -> F,
) -> Result<T, AgentError> {
    let mut backoff = Backoff::new();
    loop {
        match attempt().await {
            Ok(answer) => return Ok(answer),
            Err(error) if repeats(&error) => {
                tracing::warn!(%request, %error, "no answer yet");
                backoff.wait(Some(last.insert(error))).await;
            }
            Err(source) => return Err(AgentError::Refused { request, source }),
        }
    }
}

async fn stopped(clock: &dyn Clock, limits: &Limits) {
    limits.stop.cancelled().await;
    clock.sleep_until(clock.now() + limits.stop_grace).await;
}
