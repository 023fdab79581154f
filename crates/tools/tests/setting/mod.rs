//! The tools with a working directory of their own.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde_json::Value;
use stakpak_agent_core::{Sandbox, ToolCall, ToolContext, ToolOutcome, Tools};
use stakpak_protocol::{RunId, SessionId, ToolCallId};
use stakpak_redact::{Redactor, Vaults};
use stakpak_tools::{
    ContainersConfig, LocalTools, LocalToolsConfig, Notice, Notifier, TaskShim, TasksConfig, Unsent, VaultSecrets,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// The redactor knows it.
pub(crate) const SECRET: &str = "hunter2-correct-horse-battery";

pub(crate) struct Setting {
    pub(crate) tools: LocalTools,
    pub(crate) secrets: VaultSecrets,
    pub(crate) session: SessionId,
    directory: tempfile::TempDir,
    containers: ContainersConfig,
}

impl Setting {
    /// With no container engine.
    pub(crate) fn new() -> Self {
        Self::with_containers(|_| {})
    }

    pub(crate) fn with_containers(set: impl Fn(&mut ContainersConfig)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("work")).unwrap();
        let mut containers = ContainersConfig::new(directory.path().join("containers"));
        containers.path = Some("".into());
        set(&mut containers);
        let (tools, secrets) = tools(directory.path(), &containers);
        Self { tools, secrets, session: SessionId::random(), directory, containers }
    }

    /// As another server finds what this one left.
    pub(crate) fn restart(&mut self) {
        (self.tools, self.secrets) = tools(self.directory.path(), &self.containers);
    }

    pub(crate) fn root(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn cwd(&self) -> PathBuf {
        self.directory.path().join("work")
    }

    /// Where outputs of the session are kept.
    pub(crate) fn artefacts(&self) -> PathBuf {
        self.directory.path().join("artefacts").join(self.session.to_string())
    }

    /// Every kept output of the session.
    pub(crate) fn kept(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.artefacts()) else { return Vec::new() };
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    /// What calls of the session have put away.
    pub(crate) fn backups(&self) -> Vec<PathBuf> {
        let of = |directory: &Path| fs::read_dir(directory).into_iter().flatten().map(|entry| entry.unwrap().path());
        let calls = of(&self.root().join("backups").join(self.session.to_string())).collect::<Vec<_>>();
        calls.iter().flat_map(|call| of(call).collect::<Vec<_>>()).collect()
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.cwd().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.cwd().join(path)).unwrap()
    }

    pub(crate) fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.cwd().join(path)).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    pub(crate) fn call(tool: &str, arguments: Value) -> ToolCall {
        let id = ToolCallId(format!("call_{}", RunId::random()));
        ToolCall { id, name: format!("stakpak__{tool}"), arguments, metadata: None }
    }

    pub(crate) fn context(&self) -> (ToolContext, mpsc::Receiver<String>) {
        let (progress, received) = mpsc::channel(64);
        let context = ToolContext {
            session_id: self.session,
            run_id: RunId::random(),
            cwd: self.cwd(),
            sandbox: Sandbox::default(),
            notify_route: None,
            cancel: CancellationToken::new(),
            steered: CancellationToken::new(),
            progress,
        };
        (context, received)
    }

    /// The text of a result and whether it is an error.
    pub(crate) async fn run(&self, tool: &str, arguments: Value) -> (String, bool) {
        let (context, _progress) = self.context();
        completed(self.tools.run(&Self::call(tool, arguments), context).await)
    }

    pub(crate) async fn ok(&self, tool: &str, arguments: Value) -> String {
        let (text, is_error) = self.run(tool, arguments).await;
        assert!(!is_error, "{text}");
        text
    }

    pub(crate) async fn error(&self, tool: &str, arguments: Value) -> String {
        let (text, is_error) = self.run(tool, arguments).await;
        assert!(is_error, "{text}");
        text
    }
}

/// A chat that writes down what it is told.
#[derive(Debug)]
struct Chat(PathBuf);

#[async_trait::async_trait]
impl Notifier for Chat {
    async fn send(&self, notice: &Notice) -> Result<(), Unsent> {
        let mut file = fs::File::options().append(true).create(true).open(&self.0).unwrap();
        writeln!(file, "{} to {} as {}", notice.text, notice.route.target["chat_id"], notice.key).unwrap();
        if notice.text == "refuse this" {
            return Err(Unsent("there is no such chat".to_owned()));
        }
        Ok(())
    }
}

pub(crate) fn tools(directory: &Path, containers: &ContainersConfig) -> (LocalTools, VaultSecrets) {
    let config = LocalToolsConfig {
        artefacts: directory.join("artefacts"),
        backups: directory.join("backups"),
        credential_variables: vec!["CARGO_PKG_VERSION".to_owned()],
        profile: Some("default".to_owned()),
        protected: vec![directory.join("artefacts")],
        home: Some(directory.join("home")),
        tasks: TasksConfig {
            directory: directory.join("tasks"),
            shim: TaskShim {
                program: std::env::current_exe().unwrap(),
                arguments: ["the_shim_of_these_tests", "--exact", "--ignored", "--nocapture"].map(Into::into).into(),
            },
            host: "these tests".to_owned(),
        },
        containers: containers.clone(),
        notifier: Some(Arc::new(Chat(directory.join("chat")))),
        notices: directory.join("notices"),
    };
    let vaults =
        Vaults::new(directory.join("secrets"), directory.join("secrets.key"), Redactor::new([SECRET]).unwrap());
    let secrets = VaultSecrets::new(vaults);
    (LocalTools::new(config, secrets.clone()), secrets)
}

pub(crate) fn completed(outcome: ToolOutcome) -> (String, bool) {
    match outcome {
        ToolOutcome::Completed { result: Value::String(text), is_error } => (text, is_error),
        other => panic!("not completed with a text: {other:?}"),
    }
}

/// Polls with a generous deadline.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

/// Whether the process is there and no zombie.
pub(crate) fn lives(pid: &str) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.trim()).join("stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}
