//! What streams of others say. The first byte of the input names the protocol, the second says by its bits where the stream is
//! cut, the rest is the stream. Whatever it is:
//!
//! * our client and the models' readers of frames do not panic;
//! * the events are the same however the bytes are cut, and those of a torn stream are the first ones of the whole;
//! * ids that a reader has behind it are not given to it again;
//! * an answer is complete by a whole frame that says so, and never by a torn one.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use serde_json::Value;
use stakpak_client::{SseEvent, events_of};
use stakpak_models::{ProviderKind, is_complete_answer};

const KINDS: [ProviderKind; 5] = [
    ProviderKind::Chat,
    ProviderKind::Responses,
    ProviderKind::Anthropic,
    ProviderKind::Gemini,
    ProviderKind::Bedrock,
];
/// Keys and values by which one of the protocols ends an answer, or brings the calls that it ended for.
const ENDS: [&str; 13] = [
    "finish_reason",
    "finishReason",
    "stop_reason",
    "stopReason",
    "usage",
    "response.completed",
    "response.incomplete",
    "[DONE]",
    "tool_calls",
    "tool_use",
    "toolUse",
    "function_call",
    "functionCall",
];

fuzz_target!(|data: &[u8]| -> Corpus {
    let [kind, cuts, stream @ ..] = data else { return Corpus::Reject };
    let whole = events_of([stream], 0);
    cut(stream, *cuts, &whole);
    resumed(stream, &whole);
    for event in &whole {
        read(event);
    }
    let frames: Vec<&str> = whole.iter().map(|event| event.data.as_str()).collect();
    answers(KINDS[usize::from(*kind) % KINDS.len()], &frames);
    Corpus::Keep
});

fn cut(stream: &[u8], cuts: u8, whole: &[SseEvent]) {
    let size = usize::from(cuts % 16) + 1;
    assert_eq!(events_of(stream.chunks(size), 0), whole, "in pieces of {size}");
    let at = stream.len() * usize::from(cuts) / 256;
    let (first, rest) = stream.split_at(at);
    assert_eq!(events_of([first, &[], rest], 0), whole, "cut at {at}");
    let torn = events_of([first], 0);
    assert_eq!(torn[..], whole[..torn.len()], "torn at {at}");
}

/// A reader behind an id gets none that is not above it, unless the server says that its ids begin anew.
fn resumed(stream: &[u8], whole: &[SseEvent]) {
    if whole.iter().any(|event| event.as_gap_detected().is_some()) {
        return;
    }
    let ids = whole.iter().filter_map(|event| event.event_id_u64);
    assert!(ids.clone().is_sorted_by(|before, after| before < after), "an event came twice: {whole:?}");
    for cursor in ids {
        let rest = events_of([stream], cursor);
        assert!(rest.iter().filter_map(|event| event.event_id_u64).all(|id| id > cursor), "behind {cursor}: {rest:?}");
    }
}

fn read(event: &SseEvent) {
    let ends = [event.as_run_completed().is_some(), event.as_run_error().is_some()];
    assert!(!ends.contains(&true) || event.is_run_terminal(), "ends a run and does not: {event:?}");
    let _ = (event.run_id(), event.as_text_delta(), event.as_tool_calls_proposed(), event.envelope());
    assert!(!event.is_control() || event.id.is_none(), "of no session, and yet has an id: {event:?}");
}

fn answers(kind: ProviderKind, frames: &[&str]) {
    let is_complete = |frames: &[&str]| is_complete_answer(kind, frames.iter().copied());
    // More frames only repeat what was looked at.
    for count in 1..=frames.len().min(16) {
        let frames = &frames[..count];
        let (last, before) = (frames[count - 1], &frames[..count - 1]);
        if is_complete(before) {
            continue;
        }
        assert!(!is_complete(frames) || ends(last), "{kind:?} is complete by {last:?} after {before:?}");
        for at in [1, last.len() / 2, last.len().saturating_sub(1)] {
            let torn = &last[..last.floor_char_boundary(at)];
            let torn_frames: Vec<&str> = before.iter().copied().chain([torn]).collect();
            assert!(!is_complete(&torn_frames) || ends(torn), "{kind:?} is complete by the torn {torn:?} after {before:?}");
        }
    }
}

/// Whether a frame is whole and says that an answer ends, or brings what was missing.
fn ends(frame: &str) -> bool {
    fn says(value: &Value) -> bool {
        let is_end = |word: &str| ENDS.contains(&word);
        match value {
            Value::String(text) => is_end(text),
            Value::Array(values) => values.iter().any(says),
            Value::Object(fields) => fields.iter().any(|(name, value)| is_end(name) || says(value)),
            _ => false,
        }
    }
    frame == "[DONE]" || serde_json::from_str(frame).is_ok_and(|value| says(&value))
}
