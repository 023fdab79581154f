//! From the events of a session to the gateway, in order, and what was missed between two sessions.
//!
//! * The platform confirms nothing: a watermark per channel (`chat:<channel>`, a message id) moves with what was accepted.
//!   A new session reads each channel from its watermark on before anything newer of that channel is accepted.
//! * A channel of a guild without a watermark gets one when it is first seen, so that later gaps there can be closed.
//!   The first direct message of somebody, sent while nobody listened, cannot be found.
//! * One event after the other: the watermark never passes a message that is not durable. Messages that are there at once are
//!   accepted together, those of one channel in one piece.

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    time::Duration,
};

use futures_util::future::try_join_all;
use indexmap::IndexMap;
use serde_json::Value;
use serenity::model::id::ChannelId;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::{
    DiscordChannel,
    decode::Decoder,
    outgoing::snowflake_at,
    places::{Place, snowflake},
    session::Event,
};
use crate::{
    ChannelError, InboundBatch, InboundEvent, InboundSink, StreamId,
    clock::{millis, now_ms},
};

/// Messages of one page.
const PAGE: usize = 100;
/// Messages accepted together.
const MOST_AT_ONCE: usize = 64;
/// Guilds that have not come by then are unavailable; direct chats do not wait for them.
const GUILDS_WITHIN: Duration = Duration::from_secs(10);

/// Takes up what one bot hears.
pub(super) struct Intake<'a> {
    pub(super) channel: &'a DiscordChannel,
    pub(super) inbound: &'a dyn InboundSink,
    pub(super) decoder: &'a Decoder,
    pub(super) account: &'a str,
    gap: Gap,
}

/// Messages of each channel, and the last one's id.
type Heard = IndexMap<u64, (Vec<InboundEvent>, u64)>;

/// What may have been missed.
#[derive(Default)]
struct Gap {
    /// Watermarks of channels that were not read yet.
    behind: HashMap<u64, u64>,
    /// Channels that have a watermark.
    known: HashSet<u64>,
    /// Guilds that READY named and that have not come yet.
    awaited: HashSet<u64>,
    /// When the rest is read, whether its guild came or not.
    sweep_at: Option<Instant>,
}

impl<'a> Intake<'a> {
    pub(super) fn new(
        channel: &'a DiscordChannel,
        inbound: &'a dyn InboundSink,
        decoder: &'a Decoder,
        account: &'a str,
    ) -> Self {
        Self { channel, inbound, decoder, account, gap: Gap::default() }
    }

    pub(super) async fn run(&mut self, mut events: mpsc::Receiver<Event>) -> Result<Infallible, ChannelError> {
        let mut here = Vec::new();
        loop {
            let due = self.gap.sweep_at.unwrap_or_else(|| Instant::now() + GUILDS_WITHIN);
            tokio::select! {
                count = events.recv_many(&mut here, MOST_AT_ONCE) => {
                    if count == 0 {
                        return Err(ChannelError::Store { reason: "the session ended".to_owned() });
                    }
                    self.events(&here).await?;
                    here.clear();
                }
                () = sleep_until(due), if self.gap.sweep_at.is_some() => self.sweep().await?,
            }
        }
    }

    async fn events(&mut self, events: &[Event]) -> Result<(), ChannelError> {
        let mut heard = Heard::new();
        for event in events {
            if event.name == "MESSAGE_CREATE" {
                self.message(&event.data, &mut heard).await?;
            } else {
                self.take(&mut heard).await?;
                self.event(event).await?;
            }
        }
        self.take(&mut heard).await
    }

    async fn event(&mut self, event: &Event) -> Result<(), ChannelError> {
        let data = &event.data;
        match event.name.as_str() {
            "READY" => self.begin(data).await,
            "GUILD_CREATE" => self.guild(data).await,
            "CHANNEL_CREATE" | "CHANNEL_UPDATE" | "THREAD_CREATE" | "THREAD_UPDATE" => {
                self.channel.places.learn(data, None);
                Ok(())
            }
            // Without this a link got its preview; nobody wrote anything.
            "MESSAGE_UPDATE" if data["edited_timestamp"].is_string() => self.edit(data).await,
            _ => Ok(()),
        }
    }

    /// A new session: everything since the watermarks may have been missed.
    async fn begin(&mut self, ready: &Value) -> Result<(), ChannelError> {
        let positions = self.inbound.positions(&self.channel.channel_id(), self.account).await?;
        let floor = snowflake_at(now_ms() - millis(self.channel.catch_up));
        let behind = positions.into_iter().filter_map(|(stream, position)| {
            let id = stream.strip_prefix("chat:")?.parse().ok()?;
            Some((id, u64::try_from(position).unwrap_or_default().max(floor)))
        });
        self.gap.behind = behind.collect();
        self.gap.known = self.gap.behind.keys().copied().collect();
        self.gap.awaited =
            ready["guilds"].as_array().into_iter().flatten().filter_map(|g| snowflake(&g["id"])).collect();
        self.gap.sweep_at = Some(Instant::now() + GUILDS_WITHIN);
        if self.gap.awaited.is_empty() { self.sweep().await } else { Ok(()) }
    }

    async fn guild(&mut self, guild: &Value) -> Result<(), ChannelError> {
        let Some(id) = snowflake(&guild["id"]) else { return Ok(()) };
        self.channel.places.learn_guild(id, guild["name"].as_str().unwrap_or_default());
        for (channel, place, newest) in self.learn(guild, id) {
            self.look_at(channel, &place, newest).await?;
        }
        if self.gap.awaited.remove(&id) && self.gap.awaited.is_empty() { self.sweep().await } else { Ok(()) }
    }

    /// The channels and threads of a guild, each with its last message.
    fn learn(&self, guild: &Value, id: u64) -> Vec<(u64, Place, Option<u64>)> {
        let lists = [&guild["channels"], &guild["threads"]];
        let channels = lists.into_iter().filter_map(Value::as_array).flatten();
        let learned = channels.filter_map(|channel| {
            let (channel_id, place) = self.channel.places.learn(channel, Some(id))?;
            Some((channel_id, place, snowflake(&channel["last_message_id"])))
        });
        learned.collect()
    }

    /// Reads a channel of a guild if it has something newer, or begins its watermark.
    async fn look_at(&mut self, id: u64, place: &Place, newest: Option<u64>) -> Result<(), ChannelError> {
        match (self.gap.behind.get(&id).copied(), newest) {
            (Some(position), Some(newest)) if newest > position => self.catch_up(id).await,
            (Some(_), _) => {
                self.gap.behind.remove(&id);
                Ok(())
            }
            (None, Some(newest)) if self.channel.admits(place) && self.gap.known.insert(id) => {
                self.accept(id, Vec::new(), Some(newest)).await
            }
            (None, _) => Ok(()),
        }
    }

    /// Reads the rest: direct chats, old threads, channels of guilds that did not come.
    async fn sweep(&mut self) -> Result<(), ChannelError> {
        self.gap.sweep_at = None;
        let mut rest: Vec<u64> = self.gap.behind.keys().copied().collect();
        rest.sort_unstable();
        for id in rest {
            self.catch_up(id).await?;
        }
        Ok(())
    }

    /// Reads a channel from its watermark on, if that has not been done in this session.
    async fn catch_up(&mut self, id: u64) -> Result<(), ChannelError> {
        let Some(mut position) = self.gap.behind.get(&id).copied() else { return Ok(()) };
        let api = &self.channel.api;
        let place = self.channel.places.find(api, id, None).await?;
        loop {
            let page = match api.messages_after(ChannelId::new(id), position).await {
                Ok(page) => page,
                // The channel is gone, or closed to the bot.
                Err(ChannelError::NotAllowed { .. } | ChannelError::Rejected { .. }) => break,
                Err(error) => return Err(error),
            };
            let Some(last) = page.last().and_then(|message| snowflake(&message["id"])) else { break };
            let mut events = Vec::new();
            for message in &page {
                events.extend(self.heard(message, &place).await?.map(|(event, _)| event));
            }
            self.accept(id, events, Some(last)).await?;
            position = last;
            if page.len() < PAGE {
                break;
            }
        }
        self.gap.behind.remove(&id);
        Ok(())
    }

    async fn message(&mut self, message: &Value, others: &mut Heard) -> Result<(), ChannelError> {
        let (Some(id), Some(channel)) = (snowflake(&message["id"]), snowflake(&message["channel_id"])) else {
            return Ok(());
        };
        self.catch_up(channel).await?;
        let place = self.place_of(message, channel).await?;
        if !self.channel.admits(&place) {
            return Ok(());
        }
        let event = self.heard(message, &place).await?.map(|(event, _)| event);
        self.gap.known.insert(channel);
        let (events, position) = others.entry(channel).or_default();
        events.extend(event);
        *position = id;
        Ok(())
    }

    /// Accepts what was heard.
    async fn take(&self, heard: &mut Heard) -> Result<(), ChannelError> {
        let accepting = std::mem::take(heard)
            .into_iter()
            .map(|(channel, (events, position))| self.accept(channel, events, Some(position)));
        try_join_all(accepting).await.map(drop)
    }

    async fn edit(&mut self, message: &Value) -> Result<(), ChannelError> {
        let Some(channel) = snowflake(&message["channel_id"]) else { return Ok(()) };
        self.catch_up(channel).await?;
        let place = self.place_of(message, channel).await?;
        match self.heard(message, &place).await? {
            Some((InboundEvent::Message(edited), true)) => {
                self.accept(channel, vec![InboundEvent::Edited(edited)], None).await
            }
            _ => Ok(()),
        }
    }

    async fn place_of(&self, message: &Value, channel: u64) -> Result<Place, ChannelError> {
        match snowflake(&message["guild_id"]) {
            Some(guild) => self.channel.places.find(&self.channel.api, channel, Some(guild)).await,
            None => Ok(Place::default()),
        }
    }

    /// What of a message is worth keeping, and whether it was edited.
    async fn heard(&self, message: &Value, place: &Place) -> Result<Option<(InboundEvent, bool)>, ChannelError> {
        if !self.channel.admits(place) {
            return Ok(None);
        }
        let mut heard = match self.decoder.message(message, place) {
            Ok(Some(heard)) => heard,
            Ok(None) => return Ok(None),
            Err(undecodable) => return Ok(Some((undecodable, false))),
        };
        let meant = heard.addressed
            || !self.channel.require_mention
            || (place.parent.is_some() && self.inbound.takes_part(&heard.message.address).await?);
        if meant && heard.begins && self.channel.answers_in_thread(&heard.message.address, place) {
            heard.message.address.thread = Some(heard.message.message_id.clone());
        }
        Ok(meant.then(|| (InboundEvent::Message(Box::new(heard.message)), heard.edited)))
    }

    async fn accept(&self, chat: u64, events: Vec<InboundEvent>, position: Option<u64>) -> Result<(), ChannelError> {
        let stream = self.channel.stream(self.account, format!("chat:{chat}"));
        let position = position.and_then(|position| i64::try_from(position).ok());
        self.inbound.accept(InboundBatch { stream, events, position }).await
    }
}

impl DiscordChannel {
    fn stream(&self, account: &str, name: String) -> StreamId {
        StreamId { channel: self.channel_id(), account: account.to_owned(), name }
    }

    pub(super) fn presses(&self, account: &str) -> StreamId {
        self.stream(account, "presses".to_owned())
    }
}
