//! How the server is told to behave, and what it has seen.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use super::{AnsweredPress, BotApi, BotCall, SendFault, SentMessage};

impl BotApi {
    /// Delivers everything again that was confirmed before.
    pub fn redeliver(&self) {
        {
            let mut world = self.state.world();
            let again = std::mem::take(&mut world.confirmed);
            for update in again.into_iter().rev() {
                world.updates.push_front(update);
            }
        }
        self.state.change();
    }

    /// The next update has this number, as after a week without any.
    pub fn renumber(&self, next: i64) {
        self.state.world().last_update = next - 1;
    }

    /// The next message that is sent meets this.
    pub fn fail_next(&self, fault: SendFault) {
        self.fail_call("sendMessage", None, fault);
    }

    /// The next call of a method, in this chat or in any, meets this.
    pub fn fail_call(&self, method: &str, chat: Option<i64>, fault: SendFault) {
        self.state.world().faults.push(method, chat, fault, false);
    }

    /// Every call of a method meets this until [`BotApi::heal`].
    pub fn fail_always(&self, method: &str, fault: SendFault) {
        self.state.world().faults.push(method, None, fault, true);
    }

    /// Refuses what is sent to this chat, or to all, for this long.
    pub fn flood(&self, chat: Option<i64>, seconds: u64) {
        self.state.world().faults.flood(chat, seconds);
    }

    /// No fault waits any more.
    pub fn heal(&self) {
        self.state.world().faults.clear();
    }

    /// Each call takes this much longer.
    pub fn set_latency(&self, latency: Duration) {
        self.state.world().latency = latency;
    }

    /// Another process polls with the same token, or does no longer.
    pub fn contest(&self, contested: bool) {
        self.state.world().contested = contested;
        self.state.change();
    }

    /// Polls are refused until `deleteWebhook`.
    pub fn set_webhook(&self) {
        self.state.world().webhook = true;
    }

    /// The token is no longer known, or is again.
    pub fn revoke(&self, revoked: bool) {
        self.state.world().revoked = revoked;
    }

    /// This server does not know a method.
    pub fn without(&self, method: &str) {
        self.state.world().without.insert(method.to_ascii_lowercase());
    }

    /// A group or channel gets a name, such as `@ops`.
    pub fn publish(&self, chat: i64, name: &str) {
        self.state.world().names.insert(name.to_lowercase(), chat);
    }

    /// A person blocks the bot.
    pub fn block(&self, user: i64) {
        self.state.world().chat(user).blocked = true;
    }

    /// Runs in local mode: files are told by their path in this folder.
    pub fn serve_locally(&self, folder: &Path) {
        self.state.world().local = Some(folder.to_owned());
    }

    /// The offsets of all polls so far.
    #[must_use]
    pub fn offsets(&self) -> Vec<Option<i64>> {
        self.state.world().offsets.clone()
    }

    /// The messages of the bot that reached their chat, chat by chat, as they are now.
    #[must_use]
    pub fn sent(&self) -> Vec<SentMessage> {
        let world = self.state.world();
        let all = world.chats.values().flat_map(|chat| &chat.messages);
        all.filter(|message| message.from == Self::BOT).cloned().collect()
    }

    /// When each message of the bot reached this chat.
    #[must_use]
    pub fn arrivals(&self, chat: i64) -> Vec<Instant> {
        self.state.world().arrivals.get(&chat).cloned().unwrap_or_default()
    }

    /// All messages of a chat, in order.
    #[must_use]
    pub fn messages(&self, chat: i64) -> Vec<SentMessage> {
        self.state.world().chats.get(&chat).map(|chat| chat.messages.clone()).unwrap_or_default()
    }

    /// The presses that were answered.
    #[must_use]
    pub fn answered(&self) -> Vec<AnsweredPress> {
        self.state.world().answered.clone()
    }

    /// Signs of work: chat, topic, action.
    #[must_use]
    pub fn actions(&self) -> Vec<(i64, Option<i64>, String)> {
        self.state.world().actions.clone()
    }

    /// The menu: names and descriptions.
    #[must_use]
    pub fn commands(&self) -> Vec<(String, String)> {
        self.state.world().commands.clone()
    }

    /// All calls that arrived, done or not.
    #[must_use]
    pub fn calls(&self) -> Vec<BotCall> {
        self.state.world().calls.clone()
    }
}
