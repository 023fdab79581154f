//! A scripted model that speaks OpenAI chat completions, streamed, and costs next to nothing: the answer is a constant, the
//! request is not parsed. A word in double brackets in the user's text makes it behave otherwise.
//!
//! | text holds | answer |
//! | --- | --- |
//! | `[[silent]]` | none |
//! | `[[slow]]` | a token each 20 ms |
//! | `[[busy]]` | 429, come back in a minute |
//! | `[[tool]]` | one call of `run_command` that sleeps for a minute; text once it has the result |

use std::{convert::Infallible, future::pending, sync::Arc, time::Duration};

use anyhow::Result;
use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Request, Response, StatusCode,
    body::{Frame, Incoming},
    header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use memchr::memmem;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use crate::companion;

/// Pause between tokens of a slow answer: pieces that are closer may share an event.
const TOKEN_PAUSE: Duration = Duration::from_millis(20);
/// Tokens of a slow answer: more than anybody waits for.
const SLOW_TOKENS: usize = 3_000;

/// The scripted model alone.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Port of 127.0.0.1; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Tokens of an answer, all sent at once
    #[arg(long, default_value_t = 20)]
    tokens: usize,
    /// End when stdin does
    #[arg(long, hide = true)]
    attached: bool,
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Every answer there is.
struct Script {
    text: Bytes,
    call: Bytes,
}

pub(crate) async fn serve(args: Args) -> Result<()> {
    let listener = companion::listen(args.port).await?;
    let script = Arc::new(Script { text: answer(args.tokens), call: call() });
    tokio::select! {
        () = companion::driver_gone(args.attached) => Ok(()),
        done = accept(listener, script) => done,
    }
}

async fn accept(listener: TcpListener, script: Arc<Script>) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(converse(stream, Arc::clone(&script)));
    }
}

/// A client that hangs up is no error: that is how a run is cancelled.
async fn converse(stream: TcpStream, script: Arc<Script>) {
    let service = service_fn(|request| respond(&script, request));
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn respond(script: &Script, request: Request<Incoming>) -> hyper::Result<Response<Body>> {
    let request = request.into_body().collect().await?.to_bytes();
    let mut response = Response::new(full(script.text.clone()));
    match directive(&request) {
        Some((b"silent", _)) => pending().await,
        Some((b"slow", _)) => *response.body_mut() = slow(),
        Some((b"busy", _)) => {
            *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("60"));
            *response.body_mut() = full(Bytes::from_static(br#"{"error":{"message":"busy"}}"#));
        }
        Some((b"tool", rest)) if memmem::find(rest, br#""role":"tool""#).is_none() => {
            *response.body_mut() = full(script.call.clone());
        }
        _ => {}
    }
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    Ok(response)
}

/// The last word in double brackets, and what follows it.
fn directive(request: &[u8]) -> Option<(&[u8], &[u8])> {
    let (_, rest) = request.split_at(memmem::rfind(request, b"[[")? + 2);
    let end = memmem::find(rest, b"]]")?;
    Some((&rest[..end], &rest[end + 2..]))
}

/// A whole answer: role, tokens, stop reason with usage, end.
fn answer(tokens: usize) -> Bytes {
    let mut answer = chunk(&json!({"role": "assistant", "content": ""}), None);
    for token in 0..tokens {
        answer.push_str(&token_chunk(token));
    }
    answer.push_str(&chunk(&json!({}), Some(("stop", tokens))));
    Bytes::from(answer + "data: [DONE]\n\n")
}

/// One tool call.
fn call() -> Bytes {
    let function = json!({"name": "stakpak__run_command", "arguments": "{\"command\":\"sleep 60\"}"});
    let call = json!({"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": function}]});
    Bytes::from(chunk(&call, None) + &chunk(&json!({}), Some(("tool_calls", 1))) + "data: [DONE]\n\n")
}

fn slow() -> Body {
    let tokens = stream::unfold(0, |token| async move {
        tokio::time::sleep(TOKEN_PAUSE).await;
        (token < SLOW_TOKENS).then(|| (Ok(Frame::data(token_chunk(token).into())), token + 1))
    });
    StreamBody::new(tokens).boxed_unsync()
}

fn token_chunk(token: usize) -> String {
    chunk(&json!({"content": format!("tok{token} ")}), None)
}

fn chunk(delta: &Value, end: Option<(&str, usize)>) -> String {
    let choice = json!({"index": 0, "delta": delta, "finish_reason": end.map(|(reason, _)| reason)});
    let mut chunk = json!({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "mock-1",
        "choices": [choice]});
    if let Some((_, tokens)) = end {
        chunk["usage"] = json!({"prompt_tokens": 10, "completion_tokens": tokens, "total_tokens": 10 + tokens});
    }
    format!("data: {chunk}\n\n")
}

fn full(body: Bytes) -> Body {
    Full::new(body).boxed_unsync()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_in_brackets_counts() {
        let request = br#"{"messages":[{"content":"[[slow]]"},{"content":"[[tool]] now"},{"role":"tool"}]}"#;
        let (word, rest) = directive(request).unwrap();
        assert_eq!((word, rest), (&b"tool"[..], &br#" now"},{"role":"tool"}]}"#[..]));
        assert_eq!(directive(b"hi"), None);
    }
}
