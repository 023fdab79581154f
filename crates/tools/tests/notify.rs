//! `notify`: to the run's own chat, once a call, so many a run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod setting;

use std::fs;

use serde_json::{Value, json};
use setting::{Setting, completed};
use stakpak_agent_core::{Effect, ToolCall, ToolContext, Tools};
use stakpak_protocol::NotifyRoute;

fn context(setting: &Setting) -> ToolContext {
    let (mut context, _) = setting.context();
    let target = json!({"chat_id": 42}).as_object().unwrap().clone();
    context.notify_route = Some(NotifyRoute { channel: "telegram".to_owned(), target });
    context
}

fn call(arguments: Value) -> ToolCall {
    Setting::call("notify", arguments)
}

fn told(setting: &Setting) -> Vec<String> {
    let told = fs::read_to_string(setting.root().join("chat")).unwrap_or_default();
    told.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn the_runs_own_chat_is_told() {
    let setting = Setting::new();
    let context = context(&setting);
    let password = setting.ok("generate_password", json!({})).await;
    let message = format!("disk is full, use {password}");
    let call = call(json!({"message": message, "title": "sda1", "level": "critical"}));
    assert_eq!(setting.tools.effect(&call), Effect::Keyed);
    let (text, is_error) = completed(setting.tools.run(&call, context.clone()).await);
    assert!(!is_error && text.contains("telegram"), "{text}");
    let key = format!("notify:{}:{}", context.run_id, call.id);
    assert_eq!(
        told(&setting),
        ["🚨 **sda1**".to_owned(), format!("{message} to 42 as {key}")],
        "a placeholder stays one"
    );
}

#[tokio::test]
async fn a_run_without_a_chat_cannot_tell() {
    let setting = Setting::new();
    let error = setting.error("notify", json!({"message": "hello"})).await;
    assert!(error.starts_with("NOTIFY_UNAVAILABLE\n"), "{error}");
    let (error, is_error) =
        completed(setting.tools.run(&call(json!({"message": "refuse this"})), context(&setting)).await);
    assert!(is_error && error == "NOTIFY_UNAVAILABLE\nNothing was sent: there is no such chat", "{error}");
}

/// A call that is run again after a crash goes under its key and counts once.
#[tokio::test]
async fn ten_a_run_also_over_a_restart() {
    let mut setting = Setting::new();
    let context = context(&setting);
    let first = call(json!({"message": "0"}));
    for _ in 0..3 {
        assert!(!completed(setting.tools.run(&first, context.clone()).await).1);
        setting.restart();
    }
    let told_first = told(&setting);
    assert!(told_first.len() == 3 && told_first.iter().all(|line| *line == told_first[0]), "{told_first:?}");
    for number in 1..10 {
        assert!(!completed(setting.tools.run(&call(json!({"message": number.to_string()})), context.clone()).await).1);
    }
    let (error, is_error) = completed(setting.tools.run(&call(json!({"message": "10"})), context.clone()).await);
    assert!(is_error && error.starts_with("NOTIFY_UNAVAILABLE\nNothing was sent: this run has sent its 10"), "{error}");
    assert_eq!(told(&setting).len(), 12);
    assert!(!completed(setting.tools.run(&first, context).await).1, "one that counts already");
    setting.tools.forget_session(setting.session).await.unwrap();
    assert!(!setting.root().join("notices").join(setting.session.to_string()).exists());
}
