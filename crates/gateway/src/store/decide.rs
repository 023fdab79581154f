//! Deciding an approval: all checks and the decision in one transaction, so that of two who decide at once one is first.

use serde_json::json;
use stakpak_sqlite::rusqlite::Connection;

use super::{
    GatewayStore, StoreError,
    access::{granted, has_approver, role},
    approvals::{
        Approval, Decision, PromptMessage, Stage, find, open, open_in, prompt_message, remember, was_shown, write,
    },
    audit::{self, OPERATOR},
    outbox,
    strangers::display_name,
};
use crate::{
    Address, GatewayConfig, MessageWhilePending,
    access::{Access, Claim, Role, Verdict, normal},
    approvals::{Act, ApprovalPolicy, Which},
};

/// What decides who may decide.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) two_person: bool,
    pub(crate) policy_version: String,
    pub(crate) message_while_pending: MessageWhilePending,
}

impl Rules {
    pub(crate) fn new(config: &GatewayConfig) -> Self {
        let settings = &config.gateway;
        Self {
            two_person: settings.two_person,
            policy_version: ApprovalPolicy::new(settings).version(),
            message_while_pending: settings.message_while_pending,
        }
    }
}

/// Who wants to decide.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Who<'a> {
    /// By a button of this message.
    Presser { claim: &'a Claim, message_id: &'a str },
    /// By a command in a chat.
    Writer(&'a Claim),
    /// Who holds the token of the HTTP API.
    Operator,
    /// Nobody, in time.
    Clock,
}

/// What they want.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    pub(crate) act: Act,
    pub(crate) which: Which,
    pub(crate) reason: Option<String>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Resolution {
    /// Decided, by this.
    Decided(Box<Approval>),
    /// Everything is to be shown.
    Show(Box<Approval>),
    /// No.
    Refused(Refused),
}

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("This request is not known any more; it has expired.")]
    Unknown,
    #[error("There is no open request here.")]
    NoneOpen,
    #[error("Several requests are open; say which one by its id: {0}")]
    Several(String),
    #[error("This is not the message that asks. Use the newest one.")]
    OtherMessage,
    #[error("You may not decide this: you are not an approver.")]
    NotApprover,
    #[error("You asked for this yourself; somebody else has to decide it.")]
    OwnRequest,
    #[error("Already decided by {0}.")]
    Decided(String),
    #[error("Too late: the request has expired.")]
    Expired,
    #[error("The rules have changed since; a new request follows.")]
    Outdated,
    #[error("Not everything was shown yet. Press `Show all` first.")]
    NotShown,
    #[error("This cannot be allowed for the whole session.")]
    NotForSession,
    #[error("There is no such call.")]
    NoSuchCall,
}

impl GatewayStore {
    /// Decides the approval with this id.
    pub(crate) async fn decide_as_operator(&self, id: &str, wish: Wish, now: i64) -> Result<Resolution, StoreError> {
        let id = normal(id);
        self.database
            .write(move |connection| attempt(connection, find(connection, &id)?, Who::Operator, &wish, None, now))
            .await
    }

    /// Denies what nobody decided in time.
    pub(crate) async fn expire(&self, id: &str, reason: String, now: i64) -> Result<Resolution, StoreError> {
        let id = id.to_owned();
        let wish = Wish { act: Act::Deny, which: Which::All, reason: Some(reason) };
        self.database
            .write(move |connection| attempt(connection, find(connection, &id)?, Who::Clock, &wish, None, now))
            .await
    }

    /// Decides by a command; without an id the only open approval of the chat.
    pub(crate) async fn decide_as_writer(
        &self,
        claim: Claim,
        id: Option<String>,
        wish: Wish,
        gate: std::sync::Arc<super::Gate>,
        now: i64,
    ) -> Result<Resolution, StoreError> {
        self.database
            .write(move |connection| {
                let approval = match here(connection, &claim.address, id.as_deref())? {
                    Ok(approval) => approval,
                    Err(refused) => return Ok(Resolution::Refused(refused)),
                };
                attempt(connection, Some(approval), Who::Writer(&claim), &wish, Some((&gate.access, &gate.rules)), now)
            })
            .await
    }
}

/// A press of a button.
pub(super) fn press(
    connection: &Connection,
    id: &str,
    who: Who<'_>,
    wish: &Wish,
    gate: (&Access, &Rules),
    now: i64,
) -> Result<Resolution, StoreError> {
    attempt(connection, find(connection, id)?, who, wish, Some(gate), now)
}

/// A message came while approvals are open: the ones it denies, or that wait, of its conversation.
pub(super) fn interrupted(
    connection: &Connection,
    routing_key: &str,
    claim: &Claim,
    access: &Access,
    rules: &Rules,
    now: i64,
) -> Result<(Vec<Approval>, Vec<Approval>), StoreError> {
    let (mut denied, mut waiting) = (Vec::new(), Vec::new());
    for approval in open_in(connection, routing_key)? {
        if rules.message_while_pending == MessageWhilePending::Reject {
            let reason = Some("a message was sent instead of a decision".to_owned());
            let wish = Wish { act: Act::Deny, which: Which::All, reason };
            let who = Who::Writer(claim);
            if let Resolution::Decided(approval) =
                attempt(connection, Some(approval.clone()), who, &wish, Some((access, rules)), now)?
            {
                denied.push(*approval);
                continue;
            }
        }
        waiting.push(approval);
    }
    Ok((denied, waiting))
}

/// The approval that somebody means who writes in a chat.
fn here(connection: &Connection, address: &Address, id: Option<&str>) -> Result<Result<Approval, Refused>, StoreError> {
    let same_chat = |other: &Address| other.channel == address.channel && other.chat == address.chat;
    let mut open: Vec<_> = open(connection)?
        .into_iter()
        .filter(|approval| same_chat(&approval.address) || same_chat(&approval.origin))
        .collect();
    if let Some(id) = id {
        let id = normal(id);
        if let Some(known) =
            find(connection, &id)?.filter(|known| same_chat(&known.address) || same_chat(&known.origin))
        {
            return Ok(Ok(known));
        }
        open.retain(|approval| id.len() >= 4 && approval.id.starts_with(&id));
        return Ok(if open.len() == 1 { open.pop().ok_or(Refused::Unknown) } else { Err(Refused::Unknown) });
    }
    if open.len() > 1 {
        let ids: Vec<_> = open.iter().map(|approval| &approval.id[..8.min(approval.id.len())]).collect();
        return Ok(Err(Refused::Several(ids.join(", "))));
    }
    Ok(open.pop().ok_or(Refused::NoneOpen))
}

fn attempt(
    connection: &Connection,
    approval: Option<Approval>,
    who: Who<'_>,
    wish: &Wish,
    gate: Option<(&Access, &Rules)>,
    now: i64,
) -> Result<Resolution, StoreError> {
    let Some(mut approval) = approval else { return Ok(Resolution::Refused(Refused::Unknown)) };
    if let Some(refused) = refusal(connection, &approval, who, wish, gate, now)? {
        return Ok(Resolution::Refused(refused));
    }
    if wish.act == Act::Show {
        return Ok(Resolution::Show(Box::new(approval)));
    }
    let chosen = match chosen(&approval, &wish.which) {
        Ok(chosen) => chosen,
        Err(refused) => return Ok(Resolution::Refused(refused)),
    };
    let (by, by_id) = match who {
        Who::Presser { claim, .. } | Who::Writer(claim) => {
            (display_name(&claim.sender), Some(format!("{}:{}", claim.channel(), claim.user())))
        }
        Who::Operator => ("the operator".to_owned(), None),
        Who::Clock => ("nobody in time".to_owned(), None),
    };
    let allow = wish.act != Act::Deny;
    let actor = by_id.as_deref().unwrap_or(if matches!(who, Who::Clock) { "clock" } else { OPERATOR });
    let detail = json!({
        "allow": allow, "args_hash": approval.args_hash, "calls": chosen, "for_session": wish.act == Act::Remember,
        "run_id": approval.run_id, "session_id": approval.session_id
    });
    audit::record(connection, now, ("approval.decided", actor), &approval.id, detail)?;
    for call_id in chosen {
        if wish.act == Act::Remember
            && let Some(call) = approval.calls.iter().find(|call| call.id == call_id)
        {
            remember(connection, &approval, call, &by, now)?;
        }
        let decision = Decision { allow, reason: wish.reason.clone(), by: by.clone(), by_id: by_id.clone(), at: now };
        approval.decisions.insert(call_id, decision);
    }
    if approval.undecided().is_empty() {
        approval.stage = Stage::Decided;
    }
    write(connection, &approval)?;
    Ok(Resolution::Decided(Box::new(approval)))
}

fn refusal(
    connection: &Connection,
    approval: &Approval,
    who: Who<'_>,
    wish: &Wish,
    gate: Option<(&Access, &Rules)>,
    now: i64,
) -> Result<Option<Refused>, StoreError> {
    let claim = match who {
        Who::Presser { claim, .. } | Who::Writer(claim) => Some(claim),
        Who::Operator | Who::Clock => None,
    };
    if let Who::Presser { claim, message_id } = who {
        let same_chat =
            claim.address.channel == approval.address.channel && claim.address.chat == approval.address.chat;
        if !same_chat || !is_prompt(connection, approval, message_id)? {
            return Ok(Some(Refused::OtherMessage));
        }
    }
    if let (Some(claim), Some((access, rules))) = (claim, gate)
        && let Some(refused) = not_entitled(connection, approval, claim, access, rules)?
    {
        return Ok(Some(refused));
    }
    if approval.stage != Stage::Open {
        let by = approval.decisions.values().next_back().map(|decision| decision.by.clone());
        return Ok(Some(by.map_or(Refused::Unknown, Refused::Decided)));
    }
    if now >= approval.expires_at && !matches!(who, Who::Clock) {
        return Ok(Some(Refused::Expired));
    }
    if gate.is_some_and(|(_, rules)| rules.policy_version != approval.policy_version) && wish.act != Act::Deny {
        return Ok(Some(Refused::Outdated));
    }
    let allows = matches!(wish.act, Act::Allow | Act::Remember);
    if allows && claim.is_some() && !was_shown(connection, approval)? {
        return Ok(Some(Refused::NotShown));
    }
    let remembers = wish.act == Act::Remember;
    let for_session = approval.undecided().iter().all(|(_, call)| call.may_be_remembered());
    Ok((remembers && !for_session).then_some(Refused::NotForSession))
}

/// Whether this message asks. A press may come before the platform has told which message the prompt is, or may be all that
/// is ever heard of it: its payload is known to those alone who were shown the prompt, so any message will do that is no
/// other one of the bot.
fn is_prompt(connection: &Connection, approval: &Approval, message_id: &str) -> Result<bool, StoreError> {
    Ok(match prompt_message(connection, &approval.prompt_key)? {
        PromptMessage::Is(known) => known == message_id,
        PromptMessage::NotTold => !outbox::is_any_message(connection, &approval.address, message_id)?,
        PromptMessage::None => false,
    })
}

/// An approver, or who asked where nobody is named to decide; and somebody else than who asked if two are needed.
fn not_entitled(
    connection: &Connection,
    approval: &Approval,
    claim: &Claim,
    access: &Access,
    rules: &Rules,
) -> Result<Option<Refused>, StoreError> {
    let (channel, user) = (claim.channel(), claim.user());
    let same = |asked: &&Claim| asked.channel() == channel && asked.user() == user;
    let requester = approval.requester.as_ref().filter(same);
    let entitled = if access.lists_approvers(channel) || has_approver(connection, channel)? {
        access.role(channel, user, role(connection, channel, user)?) >= Some(Role::Approver)
    } else {
        match requester {
            Some(asked) => access.verdict(asked, granted(connection, asked)?) == Verdict::Welcome,
            None => false,
        }
    };
    Ok(match (entitled, requester) {
        (false, _) => Some(Refused::NotApprover),
        (true, Some(_)) if rules.two_person => Some(Refused::OwnRequest),
        (true, _) => None,
    })
}

/// Ids of the calls that are meant and not decided yet.
fn chosen(approval: &Approval, which: &Which) -> Result<Vec<String>, Refused> {
    let of = |id: &str| match approval.decisions.get(id) {
        Some(decision) => Err(Refused::Decided(decision.by.clone())),
        None => Ok(id.to_owned()),
    };
    match which {
        Which::All => Ok(approval.undecided().into_iter().map(|(_, call)| call.id.clone()).collect()),
        Which::Nth(number) => {
            let call = number.checked_sub(1).and_then(|at| approval.calls.get(at)).ok_or(Refused::NoSuchCall)?;
            Ok(vec![of(&call.id)?])
        }
        Which::Ids(ids) => {
            let known = |id: &String| approval.calls.iter().any(|call| call.id == *id);
            if ids.is_empty() || !ids.iter().all(known) {
                return Err(Refused::NoSuchCall);
            }
            ids.iter().map(|id| of(id)).collect()
        }
    }
}
