//! The log files: what belongs to a request and a run can be found by its ids.

use serde_json::{Value, json};

use crate::support::{Home, Up, until};

/// Status, request id and body.
fn send(up: &Up, method: &str, path: &str, body: Option<&Value>) -> (u16, String, Value) {
    let send = async {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = client.request(method.parse().unwrap(), format!("{}{path}", up.url)).bearer_auth(&up.token);
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        let response = request.send().await.unwrap();
        let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
        (response.status().as_u16(), id, response.json().await.unwrap())
    };
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(send)
}

/// Session, run and the id of the request that started it.
fn start_run(up: &Up) -> (String, String, String) {
    let (_, _, session) = send(up, "POST", "/v1/sessions", Some(&json!({ "title": "t" })));
    let session = session["id"].as_str().unwrap().to_owned();
    let message = json!({ "message": { "role": "user", "content": "a secret of mine" } });
    let (status, request, posted) = send(up, "POST", &format!("/v1/sessions/{session}/messages"), Some(&message));
    assert_eq!(status, 200, "{posted}");
    (session, posted["run_id"].as_str().unwrap().to_owned(), request)
}

fn lines(home: &Home) -> Vec<String> {
    let log = std::fs::read_to_string(home.path(".stakpak/autopilot/logs/server.log")).unwrap();
    log.lines().map(str::to_owned).collect()
}

/// The value of a field, in the line itself or in a span around it.
fn field<'a>(line: &'a Value, name: &str) -> Option<&'a str> {
    let spans = line["spans"].as_array().into_iter().flatten();
    std::iter::once(line).chain(spans).find_map(|place| place[name].as_str())
}

#[test]
fn json_lines_of_a_run_carry_its_ids_and_that_of_its_request() {
    let home = Home::new();
    let up = home.up_with(&["--log-format", "json"]);
    let (session, run, request) = start_run(&up);
    let read = || -> Vec<Value> { lines(&home).iter().map(|line| serde_json::from_str(line).expect(line)).collect() };
    let line = |message: &str| read().into_iter().find(|line| line["message"] == message);
    let accepted = until("the run's first line", || line("run accepted"));
    let ended = until("the run's last line", || line("run ended"));
    for line in [&accepted, &ended] {
        assert_eq!(field(line, "session_id"), Some(session.as_str()), "{line}");
        assert_eq!(field(line, "run_id"), Some(run.as_str()), "{line}");
        assert!(line["timestamp"].is_string() && line["level"] == "INFO", "{line}");
    }
    assert_eq!(field(&accepted, "request_id"), Some(request.as_str()), "{accepted}");
    assert_eq!(field(&accepted, "route"), Some("/v1/sessions/{session_id}/messages"), "{accepted}");
    assert_eq!(field(&ended, "request_id"), None, "a run is not its request: {ended}");
    assert!(!lines(&home).iter().any(|line| line.contains("a secret of mine") || line.contains(&up.token)));
}

/// P35: the id that a client was told is in the log, with the session that it asked about.
#[test]
fn a_refused_request_is_found_by_its_id() {
    let home = Home::new();
    home.write("autopilot.toml", "[server]\nlog_format = \"json\"\n");
    let up = home.up();
    let session = "7f6f7d3e-34e0-4e2b-8f3e-6e8f6a1d2b3c";
    for (path, about) in [(format!("/v1/sessions/{session}"), Some(session)), ("/v1/sessions/odd".to_owned(), None)] {
        let (_, id, body) = send(&up, "GET", &path, None);
        assert_eq!(body["request_id"], id);
        let of_request = |line: &Value| field(line, "request_id") == Some(id.as_str());
        let found = until("the request's line", || {
            lines(&home).iter().map(|line| serde_json::from_str(line).unwrap()).find(of_request)
        });
        assert_eq!((&found["code"], field(&found, "session_id")), (&body["code"], about), "{found}");
    }
}

#[test]
fn lines_for_people_carry_the_same_ids() {
    let home = Home::new();
    let up = home.up();
    let (session, run, request) = start_run(&up);
    let of = |text: &str| {
        let line = lines(&home).into_iter().find(|line| line.ends_with(text) || line.contains(text));
        line.filter(|line| line.contains(&session) && line.contains(&run))
    };
    let accepted = until("the run's first line", || of("run accepted"));
    assert!(accepted.contains(&format!("request_id={request}")), "{accepted}");
    until("the run's last line", || of("run ended"));
}

/// The file is not taken with a format that it does not mean.
#[test]
fn a_wrong_format_is_refused_with_the_ones_there_are() {
    let home = Home::new();
    home.write("autopilot.toml", "[server]\nlog_format = \"xml\"\n");
    let output = home.run(&["up", "--bind", "127.0.0.1:0"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && told.contains("autopilot.toml:2"), "{told}");
    assert!(told.contains("xml") && told.contains("text") && told.contains("json"), "{told}");
}
