//! `ask_user` through the built binary: it waits for an answer, which a kill does not lose, or fails at once where nobody reads.

use std::collections::HashMap;

use crate::{
    support::{Home, PATIENCE},
    telegram::Stage,
};
use serde_json::json;
use stakpak_client::{EventEnvelope, EventStream, Message, SendMessageOptions, ToolDecisionAction, ToolDecisionInput};
use stakpak_protocol::Event;
use stakpak_test_support::{Reply, ScriptedLlm};

fn question() -> Reply {
    let questions =
        json!([{"label": "env", "question": "Which one?", "options": [{"label": "prod"}, {"label": "test"}]}]);
    Reply::tool_call("call_1", "stakpak__ask_user", &json!({ "questions": questions }))
}

async fn until(events: &mut EventStream, name: &str) -> EventEnvelope {
    loop {
        let event = tokio::time::timeout(PATIENCE, events.next_event()).await.expect("in time").unwrap();
        let envelope = event.envelope().unwrap();
        if envelope.event.name() == name {
            return envelope;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_waits_for_its_answer_also_behind_a_kill() {
    let (home, llm) = (Home::new(), ScriptedLlm::start().await);
    let config = format!(
        "[profiles.default]\nmodel = \"my/test\"\n[profiles.default.providers.my]\ntype = \"custom\"\napi_endpoint = \"{}\"\n",
        llm.base_url()
    );
    home.write("config.toml", &config);
    let up = home.up();
    let client = up.client();
    llm.push(question());
    let session = client.create_session("questions").await.unwrap().id.to_string();
    let options = SendMessageOptions { interactive: true, ..SendMessageOptions::default() };
    let posted = client.send_messages(&session, vec![Message::user("go")], options).await.unwrap();
    let mut events = client.subscribe_events(&session, Some(posted.cursor)).await.unwrap();
    until(&mut events, "waiting_for_tool_approval").await;
    up.kill();

    let up = home.up();
    let client = up.client();
    llm.push(Reply::text(["prod it is"]));
    let answer = r#"{"answers":[{"question_label":"env","answer":"prod","is_custom":false}],"completed":true}"#;
    let decision = ToolDecisionInput { action: ToolDecisionAction::CustomResult, content: Some(answer.to_owned()) };
    let decisions = HashMap::from([("call_1".to_owned(), decision)]);
    client.resolve_tools(&session, &posted.run_id.to_string(), decisions).await.unwrap();
    let mut events = client.subscribe_events(&session, Some(posted.cursor)).await.unwrap();
    let completed = until(&mut events, "tool_execution_completed").await;
    assert!(
        matches!(&completed.event, Event::ToolExecutionCompleted { result, is_error: false, .. } if result == answer),
        "{completed:?}"
    );
    until(&mut events, "run_completed").await;
    assert!(llm.requests()[1].body["messages"].to_string().contains("question_label"));
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_chat_nobody_is_asked() {
    let stage = Stage::new().await;
    let _up = stage.up();
    stage.llm.push(question());
    stage.llm.push(Reply::text(["I chose test"]));
    stage.telegram.say(42, "deploy it");
    stage.telegram.wait_for_sent(|sent| sent.iter().any(|sent| sent.text.contains("I chose test"))).await;
    assert!(stage.llm.requests()[1].body["messages"].to_string().contains("INTERACTIVE_REQUIRED"));
}
