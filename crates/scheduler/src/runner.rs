//! One ledger run on the agent server: what is sent, what is kept on the way, what its end means.
//!
//! Invariant: the request is a function of the stored row alone, so that a repeat after a crash has the same body under the
//! same key.

mod in_ledger;
mod order;
mod outcome;

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use stakpak_client::StakpakClient;
use stakpak_protocol::RunLimits;
use stakpak_redact::Redactor;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

pub(crate) use self::order::context_of;
use self::{
    in_ledger::InLedger,
    order::order,
    outcome::{found_no_day, is_out_of_budget, is_silent, not_started, not_wanted, redacted, status_of, unread},
};
use crate::{
    agent::{self, AgentError, AgentOutcome, AgentReport, AgentRequest, DriveError, Limits},
    check::{self, Occasion},
    clock::Clock,
    ledger::{Finish, Job, Ledger, LedgerError, Reason, Repeat, RunStatus, cost_key},
    prompt::{self, PromptError},
    spec::{Check, Prompt, ScheduleSet},
};

const NOT_TO_GO_ON: &str = "cancelled: the process died while this run was under way, and on_crash is fail";

/// What every run is worked on with.
#[derive(Debug, Clone)]
pub(crate) struct Runner {
    pub(crate) ledger: Ledger,
    pub(crate) client: StakpakClient,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) redactor: Redactor,
    /// Variables that no check sees.
    pub(crate) credential_variables: Arc<[String]>,
    /// For what all schedules together may use, as the file says it now.
    pub(crate) schedules: watch::Receiver<Arc<ScheduleSet>>,
    /// Wakes the loop: there are runs to be ended.
    pub(crate) triggered: Arc<Notify>,
}

impl Runner {
    /// Starts the job, or takes it up where it was, and records its end. One that `stop` asks to end is cancelled; if the server
    /// does not confirm that, the row says so, and the true end is recorded when it is learnt.
    pub(crate) async fn run(
        &self,
        mut job: Job,
        stop_grace: TimeDelta,
        stop: CancellationToken,
    ) -> Result<(), LedgerError> {
        if job.cancel.is_some() {
            stop.cancel();
        }
        if let (true, Some(check)) = (job.checking, &job.spec.check) {
            return self.check(&job, check, &stop).await;
        }
        let limits = Limits { deadline: deadline(&job), stop_grace, stop };
        if !job.unconfirmed {
            let finish = self.work(&mut job, limits.clone()).await?;
            let unconfirmed = finish.unconfirmed;
            self.finish(&job, finish).await?;
            if !unconfirmed {
                return Ok(());
            }
        }
        self.settle(&mut job, limits).await
    }

    /// Runs the check; if the agent is wanted, the run waits for its turn.
    async fn check(&self, job: &Job, check: &Check, stop: &CancellationToken) -> Result<(), LedgerError> {
        let occasion = Occasion {
            schedule: &job.spec.name,
            run: job.id,
            nominal_at: job.nominal_at,
            workdir: job.spec.workdir.as_deref(),
        };
        let result = tokio::select! {
            result = check::run(check, occasion, &self.credential_variables, &self.redactor) => result,
            () = stop.cancelled() => {
                let reason = self.cancel_reason(job).await?;
                let text = "cancelled while its check ran".to_owned();
                return self.finish(job, Finish::not_started(status_of(reason), Some(reason), text)).await;
            }
        };
        match result {
            Ok(result) if check.trigger_on.wants(&result) => {
                self.ledger.check_passed(job.id, result, self.clock.now()).await
            }
            result => self.finish(job, not_wanted(check, result, &self.redactor)).await,
        }
    }

    async fn work(&self, job: &mut Job, limits: Limits) -> Result<Finish, LedgerError> {
        let message = match message(&self.ledger, job).await? {
            Ok(message) => message,
            Err(error) => return Ok(unread(&error, &self.redactor)),
        };
        let (order, observer) = (order(job, message), self.observer(job));
        let stop = limits.stop.clone();
        match agent::drive(&self.client, &*self.clock, &order, limits, job.progress, &observer).await {
            Ok(report) => self.ended(job, report).await,
            Err(DriveError::Agent(AgentError::NoAnswer { request: AgentRequest::HandOver, .. }))
                if stop.is_cancelled() =>
            {
                let text = "it was to be cancelled while the chat gateway had it; whether it ran is not known";
                Ok(Finish::not_started(RunStatus::Unknown, None, text.to_owned()))
            }
            Err(DriveError::Agent(error))
                if stop.is_cancelled() && job.progress.session.is_none() && !error.may_have_started() =>
            {
                let reason = self.cancel_reason(job).await?;
                Ok(Finish::not_started(status_of(reason), Some(reason), "cancelled before it began".to_owned()))
            }
            Err(DriveError::Agent(error)) => Ok(not_started(&error, &self.redactor)),
            Err(DriveError::Observer(error)) => Err(error),
        }
    }

    /// Until the server answers, however long that takes.
    async fn settle(&self, job: &mut Job, limits: Limits) -> Result<(), LedgerError> {
        let Some(row) = self.ledger.run(job.id).await? else { return Ok(()) };
        let Some(session) = row.session_id else { return Ok(()) };
        tracing::warn!(run = %job.id, "the server has not confirmed the end of a run; it counts as active until it does");
        let message = match row.run_id {
            Some(_) => Ok(String::new()),
            None => message(&self.ledger, job).await?,
        };
        let message = match message {
            Ok(message) => message,
            Err(error) => return self.finish(job, unread(&error, &self.redactor)).await,
        };
        let (order, observer) = (order(job, message), self.observer(job));
        let known = (session, row.run_id);
        let finish = match agent::settle(&self.client, &*self.clock, &order, limits, known, &observer).await {
            Ok(report) => self.ended(job, report).await?,
            Err(DriveError::Agent(error)) => not_started(&error, &self.redactor),
            Err(DriveError::Observer(error)) => return Err(error),
        };
        self.finish(job, finish).await
    }

    async fn ended(&self, job: &Job, report: AgentReport) -> Result<Finish, LedgerError> {
        let (status, reason) = match report.outcome {
            AgentOutcome::Completed => (RunStatus::Completed, None),
            AgentOutcome::MaxTurns => (RunStatus::Failed, Some(Reason::MaxTurns)),
            AgentOutcome::Failed if is_out_of_budget(&report) && found_no_day(&report) => {
                (RunStatus::Skipped, Some(Reason::Budget))
            }
            AgentOutcome::Failed if is_out_of_budget(&report) => (RunStatus::Failed, Some(Reason::BudgetExceeded)),
            AgentOutcome::Failed => (RunStatus::Failed, Some(Reason::AgentError)),
            AgentOutcome::Cancelled => {
                let reason = self.cancel_reason(job).await?;
                (status_of(reason), Some(reason))
            }
            AgentOutcome::TimedOut => (RunStatus::TimedOut, None),
            AgentOutcome::Paused | AgentOutcome::Unknown | AgentOutcome::Unconfirmed => (RunStatus::Unknown, None),
        };
        let (status, reason) = match status {
            RunStatus::Completed | RunStatus::Failed
                if report.outcome != AgentOutcome::Cancelled
                    && is_silent(&report)
                    && self.ledger.has_expired(job.id).await? =>
            {
                (RunStatus::Failed, Some(Reason::ApprovalExpired))
            }
            _ => (status, reason),
        };
        let unconfirmed = report.outcome == AgentOutcome::Unconfirmed;
        let repeat = match report.outcome {
            _ if matches!(reason, Some(Reason::ApprovalExpired | Reason::Budget | Reason::BudgetExceeded)) => {
                Repeat::Never
            }
            AgentOutcome::Failed if report.retryable && !report.side_effects => Repeat::Safe,
            AgentOutcome::Failed | AgentOutcome::MaxTurns | AgentOutcome::TimedOut => Repeat::IfAny,
            _ => Repeat::Never,
        };
        let AgentReport { result, outcome, stop_reason, turns, usage, cost, final_message, .. } = report;
        let error = match reason {
            Some(Reason::CrashLimit) => NOT_TO_GO_ON.to_owned(),
            // The row says which budget.
            Some(Reason::BudgetExceeded | Reason::PriceUnknown) if outcome == AgentOutcome::Cancelled => {
                self.ledger.run(job.id).await?.and_then(|run| run.error).unwrap_or_default()
            }
            // The server knows the limit as that of a message.
            Some(Reason::BudgetExceeded) => match job.cost_limit {
                Some(limit) => {
                    let key = cost_key(&job.spec, &self.schedules.borrow().budget, limit);
                    result.stderr.replace(RunLimits::COST_KEY, &key)
                }
                None => result.stderr,
            },
            _ => result.stderr,
        };
        Ok(Finish {
            status,
            reason,
            stop_reason,
            turns,
            usage,
            cost,
            checkpoint_id: result.checkpoint_id.and_then(|id| id.parse().ok()),
            stdout: redacted(&self.redactor, &result.stdout),
            message: final_message.map(|text| redacted(&self.redactor, &text)),
            error: Some(error).filter(|text| !text.is_empty()).map(|text| redacted(&self.redactor, &text)),
            repeat,
            retry_after: None,
            unconfirmed,
            check: None,
        })
    }

    /// What the ledger says, else somebody did it at the server.
    async fn cancel_reason(&self, job: &Job) -> Result<Reason, LedgerError> {
        Ok(self.ledger.cancel_reason(job.id).await?.unwrap_or(Reason::User))
    }

    async fn finish(&self, job: &Job, finish: Finish) -> Result<(), LedgerError> {
        tracing::info!(status = %finish.status, "scheduled run ended");
        let set = self.schedules.borrow().clone();
        self.ledger.finish(job.id, finish, (&job.spec, set), self.clock.now()).await
    }

    fn observer(&self, job: &Job) -> InLedger<'_> {
        InLedger {
            ledger: &self.ledger,
            schedules: &self.schedules,
            triggered: &self.triggered,
            clock: &*self.clock,
            redactor: &self.redactor,
            id: job.id,
            spec: Arc::clone(&job.spec),
        }
    }
}

/// The message, which stays the same once it was read.
async fn message(ledger: &Ledger, job: &mut Job) -> Result<Result<String, PromptError>, LedgerError> {
    if let Some(message) = &job.prompt {
        return Ok(Ok(message.clone()));
    }
    let message = prompt::text(&job.spec.prompt).await;
    if let (Ok(message), Prompt::File(_)) = (&message, &job.spec.prompt) {
        ledger.prompt_read(job.id, message.clone()).await?;
        job.prompt = Some(message.clone());
    }
    Ok(message)
}

fn deadline(job: &Job) -> DateTime<Utc> {
    let timeout = TimeDelta::from_std(job.spec.timeout).unwrap_or(TimeDelta::MAX);
    job.agent_at
        .checked_add_signed(timeout)
        .and_then(|end| end.checked_add_signed(job.waited))
        .unwrap_or(DateTime::<Utc>::MAX_UTC)
}
