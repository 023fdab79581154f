//! What adapters received: inbox rows and watermarks.
//!
//! Who may talk is decided in the transaction that keeps what they said, with the grants as they are then.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use serde_json::to_string;
use stakpak_sqlite::rusqlite::{Connection, OptionalExtension, params};

use super::{
    Approval, Content, GatewayStore, NewPart, StoreError,
    access::granted,
    admission::{self, Admission, NotAdmitted},
    away,
    decide::{self, Resolution, Rules, Who, Wish},
    migrated::{self, Migration},
    notice, outbox,
    pairing::{self, OwnerTry},
    prompts,
    strangers::{Refusal, display_name, refuse},
};
use crate::{
    Address, ChannelId, GatewayConfig, Press, Reaction, Sender, StreamId,
    access::{Access, Claim, Limits, Rate, Verdict},
    approvals::parse,
};

const TOO_FAST: &str = "You are writing too fast. This message was not taken, nor will the next ones be until you slow down \
                        to 20 a minute.";
const FULL: &str = "Too many messages wait in this chat already; this one was not taken. See `/queue` and `/stop`.";
const HINT: &str = "This message waits: an approval is open. Its buttons decide it; /stop ends the run.";
const OWNER: &str = "You are this bot's admin now. Write what you need.";
const WRONG_CODE: &str = "This code is wrong, or it has expired.";

/// What decides about a batch.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) access: Access,
    pub(crate) limits: Limits,
    /// Most waiting messages of a conversation.
    pub(crate) queue_limit: u32,
    /// Until then, Unix ms, what comes in is taken for what waited while the gateway was down.
    pub(crate) late_until: AtomicI64,
    /// Who may decide.
    pub(crate) rules: Rules,
}

impl Gate {
    pub(crate) fn new(config: &GatewayConfig) -> Self {
        let queue_limit = config.gateway.queue_limit;
        Self {
            access: Access::new(config),
            limits: Limits::new(),
            queue_limit,
            late_until: AtomicI64::new(0),
            rules: Rules::new(config),
        }
    }
}

/// Events as they are kept, if they are.
#[derive(Debug)]
pub(crate) struct IntakeBatch {
    pub(crate) stream: StreamId,
    pub(crate) position: Option<i64>,
    pub(crate) arrivals: Vec<Arrival>,
}

/// One event.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// Somebody wrote.
    Message(Box<Knock>),
    /// Somebody changed what they wrote.
    Edited(Box<Knock>),
    /// Somebody pressed a button.
    Press(Box<NewPress>),
    /// A group got a new id.
    Migrated(Box<Migration>),
    /// Cannot be decoded.
    Dead(Box<NewInbox>),
}

/// A press before it was looked at.
#[derive(Debug)]
pub(crate) struct NewPress {
    pub(crate) press: Press,
    /// Kept if it counts, so that it counts once.
    pub(crate) row: NewInbox,
}

/// A message before access was decided.
#[derive(Debug)]
pub(crate) struct Knock {
    pub(crate) claim: Claim,
    /// What is kept if its writer is allowed.
    pub(crate) row: NewInbox,
    /// It is `/pair CODE`.
    pub(crate) pair_code: Option<String>,
    /// The messages that it answers, or whose thread it is in.
    pub(crate) answers: Vec<String>,
}

impl Knock {
    /// Who answers a message of the bot goes on in the conversation of that message.
    fn join(&mut self, connection: &Connection) -> Result<(), StoreError> {
        let lane = self.claim.address.chat_key();
        for message_id in &self.answers {
            if let Some(routing_key) = prompts::conversation_of(connection, &lane, message_id)? {
                self.row.routing_key = routing_key;
                return Ok(());
            }
        }
        Ok(())
    }
}

/// A row of the inbox.
#[derive(Debug)]
pub(crate) struct NewInbox {
    pub(crate) channel: String,
    pub(crate) account: String,
    pub(crate) event_key: String,
    pub(crate) kind: &'static str,
    /// `accepted`, or `dead` for what cannot be decoded.
    pub(crate) state: &'static str,
    pub(crate) routing_key: String,
    pub(crate) address: Option<Address>,
    pub(crate) sender: Option<Sender>,
    pub(crate) order_key: i64,
    pub(crate) message_id: Option<String>,
    pub(crate) payload: String,
}

/// What an accepted batch asks for.
#[derive(Debug, Default)]
pub(crate) struct Accepted {
    /// Conversations with a new message.
    pub(crate) routing_keys: Vec<String>,
    /// Conversations with a new command.
    pub(crate) commands: Vec<String>,
    /// Chats with a new text.
    pub(crate) chats: Vec<String>,
    /// Presses and what came of each.
    pub(crate) presses: Vec<(Press, Pressed)>,
    /// Strangers whom admins are to be asked about.
    pub(crate) admissions: Vec<Admission>,
    /// What was decided by a message; the server has to hear of it.
    pub(crate) decided: Vec<Approval>,
    /// Strangers the log has not told about for an hour.
    pub(crate) to_tell: Vec<Refusal>,
}

/// What came of a press.
#[derive(Debug)]
pub(crate) enum Pressed {
    /// On the prompt of an approval.
    Approval(Resolution),
    /// On a question about a stranger: the chats that are told, or why nothing came of it.
    Admission(Result<Vec<String>, NotAdmitted>),
}

impl GatewayStore {
    /// Rows and watermark in one transaction; a row that is there already stays as it is.
    pub(crate) async fn accept(&self, batch: IntakeBatch, gate: Arc<Gate>, now: i64) -> Result<Accepted, StoreError> {
        self.database.write(move |connection| accept(connection, batch, &gate, now)).await
    }

    /// The last position of a stream, unless it has not moved since `oldest`.
    pub(crate) async fn position(&self, stream: &StreamId, oldest: i64) -> Result<Option<i64>, StoreError> {
        let stream = stream.clone();
        self.database
            .read(move |connection| {
                let sql = "SELECT position FROM watermarks
                           WHERE channel = ?1 AND account = ?2 AND stream = ?3 AND moved_at >= ?4";
                let key = params![stream.channel.as_str(), stream.account, stream.name, oldest];
                Ok(connection.prepare_cached(sql)?.query_row(key, |row| row.get(0)).optional()?)
            })
            .await
    }

    /// The streams of a bot and how far each was received.
    pub(crate) async fn positions(&self, channel: &ChannelId, account: &str) -> Result<Vec<(String, i64)>, StoreError> {
        let (channel, account) = (channel.to_string(), account.to_owned());
        self.database
            .read(move |connection| {
                let sql = "SELECT stream, position FROM watermarks WHERE channel = ?1 AND account = ?2";
                let mut statement = connection.prepare_cached(sql)?;
                let rows = statement.query_map([channel, account], |row| Ok((row.get(0)?, row.get(1)?)))?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }
}

fn accept(connection: &Connection, batch: IntakeBatch, gate: &Gate, now: i64) -> Result<Accepted, StoreError> {
    let IntakeBatch { stream, position, arrivals } = batch;
    let mut accepted = Accepted::default();
    for mut arrival in arrivals {
        if let Arrival::Message(knock) | Arrival::Edited(knock) = &mut arrival {
            knock.join(connection)?;
        }
        match arrival {
            Arrival::Message(knock) => take(connection, *knock, gate, &mut accepted, now)?,
            Arrival::Edited(knock) => edit(connection, &knock.row)?,
            Arrival::Press(pressed) => {
                let NewPress { press, row } = *pressed;
                if let Some(pressed) = take_press(connection, &press, &row, gate, now)? {
                    accepted.presses.push((press, pressed));
                }
            }
            Arrival::Migrated(migration) => {
                migrated::rekey(connection, &migration, now)?;
                accepted.chats.push(migration.to.chat_key());
                accepted.commands.push(migration.new_key.clone());
                accepted.routing_keys.push(migration.new_key);
            }
            Arrival::Dead(row) => drop(insert(connection, &row, now)?),
        }
    }
    let Some(position) = position else { return Ok(accepted) };
    let sql = "INSERT INTO watermarks (channel, account, stream, position, moved_at) VALUES (?1, ?2, ?3, ?4, ?5)
               ON CONFLICT DO UPDATE SET position = excluded.position, moved_at = excluded.moved_at";
    let values = params![stream.channel.as_str(), stream.account, stream.name, position, now];
    connection.prepare_cached(sql)?.execute(values)?;
    Ok(accepted)
}

fn take(
    connection: &Connection,
    knock: Knock,
    gate: &Gate,
    accepted: &mut Accepted,
    now: i64,
) -> Result<(), StoreError> {
    let Knock { claim, row, pair_code, .. } = knock;
    if is_known(connection, &row)? {
        return Ok(());
    }
    let verdict = gate.access.verdict(&claim, granted(connection, &claim)?);
    if let Some(code) = pair_code.filter(|_| gate.access.takes_codes(&claim.address)) {
        let tried = pairing::try_owner_code(connection, &claim, &display_name(&claim.sender), &code, now)?;
        if tried != OwnerTry::None || verdict == Verdict::Welcome {
            answer_code(connection, &claim, row, tried, now)?;
            accepted.chats.push(claim.address.chat_key());
            return Ok(());
        }
    }
    if verdict != Verdict::Welcome {
        let refusal = Refusal::of(&claim);
        if verdict == Verdict::MayPair && pairing::offer(connection, &claim, &refusal.display_name, now)? {
            accepted.chats.push(claim.address.chat_key());
            accepted.admissions.extend(admission::of(connection, &claim, &refusal.display_name, now)?);
        }
        if refuse(connection, &refusal, now)? {
            accepted.to_tell.push(refusal);
        }
        return Ok(());
    }
    match gate.limits.count(&row.channel, &row.account, claim.user()) {
        Rate::Fine => {}
        Rate::TooFast => {
            let key = format!("limit:{}:{}", row.account, row.event_key);
            notice::queue(connection, key, &claim.address, TOO_FAST, now)?;
            accepted.chats.push(claim.address.chat_key());
            return Ok(());
        }
        Rate::StillTooFast => return Ok(()),
    }
    let lane = claim.address.chat_key();
    if row.kind == "message" && waiting(connection, &row.routing_key)? >= gate.queue_limit {
        notice::queue(connection, format!("full:{}:{}", row.account, row.event_key), &claim.address, FULL, now)?;
        accepted.chats.push(lane);
        return insert(connection, &NewInbox { state: "dead", ..row }, now).map(drop);
    }
    if insert(connection, &row, now)? {
        if let Some(message_id) = row.message_id.clone().filter(|_| row.kind == "message") {
            let content = Content::Reaction { message_id, reaction: Reaction::Seen, instead_of: None };
            let key = format!("seen:{}:{}:{}", row.channel, row.account, row.event_key);
            let part = NewPart { idem_key: key, address: claim.address.clone(), content };
            outbox::insert(connection, std::slice::from_ref(&part), now)?;
            accepted.chats.push(part.lane());
        }
        if row.kind == "message" {
            interrupt(connection, &row.routing_key, &claim, gate, accepted, now)?;
        }
        if row.kind == "message" && now < gate.late_until.load(Ordering::Relaxed) {
            away::hold(connection, &row.routing_key, row.address.as_ref(), now)?;
            accepted.chats.push(lane);
        }
        let woken = if row.kind == "command" { &mut accepted.commands } else { &mut accepted.routing_keys };
        woken.push(row.routing_key);
    }
    Ok(())
}

/// Counts as long as the message waits; its run, once begun, has the old text.
fn edit(connection: &Connection, row: &NewInbox) -> Result<(), StoreError> {
    let sql = "UPDATE inbox SET payload = ?5 WHERE channel = ?1 AND account = ?2 AND message_id = ?3
               AND routing_key = ?4 AND state = 'accepted' AND kind = 'message'";
    let key = params![row.channel, row.account, row.message_id, row.routing_key, row.payload];
    connection.prepare_cached(sql)?.execute(key)?;
    Ok(())
}

/// Messages of a conversation that have not become runs.
fn waiting(connection: &Connection, routing_key: &str) -> Result<u32, StoreError> {
    let sql = "SELECT count(*) FROM inbox
               WHERE routing_key = ?1 AND state IN ('accepted', 'batched') AND kind IN ('message', 'api')";
    Ok(connection.prepare_cached(sql)?.query_row([routing_key], |row| row.get(0))?)
}

/// Open approvals of the conversation hear of the message, and its writer of them.
fn interrupt(
    connection: &Connection,
    routing_key: &str,
    claim: &Claim,
    gate: &Gate,
    accepted: &mut Accepted,
    now: i64,
) -> Result<(), StoreError> {
    let (denied, waiting) = decide::interrupted(connection, routing_key, claim, &gate.access, &gate.rules, now)?;
    accepted.decided.extend(denied);
    for approval in waiting {
        notice::queue(connection, format!("approval:{}:hint", approval.id), &claim.address, HINT, now)?;
        accepted.chats.push(claim.address.chat_key());
    }
    Ok(())
}

/// None for a press that counted already.
fn take_press(
    connection: &Connection,
    press: &Press,
    row: &NewInbox,
    gate: &Gate,
    now: i64,
) -> Result<Option<Pressed>, StoreError> {
    if is_known(connection, row)? {
        return Ok(None);
    }
    let (pressed, counts) = match admission::parse(&press.payload) {
        Some(wish) => {
            let answer = admission::press(connection, press, wish, &gate.access, now)?;
            let counts = answer.is_ok();
            (Pressed::Admission(answer), counts)
        }
        None => {
            let resolution = press_prompt(connection, press, gate, now)?;
            let counts = !matches!(resolution, Resolution::Refused(_));
            (Pressed::Approval(resolution), counts)
        }
    };
    // A refused press is refused again: it needs no row, and a stranger cannot fill the store.
    if counts {
        insert(connection, row, now)?;
    }
    Ok(Some(pressed))
}

fn press_prompt(connection: &Connection, press: &Press, gate: &Gate, now: i64) -> Result<Resolution, StoreError> {
    let Some((id, act, which)) = parse(&press.payload) else {
        return Ok(Resolution::Refused(decide::Refused::Unknown));
    };
    let claim = Claim { address: press.address.clone(), sender: press.sender.clone(), guild: None };
    let who = Who::Presser { claim: &claim, message_id: &press.message_id };
    let wish = Wish { act, which, reason: None };
    decide::press(connection, id, who, &wish, (&gate.access, &gate.rules), now)
}

fn is_known(connection: &Connection, row: &NewInbox) -> Result<bool, StoreError> {
    let known = "SELECT 1 FROM inbox WHERE channel = ?1 AND account = ?2 AND event_key = ?3";
    Ok(connection.prepare_cached(known)?.exists(params![row.channel, row.account, row.event_key])?)
}

/// The message with the code counts once; the code itself is not kept.
fn answer_code(
    connection: &Connection,
    claim: &Claim,
    row: NewInbox,
    tried: OwnerTry,
    now: i64,
) -> Result<(), StoreError> {
    let key = format!("pair:{}:{}", row.account, row.event_key);
    let text = if tried == OwnerTry::Right { OWNER } else { WRONG_CODE };
    notice::queue(connection, key, &claim.address, text, now)?;
    let row = NewInbox { kind: "command", state: "done", payload: r#"{"text":""}"#.to_owned(), ..row };
    insert(connection, &row, now).map(drop)
}

/// False for a message that is there already.
pub(super) fn insert(connection: &Connection, row: &NewInbox, now: i64) -> Result<bool, StoreError> {
    let sql = "INSERT OR IGNORE INTO inbox
        (channel, account, event_key, kind, routing_key, address, sender, order_key, payload, received_at, state, message_id)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
    let address = row.address.as_ref().map(to_string).transpose()?;
    let sender = row.sender.as_ref().map(to_string).transpose()?;
    let inserted = connection.prepare_cached(sql)?.execute(params![
        row.channel,
        row.account,
        row.event_key,
        row.kind,
        row.routing_key,
        address,
        sender,
        row.order_key,
        row.payload,
        now,
        row.state,
        row.message_id
    ])?;
    Ok(inserted == 1)
}
