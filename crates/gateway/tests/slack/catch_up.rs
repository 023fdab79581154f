//! Sockets come and go; what people say arrives all the same, in order and once.

use std::time::Duration;

use stakpak_test_support::{Saying, SlackApi, SlackFault};

use crate::Stage;

#[tokio::test]
async fn what_was_said_while_the_process_was_down_arrives_in_order_and_once() {
    let mut stage = Stage::new().await;
    let thread = stage.slack.mention(SlackApi::CHANNEL, SlackApi::ANN, "begin");
    stage.sink.wait_for_texts(1).await;
    stage.sink.take_part(SlackApi::CHANNEL, &thread);
    stage.slack.say_in_dm(SlackApi::BOB, "before");
    stage.sink.wait_for_texts(2).await;
    stage.stop().await;

    for number in 0..250 {
        stage.slack.say(SlackApi::CHANNEL, SlackApi::BOB, &format!("people talk {number}"));
    }
    stage.slack.write(Saying::new(SlackApi::CHANNEL, SlackApi::ANN, "in the thread").in_thread(&thread));
    stage.slack.say_in_dm(SlackApi::BOB, "in the dm");
    stage.slack.mention(SlackApi::CHANNEL, SlackApi::BOB, "anew");
    stage.slack.fail_next("conversations.history", None, SlackFault::RateLimited(1));
    stage.restart().await;
    let expected = ["begin", "before", "in the thread", "in the dm", "anew"];
    assert_eq!(stage.sink.wait_for_texts(5).await, expected);

    stage.stop().await;
    stage.restart().await;
    stage.slack.say_in_dm(SlackApi::BOB, "last");
    assert_eq!(stage.sink.wait_for_texts(6).await.last().unwrap(), "last");
    assert_eq!(stage.sink.texts().len(), 6);
}

/// G-P7 on Slack: what comes live while the history is still being read does not hide what was said before it, if the
/// process dies then.
#[tokio::test]
async fn a_death_before_the_history_is_read_loses_nothing() {
    let mut stage = Stage::new().await;
    stage.slack.say_in_dm(SlackApi::BOB, "before");
    stage.sink.wait_for_texts(1).await;
    stage.stop().await;
    stage.slack.say_in_dm(SlackApi::BOB, "missed");
    stage.slack.fail_next("conversations.history", None, SlackFault::Slow(Duration::from_secs(600)));
    stage.restart().await;
    stage.slack.say_in_dm(SlackApi::BOB, "live");
    assert_eq!(stage.sink.wait_for_texts(2).await, ["before", "live"]);
    stage.stop().await;
    stage.restart().await;
    assert_eq!(stage.sink.wait_for_texts(3).await, ["before", "live", "missed"]);
    // Once all is read, positions follow what comes live again.
    stage.stop().await;
    let reads = stage.sink.texts().len();
    stage.restart().await;
    stage.slack.say_in_dm(SlackApi::BOB, "last");
    assert_eq!(stage.sink.wait_for_texts(4).await.last().unwrap(), "last");
    assert_eq!((reads, stage.sink.texts().len()), (3, 4));
}

#[tokio::test]
async fn refreshes_and_lost_sockets_lose_nothing() {
    let stage = Stage::new().await;
    let mut said = Vec::new();
    let mut say = |text: &str| {
        said.push(text.to_owned());
        stage.slack.say_in_dm(SlackApi::ANN, text)
    };
    say("first");
    stage.sink.wait_for_texts(1).await;
    stage.slack.warn_sockets();
    stage.slack.refresh_one_socket();
    say("on the other socket");
    stage.slack.wait_for_sockets(2).await;
    stage.sink.wait_for_texts(2).await;

    stage.slack.drop_sockets();
    say("while there is none");
    stage.slack.wait_for_sockets(2).await;
    stage.sink.wait_for_texts(3).await;

    stage.slack.refresh_sockets();
    say("while both go");
    stage.slack.wait_for_sockets(2).await;
    say("after all");
    let mut texts = stage.sink.wait_for_texts(5).await;
    texts.sort();
    said.sort();
    assert_eq!(texts, said);
}

/// G-P11: `catch_up_hours` is heeded.
#[tokio::test]
async fn what_is_older_than_configured_is_not_read() {
    let mut stage = Stage::with("[gateway]\ncatch_up_hours = 0").await;
    let thread = stage.slack.mention(SlackApi::CHANNEL, SlackApi::ANN, "begin");
    stage.sink.wait_for_texts(1).await;
    stage.sink.take_part(SlackApi::CHANNEL, &thread);
    stage.stop().await;
    stage.slack.mention(SlackApi::CHANNEL, SlackApi::BOB, "missed");
    stage.slack.write(Saying::new(SlackApi::CHANNEL, SlackApi::ANN, "missed too").in_thread(&thread));
    let reads = |slack: &SlackApi| slack.calls().iter().filter(|call| call.method == "conversations.history").count();
    let before = reads(&stage.slack);
    stage.start().await;
    stage.slack.wait_for("a look at the history", |slack| (reads(slack) > before).then_some(())).await;
    stage.slack.mention(SlackApi::CHANNEL, SlackApi::BOB, "live");
    stage.sink.wait_for_texts(2).await;
    stage.slack.mention(SlackApi::CHANNEL, SlackApi::BOB, "live again");
    assert_eq!(stage.sink.wait_for_texts(3).await, ["begin", "live", "live again"]);
}
