//! What is learnt of a run on the way, kept in its row.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use stakpak_client::ProposedToolCall;
use stakpak_protocol::{DecidedBy, EventId, RunId, SessionId, ToolCallId, ToolDecision, Usage, Usd};
use stakpak_redact::Redactor;
use tokio::sync::{Notify, watch};

use super::outcome::redacted;
use crate::{
    agent::{self, Observer},
    clock::Clock,
    ledger::{Ledger, LedgerError, RunNumber},
    spec::{ScheduleSet, ScheduleSpec},
};

/// Keeps what is learnt in the row.
pub(super) struct InLedger<'a> {
    pub(super) ledger: &'a Ledger,
    pub(super) schedules: &'a watch::Receiver<Arc<ScheduleSet>>,
    pub(super) triggered: &'a Notify,
    pub(super) clock: &'a dyn Clock,
    pub(super) redactor: &'a Redactor,
    pub(super) id: RunNumber,
    pub(super) spec: Arc<ScheduleSpec>,
}

#[async_trait]
impl Observer for InLedger<'_> {
    type Error = LedgerError;

    async fn handing_over(&self, at: DateTime<Utc>) -> Result<(), LedgerError> {
        self.ledger.handing_over(self.id, at).await
    }

    async fn refused(&self) -> Result<(), LedgerError> {
        self.ledger.gateway_refused(self.id).await
    }

    async fn session_created(&self, session: SessionId) -> Result<(), LedgerError> {
        self.ledger.session_created(self.id, session).await
    }

    async fn run_started(&self, run: RunId, cursor: EventId) -> Result<(), LedgerError> {
        self.ledger.run_started(self.id, run, cursor).await
    }

    async fn seen(&self, cursor: EventId) -> Result<(), LedgerError> {
        self.ledger.seen(self.id, cursor).await
    }

    async fn spent(&self, report: EventId, usage: &Usage, cost: Option<Usd>) -> Result<bool, LedgerError> {
        let set = self.schedules.borrow().clone();
        let exceeded = self.ledger.spent(self.id, report, (usage, cost), (&self.spec, set), self.clock.now()).await?;
        if exceeded.is_some_and(|exceeded| exceeded.others) {
            self.triggered.notify_one();
        }
        Ok(exceeded.is_some())
    }

    async fn paused(&self, calls: &[ProposedToolCall]) -> Result<HashMap<String, ToolDecision>, LedgerError> {
        let Some(session) = self.ledger.run(self.id).await?.and_then(|run| run.session_id) else {
            return Ok(HashMap::new());
        };
        let shown = calls.iter().map(|call| {
            let text = redacted(self.redactor, &agent::pause_reason(std::slice::from_ref(call)).to_string());
            let shown: Vec<Value> = serde_json::from_str(&text).unwrap_or_default();
            let shown = shown.into_iter().next().unwrap_or_else(|| json!({ "id": call.id, "name": call.name }));
            (call.id.clone(), shown)
        });
        self.ledger.paused(self.id, session, shown.collect(), &self.spec, self.clock.now()).await
    }

    async fn resumed(&self) -> Result<(), LedgerError> {
        self.ledger.resumed(self.id, self.clock.now()).await
    }

    async fn expired(&self) -> Result<(), LedgerError> {
        self.ledger.expire(self.id, self.clock.now()).await
    }

    async fn over_limit(&self) -> Result<(), LedgerError> {
        self.ledger.over_limit(self.id).await
    }

    async fn decided(&self, decided: BTreeMap<ToolCallId, DecidedBy>) -> Result<(), LedgerError> {
        match self.ledger.run(self.id).await?.and_then(|run| run.session_id) {
            Some(session) => self.ledger.decided_at_server(self.id, session, decided).await,
            None => Ok(()),
        }
    }

    fn decisions(&self) -> Option<watch::Receiver<()>> {
        Some(self.ledger.decisions())
    }
}
