//! `/v1/mcp` in the API document: the transport; what is said over it is the protocol's own.

use stakpak_protocol::ErrorBody;
use stakpak_server::Part;
use utoipa::{OpenApi, openapi};

/// Our own tools, where they are offered over HTTP.
pub(crate) struct OwnToolsPart;

impl Part for OwnToolsPart {
    fn document(&self) -> Option<openapi::OpenApi> {
        Some(Api::openapi())
    }
}

#[derive(OpenApi)]
#[openapi(paths(send, listen, end))]
struct Api;

/// One message of the Model Context Protocol (streamable HTTP): our own tools, judged by the profile's policy.
#[utoipa::path(post, path = "/v1/mcp", operation_id = "mcp_send", tag = "mcp", security(("bearer_auth" = [])), params(
    ("Mcp-Session-Id" = Option<String>, Header, description = "Of the answer to `initialize`; none before it"),
    ("MCP-Protocol-Version" = Option<String>, Header, description = "The version that was agreed on"),
), request_body(content = Object, description = "A JSON-RPC message, 2 MiB at most"), responses(
    (status = 200, description = "The answer, as JSON or as a stream of events that ends with it", content((Object = "application/json"), (String = "text/event-stream"))),
    (status = 202, description = "A notification, or an answer to the server: taken"),
    (status = 400, description = "Not a message of the protocol"),
    (status = 401, body = ErrorBody),
    (status = 404, description = "There is no such conversation: begin another"),
    (status = 406, description = "`Accept` must name application/json and text/event-stream"),
    (status = 413, description = "The message is too long"),
    (status = 415, description = "The message is not application/json"),
    (status = 429, body = ErrorBody),
))]
#[expect(dead_code, reason = "the route is the protocol's; this is what the document says of it")]
fn send() {}

/// What the server says of itself in a conversation.
#[utoipa::path(get, path = "/v1/mcp", operation_id = "mcp_listen", tag = "mcp", security(("bearer_auth" = [])), params(
    ("Mcp-Session-Id" = String, Header, description = "Of the answer to `initialize`"),
    ("Last-Event-ID" = Option<String>, Header, description = "Goes on behind this event"),
), responses(
    (status = 200, description = "A stream of events", content((String = "text/event-stream"))),
    (status = 400, description = "No conversation is named"),
    (status = 401, body = ErrorBody),
    (status = 404, description = "There is no such conversation"),
    (status = 406, description = "`Accept` must name text/event-stream"),
    (status = 429, body = ErrorBody),
))]
#[expect(dead_code, reason = "as above")]
fn listen() {}

/// Ends a conversation, and its calls.
#[utoipa::path(delete, path = "/v1/mcp", operation_id = "mcp_end", tag = "mcp", security(("bearer_auth" = [])), params(
    ("Mcp-Session-Id" = String, Header, description = "Of the answer to `initialize`"),
), responses(
    (status = 202, description = "It is over"),
    (status = 400, description = "No conversation is named"),
    (status = 401, body = ErrorBody),
    (status = 404, description = "There is no such conversation"),
    (status = 429, body = ErrorBody),
))]
#[expect(dead_code, reason = "as above")]
fn end() {}
