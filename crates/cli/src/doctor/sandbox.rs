//! Whether the sandboxes that profiles ask for are to be had here.

use std::path::Path;

use nix::unistd::{AccessFlags, access};
use stakpak_agent_core::{Sandbox, SandboxLevel};
use stakpak_tools::{container_engines, sandbox_support};

use super::Probe;
use crate::{home::Home, sandbox::asked_for};

const ID: &str = "landlock";

/// A sandbox with the name of the profile that asks for it.
type Asked = (String, Sandbox);

pub(super) fn look(home: &Home) -> Vec<Probe> {
    // A file that cannot be read asks for nothing; it is told of elsewhere.
    let asked = home.config_file().map(|file| asked_for(&file)).unwrap_or_default();
    let of = |level| asked.iter().filter(move |(_, sandbox)| sandbox.level == level).collect::<Vec<_>>();
    let [installed, accessible] = containers(&of(SandboxLevel::Container));
    vec![
        landlock(&of(SandboxLevel::Landlock)),
        mounts(home),
        installed,
        accessible,
        Probe::skip("docker_user_systemd", "the service starts no engine"),
    ]
}

fn containers(asked: &[&Asked]) -> [Probe; 2] {
    let (installed, accessible) = ("docker_installed", "docker_accessible");
    if asked.is_empty() {
        return [installed, accessible].map(|id| Probe::skip(id, "no profile asks for a container"));
    }
    let engines: Vec<String> = container_engines().iter().map(|path| path.display().to_string()).collect();
    let missing =
        if engines.is_empty() { vec!["neither docker nor podman is on the PATH".to_owned()] } else { Vec::new() };
    let is_there = Probe::of_details(
        installed,
        &engines.join(", "),
        "a profile asks for a container, and there is no engine",
        missing,
        "install docker or podman",
    );
    let advice = "start the engine, and name an image that it has as `image` of the profile's sandbox";
    [is_there, support(accessible, asked, advice)]
}

/// What sandboxes are given beyond the working directory.
fn mounts(home: &Home) -> Probe {
    let id = "sandbox_mount_inputs";
    let Ok(config) = home.config_file() else { return Probe::skip(id, "config.toml is not read") };
    let of_profile = |name: &str| Some((name.to_owned(), config.profile(name).ok()?.sandbox?));
    let given: Vec<_> = config.names().filter_map(of_profile).collect();
    let is_above = |path: &Path| home.protected().iter().any(|private| private.starts_with(path));
    let open: Vec<String> = given
        .iter()
        .flat_map(|(name, sandbox)| sandbox.write.iter().map(move |path| (name, path)))
        .filter(|(_, path)| is_above(path))
        .map(|(name, path)| format!("profile {name}: {} holds the state directory", path.display()))
        .collect();
    if !open.is_empty() {
        let summary = "a sandbox may write where the state directory is";
        return Probe::blocking(id, summary, open, "name directories below it in `write` of the profile's sandbox");
    }
    let paths = given
        .iter()
        .flat_map(|(name, sandbox)| sandbox.read.iter().chain(&sandbox.write).map(move |path| (name, path)));
    if paths.clone().next().is_none() {
        return Probe::skip(id, "no sandbox is given more than the working directory");
    }
    let unread = paths.filter_map(|(name, path)| {
        let error = access(path, AccessFlags::R_OK).err()?;
        Some(format!("profile {name}: {}: {}", path.display(), error.desc()))
    });
    let advice = "correct `read` and `write` of the profile's sandbox";
    Probe::of_details(
        id,
        "what sandboxes are given is there",
        "what sandboxes are given is not there",
        unread.collect(),
        advice,
    )
}

fn landlock(asked: &[&Asked]) -> Probe {
    if asked.is_empty() {
        let there = sandbox_support(&SandboxLevel::Landlock.into()).unwrap_or_else(|error| error.to_string());
        return Probe::skip(ID, format!("no profile asks for it; {there}"));
    }
    let advice = "run the instance on a kernel that has it, or set `sandbox` of the profile to a level that is there";
    support(ID, asked, advice)
}

fn support(id: &'static str, asked: &[&Asked], advice: &'static str) -> Probe {
    let looks = asked.iter().map(|(profile, sandbox)| {
        sandbox_support(sandbox).map_err(|error| format!("profile {profile}: {error}; its runs are refused"))
    });
    let (there, missing): (Vec<_>, Vec<_>) = looks.partition(Result::is_ok);
    let there = there.into_iter().filter_map(Result::ok).next().unwrap_or_default();
    let missing = missing.into_iter().filter_map(Result::err).collect();
    Probe::of_details(id, &there, "a sandbox that a profile asks for cannot be had here", missing, advice)
}
