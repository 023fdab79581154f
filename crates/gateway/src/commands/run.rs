//! Carrying out commands, in a task of their own for each conversation.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use stakpak_client::{ClientError, ErrorCode, Message, MessageType, SendMessageOptions};
use tokio::time::sleep;

use super::{Command, HELP, ScheduleAct};
use crate::{
    BusyPolicy, StoreError,
    access::{Claim, Role},
    actors::{Actors, Worker},
    approvals::{Act, Approvals},
    backoff::Backoff,
    clock::now_ms,
    dispatcher::Dispatcher,
    store::{Change, CommandRow, Gate, OpenRun, Payload, Standing, Subject},
};

/// The commands' tasks, by routing key.
pub(crate) type Commands = Actors<Commander>;

/// Carries out commands.
#[derive(Debug)]
pub(crate) struct Commander {
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) approvals: Arc<Approvals>,
}

/// Why a command has to be repeated.
#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Server(#[from] ClientError),
}

/// What comes of a command.
#[derive(Debug, Default)]
struct Effect {
    change: Change,
    answer: String,
}

impl From<String> for Effect {
    fn from(answer: String) -> Self {
        Self { answer, ..Self::default() }
    }
}

impl From<&str> for Effect {
    fn from(answer: &str) -> Self {
        answer.to_owned().into()
    }
}

impl Commander {
    /// False when the conversation has no command.
    async fn step(&self, routing_key: &str) -> Result<bool, CommandError> {
        let worker = self.dispatcher.worker();
        let Some(row) = worker.store.next_command(routing_key).await? else { return self.hurry(routing_key).await };
        let effect = match self.carry_out(&row).await {
            Err(CommandError::Server(error)) if !error.is_retryable() => format!("That did not work: {error}").into(),
            effect => effect?,
        };
        let parts = worker.parts(&row.address, &format!("command:{}", row.id), &effect.answer);
        let resends = effect.change.resend;
        worker.store.end_command(&row, effect.change, parts.clone(), now_ms()).await?;
        worker.deliveries.wake_for(&parts);
        if resends {
            worker.deliveries.wake(&row.address.chat_key());
        }
        self.dispatcher.wake(routing_key);
        Ok(true)
    }

    /// What the policy says about a message that waits behind a run. False when it waits on.
    async fn hurry(&self, routing_key: &str) -> Result<bool, CommandError> {
        let worker = self.dispatcher.worker();
        if worker.busy_policy == BusyPolicy::Queue {
            return Ok(false);
        }
        let Some((row, run)) = worker.store.waiting_behind(routing_key).await? else { return Ok(false) };
        if worker.busy_policy == BusyPolicy::Interrupt {
            worker.cancel(&run).await?;
            return Ok(false);
        }
        match self.send_steering(&row, &run, &row.payload.text).await {
            Ok(()) => {
                worker.store.steered(row.id, &run.run_id).await?;
                Ok(true)
            }
            // The run has ended meanwhile: the message has its own.
            Err(error) if is_over(&error) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn send_steering(&self, row: &CommandRow, run: &OpenRun, text: &str) -> Result<(), ClientError> {
        let text = self.dispatcher.worker().kept.reveal(row.payload.vault.as_slice(), text);
        let client = self.dispatcher.worker().client.with_idempotency_key(format!("gw-steer-{}", row.id));
        let options = SendMessageOptions {
            message_type: MessageType::Steering,
            run_id: run.run_id.parse().ok(),
            ..SendMessageOptions::default()
        };
        client.send_messages(&run.session_id, vec![Message::user(text.into_owned())], options).await.map(drop)
    }

    async fn carry_out(&self, row: &CommandRow) -> Result<Effect, CommandError> {
        let Some(command) = Command::parse(&row.payload.text) else { return Ok(Effect::default()) };
        let store = &self.dispatcher.worker().store;
        let granted = store.role_of(&row.address.channel, &row.sender.id).await?;
        let role = self.gate.access.role(row.address.channel.as_str(), row.sender.id.as_str(), granted);
        // Whoever talks by being in an allowed chat is a user there.
        let role = role.unwrap_or(Role::User);
        if role < command.role() {
            let needed = command.role().as_str();
            return Ok(format!("That needs the role {needed}; yours is {}.", role.as_str()).into());
        }
        let standing = store.standing(&row.routing_key, &row.address.chat_key()).await?;
        match command {
            Command::Help => Ok(HELP.into()),
            Command::WhoAmI => {
                Ok(format!("You are {} ({}), role {}.", row.sender.name(), row.sender.id, role.as_str()).into())
            }
            Command::Status => Ok(status(&standing).into()),
            Command::New(text) => Ok(renew(text, row.payload.vault.clone())),
            Command::Stop => self.stop(row, &standing, role).await,
            Command::Queue => Ok(queue(&standing).into()),
            Command::QueueClear => Ok(clear(&standing)),
            Command::QueueContinue => Ok(Effect {
                change: Change { held: Some(false), ..Change::default() },
                answer: "The queue goes on.".into(),
            }),
            Command::Steer(text) => self.steer(row, &standing, text).await,
            Command::Retry => Ok(retry(store.last_failed(&row.routing_key).await?)),
            Command::Resend => Ok(resend(&standing)),
            Command::Model(name) => self.model(&standing, name).await,
            Command::Schedule(act, name) => self.schedule(row, act, &name).await,
            Command::Schedules => self.schedules().await,
            Command::Usage(usage) => Ok(format!("Like this: `{usage}`").into()),
            Command::Approve(words) => Ok(self.decide(row, Act::Allow, words).await?.into()),
            Command::Deny(words) => Ok(self.decide(row, Act::Deny, words).await?.into()),
            Command::Show(words) => Ok(self.decide(row, Act::Show, words).await?.into()),
            // The right code was taken at the door.
            Command::Pair(_) => Ok("A code is sent in a direct chat with the bot.".into()),
            Command::Allow(id) => {
                store.allow_as(actor(row), &row.address.channel, Subject::User, &id, Role::User).await?;
                Ok(format!("{id} may talk to this bot now.").into())
            }
            Command::Revoke(id) => match store.revoke_as(actor(row), &row.address.channel, Subject::User, &id).await? {
                true => Ok(format!("{id} may no longer talk to this bot, unless the configuration lists them.").into()),
                false => Ok(format!("{id} was not let in by a code or by `/allow`; see the configuration.").into()),
            },
        }
    }

    async fn decide(&self, row: &CommandRow, act: Act, words: Vec<String>) -> Result<String, CommandError> {
        let claim = Claim { address: row.address.clone(), sender: row.sender.clone(), guild: None };
        Ok(self.approvals.decide_by_text(claim, act, words).await?)
    }

    async fn stop(&self, row: &CommandRow, standing: &Standing, role: Role) -> Result<Effect, CommandError> {
        let Some(run) = &standing.run else { return Ok("Nothing is running.".into()) };
        let is_own = run.requester.as_ref().is_none_or(|requester| *requester == row.sender.id);
        if !is_own && role < Role::Approver {
            return Ok("This run was started by somebody else; an approver can stop it.".into());
        }
        self.dispatcher.worker().cancel(run).await?;
        let waiting = standing.waiting.len();
        let answer = match waiting {
            0 => "Stopping the run.".to_owned(),
            _ => format!("Stopping the run. {waiting} waiting: `/queue continue` or `/queue clear`."),
        };
        let held = (waiting > 0).then_some(true);
        Ok(Effect { change: Change { held, ..Change::default() }, answer })
    }

    async fn steer(&self, row: &CommandRow, standing: &Standing, text: String) -> Result<Effect, CommandError> {
        let Some(run) = &standing.run else { return Ok("Nothing is running; send it as a message.".into()) };
        match self.send_steering(row, run, &text).await {
            Ok(()) => Ok("The run gets it before its next step.".into()),
            Err(error) if is_over(&error) => Ok("The run has just ended; send it as a message.".into()),
            Err(error) => Err(error.into()),
        }
    }

    async fn model(&self, standing: &Standing, name: Option<String>) -> Result<Effect, CommandError> {
        let change = |model| Change { model: Some(model), ..Change::default() };
        match name.as_deref() {
            None => Ok(format!("Model: {}.", standing.model.as_deref().unwrap_or("default")).into()),
            Some("default") => Ok(Effect { change: change(None), answer: "Model: default.".into() }),
            Some(name) => {
                let models = self.dispatcher.worker().client.models().await?;
                let known = models.iter().map(|model| format!("{}/{}", model.provider, model.id));
                let found: Vec<_> = known.filter(|full| full == name || full.ends_with(&format!("/{name}"))).collect();
                match found.as_slice() {
                    [model] => Ok(Effect { answer: format!("Model: {model}."), change: change(Some(model.clone())) }),
                    [] => Ok(format!("The server knows no model `{name}`.").into()),
                    many => Ok(format!("Which one: {}?", many.join(", ")).into()),
                }
            }
        }
    }

    async fn schedule(&self, row: &CommandRow, act: ScheduleAct, name: &str) -> Result<Effect, CommandError> {
        let client = self.dispatcher.worker().client.with_idempotency_key(format!("gw-command-{}", row.id));
        let (done, answer) = match act {
            ScheduleAct::Run => (client.trigger_schedule(name).await.map(drop), "was started"),
            ScheduleAct::Pause => (client.pause_schedule(name).await, "is paused until `/schedule resume`"),
            ScheduleAct::Resume => (client.resume_schedule(name).await, "fires again, from now on"),
        };
        match done {
            Ok(()) => Ok(format!("Schedule {name} {answer}.").into()),
            Err(error) if error.is_not_found() => Ok(format!("There is no schedule {name}.").into()),
            Err(error) => Err(error.into()),
        }
    }

    async fn schedules(&self) -> Result<Effect, CommandError> {
        match self.dispatcher.worker().client.schedules().await {
            Ok(schedules) if schedules.is_empty() => Ok("There are no schedules.".into()),
            Ok(schedules) => Ok(schedules.iter().map(schedule_line).collect::<Vec<_>>().join("\n").into()),
            Err(error) if error.is_not_found() => Ok("This server has no schedules.".into()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Name, state and next run, as the server tells them.
fn schedule_line(schedule: &serde_json::Value) -> String {
    let text = |key: &str| schedule[key].as_str();
    let name = text("name").unwrap_or("-");
    match (text("state"), text("next_run")) {
        (Some("active"), Some(next)) => format!("`{name}` – next {next} UTC"),
        (state, _) => format!("`{name}` – {}", state.unwrap_or("unknown")),
    }
}

fn is_over(error: &ClientError) -> bool {
    matches!(error.code(), Some(ErrorCode::SessionNotRunning | ErrorCode::RunMismatch))
}

fn status(standing: &Standing) -> String {
    let Standing { run, waiting, held, model, undelivered } = standing;
    let run = run.as_ref().map_or("none".to_owned(), |run| {
        let seconds = (now_ms() - run.started_at).max(0) / 1000;
        format!("{} for {seconds} s", run.run_id)
    });
    let held = if *held { " (held)" } else { "" };
    let model = model.as_deref().unwrap_or("default");
    format!("Run: {run}\nWaiting: {}{held}\nModel: {model}\nUndelivered: {undelivered}", waiting.len())
}

fn renew(text: Option<String>, vault: Option<String>) -> Effect {
    let message = text.map(|text| Payload { text, vault, ..Payload::default() });
    Effect { change: Change { renew: true, message, ..Change::default() }, answer: "A new session begins.".into() }
}

fn queue(standing: &Standing) -> String {
    if standing.waiting.is_empty() {
        return "Nothing waits.".to_owned();
    }
    let lines = standing.waiting.iter().enumerate().map(|(index, line)| format!("{}. {line}", index + 1));
    lines.collect::<Vec<_>>().join("\n")
}

fn clear(standing: &Standing) -> Effect {
    let change = Change { clear: true, held: Some(false), ..Change::default() };
    Effect { change, answer: format!("Dropped {} waiting.", standing.waiting.len()) }
}

fn retry(failed: Option<Payload>) -> Effect {
    match failed {
        Some(message) => {
            Effect { change: Change { message: Some(message), ..Change::default() }, answer: "Trying it again.".into() }
        }
        None => "Nothing failed here.".into(),
    }
}

fn resend(standing: &Standing) -> Effect {
    match standing.undelivered {
        0 => "Everything was delivered.".into(),
        count => {
            Effect { change: Change { resend: true, ..Change::default() }, answer: format!("Sending {count} again.") }
        }
    }
}

#[async_trait]
impl Worker for Commander {
    async fn work(&self, routing_key: &str) {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
        loop {
            match self.step(routing_key).await {
                Ok(true) => backoff.reset(),
                Ok(false) => return,
                Err(error) => {
                    tracing::warn!(routing_key, %error, "a command is repeated");
                    sleep(backoff.next()).await;
                }
            }
        }
    }
}

/// As the audit log names people.
fn actor(row: &CommandRow) -> String {
    format!("{}:{}", row.address.channel, row.sender.id)
}
