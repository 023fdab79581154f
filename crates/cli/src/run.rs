//! `stakpak run`: one run of the agent through the running instance, or through a server of its own when none runs.
//!
//! The answer goes to stdout; progress, questions and the offline notice go to stderr. Whatever ends the command before the
//! run has ended cancels the run first, except a pause: then it waits where it is, and another command goes on with it.

pub(crate) mod ask;
mod connect;
pub(crate) mod follow;
pub(crate) mod outcome;
mod pause;
pub(crate) mod printer;
mod prompt;
mod questions;
mod resume;
mod session;
mod start;

use std::time::Duration;

use anyhow::{Result, bail};
use stakpak_client::Session;
use stakpak_protocol::EventId;

use crate::{
    args::{Global, OutputFormat, RunArgs},
    exit::Failure,
    offline,
    up::StopSignals,
};
use ask::Answers;
pub(crate) use connect::Connected;
use follow::{Followed, Run};
use outcome::{Conclusion, Outcome};
use pause::resume_hint;
use printer::{Printer, Style};
use resume::Waiting;

const MAP_MACHINE: &str = include_str!("run/map_machine.md");

pub(crate) async fn run(global: &Global, args: RunArgs) -> Result<()> {
    let prompt = prompt::given(&args)?;
    let system_prompt = prompt::of_system(&args)?;
    let server = if args.detach { Connected::to_running(global).await? } else { Connected::new(global).await? };
    let json = global.json || args.output == OutputFormat::Json;
    let order = Order { server: &server, global, args: &args, system_prompt, json };
    let outcome = order.carry_out(prompt).await;
    server.end().await;
    outcome
}

/// `stakpak init`: what runs here, found out by a prompt that is built in; a prompt that is given comes after it.
pub(crate) async fn map_machine(global: &Global, mut args: RunArgs) -> Result<()> {
    let besides = prompt::given(&args)?.map(|besides| format!("\n{besides}")).unwrap_or_default();
    args.prompt_file = None;
    args.prompt = Some(format!("{MAP_MACHINE}{besides}"));
    run(global, args).await
}

struct Order<'a> {
    server: &'a Connected,
    global: &'a Global,
    args: &'a RunArgs,
    system_prompt: Option<String>,
    json: bool,
}

/// What is to be done, once everybody who had to be asked was asked.
enum Plan {
    Start { session: Option<Session>, prompt: String },
    Decide { waiting: Waiting, decisions: resume::Decisions, prompt: Option<String> },
    TellWaiting { waiting: Waiting, has_prompt: bool },
}

/// A run that goes on, and where to listen from.
struct Started {
    session: Session,
    run: uuid::Uuid,
    cursor: EventId,
    /// Turns that earlier commands saw.
    turns_before: u64,
}

/// What ended the wait.
enum End {
    Followed(Followed),
    Timeout,
    Interrupted,
}

impl Order<'_> {
    async fn carry_out(self, prompt: Option<String>) -> Result<()> {
        let mut signals = StopSignals::new()?;
        let plan = tokio::select! {
            plan = self.plan(prompt) => plan?,
            () = signals.next() => bail!(Failure::Interrupted),
        };
        // From here on a signal is heard when there is a run to cancel.
        let started = match plan {
            Plan::Start { session, prompt } => self.start(session, prompt).await?,
            Plan::Decide { waiting, decisions, prompt } => self.go_on(waiting, decisions, prompt).await?,
            Plan::TellWaiting { waiting, has_prompt } => return self.still_waiting(waiting, has_prompt).await,
        };
        if self.args.detach {
            self.tell_started(&started);
            return Ok(());
        }
        self.see_through(started, &mut signals).await
    }

    async fn plan(&self, prompt: Option<String>) -> Result<Plan> {
        let approval = &self.args.approval;
        match session::named(&self.server.client, self.args).await? {
            Some((session, pending)) if !pending.tool_calls.is_empty() => {
                let waiting = Waiting::new(session, pending)?;
                let decisions = self.decisions(&waiting).await?;
                Ok(match decisions.is_empty() {
                    true => Plan::TellWaiting { waiting, has_prompt: prompt.is_some() },
                    false => Plan::Decide { waiting, decisions, prompt },
                })
            }
            Some((session, _)) if approval.named().next().is_some() || (approval.decides() && prompt.is_none()) => {
                bail!("no call waits for an approval in session {}", session.id)
            }
            named => {
                let prompt = match prompt {
                    Some(prompt) => prompt,
                    None => tokio::task::spawn_blocking(prompt::of_stdin).await??,
                };
                Ok(Plan::Start { session: named.map(|(session, _)| session), prompt })
            }
        }
    }

    async fn see_through(&self, started: Started, signals: &mut StopSignals) -> Result<()> {
        let Self { server, args, .. } = self;
        let session = started.session.id.to_string();
        let run = Run { client: &server.client, session: session.clone(), run: started.run.into() };
        let mut printer = Printer::new(Style::new(self.json, args.no_stream));
        let model = server.client.get_session(&session).await?.model;
        if model.as_deref().is_some_and(offline::is_offline) {
            offline::NOTICE.iter().for_each(|line| printer.note(line));
        }
        let end = tokio::select! {
            followed = run.follow(started.cursor, Answers::new(&args.approval), &mut printer) => End::Followed(followed?),
            () = sleep(args.timeout) => End::Timeout,
            () = signals.next() => End::Interrupted,
        };
        let (outcome, record, calls) = match end {
            End::Followed(Followed::Ended(record)) => (Outcome::of(&record), *record, None),
            End::Followed(Followed::Waiting(record, calls)) => (Outcome::Paused, *record, Some(calls)),
            End::Timeout => (Outcome::TimedOut, self.cancel(&run, Failure::TimedOut, signals).await?, None),
            End::Interrupted => (Outcome::Interrupted, self.cancel(&run, Failure::Interrupted, signals).await?, None),
        };
        let session = server.client.get_session(&session).await?;
        let pause = calls.map(|calls| {
            let hint = resume_hint(self.global, args, &session, &calls);
            (calls, hint)
        });
        let turns_before = started.turns_before;
        let conclusion = Conclusion { outcome, record, session, text: printer.end(), turns_before, pause };
        conclusion.tell(self.json, &server.workdir)
    }

    /// A second Ctrl-C does not wait for the confirmation.
    async fn cancel(&self, run: &Run<'_>, why: Failure, signals: &mut StopSignals) -> Result<stakpak_client::Run> {
        let confirmed = tokio::select! {
            confirmed = run.cancel() => confirmed,
            () = signals.next() => bail!(Failure::Interrupted),
        };
        confirmed.map_err(|error| {
            eprintln!("· {error:#}; look at it with GET /v1/sessions/{}/runs/{}", run.session, run.run);
            why.into()
        })
    }
}

async fn sleep(limit: Option<Duration>) {
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => std::future::pending().await,
    }
}
