//! Whether the sandboxes that profiles ask for are to be had here.

use std::path::Path;

use nix::unistd::{AccessFlags, access};
use stakpak_agent_core::SandboxLevel;
use stakpak_tools::sandbox_support;

use super::Probe;
use crate::{home::Home, sandbox::levels};

const ID: &str = "landlock";

/// Those of earlier versions, for scripts that look for them.
const OF_CONTAINERS: [&str; 3] = ["docker_installed", "docker_accessible", "docker_user_systemd"];

pub(super) fn look(home: &Home) -> Vec<Probe> {
    let containers = OF_CONTAINERS.map(|id| Probe::skip(id, "no sandbox of this version is a container"));
    [landlock(home), mounts(home)].into_iter().chain(containers).collect()
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

fn landlock(home: &Home) -> Probe {
    // A file that cannot be read asks for nothing; it is told of elsewhere.
    let levels = home.config_file().map(|file| levels(&file)).unwrap_or_default();
    if levels.is_empty() {
        let there = sandbox_support(SandboxLevel::Landlock).unwrap_or_else(|error| error.to_string());
        return Probe::skip(ID, format!("no profile asks for a sandbox; {there}"));
    }
    let looks = levels.iter().map(|(profile, level)| {
        sandbox_support(*level).map_err(|error| format!("profile {profile}: {error}; its runs are refused"))
    });
    let (there, missing): (Vec<_>, Vec<_>) = looks.partition(Result::is_ok);
    let there = there.into_iter().filter_map(Result::ok).next().unwrap_or_default();
    let missing = missing.into_iter().filter_map(Result::err).collect();
    let advice = "run the instance on a kernel that has it, or set `sandbox` of the profile to a level that is there";
    Probe::of_details(ID, &there, "a sandbox that a profile asks for cannot be had here", missing, advice)
}
