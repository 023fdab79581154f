//! `stakpak run`: one run of the agent through the running instance, or through a server of its own when none runs.
//!
//! The answer goes to stdout; progress, questions and the offline notice go to stderr.

pub(crate) mod ask;
pub(crate) mod follow;

use std::{
    collections::BTreeMap,
    io::{IsTerminal, Read},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use stakpak_agent_core::Profiles;
use stakpak_client::{CreateSessionOptions, Message, RunOverrides, SendMessageOptions, StakpakClient};
use stakpak_config::ConfigFile;
use stakpak_protocol::EventId;
use stakpak_server::edge::EdgePolicy;

use crate::{
    agent_server::{AgentServer, Beside, Bound, Options, client},
    args::{Global, RunArgs},
    autopilot_file::AutopilotFile,
    exit::Failure,
    home::Home,
    instance::{Facts, Lock, Owner, Seat},
    profiles::ConfigProfiles,
};

/// How long a run that has ended may hold up the end of its own server.
const SETTLE: Duration = Duration::from_secs(3);

pub(crate) async fn run(global: &Global, args: RunArgs) -> Result<()> {
    let prompt = prompt(&args)?;
    let server = Connected::new(global).await?;
    let outcome = converse(&server, global, &args, prompt).await;
    server.end().await;
    outcome
}

/// A client of the running instance, or of a server of our own that lives until [`Connected::end`].
pub(crate) struct Connected {
    pub(crate) client: StakpakClient,
    /// Where tools run.
    pub(crate) workdir: String,
    home: Home,
    reached: Reached,
}

impl Connected {
    pub(crate) async fn new(global: &Global) -> Result<Self> {
        let home = Home::open(global.home.clone(), global.config.clone())?;
        let file = AutopilotFile::load(&home)?;
        let token = file.token(&home)?;
        let config = ConfigFile::load(home.config_toml())?;
        let workdir = std::path::absolute(global.workdir.clone().map_or_else(std::env::current_dir, Ok)?)?;
        let reached = reach(&home, global, config, &file, &token, &workdir).await?;
        let client = client(&reached.url(), Some(&token));
        Ok(Self { client, workdir: workdir.display().to_string(), home, reached })
    }

    pub(crate) async fn end(self) {
        if let Reached::Embedded { lock, server } = self.reached {
            server.stop(SETTLE).await;
            Facts::remove(&self.home);
            drop(lock);
        }
    }
}

fn prompt(args: &RunArgs) -> Result<String> {
    let prompt = match &args.prompt {
        Some(prompt) => prompt.clone(),
        None if std::io::stdin().is_terminal() => {
            bail!(Failure::Usage("nothing to do: give a prompt, such as `stakpak run \"status\"`".to_owned()))
        }
        None => {
            let mut prompt = String::new();
            std::io::stdin().read_to_string(&mut prompt).context("stdin cannot be read")?;
            prompt
        }
    };
    if prompt.trim().is_empty() {
        bail!(Failure::Usage("the prompt is empty".to_owned()));
    }
    Ok(prompt)
}

enum Reached {
    Running(Facts),
    Embedded { lock: Lock, server: AgentServer },
}

impl Reached {
    fn url(&self) -> String {
        match self {
            Self::Running(facts) => facts.url.clone(),
            Self::Embedded { server, .. } => server.url(),
        }
    }
}

/// The running instance, or a server of our own on a free loopback port.
async fn reach(
    home: &Home,
    global: &Global,
    config: ConfigFile,
    file: &AutopilotFile,
    token: &str,
    workdir: &std::path::Path,
) -> Result<Reached> {
    let lock = match Lock::acquire_patiently(home, Seat::Server).await? {
        Owner::Us(lock) => lock,
        Owner::Other(Some(facts)) if facts.is_server() => return Ok(Reached::Running(facts)),
        Owner::Other(Some(facts)) => bail!(
            "another `stakpak run` (process {}) is using {}; wait for its end, or start `stakpak up` so that several can run",
            facts.pid,
            Home::show(&home.autopilot(""))
        ),
        Owner::Other(None) => bail!("another process holds {}", Home::show(&home.autopilot("autopilot.lock"))),
    };
    let profiles: Arc<dyn Profiles> = Arc::new(ConfigProfiles::new(config, &global.profile, None, false)?);
    let bound = Bound::new(Options {
        bind: ([127, 0, 0, 1], 0).into(),
        token: Some(token.to_owned()),
        named_tokens: BTreeMap::new(),
        profiles,
        workdir: workdir.to_owned(),
        edge: EdgePolicy::default(),
        limits: file.server.limits.clone(),
        approval_ceiling: file.server.approval_ceiling.clone(),
        resume_max_age: None,
        profile: global.profile.clone(),
        credential_variables: home.credential_variables(),
    })
    .await?;
    let server = bound.start(home, Beside::default()).await?;
    Facts {
        pid: std::process::id(),
        started_at: chrono::Utc::now(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        url: server.url(),
        mode: "run".to_owned(),
        profile: global.profile.clone(),
        service: None,
        config: None,
    }
    .write(home)?;
    Ok(Reached::Embedded { lock, server })
}

async fn converse(server: &Connected, global: &Global, args: &RunArgs, prompt: String) -> Result<()> {
    let client = &server.client;
    let session = match &args.session {
        Some(session) => session.clone(),
        None => {
            let title = prompt.lines().next().unwrap_or_default().chars().take(80).collect();
            let cwd = Some(server.workdir.clone());
            client.create_session_with(CreateSessionOptions { title, cwd }).await?.id.to_string()
        }
    };
    let overrides = RunOverrides {
        profile: Some(global.profile.clone()),
        model: args.model.clone(),
        max_turns: Some(args.max_steps),
        ..RunOverrides::default()
    };
    let options = SendMessageOptions { overrides: Some(overrides), ..SendMessageOptions::default() };
    let posted = client.send_messages(&session, vec![Message::user(prompt)], options).await?;
    let run = follow::Run { client, session, run: posted.run_id.into(), json: global.json };
    let answers = ask::Answers::new(args.approve_all, args.reject_all);
    tokio::select! {
        outcome = run.follow(EventId(posted.cursor), answers) => outcome,
        _ = tokio::signal::ctrl_c() => {
            run.cancel().await;
            Err(Failure::Interrupted.into())
        }
    }
}
