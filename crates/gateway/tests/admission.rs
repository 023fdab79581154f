//! Strangers, as admins are asked about them in their chats.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use serde_json::json;
use stakpak_gateway::{GatewayStore, PressAnswer, Role, Subject};
use support::{
    ANN, BOB, EVE, Stage,
    chat::{Shown, direct},
};

/// Bob is an admin, Ann may talk, nobody else.
async fn stage() -> (Stage, GatewayStore) {
    let stage = Stage::new("", "allow_users = [1]").await;
    let store = GatewayStore::open(&stage.store_path()).unwrap();
    store.access_allow(&"telegram".into(), Subject::User, BOB, Role::Admin).await.unwrap();
    (stage, store)
}

fn refused(answer: &PressAnswer) -> &str {
    match answer {
        PressAnswer::Refused(reason) => reason,
        PressAnswer::Taken => panic!("the press counted"),
    }
}

/// The message in the stranger's chat with the code, and the code.
async fn offered(stage: &Stage, user: &str) -> String {
    let offer = stage.chat.wait_for("a code", |shown| shown.chat == user && shown.text.contains("pair approve")).await;
    offer.text.rsplit(' ').next().unwrap().to_owned()
}

async fn told(stage: &Stage, question: &Shown) -> String {
    stage.chat.wait_for("the outcome", |shown| shown.id == question.id && shown.buttons.is_empty()).await.text
}

/// An admin lets a stranger in with a button: nobody else can, it counts once, and it is on record.
#[tokio::test]
async fn an_admin_lets_a_stranger_in_with_a_button() {
    let (stage, store) = stage().await;
    stage.chat.say(EVE, "hello?").await;
    let code = offered(&stage, EVE).await;
    let question = stage.chat.prompt(1).await;
    assert_eq!(
        (question.chat.as_str(), &question.buttons[..]),
        (BOB, &["Let in".to_owned(), "Keep out".to_owned()][..])
    );
    assert!(question.text.starts_with("Eve (id 3)") && !question.text.contains(&code), "{question:?}");

    let (allow, deny) = (question.payload("Let in"), question.payload("Keep out"));
    assert!(refused(&stage.chat.press(EVE, &question, &allow).await).contains("Only an admin"));
    assert!(refused(&stage.chat.press(ANN, &question, &allow).await).contains("Only an admin"));
    let elsewhere = stage.chat.press_as(BOB, direct(ANN), &question.id, &allow, None).await;
    assert!(refused(&elsewhere).contains("not the message"));
    let forged = stage.chat.press_as(BOB, direct(BOB), "out99", &allow, None).await;
    assert!(refused(&forged).contains("not the message"));
    assert_eq!(store.pairings().await.unwrap().len(), 1);
    assert_eq!(stage.agent.messages().len(), 0);

    assert_eq!(stage.chat.press(BOB, &question, &allow).await, PressAnswer::Taken);
    assert_eq!(told(&stage, &question).await, "Eve (id 3) was let in by Bob.");
    stage
        .chat
        .wait_for("a welcome", |shown| shown.chat == EVE && shown.text.starts_with("You were let in as user"))
        .await;
    stage.chat.say(EVE, "and now?").await;
    stage.agent.wait_for_messages(1).await;
    assert!(refused(&stage.chat.press(BOB, &question, &deny).await).contains("settled already"));
    assert!(store.approve_pairing(&code, Role::Admin).await.unwrap().is_none(), "the code is used");
    let entry = &store.audit(1).await.unwrap()[0];
    assert_eq!((&*entry.deed, &*entry.actor, &*entry.subject), ("access.granted", "telegram:2", "telegram:user:3"));
}

/// Kept out by a button, the code is void; settled by the operator, the question says so.
#[tokio::test]
async fn whoever_settles_a_code_all_who_were_asked_see_it() {
    let (stage, store) = stage().await;
    stage.chat.say(EVE, "hello?").await;
    let code = offered(&stage, EVE).await;
    let question = stage.chat.prompt(1).await;
    assert_eq!(stage.chat.press(BOB, &question, &question.payload("Keep out")).await, PressAnswer::Taken);
    assert_eq!(told(&stage, &question).await, "Eve (id 3) was kept out by Bob.");
    assert!(store.approve_pairing(&code, Role::User).await.unwrap().is_none());

    stage.chat.say("4", "me?").await;
    let code = offered(&stage, "4").await;
    let question = stage.chat.prompt(2).await;
    let (status, _) = stage.api("POST", "/pairings/approve", Some(&json!({ "code": code }))).await;
    assert_eq!(status, 200);
    assert_eq!(told(&stage, &question).await, "Eve (id 4) was let in by the operator.");
    assert!(refused(&stage.chat.press(BOB, &question, &question.payload("Keep out")).await).contains("settled"));
}

/// G-P38: an hour later the button is as void as the code.
#[tokio::test]
async fn a_question_counts_as_long_as_its_code() {
    let (mut stage, _) = stage().await;
    stage.chat.say(EVE, "hello?").await;
    let question = stage.chat.prompt(1).await;
    stage.kill().await;
    let database = rusqlite::Connection::open(stage.store_path()).unwrap();
    assert_eq!(database.execute("UPDATE pairings SET expires_at = created_at + 1", []).unwrap(), 1);
    stage.start().await;
    assert!(refused(&stage.chat.press(BOB, &question, &question.payload("Let in")).await).contains("hour is over"));
    stage.chat.say(EVE, "anybody?").await;
    stage.chat.prompt(2).await;
    assert_eq!(stage.agent.messages().len(), 0);
}
