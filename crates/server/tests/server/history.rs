//! What goes into a history comes out of it unchanged, and is what the model sees.

use std::sync::Arc;

use reqwest::Method;
use serde_json::{Value, json};
use stakpak_agent_core::AgentConfig;
use stakpak_protocol::{Message, MessagePart};
use tokio::sync::Semaphore;

use crate::support::{Running, Step, TestServer, names};

/// Parts of a message that a model must get as they are: two texts with an image between them.
fn parts() -> Value {
    json!([
        {"type": "text", "text": "what is this?"},
        {"type": "image", "url": "http://127.0.0.1:9/a.png", "detail": "low"},
        {"type": "text", "text": "and is it new?", "provider_options": {"anthropic": {"cache_control": {"type": "ephemeral"}}}},
    ])
}

async fn send(run: &Running, kind: &str, content: Value) -> (u16, Value) {
    let body = json!({"message": {"content": content, "role": "user"}, "run_id": run.run, "type": kind});
    run.http.post(&format!("/v1/sessions/{}/messages", run.session), body).await
}

/// The messages of the newest request to the model.
fn asked(server: &TestServer) -> Vec<Message> {
    server.model.requests.lock().unwrap().last().unwrap().messages.clone()
}

fn content(message: &Message) -> Value {
    json!(message)["content"].take()
}

/// P17: images and the borders of parts of a steering and of a follow-up reach the model.
#[tokio::test]
async fn parts_of_commands_reach_the_model() {
    let call = Step::Call(vec![("a", "stakpak__act", json!({}))]);
    let gate = Arc::new(Semaphore::new(0));
    let server = TestServer::start([call, Step::SayGated(vec!["one", "."], gate.clone()), Step::Say("two")]).await;
    let mut run = server.run("go", json!("none")).await;
    run.until("waiting_for_tool_approval").await;
    assert_eq!(send(&run, "steering", parts()).await.0, 200);
    run.until("text_delta").await;
    assert_eq!(content(asked(&server).last().unwrap()), parts());
    assert_eq!(send(&run, "follow_up", parts()).await.0, 200);
    gate.add_permits(1);
    run.finish().await;
    assert_eq!(content(asked(&server).last().unwrap()), parts());
}

/// P16: an empty command is refused, and skips nothing.
#[tokio::test]
async fn an_empty_command_is_refused_and_skips_nothing() {
    let server = TestServer::start([Step::Call(vec![("a", "stakpak__act", json!({}))]), Step::Say("done")]).await;
    let mut run = server.run("go", json!("none")).await;
    run.until("waiting_for_tool_approval").await;
    for kind in ["steering", "follow_up"] {
        for empty in [json!(""), json!(" \n"), json!([]), json!([{"type": "text", "text": ""}])] {
            let (status, answer) = send(&run, kind, empty).await;
            assert_eq!((status, &answer["code"]), (400, &json!("invalid_request")));
        }
    }
    run.decide("a", "accept").await;
    let events = run.finish().await;
    assert!(!names(&events).contains(&"tool_rejected"), "{events:?}");
    assert_eq!(server.tools.acted.lock().unwrap().len(), 1);
}

/// P19: an override of the system prompt holds for its run in a resumed session too, later runs have the base prompt again, and
/// the list of tools is complete each time.
#[tokio::test]
async fn a_new_prompt_holds_in_a_resumed_session() {
    let server = TestServer::start([Step::Say("one")]).await;
    let mut run = server.run("go", json!("none")).await;
    run.finish().await;
    let base = server.model.requests.lock().unwrap()[0].system.clone();
    let server =
        TestServer::start_in(server.crash().await, [Step::Say("two"), Step::Say("three")], AgentConfig::default())
            .await;
    let http = server.http();
    let prompt = format!("Answer in rhyme. {}", "x".repeat(20_000));
    let path = format!("/v1/sessions/{}/messages", run.session);
    let mut shown = Vec::new();
    for overrides in [json!({"system_prompt": prompt}), json!({"system_prompt": " "})] {
        let body = json!({"message": {"content": "again", "role": "user"}, "overrides": overrides});
        let (status, posted) = http.post(&path, body).await;
        assert_eq!(status, 200, "{posted}");
        let mut events = server.client().subscribe_events(&run.session, posted["cursor"].as_u64()).await.unwrap();
        while !events.next_event().await.unwrap().is_run_terminal() {}
        shown.push(http.get(&path).await.1["messages"][0]["content"].as_str().unwrap().to_owned());
    }
    let requests = server.model.requests.lock().unwrap();
    let asked: Vec<_> = requests.iter().map(|request| request.system.to_string()).collect();
    assert_eq!(asked, [prompt, base.to_string()]);
    assert_eq!(shown, asked, "index 0 is the latest prompt");
    let specs = stakpak_agent_core::Tools::specs(server.tools.as_ref());
    for request in requests.iter() {
        assert_eq!(request.tools, specs);
    }
}

/// P21, P23: what was posted and answered reads back the same while the run goes on, after it, and in another process; a page is
/// a part of the whole, and an index names the same message always.
#[tokio::test]
async fn a_history_reads_back_as_it_was_written() {
    let call = |id: &str, metadata: Value| MessagePart::ToolCall {
        id: id.into(),
        name: "stakpak__act".into(),
        arguments: json!({"deep": [{"x": 1.5}], "ü": null}),
        metadata: Some(metadata),
        provider_options: None,
    };
    let answer = vec![
        MessagePart::text("Let me look."),
        call("a", json!({"thought_signature": "c2ln"})),
        call("b", json!(["opaque"])),
    ];
    let server = TestServer::start([Step::Answer(answer.clone()), Step::Say("as you wish")]).await;
    let http = server.http();
    let session = http.session("history").await;
    let path = format!("/v1/sessions/{session}/messages");
    let options = json!({"anthropic": {"cache_control": {"ttl": "1h", "type": "ephemeral"}}});
    let message = json!({"content": parts(), "name": "ann", "provider_options": options, "role": "user"});
    let (_, posted) = http.post(&path, json!({"message": message})).await;
    let events = server.client().subscribe_events(&session, Some(0)).await.unwrap();
    let mut run = Running { session, run: posted["run_id"].as_str().unwrap().to_owned(), events, http: server.http() };
    run.until("waiting_for_tool_approval").await;
    let before = run.messages().await["messages"].as_array().unwrap().clone();
    let mut user = before[1].clone();
    assert!(user["content"][0]["text"].as_str().unwrap().starts_with("<local_context>"));
    user["content"].as_array_mut().unwrap().remove(0);
    assert_eq!((&user, &before[2]["content"]), (&message, &json!(answer)));

    assert_eq!(run.decide("a", "accept").await.1["results"]["a"], "applied");
    run.until("tool_execution_completed").await;
    send(&run, "steering", json!("stop that")).await;
    run.finish().await;
    let after = run.messages().await["messages"].as_array().unwrap().clone();
    assert_eq!(after[..before.len()], before, "no index has moved");
    assert!(after[4]["content"][0]["content"]["skipped"].is_string(), "a result that is no text: {}", after[4]);
    let sent = asked(&server);
    assert_eq!(
        sent.iter()
            .find(|message| message.parts().len() == 3 && message.role == stakpak_protocol::Role::Assistant)
            .map(content),
        Some(json!(answer))
    );

    let server = TestServer::start_in(server.crash().await, [], AgentConfig::default()).await;
    let http = server.http();
    assert_eq!(http.get(&path).await.1["messages"], json!(after));
    for (index, message) in after.iter().enumerate() {
        let (_, page) = http.get(&format!("{path}?limit=1&offset={index}")).await;
        assert_eq!(page["messages"], json!([message]), "the page at {index}");
    }
}

/// P36: explicit nulls for every option are the same as none.
#[tokio::test]
async fn nulls_for_every_option_are_accepted() {
    let server = TestServer::start([Step::Say("yes"), Step::Say("yes")]).await;
    let http = server.http();
    for overrides in [
        json!(null),
        json!({"auto_approve": null, "limits": null, "max_turns": null, "model": null, "profile": null, "system_prompt": null}),
    ] {
        let session = http.session("nulls").await;
        let body = json!({
            "context": null, "message": {"content": "go", "name": null, "provider_options": null, "role": "user"}, "model": null,
            "notify_route": null, "overrides": overrides, "run_id": null, "sandbox": null, "type": null,
        });
        let (status, answer) = http.post(&format!("/v1/sessions/{session}/messages"), body).await;
        assert_eq!(status, 200, "{answer}");
    }
}

/// P37: the session's directory is where its tools run.
#[tokio::test]
async fn tools_run_in_the_sessions_directory() {
    let call = || Step::Call(vec![("a", "stakpak__act", json!({}))]);
    let server = TestServer::start([call(), Step::Say("done"), call(), Step::Say("done")]).await;
    let directory = tempfile::tempdir().unwrap();
    let http = server.http();
    for cwd in [json!(directory.path()), json!(null)] {
        let (_, session) = http.post("/v1/sessions", json!({"cwd": cwd, "title": ""})).await;
        server.run_in(session["id"].as_str().unwrap(), "go", json!("all")).await.finish().await;
    }
    let ran_in = server.tools.directories.lock().unwrap().clone();
    assert_eq!(ran_in, [directory.path(), server.directory.path()]);
}

/// P52: what cannot be isolated does not run.
#[tokio::test]
async fn a_sandbox_that_is_not_there_runs_nothing() {
    let server = TestServer::start([Step::Call(vec![("a", "stakpak__act", json!({}))])]).await;
    let http = server.http();
    let session = http.session("").await;
    let body =
        json!({"message": {"content": "go", "role": "user"}, "overrides": {"auto_approve": "all"}, "sandbox": true});
    let response =
        http.request(Method::POST, &format!("/v1/sessions/{session}/messages")).json(&body).send().await.unwrap();
    assert_eq!(response.status(), 503);
    assert_eq!(response.json::<Value>().await.unwrap()["code"], "sandbox_unavailable");
    let (_, detail) = http.get(&format!("/v1/sessions/{session}")).await;
    assert_eq!(
        (&detail["session"]["run_status"], &detail["session"]["last_event_id"]),
        (&json!({"state": "idle"}), &json!(0))
    );
    assert!(server.model.requests.lock().unwrap().is_empty() && server.tools.acted.lock().unwrap().is_empty());
}

/// P27: a reader that takes nothing while the run goes on gets every event afterwards, and holds nobody up meanwhile.
#[tokio::test]
async fn a_slow_reader_gets_everything_and_holds_nobody_up() {
    // More than sockets hold.
    let word = format!("{} ", "x".repeat(9_999));
    let text: &'static str = word.repeat(1_000).leak();
    let server = TestServer::start([Step::Say("first"), Step::Say(text)]).await;
    let mut run = server.run("hi", json!("none")).await;
    run.finish().await;
    let mut slow =
        run.http.request(Method::GET, &format!("/v1/sessions/{}/events?after=0", run.session)).send().await.unwrap();
    assert_eq!(slow.status(), 200);
    let mut run = server.run_in(&run.session, "go", json!("none")).await;
    let seen = run.finish().await;
    let newest = seen.last().unwrap().id.0;
    let mut all = String::new();
    let last = format!("id: {newest}\n");
    while !(all.ends_with("\n\n") && all[all.len().saturating_sub(1_000)..].contains(&last)) {
        let more = tokio::time::timeout(std::time::Duration::from_secs(20), slow.chunk()).await.expect("more in time");
        all.push_str(std::str::from_utf8(&more.unwrap().expect("the stream goes on")).unwrap());
    }
    assert!(all.len() > text.len() && !all.contains("event: gap_detected\n"));
    let ids: Vec<u64> = all.lines().filter_map(|line| line.strip_prefix("id: ")?.parse().ok()).collect();
    let first = seen[0].id.0;
    let of_the_run: Vec<u64> = ids.iter().copied().filter(|id| *id >= first).collect();
    assert_eq!(of_the_run, seen.iter().map(|event| event.id.0).collect::<Vec<_>>());
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]) && ids[0] == 1);
}
