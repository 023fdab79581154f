//! A run that the chat gateway starts: the chat sees why it begins, hears its answer, and is asked about its calls.
//!
//! Invariants: the gateway is asked under one key however often it takes; there is no other way to start the run but after a
//! refusal that says that nothing was started; no answer is no refusal.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use stakpak_client::{ClientError, GatewaySend, StakpakClient};
use stakpak_protocol::{EventId, RunId, SessionId};

use super::{Begun, DriveError, Observer, Place, Progress, Way, in_time, until};
use crate::agent::{AgentError, AgentRequest, WhenAsked, retry::Backoff};

/// How long the gateway remembers a key.
const KEY_LIFE: TimeDelta = TimeDelta::hours(24);
/// A gateway that has accepted a run starts it within this, or is asked again what became of it.
const FIRST_LOOK: Duration = Duration::from_secs(2);

/// What the gateway is asked for.
#[derive(Debug, Clone)]
pub(crate) struct HandOver {
    pub(crate) send: GatewaySend,
    pub(crate) when_asked: WhenAsked,
}

/// The run that the gateway has started; none when it has refused.
pub(super) async fn begin<O: Observer>(
    at: &Place<'_, O>,
    key: &str,
    chat: &HandOver,
    progress: Progress,
) -> Result<Option<Begun>, DriveError<O::Error>> {
    if let (Some(session), Some(run)) = (progress.session, progress.run) {
        return Ok(Some(Begun { session, run, cursor: progress.cursor }));
    }
    let client = at.client.with_idempotency_key(key);
    let asked = match progress.way {
        Way::Chat(since) => Asked { client, chat, since, is_doubtful: AtomicBool::new(true) },
        Way::Open | Way::Silent => {
            let since = at.clock.now();
            at.observer.handing_over(since).await.map_err(DriveError::Observer)?;
            Asked { client, chat, since, is_doubtful: AtomicBool::new(false) }
        }
    };
    let session = match progress.session {
        Some(session) => session,
        None => match asked.session(at).await? {
            Some(session) => {
                at.observer.session_created(session).await.map_err(DriveError::Observer)?;
                session
            }
            None => return refused(at).await,
        },
    };
    let learnt = in_time(at.clock, at.limits, at.limits.deadline, asked.run(at.client, session)).await;
    match learnt.ok_or(AgentError::NoAnswer { request: AgentRequest::HandOver, source: None })? {
        Some(run) => {
            let cursor = EventId(0);
            at.observer.run_started(run, cursor).await.map_err(DriveError::Observer)?;
            Ok(Some(Begun { session, run, cursor }))
        }
        None => refused(at).await,
    }
}

async fn refused<O: Observer>(at: &Place<'_, O>) -> Result<Option<Begun>, DriveError<O::Error>> {
    at.observer.refused().await.map_err(DriveError::Observer)?;
    Ok(None)
}

/// A request that is repeated.
struct Asked<'a> {
    client: StakpakClient,
    chat: &'a HandOver,
    since: DateTime<Utc>,
    /// Whether one of its attempts may have been accepted without an answer.
    is_doubtful: AtomicBool,
}

impl Asked<'_> {
    /// The session of the run; none when nothing was started.
    async fn session<O: Observer>(&self, at: &Place<'_, O>) -> Result<Option<SessionId>, AgentError> {
        let forgets_at = self.since + KEY_LIFE;
        let answered = until(at.clock, at.limits, AgentRequest::HandOver, |_| true, || self.once());
        tokio::select! {
            biased;
            () = at.clock.sleep_until(forgets_at) => Err(AgentError::TooLate),
            answered = answered => answered,
        }
    }

    async fn once(&self) -> Result<Option<SessionId>, ClientError> {
        let error = match self.client.gateway_send(&self.chat.send).await {
            Ok(sent) => match sent.session_id.and_then(|id| id.parse().ok()) {
                Some(session) => return Ok(Some(session)),
                None => ClientError::InvalidArgument("the chat gateway did not name the session of the run"),
            },
            Err(error) => error,
        };
        if is_refusal(&error, self.is_doubtful.load(Ordering::Relaxed)) {
            tracing::warn!(%error, "the chat gateway has refused the run; it takes place beside the chat");
            return Ok(None);
        }
        if !matches!(error.status(), Some(429 | 503)) {
            self.is_doubtful.store(true, Ordering::Relaxed);
        }
        Err(error)
    }

    /// The first run of the session, which is its only one; none when the gateway could not start it.
    async fn run(&self, client: &StakpakClient, session: SessionId) -> Option<RunId> {
        tokio::select! {
            biased;
            run = first_run(client, session) => Some(run),
            () = self.given_up() => None,
        }
    }

    /// Returns when the gateway says that it will not start the run.
    async fn given_up(&self) {
        tokio::time::sleep(FIRST_LOOK).await;
        let mut backoff = Backoff::new();
        self.is_doubtful.store(true, Ordering::Relaxed);
        loop {
            if matches!(self.once().await, Ok(None)) {
                return;
            }
            backoff.wait(None).await;
        }
    }
}

async fn first_run(client: &StakpakClient, session: SessionId) -> RunId {
    let mut backoff = Backoff::new();
    loop {
        match client.subscribe_events(&session.to_string(), Some(0)).await {
            Ok(mut events) => {
                while let Some(event) = events.next_event().await {
                    if let Some(run) = event.envelope().and_then(|envelope| envelope.run_id) {
                        return run;
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "the session of a run in a chat cannot be read yet"),
        }
        backoff.wait(None).await;
    }
}

/// Whether the gateway says that nothing was started and nothing will be. After an attempt without an answer only a gateway
/// that has looked for the request says so: it does not know it and cannot take it, or it took it and came to nothing.
fn is_refusal(error: &ClientError, is_doubtful: bool) -> bool {
    let Some(answer) = error.server() else { return false };
    let has_looked = matches!(
        answer.gateway_code.as_deref(),
        Some("channel_not_found" | "interactive_auth_required" | "delivery_failed" | "interactive_start_failed")
    );
    match answer.status {
        400 | 413 => true,
        401 | 403 | 404 => has_looked || !is_doubtful,
        502 => has_looked || !is_doubtful && answer.gateway_code.is_some(),
        _ => false,
    }
}
