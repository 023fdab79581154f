//! Whether the sandboxes that profiles ask for are to be had here.

use stakpak_agent_core::SandboxLevel;
use stakpak_config::ConfigFile;
use stakpak_tools::sandbox_support;

use super::Probe;
use crate::{home::Home, sandbox::levels};

const ID: &str = "landlock";

pub(super) fn look(home: &Home) -> Probe {
    // A file that cannot be read asks for nothing; it is told of elsewhere.
    let levels = ConfigFile::load(home.config_toml()).map(|file| levels(&file)).unwrap_or_default();
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
