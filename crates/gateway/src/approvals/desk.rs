//! The place where approvals are asked, decided and passed on: one task a run with decisions the server has to hear.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use stakpak_client::{ClientError, StakpakClient};
use stakpak_redact::Redactor;
use tokio::{sync::Notify, time::sleep};

use super::{Act, ApprovalPolicy, Which, prompt};
use crate::{
    Address, Body, GatewayConfig, GatewayStore, StoreError,
    access::{Claim, normal},
    actors::{Actors, Worker},
    backoff::Backoff,
    chunking::chunk_text,
    clock::now_ms,
    delivery::Deliveries,
    store::{Approval, Content, Gate, NewPart, Resolution, Wish},
    targeting::{located, parse_route},
};

const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Characters of an id, and of a beginning of one that is enough.
const ID_LENGTH: usize = 26;
const SHORTEST_ID: usize = 4;

/// The desk's tasks, by run id.
pub(crate) type Approvals = Actors<Desk>;

/// Works for approvals.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(super) store: GatewayStore,
    pub(super) client: StakpakClient,
    pub(super) deliveries: Arc<Deliveries>,
    pub(super) redactor: Redactor,
    pub(super) policy: ApprovalPolicy,
    pub(super) gate: Arc<Gate>,
    /// Where prompts go instead of into the conversation.
    pub(super) route: Option<Address>,
    pub(super) timeout: Duration,
    /// There is a new approval to keep the time of.
    pub(super) asked: Notify,
}

/// Why a step has to be repeated.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeskError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Server(#[from] ClientError),
}

impl Desk {
    pub(crate) fn new(
        config: &GatewayConfig,
        store: GatewayStore,
        client: StakpakClient,
        deliveries: Arc<Deliveries>,
        redactor: Redactor,
        gate: Arc<Gate>,
    ) -> Self {
        let settings = &config.gateway;
        let route = settings.approval_route.as_ref().and_then(|route| {
            let address = parse_route(route);
            if let Err(error) = &address {
                tracing::error!(%error, "`approval_route` names no place; approvals are asked in their own chats");
            }
            address.ok()
        });
        Self {
            store,
            client,
            deliveries,
            redactor,
            policy: ApprovalPolicy::new(settings),
            gate,
            route,
            timeout: settings.approval_timeout,
            asked: Notify::new(),
        }
    }

    /// A press comes from the chat as the platform numbers it.
    pub(super) async fn located(&self, route: &Address) -> Address {
        match self.deliveries.worker().channel(route.channel.as_str()) {
            Some(channel) => located(&**channel, route.clone()).await,
            None => route.clone(),
        }
    }

    /// `markdown` as messages for a chat, without secrets.
    pub(super) fn compose(&self, address: &Address, markdown: &str) -> Vec<Body> {
        const UNKNOWN_PLATFORM_LIMIT: usize = 2000;
        let markdown = self.redactor.redact(markdown);
        match self.deliveries.worker().channel(address.channel.as_str()) {
            Some(channel) => channel.compose(&markdown),
            None => chunk_text(&markdown, UNKNOWN_PLATFORM_LIMIT).into_iter().map(Body::plain).collect(),
        }
    }

    /// A text as messages, once for its key.
    pub(super) fn texts(&self, address: &Address, key: &str, markdown: &str) -> Vec<NewPart> {
        let bodies = self.compose(address, markdown).into_iter().enumerate();
        bodies.map(|(at, body)| part(address, format!("{key}:{at}"), Content::Text { body })).collect()
    }

    async fn show(&self, approval: &Approval, address: &Address, key: &str) -> Result<(), StoreError> {
        let key = format!("approval:{}:show:{key}", approval.id);
        let parts = self.texts(address, &key, &prompt::everything_as_markdown(approval));
        self.store.queue_parts(parts.clone(), now_ms()).await?;
        self.deliveries.wake_for(&parts);
        Ok(())
    }

    async fn tell_all(&self, run_id: &str) -> Result<(), DeskError> {
        let over = self.store.has_ended(run_id).await?;
        for approval in self.store.approvals_of(run_id).await? {
            if !approval.untold().is_empty() {
                self.tell(&approval, over).await?;
            } else if over {
                self.close(&approval, "The run is over; nothing is left to decide.").await?;
            }
        }
        Ok(())
    }
}

impl Approvals {
    /// `/approve`, `/deny` and `/show` with the words behind them: what their writer is told.
    pub(crate) async fn decide_by_text(
        self: &Arc<Self>,
        claim: Claim,
        act: Act,
        words: Vec<String>,
    ) -> Result<String, StoreError> {
        let (desk, now) = (self.worker(), now_ms());
        let known: Vec<_> = desk.store.unfinished_approvals().await?.into_iter().map(|approval| approval.id).collect();
        let (id, which, reason) = read(words, &known);
        let (wish, address) = (Wish { act, which, reason }, claim.address.clone());
        let resolution = desk.store.decide_as_writer(claim, id, wish, Arc::clone(&desk.gate), now).await?;
        self.follow_up(&resolution, &address, &now.to_string()).await?;
        Ok(match &resolution {
            Resolution::Decided(_) if act == Act::Deny => "Denied.".to_owned(),
            Resolution::Decided(_) => "Allowed.".to_owned(),
            Resolution::Show(_) => "Here is all of it.".to_owned(),
            Resolution::Refused(refused) => refused.to_string(),
        })
    }

    /// The holder of the token decides.
    pub(crate) async fn decide_by_operator(self: &Arc<Self>, id: &str, wish: Wish) -> Result<Resolution, StoreError> {
        let desk = self.worker();
        let resolution = desk.store.decide_as_operator(id, wish, now_ms()).await?;
        if let Resolution::Decided(approval) = &resolution {
            self.decided(approval);
        }
        Ok(resolution)
    }

    /// The server has to hear of a decision.
    pub(crate) fn decided(self: &Arc<Self>, approval: &Approval) {
        if approval.undecided().is_empty() {
            let at = approval.decisions.values().map(|decision| decision.at).max().unwrap_or(approval.created_at);
            let waited = Duration::from_millis(u64::try_from(at - approval.created_at).unwrap_or(0));
            self.worker().deliveries.worker().tally.decided(waited);
        }
        self.wake(&approval.run_id);
    }

    /// Does what was resolved in a transaction before.
    pub(crate) async fn follow_up(
        self: &Arc<Self>,
        resolution: &Resolution,
        address: &Address,
        key: &str,
    ) -> Result<(), StoreError> {
        match resolution {
            Resolution::Decided(approval) => self.decided(approval),
            Resolution::Show(approval) => self.worker().show(approval, address, key).await?,
            Resolution::Refused(_) => {}
        }
        Ok(())
    }
}

#[async_trait]
impl Worker for Desk {
    async fn work(&self, run_id: &str) {
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        while let Err(error) = self.tell_all(run_id).await {
            tracing::warn!(run_id, %error, "a decision is told again");
            sleep(backoff.next()).await;
        }
    }
}

/// `[id] [n|all] [reason]`. A word is an id if it begins one that is open, or looks like a whole one.
fn read(words: Vec<String>, known: &[String]) -> (Option<String>, Which, Option<String>) {
    let mut words = words.into_iter().peekable();
    let is_id = |word: &String| {
        let id = normal(word);
        id.len() == ID_LENGTH || (id.len() >= SHORTEST_ID && known.iter().any(|known| known.starts_with(&id)))
    };
    let id = words.next_if(is_id);
    let which = match words.next_if(|word| word.eq_ignore_ascii_case("all") || word.parse::<usize>().is_ok()) {
        Some(word) => word.parse().map_or(Which::All, Which::Nth),
        None => Which::All,
    };
    let reason: Vec<_> = words.collect();
    (id, which, (!reason.is_empty()).then(|| reason.join(" ")))
}

pub(super) fn part(address: &Address, idem_key: String, content: Content) -> NewPart {
    NewPart { idem_key, address: address.clone(), content }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_id_number_and_reason_as_far_as_they_are_given() {
        let known = ["BECAUSEXYZ".to_owned() + &"A".repeat(16)];
        let read = |text: &str| read(text.split_whitespace().map(str::to_owned).collect(), &known);
        assert_eq!(read(""), (None, Which::All, None));
        assert_eq!(read("2"), (None, Which::Nth(2), None));
        assert_eq!(read("becausex all"), (Some("becausex".to_owned()), Which::All, None));
        assert_eq!(read("not on prod"), (None, Which::All, Some("not on prod".to_owned())));
        assert_eq!(read("because 1 no"), (Some("because".to_owned()), Which::Nth(1), Some("no".to_owned())));
        let whole = "Q".repeat(26);
        assert_eq!(read(&whole), (Some(whole), Which::All, None));
    }
}
