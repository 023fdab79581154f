//! What runs, or what would be in its way: the live instance, its port, and the background service.

use std::{io, net::TcpStream, time::Duration};

use anyhow::Result;
use stakpak_protocol::CheckState;

use super::Probe;
use crate::{
    agent_server::client,
    autopilot_file::AutopilotFile,
    health::Health,
    home::Home,
    instance::{Facts, explain_bind_error},
    service,
};

/// How long somebody on this machine may take to answer.
const PATIENCE: Duration = Duration::from_millis(300);

pub(super) async fn look(home: &Home, file: Option<&AutopilotFile>) -> Result<Vec<Probe>> {
    let running = Facts::of_running(home)?;
    let mut probes = live(home, file, running.as_ref()).await;
    probes.extend(file.map(|file| port(file, running.is_some())));
    probes.extend(file.map(exposure));
    probes.extend(background(home).await);
    Ok(probes)
}

/// The instance, and of it the scheduler.
async fn live(home: &Home, file: Option<&AutopilotFile>, running: Option<&Facts>) -> Vec<Probe> {
    let ids = ["lock_owner", "scheduler_heartbeat"];
    let Some(facts) = running else {
        return ids.map(|id| Probe::skip(id, "nothing runs")).into();
    };
    let named = format!("`stakpak {}` (process {})", facts.mode, facts.pid);
    // A file that cannot be read does not hide what runs.
    let Ok(token) = file.map_or_else(|| home.token(), |file| file.token(home)) else {
        return ids.map(|id| Probe::skip(id, format!("{named} runs; its token is not read"))).into();
    };
    let health = Health::of(&client(&facts.url, Some(&token))).await;
    vec![owner(ids[0], home, facts, &named, health), scheduler(ids[1], health)]
}

fn owner(id: &'static str, home: &Home, facts: &Facts, named: &str, health: Health) -> Probe {
    let advice = "`stakpak logs` tells more; `stakpak restart` starts it anew";
    match health {
        Health::Gone => Probe::warning(id, format!("{named} does not answer at {}", facts.url), Vec::new(), advice),
        health if health.is_good() => Probe::pass(id, format!("{named} works")),
        health => {
            Probe::warning(id, format!("{named} does not do all of its work"), health.lines(&home.logs()), advice)
        }
    }
}

fn scheduler(id: &'static str, health: Health) -> Probe {
    match health.checks().map(|checks| checks.scheduler) {
        Some(CheckState::Ok) => Probe::pass(id, "the scheduler plans"),
        Some(CheckState::Off) => Probe::skip(id, "the scheduler is switched off"),
        Some(_) => {
            Probe::warning(id, "the scheduler does not plan", Vec::new(), "`stakpak logs -c scheduler` tells why")
        }
        None => Probe::skip(id, "the instance does not tell"),
    }
}

fn port(file: &AutopilotFile, is_ours: bool) -> Probe {
    let (id, address) = ("bind_port", file.server.listen);
    if is_ours {
        return Probe::skip(id, "the instance has its port");
    }
    // Asked, not taken: it may be wanted at this moment.
    match TcpStream::connect_timeout(&address, PATIENCE) {
        Err(_) => Probe::pass(id, format!("{address} is free")),
        Ok(_) => {
            let found = explain_bind_error(address, &io::ErrorKind::AddrInUse.into());
            Probe::blocking(id, format!("{address} cannot be had"), vec![found.to_string()], "")
        }
    }
}

/// Who reaches the server, and what they can do with it.
fn exposure(file: &AutopilotFile) -> Probe {
    let (id, address) = ("exposure", file.server.listen);
    let advice = "listen on 127.0.0.1, or take auto_approve_all out of [server]";
    match (address.ip().is_loopback(), file.server.auto_approve_all) {
        (true, false) => Probe::pass(id, "only this machine reaches the server"),
        (false, false) => Probe::info(id, format!("other machines reach {address}, with the token"), ""),
        (true, true) => Probe::warning(id, "auto_approve_all: every tool runs without a question", Vec::new(), advice),
        (false, true) => {
            let summary = format!("other machines reach {address}, and every tool runs without a question");
            Probe::blocking(id, summary, Vec::new(), advice)
        }
    }
}

async fn background(home: &Home) -> Vec<Probe> {
    let Some(state) = service::state(home).await else {
        return vec![Probe::info("service_definition", "no background service is installed", "`stakpak up -d` does")];
    };
    let definition = match state.is_current {
        true => Probe::pass("service_definition", "the background service starts this program as it is"),
        false => Probe::warning(
            "service_definition",
            "the background service starts another program, or with another PATH",
            Vec::new(),
            "`stakpak up -d` writes it anew",
        ),
    };
    let linger = match (state.has_user_manager, state.linger_hint) {
        (true, Some(hint)) => Probe::warning("systemd_linger", hint, Vec::new(), ""),
        (true, None) => Probe::pass("systemd_linger", "it stays when you log out"),
        (false, _) => Probe::skip("systemd_linger", "no unit of systemd"),
    };
    let missing: Vec<String> = match service::environment_of(home) {
        Ok(remarks) => remarks,
        Err(error) => error.to_string().lines().map(|line| line.trim().to_owned()).collect(),
    };
    let advice = "`stakpak up -d --import-env` copies what this shell has";
    let environment = Probe::of_details(
        "service_environment",
        "the background service has the variables that the files need",
        "variables that the background service has not",
        missing,
        advice,
    );
    vec![definition, environment, linger]
}
