//! How a run ended, or why it waits: the exit code, the manifest, and what people are told.

use anyhow::Result;
use serde_json::{Value, json};
use stakpak_client::{ProposedToolCall, Run as RunRecord, RunState, Session};
use stakpak_protocol::{LastErrorCode, StopDetail, StopReason};

use super::{
    ask::shown,
    pause::{PauseFile, pause_reason},
};
use crate::{exit::Failure, output};

/// How it came to its end here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Completed,
    Paused,
    Failed,
    TimedOut,
    Cancelled,
    /// Cancelled by Ctrl-C.
    Interrupted,
}

impl Outcome {
    /// Of a run that ended by itself, or by somebody else.
    pub(crate) fn of(record: &RunRecord) -> Self {
        let error = record.last_error.as_ref().map(|error| error.code);
        match (record.state, record.stop_reason, error) {
            (_, Some(StopReason::MaxTurns), _) => Self::Failed,
            (RunState::Completed, ..) => Self::Completed,
            (RunState::Cancelled, ..) => Self::Cancelled,
            (_, _, Some(LastErrorCode::DeadlineExceeded)) => Self::TimedOut,
            _ => Self::Failed,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Paused => "paused",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Cancelled | Self::Interrupted => "cancelled",
        }
    }

    fn exit_code(self) -> u8 {
        match self {
            Self::Completed => 0,
            Self::Failed | Self::Cancelled => 1,
            Self::Paused => 10,
            Self::TimedOut => 124,
            Self::Interrupted => 130,
        }
    }
}

/// All there is to say about it.
pub(super) struct Conclusion {
    pub(super) outcome: Outcome,
    pub(super) record: RunRecord,
    pub(super) session: Session,
    pub(super) text: String,
    /// Turns before this command.
    pub(super) turns_before: u64,
    /// What waits, and the command that goes on.
    pub(super) pause: Option<(Vec<ProposedToolCall>, String)>,
}

impl Conclusion {
    /// Tells it, and leaves what is needed to go on in the working directory.
    pub(super) fn tell(&self, json: bool, workdir: &str) -> Result<()> {
        let manifest = self.manifest();
        if self.pause.is_some()
            && let Err(error) = PauseFile::of(&self.session, workdir).write(&manifest)
        {
            eprintln!("· what to go on with is not kept: {error:#}");
        }
        if json {
            output::line(&format!("{manifest:#}"));
        } else {
            self.explain();
        }
        match self.outcome.exit_code() {
            0 => Ok(()),
            code => Err(Failure::Told(code).into()),
        }
    }

    fn manifest(&self) -> Value {
        let Self { outcome, record, session, text, turns_before, pause } = self;
        let mut manifest = json!({
            "agent_message": Some(text).filter(|text| !text.is_empty()),
            "checkpoint_id": record.checkpoint_id,
            "cost_usd": record.cost_usd,
            "detail": record.detail,
            "error": self.error(),
            "exit_code": outcome.exit_code(),
            "model": session.model,
            "outcome": outcome.word(),
            "pause_reason": pause.as_ref().map(|(calls, _)| pause_reason(calls)),
            "resume_hint": pause.as_ref().map(|(_, hint)| hint),
            "run_id": record.run_id,
            "session_id": session.id,
            "steps": record.turns.saturating_sub(*turns_before),
            "stop_reason": record.stop_reason,
            "total_steps": record.turns,
            "usage": record.total_usage,
        });
        if let Some(manifest) = manifest.as_object_mut() {
            manifest.retain(|_, value| !value.is_null());
        }
        manifest
    }

    /// Why it is not complete.
    fn error(&self) -> Option<String> {
        match self.outcome {
            Outcome::Completed | Outcome::Paused => None,
            Outcome::TimedOut if self.record.last_error.is_none() => {
                Some("the run took longer than --timeout".to_owned())
            }
            Outcome::Interrupted => Some("interrupted; the run is cancelled".to_owned()),
            Outcome::TimedOut | Outcome::Failed | Outcome::Cancelled => Some(reason(&self.record)),
        }
    }

    fn explain(&self) {
        if let Some(error) = self.error() {
            eprintln!("error: {error}");
        }
        let Some((calls, hint)) = &self.pause else { return };
        eprintln!("· paused: waits for approval of");
        for call in calls {
            eprintln!("  {}: {}\n  {}", call.id, call.name, shown(call));
        }
        eprintln!("· go on with: {hint}");
    }
}

/// Why a run that ended is not complete.
pub(crate) fn reason(record: &RunRecord) -> String {
    match &record.last_error {
        Some(error) => error.message.clone(),
        None if record.detail == Some(StopDetail::NoProgress) => format!(
            "stopped after {} steps: the last ones made the same calls with the same results (no_progress.stop of the \
             profile); say what to do instead with: stakpak run --session {} \"<message>\"",
            record.turns, record.session_id
        ),
        None if record.stop_reason == Some(StopReason::MaxTurns) => format!(
            "stopped after {} steps, the most allowed; go on with: stakpak run --session {} \"go on\"",
            record.turns, record.session_id
        ),
        None if record.state == RunState::Cancelled => "the run was cancelled".to_owned(),
        None => "the run failed".to_owned(),
    }
}
