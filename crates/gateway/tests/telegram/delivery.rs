//! G-P41: around a crash or a lost reply the text stands in the chat at most twice, and never not at all.

use std::{path::Path, sync::Arc};

use stakpak_gateway::{Gateway, GatewayCliFlags, GatewayConfig};
use stakpak_test_support::{BotApi, SendFault, SentMessage};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::ANN;

const STUB: &str = "…";

/// A gateway that answers commands by itself; there is no agent server.
async fn gateway(home: &Path, server: &BotApi) -> JoinHandle<()> {
    let file = home.join("autopilot.toml");
    let base_url = server.base_url();
    let table = format!("[channels.telegram]\ntoken = \"1:x\"\nallow_users = [{ANN}]\napi_base_url = \"{base_url}\"\n");
    std::fs::write(&file, table).unwrap();
    let flags = GatewayCliFlags { store: Some(home.join("gateway.db")), ..GatewayCliFlags::default() };
    let mut config = GatewayConfig::load(file.as_path(), &flags).unwrap().with_server("http://127.0.0.1:9", "token");
    config.gateway.state_dir = home.to_owned();
    let gateway = Arc::new(Gateway::open(config).await.unwrap());
    tokio::spawn(async move { gateway.run(CancellationToken::new()).await.unwrap() })
}

fn copies(sent: &[SentMessage]) -> usize {
    sent.iter().filter(|sent| sent.text.contains("/queue")).count()
}

fn edited_stub(sent: &[SentMessage]) -> bool {
    sent.iter().any(|sent| sent.edits == [STUB] && copies(std::slice::from_ref(sent)) == 1)
}

#[tokio::test]
async fn after_a_lost_reply_a_stub_is_filled() {
    let (server, home) = (BotApi::start().await, tempfile::tempdir().unwrap());
    server.fail_next(SendFault::AnswerCut);
    let running = gateway(home.path(), &server).await;
    server.say(ANN, "/help");
    let sent = server.wait_for_sent(edited_stub).await;
    assert_eq!((copies(&sent), sent.len()), (2, 2), "{sent:#?}");
    running.abort();
}

#[tokio::test]
async fn with_every_reply_lost_there_are_never_more_than_two() {
    let (server, home) = (BotApi::start().await, tempfile::tempdir().unwrap());
    server.fail_always("sendMessage", SendFault::AnswerCut);
    let running = gateway(home.path(), &server).await;
    server.say(ANN, "/help");
    let sent = server.wait_for_sent(|sent| sent.len() >= 3).await;
    assert_eq!(copies(&sent), 1, "only stubs follow the first: {sent:#?}");
    server.heal();
    let sent = server.wait_for_sent(edited_stub).await;
    assert_eq!(copies(&sent), 2, "{sent:#?}");
    running.abort();
}

#[tokio::test]
async fn a_crash_before_the_receipt_loses_nothing() {
    let (server, home) = (BotApi::start().await, tempfile::tempdir().unwrap());
    server.fail_next(SendFault::AnswerLost);
    let running = gateway(home.path(), &server).await;
    server.say(ANN, "/help");
    server.wait_for_sent(|sent| copies(sent) == 1).await;
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    let running = gateway(home.path(), &server).await;
    let sent = server.wait_for_sent(edited_stub).await;
    assert_eq!(copies(&sent), 2, "{sent:#?}");
    running.abort();
}

/// G-P42: one chat that has to wait holds up no other.
#[tokio::test]
async fn a_chat_under_a_flood_limit_waits_alone() {
    let (server, home) = (BotApi::start().await, tempfile::tempdir().unwrap());
    let running = gateway(home.path(), &server).await;
    server.flood(Some(ANN), 20);
    server.say(ANN, "/help");
    server
        .wait_for("the refusal", |server| server.calls().iter().any(|call| call.method == "sendmessage").then_some(()))
        .await;
    server.say_in_group(-1001, ANN, "/help");
    let sent = server.wait_for_sent(|sent| copies(sent) == 1).await;
    assert_eq!(sent[0].chat_id, -1001);
    running.abort();
}
