//! What calls return where the published interface has plain ids: the wire types with `Uuid`, `String` and integers.
//!
//! Conversions take the wire type apart by name, so that a new wire field cannot be forgotten here.

use chrono::{DateTime, Utc};
use serde_json::Value;
use stakpak_protocol as wire;
use stakpak_protocol::{Approval, Message, RunStatus, SessionStatus, Visibility};
use uuid::Uuid;

/// One conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    /// The session.
    pub id: Uuid,
    /// May be empty.
    pub title: String,
    /// Where its tools run; none: the server's own directory.
    pub cwd: Option<String>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    /// What it is doing.
    pub run_status: RunStatus,
    /// Whether it was deleted.
    pub status: SessionStatus,
    /// Who may see it.
    pub visibility: Visibility,
    /// The model of its last run, as `provider/id`.
    pub model: Option<String>,
    /// Messages that can be read.
    pub message_count: u64,
    /// Its newest event, 0 if none.
    pub last_event_id: u64,
    /// Id of its last pause or end.
    pub checkpoint_id: Option<Uuid>,
}

impl From<wire::Session> for Session {
    fn from(session: wire::Session) -> Self {
        let wire::Session {
            id,
            title,
            cwd,
            created_at,
            updated_at,
            run_status,
            status,
            visibility,
            model,
            message_count,
            last_event_id,
            checkpoint_id,
        } = session;
        Self {
            id: id.0,
            title,
            cwd,
            created_at,
            updated_at,
            run_status,
            status,
            visibility,
            model,
            message_count,
            last_event_id: last_event_id.0,
            checkpoint_id,
        }
    }
}

/// The newest sessions.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionList {
    /// Newest first.
    pub sessions: Vec<Session>,
    /// All sessions, not only these.
    pub total: usize,
}

impl From<wire::SessionList> for SessionList {
    fn from(wire::SessionList { sessions, total, next: _ }: wire::SessionList) -> Self {
        Self { sessions: sessions.into_iter().map(Session::from).collect(), total: count(total) }
    }
}

/// An accepted message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendMessageResponse {
    /// The run.
    pub run_id: Uuid,
    /// Last event before this message's first effect: events after it show all of it.
    pub cursor: u64,
    /// Options that this type of message does not apply.
    pub ignored: Vec<String>,
}

impl From<wire::PostMessageResponse> for SendMessageResponse {
    fn from(wire::PostMessageResponse { run_id, cursor, ignored }: wire::PostMessageResponse) -> Self {
        Self { run_id: run_id.0, cursor: cursor.0, ignored }
    }
}

/// One page of a session's history, oldest first.
#[derive(Debug, Clone, PartialEq)]
pub struct MessagesResponse {
    /// The page.
    pub messages: Vec<Message>,
    /// All messages of the session.
    pub total: usize,
    /// The event this page corresponds to.
    pub last_event_id: u64,
}

impl From<wire::MessagesResponse> for MessagesResponse {
    fn from(wire::MessagesResponse { messages, total, last_event_id }: wire::MessagesResponse) -> Self {
        Self { messages, total: count(total), last_event_id: last_event_id.0 }
    }
}

/// Calls that wait for a person.
#[derive(Debug, Clone, PartialEq)]
pub struct PendingTools {
    /// The active run, if a call of it waits.
    pub run_id: Option<Uuid>,
    /// The calls.
    pub tool_calls: Vec<ProposedToolCall>,
}

impl From<wire::PendingToolsResponse> for PendingTools {
    fn from(wire::PendingToolsResponse { run_id, tool_calls }: wire::PendingToolsResponse) -> Self {
        Self { run_id: run_id.map(|id| id.0), tool_calls: tool_calls.into_iter().map(ProposedToolCall::from).collect() }
    }
}

/// A tool call before it runs.
#[derive(Debug, Clone, PartialEq)]
pub struct ProposedToolCall {
    /// Unique in the session.
    pub id: String,
    /// `server__tool`.
    pub name: String,
    /// Any JSON; normally an object.
    pub arguments: Value,
    /// Opaque.
    pub metadata: Option<Value>,
    /// What policy said.
    pub approval: Option<Approval>,
    /// Why policy said so.
    pub approval_reason: Option<String>,
}

impl From<wire::ProposedToolCall> for ProposedToolCall {
    fn from(call: wire::ProposedToolCall) -> Self {
        let wire::ProposedToolCall { id, name, arguments, metadata, approval, approval_reason } = call;
        Self { id: id.0, name, arguments, metadata, approval, approval_reason }
    }
}

fn count(total: u64) -> usize {
    usize::try_from(total).unwrap_or(usize::MAX)
}
