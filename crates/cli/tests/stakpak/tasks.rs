//! Tasks and the life of the binary: `kill -9`, a stop, the end of a session, and rules.

use crate::support::{Home, PATIENCE, Up, until};
use serde_json::{Value, json};
use stakpak_client::{Message, RunOverrides, SendMessageOptions};
use stakpak_protocol::{AutoApproveOverride, Event};
use stakpak_test_support::{Reply, ScriptedLlm};

fn configured(llm: &ScriptedLlm) -> Home {
    let home = Home::new();
    let config = format!(
        "[profiles.default]\nmodel = \"my/test\"\n[profiles.default.providers.my]\ntype = \"custom\"\napi_endpoint = \"{}\"\n",
        llm.base_url()
    );
    home.write("config.toml", &config);
    home
}

fn up(home: &Home) -> Up {
    home.up_with(&["--workdir", home.directory.path().to_str().unwrap()])
}

/// Stands for the result of a call that waits for a person.
const ASKED: &str = "(asked)";

/// One run that calls a tool once: the call's result.
async fn call(llm: &ScriptedLlm, up: &Up, session: &str, tool: &str, arguments: Value) -> String {
    let overrides =
        RunOverrides { auto_approve: Some(AutoApproveOverride::Mode("all".into())), ..RunOverrides::default() };
    call_with(llm, up, session, overrides, tool, arguments).await
}

async fn call_with(
    llm: &ScriptedLlm,
    up: &Up,
    session: &str,
    overrides: RunOverrides,
    tool: &str,
    arguments: Value,
) -> String {
    // Unique in the session.
    let id = format!("call_{tool}_{}", llm.requests().len());
    llm.push(Reply::tool_call(&id, &format!("stakpak__{tool}"), &arguments));
    let client = up.client();
    let options = SendMessageOptions { overrides: Some(overrides), ..SendMessageOptions::default() };
    let posted = client.send_messages(session, vec![Message::user("go")], options).await.unwrap();
    let mut events = client.subscribe_events(session, Some(posted.cursor)).await.unwrap();
    let mut found = None;
    loop {
        let event = tokio::time::timeout(PATIENCE, events.next_event()).await.expect("in time").unwrap();
        let envelope = event.envelope().unwrap();
        match &envelope.event {
            // A call that waits for a person is the last of its run.
            Event::ToolExecutionStarted { .. } => llm.push(Reply::text(["done"])),
            Event::ToolExecutionCompleted { result, .. } => found = result.as_str().map(str::to_owned),
            Event::WaitingForToolApproval { run_id, .. } => {
                client.cancel_run(session, &run_id.to_string()).await.unwrap();
                return ASKED.to_owned();
            }
            _ => {}
        }
        if envelope.event.is_terminal() {
            return found.unwrap_or_else(|| panic!("no result: {}", event.data));
        }
    }
}

async fn session(up: &Up) -> String {
    up.client().create_session("tasks").await.unwrap().id.to_string()
}

/// Starts a task that says its process id and waits for the file `go`; its id, and that of its shell.
async fn waiting(llm: &ScriptedLlm, up: &Up, home: &Home, session: &str) -> (String, String) {
    let command =
        "echo $$ > shell.new; mv shell.new shell; echo begun; until [ -e go ]; do sleep 0.05; done; echo ended";
    let result = call(llm, up, session, "run_command_task", json!({"command": command, "timeout": 300})).await;
    let task: Value = serde_json::from_str(&result).unwrap_or_else(|_| panic!("{result}"));
    let shell = until("the shell", || std::fs::read_to_string(home.path("shell")).ok());
    (task["id"].as_str().unwrap().to_owned(), shell.trim().to_owned())
}

fn lives(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}

/// Section 8: a shim owns the task, so it is Running again, and its end is read by the next server.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_outlives_a_kill_of_the_server() {
    let llm = ScriptedLlm::start().await;
    let home = configured(&llm);
    let first = up(&home);
    let session = session(&first).await;
    let (id, shell) = waiting(&llm, &first, &home, &session).await;
    first.kill();
    assert!(lives(&shell));

    let second = up(&home);
    let table = call(&llm, &second, &session, "get_all_tasks", json!({})).await;
    assert!(table.contains(&format!("| {id} | Running |")), "{table}");
    assert!(lives(&shell), "the clean-up of calls leaves tasks alone");
    second.kill();
    std::fs::write(home.path("go"), "").unwrap();
    until("the end of the task", || (!lives(&shell)).then_some(()));

    let third = up(&home);
    let table = call(&llm, &third, &session, "wait_for_tasks", json!({"task_ids": id})).await;
    assert!(table.contains(&format!("| {id} | Completed |")), "{table}");
    let details = call(&llm, &third, &session, "get_task_details", json!({"task_id": id})).await;
    assert!(details.ends_with("Output:\nbegun\nended"), "{details}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_keeps_tasks_and_the_end_of_their_session_ends_them() {
    let llm = ScriptedLlm::start().await;
    let home = configured(&llm);
    let first = up(&home);
    let session = session(&first).await;
    let (_, shell) = waiting(&llm, &first, &home, &session).await;
    assert_eq!(first.stop(), Some(0));
    assert!(lives(&shell));
    let second = up(&home);
    second.client().delete_session(&session).await.unwrap();
    assert!(!lives(&shell));
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_end_with_the_server_where_the_file_says_so() {
    let llm = ScriptedLlm::start().await;
    let home = configured(&llm);
    home.write("autopilot.toml", "[server]\ntasks_on_shutdown = \"kill\"\n");
    let first = up(&home);
    let session = session(&first).await;
    let (id, shell) = waiting(&llm, &first, &home, &session).await;
    assert_eq!(first.stop(), Some(0));
    assert!(!lives(&shell));
    let second = up(&home);
    let details = call(&llm, &second, &session, "get_task_details", json!({"task_id": id})).await;
    assert!(details.contains(": Cancelled") && details.ends_with("Output:\nbegun"), "{details}");
}

/// 9.1: a task's line is judged by its own scope, then as that of `run_command`.
#[tokio::test(flavor = "multi_thread")]
async fn rules_about_command_lines_hold_for_tasks() {
    let llm = ScriptedLlm::start().await;
    let home = configured(&llm);
    let up = up(&home);
    let session = session(&up).await;
    let ask = async |approved: &str, command: &str| {
        let auto_approve = Some(AutoApproveOverride::Tools(vec![approved.to_owned()]));
        let overrides = RunOverrides { auto_approve, ..RunOverrides::default() };
        call_with(&llm, &up, &session, overrides, "run_command_task", json!({"command": command})).await
    };
    for (approved, command, is_asked) in [
        ("run_command::echo", "echo made > /dev/null", false),
        ("run_command_task::echo", "echo made", false),
        ("run_command::echo", "echo x; touch made", true),
        ("run_command_task::echo", "touch made", true),
    ] {
        let result = ask(approved, command).await;
        assert_eq!(result == ASKED, is_asked, "{approved}, {command}: {result}");
    }
    assert!(!home.path("made").exists());
}
