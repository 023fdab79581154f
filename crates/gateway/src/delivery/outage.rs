//! A platform that refuses everything for a day; every wait is shorter by the same factor, so that a day
//! is some seconds.

use std::{num::NonZeroU32, sync::Mutex, time::Instant};

use super::*;
use crate::{
    Address, Body, Capabilities, ChannelHealth, ChannelId, ChannelTestResult, DeliveryReceipt, InboundSink,
    OutboundReply,
};

/// 5 ms stand for 300 s, and less than 2 s for a day.
const FACTOR: u32 = 60_000;
const OUTAGE: Duration = Duration::from_secs(23 * 3600);
const CHAT: &str = "7";

type Refusal = fn() -> ChannelError;

/// Refuses until `back`, and counts.
#[derive(Debug)]
struct Refusing {
    how: Refusal,
    back: Instant,
    refused: Mutex<usize>,
    sent: Mutex<Vec<String>>,
}

impl Refusing {
    fn open(&self) -> Result<(), ChannelError> {
        if Instant::now() >= self.back {
            return Ok(());
        }
        *self.refused.lock().unwrap() += 1;
        Err((self.how)())
    }
}

#[async_trait]
impl Channel for Refusing {
    fn id(&self) -> ChannelId {
        "telegram".into()
    }

    fn display_name(&self) -> &'static str {
        "Refusing"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            message_limit: 4096,
            send_pace: Duration::from_millis(1),
            send_burst: NonZeroU32::MIN,
            group_per_minute: None,
            bot_per_second: NonZeroU32::new(1000).unwrap(),
            edit_pace: Duration::ZERO,
            group_edit_pace: Duration::ZERO,
            typing_every: None,
            max_file: 0,
        }
    }

    async fn start_durable(&self, _: Arc<dyn InboundSink>, _: CancellationToken) -> Result<(), ChannelError> {
        Ok(())
    }

    async fn send_with_receipt(&self, reply: OutboundReply) -> Result<DeliveryReceipt, ChannelError> {
        self.open()?;
        self.sent.lock().unwrap().push(reply.body.text);
        Ok(DeliveryReceipt { message_id: "1".to_owned(), thread_id: None, chat: None })
    }

    async fn reconcile(&self, _: &OutboundReply) -> Result<Option<DeliveryReceipt>, ChannelError> {
        self.open().map(|()| None)
    }

    fn finds_copies(&self) -> bool {
        true
    }

    async fn test(&self) -> Result<ChannelTestResult, ChannelError> {
        self.open()?;
        Ok(ChannelTestResult { channel: self.id(), identity: String::new(), details: String::new() })
    }

    fn health(&self) -> ChannelHealth {
        unreachable!("nobody asks")
    }

    fn report_failure(&self, _: &ChannelError) {}
}

fn host() -> String {
    "platform.example".to_owned()
}

/// D3, D5: whatever the refusal looks like, a day of it costs some hundred requests, and then everything arrives, in order and
/// without anybody's help.
#[tokio::test]
async fn a_day_of_refusals_is_waited_out_and_makes_no_storm() {
    let refusals: [(&str, Refusal); 3] = [
        ("429", || ChannelError::RateLimited { retry_after: Duration::from_secs(120) / FACTOR }),
        ("5xx", || ChannelError::Uncertain { host: host(), reason: "502".to_owned() }),
        ("refused connections", || ChannelError::Unreachable { host: host(), reason: "refused".to_owned() }),
    ];
    for (name, how) in refusals {
        let back = Instant::now() + OUTAGE / FACTOR;
        let platform = Arc::new(Refusing { how, back, refused: Mutex::default(), sent: Mutex::default() });
        let store = GatewayStore::open_in_memory().unwrap();
        let channels = [Arc::clone(&platform) as Arc<dyn Channel>];
        let waits = Waits { first: WAITS.first / FACTOR, longest: WAITS.longest / FACTOR };
        let sender = Sender { waits, ..Sender::new(store.clone(), &channels, CancellationToken::new()) };
        let address = Address { channel: "telegram".into(), chat: CHAT.to_owned(), thread: None, direct: None };
        let texts = ["one", "two", "three"];
        let parts = texts.map(|text| NewPart {
            idem_key: text.to_owned(),
            address: address.clone(),
            content: crate::store::Content::Text { body: Body::plain(text) },
        });
        store.queue_parts(parts.to_vec(), now_ms()).await.unwrap();
        sender.work(&parts[0].lane()).await;

        let sent = platform.sent.lock().unwrap().clone();
        assert_eq!(sent, texts, "{name}");
        let requests = *platform.refused.lock().unwrap();
        assert!((50..1500).contains(&requests), "{name}: {requests} requests in a day");
        let counts = store.queue_counts().await.unwrap();
        assert_eq!((counts.outbox_pending, counts.outbox_unknown, counts.outbox_failed), (0, 0, 0), "{name}");
    }
}
