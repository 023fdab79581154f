//! One call of a server's tool: sent once, waited for as long as it gives signs of life, cancelled when it is not wanted.

use std::time::Duration;

use rmcp::{
    model::{
        CallToolRequest, CallToolRequestParams, ClientRequest, ProgressNotificationParam, RequestMetaObject,
        ServerResult,
    },
    service::{PeerRequestOptions, ServiceError},
    transport::streamable_http_client::StreamableHttpError,
};
use serde_json::{Value, json};
use stakpak_agent_core::{ToolCall, ToolContext, ToolOutcome};
use stakpak_redact::Redactor;
use tokio::time::{Instant, sleep_until};

use crate::{
    catalogue::Offered,
    oversize::TOO_LARGE,
    result,
    server::{Live, Server},
};

/// Between pieces of progress that are passed on.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);
const PROGRESS_BYTES: usize = 4 * 1024;

/// How a call came to its end.
enum Ended {
    Answered(Box<Result<ServerResult, ServiceError>>),
    Silent(Duration),
    TooLong(Duration),
    Cancelled,
}

/// Runs the call. Its text is raw: not redacted, not cut.
pub(crate) async fn call(
    server: &Server,
    tool: &Offered,
    call: &ToolCall,
    context: &ToolContext,
    redactor: &Redactor,
) -> ToolOutcome {
    let live = tokio::select! {
        live = server.live() => live,
        () = context.cancel.cancelled() => return ToolOutcome::Cancelled,
    };
    let name = &server.settings.name;
    match live {
        Ok(live) => match send(server, &live, tool, call, context, redactor).await {
            Ok(ended) => outcome(name, ended),
            Err(error) => failure(name, &error),
        },
        Err(state) => ToolOutcome::error(
            "SERVER_UNAVAILABLE",
            &format!(
                "The tool server `{name}` is not there ({}). Nothing was called; go on without it, or try later.",
                state.describe()
            ),
        ),
    }
}

async fn send(
    server: &Server,
    live: &Live,
    tool: &Offered,
    call: &ToolCall,
    context: &ToolContext,
    redactor: &Redactor,
) -> Result<Ended, ServiceError> {
    let arguments = call.arguments.as_object().cloned().unwrap_or_default();
    let params = CallToolRequestParams::new(tool.original.clone()).with_arguments(arguments);
    let request = CallToolRequest::new(params);
    let options = PeerRequestOptions::no_options().with_meta(meta(call, context));
    let mut handle = live.peer.send_request_with_option(ClientRequest::CallToolRequest(request), options).await?;
    let mut progress = live.handler.progress_of(handle.progress_token.clone());
    let (silence, longest) = (server.settings.timeout, server.settings.max_timeout);
    let end = Instant::now() + longest;
    let mut silent_at = Instant::now() + silence;
    let mut told = None;
    let ended = loop {
        tokio::select! {
            answer = &mut handle.rx => break Ended::Answered(Box::new(answer.unwrap_or(Err(ServiceError::TransportClosed)))),
            () = context.cancel.cancelled() => break Ended::Cancelled,
            () = sleep_until(end) => break Ended::TooLong(longest),
            () = sleep_until(silent_at) => break Ended::Silent(silence),
            Some(piece) = progress.pieces.recv() => {
                silent_at = Instant::now() + silence;
                if told.is_none_or(|told: Instant| told.elapsed() >= PROGRESS_EVERY) {
                    told = Some(Instant::now());
                    let _ = context.progress.try_send(shown(&piece, redactor));
                }
            }
        }
    };
    let reason = match &ended {
        Ended::Answered(_) => return Ok(ended),
        Ended::Cancelled => "it is not wanted any more",
        Ended::Silent(_) | Ended::TooLong(_) => "it took too long",
    };
    // A server that does not read must not hold up the answer.
    tokio::spawn(async move { handle.cancel(Some(reason.to_owned())).await });
    Ok(ended)
}

fn meta(call: &ToolCall, context: &ToolContext) -> RequestMetaObject {
    let mut meta = RequestMetaObject::new();
    let ids: [(&str, Value); 3] = [
        ("session_id", json!(context.session_id)),
        ("run_id", json!(context.run_id)),
        ("tool_call_id", json!(call.id)),
    ];
    for (key, id) in ids {
        meta.0.0.insert(key.to_owned(), id);
    }
    meta
}

fn shown(piece: &ProgressNotificationParam, redactor: &Redactor) -> String {
    let amount = piece.total.map_or_else(|| piece.progress.to_string(), |total| format!("{}/{total}", piece.progress));
    let text = match &piece.message {
        Some(message) => format!("{amount} {message}\n"),
        None => format!("{amount}\n"),
    };
    let text = redactor.redact(&text);
    text[..text.floor_char_boundary(PROGRESS_BYTES)].to_owned()
}

fn outcome(server: &str, ended: Ended) -> ToolOutcome {
    let timeout = |text: &str, limit: Duration| {
        ToolOutcome::error(
            "TOOL_TIMEOUT",
            &format!(
                "The tool server `{server}` {text} {} s; the call was cancelled. What it did until then is not known: look before you call it again.",
                limit.as_secs()
            ),
        )
    };
    match ended {
        Ended::Cancelled => ToolOutcome::Cancelled,
        Ended::Silent(limit) => timeout("gave no sign of life for", limit),
        Ended::TooLong(limit) => timeout("did not finish within", limit),
        Ended::Answered(answer) => match *answer {
            Ok(answer) => answered(server, answer),
            Err(error) => failure(server, &error),
        },
    }
}

fn answered(server: &str, answer: ServerResult) -> ToolOutcome {
    match answer {
        ServerResult::CallToolResult(result) => {
            let is_error = result.is_error.unwrap_or(false);
            ToolOutcome::Completed { result: Value::String(result::text(result)), is_error }
        }
        ServerResult::InputRequiredResult(_) => ToolOutcome::error(
            "INTERACTIVE_REQUIRED",
            &format!("The tool server `{server}` wants to ask a person, which is not possible here."),
        ),
        _ => ToolOutcome::error(
            "TOOL_FAILED",
            &format!("The tool server `{server}` answered something that is no result."),
        ),
    }
}

fn failure(server: &str, error: &ServiceError) -> ToolOutcome {
    match error {
        ServiceError::McpError(error) if error.message.starts_with(TOO_LARGE) => {
            let message = error.message.trim_start_matches(TOO_LARGE).trim_start_matches(": ");
            ToolOutcome::error(TOO_LARGE, &format!("{message}. The call itself has run."))
        }
        ServiceError::McpError(error) => {
            ToolOutcome::error("TOOL_FAILED", &format!("{} (code {})", error.message, error.code.0))
        }
        error if limit_passed(error).is_some() => ToolOutcome::error(
            TOO_LARGE,
            &format!(
                "the server's answer has more than {} bytes; ask it for less. The call itself has run.",
                limit_passed(error).unwrap_or_default()
            ),
        ),
        error => ToolOutcome::error(
            "OUTCOME_UNKNOWN",
            &format!(
                "The connection to the tool server `{server}` failed during the call ({error}). It is not repeated: look whether it has happened."
            ),
        ),
    }
}

/// Over HTTP the transport itself reads no answer beyond its limit.
fn limit_passed(error: &ServiceError) -> Option<usize> {
    let ServiceError::TransportSend(error) = error else { return None };
    match error.error.downcast_ref::<StreamableHttpError<reqwest::Error>>() {
        Some(StreamableHttpError::ResponseBodyTooLarge { max_size }) => Some(*max_size),
        _ => None,
    }
}
