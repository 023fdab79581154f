//! What an end means for the row.

use stakpak_client::ClientError;
use stakpak_protocol::{ErrorCode, LastErrorCode, RunLimits};
use stakpak_redact::Redactor;

use crate::{
    agent::{AgentError, AgentReport, AgentRequest},
    check::{CheckError, CheckResult},
    ledger::{Finish, Reason, Repeat, RunStatus},
    prompt::PromptError,
    spec::Check,
};

/// Of a run that was ended for this reason.
pub(super) fn status_of(reason: Reason) -> RunStatus {
    match reason {
        Reason::CrashLimit | Reason::BudgetExceeded | Reason::PriceUnknown => RunStatus::Failed,
        _ => RunStatus::Cancelled,
    }
}

pub(super) fn is_out_of_budget(report: &AgentReport) -> bool {
    report.error_code == Some(LastErrorCode::BudgetExceeded)
}

/// The day of its profile was used up before it asked anything of a model.
pub(super) fn found_no_day(report: &AgentReport) -> bool {
    report.usage.as_ref().is_none_or(|usage| usage.total_tokens == 0)
        && report.result.stderr.contains(RunLimits::DAY_TAKEN)
}

pub(super) fn is_silent(report: &AgentReport) -> bool {
    report.final_message.as_deref().is_none_or(|text| text.trim().is_empty())
}

/// The check was the end of the run.
pub(super) fn not_wanted(check: &Check, result: Result<CheckResult, CheckError>, redactor: &Redactor) -> Finish {
    match result {
        Ok(result) if result.timed_out => {
            let limit = stakpak_config::duration::show(check.timeout);
            let text = format!("check {} was ended at its time limit of {limit}", check.path);
            Finish::checked(RunStatus::Failed, Reason::CheckTimeout, Some(text), result)
        }
        Ok(result) => Finish::checked(RunStatus::Skipped, Reason::Check, None, result),
        Err(error) => {
            Finish::not_started(RunStatus::Failed, Some(Reason::CheckError), redacted(redactor, &told(&error)))
        }
    }
}

/// There is no message to send.
pub(super) fn unread(error: &PromptError, redactor: &Redactor) -> Finish {
    Finish::not_started(RunStatus::Failed, Some(Reason::AgentError), redacted(redactor, &told(error)))
}

/// Without an answer to the message the run may exist all the same: its outcome is unknown until the server answers. Without
/// an answer to the session nothing was started.
pub(super) fn not_started(error: &AgentError, redactor: &Redactor) -> Finish {
    let (status, reason) = match error {
        AgentError::Refused { .. } => (
            RunStatus::Failed,
            Some(match error.code() {
                Some(ErrorCode::InvalidOverrides) => Reason::ProfileInvalid,
                Some(ErrorCode::PriceUnknown) => Reason::PriceUnknown,
                Some(ErrorCode::InvalidModel) => Reason::ModelUnavailable,
                Some(ErrorCode::SandboxUnavailable) => Reason::SandboxUnavailable,
                _ => Reason::ServerRejected,
            }),
        ),
        AgentError::NoAnswer { request: AgentRequest::Session, .. } => (RunStatus::Failed, Some(Reason::AgentError)),
        AgentError::NoAnswer { request: AgentRequest::HandOver, .. } => {
            (RunStatus::Failed, Some(Reason::GatewayUnreachable))
        }
        AgentError::NoAnswer { request: AgentRequest::Message, .. } | AgentError::TooLate => (RunStatus::Unknown, None),
    };
    let finish = Finish::not_started(status, reason, redacted(redactor, &told(error)));
    match error {
        AgentError::NoAnswer { request: AgentRequest::Session, source } => {
            let retry_after = source.as_ref().and_then(ClientError::retry_after);
            Finish { repeat: Repeat::Safe, retry_after, ..finish }
        }
        _ => Finish { unconfirmed: error.may_have_started(), ..finish },
    }
}

/// The error with its causes.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

pub(super) fn redacted(redactor: &Redactor, text: &str) -> String {
    redactor.redact(text).into_owned()
}
