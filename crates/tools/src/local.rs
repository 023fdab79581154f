//! The [`Tools`] of this machine: which tool a call means, and what happens to its result.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use serde_json::Value;
use stakpak_agent_core::{Effect, InvalidCall, ToolCall, ToolContext, ToolOutcome, ToolSpec, Tools};
use stakpak_protocol::{SessionId, ToolCallId};
use stakpak_redact::Redactor;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use crate::{
    arguments::{Arguments, View},
    catalogue,
    command::Commands,
    error::ToolError,
    files,
    processes::{Belongings, calls_with_processes, in_span},
    read_only::is_read_only_command,
    text,
};

/// What the tools need to know.
#[derive(Debug, Clone)]
pub struct LocalToolsConfig {
    /// Where outputs that are too long for a result are kept: a directory a session, files only for their owner.
    pub artefacts: PathBuf,
    /// Environment variables that the configuration reads credentials from. No child process sees them, nor `STAKPAK_*`,
    /// `*_API_KEY` and the tokens of the channels, whether named here or not.
    pub credential_variables: Vec<String>,
    /// `STAKPAK_PROFILE` of child processes.
    pub profile: Option<String>,
}

/// Commands and files of this machine. A clone shares everything.
#[derive(Debug, Clone)]
pub struct LocalTools {
    specs: Arc<[ToolSpec]>,
    commands: Arc<Commands>,
    redactor: Redactor,
    artefacts: PathBuf,
}

impl LocalTools {
    /// Results and progress go through the redactor.
    #[must_use]
    pub fn new(config: LocalToolsConfig, redactor: Redactor) -> Self {
        let LocalToolsConfig { artefacts, credential_variables, profile } = config;
        let commands = Commands::new(credential_variables, redactor.clone(), artefacts.clone(), profile);
        Self { specs: catalogue::specs().into(), commands: Arc::new(commands), redactor, artefacts }
    }

    async fn dispatch(&self, call: &ToolCall, context: ToolContext) -> Result<ToolOutcome, ToolError> {
        let arguments = Arguments::parse(&call.name, &call.arguments)
            .map_err(|InvalidCall { code, message }| ToolError { code, message })?;
        let path = |path: &str| files::resolve(&context.cwd, path);
        let text = match arguments {
            Arguments::RunCommand(command) => return self.commands.run(command, &call.id, context).await,
            Arguments::View(view) => {
                let path = path(&view.path);
                return look(view, path, context.cancel).await;
            }
            Arguments::Create(create) => {
                let path = path(&create.path);
                off_worker(move || files::create(&create, &path)).await?
            }
            Arguments::StrReplace(edit) => {
                let path = path(&edit.path);
                off_worker(move || files::str_replace(&edit, &path)).await?
            }
        };
        Ok(ToolOutcome::text(text))
    }

    fn cleaned(&self, text: &str) -> String {
        let clean = text::without_controls(text);
        if clean.trim().is_empty() {
            "<empty tool result>".to_owned()
        } else {
            self.redactor.redact(&clean).into_owned()
        }
    }
}

async fn look(view: View, path: PathBuf, cancel: CancellationToken) -> Result<ToolOutcome, ToolError> {
    let stopped = cancel.clone();
    let text = off_worker(move || files::view(&view, &path, &stopped)).await;
    if cancel.is_cancelled() { Ok(ToolOutcome::Cancelled) } else { text.map(ToolOutcome::text) }
}

async fn off_worker<F>(work: F) -> Result<String, ToolError>
where
    F: FnOnce() -> Result<String, ToolError> + Send + 'static,
{
    let done = spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(ToolError::new("OUTCOME_UNKNOWN", format!("The tool broke off: {error}"))))
}

#[async_trait]
impl Tools for LocalTools {
    fn specs(&self) -> Arc<[ToolSpec]> {
        Arc::clone(&self.specs)
    }

    fn check(&self, name: &str, arguments: &Value) -> Result<(), InvalidCall> {
        Arguments::parse(name, arguments).map(|_| ())
    }

    fn effect(&self, call: &ToolCall) -> Effect {
        match Arguments::parse(&call.name, &call.arguments) {
            Ok(Arguments::View(_)) => Effect::Pure,
            Ok(Arguments::RunCommand(run)) if run.env.is_none() && is_read_only_command(&run.command) => Effect::Pure,
            _ => Effect::Unsafe,
        }
    }

    fn needs_question(&self, call: &ToolCall, cwd: &Path) -> Option<String> {
        let path = match Arguments::parse(&call.name, &call.arguments).ok()? {
            Arguments::RunCommand(_) => return None,
            Arguments::View(view) => view.path,
            Arguments::Create(create) => create.path,
            Arguments::StrReplace(edit) => edit.path,
        };
        files::question(&files::resolve(cwd, &path), cwd, &self.artefacts)
    }

    async fn run(&self, call: &ToolCall, context: ToolContext) -> ToolOutcome {
        let outcome =
            self.dispatch(call, context).await.unwrap_or_else(|error| ToolOutcome::error(error.code, &error.message));
        match outcome {
            ToolOutcome::Completed { result: Value::String(text), is_error } => {
                ToolOutcome::Completed { result: Value::String(self.cleaned(&text)), is_error }
            }
            other => other,
        }
    }

    async fn orphans(&self) -> Vec<(SessionId, ToolCallId)> {
        spawn_blocking(calls_with_processes).await.unwrap_or_default()
    }

    async fn end_orphans(&self, session: SessionId, call: &ToolCallId) -> usize {
        let belongings = Belongings::of_call(call, session, None);
        spawn_blocking(in_span(move || belongings.end().len())).await.unwrap_or_default()
    }

    async fn forget_session(&self, session: SessionId) -> io::Result<()> {
        match tokio::fs::remove_dir_all(self.artefacts.join(session.to_string())).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }
}
