//! What a run tells on its way: its own chat hears it, once, and a restart does not change where it goes.

use serde_json::json;
use stakpak_client::{Message, SendMessageOptions};
use stakpak_protocol::Event;
use stakpak_test_support::{Gate, Reply};

use crate::{support::PATIENCE, telegram::Stage};

#[tokio::test(flavor = "multi_thread")]
async fn a_run_tells_its_chat_also_behind_a_restart() {
    let stage = Stage::new().await;
    stage.llm.push(Reply::text(["let me "]).then_wait(&Gate::new()).then_text("and never the rest"));
    let up = stage.up();
    stage.telegram.say(42, "watch the disk");
    stage.llm.wait_for_requests(1).await;
    up.kill();

    stage.llm.push(Reply::tool_call("call_1", "stakpak__notify", &json!({"message": "sda1 is full", "title": "disk"})));
    let gate = Gate::new();
    stage.llm.push(Reply::text(["that "]).then_wait(&gate).then_text("is all"));
    let up = stage.up();
    let told = stage.telegram.wait_for_sent(|sent| sent.iter().any(|sent| sent.text.contains("sda1 is full"))).await;
    assert!(told.iter().all(|sent| sent.chat_id == 42));
    stage.llm.wait_for_requests(3).await;
    up.kill();

    stage.llm.push(Reply::text(["that was all"]));
    let _up = stage.up();
    let sent = stage.telegram.wait_for_sent(|sent| sent.iter().any(|sent| sent.text.contains("that was all"))).await;
    assert_eq!(sent.iter().filter(|sent| sent.text.contains("sda1 is full")).count(), 1, "{sent:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_without_a_route_is_told_that_nobody_hears() {
    let stage = Stage::new().await;
    let up = stage.up();
    let client = up.client();
    stage.llm.push(Reply::tool_call("call_1", "stakpak__notify", &json!({"message": "hello"})));
    stage.llm.push(Reply::text(["done"]));
    let session = client.create_session("notify").await.unwrap().id.to_string();
    let posted =
        client.send_messages(&session, vec![Message::user("go")], SendMessageOptions::default()).await.unwrap();
    let mut events = client.subscribe_events(&session, Some(posted.cursor)).await.unwrap();
    loop {
        let event = tokio::time::timeout(PATIENCE, events.next_event()).await.expect("in time").unwrap();
        if let Event::ToolExecutionCompleted { result, is_error, .. } = event.envelope().unwrap().event {
            assert!(is_error && result.as_str().unwrap().starts_with("NOTIFY_UNAVAILABLE\n"), "{result}");
            return;
        }
    }
}
