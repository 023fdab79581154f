//! `stakpak chat`: a conversation in the terminal, through the same client as everybody else.
//!
//! A line is a message; a line that begins with `/` is a command. While a run goes on, what is asked is asked here.

mod commands;
mod lines;

use anyhow::Result;
use stakpak_client::{ClientError, CreateSessionOptions, Message, RunOverrides, SendMessageOptions};
use stakpak_protocol::EventId;

use crate::{
    args::{ChatArgs, Global},
    run::{
        Connected,
        ask::Answers,
        follow::{Followed, Run},
        outcome::{Outcome, reason},
        printer::{Printer, Style},
    },
};
use commands::Command;
use lines::{Line, Lines};

/// Of a session that has no name yet.
const TITLE: usize = 80;

pub(crate) async fn run(global: &Global, args: ChatArgs) -> Result<()> {
    let mut lines = Lines::open()?;
    let server = Connected::new(global).await?;
    let talk = Talk { server: &server, profile: &global.profile, session: args.session, model: args.model };
    let outcome = talk.go_on(&mut lines).await;
    server.end().await;
    outcome
}

struct Talk<'a> {
    server: &'a Connected,
    profile: &'a str,
    /// Made with the first message.
    session: Option<String>,
    model: Option<String>,
}

impl Talk<'_> {
    async fn go_on(mut self, lines: &mut Lines) -> Result<()> {
        if let Some(session) = &self.session {
            let session = self.server.client.get_session(session).await?;
            eprintln!("· going on with {:?}", session.title);
        }
        eprintln!("· /help lists the commands; Ctrl-D ends");
        loop {
            let text = match lines.next().await? {
                Line::Text(text) => text,
                Line::Interrupted => continue,
                Line::End => break,
            };
            let done = match Command::parse(&text) {
                None if text.trim().is_empty() => Ok(()),
                None => self.say(text).await,
                Some(Command::Exit) => break,
                Some(command) => self.carry_out(command).await,
            };
            // What goes wrong with one message does not end the conversation.
            if let Err(error) = done {
                eprintln!("error: {error:#}");
            }
        }
        if let Some(session) = &self.session {
            eprintln!("· go on later with: stakpak chat {session}");
        }
        Ok(())
    }

    async fn say(&mut self, text: String) -> Result<()> {
        let session = self.session(&text).await?;
        let overrides = RunOverrides {
            profile: Some(self.profile.to_owned()),
            model: self.model.clone(),
            ..RunOverrides::default()
        };
        let answers = Answers::of_terminal();
        let interactive = answers == Answers::Person;
        let options = SendMessageOptions { overrides: Some(overrides), interactive, ..SendMessageOptions::default() };
        let posted = self.server.client.send_messages(&session, vec![Message::user(text)], options).await?;
        let run = Run { client: &self.server.client, session, run: posted.run_id.into() };
        let mut printer = Printer::new(Style::Streamed);
        let followed = tokio::select! {
            followed = run.follow(EventId(posted.cursor), answers, &mut printer) => followed?,
            _ = tokio::signal::ctrl_c() => {
                eprintln!("\n· cancelling …");
                Followed::Ended(Box::new(run.cancel().await?))
            }
        };
        printer.end();
        if let Followed::Ended(record) = followed
            && Outcome::of(&record) != Outcome::Completed
        {
            anyhow::bail!("{}", reason(&record));
        }
        Ok(())
    }

    async fn session(&mut self, first: &str) -> Result<String, ClientError> {
        if let Some(session) = &self.session {
            return Ok(session.clone());
        }
        let title = first.lines().next().unwrap_or_default().chars().take(TITLE).collect();
        let options = CreateSessionOptions { title, cwd: Some(self.server.workdir.clone()) };
        let session = self.server.client.create_session_with(options).await?.id.to_string();
        Ok(self.session.insert(session).clone())
    }

    async fn carry_out(&mut self, command: Command) -> Result<()> {
        match command {
            Command::Help => eprintln!("{}", commands::HELP),
            Command::New => {
                self.session = None;
                eprintln!("· a new session begins with your next message");
            }
            Command::Model(None) => eprintln!("· model: {}", self.model.as_deref().unwrap_or("that of the profile")),
            Command::Model(Some(model)) => self.model = Some(model).filter(|model| model != "default"),
            Command::Status => {
                let session = self.session.as_deref().unwrap_or("none yet");
                let model = self.model.as_deref().unwrap_or("that of the profile");
                eprintln!("· session {session}\n· model {model}\n· tools run in {}", self.server.workdir);
            }
            Command::Unknown(name) => eprintln!("· there is no command /{name}; /help lists them"),
            Command::Exit => {}
        }
        Ok(())
    }
}
