//! `notify`: one message of a run to the chat that the run was given, and to no other.
//!
//! Invariants: a call is sent under one key however often it runs, so the chat sees it once; a run has so many and no more, also
//! over restarts: what it sent is in a file of the run.

use std::{
    fmt,
    fs::{DirBuilder, File},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use stakpak_agent_core::ToolContext;
use stakpak_protocol::{NotifyRoute, SessionId, ToolCallId};
use tokio::task::spawn_blocking;

use crate::{
    arguments::{Level, Notify},
    error::ToolError,
};

/// Notifications of one run.
const MOST: usize = 10;

/// Brings messages to chats.
#[async_trait]
pub trait Notifier: Send + Sync + fmt::Debug {
    /// Takes a message: when this returns it is durable there, and delivered once however often it comes under its key.
    async fn send(&self, notice: &Notice) -> Result<(), Unsent>;
}

/// A message for a chat.
#[derive(Debug, Clone, PartialEq)]
pub struct Notice {
    /// Of the call that it is of.
    pub key: String,
    /// The chat.
    pub route: NotifyRoute,
    /// Markdown, without secrets.
    pub text: String,
}

/// A message that was not taken; why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unsent(pub String);

/// What runs have to tell.
#[derive(Debug)]
pub(crate) struct Notices {
    notifier: Option<Arc<dyn Notifier>>,
    /// A directory a session, of which a run has a file.
    directory: PathBuf,
    /// Calls of a run run side by side.
    writing: Arc<Mutex<()>>,
}

impl Notices {
    pub(crate) fn new(notifier: Option<Arc<dyn Notifier>>, directory: PathBuf) -> Self {
        Self { notifier, directory, writing: Arc::default() }
    }

    /// Sends it; the texts of the call have no secrets.
    pub(crate) async fn notify(
        &self,
        asked: &Notify,
        call: &ToolCallId,
        context: &ToolContext,
    ) -> Result<String, ToolError> {
        let Some(route) = &context.notify_route else {
            return Err(unavailable("this run was not given a chat to tell; say it in your answer"));
        };
        let Some(notifier) = &self.notifier else {
            return Err(unavailable("no chat gateway runs here; say it in your answer"));
        };
        let key = format!("notify:{}:{call}", context.run_id);
        self.count(call, context).await?;
        let notice = Notice { key, route: route.clone(), text: text(asked) };
        let sent = tokio::select! {
            sent = notifier.send(&notice) => sent,
            () = context.cancel.cancelled() => return Err(unavailable("cancelled before it was taken")),
        };
        match sent {
            Ok(()) => Ok(format!("Sent to the chat of this run ({})", route.channel)),
            Err(Unsent(why)) => Err(unavailable(&why)),
        }
    }

    /// Counts the call, once.
    async fn count(&self, call: &ToolCallId, context: &ToolContext) -> Result<(), ToolError> {
        let directory = self.directory.join(context.session_id.to_string());
        let (file, call, writing) =
            (directory.join(context.run_id.to_string()), call.clone(), Arc::clone(&self.writing));
        let count = move || {
            let _writing = writing.lock().unwrap_or_else(PoisonError::into_inner);
            DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
            let mut file = File::options().read(true).append(true).create(true).mode(0o600).open(file)?;
            let mut sent = String::new();
            file.read_to_string(&mut sent)?;
            if sent.lines().any(|sent| sent == call.as_str()) {
                return Ok(true);
            }
            if sent.lines().count() >= MOST {
                return Ok(false);
            }
            writeln!(file, "{call}")?;
            file.sync_all().map(|()| true)
        };
        match spawn_blocking(count).await.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(true) => Ok(()),
            Ok(false) => {
                Err(unavailable(&format!("this run has sent its {MOST} notifications; say the rest in your answer")))
            }
            Err(error) => Err(unavailable(&format!("it cannot be counted: {error}"))),
        }
    }

    /// What its runs have sent.
    pub(crate) async fn forget_session(&self, session: SessionId) -> io::Result<()> {
        match tokio::fs::remove_dir_all(self.directory.join(session.to_string())).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }
}

fn unavailable(why: &str) -> ToolError {
    ToolError::new("NOTIFY_UNAVAILABLE", format!("Nothing was sent: {why}"))
}

fn text(asked: &Notify) -> String {
    let mark = match asked.level.unwrap_or_default() {
        Level::Info => "",
        Level::Warning => "⚠️ ",
        Level::Critical => "🚨 ",
    };
    match asked.title.as_deref().map(str::trim).filter(|title| !title.is_empty()) {
        Some(title) => format!("{mark}**{}**\n{}", title.replace(['*', '\n'], " "), asked.message),
        None => format!("{mark}{}", asked.message),
    }
}
