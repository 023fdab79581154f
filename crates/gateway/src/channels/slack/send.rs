//! Messages to Slack, and finding them again.
//!
//! * A message carries its dedupe key as metadata; the look-up before a second attempt finds it by that.
//! * Text is escaped, and nothing is linked or unfolded: what a model writes names nobody.

use serde_json::{Value, json};

use super::{SlackChannel, text, ts};
use crate::{
    Address, ApprovalButton, Body, ButtonStyle, ChannelError, DeliveryReceipt, MessageRef, OutboundReply, Reaction,
    chunking::chunk_text, clock::now_ms,
};

/// Name of the metadata.
const EVENT_TYPE: &str = "stakpak_message";
/// Characters of one section, escaped.
const SECTION: usize = 3000;
/// A message is given up after a day, so its copy is not older, in microseconds.
const LOOK_BACK: i64 = 25 * 3600 * 1_000_000;
const PAGES: usize = 10;

impl SlackChannel {
    pub(super) async fn post(
        &self,
        reply: &OutboundReply,
        buttons: &[ApprovalButton],
    ) -> Result<DeliveryReceipt, ChannelError> {
        let OutboundReply { address, body, dedupe_key, .. } = reply;
        let text = text::escape(&body.text);
        let metadata = json!({ "event_type": EVENT_TYPE, "event_payload": { "key": dedupe_key } }).to_string();
        let blocks = blocks(body, buttons).map(|blocks| blocks.to_string());
        let mut arguments = vec![
            ("channel", address.chat.as_str()),
            ("text", &text),
            ("metadata", &metadata),
            ("parse", "none"),
            ("link_names", "false"),
            ("unfurl_links", "false"),
            ("unfurl_media", "false"),
        ];
        arguments.extend(blocks.as_deref().map(|blocks| ("blocks", blocks)));
        arguments.extend(address.thread.as_deref().map(|thread| ("thread_ts", thread)));
        let sent = self.api.call("chat.postMessage", &arguments).await?;
        let Some(message_id) = sent["ts"].as_str() else {
            let reason = "the answer has no `ts`".to_owned();
            return Err(ChannelError::Uncertain { host: self.api.host().to_owned(), reason });
        };
        let chat = sent["channel"].as_str().map(str::to_owned);
        if let Some(chat) = &chat {
            self.learn_place(address, chat);
        }
        Ok(DeliveryReceipt { message_id: message_id.to_owned(), thread_id: address.thread.clone(), chat })
    }

    pub(super) async fn update(
        &self,
        message: &MessageRef,
        body: &Body,
        buttons: &[ApprovalButton],
    ) -> Result<(), ChannelError> {
        let chat = self.chat_id(&message.address).await?;
        let text = text::escape(&body.text);
        // An empty list takes the old blocks away, and the buttons with them.
        let blocks = blocks(body, buttons).unwrap_or_else(|| json!([])).to_string();
        let arguments = [
            ("channel", chat.as_str()),
            ("ts", &message.message_id),
            ("text", &text),
            ("blocks", &blocks),
            ("parse", "none"),
            ("link_names", "false"),
        ];
        self.api.call("chat.update", &arguments).await.map(drop)
    }

    /// The message of an earlier attempt.
    pub(super) async fn find(&self, reply: &OutboundReply) -> Result<Option<DeliveryReceipt>, ChannelError> {
        let address = &reply.address;
        let chat = self.chat_id(address).await?;
        let text = text::escape(&reply.body.text);
        let ours = |message: &&Value| match message["metadata"]["event_type"].as_str() {
            Some(kind) => kind == EVENT_TYPE && message["metadata"]["event_payload"]["key"] == reply.dedupe_key,
            // Some workspaces keep no metadata; then all messages of the bot are without.
            None => !message["bot_id"].is_null() && message["text"] == text && self.is_own(message),
        };
        let oldest = ts::ts(now_ms().saturating_mul(1000) - LOOK_BACK);
        let mut cursor = String::new();
        for _ in 0..PAGES {
            let mut arguments = vec![
                ("channel", chat.as_str()),
                ("oldest", &oldest),
                ("limit", "200"),
                ("include_all_metadata", "true"),
                ("cursor", &cursor),
            ];
            let method = if address.thread.is_some() { "conversations.replies" } else { "conversations.history" };
            arguments.extend(address.thread.as_deref().map(|thread| ("ts", thread)));
            let page = self.api.call(method, &arguments).await?;
            let found = page["messages"].as_array().into_iter().flatten().find(ours);
            if let Some(found) = found.and_then(|message| message["ts"].as_str()) {
                let (message_id, thread_id) = (found.to_owned(), address.thread.clone());
                return Ok(Some(DeliveryReceipt { message_id, thread_id, chat: Some(chat) }));
            }
            page["response_metadata"]["next_cursor"].as_str().unwrap_or_default().clone_into(&mut cursor);
            if cursor.is_empty() {
                break;
            }
        }
        Ok(None)
    }

    pub(super) async fn set_reaction(
        &self,
        message: &MessageRef,
        reaction: Reaction,
        instead_of: Option<Reaction>,
    ) -> Result<(), ChannelError> {
        // A slash command is no message.
        if ts::micros(&message.message_id).is_none() {
            return Ok(());
        }
        let chat = self.chat_id(&message.address).await?;
        let change = async |method: &str, reaction: Reaction| {
            let arguments = [("channel", chat.as_str()), ("timestamp", &message.message_id), ("name", emoji(reaction))];
            match self.api.call(method, &arguments).await {
                Err(ChannelError::Rejected { reason }) if reason == "already_reacted" || reason == "no_reaction" => {
                    Ok(())
                }
                outcome => outcome.map(drop),
            }
        };
        change("reactions.add", reaction).await?;
        match instead_of.filter(|old| *old != reaction) {
            Some(old) => change("reactions.remove", old).await,
            None => Ok(()),
        }
    }

    /// What only one person sees.
    pub(super) async fn whisper(&self, address: &Address, user: &str, what: &str) -> Result<(), ChannelError> {
        let chat = self.chat_id(address).await?;
        let text = text::escape(what);
        let mut arguments = vec![("channel", chat.as_str()), ("user", user), ("text", &text), ("parse", "none")];
        arguments.extend(address.thread.as_deref().map(|thread| ("thread_ts", thread)));
        self.api.call("chat.postEphemeral", &arguments).await.map(drop)
    }
}

fn emoji(reaction: Reaction) -> &'static str {
    match reaction {
        Reaction::Seen => "eyes",
        Reaction::Done => "white_check_mark",
        Reaction::Failed => "x",
    }
}

/// The blocks of a message: those it was composed with, or its text where buttons need something to stand under.
fn blocks(body: &Body, buttons: &[ApprovalButton]) -> Option<Value> {
    let composed =
        body.format.as_ref().and_then(|format| format["blocks"].as_array()).filter(|blocks| !blocks.is_empty());
    if buttons.is_empty() {
        return composed.map(|blocks| blocks.clone().into());
    }
    let mut blocks = composed.cloned().unwrap_or_else(|| sections(&body.text));
    let elements: Vec<Value> = buttons.iter().map(button).collect();
    blocks.push(json!({ "type": "actions", "elements": elements }));
    Some(blocks.into())
}

fn sections(text: &str) -> Vec<Value> {
    // The escaped text is up to five times as long.
    let fits = |text: &String| text.chars().count() <= SECTION;
    let parts: Vec<String> = chunk_text(text, SECTION).iter().map(|part| text::escape(part)).collect();
    let parts = if parts.iter().all(fits) {
        parts
    } else {
        chunk_text(text, SECTION / 5).iter().map(|part| text::escape(part)).collect()
    };
    let section =
        |text: String| json!({ "type": "section", "text": { "type": "mrkdwn", "text": text, "verbatim": true } });
    parts.into_iter().map(section).collect()
}

fn button(button: &ApprovalButton) -> Value {
    let label: String = button.label.chars().take(75).collect();
    let mut element = json!({
        "type": "button", "action_id": button.callback_data, "value": button.callback_data,
        "text": { "type": "plain_text", "text": label }
    });
    match button.style {
        ButtonStyle::Success => element["style"] = "primary".into(),
        ButtonStyle::Danger => element["style"] = "danger".into(),
        ButtonStyle::Secondary => {}
    }
    element
}
