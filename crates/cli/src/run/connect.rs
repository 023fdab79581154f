//! A client of the running instance, or of a server of our own on a free loopback port when none runs.
//!
//! Any number of such servers share the journal, with one another and with an instance that starts meanwhile: each drives its
//! own sessions, and those of a process that lives are refused to the others.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use anyhow::{Result, bail};
use stakpak_agent_core::Profiles;
use stakpak_client::StakpakClient;
use stakpak_config::ConfigFile;
use stakpak_server::edge::EdgePolicy;
use stakpak_tools::ContainerMode;

use crate::{
    agent_server::{AgentServer, Beside, Bound, Options, client},
    args::Global,
    autopilot_file::{AutopilotFile, TasksOnShutdown},
    home::Home,
    instance::Facts,
    mcp, output,
    profiles::ConfigProfiles,
    secrets,
};

/// How long a run that has ended may hold up the end of its own server.
const SETTLE: Duration = Duration::from_secs(3);

/// A client of the running instance, or of a server of our own that lives until [`Connected::end`].
pub(crate) struct Connected {
    pub(crate) client: StakpakClient,
    /// Where tools run.
    pub(crate) workdir: String,
    pub(crate) home: Home,
    reached: Reached,
}

enum Reached {
    Running(Facts),
    Embedded(AgentServer),
}

impl Connected {
    pub(crate) async fn new(global: &Global) -> Result<Self> {
        let home = Home::open(global.home.clone(), global.config.clone())?;
        let file = AutopilotFile::load(&home)?;
        let token = file.token(&home)?;
        let config = home.config_file()?;
        let workdir = std::path::absolute(global.workdir.clone().map_or_else(std::env::current_dir, Ok)?)?;
        let reached = reach(&home, global, config, &file, &token, &workdir).await?;
        let client = client(&reached.url(), Some(&token));
        Ok(Self { client, workdir: workdir.display().to_string(), home, reached })
    }

    /// The same, but never with a server of our own.
    pub(crate) async fn to_running(global: &Global) -> Result<Self> {
        let home = Home::open(global.home.clone(), global.config.clone())?;
        if Facts::of_running(&home)?.is_none() {
            bail!("--detach needs a running instance; start one with `stakpak up -d`");
        }
        Self::new(global).await
    }

    pub(crate) async fn end(self) {
        if let Reached::Embedded(server) = self.reached {
            server.stop(SETTLE).await;
        }
    }
}

impl Reached {
    fn url(&self) -> String {
        match self {
            Self::Running(facts) => facts.url.clone(),
            Self::Embedded(server) => server.url(),
        }
    }
}

async fn reach(
    home: &Home,
    global: &Global,
    config: ConfigFile,
    file: &AutopilotFile,
    token: &str,
    workdir: &Path,
) -> Result<Reached> {
    if let Some(facts) = Facts::of_starting(home).await? {
        return Ok(Reached::Running(facts));
    }
    let profiles: Arc<dyn Profiles> = {
        let days = &file.schedules.budget;
        Arc::new(ConfigProfiles::in_days_of(days, config, &global.profile, None, false)?)
    };
    let mcp = mcp::Configured::find(home, workdir);
    if !output::is_quiet() {
        mcp.left_out().iter().for_each(|reason| eprintln!("{reason}"));
    }
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
        credential_variables: mcp.withheld(home),
        redactor: secrets::redactor(home, [&token.to_owned()].into_iter().chain(mcp.secrets()))?,
        mcp,
        name: format!("`stakpak run` (process {})", std::process::id()),
        mode: "run",
        tasks_on_shutdown: TasksOnShutdown::Keep,
        sandbox_mode: ContainerMode::default(),
        sandbox_levels: Arc::new(Vec::new),
        offers_mcp: false,
    })
    .await?;
    let server = bound.start(home, Beside::default()).await?;
    Ok(Reached::Embedded(server))
}
