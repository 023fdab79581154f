//! One attempt to send one message: what is asked of the platform, and what its answer means.

use base64::{Engine, prelude::BASE64_STANDARD};

use super::Sender;
use crate::{
    Body, Channel, ChannelError, DeliveryReceipt, MessageRef, OutboundFile, OutboundReply,
    store::{Content, NewPart, Part},
};

/// What stands in a chat until the text of a message is known to be shown once only.
const STUB: &str = "…";
/// Attempts at an edit before its text may become a message of its own: half a minute.
const PATIENT_EDITS: u32 = 5;

/// What became of an attempt.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Done; the message, if it made one.
    Sent(Option<String>),
    /// The message, and the chat that the name it was addressed to stands for.
    SentIn(String, String),
    /// An empty message was made, to be filled by editing.
    Stubbed(String),
    /// Not in this form; another may do.
    Instead(Content),
    /// Not, or perhaps.
    Failed(ChannelError),
}

impl Outcome {
    fn of(receipt: DeliveryReceipt, part: &Part) -> Self {
        match receipt.chat {
            Some(chat) if chat != part.address.chat => Self::SentIn(receipt.message_id, chat),
            _ => Self::Sent(Some(receipt.message_id)),
        }
    }

    /// In one word; none for a step on the way.
    pub(super) fn result(&self, part: &Part) -> Option<&'static str> {
        Some(match self {
            Self::Sent(_) | Self::SentIn(..) => "sent",
            Self::Stubbed(_) => return None,
            Self::Instead(_) => "refused",
            Self::Failed(error) => match error {
                ChannelError::Rejected { .. } | ChannelError::Setup { .. } | ChannelError::MissingScope { .. } => {
                    "refused"
                }
                ChannelError::RateLimited { .. } => "rate_limited",
                ChannelError::Uncertain { .. } if !part.content.is_idempotent() => "uncertain",
                _ => "not_sent",
            },
        })
    }
}

/// Whether an attempt of unknown outcome can be repeated without a second copy of the text.
pub(super) fn can_be_found(channel: &dyn Channel, part: &Part) -> bool {
    channel.finds_copies() || !matches!(part.content, Content::File { .. })
}

impl Sender {
    pub(super) async fn attempt(&self, channel: &dyn Channel, part: &Part) -> Outcome {
        match &part.content {
            Content::Reaction { message_id, reaction, instead_of } => {
                let message = MessageRef { address: part.address.clone(), message_id: message_id.clone() };
                match channel.react(&message, *reaction, *instead_of).await {
                    Ok(()) => Outcome::Sent(None),
                    Err(error) => Outcome::Failed(error),
                }
            }
            Content::Edit { .. } => self.edit(channel, part).await,
            _ if part.uncertain > 0 => self.again(channel, part).await,
            _ => self.send(channel, part).await,
        }
    }

    async fn send(&self, channel: &dyn Channel, part: &Part) -> Outcome {
        let result = match &part.content {
            Content::Text { body } | Content::Reply { body, .. } => {
                channel.send_with_receipt(reply(part, body.clone())).await
            }
            Content::Prompt { body, .. } => match self.buttons(part).await {
                Ok(buttons) => channel.send_with_buttons(reply(part, body.clone()), buttons).await,
                Err(error) => Err(error),
            },
            Content::File { name, caption, base64 } => {
                let content = BASE64_STANDARD.decode(base64).unwrap_or_default();
                let (name, caption, dedupe_key) = (name.clone(), caption.clone(), part.idem_key.clone());
                let file = OutboundFile { name, content, caption, dedupe_key };
                channel.send_file(&part.address, file).await
            }
            Content::Edit { .. } | Content::Reaction { .. } => return Outcome::Sent(None),
        };
        match result {
            Err(ChannelError::Rejected { reason }) => instead(&part.content)
                .map_or_else(|| Outcome::Failed(ChannelError::Rejected { reason }), Outcome::Instead),
            Err(error) => Outcome::Failed(error),
            Ok(receipt) => Outcome::of(receipt, part),
        }
    }

    /// After an attempt of unknown outcome: never a third copy, and none where the platform can be asked.
    async fn again(&self, channel: &dyn Channel, part: &Part) -> Outcome {
        let body = body_of(&part.content);
        match channel.reconcile(&reply(part, body.clone())).await {
            Ok(Some(receipt)) => return Outcome::of(receipt, part),
            Ok(None) => {}
            // Not known yet; that nothing was sent by asking is certain.
            Err(ChannelError::Uncertain { host, reason }) => {
                return Outcome::Failed(ChannelError::Unreachable { host, reason });
            }
            Err(error) => return Outcome::Failed(error),
        }
        if channel.finds_copies() {
            return self.send(channel, part).await;
        }
        // A second copy is risked only when the platform answers again.
        if let Err(error) = channel.test().await {
            return Outcome::Failed(match error {
                ChannelError::Uncertain { host, reason } => ChannelError::Unreachable { host, reason },
                error => error,
            });
        }
        match (&part.stub_id, &part.content) {
            (_, Content::File { .. }) => self.send(channel, part).await,
            (None, _) => match channel.send_with_receipt(reply(part, Body::plain(STUB))).await {
                Ok(receipt) => Outcome::Stubbed(receipt.message_id),
                Err(error) => Outcome::Failed(error),
            },
            (Some(stub), _) => {
                let message = MessageRef { address: part.address.clone(), message_id: stub.clone() };
                let buttons = match self.buttons(part).await {
                    Ok(buttons) => buttons,
                    Err(error) => return Outcome::Failed(error),
                };
                match channel.edit_message(&message, &body, &buttons).await {
                    Ok(()) => Outcome::Sent(Some(message.message_id)),
                    Err(error) => Outcome::Failed(repeatable(error)),
                }
            }
        }
    }

    async fn edit(&self, channel: &dyn Channel, part: &Part) -> Outcome {
        let Content::Edit { of, body, buttons, must_show } = &part.content else { return Outcome::Sent(None) };
        let unseen = || {
            let shown = || Outcome::Instead(Content::Text { body: body.clone() });
            if *must_show { shown() } else { Outcome::Sent(None) }
        };
        let message = match self.store.message_of(of).await {
            Ok(Some(message)) => message,
            Ok(None) => return unseen(),
            Err(error) => return Outcome::Failed(ChannelError::Store { reason: error.to_string() }),
        };
        match channel.edit_message(&message, body, buttons).await {
            Ok(()) => Outcome::Sent(Some(message.message_id)),
            Err(ChannelError::Rejected { .. } | ChannelError::NotAllowed { .. }) => match instead(&part.content) {
                Some(plain) => Outcome::Instead(plain),
                None => unseen(),
            },
            // A platform without edits, or a token that may not edit.
            Err(ChannelError::Setup { .. } | ChannelError::MissingScope { .. }) => unseen(),
            // All but edits works: what has to be seen waits for them no longer.
            Err(ChannelError::Uncertain { .. })
                if *must_show && part.attempts >= PATIENT_EDITS && channel.test().await.is_ok() =>
            {
                unseen()
            }
            Err(error) => Outcome::Failed(repeatable(error)),
        }
    }

    async fn buttons(&self, part: &Part) -> Result<Vec<crate::ApprovalButton>, ChannelError> {
        let Content::Prompt { buttons, needs, without, .. } = &part.content else { return Ok(Vec::new()) };
        let Some(needs) = needs else { return Ok(buttons.clone()) };
        let arrived = self.store.message_of(needs).await;
        let arrived = arrived.map_err(|error| ChannelError::Store { reason: error.to_string() })?;
        Ok(if arrived.is_some() { buttons.clone() } else { without.clone() })
    }
}

/// What a text file says, for a chat that takes no files.
pub(super) fn as_texts(channel: &dyn Channel, part: &Part) -> Vec<NewPart> {
    let Content::File { base64, .. } = &part.content else { return Vec::new() };
    let content = BASE64_STANDARD.decode(base64).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let bodies = content.map(|text| channel.compose(&text)).unwrap_or_default();
    let text = |(index, body)| NewPart {
        idem_key: format!("{}:text:{index}", part.idem_key),
        address: part.address.clone(),
        content: Content::Text { body },
    };
    bodies.into_iter().enumerate().map(text).collect()
}

/// An edit can be repeated whatever became of it.
fn repeatable(error: ChannelError) -> ChannelError {
    match error {
        ChannelError::Uncertain { host, reason } => ChannelError::Unreachable { host, reason },
        error => error,
    }
}

/// The same without the form that a platform refused; none if it had none.
fn instead(content: &Content) -> Option<Content> {
    let mut content = content.clone();
    let (Content::Text { body }
    | Content::Reply { body, .. }
    | Content::Prompt { body, .. }
    | Content::Edit { body, .. }) = &mut content
    else {
        return None;
    };
    body.format.take().map(|_| content)
}

fn body_of(content: &Content) -> Body {
    match content {
        Content::Text { body }
        | Content::Reply { body, .. }
        | Content::Prompt { body, .. }
        | Content::Edit { body, .. } => body.clone(),
        Content::File { caption, .. } => Body::plain(caption.clone().unwrap_or_default()),
        Content::Reaction { .. } => Body::default(),
    }
}

fn reply(part: &Part, body: Body) -> OutboundReply {
    let reply_to = match &part.content {
        Content::Reply { to, .. } => Some(to.clone()),
        _ => None,
    };
    OutboundReply { address: part.address.clone(), body, reply_to, dedupe_key: part.idem_key.clone() }
}
