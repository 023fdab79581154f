//! The port to tools.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use stakpak_protocol::{NotifyRoute, RunId, SessionId, ToolCallId};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Sandbox, SandboxUnavailable};

/// A tool as the model sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolSpec {
    /// `server__tool`.
    pub name: String,
    /// For the model.
    pub description: String,
    /// JSON Schema of the arguments, an object.
    pub input_schema: Value,
}

/// A call as the model made it. Its arguments never change afterwards: approvals bind to them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    /// Unique in the session.
    pub id: ToolCallId,
    /// `server__tool`.
    pub name: String,
    /// A JSON object once [`Tools::check`] has passed.
    pub arguments: Value,
    /// Opaque; goes back to the provider unchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Value>,
}

/// What may have happened when a call was started and its result was not recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// Nothing: may run beside others, and again after a crash.
    Pure,
    /// The same thing however often it is done under the call's id: may run beside others, and again after a crash.
    Keyed,
    /// One thing that can be looked at: runs alone; after a crash a look says whether it was done.
    Probe,
    /// Anything: runs alone, and never again.
    Unsafe,
}

impl Effect {
    /// Whether the call may run beside others, and again after a crash.
    #[must_use]
    pub fn may_repeat(self) -> bool {
        matches!(self, Self::Pure | Self::Keyed)
    }
}

/// What a call of the class [`Effect::Probe`] changes, as fingerprints: as it was found, and as it will be left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// Before the call.
    pub before: String,
    /// When it is done; the same as before if it will change nothing.
    pub after: String,
}

/// How far a call got whose result was not recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probed {
    /// It was done: its result.
    Done(String),
    /// Nothing was done: it can run again.
    Untouched,
    /// What it changes is neither as it was nor as it should be.
    Unknown,
}

/// A call that cannot run as it stands: its error is the call's result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}\n{message}")]
pub struct InvalidCall {
    /// `INVALID_ARGUMENTS` or `UNKNOWN_TOOL`.
    pub code: &'static str,
    /// What is wrong and what would be right.
    pub message: String,
}

/// The file that a call is about. Both are canonical: every link is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// The working directory.
    pub cwd: PathBuf,
}

/// What a call runs with.
#[derive(Debug, Clone)]
pub struct ToolContext {
    /// The session.
    pub session_id: SessionId,
    /// The run.
    pub run_id: RunId,
    /// The session's working directory.
    pub cwd: PathBuf,
    /// What confines the call, as it was settled for the run.
    pub sandbox: Sandbox,
    /// The chat that the run may tell what it has to tell on its way.
    pub notify_route: Option<NotifyRoute>,
    /// Fires when the result is no longer wanted: the call then ends what it started and returns soon.
    pub cancel: CancellationToken,
    /// Fires when the user has sent a new message: a call that only waits should return.
    pub steered: CancellationToken,
    /// New output as it comes, at most 4 KiB a piece and 4 pieces a second. A full channel drops progress, never the result.
    pub progress: mpsc::Sender<String>,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq)]
pub enum ToolOutcome {
    /// It ran.
    Completed {
        /// Normally a string, with images an array of text and image parts; an error starts with an `UPPER_SNAKE` code line.
        result: Value,
        /// Whether it failed.
        is_error: bool,
    },
    /// It was cancelled before it was done.
    Cancelled,
}

impl ToolOutcome {
    /// A text result.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::Completed { result: Value::String(text.into()), is_error: false }
    }

    /// An error result: a code line, then what happened and what to do.
    #[must_use]
    pub fn error(code: &str, message: &str) -> Self {
        Self::Completed { result: Value::String(format!("{code}\n{message}")), is_error: true }
    }
}

/// The tools of a run.
#[async_trait]
pub trait Tools: Send + Sync {
    /// All of them as they are now, sorted by name, the same bytes after a restart.
    fn specs(&self) -> Arc<[ToolSpec]>;

    /// The tools as a run that asks its model for the first time gets them, the same until it ends; none: these, they never
    /// change. May wait a moment for servers that are starting; dropped when the run is cancelled.
    async fn for_run(&self) -> Option<Arc<dyn Tools>> {
        None
    }

    /// The call as it is meant: models know modes of some tools as tools of their own. Called before anything else.
    fn meant(&self, call: ToolCall) -> ToolCall {
        call
    }

    /// Whether the call can run: the name exists and the arguments fit. Called before any policy.
    ///
    /// # Errors
    /// What is wrong, for the model.
    fn check(&self, name: &str, arguments: &Value) -> Result<(), InvalidCall>;

    /// The call's effect class; [`Effect::Unsafe`] unless it is certain that nothing can change.
    fn effect(&self, call: &ToolCall) -> Effect;

    /// Whether the call is a question to a person, who gives its result. Where nobody can answer it never waits.
    fn asks_person(&self, call: &ToolCall) -> bool {
        let _ = call;
        false
    }

    /// The result of such a call that nobody has answered in time.
    fn unanswered(&self, call: &ToolCall) -> String {
        let _ = call;
        String::new()
    }

    /// What a call of the class [`Effect::Probe`] is about to change, looked at before it starts. None: it cannot be told,
    /// and after a crash the outcome is not known.
    async fn probe(&self, call: &ToolCall, context: ToolContext) -> Option<Probe> {
        let _ = (call, context);
        None
    }

    /// How far a call got that an earlier process started, by the probe that was recorded then.
    async fn probed(&self, call: &ToolCall, probe: &Probe, context: ToolContext) -> Probed {
        let _ = (call, probe, context);
        Probed::Unknown
    }

    /// The file that a call is about, for rules that name paths; none if it is about no file.
    fn place(&self, call: &ToolCall, cwd: &Path) -> Option<Place>;

    /// Why a call that policy approves still needs a person, such as a read of a file outside `cwd`; none if it does not.
    fn needs_question(&self, call: &ToolCall, cwd: &Path) -> Option<String>;

    /// The sandbox that a run in `cwd` gets where this one is asked for: of a level that exists, and can be set up whole.
    ///
    /// # Errors
    /// It cannot, and why. The run must not start.
    fn settle_sandbox(&self, asked: &Sandbox, cwd: &Path) -> Result<Sandbox, SandboxUnavailable> {
        let _ = cwd;
        if asked.is_off() {
            return Ok(asked.clone());
        }
        Err(SandboxUnavailable::new("no isolation is available on this server"))
    }

    /// Runs the call, confined as its context says or not at all. Never panics on bad input; errors are results.
    async fn run(&self, call: &ToolCall, context: ToolContext) -> ToolOutcome;

    /// Keeps a text of this session in a file that a call can read without a question, until the session is forgotten.
    /// Durable when it returns.
    async fn keep_text(&self, session: SessionId, text: String) -> std::io::Result<PathBuf> {
        let _ = (session, text);
        Err(std::io::ErrorKind::Unsupported.into())
    }

    /// Calls of which an earlier server process left processes, on this machine and of whatever journal.
    async fn orphans(&self) -> Vec<(SessionId, ToolCallId)> {
        Vec::new()
    }

    /// Ends every process that an earlier server process started for this call; how many there were.
    async fn end_orphans(&self, session: SessionId, call: &ToolCallId) -> usize;

    /// Sessions for which calls left something running by intention.
    async fn lingering(&self) -> Vec<SessionId> {
        Vec::new()
    }

    /// No run of this session is under way any more, nor does one follow at once.
    async fn at_rest(&self, session: SessionId) {
        let _ = session;
    }

    /// Ends what calls of this session left running by intention. Called when the session is deleted, and again before it is
    /// purged.
    async fn end_session(&self, session: SessionId) -> std::io::Result<()> {
        let _ = session;
        Ok(())
    }

    /// Removes the files that calls of this session left for later calls. Called before the session is purged, again if the
    /// process ends in between.
    async fn forget_session(&self, session: SessionId) -> std::io::Result<()>;
}
