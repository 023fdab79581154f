//! What a run would be, without one: for `schedule trigger --dry-run`. The check is run; nothing is stored, nobody is told.

use serde::Serialize;
use stakpak_redact::Redactor;

use crate::{
    check::{self, CheckResult, Occasion},
    ledger::{RunNumber, Source},
    prompt, runner,
    spec::ScheduleSpec,
};

/// What a run would begin with.
#[derive(Debug, Clone, Serialize)]
pub struct Preview {
    /// What the check did; none without a check.
    pub check: Option<CheckResult>,
    /// Why the check could not be run, or the message could not be read.
    pub error: Option<String>,
    /// Whether the agent would be started.
    pub would_start: bool,
    /// The user message.
    pub message: Option<String>,
    /// What the agent is told besides.
    pub context: Option<String>,
}

/// Runs the check unless `no_check`, and reads the message.
pub async fn preview(spec: &ScheduleSpec, no_check: bool, credentials: &[String], redactor: &Redactor) -> Preview {
    let mut preview = Preview { check: None, error: None, would_start: true, message: None, context: None };
    if let Some(script) = spec.check.as_ref().filter(|_| !no_check) {
        let workdir = spec.workdir.as_deref();
        let occasion = Occasion { schedule: &spec.name, run: RunNumber(0), nominal_at: None, workdir };
        match check::run(script, occasion, credentials, redactor).await {
            Ok(result) => {
                preview.would_start = script.trigger_on.wants(&result);
                preview.check = Some(result);
            }
            Err(error) => return Preview { would_start: false, error: Some(told(&error)), ..preview },
        }
    }
    match prompt::text(&spec.prompt).await {
        Ok(message) => preview.message = Some(message),
        Err(error) => return Preview { would_start: false, error: Some(told(&error)), ..preview },
    }
    preview.context = Some(runner::context_of(spec, "none yet", Source::Manual, None, preview.check.as_ref()));
    preview
}

fn told(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
