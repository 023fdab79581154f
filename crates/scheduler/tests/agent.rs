//! The library surface: one agent run for a program.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::{collections::HashSet, time::Duration};

use stakpak_protocol::{ErrorCode, ToolDecisionAction};
use stakpak_scheduler::agent::{
    AgentError, AgentOutcome, AgentServerConnection, SpawnConfig, spawn_agent, spawn_agent_report,
};
use support::server::{AgentServer, Play};

async fn server(play: Play) -> (AgentServer, SpawnConfig) {
    let server = AgentServer::start().await;
    server.play(play);
    let connection = AgentServerConnection { url: server.url.clone(), token: "secret-token".to_owned() };
    assert!(!format!("{connection:?}").contains("secret-token"));
    (server, SpawnConfig::new(connection, "status"))
}

#[tokio::test]
async fn completed() {
    let (server, config) = server(Play::Answer("done")).await;
    let report = spawn_agent_report(config).await.unwrap();
    assert_eq!((report.outcome, report.final_message.as_deref()), (AgentOutcome::Completed, Some("done")));
    assert!(report.result.success() && !report.result.failed() && !report.result.is_paused());
    assert_eq!(report.result.session_id, Some(server.session_of_run().to_string()));
    assert_eq!((report.result.stdout.as_str(), report.result.stderr.as_str()), ("done", ""));
}

#[tokio::test]
async fn failed() {
    let (_server, config) = server(Play::Fail("no credit")).await;
    let result = spawn_agent(config).await.unwrap();
    assert_eq!((result.exit_code, result.stderr.as_str(), result.failed()), (Some(1), "no credit", true));
}

#[tokio::test]
async fn timed_out_with_all_that_is_known() {
    let (_server, mut config) = server(Play::Hang).await;
    config.timeout = Duration::from_millis(200);
    let result = spawn_agent(config).await.unwrap();
    assert_eq!((result.exit_code, result.timed_out, result.failed()), (None, true, true));
    assert_eq!((result.session_id.is_some(), result.stdout.as_str()), (true, "stopped"));
}

#[tokio::test]
async fn paused_decides_nothing() {
    let (server, mut config) = server(Play::Ask).await;
    config.pause_on_approval = true;
    let result = spawn_agent(config).await.unwrap();
    assert_eq!((result.exit_code, result.is_paused(), result.failed()), (Some(10), true, false));
    assert!(result.pause_reason.unwrap().contains("call_1"));
    assert_eq!(server.decisions(), []);
}

#[tokio::test]
async fn calls_that_ask_are_decided_by_the_list() {
    for (allowed, action) in [
        (HashSet::new(), ToolDecisionAction::Accept),
        (HashSet::from(["remove".to_owned()]), ToolDecisionAction::Accept),
        (HashSet::from(["view".to_owned()]), ToolDecisionAction::Reject),
    ] {
        let (server, mut config) = server(Play::Ask).await;
        config.allowed_tools = allowed;
        assert!(spawn_agent(config).await.unwrap().success());
        assert_eq!(server.decisions()[0].decisions.values().next().unwrap().action, action);
    }
}

#[tokio::test]
async fn refused() {
    let (_server, config) = server(Play::Refuse(400, "invalid_model")).await;
    let error = spawn_agent(config).await.unwrap_err();
    assert!(matches!(error, AgentError::Refused { .. }), "{error:?}");
    assert_eq!(error.code(), Some(ErrorCode::InvalidModel));
}
