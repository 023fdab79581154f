//! G-P45: ten minutes of a stream, on a clock of our own.

use stakpak_client::protocol::RunId;
use uuid::Uuid;

use super::*;
use crate::{
    Capabilities, GatewayConfig,
    channels::build_channels,
    dispatcher::fixtures::{config, conversations, run},
    fake::FakeChannel,
};

const NOWHERE: &str = "http://127.0.0.1:9";
const STREAM: Duration = Duration::from_secs(600);
/// Between two pieces of text.
const PIECE: Duration = Duration::from_millis(100);

/// Ten minutes of text, each piece of it new; where the answer goes at the end.
async fn stream(config: &GatewayConfig, channel: &Arc<FakeChannel>, chat: &str) -> Place {
    let conversations = conversations(config, Arc::clone(channel) as Arc<dyn Channel>);
    let run = run(chat);
    let mut live = Live::new(&conversations, &run).unwrap();
    let (mut next_piece, end) = (Instant::now(), Instant::now() + STREAM);
    while Instant::now() < end {
        tokio::select! {
            biased;
            () = live.due() => live.show(&conversations, &run).await.unwrap(),
            () = sleep_until(next_piece) => {
                live.take(&Event::TextDelta { run_id: RunId(Uuid::from_u128(1)), delta: "more ".to_owned() });
                next_piece += PIECE;
            }
        }
        if live.queued && live.message.is_none() {
            let lane = NewPart {
                idem_key: String::new(),
                address: run.address.clone(),
                content: Content::Text { body: Body::default() },
            }
            .lane();
            if let Some(part) = conversations.store.take_part(&lane).await {
                conversations.store.sent(part.id, Some("m1".to_owned())).await.unwrap();
            }
        }
    }
    live.end(&conversations.store, &run).await.unwrap()
}

/// The shortest time between two of them.
fn shortest(times: impl Iterator<Item = Instant>) -> Duration {
    let times: Vec<_> = times.collect();
    times.windows(2).map(|pair| pair[1] - pair[0]).min().unwrap()
}

fn every_platform(config: &GatewayConfig) -> Vec<(String, Capabilities)> {
    let channels = build_channels(config).unwrap();
    channels.iter().map(|channel| (channel.id().to_string(), channel.capabilities())).collect()
}

/// G-P45: the table of paces (section 6) is what the adapters say, and what a stream of ten minutes keeps to; the live
/// message stays alive all the same.
#[tokio::test(start_paused = true)]
async fn a_stream_of_ten_minutes_is_shown_at_the_platforms_pace() {
    let home = tempfile::tempdir().unwrap();
    let config = config(home.path(), NOWHERE);
    let (second, half) = (Duration::from_secs(1), Duration::from_millis(500));
    let table = [
        ("telegram", second + half, second * 3, Some(second * 4)),
        ("slack", second + half, second + half, None),
        ("discord", second + half, second + half, Some(second * 8)),
    ];
    let platforms = every_platform(&config);
    assert_eq!(platforms.len(), table.len());
    for ((name, capabilities), (known, direct, group, typing)) in platforms.into_iter().zip(table) {
        assert_eq!((name.as_str(), capabilities.typing_every), (known, typing));
        for (chat, pace) in [("7", direct), ("-7", group)] {
            let channel = Arc::new(FakeChannel::new(capabilities, || (Duration::ZERO, Ok(()))));
            let place = stream(&config, &channel, chat).await;
            let seen = channel.seen();
            let most = STREAM.as_secs_f64() / pace.as_secs_f64();
            assert!(shortest(seen.edits.iter().map(|(at, _)| *at)) >= pace, "{name} {chat}");
            assert!(seen.edits.len() as f64 > 0.8 * most, "{name} {chat}: {} edits", seen.edits.len());
            if let Some(every) = typing {
                assert!(shortest(seen.typing.iter().copied()) >= every, "{name} {chat}");
            }
            assert!(matches!(place, Place::Beside(_)), "{name} {chat}: after so long people are told anew");
        }
    }
}

/// G-P45: edits that take longer than the pace do not pile up; those that a platform has too many of wait as long as it says.
#[tokio::test(start_paused = true)]
async fn slow_and_limited_edits_are_not_pressed() {
    let home = tempfile::tempdir().unwrap();
    let config = config(home.path(), NOWHERE);
    let (_, capabilities) = every_platform(&config).remove(0);
    let slow = Duration::from_secs(7);
    let channel = Arc::new(FakeChannel::new(capabilities, move || (slow, Ok(()))));
    stream(&config, &channel, "7").await;
    let seen = channel.seen();
    assert_eq!(seen.most_at_once, 1);
    assert!(shortest(seen.edits.iter().map(|(at, _)| *at)) >= slow);

    let retry_after = Duration::from_secs(20);
    let refusing = move || (Duration::ZERO, Err(ChannelError::RateLimited { retry_after }));
    let channel = Arc::new(FakeChannel::new(capabilities, refusing));
    stream(&config, &channel, "7").await;
    let seen = channel.seen();
    assert!(seen.edits.len() > 20, "{} edits", seen.edits.len());
    assert!(shortest(seen.edits.iter().map(|(at, _)| *at)) >= retry_after);
}
