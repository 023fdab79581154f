//! One event of a session's stream, read leniently.
//!
//! An event has two spellings: snake_case as the SSE name, PascalCase as the key in its data. Both are read in both
//! places, so that a reader does not depend on which of them a server gets right.

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use stakpak_protocol::{CONTROL_EVENTS, EventEnvelope, GapDetected, StopDetail, StopReason, UnconsumedCommand, Usage};

use crate::ProposedToolCall;

/// A kind of event in both spellings.
type Names = (&'static str, &'static str);

const TEXT_DELTA: Names = ("text_delta", "TextDelta");
const TOOL_CALLS_PROPOSED: Names = ("tool_calls_proposed", "ToolCallsProposed");
const RUN_COMPLETED: Names = ("run_completed", "RunCompleted");
const RUN_ERROR: Names = ("run_error", "RunError");

/// One frame of a session's event stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SseEvent {
    /// The frame's id; control frames have none.
    pub id: Option<String>,
    /// The id as a cursor.
    pub event_id_u64: Option<u64>,
    /// `text_delta`, `run_completed`, …
    pub event_type: String,
    /// One line of JSON: an envelope, or a control frame's own object.
    pub data: String,
}

/// A run has ended by itself, by request, or at its last turn.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct RunCompletedPayload {
    /// The run.
    #[serde(default)]
    pub run_id: Option<String>,
    /// Turns begun.
    #[serde(default)]
    pub total_turns: u64,
    /// Summed over its answers.
    #[serde(default)]
    pub total_usage: Usage,
    /// Why it ended.
    #[serde(default)]
    pub stop_reason: Option<StopReason>,
    /// More of that, where there is more.
    #[serde(default)]
    pub detail: Option<StopDetail>,
    /// Accepted commands that were not used.
    #[serde(default)]
    pub unconsumed: Vec<UnconsumedCommand>,
}

/// A run has failed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RunErrorPayload {
    /// The run.
    #[serde(default)]
    pub run_id: Option<String>,
    /// Why.
    #[serde(default)]
    pub error: Option<String>,
    /// Whether the same message may work later.
    #[serde(default)]
    pub retryable: bool,
    /// Accepted commands that were not used.
    #[serde(default)]
    pub unconsumed: Vec<UnconsumedCommand>,
}

/// All calls of a turn, those that need no approval too.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCallsProposedPayload {
    /// The run.
    pub run_id: Option<String>,
    /// In declared order.
    pub tool_calls: Vec<ProposedToolCall>,
}

impl SseEvent {
    /// The run this event belongs to; control frames belong to none.
    #[must_use]
    pub fn run_id(&self) -> Option<String> {
        let data: Value = serde_json::from_str(&self.data).ok()?;
        let inside = || data.get("event")?.as_object()?.values().next()?.get("run_id")?.as_str();
        data.get("run_id").and_then(Value::as_str).or_else(inside).map(str::to_owned)
    }

    /// New text of the model's answer.
    #[must_use]
    pub fn as_text_delta(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct TextDelta {
            delta: String,
        }
        self.payload::<TextDelta>(TEXT_DELTA).map(|payload| payload.delta)
    }

    /// The end of a run that did not fail.
    #[must_use]
    pub fn as_run_completed(&self) -> Option<RunCompletedPayload> {
        self.payload(RUN_COMPLETED)
    }

    /// The end of a run that failed.
    #[must_use]
    pub fn as_run_error(&self) -> Option<RunErrorPayload> {
        self.payload(RUN_ERROR)
    }

    /// The calls of a turn.
    #[must_use]
    pub fn as_tool_calls_proposed(&self) -> Option<ToolCallsProposedPayload> {
        #[derive(Deserialize)]
        struct Wire {
            #[serde(default)]
            run_id: Option<String>,
            tool_calls: Vec<stakpak_protocol::ProposedToolCall>,
        }
        let Wire { run_id, tool_calls } = self.payload(TOOL_CALLS_PROPOSED)?;
        Some(ToolCallsProposedPayload {
            run_id,
            tool_calls: tool_calls.into_iter().map(ProposedToolCall::from).collect(),
        })
    }

    /// Events this stream asked for are gone, or its cursor is of another time: read the messages, then go on.
    #[must_use]
    pub fn as_gap_detected(&self) -> Option<GapDetected> {
        (self.event_type == "gap_detected").then(|| serde_json::from_str(&self.data).ok())?
    }

    /// Whether this is the last event of its run.
    #[must_use]
    pub fn is_run_terminal(&self) -> bool {
        self.is(RUN_COMPLETED) || self.is(RUN_ERROR)
    }

    /// Whether this frame is about the stream, not about the session.
    #[must_use]
    pub fn is_control(&self) -> bool {
        CONTROL_EVENTS.contains(&self.event_type.as_str())
    }

    /// The event in its wire type; none for control frames and for kinds this version does not know.
    #[must_use]
    pub fn envelope(&self) -> Option<EventEnvelope> {
        serde_json::from_str(&self.data).ok()
    }

    /// By name; by its data where the frame has no name.
    fn is(&self, (snake, pascal): Names) -> bool {
        match self.event_type.as_str() {
            "" | "message" => self.payload::<Value>((snake, pascal)).is_some(),
            name => name == snake || name == pascal,
        }
    }

    fn payload<T: DeserializeOwned>(&self, (snake, pascal): Names) -> Option<T> {
        let named = matches!(self.event_type.as_str(), name if name == snake || name == pascal);
        if !named && !matches!(self.event_type.as_str(), "" | "message") {
            return None;
        }
        let mut data: Value = serde_json::from_str(&self.data).ok()?;
        let payload = match data.get_mut("event") {
            Some(Value::Object(event)) => event.remove(pascal).or_else(|| event.remove(snake))?,
            _ if named => data,
            _ => return None,
        };
        serde_json::from_value(payload).ok()
    }
}
