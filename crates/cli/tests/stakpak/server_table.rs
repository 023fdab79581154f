//! `[server]` of autopilot.toml: what each key does, at the front door.

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::support::Home;

const TOKEN: &str = "a-token-of-the-file-0123456789";

/// A-P36: an instance that was told nothing else is as the file says.
#[tokio::test(flavor = "multi_thread")]
async fn the_table_of_the_server_is_heeded() {
    let home = Home::new();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    home.write(
        "autopilot.toml",
        &format!(
            "[server]\nlisten = \"127.0.0.1:{port}\"\ntoken = \"{TOKEN}\"\nallowed_hosts = [\"ops.example.com\"]\n\
             allowed_origins = [\"https://ops.example.com\"]\napproval_ceiling = \"none\"\n"
        ),
    );
    let up = home.start(home.command(&["up", "--json"]));
    assert_eq!(up.url, format!("http://127.0.0.1:{port}"));
    let client = reqwest::Client::new();
    let ask = |method: Method, path: &str| client.request(method, format!("{}{path}", up.url));
    let status = async |request: RequestBuilder| request.send().await.unwrap().status().as_u16();
    let sessions = || ask(Method::GET, "/v1/sessions");

    assert_eq!(status(sessions().bearer_auth(TOKEN)).await, 200);
    assert_eq!(status(sessions().bearer_auth("another-token-0123456789abc")).await, 401);
    for (header, good, bad) in [
        ("host", "ops.example.com", "other.example.com"),
        ("origin", "https://ops.example.com", "https://other.example.com"),
    ] {
        assert_eq!(status(sessions().bearer_auth(TOKEN).header(header, good)).await, 200, "{header}");
        assert_ne!(status(sessions().bearer_auth(TOKEN).header(header, bad)).await, 200, "{header}");
    }

    let created =
        ask(Method::POST, "/v1/sessions").bearer_auth(TOKEN).json(&json!({ "title": "t" })).send().await.unwrap();
    let created: Value = created.json().await.unwrap();
    let id = created["session"]["id"].as_str().or(created["id"].as_str()).unwrap();
    let message = json!({
        "message": { "content": "hello", "role": "user" }, "overrides": { "auto_approve": "all" },
    });
    let refused = ask(Method::POST, &format!("/v1/sessions/{id}/messages")).bearer_auth(TOKEN).json(&message);
    let refused = refused.send().await.unwrap();
    assert_eq!(refused.status().as_u16(), 403);
    assert!(refused.text().await.unwrap().contains("approval_ceiling"));
}
