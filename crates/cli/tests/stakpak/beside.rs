//! Processes that share a state directory: several `run`s, and an `up` that starts meanwhile.

use std::{
    process::{Child, Output, Stdio},
    time::Instant,
};

use serde_json::{Value, json};
use stakpak_test_support::{Gate, Reply, ScriptedLlm};

use crate::support::{Home, PATIENCE, stderr, stdout};

/// A home with a scripted model.
async fn desk() -> (Home, ScriptedLlm) {
    let (home, llm) = (Home::new(), ScriptedLlm::start().await);
    let endpoint = llm.base_url();
    home.write(
        "config.toml",
        &format!("[profiles.default]\nmodel = \"my/test\"\n[profiles.default.providers.my]\ntype = \"custom\"\napi_endpoint = \"{endpoint}\"\n"),
    );
    (home, llm)
}

/// Runs that wait for their model, each beside the ones before; their answers are `done` and the job, once the gate is open.
async fn waiting<const N: usize>(home: &Home, llm: &ScriptedLlm, gate: &Gate, jobs: [&str; N]) -> Vec<Child> {
    let mut runs = Vec::new();
    for job in jobs {
        llm.push(Reply::text([""]).then_wait(gate).then_text(format!("done {job}")));
        runs.push(start(home, &[job]));
        llm.wait_for_requests(runs.len()).await;
    }
    runs
}

fn start(home: &Home, arguments: &[&str]) -> Child {
    let mut command = home.command(&[&["run", "-o", "json"], arguments].concat());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn manifest(output: &Output) -> Value {
    assert!(output.status.success(), "{}", stderr(output));
    serde_json::from_str(&stdout(output)).unwrap()
}

/// A-P26: each finishes its own work, nothing is done twice, and who lives keeps its sessions.
#[tokio::test(flavor = "multi_thread")]
async fn runs_side_by_side_and_an_up_started_meanwhile_each_finish_their_own_work() {
    let ((home, llm), gate) = (desk().await, Gate::new());
    let runs = waiting(&home, &llm, &gate, ["a", "b"]).await;
    let up = home.up();
    let client = up.client();
    let names: Vec<String> = runs.iter().map(|run| format!("`stakpak run` (process {})", run.id())).collect();
    let sessions = client.list_sessions().await.unwrap().sessions;
    assert_eq!(sessions.len(), 2, "both are to be seen");
    for session in &sessions {
        let output = home.run(&["run", "--json", "-s", &session.id.to_string(), "x"]);
        let refused: Value = serde_json::from_str(&stderr(&output)).unwrap();
        assert_eq!(output.status.code(), Some(1), "{refused}");
        let text = refused["error"].as_str().unwrap();
        assert!(names.iter().any(|name| text.contains(name)), "{text} names none of {names:?}");
    }
    gate.open();
    let ended: Vec<_> = runs.into_iter().map(|run| manifest(&run.wait_with_output().unwrap())).collect();
    assert_eq!((&ended[0]["agent_message"], &ended[1]["agent_message"]), (&json!("done a"), &json!("done b")));
    assert_eq!(llm.requests().len(), 2, "each was asked once");

    let session = ended[0]["session_id"].as_str().unwrap();
    llm.push(Reply::text(["done c"]));
    let next = manifest(&home.run(&["run", "-o", "json", "-s", session, "c"]));
    assert_eq!(next["agent_message"], "done c", "its process is gone: the session is free");
    let left: Vec<_> = std::fs::read_dir(home.path(".stakpak/autopilot/owners")).unwrap().flatten().collect();
    assert_eq!(left.len(), 1, "only `up` lives: {left:?}");
}

/// A-P26: what a killed `run` left is taken over by the next `up`, once.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_killed_is_finished_by_the_next_up() {
    let ((home, llm), gate) = (desk().await, Gate::new());
    let mut runs = waiting(&home, &llm, &gate, ["a", "b"]).await;
    let (other, mut killed) = (runs.pop().unwrap(), runs.pop().unwrap());
    killed.kill().unwrap();
    killed.wait().unwrap();
    llm.push(Reply::text(["done a"]));
    let up = home.up();
    llm.wait_for_requests(3).await;
    gate.open();
    assert_eq!(manifest(&other.wait_with_output().unwrap())["agent_message"], "done b");
    let client = up.client();
    let deadline = Instant::now() + PATIENCE;
    let is_done = async || {
        let sessions = client.list_sessions().await.unwrap().sessions;
        assert_eq!(sessions.len(), 2);
        for session in sessions {
            let messages = client.get_messages(&session.id.to_string(), 10, 0).await.unwrap();
            if format!("{messages:?}").contains("done a") {
                return true;
            }
        }
        false
    };
    while !is_done().await {
        assert!(Instant::now() < deadline, "it is not taken over");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(llm.requests().len(), 3, "once by each that drove it, and the other's");
}

/// A-P23: only the lock says whether an instance lives, not what a killed one has left behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_pid_file_decides_nothing() {
    let (home, _llm) = desk().await;
    home.write("autopilot.toml", "[[schedules]]\nname = \"a\"\ncron = \"@yearly\"\nprompt = \"job a\"\n");
    let left = |pid: &str| {
        format!(
            r#"{{"pid":{pid},"started_at":"2026-01-01T00:00:00Z","version":"0","url":"http://127.0.0.1:1","mode":"up","profile":"default"}}"#
        )
    };
    // A process that lives, and that of `up` itself as after a kill in a container.
    for pid in [std::process::id().to_string(), "$$".to_owned()] {
        let directory = home.path(".stakpak/autopilot");
        let script = format!(
            "mkdir -p {0}; echo {pid} > {0}/autopilot.pid; cat > {0}/runtime.json <<END\n{1}\nEND\nexec \"$0\" \"$@\"",
            directory.display(),
            left(&pid)
        );
        let up = home.command(&["up", "--json", "--bind", "127.0.0.1:0"]);
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &script]).arg(up.get_program()).args(up.get_args()).stdin(Stdio::null());
        shell.env_clear().envs(up.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let up = home.start(shell);
        let output = home.run(&["schedule", "trigger", "a", "--wait"]);
        assert!(output.status.success(), "{}", stderr(&output));
        let beside = home.run(&["up", "--json"]);
        let told: Value = serde_json::from_str(&stdout(&beside)).unwrap();
        assert_eq!(
            (beside.status.code(), &told["event"], &told["pid"]),
            (Some(0), &json!("already_running"), &json!(up.child.id()))
        );
        let serve = home.run(&["serve"]);
        assert_eq!(serve.status.code(), Some(1));
        assert!(stderr(&serve).contains(&up.url), "{}", stderr(&serve));
        up.kill();
    }
}

/// Who reads a session that another process drives sees what happens there, while it happens.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_another_process_is_followed_live() {
    let ((home, llm), gate) = (desk().await, Gate::new());
    let mut runs = waiting(&home, &llm, &gate, ["a"]).await;
    let up = home.up();
    let session = up.client().list_sessions().await.unwrap().sessions[0].id;
    let url = format!("{}/v1/sessions/{session}/events?after=0", up.url);
    let request = reqwest::Client::new().get(url).bearer_auth(&up.token);
    let mut answer = request.send().await.unwrap().error_for_status().unwrap();
    let mut seen = String::new();
    let mut until = async |what: &str| {
        while !seen.contains(what) {
            let chunk = tokio::time::timeout(PATIENCE, answer.chunk()).await;
            let chunk = chunk.unwrap_or_else(|_| panic!("{what} is not seen")).unwrap().expect("the stream goes on");
            assert!(chunk != "\n: keepalive\n\n", "{what} is not seen: {seen}");
            seen.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    };
    until("event: run_started").await;
    gate.open();
    until("event: run_completed").await;
    assert_eq!(seen.matches("event: run_completed").count(), 1);
    assert!(seen.contains("done a"), "{seen}");
    let ids: Vec<u64> = seen.lines().filter_map(|line| line.strip_prefix("id: ")?.parse().ok()).collect();
    assert!(ids.is_sorted_by(|one, next| one < next), "{ids:?}");
    assert_eq!(manifest(&runs.remove(0).wait_with_output().unwrap())["agent_message"], "done a");
}
