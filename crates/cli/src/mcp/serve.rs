//! `mcp serve`: the tools of this machine over stdin and stdout. Nothing but the conversation is written to stdout.

use std::{path::PathBuf, sync::Arc};

use anyhow::Result;
use stakpak_mcp::{Offer, Serving, Terms};
use stakpak_tools::LocalTools;

use super::{Configured, own_tools};
use crate::{args::Global, autopilot_file::AutopilotFile, home::Home, profiles, secrets, up::StopSignals};

pub(super) async fn stdio(global: &Global, home: &Home, workdir: PathBuf) -> Result<()> {
    let config = home.config_file()?;
    let (policy, sandbox) = profiles::terms(&config, &global.profile)?;
    let terms = Terms { policy, sandbox };
    let token = AutopilotFile::load(home)?.token(home)?;
    let servers = Configured::find(home, &workdir);
    let redactor = secrets::redactor(home, [&token].into_iter().chain(servers.secrets()))?;
    let tools = own_tools(home, "mcp", servers.withheld(home), Some(global.profile.clone()))?;
    let offer = Offer {
        tools: Arc::new(LocalTools::new(tools, secrets::of_sessions(home, redactor.clone()))),
        terms: Arc::new(move || Ok(terms.clone())),
        profile: global.profile.clone(),
        cwd: workdir,
        redactor,
        state: home.autopilot(""),
    };
    let mut signals = StopSignals::new()?;
    Ok(Serving::new(offer).stdio(signals.next()).await?)
}
