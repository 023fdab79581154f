//! A Slack workspace: the Web API and Socket Mode on one real socket; and able to misbehave.
//!
//! As the real one: calls are refused by token, scope, channel and content; an envelope goes to one of the sockets and
//! again to one of them when it is not acknowledged in time; a mention arrives as two events with different ids; what is
//! said while no socket is open is only in the history.

mod blocks;
mod chat;
mod conversations;
mod faults;
mod files;
mod people;
mod socket;
mod web;
mod workspace;

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::serve::ListenerExt;
use tokio::{net::TcpListener, task::JoinHandle, time::timeout};

use self::{
    faults::Faults,
    workspace::{Kind, Shared},
};
pub use self::{
    faults::SlackFault,
    people::Saying,
    socket::SlackEnvelope,
    workspace::{SlackCall, SlackFile, SlackMessage},
};

/// The server; dropping it closes the port and all sockets.
#[derive(Debug)]
pub struct SlackApi {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

impl SlackApi {
    /// The bot's Web API token.
    pub const BOT_TOKEN: &str = "xoxb-1-test";
    /// The app's Socket Mode token.
    pub const APP_TOKEN: &str = "xapp-1-test";
    /// The workspace.
    pub const TEAM: &str = "T0TEAM";
    /// The bot as a user.
    pub const BOT_USER: &str = "U0BOT";
    /// The bot as an author.
    pub const BOT_ID: &str = "B0BOT";
    /// A public channel that the bot is in.
    pub const CHANNEL: &str = "C0OPS";
    /// Another one.
    pub const OTHER_CHANNEL: &str = "C0DEV";
    /// A group DM that the bot is in.
    pub const GROUP_DM: &str = "G0GROUP";
    /// A person.
    pub const ANN: &str = "U0ANN";
    /// Another person.
    pub const BOB: &str = "U0BOB";
    /// A person of another workspace.
    pub const EVE: &str = "U0EVE";

    /// Listens on a free port of 127.0.0.1.
    ///
    /// # Panics
    /// If there is no port to listen on.
    #[expect(clippy::expect_used, reason = "a test cannot go on without its server")]
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let shared = Arc::new(Shared::new(address));
        {
            let mut workspace = shared.workspace();
            workspace.add_channel(Self::CHANNEL, "ops", Kind::Channel, true);
            workspace.add_channel(Self::OTHER_CHANNEL, "dev", Kind::Channel, true);
            workspace.add_channel(Self::GROUP_DM, "mpdm-ann--bob--bot-1", Kind::GroupDm, true);
            workspace.add_user(Self::ANN, "ann", "Ann Lee", Self::TEAM);
            workspace.add_user(Self::BOB, "bob", "Bob Ray", Self::TEAM);
            workspace.add_user(Self::EVE, "eve", "Eve Out", "T0OTHER");
        }
        let router = web::router(Arc::clone(&shared));
        let listener = listener.tap_io(|socket| drop(socket.set_nodelay(true)));
        let server = tokio::spawn(async move { drop(axum::serve(listener, router).await) });
        Self { address, shared, server }
    }

    /// For `api_base_url`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}/api", self.address)
    }

    /// The DM of a person with the bot; made when there is none.
    #[must_use]
    pub fn dm(&self, user: &str) -> String {
        self.shared.workspace().open_dm(user)
    }

    /// A private channel; the bot is in it if `member`.
    pub fn add_private_channel(&self, id: &str, name: &str, member: bool) {
        self.shared.workspace().add_channel(id, name, Kind::Private, member);
    }

    /// A person of the workspace; the id begins with `U`.
    pub fn add_person(&self, id: &str, name: &str) {
        self.shared.workspace().add_user(id, name, name, Self::TEAM);
    }

    /// When the app first acknowledged this message of a person; none if it has not, or found it in the history.
    #[must_use]
    pub fn acknowledged(&self, ts: &str) -> Option<Instant> {
        self.shared.workspace().acknowledged.get(ts).copied()
    }

    /// Takes a scope from the bot's token, as a workspace that was not reinstalled.
    pub fn revoke_scope(&self, scope: &str) {
        self.shared.workspace().scopes.retain(|granted| granted != scope);
    }

    /// Neither token is valid any more (`true`), or they are again.
    pub fn revoke_tokens(&self, revoked: bool) {
        self.shared.workspace().revoked = revoked;
    }

    /// How long an envelope waits for its acknowledgement; 3 s until set.
    pub fn set_ack_wait(&self, wait: Duration) {
        self.shared.workspace().ack_wait = wait;
    }

    /// The next matching call meets this. `method` as in the address; `channel` narrows it.
    pub fn fail_next(&self, method: &str, channel: Option<&str>, fault: SlackFault) {
        self.faults(|faults| faults.push(method, channel, fault));
    }

    /// All calls take this much longer.
    pub fn set_latency(&self, latency: Duration) {
        self.faults(|faults| faults.latency = latency);
    }

    fn faults(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.shared.workspace().faults);
    }

    /// Everything that is in a channel or thread now, oldest first.
    #[must_use]
    pub fn messages(&self, channel: &str) -> Vec<SlackMessage> {
        self.shared.workspace().messages(channel)
    }

    /// What the bot has sent to a channel, oldest first; without what only one person sees.
    #[must_use]
    pub fn sent(&self, channel: &str) -> Vec<SlackMessage> {
        self.messages(channel).into_iter().filter(|message| message.by_bot).collect()
    }

    /// When each message of the bot reached a channel.
    #[must_use]
    pub fn arrivals(&self, channel: &str) -> Vec<Instant> {
        self.shared.workspace().arrivals.get(channel).cloned().unwrap_or_default()
    }

    /// What only one person saw: channel, person, text.
    #[must_use]
    pub fn ephemeral(&self) -> Vec<(String, String, String)> {
        self.shared.workspace().ephemeral.clone()
    }

    /// Every call of the Web API so far.
    #[must_use]
    pub fn calls(&self) -> Vec<SlackCall> {
        self.shared.workspace().calls.clone()
    }

    /// Every delivery of an envelope so far.
    #[must_use]
    pub fn envelopes(&self) -> Vec<SlackEnvelope> {
        self.shared.workspace().envelopes.clone()
    }

    /// Files that were shared, with their content.
    #[must_use]
    pub fn files(&self) -> Vec<SlackFile> {
        self.shared.workspace().shared_files()
    }

    /// Sockets that are open and greeted.
    #[must_use]
    pub fn open_sockets(&self) -> usize {
        self.shared.workspace().sockets.len()
    }

    /// Waits until `look` finds something.
    ///
    /// # Panics
    /// When it does not within 30 seconds.
    #[expect(clippy::panic, reason = "a test that waits in vain has failed")]
    pub async fn wait_for<T>(&self, what: &str, look: impl Fn(&Self) -> Option<T>) -> T {
        let mut changed = self.shared.changed.subscribe();
        let wait = async {
            loop {
                changed.borrow_and_update();
                if let Some(found) = look(self) {
                    return found;
                }
                if changed.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        match timeout(Duration::from_secs(30), wait).await {
            Ok(found) => found,
            Err(_) => {
                panic!("not seen in time: {what}; envelopes: {:#?}; calls: {:#?}", self.envelopes(), self.calls())
            }
        }
    }

    /// Waits until this many sockets are open.
    pub async fn wait_for_sockets(&self, count: usize) {
        self.wait_for(&format!("{count} sockets"), |slack| (slack.open_sockets() == count).then_some(())).await;
    }

    /// Waits until the bot has sent this many messages to the channel.
    pub async fn wait_for_sent(&self, channel: &str, count: usize) -> Vec<SlackMessage> {
        let what = format!("{count} messages of the bot in {channel}");
        self.wait_for(&what, |slack| Some(slack.sent(channel)).filter(|sent| sent.len() >= count)).await
    }
}

impl Drop for SlackApi {
    fn drop(&mut self) {
        self.server.abort();
        self.shared.workspace().sockets.clear();
    }
}
