//! What the store does for a message costs the same however much it has kept.
//!
//! Each statement of the whole life of a message is counted on a store with thousands of closed rows of every kind, many of
//! them of the same conversation: one that reads a table, or all of its conversation's past, shows itself.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::json;
use stakpak_sqlite::rusqlite::{
    Connection, StatementStatus,
    trace::{TraceEvent, TraceEventCodes},
};

use super::{inbound::Accepted, *};
use crate::{
    Address, Body, DeliveryContext, GatewayCliFlags, GatewayConfig, Press, Queued, Sender, StreamId,
    access::{Claim, Role},
    approvals::{Act, Call, Which},
    clock::now_ms,
    dispatcher::Sent,
};

/// Of each kind, and a statement that goes through them takes several steps for each.
const ROWS: i32 = 4_000;
const MOST_SCANNED: i32 = 200;
const MOST_STEPS: i32 = ROWS;

const ID: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAA";
const KEY: &str = "telegram:dm:7";
const LANE: &str = "telegram:7";

/// Closed rows: every second one is of the conversation that the test goes on with.
const PAST: &str = "
CREATE TEMP TABLE past AS WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 4000)
    SELECT n, iif(n % 2, 'telegram:dm:7', 'telegram:dm:x' || n) AS key, iif(n % 2, 'telegram:7', 'telegram:x' || n) AS lane,
        iif(n % 2, 'past', 's' || n) AS session FROM n;
INSERT INTO inbox (channel, account, event_key, kind, routing_key, address, sender, order_key, payload, received_at, state,
                   batch_id, run_id, message_id)
    SELECT 'telegram', 'bot', 'past' || n, 'message', key, '{}', '{}', n, '{\"text\":\"past\"}', n, 'done',
        'b' || n, 'r' || n, 'm' || n FROM past;
INSERT INTO inbox (channel, account, event_key, kind, routing_key, order_key, payload, received_at, state)
    SELECT 'telegram', 'bot', 'command' || n, iif(n % 3, 'command', 'press'), key, n, '{\"text\":\"/x\"}', n, 'done' FROM past;
INSERT INTO runs (run_id, batch_id, session_id, routing_key, address, cursor, state, outcome, started_at, finished_at)
    SELECT 'r' || n, 'b' || n, session, key, '{}', 0, 'done', 'completed', n, n FROM past;
INSERT INTO outbox (idem_key, lane, address, kind, payload, state, platform_message_id, created_at, next_at)
    SELECT 'run:r' || n || ':0:0', lane, '{}', 'text', '{}', 'sent', 'o' || n, n, n FROM past;
INSERT INTO outbox (idem_key, lane, address, kind, payload, state, created_at, next_at)
    SELECT 'seen:' || n, lane || '#signs', '{}', 'reaction', '{}', 'sent', n, n FROM past;
INSERT INTO approvals (id, run_id, session_id, routing_key, calls, args_hash, policy_version, origin, address, prompt_key, state,
                       decisions, outcomes, created_at, expires_at)
    SELECT 'a' || n, 'r' || n, session, key, '[]', '', '', '{}', '{}', 'approval:a' || n || ':prompt', 'closed', '{}', '{}', n, n
    FROM past;
INSERT INTO sessions SELECT 'telegram:dm:s' || n, 's' || n, '', 'telegram', 'x', '{}', '{}', n, n FROM past;
INSERT INTO session_state (routing_key, creation_key, title) SELECT 'telegram:dm:s' || n, 'k', '' FROM past;
INSERT INTO conversations (routing_key) SELECT 'telegram:dm:s' || n FROM past;
INSERT INTO delivery_context SELECT 'telegram', 'telegram:chat:x' || n, '{}', n, n FROM past;
INSERT INTO watermarks SELECT 'telegram', 'bot', 'chat:x' || n, n, n FROM past;
INSERT INTO access SELECT 'telegram', 'user', 'x' || n, 'user', 'allowed', '', n FROM past;
INSERT INTO remembered SELECT 's' || n, 'f' || n, 'x', n FROM past;
INSERT INTO deliveries SELECT 'd' || n, '{}', key, session, NULL, n FROM past;
INSERT INTO sends SELECT 'k' || n, '', 'd' || n, unixepoch() * 1000 FROM past;
INSERT INTO audit SELECT n, n, 'access.granted', 'operator', 'x', '{}', '' FROM past;
DROP TABLE past;
";

/// What a statement has cost so far, as SQLite counts it: rows of full scans, and steps of its program.
type Cost = (i32, i32);

#[derive(Default)]
struct Seen {
    /// The counters of a statement go on from one execution to the next.
    so_far: HashMap<String, Cost>,
    most: BTreeMap<String, Cost>,
}

static SEEN: Mutex<Option<Seen>> = Mutex::new(None);

fn seen() -> MutexGuard<'static, Option<Seen>> {
    SEEN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn count(event: TraceEvent<'_>) {
    let TraceEvent::Profile(statement, _) = event else { return };
    let (sql, mut seen) = (statement.sql().into_owned(), seen());
    let seen = seen.get_or_insert_default();
    let now = (statement.get_status(StatementStatus::FullscanStep), statement.get_status(StatementStatus::VmStep));
    let before = seen.so_far.insert(sql.clone(), now).filter(|before| before.1 <= now.1).unwrap_or_default();
    let most = seen.most.entry(sql).or_default();
    *most = (most.0.max(now.0 - before.0), most.1.max(now.1 - before.1));
}

async fn store() -> GatewayStore {
    let watch = |connection: &mut Connection| {
        connection.trace_v2(TraceEventCodes::SQLITE_TRACE_PROFILE, Some(count)).unwrap();
    };
    let database = Database::open_in_memory_with(schema::MIGRATIONS, watch).unwrap();
    database.write(|connection| Ok::<_, StoreError>(connection.execute_batch(PAST)?)).await.unwrap();
    seen().get_or_insert_default().most.clear();
    GatewayStore { database }
}

fn gate() -> Arc<Gate> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("autopilot.toml");
    std::fs::write(&file, "[channels.telegram]\ntoken = \"1:x\"\nallow_users = [7]\n").unwrap();
    Arc::new(Gate::new(&GatewayConfig::load(file.as_path(), &GatewayCliFlags::default()).unwrap()))
}

fn claim(user: &str) -> Claim {
    let sender = Sender { id: user.into(), username: None, display_name: None };
    let address =
        Address { channel: "telegram".into(), chat: user.to_owned(), thread: None, direct: Some(user.into()) };
    Claim { address, sender, guild: None }
}

fn row(claim: &Claim, event_key: &str, kind: &'static str, text: &str) -> NewInbox {
    NewInbox {
        channel: "telegram".to_owned(),
        account: "bot".to_owned(),
        event_key: event_key.to_owned(),
        kind,
        state: if kind == "press" { "done" } else { "accepted" },
        routing_key: format!("telegram:dm:{}", claim.user()),
        address: Some(claim.address.clone()),
        sender: Some(claim.sender.clone()),
        order_key: 1,
        message_id: Some(event_key.to_owned()),
        payload: json!({ "text": text }).to_string(),
    }
}

/// Somebody's message, as an answer to one of the bot.
fn knock(user: &str, event_key: &str, kind: &'static str, text: &str) -> Box<Knock> {
    let claim = claim(user);
    let row = row(&claim, event_key, kind, text);
    Box::new(Knock { claim, row, pair_code: None, answers: vec!["o1".to_owned()] })
}

async fn accept(store: &GatewayStore, gate: &Arc<Gate>, arrival: Arrival) -> Accepted {
    let stream = StreamId { channel: "telegram".into(), account: "bot".to_owned(), name: "updates".to_owned() };
    let batch = IntakeBatch { stream, position: Some(1), arrivals: vec![arrival] };
    store.accept(batch, Arc::clone(gate), now_ms()).await.unwrap()
}

fn part(idem_key: &str, content: Content) -> NewPart {
    NewPart { idem_key: idem_key.to_owned(), address: claim("7").address, content }
}

fn text(idem_key: &str) -> NewPart {
    part(idem_key, Content::Text { body: Body::plain("said") })
}

async fn send_all(store: &GatewayStore) {
    for lane in [LANE.to_owned(), format!("{LANE}#signs")] {
        while let Some(part) = store.take_part(&lane).await {
            store.sent(part.id, Some(format!("out{}", part.id))).await.unwrap();
        }
    }
}

async fn run(store: &GatewayStore, run_id: &str) -> OpenRun {
    let work = store.next_work(KEY, Queued::Each, now_ms(), |_| Some(RunOptions::default())).await.unwrap();
    let Some(Work::Start(batch)) = work else { panic!("{work:?}") };
    let run = OpenRun {
        run_id: run_id.to_owned(),
        session_id: "s".to_owned(),
        address: batch.address.clone(),
        cursor: 0,
        started_at: now_ms(),
        question: None,
        requester: None,
        timeout_s: None,
        sent: Sent::default(),
        fresh: true,
    };
    store.creation(KEY, String::new(), None).await.unwrap();
    let mapping = SessionMapping {
        routing_key: KEY.to_owned(),
        session_id: "s".to_owned(),
        title: String::new(),
        channel: "telegram".into(),
        peer_id: "7".into(),
        chat_type: crate::ChatType::Direct,
        channel_meta: json!({}),
        created_at: 1,
        updated_at: 1,
    };
    store.started(&batch, &run, Some(mapping)).await.unwrap();
    run
}

async fn ask(store: &GatewayStore, gate: &Gate, run: &OpenRun) {
    let asked_for = store.asked_for(run, "telegram").await.unwrap();
    assert!(store.remembered("s").await.unwrap().is_empty());
    let approval = Approval {
        id: ID.to_owned(),
        run_id: run.run_id.clone(),
        session_id: "s".to_owned(),
        routing_key: KEY.to_owned(),
        calls: vec![Call { id: "c".to_owned(), name: "t".to_owned(), arguments: json!({}) }],
        cwd: None,
        args_hash: String::new(),
        policy_version: gate.rules.policy_version.clone(),
        requester: asked_for.requester,
        origin: run.address.clone(),
        address: run.address.clone(),
        prompt_key: "approval:x:prompt".to_owned(),
        file_key: Some("approval:x:prompt:file".to_owned()),
        stage: Stage::Open,
        decisions: BTreeMap::new(),
        outcomes: BTreeMap::new(),
        created_at: now_ms(),
        remind_at: None,
        expires_at: now_ms() + 3_600_000,
    };
    let prompt = |key: &str| {
        let body = Body::plain("may it?");
        part(key, Content::Prompt { body, buttons: Vec::new(), needs: None, without: Vec::new() })
    };
    let file = text("approval:x:prompt:file");
    store.ask(approval, vec![file, prompt("approval:x:prompt")]).await.unwrap();
    send_all(store).await;
}

async fn press(store: &GatewayStore, gate: &Arc<Gate>, payload: &str) -> Resolution {
    let message = store.message_of("approval:x:prompt").await.unwrap().unwrap();
    let (claim, event_key) = (claim("7"), format!("press:{payload}"));
    let press = Press {
        address: claim.address.clone(),
        sender: claim.sender.clone(),
        event_key: event_key.clone(),
        order_key: 1,
        message_id: message.message_id,
        payload: payload.to_owned(),
        token: String::new(),
    };
    let row = row(&claim, &event_key, "press", payload);
    let accepted = accept(store, gate, Arrival::Press(Box::new(NewPress { press, row }))).await;
    match accepted.presses.into_iter().next() {
        Some((_, Pressed::Approval(resolution))) => resolution,
        pressed => panic!("{pressed:?}"),
    }
}

/// A message becomes a run that asks, is told, answers and ends.
async fn a_message(store: &GatewayStore, gate: &Arc<Gate>) {
    let accepted = accept(store, gate, Arrival::Message(knock("7", "m", "message", "hello"))).await;
    assert_eq!(accepted.routing_keys, [KEY]);
    accept(store, gate, Arrival::Edited(knock("7", "m", "message", "hello!"))).await;
    let run = run(store, "run").await;
    ask(store, gate, &run).await;
    accept(store, gate, Arrival::Message(knock("7", "m2", "message", "and?"))).await;
    assert!(store.waiting_behind(KEY).await.unwrap().is_some());
    assert!(matches!(press(store, gate, &format!("a:{ID}:show")).await, Resolution::Show(_)));
    assert!(matches!(press(store, gate, &format!("a:{ID}:session")).await, Resolution::Decided(_)));
    assert_eq!(store.approvals_of("run").await.unwrap().len(), 1);
    assert_eq!(store.unfinished_approvals().await.unwrap().len(), 1);
    let told = BTreeMap::from([("c".to_owned(), "applied".to_owned())]);
    store.told(ID, told, vec![text("told")], now_ms()).await.unwrap();
    assert_eq!(store.lost_prompt("approval:x:prompt").await.unwrap(), None);
    assert!(!store.has_ended("run").await.unwrap());
    store.send_part("run", &Sent::default(), vec![text("run:run:m1:0")], now_ms()).await.unwrap();
    let ended = EndedRun { outcome: "failed", error: None, unconsumed: vec!["late".to_owned()] };
    let left = store.finish_run("run", ended, vec![text("run:run:0:0")], now_ms()).await.unwrap();
    assert_eq!((left.waiting, left.approvals), (true, false));
    send_all(store).await;
}

async fn commands(store: &GatewayStore, gate: &Arc<Gate>) {
    let accepted = accept(store, gate, Arrival::Message(knock("7", "c", "command", "/new again"))).await;
    assert_eq!(accepted.commands, [KEY]);
    let command = store.next_command(KEY).await.unwrap().unwrap();
    store.role_of(&"telegram".into(), &"7".into()).await.unwrap();
    assert_eq!(store.standing(KEY, LANE).await.unwrap().waiting, ["and?"]);
    assert_eq!(store.last_failed(KEY).await.unwrap().unwrap().text, "hello!");
    assert_eq!(store.last_failed("telegram:dm:none").await.unwrap(), None);
    let change = Change {
        renew: true,
        held: Some(false),
        clear: true,
        model: Some(None),
        message: Some(Payload::default()),
        resend: true,
    };
    store.end_command(&command, change, vec![text("command")], now_ms()).await.unwrap();
    assert!(store.next_command(KEY).await.unwrap().is_none());
    let wish = Wish { act: Act::Allow, which: Which::All, reason: None };
    let resolution = store.decide_as_writer(claim("7"), None, wish.clone(), Arc::clone(gate), now_ms()).await.unwrap();
    assert!(matches!(resolution, Resolution::Refused(Refused::NoneOpen)), "{resolution:?}");
    store.decide_as_operator(ID, wish, now_ms()).await.unwrap();
    store.allow_as("telegram:7".to_owned(), &"telegram".into(), Subject::User, "8", Role::User).await.unwrap();
    store.revoke_as("telegram:7".to_owned(), &"telegram".into(), Subject::User, "8").await.unwrap();
}

/// A program's text with a prompt, of which the first part is refused, retried and lands in a chat that was named otherwise.
async fn a_delivery(store: &GatewayStore) {
    let claim = claim("7");
    let prompt = NewInbox { state: "awaiting", ..row(&claim, "d", "api", "why?") };
    let send = NewSend {
        idem_key: Some("key".to_owned()),
        body_hash: String::new(),
        delivery_id: "d".to_owned(),
        address: claim.address.clone(),
        parts: vec![text("send:d:text:0"), text("send:d:check:0")],
        prompt: Some((prompt, "s".to_owned())),
        context: Some((DeliveryContext(json!({})), now_ms() + 1_000)),
    };
    store.begin_send(send, now_ms()).await.unwrap();
    assert_eq!(store.known_send("key", "", now_ms()).await.unwrap(), KnownSend::Delivery("d".to_owned()));
    store.note_alive(now_ms()).await.unwrap();
    send_of_command(store).await;
    let first = store.take_part(LANE).await.unwrap();
    store.failed(first.id, "no".to_owned(), Vec::new()).await.unwrap();
    assert_eq!(store.retry_delivery("d", now_ms()).await.unwrap().as_deref(), Some(LANE));
    let first = store.take_part(LANE).await.unwrap();
    store.not_sent(first.id, "no".to_owned(), 0).await.unwrap();
    store.perhaps_sent(first.id, "perhaps".to_owned(), 0, 10).await.unwrap();
    let first = store.take_part(LANE).await.unwrap();
    store.sent_in(first.id, "17".to_owned(), "8".to_owned()).await.unwrap();
    send_all(store).await;
    assert_eq!(store.released_prompts().await.unwrap(), [""; 0], "what was refused once is not run");
    assert_eq!(store.delivery("d").await.unwrap().unwrap().parts.len(), 2);
    let thread = Address { chat: "8".to_owned(), thread: Some("17".to_owned()), ..claim.address };
    assert!(store.opened_thread(&thread).await.unwrap());
}

/// What commands left in the lane.
async fn send_of_command(store: &GatewayStore) {
    let part = store.take_part(LANE).await.unwrap();
    assert_eq!(part.idem_key, "command");
    store.sent(part.id, None).await.unwrap();
}

async fn a_stranger(store: &GatewayStore, gate: &Arc<Gate>) {
    let accepted = accept(store, gate, Arrival::Message(knock("666", "s", "message", "let me in"))).await;
    assert_eq!((accepted.routing_keys.len(), accepted.to_tell.len()), (0, 1));
    assert_eq!(store.pairings().await.unwrap().len(), 1);
}

async fn a_start_and_the_api(store: &GatewayStore) {
    store.last_alive().await.unwrap();
    store.unfinished_conversations().await.unwrap();
    store.unfinished_lanes().await.unwrap();
    store.queue_counts().await.unwrap();
    store.queue_ages().await.unwrap();
    store.undelivered().await.unwrap();
    store.session_count().await.unwrap();
    assert!(store.sighting("s").await.unwrap().is_some());
    store.audit(10).await.unwrap();
}

#[tokio::test]
async fn no_statement_of_a_messages_life_goes_through_what_is_over() {
    let (store, gate) = (store().await, gate());
    a_message(&store, &gate).await;
    commands(&store, &gate).await;
    a_delivery(&store).await;
    a_stranger(&store, &gate).await;
    a_start_and_the_api(&store).await;

    let most = std::mem::take(&mut seen().get_or_insert_default().most);
    assert!(most.len() > 60, "only {} statements were seen", most.len());
    let bad: Vec<_> =
        most.iter().filter(|(_, (scanned, steps))| *scanned > MOST_SCANNED || *steps > MOST_STEPS).collect();
    assert!(bad.is_empty(), "(rows scanned, steps): {bad:#?}");
}
