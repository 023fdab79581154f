//! The options that a container is started with: what makes it a sandbox.

use std::{path::Path, thread::available_parallelism};

use stakpak_agent_core::{Sandbox, SandboxUnavailable};

use super::engine::Engine;
use crate::sandbox::roots::Roots;

const MEMORY: &str = "4g";
const CPUS: usize = 2;
/// Does nothing, for ever; what commands leave behind is its init's.
const WAIT: &str = "exec sleep 2147483647 </dev/null >/dev/null 2>&1";

/// What two containers must have in common to be the same sandbox.
pub(super) fn options(engine: &Engine, sandbox: &Sandbox, roots: &Roots) -> Result<Vec<String>, SandboxUnavailable> {
    let cpus = match sandbox.cpus {
        Some(cpus) => cpus.to_string(),
        None => available_parallelism().map_or(1, |there| there.get().min(CPUS)).to_string(),
    };
    let memory = sandbox.memory.as_deref().unwrap_or(MEMORY);
    let mut options: Vec<String> = ["--detach", "--rm", "--init", "--pull", "never"].map(str::to_owned).into();
    if !sandbox.network {
        options.extend(["--network", "none"].map(str::to_owned));
    }
    let bounds = [
        "--cap-drop",
        "ALL",
        "--security-opt",
        "no-new-privileges",
        "--read-only",
        "--pids-limit",
        "4096",
        "--memory",
        memory,
        "--memory-swap",
        memory,
        "--cpus",
        &cpus,
        "--ulimit",
        "nofile=1024:1024",
        "--ulimit",
        "nproc=4096:4096",
        "--ulimit",
        "core=0:0",
        "--tmpfs",
        "/tmp:rw,nosuid,nodev,size=256m",
    ];
    options.extend(bounds.map(str::to_owned));
    options.extend(engine.user());
    for (places, access) in [(&roots.read, ",readonly"), (&roots.write, "")] {
        for place in places {
            options.extend(["--mount".to_owned(), mount(place, access)?]);
        }
    }
    Ok(options)
}

/// `run` with everything it needs.
pub(super) fn start_arguments(
    options: Vec<String>,
    name: &str,
    labels: &[String],
    home: &Path,
    workspace: &Path,
    image: &str,
) -> Vec<String> {
    let (home, workspace) = (home.display(), workspace.display());
    let mut arguments = vec!["run".to_owned()];
    arguments.extend(options);
    arguments.extend(["--name".to_owned(), name.to_owned()]);
    arguments.extend(labels.iter().flat_map(|label| ["--label".to_owned(), label.clone()]));
    arguments.extend(["--mount".to_owned(), format!("type=bind,source={home},target={home}")]);
    arguments.extend(["--workdir".to_owned(), workspace.to_string()]);
    arguments.extend(["--entrypoint", "/bin/sh", image, "-c", WAIT].map(str::to_owned));
    arguments
}

/// At the same place; an engine fails where there is nothing at the source.
fn mount(place: &Path, access: &str) -> Result<String, SandboxUnavailable> {
    let unusable = || {
        let place = place.display();
        SandboxUnavailable::new(format!("{place} cannot be mounted: the level `container` takes no such characters"))
    };
    let text = place.to_str().filter(|text| !text.contains([',', '"', ':', '\n'])).ok_or_else(unusable)?;
    Ok(format!("type=bind,source={text},target={text}{access}"))
}
