//! An event stream over connections that are cut, repeat themselves, fall silent or are refused.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod server;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::response::{IntoResponse, Response};
use serde_json::json as value;
use server::{Asked, RUN, SESSION, Server, Then, completed, delta, error, events, frame, json, quick};
use stakpak_client::{ErrorCode, EventStream, Message, SendMessageOptions, SseEvent, Timing};

/// Raw characters of two, three and four bytes: our server escapes them, others need not.
const ANSWER: [&str; 4] = ["Größe ", "der 磁盘: ", "ok \u{1F600}", "\nend"];

/// Ids with holes.
fn answer() -> Vec<(u64, String)> {
    let mut frames: Vec<_> = (3..).step_by(2).zip(ANSWER).map(|(id, text)| (id, delta(id, text))).collect();
    frames.insert(2, (6, ": keepalive\n\n".to_owned()));
    frames.push((12, completed(12)));
    frames
}

fn after(cursor: u64) -> Vec<u8> {
    answer().into_iter().filter(|(id, _)| *id > cursor).map(|(_, frame)| frame).collect::<String>().into_bytes()
}

async fn next(stream: &mut EventStream) -> Option<SseEvent> {
    tokio::time::timeout(Duration::from_secs(30), stream.next_event()).await.expect("an event or an end")
}

/// Text and ids up to the end of the run.
async fn follow(stream: &mut EventStream) -> (String, Vec<u64>) {
    let (mut text, mut ids) = (String::new(), Vec::new());
    let ended = tokio::time::timeout(Duration::from_secs(30), async {
        while let Some(event) = stream.next_event().await {
            ids.extend(event.event_id_u64);
            text.extend(event.as_text_delta());
            if event.is_run_terminal() {
                return true;
            }
        }
        false
    });
    assert_eq!(ended.await, Ok(true), "the stream goes on to the end of the run; so far {ids:?}");
    (text, ids)
}

async fn assert_whole_answer(server: &Server) -> u64 {
    let mut stream = server.client().subscribe_events(SESSION, Some(0)).await.unwrap();
    let whole = (ANSWER.concat(), vec![3, 5, 7, 9, 12]);
    assert_eq!(follow(&mut stream).await, whole);
    assert_eq!(stream.cursor(), 12);
    stream.reconnects()
}

#[tokio::test]
async fn a_cut_at_any_byte_loses_and_repeats_nothing() {
    let connections = Arc::new(AtomicUsize::new(0));
    let length = after(0).len();
    let counter = Arc::clone(&connections);
    // Connections 2n and 2n + 1 are the first and second of round n; both ways of ending take turns.
    let server = Server::start(move |asked: &Asked| {
        let nth = counter.fetch_add(1, Ordering::SeqCst);
        let mut body = after(asked.last_event_id());
        if nth.is_multiple_of(2) {
            body.truncate(nth / 2);
        }
        events(vec![body], if nth.is_multiple_of(4) { Then::Close } else { Then::Break })
    })
    .await;
    for position in 0..length {
        assert_eq!(connections.swap(2 * position, Ordering::SeqCst), 2 * position, "two connections a round");
        assert_whole_answer(&server).await;
    }
}

#[tokio::test]
async fn single_bytes_are_joined_to_characters() {
    let server = Server::start(|asked: &Asked| {
        let bytes = after(asked.last_event_id());
        events(bytes.into_iter().map(|byte| vec![byte]).collect(), Then::Hang)
    })
    .await;
    assert_whole_answer(&server).await;
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn a_server_that_closes_after_each_event_is_read_to_the_end() {
    let server = Server::start(|asked: &Asked| {
        let cursor = asked.last_event_id();
        let first = answer().into_iter().find(|(id, frame)| *id > cursor && frame.starts_with("id:"));
        events(vec![first.unwrap().1.into_bytes()], Then::Close)
    })
    .await;
    assert_eq!(assert_whole_answer(&server).await, 4);
    let cursors: Vec<_> = server.asked().iter().map(Asked::last_event_id).collect();
    assert_eq!(cursors, [0, 3, 5, 7, 9]);
}

#[tokio::test]
async fn events_sent_again_are_given_once() {
    let server = Server::start(|asked: &Asked| {
        let mut body = after(0);
        if asked.nth == 0 {
            body.truncate(delta(3, ANSWER[0]).len() + delta(5, ANSWER[1]).len());
        }
        events(vec![body], Then::Break)
    })
    .await;
    assert_whole_answer(&server).await;
}

#[tokio::test]
async fn a_refusal_that_may_pass_is_outlasted() {
    let server = Server::start(|asked: &Asked| match asked.nth {
        0 => events(vec![delta(3, ANSWER[0]).into_bytes()], Then::Break),
        1 => error(503, "shutting_down"),
        2 => error(500, "internal_error"),
        3 => error(429, "too_many_streams"),
        4 => ([("content-type", "text/html")], "id: 99\ndata: a page\n\n").into_response(),
        _ => events(vec![after(asked.last_event_id())], Then::Close),
    })
    .await;
    assert_whole_answer(&server).await;
}

#[tokio::test]
async fn silence_is_a_cut() {
    let server = Server::start(|asked: &Asked| match asked.nth {
        0 => events(vec![delta(3, ANSWER[0]).into_bytes(), b"id: 5\nevent".to_vec()], Then::Hang),
        _ => events(vec![after(asked.last_event_id())], Then::Hang),
    })
    .await;
    let client = server.client_with(Timing { idle: Duration::from_millis(300), ..quick() });
    let mut stream = client.subscribe_events(SESSION, Some(0)).await.unwrap();
    assert_eq!(follow(&mut stream).await.0, ANSWER.concat());
    assert_eq!(stream.last_error().unwrap().to_string(), format!("request to {} failed: timed out", &server.url[7..]));
}

#[tokio::test]
async fn a_reader_that_is_dropped_and_asked_again_still_gets_on() {
    let server = Server::start(|asked: &Asked| match asked.nth {
        0..4 => events(vec![], Then::Break),
        _ => events(vec![after(asked.last_event_id())], Then::Close),
    })
    .await;
    let client = server.client_with(Timing { retry_first: Duration::from_millis(40), ..quick() });
    let mut stream = client.subscribe_events(SESSION, Some(0)).await.unwrap();
    let event = tokio::time::timeout(Duration::from_secs(30), async {
        loop {
            // Far less than one wait before a reconnect.
            if let Ok(event) = tokio::time::timeout(Duration::from_millis(5), stream.next_event()).await {
                return event.unwrap();
            }
        }
    });
    assert_eq!(event.await.expect("waits go on between calls").event_id_u64, Some(3));
}

#[tokio::test]
async fn control_frames_are_given_without_id_and_do_not_move_the_cursor() {
    let shutdown = "event: server_shutdown\ndata: {\"last_event_id\":5,\"reconnect_after_ms\":1}\n\n";
    let gap = "event: gap_detected\ndata: {\"requested_after_id\":3,\"oldest_available_id\":5,\
               \"newest_available_id\":12,\"resume_hint\":\"refresh_snapshot_then_resume\"}\n\n";
    let server = Server::start(move |asked: &Asked| {
        let body = match asked.nth {
            0 => format!("{}{shutdown}", delta(3, ANSWER[0])),
            _ => format!("{gap}{}", String::from_utf8(after(asked.last_event_id())).unwrap()),
        };
        events(vec![body.into_bytes()], Then::Close)
    })
    .await;
    let mut stream = server.client().subscribe_events(SESSION, Some(0)).await.unwrap();
    next(&mut stream).await.unwrap();
    for name in ["server_shutdown", "gap_detected"] {
        let event = next(&mut stream).await.unwrap();
        assert_eq!((event.event_type.as_str(), event.id.as_ref(), event.event_id_u64), (name, None, None));
        assert_eq!((stream.cursor(), event.is_control(), event.envelope()), (3, true, None));
    }
    assert_eq!(follow(&mut stream).await.1, [5, 7, 9, 12]);
    assert_eq!(server.asked()[1].last_event_id(), 3);
}

#[tokio::test]
async fn after_a_rewind_of_the_server_lower_ids_count() {
    let gap = "event: gap_detected\ndata: {\"requested_after_id\":500,\"oldest_available_id\":1,\
               \"newest_available_id\":12,\"resume_hint\":\"refresh_snapshot_then_resume\"}\n\n";
    let server = Server::start(move |asked: &Asked| {
        let body = match asked.last_event_id() {
            500 => [gap.as_bytes(), &after(4)[..], &delta(5, "sent again").into_bytes()].concat(),
            cursor => delta(cursor + 1, "later").into_bytes(),
        };
        events(vec![body], Then::Close)
    })
    .await;
    let mut stream = server.client().subscribe_events(SESSION, Some(500)).await.unwrap();
    assert_eq!(next(&mut stream).await.unwrap().as_gap_detected().unwrap().newest_available_id, 12);
    assert_eq!(follow(&mut stream).await.1, [5, 7, 9, 12]);
    assert_eq!(next(&mut stream).await.unwrap().as_text_delta().unwrap(), "later");
    assert_eq!(stream.cursor(), 13);
}

#[tokio::test]
async fn deletion_ends_the_stream() {
    let server = Server::start(|_: &Asked| {
        let deleted = format!("event: session_deleted\ndata: {{\"session_id\":\"{SESSION}\"}}\n\n");
        events(vec![[delta(3, "a"), deleted].concat().into_bytes()], Then::Hang)
    })
    .await;
    let mut stream = server.client().subscribe_events(SESSION, Some(0)).await.unwrap();
    next(&mut stream).await.unwrap();
    assert_eq!(next(&mut stream).await.unwrap().event_type, "session_deleted");
    assert_eq!(next(&mut stream).await, None);
    assert_eq!(next(&mut stream).await, None);
    assert!(stream.last_error().is_none());
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn lost_access_ends_the_stream_and_says_why() {
    for (status, code) in [(401, ErrorCode::Unauthorized), (403, ErrorCode::HostNotAllowed), (404, ErrorCode::NotFound)]
    {
        let server = Server::start(move |asked: &Asked| match asked.nth {
            0 => events(vec![delta(3, "a").into_bytes()], Then::Close),
            _ => error(status, code.as_str()),
        })
        .await;
        let mut stream = server.client().subscribe_events(SESSION, Some(0)).await.unwrap();
        next(&mut stream).await.unwrap();
        assert_eq!(next(&mut stream).await, None);
        assert_eq!(stream.last_error().unwrap().code(), Some(code));

        let refused = server.client().subscribe_events(SESSION, Some(0)).await.unwrap_err();
        assert_eq!((refused.status(), refused.code()), (Some(status), Some(code)), "also on the first connection");
    }
}

fn post_and_session(asked: &Asked) -> Response {
    if asked.path.ends_with("/messages") {
        return json(200, &value!({"run_id": RUN, "cursor": 42}));
    }
    if asked.path.ends_with("/events") {
        return events(vec![], Then::Hang);
    }
    let session = value!({
        "id": SESSION, "title": "", "cwd": null, "created_at": "2026-03-01T09:00:00Z",
        "updated_at": "2026-03-01T09:00:00Z", "run_status": {"state": "idle"}, "last_event_id": 61,
    });
    json(200, &value!({"session": session, "config": {"default_model": null, "auto_approve_mode": "none"}}))
}

#[tokio::test]
async fn without_a_cursor_a_stream_begins_at_the_own_post_once_then_at_the_present() {
    let server = Server::start(post_and_session).await;
    let client = server.client();
    // A clone is the same client.
    let posting = client.with_idempotency_key("k1");
    let posted = posting.send_messages(SESSION, vec![Message::user("hi")], SendMessageOptions::default()).await;
    assert_eq!(posted.unwrap().cursor, 42);
    for cursor in [42, 61] {
        let stream = client.subscribe_events(SESSION, None).await.unwrap();
        assert_eq!(stream.cursor(), cursor);
        assert_eq!(server.asked().last().unwrap().last_event_id(), cursor);
    }
}

#[tokio::test]
async fn events_are_read_in_both_spellings() {
    let calls = value!({"run_id": RUN, "tool_calls": [{"id": "call_1", "name": "stakpak__view", "arguments": {}}]});
    let failed = value!({"run_id": RUN, "error": "anthropic: 401 invalid key", "retryable": false});
    let body = [
        frame(1, "text_delta", &value!({"text_delta": {"run_id": RUN, "delta": "snake"}})),
        frame(2, "TextDelta", &value!({"TextDelta": {"run_id": RUN, "delta": "pascal"}})),
        frame(3, "tool_calls_proposed", &value!({"ToolCallsProposed": calls})),
        frame(4, "RunError", &value!({"run_error": failed})),
        completed(5),
    ];
    let server = Server::start(move |_: &Asked| events(vec![body.concat().into_bytes()], Then::Hang)).await;
    let mut stream = server.client().subscribe_events(SESSION, Some(0)).await.unwrap();
    let mut read = Vec::new();
    for _ in 0..5 {
        read.push(next(&mut stream).await.unwrap());
    }
    assert!(read.iter().all(|event| event.run_id().as_deref() == Some(RUN)));
    let texts: Vec<_> = read.iter().filter_map(SseEvent::as_text_delta).collect();
    assert_eq!(texts, ["snake", "pascal"]);
    let calls: Vec<_> = read.iter().filter_map(SseEvent::as_tool_calls_proposed).collect();
    assert_eq!((calls.len(), calls[0].tool_calls[0].id.as_str()), (1, "call_1"));
    assert_eq!(read[3].as_run_error().unwrap().error.unwrap(), "anthropic: 401 invalid key");
    assert_eq!(read[4].as_run_completed().unwrap().total_usage.total_tokens, 3);
    assert_eq!(read[4].envelope().unwrap().event.name(), "run_completed");
    let terminal: Vec<_> = read.iter().map(SseEvent::is_run_terminal).collect();
    assert_eq!(terminal, [false, false, false, true, true]);
}
