//! The API page: in the binary, and kept to itself by its policy.

use crate::support::TestServer;

async fn page(server: &TestServer) -> (reqwest::header::HeaderMap, String) {
    let response = server.http().client.get(format!("{}/docs", server.url)).send().await.unwrap();
    assert_eq!(response.status(), 200, "public");
    (response.headers().clone(), response.text().await.unwrap())
}

/// Only the page's own script and style run, and they talk to this server only.
#[tokio::test]
async fn the_page_runs_nothing_but_what_the_binary_holds() {
    let server = TestServer::start([]).await;
    let (headers, html) = page(&server).await;
    assert_eq!(headers["content-type"], "text/html; charset=utf-8");
    assert_eq!(headers["x-content-type-options"], "nosniff");
    let policy = headers["content-security-policy"].to_str().unwrap();
    for part in ["default-src 'none'", "connect-src 'self'", "base-uri 'none'", "frame-ancestors 'none'"] {
        assert!(policy.split("; ").any(|found| found == part), "{part} is not in {policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
    for (tag, kind) in [("script", "script-src"), ("style", "style-src")] {
        let (before, after) = html.split_once(&format!("<{tag}>")).unwrap();
        let (text, after) = after.split_once(&format!("</{tag}>")).unwrap();
        assert!(!before.contains(&format!("<{tag}")) && !after.contains(&format!("<{tag}")), "one {tag}");
        assert!(policy.contains(&format!("{kind} 'sha256-{}'", digest(text))), "the policy names this {tag}");
    }
    for outside in ["http://", "https://", "src=", "@import", ": url(", "innerHTML", "eval("] {
        assert!(!html.contains(outside), "{outside}");
    }
}

fn digest(text: &str) -> String {
    use base64::{Engine, prelude::BASE64_STANDARD};
    use sha2::{Digest, Sha256};
    BASE64_STANDARD.encode(Sha256::digest(text))
}
