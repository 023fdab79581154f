//! The gateway, a platform that counts, and the clock.

use std::{
    num::NonZeroU32,
    ops::Range,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use rusqlite::Connection;
use stakpak_gateway::{
    Address, ApprovalButton, Body, Capabilities, Channel, ChannelError, ChannelHealth, ChannelId, ChannelStatus,
    ChannelTestResult, DeliveryReceipt, Gateway, GatewayCliFlags, GatewayConfig, InboundBatch, InboundEvent,
    InboundMessage, InboundSink, MessageRef, OutboundFile, OutboundReply, Sender, StreamId, chunking::chunk_text,
};
use tokio::{sync::watch, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use super::agent::Agent;

/// How long anything may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(120);
/// Conversations that one bot has; the gateway takes 200 messages a minute for each.
const OF_A_BOT: usize = 100;
/// An approval waits for 75 days: until its run is let go. Waiting messages are not asked about: this is no absence.
const CONFIG: &str = "[gateway]\nprogress = \"final\"\napproval_timeout_minutes = 108000\nstale_after_minutes = 0\n\
                      [channels.telegram]\ntoken = \"1:x\"\ndm_policy = \"open\"\n";

#[derive(Default)]
struct Seen {
    sink: Option<Arc<dyn InboundSink>>,
    sent: i64,
    answers: usize,
    prompts: usize,
}

/// A platform that forgets what it shows.
#[derive(Clone, Default)]
struct Platform {
    seen: Arc<Mutex<Seen>>,
    changed: watch::Sender<u64>,
}

impl std::fmt::Debug for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Platform")
    }
}

/// What is to be bounded.
#[derive(Debug, Clone)]
pub struct Figures {
    /// Bytes of the database, in use or free.
    pub store: i64,
    /// Bytes of its log.
    pub log: u64,
    /// Resident bytes of this process.
    pub memory: u64,
    /// Open files and sockets.
    pub handles: usize,
    pub tasks: usize,
}

pub struct World {
    home: tempfile::TempDir,
    platform: Platform,
    agent: Agent,
    running: JoinHandle<()>,
    said: i64,
    rounds: usize,
}

impl Drop for World {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl World {
    pub async fn start() -> Self {
        let (home, agent, platform) = (tempfile::tempdir().unwrap(), Agent::start().await, Platform::default());
        let file = home.path().join("autopilot.toml");
        std::fs::write(&file, CONFIG).unwrap();
        let flags = GatewayCliFlags { store: Some(home.path().join("gateway.db")), ..GatewayCliFlags::default() };
        let mut config = GatewayConfig::load(file.as_path(), &flags).unwrap().with_server(&agent.url, "token");
        config.gateway.state_dir = home.path().to_owned();
        let gateway = Gateway::with_channels(config, vec![Arc::new(platform.clone())]).unwrap();
        let running = tokio::spawn(async move { gateway.run(CancellationToken::new()).await.unwrap() });
        let world = Self { home, platform, agent, running, said: 0, rounds: 0 };
        world.until("the adapter", |seen| seen.sink.is_some()).await;
        world
    }

    /// Each of them says something and gets its answer; the rest is quiet.
    pub async fn all_are_answered(&mut self, who: Range<usize>) {
        self.rounds += 1;
        let expected = self.platform.seen().answers + who.len();
        for number in who {
            self.say(&format!("1{number:06}"), number / OF_A_BOT, "good morning").await;
        }
        self.until("the answers", |seen| seen.answers >= expected).await;
        let done = || self.select("SELECT count(*) FROM runs WHERE state = 'open'") <= self.busy() as i64;
        self.poll("the ends of the runs", done).await;
    }

    /// So many conversations with a run that stays, with a message behind one, and with an approval that nobody decides:
    /// their routing keys and sessions.
    pub async fn keep_busy(&mut self, each: usize) -> Vec<(String, String)> {
        self.rounds += 1;
        for number in 0..each {
            self.say(&format!("7{number}"), 0, "please stay").await;
            self.say(&format!("8{number}"), 0, "please stay").await;
            self.say(&format!("8{number}"), 0, "and this behind it").await;
            self.say(&format!("9{number}"), 0, "please ask").await;
        }
        self.until("the prompts", |seen| seen.prompts >= each).await;
        let all = 3 * each as i64;
        let open = || self.select("SELECT count(*) FROM runs WHERE state = 'open'") == all;
        self.poll("the runs", open).await;
        self.sessions()
    }

    /// What they waited for ends, in the session that they had.
    pub async fn release(&mut self, busy: &[(String, String)]) {
        let expected = self.platform.seen().answers + busy.len() + busy.len() / 3;
        self.agent.release();
        self.until("the answers", |seen| seen.answers >= expected).await;
    }

    pub fn have_their_sessions(&self, busy: &[(String, String)]) {
        let now = self.sessions();
        assert!(busy.iter().all(|one| now.contains(one)), "{busy:?} of {} sessions", now.len());
    }

    /// Time passes: what the store knows is that much older, and the timers go on. Returns when the store was put in order.
    pub async fn pass(&self, time: Duration) {
        let mut database = self.database();
        let transaction = database.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
        for (table, column) in times(&transaction) {
            let sql = format!("UPDATE {table} SET {column} = {column} - ?1 WHERE {column} > 0");
            transaction.execute(&sql, [i64::try_from(time.as_millis()).unwrap()]).unwrap();
        }
        // Goes with the next look at what is old.
        let sign = "INSERT INTO delivery_context VALUES ('sign', 'sign', '{}', 1, 1)";
        transaction.execute(sign, []).unwrap();
        transaction.commit().unwrap();
        tokio::time::pause();
        tokio::time::advance(time.min(Duration::from_secs(3_601))).await;
        tokio::time::resume();
        let gone = || self.select("SELECT count(*) FROM delivery_context WHERE channel = 'sign'") == 0;
        self.poll("the store to be put in order", gone).await;
    }

    pub fn count(&self, table: &str) -> usize {
        usize::try_from(self.select(&format!("SELECT count(*) FROM {table}"))).unwrap()
    }

    /// A row, for whoever wonders why it is there.
    pub fn first_of(&self, table: &str) -> Option<String> {
        let database = self.database();
        let mut statement = database.prepare(&format!("SELECT * FROM {table} LIMIT 1")).unwrap();
        let columns = statement.column_count();
        let row = |row: &rusqlite::Row<'_>| {
            Ok((0..columns).map(|at| format!("{:?} ", row.get_ref_unwrap(at))).collect::<String>())
        };
        statement.query_map([], row).unwrap().next().map(Result::unwrap)
    }

    pub fn figures(&self) -> Figures {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let kilobytes: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
        Figures {
            store: self.select("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"),
            log: std::fs::metadata(self.home.path().join("gateway.db-wal")).map_or(0, |found| found.len()),
            memory: kilobytes * 1024,
            handles: std::fs::read_dir("/proc/self/fd").unwrap().count(),
            tasks: tokio::runtime::Handle::current().metrics().num_alive_tasks(),
        }
    }

    /// Handles and tasks go back to what they were: a connection may be about to be closed.
    pub async fn settles(&self, before: &Figures) {
        let is_settled = || {
            let now = self.figures();
            now.handles <= before.handles + 32 && now.tasks <= before.tasks + 32
        };
        self.poll("handles and tasks to be given back", is_settled).await;
    }

    fn busy(&self) -> usize {
        self.sessions().iter().filter(|(key, _)| !key.starts_with("telegram:dm:1")).count()
    }

    fn sessions(&self) -> Vec<(String, String)> {
        let database = self.database();
        let mut statement = database.prepare("SELECT routing_key, session_id FROM sessions").unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.map(Result::unwrap).collect()
    }

    fn select(&self, sql: &str) -> i64 {
        self.database().query_row(sql, [], |row| row.get(0)).unwrap()
    }

    fn database(&self) -> Connection {
        let database = Connection::open(self.path()).unwrap();
        database.busy_timeout(PATIENCE).unwrap();
        database
    }

    fn path(&self) -> PathBuf {
        self.home.path().join("gateway.db")
    }

    async fn say(&mut self, user: &str, bot: usize, text: &str) {
        self.said += 1;
        let number = self.said;
        let message = InboundMessage {
            address: Address {
                channel: "telegram".into(),
                chat: user.to_owned(),
                thread: None,
                direct: Some(user.into()),
            },
            sender: Sender { id: user.into(), username: None, display_name: Some("Somebody".to_owned()) },
            event_key: format!("m{number}"),
            order_key: number,
            message_id: format!("in{number}"),
            reply_to: None,
            text: text.to_owned(),
            attachments: Vec::new(),
            metadata: serde_json::json!({}),
        };
        let sink = self.platform.seen().sink.clone().unwrap();
        let account = format!("bot{}-{bot}", self.rounds);
        let stream = StreamId { channel: "telegram".into(), account, name: "updates".to_owned() };
        let events = vec![InboundEvent::Message(Box::new(message))];
        sink.accept(InboundBatch { stream, events, position: None }).await.unwrap();
    }

    async fn until(&self, what: &str, found: impl Fn(&Seen) -> bool) {
        let mut changed = self.platform.changed.subscribe();
        let wait = changed.wait_for(|_| found(&self.platform.seen()));
        drop(timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("waited too long for {what}")));
    }

    /// For what nobody tells of.
    async fn poll(&self, what: &str, found: impl Fn() -> bool) {
        let wait = async {
            while !found() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("waited too long for {what}"));
    }
}

/// Every column that holds a time. The audit log is chained; nothing goes from it.
fn times(database: &Connection) -> Vec<(String, String)> {
    let sql = "SELECT tables.name, columns.name FROM sqlite_schema AS tables, pragma_table_info(tables.name) AS columns
               WHERE tables.type = 'table' AND tables.name <> 'audit' AND columns.type = 'INTEGER'
               AND (columns.name LIKE '%\\_at' ESCAPE '\\' OR columns.name = 'last_seen')";
    let mut statement = database.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let times: Vec<(String, String)> = rows.map(Result::unwrap).collect();
    assert!(times.contains(&("inbox".to_owned(), "received_at".to_owned())), "{times:?}");
    times
}

impl Platform {
    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    fn sent(&self, count: impl FnOnce(&mut Seen)) -> DeliveryReceipt {
        let mut seen = self.seen();
        seen.sent += 1;
        count(&mut seen);
        let message_id = format!("out{}", seen.sent);
        drop(seen);
        self.changed.send_modify(|count| *count += 1);
        DeliveryReceipt { message_id, thread_id: None, chat: None }
    }
}

#[async_trait]
impl Channel for Platform {
    fn id(&self) -> ChannelId {
        "telegram".into()
    }

    fn display_name(&self) -> &'static str {
        "Telegram"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            message_limit: 2000,
            send_pace: Duration::ZERO,
            send_burst: NonZeroU32::MAX,
            group_per_minute: None,
            bot_per_second: NonZeroU32::MAX,
            edit_pace: Duration::ZERO,
            group_edit_pace: Duration::ZERO,
            typing_every: None,
            max_file: 1_000_000,
        }
    }

    fn compose(&self, markdown: &str) -> Vec<Body> {
        chunk_text(markdown, self.capabilities().message_limit).into_iter().map(Body::plain).collect()
    }

    async fn start_durable(
        &self,
        inbound: Arc<dyn InboundSink>,
        cancel: CancellationToken,
    ) -> Result<(), ChannelError> {
        self.seen().sink = Some(inbound);
        self.changed.send_modify(|count| *count += 1);
        cancel.cancelled().await;
        Ok(())
    }

    async fn send_with_receipt(&self, reply: OutboundReply) -> Result<DeliveryReceipt, ChannelError> {
        Ok(self.sent(|seen| seen.answers += usize::from(reply.body.text == "Done.")))
    }

    async fn send_with_buttons(
        &self,
        _reply: OutboundReply,
        _buttons: Vec<ApprovalButton>,
    ) -> Result<DeliveryReceipt, ChannelError> {
        Ok(self.sent(|seen| seen.prompts += 1))
    }

    async fn edit_message(
        &self,
        _message: &MessageRef,
        _body: &Body,
        _buttons: &[ApprovalButton],
    ) -> Result<(), ChannelError> {
        Ok(())
    }

    async fn send_file(&self, _address: &Address, _file: OutboundFile) -> Result<DeliveryReceipt, ChannelError> {
        Ok(self.sent(|_| {}))
    }

    async fn test(&self) -> Result<ChannelTestResult, ChannelError> {
        Ok(ChannelTestResult { channel: self.id(), identity: "bot".to_owned(), details: String::new() })
    }

    fn health(&self) -> ChannelHealth {
        ChannelHealth {
            status: ChannelStatus::Connected,
            identity: None,
            since: 0,
            last_event_at: None,
            last_error: None,
        }
    }

    fn report_failure(&self, _error: &ChannelError) {}
}
