//! Brings what is in the outbox to the gateway: beside the planning loop, which never waits for it.
//!
//! Invariants: of each route the oldest goes first and one at a time; a row is sent under its own key however often it takes, so
//! that the chat sees it once; what the gateway refuses for good is not sent again. No gateway is a reason to wait.

use std::{collections::HashMap, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use stakpak_client::{ClientError, DeliveryState, GatewaySend, StakpakClient};
use stakpak_redact::Redactor;
use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
};

use crate::{
    clock::Clock,
    ledger::{Attempted, Ledger, LedgerError, NotificationState, Outgoing},
    spec::{Notifications, ScheduleSet},
};

/// The first wait before a repeat; it doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: TimeDelta = TimeDelta::seconds(5);
const LONGEST_WAIT: TimeDelta = TimeDelta::minutes(10);

/// Delivers until dropped.
#[derive(Debug, Clone)]
pub(crate) struct Courier {
    pub(crate) ledger: Ledger,
    /// Of this process's server, which the gateway is mounted on.
    pub(crate) client: StakpakClient,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) redactor: Redactor,
    pub(crate) schedules: watch::Receiver<Arc<ScheduleSet>>,
}

/// Routes that are being sent to, by the task that does it.
type Busy = HashMap<tokio::task::Id, String>;

impl Courier {
    /// A ledger that fails is asked again later: that is no reason to end what schedules do.
    pub(crate) async fn run(&self) -> std::convert::Infallible {
        let mut turns = JoinSet::new();
        let mut busy = Busy::new();
        loop {
            let next = match self.send_out(&mut turns, &mut busy).await {
                Ok(next) => next,
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "the outbox of the ledger cannot be read");
                    Some(self.clock.now() + FIRST_WAIT)
                }
            };
            tokio::select! {
                () = self.ledger.posted() => {}
                () = until(&*self.clock, next) => {}
                Some(ended) = turns.join_next_with_id() => self.ended(ended, &mut busy).await,
            }
        }
    }

    /// Starts a turn of every route that is idle and has something due. When the next is due.
    async fn send_out(
        &self,
        turns: &mut JoinSet<Result<(), LedgerError>>,
        busy: &mut Busy,
    ) -> Result<Option<DateTime<Utc>>, LedgerError> {
        let (due, next) = self.ledger.outgoing(self.clock.now()).await?;
        for row in due {
            let route = row.route();
            if !busy.values().any(|busy| *busy == route) {
                let courier = self.clone();
                let turn = turns.spawn(async move { courier.attempt(row).await });
                busy.insert(turn.id(), route);
            }
        }
        Ok(next)
    }

    /// A turn that failed is not repeated at once.
    async fn ended(&self, ended: Result<(tokio::task::Id, Result<(), LedgerError>), JoinError>, busy: &mut Busy) {
        let turn = match ended {
            Ok((turn, Ok(()))) => turn,
            Ok((turn, Err(error))) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the outbox of the ledger cannot be written");
                self.clock.sleep_until(self.clock.now() + FIRST_WAIT).await;
                turn
            }
            Err(error) => {
                tracing::error!(%error, "the delivery of a notification panicked");
                self.clock.sleep_until(self.clock.now() + LONGEST_WAIT).await;
                error.id()
            }
        };
        busy.remove(&turn);
    }

    async fn attempt(&self, row: Outgoing) -> Result<(), LedgerError> {
        let settings = self.schedules.borrow().notifications.clone();
        let max_age = TimeDelta::from_std(settings.max_age).unwrap_or(TimeDelta::MAX);
        let expires_at = row.created_at.checked_add_signed(max_age).unwrap_or(DateTime::<Utc>::MAX_UTC);
        let attempted = if self.clock.now() >= expires_at {
            Attempted::Ended(NotificationState::Expired, None)
        } else {
            match &row.delivery_id {
                None => {
                    self.ledger.sending(row.id).await?;
                    self.send(&row, &settings).await
                }
                Some(delivery) => self.ask(&row, delivery, &settings).await,
            }
        };
        let attempted = match attempted {
            Attempted::Again { at, delivery_id, error } => Attempted::Again {
                at: at.min(expires_at),
                delivery_id,
                error: error.map(|error| self.redacted(&error)),
            },
            Attempted::Ended(state, error) => Attempted::Ended(state, error.map(|error| self.redacted(&error))),
        };
        if let Attempted::Ended(state, error) = &attempted {
            tracing::info!(key = row.key, route = row.route(), %state, error, "notification");
        }
        self.ledger.attempted(row.id, attempted, self.clock.now()).await
    }

    async fn send(&self, row: &Outgoing, settings: &Notifications) -> Attempted {
        let send = GatewaySend {
            channel: row.channel.clone(),
            target: row.target.clone(),
            text: row.notice.text.clone(),
            context: Some(row.notice.context.clone()).filter(|context| !context.is_null()),
            interactive: None,
        };
        match self.gateway(settings).with_idempotency_key(&row.key).gateway_send(&send).await {
            Ok(sent) if sent.delivered => Attempted::Ended(NotificationState::Delivered, None),
            Ok(sent) => {
                let error = "the gateway has it; the platform has not confirmed it yet".to_owned();
                Attempted::Again { at: self.later(row, None), delivery_id: sent.delivery_id, error: Some(error) }
            }
            Err(error) => self.failed(row, &error, None),
        }
    }

    async fn ask(&self, row: &Outgoing, delivery: &str, settings: &Notifications) -> Attempted {
        let found = match self.gateway(settings).gateway_delivery(delivery).await {
            Ok(found) => found,
            // Gone with its store: the same key sends it anew.
            Err(error) if error.is_not_found() => return self.failed(row, &error, None),
            Err(error) => return self.failed(row, &error, Some(delivery)),
        };
        let given_up = |or: &str| {
            Attempted::Ended(NotificationState::Failed, Some(found.error.clone().unwrap_or_else(|| or.to_owned())))
        };
        match found.state {
            DeliveryState::Sent => Attempted::Ended(NotificationState::Delivered, None),
            DeliveryState::Failed => given_up("refused by the platform"),
            DeliveryState::Unknown => given_up("it may have been sent: the platform did not confirm it"),
            DeliveryState::Queued | DeliveryState::Sending => Attempted::Again {
                at: self.later(row, None),
                delivery_id: Some(delivery.to_owned()),
                error: found.error,
            },
        }
    }

    fn failed(&self, row: &Outgoing, error: &ClientError, delivery: Option<&str>) -> Attempted {
        let text = reason(error);
        if is_final(error) && !(error.is_not_found() && row.delivery_id.is_some()) {
            return Attempted::Ended(NotificationState::Failed, Some(text));
        }
        tracing::debug!(key = row.key, error = text, "a notification is not delivered yet");
        let at = self.later(row, error.retry_after());
        Attempted::Again { at, delivery_id: delivery.map(str::to_owned), error: Some(text) }
    }

    /// Twice as long each time, and at least as long as the gateway asks for. What the gateway has already is asked for with the
    /// same patience.
    fn later(&self, row: &Outgoing, asked: Option<Duration>) -> DateTime<Utc> {
        let now = self.clock.now();
        let wait = match row.delivery_id {
            None => FIRST_WAIT * 2_i32.saturating_pow(row.attempts.min(10)),
            Some(_) => ((now - row.created_at) / 2).max(FIRST_WAIT),
        };
        let asked = asked.and_then(|asked| TimeDelta::from_std(asked).ok()).unwrap_or_default();
        now + wait.min(LONGEST_WAIT).max(asked)
    }

    fn gateway(&self, settings: &Notifications) -> StakpakClient {
        match &settings.gateway {
            None => self.client.clone(),
            Some(remote) => StakpakClient::new(&remote.url, remote.token.expose()),
        }
    }

    fn redacted(&self, text: &str) -> String {
        self.redactor.redact(text).into_owned()
    }
}

/// Whether the same request would be refused again. A path that nobody serves is a gateway that does not run.
fn is_final(error: &ClientError) -> bool {
    let Some(answer) = error.server() else { return matches!(error, ClientError::InvalidArgument(_)) };
    match answer.status {
        404 => answer.gateway_code.is_some(),
        502 => answer.gateway_code.as_deref() == Some("delivery_failed"),
        400..500 => !error.is_retryable(),
        _ => false,
    }
}

/// For people: what the gateway says, without what surrounds it.
fn reason(error: &ClientError) -> String {
    match error.server().and_then(|answer| Some((answer.gateway_code.as_deref()?, &answer.message))) {
        Some((code, message)) => format!("{message} ({code})"),
        None if error.is_not_found() => "no gateway runs there".to_owned(),
        None => error.to_string(),
    }
}

async fn until(clock: &dyn Clock, instant: Option<DateTime<Utc>>) {
    match instant {
        Some(instant) => clock.sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
