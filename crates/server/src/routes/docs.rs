//! The API as a page for people. Everything it needs is in the binary; it loads nothing from elsewhere.

use std::sync::LazyLock;

use axum::{
    http::{HeaderName, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use sha2::{Digest, Sha256};

const PAGE: &str = include_str!("docs/page.html");
const STYLE: &str = include_str!("docs/page.css");
const SCRIPT: &str = include_str!("docs/page.js");

/// The page and the policy that lets a browser run exactly this script, and talk to this server only.
struct Page {
    html: String,
    policy: String,
}

static DOCS: LazyLock<Page> = LazyLock::new(|| {
    let hash = |text: &str| BASE64_STANDARD.encode(Sha256::digest(text));
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash(SCRIPT),
        hash(STYLE)
    );
    Page { html: PAGE.replace("@STYLE@", STYLE).replace("@SCRIPT@", SCRIPT), policy }
});

/// This API as a page: routes, types, and a form to try them. It needs no token; what it asks the server does.
#[utoipa::path(get, path = "/docs", tag = "about", responses((status = 200, content_type = "text/html", body = String)))]
pub(super) async fn page() -> Response {
    let headers: [(HeaderName, &str); 5] = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, &DOCS.policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, DOCS.html.as_str()).into_response()
}
