//! What was said while no socket was open, from the history.
//!
//! * Known are the chats and threads that have a position; each is read from there, at most as far back as configured.
//! * Found messages are handed over in the order of their times. What had been received already is a repetition, which the
//!   sink knows by its key.
//! * Presses and commands are not in the history: whoever made one saw that it failed.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;
use tokio::time::sleep;

use super::{
    api::Form,
    decode::Sorted,
    receive::{Place, Receiver, Source, chat_stream},
    ts::{micros, ts},
};
use crate::{
    ChannelError,
    clock::{millis, now_ms},
};

/// Threads that are looked at, the last used first.
const THREADS: usize = 100;
/// Pages of one chat or thread.
const PAGES: usize = 20;
const PAGE: &str = "200";
/// Waits for a rate limit, per call.
const ATTEMPTS: usize = 5;

/// By time, so that they are in order and there once; with their channel.
type Found = BTreeMap<(i64, String), Value>;

impl Receiver {
    /// Hands over what the streams of the sink have missed.
    pub(super) async fn catch_up(&self) -> Result<(), ChannelError> {
        let gap = self.gap();
        let oldest = (now_ms() - millis(self.catch_up)).saturating_mul(1000);
        let (mut chats, mut threads) = (Vec::new(), Vec::new());
        for (stream, position) in self.sink.positions(&"slack".into(), &self.bot.user).await? {
            match Place::of_stream(&stream) {
                Some(Place::Chat(chat)) => chats.push((chat, position.max(oldest))),
                Some(Place::Thread(chat, thread)) if position > oldest => threads.push((position, chat, thread)),
                _ => {}
            }
            self.moved(stream, position);
        }
        threads.sort_unstable_by(|a, b| b.cmp(a));
        threads.truncate(THREADS);
        let mut threads: BTreeMap<(String, String), i64> =
            threads.into_iter().map(|(position, chat, thread)| ((chat, thread), position)).collect();
        let mut found = Found::new();
        for (chat, position) in chats {
            self.history(&chat, position, &mut found, &mut threads).await?;
        }
        for ((chat, thread), position) in threads {
            self.replies(&chat, &thread, position, &mut found).await?;
        }
        if !found.is_empty() {
            tracing::info!(messages = found.len(), "reading what was said in Slack meanwhile");
        }
        for ((_, chat), mut message) in found {
            message["channel"] = chat.into();
            self.found(&message).await?;
        }
        self.gap_is_read(gap).await
    }

    async fn found(&self, message: &Value) -> Result<(), ChannelError> {
        let kind = self.people.kind(&self.api, message).await;
        match self.bot.sort(message, kind) {
            Sorted::Heard(heard) => self.heard(heard, Source::History).await,
            Sorted::Ignored | Sorted::Undecodable => Ok(()),
        }
    }

    /// Newest first, until the position. The messages on the way tell of threads with newer replies.
    async fn history(
        &self,
        chat: &str,
        position: i64,
        found: &mut Found,
        threads: &mut BTreeMap<(String, String), i64>,
    ) -> Result<(), ChannelError> {
        let mut cursor = String::new();
        for _ in 0..PAGES {
            let arguments = [("channel", chat), ("limit", PAGE), ("cursor", &cursor)];
            let Some(page) = self.page("conversations.history", &arguments).await? else { return Ok(()) };
            let mut reached = false;
            for message in page["messages"].as_array().into_iter().flatten() {
                let Some(at) = message["ts"].as_str().and_then(micros) else { continue };
                if at > position {
                    found.insert((at, chat.to_owned()), message.clone());
                } else {
                    reached = true;
                }
                if message["latest_reply"].as_str().and_then(micros).is_some_and(|latest| latest > position) {
                    let thread = (chat.to_owned(), message["ts"].as_str().unwrap_or_default().to_owned());
                    threads.entry(thread).or_insert(position);
                }
            }
            cursor = next_cursor(&page);
            if reached || cursor.is_empty() {
                return Ok(());
            }
        }
        tracing::warn!(chat, stream = chat_stream(chat), "more was said in Slack meanwhile than is read again");
        Ok(())
    }

    async fn replies(&self, chat: &str, thread: &str, position: i64, found: &mut Found) -> Result<(), ChannelError> {
        let (oldest, mut cursor) = (ts(position), String::new());
        for _ in 0..PAGES {
            let arguments =
                [("channel", chat), ("ts", thread), ("oldest", &oldest), ("limit", PAGE), ("cursor", &cursor)];
            let Some(page) = self.page("conversations.replies", &arguments).await? else { return Ok(()) };
            for message in page["messages"].as_array().into_iter().flatten() {
                if let Some(at) = message["ts"].as_str().and_then(micros).filter(|at| *at > position) {
                    found.insert((at, chat.to_owned()), message.clone());
                }
            }
            cursor = next_cursor(&page);
            if cursor.is_empty() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// None if this place cannot be read any more.
    async fn page(&self, method: &str, arguments: Form<'_>) -> Result<Option<Value>, ChannelError> {
        for _ in 0..ATTEMPTS {
            match self.api.call(method, arguments).await {
                Ok(page) => return Ok(Some(page)),
                Err(ChannelError::RateLimited { retry_after }) => {
                    sleep(retry_after.max(Duration::from_millis(100))).await;
                }
                Err(
                    error @ (ChannelError::MissingScope { .. }
                    | ChannelError::Rejected { .. }
                    | ChannelError::NotAllowed { .. }),
                ) => {
                    tracing::warn!(%error, method, "a chat of Slack is not caught up");
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

fn next_cursor(page: &Value) -> String {
    page["response_metadata"]["next_cursor"].as_str().unwrap_or_default().to_owned()
}
