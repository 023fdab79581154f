//! External tool servers, from the file to the result in a run.

use serde_json::json;
use stakpak_test_support::{Reply, ScriptedLlm, ScriptedMcp};

use crate::support::{Home, stderr, stdout};

/// A home whose model is scripted and wants `git__echo` called.
async fn desk() -> (Home, ScriptedLlm, ScriptedMcp) {
    let (home, llm, server) = (Home::new(), ScriptedLlm::start().await, ScriptedMcp::start(&["echo"]).await);
    let endpoint = llm.base_url();
    home.write(
        "config.toml",
        &format!(
            "[profiles.default]\nmodel = \"my/test\"\n[profiles.default.providers.my]\ntype = \"custom\"\napi_endpoint = \"{endpoint}\"\n"
        ),
    );
    (home, llm, server)
}

fn table(server: &ScriptedMcp) -> String {
    format!("[mcpServers.git]\ncommand = \"bash\"\nargs = [\"-c\", '{}']\n", server.stdio_command())
}

fn script(llm: &ScriptedLlm) {
    llm.push(Reply::tool_calls(&[("call", "git__echo", json!({"text": "from the server"}))]));
    llm.push(Reply::text(["Done."]));
}

fn offers(llm: &ScriptedLlm, request: usize) -> bool {
    llm.requests()[request].body["tools"].to_string().contains("git__echo")
}

/// C-P40: the approval of a bare name is one of our own tools, never a server's.
#[tokio::test(flavor = "multi_thread")]
async fn a_servers_tool_runs_when_it_is_approved_by_its_full_name() {
    let (home, llm, server) = desk().await;
    home.write("mcp.toml", &table(&server));
    script(&llm);
    let output = home.run(&["run", "--tool", "git__echo", "say it"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(offers(&llm, 0));
    let told = llm.requests()[1].body["messages"].to_string();
    assert!(told.contains("from the server"), "{told}");
    assert_eq!(server.received_of("tools/call").len(), 1);
    script(&llm);
    assert!(home.run(&["run", "--tool", "echo", "say it"]).status.success());
    let told = llm.requests()[3].body["messages"].to_string();
    assert!(told.contains("nobody can be asked"), "{told}");
    assert_eq!(server.received_of("tools/call").len(), 1, "it was not approved");
}

/// C-P61
#[tokio::test(flavor = "multi_thread")]
async fn a_projects_servers_are_not_started_before_they_are_trusted() {
    let (home, llm, server) = desk().await;
    let project = home.path("project");
    std::fs::create_dir(&project).unwrap();
    std::fs::write(project.join("mcp.toml"), table(&server)).unwrap();
    let run = |arguments: &[&str]| home.command(arguments).current_dir(&project).output().unwrap();
    llm.push(Reply::text(["Nothing."]));
    let output = run(&["run", "hello"]);
    assert!(stderr(&output).contains("is not trusted"), "{}", stderr(&output));
    assert!(!offers(&llm, 0));
    assert!(!run(&["mcp", "test"]).status.success());
    assert_eq!(server.received().len(), 0, "nothing was started");
    assert!(run(&["mcp", "trust"]).status.success());
    let output = run(&["mcp", "test"]);
    assert!(stdout(&output).starts_with("git: ready, 1 tools\n  git__echo"), "{}", stdout(&output));
    llm.push(Reply::text(["Nothing."]));
    run(&["run", "hello"]);
    assert!(offers(&llm, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_in_json_is_listed_and_its_servers_run() {
    let (home, llm, server) = desk().await;
    let servers = json!({"mcpServers": {
        "git": {"command": "bash", "args": ["-c", server.stdio_command()]},
        "off": {"url": "http://127.0.0.1:9/mcp", "disabled": true},
    }});
    home.write("mcp.json", &servers.to_string());
    let output = home.run(&["mcp", "list", "--json"]);
    let listed: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert!(listed["config"].as_str().unwrap().ends_with("mcp.json"), "{listed}");
    let told: Vec<_> =
        listed["servers"].as_array().unwrap().iter().map(|s| (&s["name"], &s["transport"], &s["disabled"])).collect();
    assert_eq!(told, [(&json!("git"), &json!("stdio"), &json!(false)), (&json!("off"), &json!("http"), &json!(true))]);
    script(&llm);
    assert!(home.run(&["run", "--tool", "git__echo", "say it"]).status.success());
    assert!(llm.requests()[1].body["messages"].to_string().contains("from the server"));
}

/// C-P33
#[tokio::test(flavor = "multi_thread")]
async fn commands_do_not_see_the_variables_that_servers_get_their_credentials_from() {
    let (home, llm, _server) = desk().await;
    home.write("mcp.toml", "[mcpServers.docs]\nurl = \"http://127.0.0.1:9/mcp\"\nheaders = { Authorization = \"Bearer ${DOCS_TOKEN}\" }\nenv = { H = \"$HOME\" }\n");
    let line = "echo token=${DOCS_TOKEN+seen} other=${OTHER+seen} home=${HOME+seen}";
    llm.push(Reply::tool_calls(&[("call", "stakpak__run_command", json!({"command": line}))]));
    llm.push(Reply::text(["Done."]));
    let mut command = home.command(&["run", "--tool", "run_command", "look"]);
    let output = command.env("DOCS_TOKEN", "docs-token-docs-token").env("OTHER", "x").output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let told = llm.requests()[1].body["messages"].to_string();
    assert!(told.contains("token= other=seen home=seen"), "{told}");
}
