//! Sessions, the server's configuration as clients see it, and health.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{EventId, RunStatus, SessionId};

/// One conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Session {
    /// The session.
    pub id: SessionId,
    /// May be empty.
    pub title: String,
    /// Where its tools run; null: the server's own directory.
    pub cwd: Option<String>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    /// What it is doing.
    pub run_status: RunStatus,
    /// Whether it was deleted.
    #[serde(default)]
    pub status: SessionStatus,
    /// Who may see it.
    #[serde(default)]
    pub visibility: Visibility,
    /// The model of its last run, as `provider/id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Messages that `GET …/messages` can return.
    #[serde(default)]
    pub message_count: u64,
    /// Its newest event, 0 if none.
    #[serde(default)]
    pub last_event_id: EventId,
    /// Version 5 id of (session, last message) at the last pause or end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_id: Option<Uuid>,
}

/// Whether a session was deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum SessionStatus {
    /// In use.
    #[default]
    Active,
    /// Deleted; readable until it is purged.
    Deleted,
}

/// Who may see a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Visibility {
    /// Its owner.
    #[default]
    Private,
    /// Everybody with access to the server.
    Public,
}

/// A session with the server's configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SessionDetail {
    /// The session.
    pub session: Session,
    /// The server's configuration.
    pub config: Config,
}

/// One page of sessions, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SessionList {
    /// The page.
    pub sessions: Vec<Session>,
    /// All matches, not of this page.
    pub total: u64,
    /// Goes back as `?page=` for the next page; absent on the last. The pages together hold each session once, whatever
    /// changes meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// The server's configuration as clients see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Config {
    /// `provider/id`.
    pub default_model: Option<String>,
    /// What runs without a question.
    pub auto_approve_mode: AutoApproveMode,
}

/// What runs without a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AutoApproveMode {
    /// Nothing.
    None,
    /// Everything.
    All,
    /// By rules.
    Custom,
}

/// Liveness: answered while the process answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `ok`.
    pub status: String,
    /// Of the binary.
    pub version: String,
    /// Whole seconds since start.
    pub uptime_seconds: u64,
}
