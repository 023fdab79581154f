//! What those who operate an instance see: readiness and numbers of the shipped binary.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Home, Up, stdout, until};

/// Status and body of a GET with the token.
fn get(up: &Up, path: &str) -> (u16, String) {
    let get = async {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let response = client.get(format!("{}{path}", up.url)).bearer_auth(&up.token).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(get)
}

fn ready(up: &Up) -> (u16, Value) {
    let (status, body) = get(up, "/v1/ready");
    (status, serde_json::from_str(&body).unwrap())
}

pub(crate) fn until_ready(up: &Up, status: u16, checks: &Value) {
    until(&format!("{status} {checks}"), || {
        let (found, body) = ready(up);
        (found == status && body["checks"] == *checks).then_some(())
    });
}

/// The value of a sample, by its name and labels.
fn sample(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn an_instance_is_ready_and_counts_what_it_does() {
    let home = Home::new();
    let up = home.up();
    until_ready(&up, 200, &json!({"journal": "ok", "scheduler": "ok", "channels": "off", "sandbox": "off"}));
    let output = home.run(&["run", "help"]);
    assert!(output.status.success(), "{output:?}");
    let (status, text) = get(&up, "/metrics");
    assert_eq!(status, 200);
    assert_eq!(sample(&text, "stakpak_runs_total{result=\"completed\"}"), Some(1.0), "{text}");
    for counted in ["stakpak_journal_commit_duration_seconds_count", "stakpak_journal_commit_jobs_sum"] {
        assert!(sample(&text, counted).is_some_and(|value| value > 1.0), "{counted} {text}");
    }
    for there in ["stakpak_journal_queue_jobs", "stakpak_schedule_heartbeat_age_seconds", "stakpak_schedule_active"] {
        assert!(sample(&text, there).is_some(), "{there} {text}");
    }
    assert!(!text.contains(&up.token));
}

/// P39: the document names the routes of the chat gateway and of the scheduler as well, and no name in it is of two things.
#[test]
fn the_api_document_is_of_the_whole_instance() {
    let home = Home::new();
    let up = home.up();
    let document: Value = serde_json::from_str(&get(&up, "/v1/openapi.json").1).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let of = |method: &str, path: &str| paths[path][method].clone();
    for (method, path) in [
        ("get", "/v1/sessions"),
        ("get", "/v1/gateway/status"),
        ("post", "/v1/gateway/send"),
        ("post", "/v1/gateway/approvals/{id}"),
        ("post", "/v1/schedules/{name}/trigger"),
    ] {
        let operation = of(method, path);
        assert!(operation["responses"]["403"].is_object() && operation["operationId"].is_string(), "{method} {path}");
    }
    let ids: Vec<_> = paths
        .values()
        .flat_map(|item| item.as_object().unwrap().values().map(|operation| operation["operationId"].to_string()))
        .collect();
    let mut unique = ids.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), ids.len(), "{ids:?}");
    let error = &document["components"]["schemas"]["GatewayError"]["properties"];
    assert!(error["error"]["type"] == "string" && error["message"]["type"] == "string", "{error}");
    let referred = document.to_string();
    for name in referred.split("#/components/schemas/").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(document["components"]["schemas"][name].is_object(), "{name} is nowhere described");
    }
    let without = home_without_gateway();
    assert!(without["paths"].get("/v1/gateway/send").is_none());
}

fn home_without_gateway() -> Value {
    let home = Home::new();
    let up = home.up_with(&["--no-gateway"]);
    serde_json::from_str(&get(&up, "/v1/openapi.json").1).unwrap()
}

#[test]
fn parts_that_are_switched_off_do_not_hold_it_up() {
    let home = Home::new();
    let up = home.up_with(&["--no-scheduler", "--no-gateway"]);
    until_ready(&up, 200, &json!({"journal": "ok", "scheduler": "off", "channels": "off", "sandbox": "off"}));
}

/// P38: a disk that is full, as far as this process is concerned: it may not write to files any more. Readiness fails for the
/// journal and the ledger, and comes back when there is room again.
#[cfg(target_os = "linux")]
#[test]
fn readiness_fails_on_a_full_disk_and_comes_back() {
    let home = Home::new();
    let up = home.up_ignoring_file_limits();
    let works = json!({"journal": "ok", "scheduler": "ok", "channels": "off", "sandbox": "off"});
    until_ready(&up, 200, &works);
    limit_files(&up, "1");
    until_ready(
        &up,
        503,
        &json!({"journal": "read_only", "scheduler": "read_only", "channels": "off", "sandbox": "off"}),
    );
    let (code, told, json) = health(&home);
    assert_eq!(
        (code, &json["healthy"], &json["server"]["reachable"]),
        (Some(1), &false.into(), &true.into()),
        "{json}"
    );
    assert_eq!((&json["checks"]["journal"], &json["scheduler"]["running"]), (&"read_only".into(), &false.into()));
    assert!(told.contains("journal: cannot be written") && told.contains("scheduler: cannot be written"), "{told}");
    let (status, body) = get(&up, "/v1/sessions?limit=0");
    assert_eq!(status, 200, "what can be read is read: {body}");
    limit_files(&up, "unlimited");
    until_ready(&up, 200, &works);
    let (code, told, json) = health(&home);
    assert_eq!((code, &json["healthy"]), (Some(0), &true.into()), "{json}");
    assert!(told.contains("everything works"), "{told}");
    let output = home.run(&["run", "help"]);
    assert!(output.status.success(), "{output:?}");
}

/// `status` as a script and as a person sees it: exit code of `--check`, text, JSON.
fn health(home: &Home) -> (Option<i32>, String, Value) {
    let json = home.run(&["status", "--json", "--check"]);
    let text = home.run(&["status"]);
    assert_eq!(text.status.code(), Some(0), "{text:?}");
    (json.status.code(), stdout(&text), serde_json::from_slice(&json.stdout).unwrap())
}

#[test]
fn an_instance_that_is_not_there_is_not_healthy() {
    let home = Home::new();
    let (code, told, json) = health(&home);
    assert_eq!((code, &json["healthy"], &json["checks"]), (Some(1), &false.into(), &Value::Null), "{json}");
    assert!(told.contains("not running") && !told.contains("health "), "{told}");
}

fn limit_files(up: &Up, bytes: &str) {
    let pid = up.child.id().to_string();
    let status = Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={bytes}:unlimited")]).status().unwrap();
    assert!(status.success());
}
