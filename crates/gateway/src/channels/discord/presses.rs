//! Presses of buttons: accepted, then acknowledged, within the 3 seconds that the platform waits.
//!
//! They do not wait behind messages or a catch-up. An acknowledgement that fails discards nothing: the press is durable.

use std::convert::Infallible;

use futures_util::{StreamExt, stream::FuturesUnordered};
use serde_json::{Value, json};
use serenity::{
    http::Route,
    model::id::{ApplicationId, InteractionId},
};
use teloxide_reqwest::Method;
use tokio::sync::mpsc;

use super::{
    DiscordChannel,
    api::Payload,
    decode::Decoder,
    outgoing::{self, number},
    places::{Place, snowflake},
};
use crate::{ChannelError, InboundBatch, InboundEvent, InboundSink, Press};

/// Presses that are in work at once.
const AT_ONCE: usize = 8;
/// Answer to an interaction: the message is changed later.
const DEFERRED_UPDATE: u8 = 6;

pub(super) async fn run(
    channel: &DiscordChannel,
    inbound: &dyn InboundSink,
    decoder: &Decoder,
    account: &str,
    mut presses: mpsc::Receiver<Value>,
) -> Result<Infallible, ChannelError> {
    let mut working = FuturesUnordered::new();
    loop {
        tokio::select! {
            press = presses.recv(), if working.len() < AT_ONCE => match press {
                Some(press) => working.push(take(channel, inbound, decoder, account, press)),
                None => return Err(ChannelError::Store { reason: "the session ended".to_owned() }),
            },
            Some(taken) = working.next() => taken?,
        }
    }
}

async fn take(
    channel: &DiscordChannel,
    inbound: &dyn InboundSink,
    decoder: &Decoder,
    account: &str,
    interaction: Value,
) -> Result<(), ChannelError> {
    let Some(id) = snowflake(&interaction["channel_id"]) else { return Ok(()) };
    let guild = snowflake(&interaction["guild_id"]);
    let place = match guild {
        Some(_) => channel.places.find(&channel.api, id, guild).await?,
        None => Place::default(),
    };
    let Some(press) = decoder.press(&interaction, &place) else { return Ok(()) };
    if !channel.admits(&place) {
        return Ok(());
    }
    let token = press.token.clone();
    let events = vec![InboundEvent::Press(Box::new(press))];
    inbound.accept(InboundBatch { stream: channel.presses(account), events, position: None }).await?;
    if let Err(error) = acknowledge(channel, &token).await {
        tracing::warn!(channel = "discord", error = %error, "a press was stored, but not acknowledged");
    }
    Ok(())
}

async fn acknowledge(channel: &DiscordChannel, token: &str) -> Result<(), ChannelError> {
    respond(channel, &Token::read(token)?, json!({ "type": DEFERRED_UPDATE }).to_string().into_bytes()).await
}

/// Tells the presser, and nobody else: after the acknowledgement, or instead of one that is still on its way or failed.
pub(super) async fn refuse(channel: &DiscordChannel, press: &Press, text: &str) -> Result<(), ChannelError> {
    let token = Token::read(&press.token)?;
    let told = follow_up(channel, &token, text).await;
    let Err(ChannelError::Rejected { .. }) = told else { return told };
    match respond(channel, &token, outgoing::private_answer(text)?).await {
        // Acknowledged meanwhile.
        Err(ChannelError::Rejected { .. }) => follow_up(channel, &token, text).await,
        answered => answered,
    }
}

async fn respond(channel: &DiscordChannel, token: &Token<'_>, answer: Vec<u8>) -> Result<(), ChannelError> {
    let route = Route::InteractionResponse { interaction_id: InteractionId::new(token.id), token: token.token };
    channel.api.call(Method::POST, route, "", Payload::Json(answer)).await.map(drop)
}

async fn follow_up(channel: &DiscordChannel, token: &Token<'_>, text: &str) -> Result<(), ChannelError> {
    let application_id = ApplicationId::new(token.application);
    let route = Route::WebhookFollowupMessages { application_id, token: token.token };
    channel.api.call(Method::POST, route, "", Payload::Json(outgoing::private(text)?)).await.map(drop)
}

/// `<interaction>:<token>:<application>`.
struct Token<'a> {
    id: u64,
    token: &'a str,
    application: u64,
}

impl<'a> Token<'a> {
    fn read(text: &'a str) -> Result<Self, ChannelError> {
        let parts = text.split_once(':').and_then(|(id, rest)| Some((id, rest.rsplit_once(':')?)));
        let Some((id, (token, application))) = parts else {
            return Err(ChannelError::Rejected { reason: "this is no press of a Discord button".to_owned() });
        };
        Ok(Self { id: number(id, "interaction")?, token, application: number(application, "application")? })
    }
}
