//! A platform that keeps what is sent to it, and on which anybody can write and press.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use stakpak_gateway::{
    Address, ApprovalButton, Body, Capabilities, Channel, ChannelError, ChannelHealth, ChannelId, ChannelStatus,
    ChannelTestResult, DeliveryReceipt, InboundBatch, InboundEvent, InboundMessage, InboundSink, MediaAttachment,
    MessageRef, OutboundFile, OutboundReply, Overheard, Press, PressAnswer, Sender, StreamId, chunking::chunk_text,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A message, or the file of one.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    pub id: String,
    pub chat: String,
    pub text: String,
    pub buttons: Vec<String>,
    pub payloads: Vec<String>,
    pub file: Option<String>,
    /// The message that it answers.
    pub reply_to: Option<String>,
}

impl Shown {
    /// The payload under a label.
    pub fn payload(&self, label: &str) -> String {
        let at = self.buttons.iter().position(|button| button == label);
        self.payloads[at.unwrap_or_else(|| panic!("no {label} in {self:?}"))].clone()
    }
}

#[derive(Default)]
struct State {
    sink: Option<Arc<dyn InboundSink>>,
    shown: Vec<Shown>,
    answers: Vec<(String, PressAnswer)>,
    refuses_files: bool,
    takes_no_files: bool,
    refuses_texts: bool,
    refuses_prompts: bool,
    refuses_edits: bool,
    holds_receipts: bool,
    silent: bool,
    events: i64,
}

#[derive(Clone)]
pub struct Chat {
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
}

#[derive(Clone)]
struct Adapter(Chat);

impl std::fmt::Debug for Adapter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Adapter")
    }
}

impl Chat {
    pub fn new() -> Self {
        Self { state: Arc::default(), changed: watch::Sender::new(0) }
    }

    pub fn channel(&self) -> Arc<dyn Channel> {
        Arc::new(Adapter(self.clone()))
    }

    pub fn refuse_files(&self) {
        self.state().refuses_files = true;
    }

    /// From the start: there is no way to send one.
    pub fn take_no_files(&self) {
        self.state().takes_no_files = true;
    }

    pub fn refuse_texts(&self, refuses: bool) {
        self.state().refuses_texts = refuses;
    }

    pub fn refuse_prompts(&self, refuses: bool) {
        self.state().refuses_prompts = refuses;
    }

    pub fn refuse_edits(&self) {
        self.state().refuses_edits = true;
    }

    /// Whether prompts are shown, and the gateway does not hear which message they are.
    pub fn hold_receipts(&self, holds: bool) {
        self.state().holds_receipts = holds;
        self.change();
    }

    /// Whether nothing that is sent is answered.
    pub fn is_silent(&self, silent: bool) {
        self.state().silent = silent;
        self.change();
    }

    pub fn shown(&self) -> Vec<Shown> {
        self.state().shown.clone()
    }

    pub async fn connected(&self) {
        super::until(&self.changed, "the adapter", || self.state().sink.as_ref().map(drop)).await;
    }

    pub fn disconnect(&self) {
        self.state().sink = None;
    }

    /// Waits for a message that satisfies `is`.
    pub async fn wait_for(&self, what: &str, is: impl Fn(&Shown) -> bool) -> Shown {
        super::until(&self.changed, &format!("{what}; shown: {:#?}", self.shown()), || {
            self.shown().into_iter().find(|shown| is(shown))
        })
        .await
    }

    /// Waits for the prompt number `number`, from 1.
    pub async fn prompt(&self, number: usize) -> Shown {
        super::until(&self.changed, "a prompt", || {
            self.shown().into_iter().filter(|shown| !shown.payloads.is_empty()).nth(number - 1)
        })
        .await
    }

    pub async fn say(&self, user: &str, text: &str) {
        drop(self.say_in(direct(user), user, text).await);
    }

    /// The id of the message.
    pub async fn say_in(&self, address: Address, user: &str, text: &str) -> String {
        self.say_to(address, user, text, None).await
    }

    /// As an answer to a message of the chat.
    pub async fn say_to(&self, address: Address, user: &str, text: &str, reply_to: Option<&str>) -> String {
        self.say_with(address, user, text, reply_to, Vec::new()).await
    }

    /// The same with files.
    pub async fn say_with(
        &self,
        address: Address,
        user: &str,
        text: &str,
        reply_to: Option<&str>,
        attachments: Vec<MediaAttachment>,
    ) -> String {
        let number = self.number();
        let id = format!("in{number}");
        let message = InboundMessage {
            address,
            sender: sender(user),
            event_key: format!("m{number}"),
            order_key: number,
            message_id: id.clone(),
            reply_to: reply_to.map(str::to_owned),
            text: text.to_owned(),
            attachments,
            metadata: serde_json::json!({"mentioned": true}),
        };
        self.accept(InboundEvent::Message(Box::new(message)), Some(number)).await;
        id
    }

    /// Presses, and waits for what the presser is told.
    pub async fn press(&self, user: &str, message: &Shown, payload: &str) -> PressAnswer {
        let address = if message.chat.starts_with('-') { group(&message.chat) } else { direct(&message.chat) };
        self.press_as(user, address, &message.id, payload, None).await
    }

    pub async fn press_as(
        &self,
        user: &str,
        address: Address,
        message_id: &str,
        payload: &str,
        event_key: Option<&str>,
    ) -> PressAnswer {
        let number = self.number();
        let event_key = event_key.map_or_else(|| format!("p{number}"), str::to_owned);
        let press = Press {
            address,
            sender: sender(user),
            event_key: event_key.clone(),
            order_key: number,
            message_id: message_id.to_owned(),
            payload: payload.to_owned(),
            token: "t".to_owned(),
        };
        self.accept(InboundEvent::Press(Box::new(press)), None).await;
        super::until(&self.changed, "an answer to a press", || {
            self.state().answers.iter().find(|(key, _)| *key == event_key).map(|(_, answer)| answer.clone())
        })
        .await
    }

    pub fn answers(&self) -> usize {
        self.state().answers.len()
    }

    pub async fn migrate(&self, from: &str, to: &str) {
        let number = self.number();
        let event = InboundEvent::Migrated { from: from.to_owned(), to: to.to_owned() };
        self.accept(event, Some(number)).await;
    }

    async fn accept(&self, event: InboundEvent, position: Option<i64>) {
        let sink = self.state().sink.clone().expect("the gateway runs");
        let stream = StreamId { channel: "telegram".into(), account: "bot".to_owned(), name: "updates".to_owned() };
        sink.accept(InboundBatch { stream, events: vec![event], position }).await.unwrap();
    }

    fn number(&self) -> i64 {
        let mut state = self.state();
        state.events += 1;
        state.events
    }

    fn add(&self, reply: OutboundReply, buttons: &[ApprovalButton], file: Option<String>) -> DeliveryReceipt {
        let mut state = self.state();
        let id = format!("out{}", state.shown.len());
        state.shown.push(Shown {
            id: id.clone(),
            chat: reply.address.chat,
            text: reply.body.text,
            buttons: buttons.iter().map(|button| button.label.clone()).collect(),
            payloads: buttons.iter().map(|button| button.callback_data.clone()).collect(),
            file,
            reply_to: reply.reply_to,
        });
        drop(state);
        self.change();
        DeliveryReceipt { message_id: id, thread_id: None, chat: None }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn change(&self) {
        self.changed.send_modify(|count| *count += 1);
    }
}

pub fn direct(user: &str) -> Address {
    Address { channel: "telegram".into(), chat: user.to_owned(), thread: None, direct: Some(user.into()) }
}

pub fn group(chat: &str) -> Address {
    Address { channel: "telegram".into(), chat: chat.to_owned(), thread: None, direct: None }
}

fn sender(user: &str) -> Sender {
    let name = match user {
        super::ANN => "Ann",
        super::BOB => "Bob",
        _ => "Eve",
    };
    Sender { id: user.into(), username: None, display_name: Some(name.to_owned()) }
}

#[async_trait]
impl Channel for Adapter {
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
            max_file: if self.0.state().takes_no_files { 0 } else { 1_000_000 },
        }
    }

    /// A form of its own: what was not composed can be told.
    fn compose(&self, markdown: &str) -> Vec<Body> {
        let bodies = chunk_text(&markdown.replace("<!", "<\u{200b}!"), self.capabilities().message_limit);
        bodies.into_iter().map(Body::plain).collect()
    }

    async fn start_durable(
        &self,
        inbound: Arc<dyn InboundSink>,
        cancel: CancellationToken,
    ) -> Result<(), ChannelError> {
        self.0.state().sink = Some(inbound);
        self.0.change();
        cancel.cancelled().await;
        Ok(())
    }

    async fn send_with_receipt(&self, reply: OutboundReply) -> Result<DeliveryReceipt, ChannelError> {
        super::until(&self.0.changed, "an answer", || (!self.0.state().silent).then_some(())).await;
        if self.0.state().refuses_texts {
            return Err(ChannelError::Rejected { reason: "chat not found".to_owned() });
        }
        Ok(self.0.add(reply, &[], None))
    }

    async fn send_with_buttons(
        &self,
        reply: OutboundReply,
        buttons: Vec<ApprovalButton>,
    ) -> Result<DeliveryReceipt, ChannelError> {
        if self.0.state().refuses_prompts {
            return Err(ChannelError::Rejected { reason: "no buttons here".to_owned() });
        }
        let receipt = self.0.add(reply, &buttons, None);
        super::until(&self.0.changed, "a receipt", || (!self.0.state().holds_receipts).then_some(())).await;
        Ok(receipt)
    }

    async fn edit_message(
        &self,
        message: &MessageRef,
        body: &Body,
        buttons: &[ApprovalButton],
    ) -> Result<(), ChannelError> {
        let mut state = self.0.state();
        if state.refuses_edits {
            return Err(ChannelError::Rejected { reason: "no edits here".to_owned() });
        }
        let shown = state.shown.iter_mut().find(|shown| shown.id == message.message_id).unwrap();
        shown.text.clone_from(&body.text);
        shown.buttons = buttons.iter().map(|button| button.label.clone()).collect();
        if !buttons.is_empty() {
            shown.payloads = buttons.iter().map(|button| button.callback_data.clone()).collect();
        }
        drop(state);
        self.0.change();
        Ok(())
    }

    async fn send_file(&self, address: &Address, file: OutboundFile) -> Result<DeliveryReceipt, ChannelError> {
        if self.0.state().refuses_files {
            return Err(ChannelError::Rejected { reason: "no files here".to_owned() });
        }
        let content = String::from_utf8(file.content).unwrap();
        let body = Body::plain(file.caption.unwrap_or_default());
        let reply = OutboundReply { address: address.clone(), body, reply_to: None, dedupe_key: String::new() };
        Ok(self.0.add(reply, &[], Some(content)))
    }

    async fn said_before(
        &self,
        address: &Address,
        message_id: &str,
        _most: usize,
    ) -> Result<Vec<Overheard>, ChannelError> {
        let text = format!("before {message_id} in {}", address.thread.as_deref().unwrap_or_default());
        Ok(vec![Overheard { name: "Eve".to_owned(), text }])
    }

    async fn answer_press(&self, press: &Press, answer: PressAnswer) -> Result<(), ChannelError> {
        self.0.state().answers.push((press.event_key.clone(), answer));
        self.0.change();
        Ok(())
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
