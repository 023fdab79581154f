//! The [`Tools`] of this machine: which tool a call means, and what happens to its result.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use serde_json::Value;
use stakpak_agent_core::{
    Effect, InvalidCall, Place, Probe, Probed, Sandbox, SandboxUnavailable, SecretGrant, Secrets, ToolCall,
    ToolContext, ToolOutcome, ToolSpec, Tools,
};
use stakpak_protocol::{SessionId, ToolCallId};
use stakpak_redact::placeholders;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use crate::{
    arguments::{Arguments, GeneratePassword, View},
    catalogue,
    command::{Commands, Kept, Overflow, file_name, keep_page, keep_text},
    error::ToolError,
    files::{self, Bin},
    modes,
    notify::{Notices, Notifier},
    off_worker::off_worker,
    password,
    processes::{Belongings, calls_with_processes, in_span},
    questions::Answers,
    sandbox::{
        Confined, ConfinedProcess, Confinement, Containers, ContainersConfig, Owner, Sandboxes, remove_leftovers,
    },
    secrets::VaultSecrets,
    shell_question,
    tasks::{Confines, Tasks, TasksConfig},
    text,
    web::Web,
};

/// What a start waits for the removal of containers that an earlier process has left.
const REAP_LIMIT: Duration = Duration::from_secs(5);

/// What the end of a process waits for the removal of its containers.
const END_LIMIT: Duration = Duration::from_secs(4);

/// What the tools need to know.
#[derive(Debug, Clone)]
pub struct LocalToolsConfig {
    /// Where outputs that are too long for a result are kept: a directory a session, files only for their owner.
    pub artefacts: PathBuf,
    /// Where removed files and old versions of changed ones are kept: a directory a session, of which a call has one.
    pub backups: PathBuf,
    /// Environment variables that the configuration reads credentials from. No child process sees them, nor `STAKPAK_*`,
    /// `*_API_KEY` and the tokens of the channels, whether named here or not.
    pub credential_variables: Vec<String>,
    /// `STAKPAK_PROFILE` of child processes.
    pub profile: Option<String>,
    /// What no sandbox opens, beside the usual places for secrets in `home`: state directory, configuration.
    pub protected: Vec<PathBuf>,
    /// The home of the user that this process belongs to.
    pub home: Option<PathBuf>,
    /// Commands in the background.
    pub tasks: TasksConfig,
    /// What keeps the containers of runs that have one.
    pub containers: ContainersConfig,
    /// Where runs tell what they have to tell on their way.
    pub notifier: Option<Arc<dyn Notifier>>,
    /// What runs have told: a directory a session.
    pub notices: PathBuf,
}

/// Commands and files of this machine. A clone shares everything.
#[derive(Debug, Clone)]
pub struct LocalTools {
    specs: Arc<[ToolSpec]>,
    commands: Arc<Commands>,
    tasks: Arc<Tasks>,
    notices: Arc<Notices>,
    web: Arc<Web>,
    sandboxes: Arc<Sandboxes>,
    secrets: VaultSecrets,
    artefacts: PathBuf,
    backups: PathBuf,
    /// What is never removed.
    stays: Arc<[PathBuf]>,
}

impl LocalTools {
    /// Results, progress and files have no secrets, and calls get them back.
    #[must_use]
    pub fn new(config: LocalToolsConfig, secrets: VaultSecrets) -> Self {
        let LocalToolsConfig {
            artefacts,
            backups,
            credential_variables,
            profile,
            protected,
            home,
            tasks,
            containers,
            notifier,
            notices,
        } = config;
        let stays =
            protected.iter().cloned().chain(home.clone()).chain([PathBuf::from("/"), backups.clone()]).collect();
        let commands = Commands::new(credential_variables, secrets.clone(), artefacts.clone(), profile);
        let commands = Arc::new(commands);
        let confines = Confines { protected: protected.clone(), home: home.clone(), containers: containers.clone() };
        let tasks = Tasks::new(tasks, Arc::clone(&commands), secrets.clone(), artefacts.clone(), confines);
        Self {
            specs: catalogue::specs().into(),
            commands,
            tasks: Arc::new(tasks),
            notices: Arc::new(Notices::new(notifier, notices)),
            web: Arc::default(),
            sandboxes: Arc::new(Sandboxes::new(protected, home, containers)),
            secrets,
            artefacts,
            backups,
            stays,
        }
    }

    /// What a sandbox comes to on this machine, for people. An engine that hangs holds it up for a few seconds.
    ///
    /// # Errors
    /// It is not to be had here, and what is missing.
    pub fn sandbox_support(&self, asked: &Sandbox) -> Result<String, SandboxUnavailable> {
        self.sandboxes.support(asked)
    }

    /// Removes the containers of this process. For its end, which an engine that hangs does not hold up for long: what is
    /// left then is removed at the next start.
    pub async fn end_containers(&self) {
        tokio::time::timeout(END_LIMIT, self.with_containers(|containers| containers.end(None))).await.ok();
    }

    async fn with_containers(&self, work: impl FnOnce(&Containers) + Send + 'static) {
        let sandboxes = Arc::clone(&self.sandboxes);
        spawn_blocking(in_span(move || work(sandboxes.containers()))).await.ok();
    }

    /// Has `command` enter a sandbox before its program starts, in a home of its own: as a command of a run would, and with
    /// the same places out of reach. What comes back is kept until the process has ended. Blocks.
    ///
    /// # Errors
    /// The sandbox cannot be set up whole: the command must not be started.
    pub fn confine(
        &self,
        command: &mut tokio::process::Command,
        sandbox: &Sandbox,
        workspace: &Path,
    ) -> Result<ConfinedProcess, SandboxUnavailable> {
        self.sandboxes.for_process(command, sandbox, workspace)
    }

    /// Ends all tasks of all sessions that programs of this name have started; how many there were.
    ///
    /// # Errors
    /// One of them does not end.
    pub async fn end_tasks(&self) -> io::Result<usize> {
        self.tasks.end_all().await
    }

    async fn dispatch(&self, call: &ToolCall, context: ToolContext) -> Result<ToolOutcome, ToolError> {
        let arguments = self.restored(call, context.session_id).await?;
        let arguments = Arguments::parse(&call.name, &arguments)
            .map_err(|InvalidCall { code, message }| ToolError { code, message })?;
        let path = |path: &str| files::resolve(&context.cwd, path);
        let text = match arguments {
            Arguments::RunCommand(command) => {
                let confined = tokio::select! {
                    confined = self.confined_command(&context) => confined?,
                    () = context.cancel.cancelled() => return Ok(ToolOutcome::Cancelled),
                };
                return self.commands.run(command, &call.id, context, confined).await;
            }
            Arguments::RunCommandTask(command) => {
                let line = command_of(call).unwrap_or_default();
                return self.tasks.start(command, line, &context).await;
            }
            // A person was to answer it, and only approved it.
            Arguments::AskUser => Answers::none("the call was approved, not answered").as_result(),
            // What leaves for a chat keeps its placeholders.
            Arguments::Notify(_) => match Arguments::parse(&call.name, &call.arguments) {
                Ok(Arguments::Notify(notify)) => self.notices.notify(&notify, &call.id, &context).await?,
                _ => return Err(ToolError::new("INVALID_ARGUMENTS", "The arguments do not fit")),
            },
            Arguments::GetAllTasks => self.tasks.all(context.session_id).await?,
            Arguments::GetTaskDetails(task) => self.tasks.details(context.session_id, task.task_id.trim()).await?,
            Arguments::WaitForTasks(tasks) => return self.tasks.wait(tasks, &context).await,
            Arguments::CancelTask(task) => self.tasks.cancel(context.session_id, task.task_id.trim()).await?,
            Arguments::View(view) => {
                let (path, confinement) = (path(&view.path), self.confined_files(&context).await?);
                return look(view, path, context.cancel, confinement).await;
            }
            Arguments::Create(create) => {
                let path = path(&create.path);
                off_worker(self.confined_files(&context).await?, move || files::create(&create, &path)).await?
            }
            Arguments::StrReplace(edit) => {
                let (path, bin) = (path(&edit.path), self.bin(&call.id, &context));
                self.forget_old_backups().await;
                let confinement = self.confined_removal(&context, &bin).await?;
                off_worker(confinement, move || files::str_replace(&edit, &path, &bin)).await?
            }
            Arguments::GeneratePassword(asked) => self.password(asked, &call.id, context.session_id).await?,
            Arguments::ViewWebPage(page) => tokio::select! {
                page = self.web.view(&page.url) => self.capped(page?, call, &context).await,
                () = context.cancel.cancelled() => return Ok(ToolOutcome::Cancelled),
            },
            Arguments::Remove(remove) => {
                let (path, bin) = (path(&remove.path), self.bin(&call.id, &context));
                self.forget_old_backups().await;
                off_worker(self.confined_removal(&context, &bin).await?, move || files::remove(&remove, &path, &bin))
                    .await?
            }
        };
        Ok(ToolOutcome::text(text))
    }

    async fn confined_command(&self, context: &ToolContext) -> Result<Option<Confined>, SandboxUnavailable> {
        let (session, run) = (context.session_id, context.run_id);
        self.with_sandboxes(context, move |sandboxes, sandbox, cwd| {
            sandboxes.for_command(sandbox, cwd, Owner::Call(session, Some(run)))
        })
        .await
    }

    /// One password a call, however often it runs.
    async fn password(
        &self,
        asked: GeneratePassword,
        call: &ToolCallId,
        session: SessionId,
    ) -> Result<String, ToolError> {
        let length = usize::try_from(asked.length.unwrap_or(password::DEFAULT_LENGTH)).unwrap_or(usize::MAX);
        let with_symbols = !asked.no_symbols.unwrap_or(false);
        let (secrets, purpose) = (self.secrets.clone(), format!("call:{call}"));
        let make = move || secrets.keep(session, password::RULE, &purpose, || password::generate(length, with_symbols));
        let placeholder = spawn_blocking(in_span(make)).await.ok().flatten();
        placeholder.ok_or_else(|| {
            let message = "The password could not be kept, so none was made: the log of the server says why";
            ToolError::new("WRITE_ERROR", message)
        })
    }

    /// A text as it is put into the context: clean, redacted, and if it is long, head and tail, with the whole in a file.
    async fn capped(&self, text: String, call: &ToolCall, context: &ToolContext) -> String {
        let text = self.cleaned(&text, context.session_id).await;
        let mut kept = Kept::default();
        let Overflow::Now(whole) = kept.push(&text) else { return text };
        let directory = self.artefacts.join(context.session_id.to_string());
        kept.render(&keep_page(directory, &call.id, whole).await)
    }

    /// Where a call puts what it removes or changes: the same when it runs again.
    fn bin(&self, call: &ToolCallId, context: &ToolContext) -> Bin {
        let stays = self.stays.iter().cloned().chain([context.cwd.clone()]).collect();
        Bin { directory: self.backups.join(context.session_id.to_string()).join(file_name(call)), stays }
    }

    async fn forget_old_backups(&self) {
        let root = self.backups.clone();
        spawn_blocking(move || files::forget_old_backups(&root)).await.ok();
    }

    /// As other work on files, and the backup can be written.
    async fn confined_removal(
        &self,
        context: &ToolContext,
        bin: &Bin,
    ) -> Result<Option<Confinement>, SandboxUnavailable> {
        let directory = bin.directory.clone();
        self.with_sandboxes(context, move |sandboxes, sandbox, cwd| sandboxes.for_removal(sandbox, cwd, directory))
            .await
    }

    /// Looks at what a call changes: with its arguments as they are when it runs, and confined as it is.
    async fn look_at<T: Send + Default + 'static>(
        &self,
        call: &ToolCall,
        context: &ToolContext,
        look: impl FnOnce(&Arguments, &Path) -> T + Send + 'static,
    ) -> T {
        let Ok(arguments) = self.restored(call, context.session_id).await else { return T::default() };
        let Ok(arguments) = Arguments::parse(&call.name, &arguments) else { return T::default() };
        let Some(path) = arguments.path().map(|path| files::resolve(&context.cwd, path)) else { return T::default() };
        let Ok(confinement) = self.confined_files(context).await else { return T::default() };
        let (seen, result) = std::sync::mpsc::channel();
        let work = move || {
            let _ = seen.send(look(&arguments, &path));
            Ok(String::new())
        };
        match off_worker(confinement, work).await {
            Ok(_) => result.try_recv().unwrap_or_default(),
            Err(_) => T::default(),
        }
    }

    async fn confined_files(&self, context: &ToolContext) -> Result<Option<Confinement>, SandboxUnavailable> {
        let kept = self.artefacts.join(context.session_id.to_string());
        self.with_sandboxes(context, move |sandboxes, sandbox, cwd| sandboxes.for_files(sandbox, cwd, kept)).await
    }

    /// Off the workers: the paths of a grant are opened one by one.
    async fn with_sandboxes<T: Send + 'static>(
        &self,
        context: &ToolContext,
        confine: impl FnOnce(&Sandboxes, &Sandbox, &Path) -> Result<Option<T>, SandboxUnavailable> + Send + 'static,
    ) -> Result<Option<T>, SandboxUnavailable> {
        if context.sandbox.is_off() {
            return Ok(None);
        }
        let (sandboxes, sandbox, cwd) = (Arc::clone(&self.sandboxes), context.sandbox.clone(), context.cwd.clone());
        let confined = spawn_blocking(move || confine(&sandboxes, &sandbox, &cwd)).await;
        confined.unwrap_or_else(|error| Err(SandboxUnavailable::new(error.to_string())))
    }

    /// The arguments as the call needs them: what they hold now goes to the call and nowhere else. The command line of a
    /// shell is restored by who starts it.
    async fn restored(&self, call: &ToolCall, session: SessionId) -> Result<Value, ToolError> {
        let line = command_of(call).map(Value::String);
        let mut arguments = call.arguments.clone();
        if let (Some(_), Some(command)) = (&line, arguments.get_mut("command")) {
            *command = Value::Null;
        }
        let restored = self.secrets.restore(session, arguments, SecretGrant::All).await;
        let mut arguments = restored.map_err(|error| ToolError::new(error.code(), error.to_string()))?;
        if let (Some(line), Some(command)) = (line, arguments.get_mut("command")) {
            *command = line;
        }
        Ok(arguments)
    }

    async fn cleaned(&self, text: &str, session: SessionId) -> String {
        let clean = text::without_controls(text);
        if clean.trim().is_empty() { "<empty tool result>".to_owned() } else { self.secrets.hide(session, clean).await }
    }
}

/// The command line of a call that runs one, without secrets.
fn command_of(call: &ToolCall) -> Option<String> {
    let runs_one = [catalogue::RUN_COMMAND, catalogue::RUN_COMMAND_TASK].contains(&call.name.as_str());
    runs_one.then(|| call.arguments.get("command")?.as_str().map(str::to_owned)).flatten()
}

async fn look(
    view: View,
    path: PathBuf,
    cancel: CancellationToken,
    confinement: Option<Confinement>,
) -> Result<ToolOutcome, ToolError> {
    let stopped = cancel.clone();
    let text = off_worker(confinement, move || files::view(&view, &path, &stopped)).await;
    if cancel.is_cancelled() { Ok(ToolOutcome::Cancelled) } else { text.map(ToolOutcome::text) }
}

#[async_trait]
impl Tools for LocalTools {
    fn specs(&self) -> Arc<[ToolSpec]> {
        Arc::clone(&self.specs)
    }

    fn meant(&self, call: ToolCall) -> ToolCall {
        modes::meant(call)
    }

    fn check(&self, name: &str, arguments: &Value) -> Result<(), InvalidCall> {
        Arguments::parse(name, arguments).map(|_| ())
    }

    fn effect(&self, call: &ToolCall) -> Effect {
        match Arguments::parse(&call.name, &call.arguments) {
            Ok(
                Arguments::View(_)
                | Arguments::ViewWebPage(_)
                | Arguments::GetAllTasks
                | Arguments::GetTaskDetails(_)
                | Arguments::WaitForTasks(_)
                | Arguments::AskUser,
            ) => Effect::Pure,
            Ok(Arguments::GeneratePassword(_) | Arguments::Notify(_)) => Effect::Keyed,
            Ok(Arguments::RunCommand(run)) if run.env.is_none() && stakpak_shell::read(&run.command).only_looks() => {
                Effect::Pure
            }
            Ok(Arguments::Create(_) | Arguments::StrReplace(_) | Arguments::Remove(_)) => Effect::Probe,
            _ => Effect::Unsafe,
        }
    }

    fn asks_person(&self, call: &ToolCall) -> bool {
        call.name == catalogue::ASK_USER
    }

    fn unanswered(&self, _: &ToolCall) -> String {
        Answers::none("no answer in time").as_result()
    }

    fn place(&self, call: &ToolCall, cwd: &Path) -> Option<Place> {
        let arguments = Arguments::parse(&call.name, &call.arguments).ok()?;
        Some(Place { path: files::place(&files::resolve(cwd, arguments.path()?)), cwd: files::place(cwd) })
    }

    fn needs_question(&self, call: &ToolCall, cwd: &Path) -> Option<String> {
        let arguments = Arguments::parse(&call.name, &call.arguments).ok()?;
        if let Arguments::RunCommand(run) | Arguments::RunCommandTask(run) = &arguments {
            let cwd = cwd.join(run.cwd.as_deref().unwrap_or_default());
            return shell_question::secret_path(&run.command, &cwd);
        }
        let path = arguments.path()?;
        if placeholders(path).next().is_some() {
            return Some("the path holds a secret, so it is not known where it leads".to_owned());
        }
        files::question(&files::resolve(cwd, path), cwd, &self.artefacts)
    }

    fn settle_sandbox(&self, asked: &Sandbox, cwd: &Path) -> Result<Sandbox, SandboxUnavailable> {
        self.sandboxes.settle(asked, cwd)
    }

    async fn probe(&self, call: &ToolCall, context: ToolContext) -> Option<Probe> {
        self.look_at(call, &context, |arguments, path| files::probe(arguments, path).ok().flatten()).await
    }

    async fn probed(&self, call: &ToolCall, probe: &Probe, context: ToolContext) -> Probed {
        let (bin, probe) = (self.bin(&call.id, &context), probe.clone());
        let look = move |arguments: &Arguments, path: &Path| Some(files::probed(arguments, path, &bin, &probe));
        self.look_at(call, &context, look).await.unwrap_or(Probed::Unknown)
    }

    async fn run(&self, call: &ToolCall, context: ToolContext) -> ToolOutcome {
        let session = context.session_id;
        let outcome =
            self.dispatch(call, context).await.unwrap_or_else(|error| ToolOutcome::error(error.code, &error.message));
        match outcome {
            ToolOutcome::Completed { result: Value::String(text), is_error } => {
                ToolOutcome::Completed { result: Value::String(self.cleaned(&text, session).await), is_error }
            }
            other => other,
        }
    }

    async fn keep_text(&self, session: SessionId, text: String) -> io::Result<PathBuf> {
        let directory = self.artefacts.join(session.to_string());
        spawn_blocking(move || keep_text(directory, &text)).await.map_err(io::Error::other)?
    }

    async fn orphans(&self) -> Vec<(SessionId, ToolCallId)> {
        // An engine that hangs must not hold up a start; what it has not removed by then it removes behind it.
        tokio::time::timeout(REAP_LIMIT, self.with_containers(Containers::reap)).await.ok();
        spawn_blocking(calls_with_processes).await.unwrap_or_default()
    }

    async fn end_orphans(&self, session: SessionId, call: &ToolCallId) -> usize {
        let belongings = Belongings::of_call(call, session, None);
        let end = move || {
            let count = belongings.end().len();
            remove_leftovers(Owner::Call(session, None));
            count
        };
        spawn_blocking(in_span(end)).await.unwrap_or_default()
    }

    async fn lingering(&self) -> Vec<SessionId> {
        self.tasks.sessions().await
    }

    async fn at_rest(&self, session: SessionId) {
        self.with_containers(move |containers| containers.at_rest(session)).await;
    }

    async fn end_session(&self, session: SessionId) -> io::Result<()> {
        self.tasks.end_session(session).await?;
        self.with_containers(move |containers| containers.end(Some(session))).await;
        Ok(())
    }

    async fn forget_session(&self, session: SessionId) -> io::Result<()> {
        let secrets = self.secrets.clone();
        self.tasks.forget_session(session).await?;
        self.with_containers(move |containers| containers.end(Some(session))).await;
        self.notices.forget_session(session).await?;
        spawn_blocking(move || secrets.forget(session)).await.map_err(io::Error::other)??;
        for kept in [&self.artefacts, &self.backups] {
            match tokio::fs::remove_dir_all(kept.join(session.to_string())).await {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed?,
            }
        }
        Ok(())
    }
}
