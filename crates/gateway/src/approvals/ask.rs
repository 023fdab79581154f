//! From calls that wait on the server to people who are asked.

use std::collections::{BTreeMap, HashMap};

use base64::{Engine, prelude::BASE64_STANDARD};
use sha2::{Digest, Sha256};
use stakpak_client::{ToolDecisionAction, ToolDecisionInput};

use super::{
    Call, Desk, DeskError,
    buttons::buttons,
    call::args_hash,
    desk::part,
    prompt::{self, Shown},
};
use crate::{
    access::approval_id,
    clock::{millis, now_ms},
    store::{Approval, AskedFor, Content, Decision, LostPrompt, NewPart, OpenRun, Stage},
};

/// Who denies what nobody may decide.
const NOBODY: &str = "the gateway";

impl Desk {
    /// Brings what is asked here in line with what waits on the server. Repeating it changes nothing.
    pub(crate) async fn reconcile(&self, run: &OpenRun) -> Result<(), DeskError> {
        let pending = self.client.pending_tools(&run.session_id).await?;
        let of_run = pending.run_id.is_some_and(|id| id.to_string() == run.run_id);
        let pending: Vec<Call> = pending.tool_calls.into_iter().filter(|_| of_run).map(Call::from).collect();
        let known = self.store.approvals_of(&run.run_id).await?;
        if pending.is_empty() && known.is_empty() {
            return Ok(());
        }
        let cwd = self.client.get_session(&run.session_id).await?.cwd;
        let mut rest = pending.clone();
        for approval in known {
            if self.still_stands(&approval, &pending, cwd.as_deref()).await? {
                rest.retain(|call| !approval.calls.iter().any(|known| known.id == call.id));
            }
        }
        let remembered = self.store.remembered(&run.session_id).await?;
        let (mut decided, mut ask) = (HashMap::new(), Vec::new());
        for call in rest {
            if let Some(decision) = self.policy.decide(&call.name) {
                decided.insert(call.id, decision);
            } else if call.may_be_remembered() && remembered.contains_key(&call.fingerprint(cwd.as_deref())) {
                decided.insert(call.id, ToolDecisionInput { action: ToolDecisionAction::Accept, content: None });
            } else {
                ask.push(call);
            }
        }
        // People first: a refusal of the server must not keep them from being asked.
        if !ask.is_empty() {
            self.ask(run, ask, cwd).await?;
        }
        if decided.is_empty() {
            return Ok(());
        }
        let client = self.client.with_idempotency_key(format!("gw-decide-{}-{}", run.run_id, key(&decided)));
        client.resolve_tools(&run.session_id, &run.run_id, decided).await?;
        Ok(())
    }

    /// Whether an approval is still about what waits; one that is not is closed.
    async fn still_stands(&self, approval: &Approval, pending: &[Call], cwd: Option<&str>) -> Result<bool, DeskError> {
        if approval.stage != Stage::Open {
            return Ok(true);
        }
        let waits = |call: &Call| pending.iter().find(|waiting| waiting.id == call.id);
        let undecided = approval.undecided();
        let known = |call: &Call| call.fingerprint(approval.cwd.as_deref());
        let changed =
            undecided.iter().any(|(_, call)| waits(call).is_some_and(|now| now.fingerprint(cwd) != known(call)));
        if changed || approval.policy_version != self.policy.version() {
            self.close(approval, "This has changed since; a new request follows.").await?;
            return Ok(false);
        }
        if !undecided.iter().any(|(_, call)| waits(call).is_some()) && approval.untold().is_empty() {
            self.decided_elsewhere(approval).await?;
            return Ok(false);
        }
        match self.store.lost_prompt(&approval.prompt_key).await? {
            None => {}
            Some(LostPrompt::Refused) => self.post_again(approval).await?,
            Some(LostPrompt::PerhapsSent) => {
                if let Some(lane) = self.store.retry_prompt(&approval.prompt_key).await? {
                    self.deliveries.wake(&lane);
                }
            }
        }
        Ok(true)
    }

    async fn ask(&self, run: &OpenRun, calls: Vec<Call>, cwd: Option<String>) -> Result<(), DeskError> {
        let address = match &self.route {
            Some(route) => self.located(route).await,
            None => run.address.clone(),
        };
        let asked_for = self.store.asked_for(run, address.channel.as_str()).await?;
        let (id, now) = (approval_id()?, now_ms());
        let timeout = millis(self.timeout);
        let mut approval = Approval {
            prompt_key: format!("approval:{id}:prompt"),
            id,
            run_id: run.run_id.clone(),
            session_id: run.session_id.clone(),
            args_hash: args_hash(&calls, cwd.as_deref()),
            calls,
            cwd,
            policy_version: self.policy.version(),
            origin: run.address.clone(),
            address,
            file_key: None,
            stage: Stage::Open,
            decisions: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            created_at: now,
            remind_at: Some(now + timeout / 2),
            expires_at: now.saturating_add(timeout),
            routing_key: asked_for.routing_key.clone(),
            requester: asked_for.requester.clone(),
        };
        let parts = if self.somebody_may_decide(&approval, &asked_for) {
            self.prompt(&mut approval)
        } else {
            self.refuse(&mut approval, now)
        };
        tracing::info!(
            run_id = run.run_id,
            approval_id = approval.id,
            calls = approval.calls.len(),
            "a person is asked"
        );
        self.store.ask(approval, parts.clone()).await?;
        self.deliveries.wake_for(&parts);
        self.asked.notify_one();
        Ok(())
    }

    fn somebody_may_decide(&self, approval: &Approval, asked_for: &AskedFor) -> bool {
        let channel = approval.address.channel.as_str();
        let requester = approval.requester.as_ref().is_some_and(|claim| claim.channel() == channel);
        self.gate.access.lists_approvers(channel)
            || asked_for.has_approver
            || (requester && !self.gate.rules.two_person)
    }

    fn prompt(&self, approval: &mut Approval) -> Vec<NewPart> {
        let address = approval.address.clone();
        let Shown { body, file } = prompt::prompt(approval, &self.head(approval), &|text| self.compose(&address, text));
        let mut parts = Vec::new();
        if let Some(text) = file {
            let key = format!("{}:file", approval.prompt_key);
            let name = format!("approval-{}.txt", &approval.id[..8.min(approval.id.len())]);
            let caption = Some("The full text of the request below.".to_owned());
            let base64 = BASE64_STANDARD.encode(self.redactor.redact(&text).as_bytes());
            parts.push(part(&address, key.clone(), Content::File { name, caption, base64 }));
            approval.file_key = Some(key);
        }
        let set = |all_seen| buttons(&approval.id, approval.calls.len(), &approval.undecided(), all_seen);
        let content =
            Content::Prompt { body, buttons: set(true), needs: approval.file_key.clone(), without: set(false) };
        parts.push(part(&address, approval.prompt_key.clone(), content));
        if self.route.is_some() && address != approval.origin {
            let text = format!("This needs an approval; it was asked for in {}.", address.target_key());
            parts.extend(self.texts(&approval.origin, &format!("approval:{}:note", approval.id), &text));
        }
        parts
    }

    fn head(&self, approval: &Approval) -> String {
        let minutes = self.timeout.as_secs().div_ceil(60);
        let who = match &approval.requester {
            Some(claim) => format!(" for {}", prompt::plain(claim.sender.name())),
            None => String::new(),
        };
        let id = &approval.id[..8.min(approval.id.len())];
        let cwd = approval.cwd.as_deref().map(|cwd| format!(" in {}", prompt::plain(cwd))).unwrap_or_default();
        format!("**Approval needed**{who}{cwd}, within {minutes} minutes (id {id})")
    }

    /// Nobody may decide: the chat hears it, and the run goes on without.
    fn refuse(&self, approval: &mut Approval, now: i64) -> Vec<NewPart> {
        let channel = approval.address.channel.as_str();
        let reason = format!(
            "nobody may approve it: no approver is configured for {channel} (`approvers` under [channels.{channel}])"
        );
        for call in &approval.calls {
            let decision =
                Decision { allow: false, reason: Some(reason.clone()), by: NOBODY.to_owned(), by_id: None, at: now };
            approval.decisions.insert(call.id.clone(), decision);
        }
        approval.stage = Stage::Decided;
        let head = format!("An approval was needed, and {reason}. Denied.");
        let body = prompt::void(approval, &head, &|text| self.compose(&approval.address, text));
        vec![part(&approval.address, approval.prompt_key.clone(), Content::Text { body })]
    }

    /// The prompt did not arrive and will not.
    async fn post_again(&self, approval: &Approval) -> Result<(), DeskError> {
        let mut again = approval.clone();
        again.prompt_key = format!("approval:{}:prompt:{}", approval.id, now_ms());
        again.file_key = None;
        let parts = self.prompt(&mut again);
        let keys = (again.prompt_key, again.file_key);
        self.store.asked_again(&approval.id, keys, parts.clone(), now_ms()).await?;
        self.deliveries.wake_for(&parts);
        Ok(())
    }
}

/// The same for the same decisions.
fn key(decisions: &HashMap<String, ToolDecisionInput>) -> String {
    let sorted: BTreeMap<_, _> = decisions.iter().collect();
    let mut digest = Sha256::new();
    for (id, decision) in sorted {
        digest.update(id.as_bytes());
        digest.update([0, u8::from(decision.action == ToolDecisionAction::Accept)]);
    }
    digest.finalize().iter().take(12).map(|byte| format!("{byte:02x}")).collect()
}
