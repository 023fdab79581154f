//! An answer that is an edit, on a platform that edits nothing.

use super::*;
use crate::{
    Address, Body,
    fake::{FakeChannel, capabilities},
    store::Content,
};

/// 5 ms stand for 300 s.
const FACTOR: u32 = 60_000;

/// G-P45: however an edit fails, what has to be seen is seen, once, and as soon as sending works.
#[tokio::test]
async fn an_answer_that_cannot_be_edited_in_becomes_a_message() {
    let (host, reason) = (|| "platform.example".to_owned(), || "no edits".to_owned());
    let failures: [Box<dyn Fn() -> ChannelError + Send + Sync>; 5] = [
        Box::new(move || ChannelError::Rejected { reason: reason() }),
        Box::new(move || ChannelError::NotAllowed { reason: reason() }),
        Box::new(move || ChannelError::Setup { reason: reason() }),
        Box::new(move || ChannelError::MissingScope { host: host(), scope: reason() }),
        Box::new(move || ChannelError::Uncertain { host: host(), reason: reason() }),
    ];
    for failure in failures {
        let name = format!("{:?}", failure());
        let platform = Arc::new(FakeChannel::new(capabilities(), move || (Duration::ZERO, Err(failure()))));
        let store = GatewayStore::open_in_memory().unwrap();
        let channels = [Arc::clone(&platform) as Arc<dyn Channel>];
        let waits = Waits { first: WAITS.first / FACTOR, longest: WAITS.longest / FACTOR };
        let sender = Sender { waits, ..Sender::new(store.clone(), &channels, CancellationToken::new()) };
        let address = Address { channel: "telegram".into(), chat: "7".to_owned(), thread: None, direct: None };
        let part = |key: &str, content| NewPart { idem_key: key.to_owned(), address: address.clone(), content };
        let edit = |text: &str, must_show| Content::Edit {
            of: "live".to_owned(),
            body: Body::plain(text),
            buttons: Vec::new(),
            must_show,
        };
        let parts = vec![
            part("live", Content::Text { body: Body::plain("looking") }),
            part("answer", edit("the answer", true)),
            part("next", Content::Text { body: Body::plain("what follows") }),
        ];
        store.queue_parts(parts.clone(), now_ms()).await.unwrap();
        sender.work(&parts[0].lane()).await;
        assert_eq!(platform.seen().sent, ["looking", "the answer", "what follows"], "{name}");
        let counts = store.queue_counts().await.unwrap();
        assert_eq!((counts.outbox_pending, counts.outbox_unknown, counts.outbox_failed), (0, 0, 0), "{name}");
    }
}
