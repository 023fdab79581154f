//! The ruleset: which files, ports and processes a confined process can reach.
//!
//! All rights that the kernel's version knows are handled, each as a hard requirement; what is handled and not granted is
//! refused.

use std::os::fd::OwnedFd;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, Scope,
};

use super::roots::Roots;

/// With it a truncation is a write.
pub(super) const LEAST_ABI: i32 = 3;
const WITH_PORTS: i32 = 4;
const WITH_SCOPES: i32 = 6;
/// From this one on, sockets in the file system are files like others.
pub(super) const WITH_SOCKET_PATHS: i32 = 9;

/// What the version lacks, for people.
pub(super) fn missing(abi: i32) -> Vec<&'static str> {
    let parts = [
        (WITH_PORTS, "TCP rules (seccomp refuses sockets instead)"),
        (WITH_SCOPES, "signals to processes outside are not refused"),
        (WITH_SCOPES, "abstract UNIX sockets can be reached where unix_sockets is granted"),
        (WITH_SOCKET_PATHS, "UNIX sockets of other programs can be reached where unix_sockets is granted"),
    ];
    parts.into_iter().filter(|(since, _)| abi < *since).map(|(_, what)| what).collect()
}

/// What is not to be had in the workspace either: devices.
fn of_devices() -> BitFlags<AccessFs> {
    AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev
}

pub(super) fn ruleset(abi: i32, roots: &Roots, network: bool) -> Result<RulesetCreated, RulesetError> {
    let known = ABI::from(abi);
    let all = AccessFs::from_all(known);
    let mut ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement).handle_access(all)?;
    if abi >= WITH_PORTS && !network {
        ruleset = ruleset.handle_access(AccessNet::from_all(known))?;
    }
    if abi >= WITH_SCOPES {
        ruleset = ruleset.scope(Scope::from_all(known))?;
    }
    let read = AccessFs::from_read(known);
    let whole = all & !of_devices();
    let device = AccessFs::ReadFile | AccessFs::WriteFile;
    let mut ruleset = ruleset.create()?;
    for (paths, access) in [(&roots.read, read), (&roots.write, whole), (&roots.devices, device)] {
        for path in paths {
            let is_directory = path.is_dir();
            // What has vanished since it was listed needs no rule.
            let Ok(file) = PathFd::new(path) else { continue };
            let access = if is_directory { access } else { access & AccessFs::from_file(known) };
            ruleset = ruleset.add_rule(PathBeneath::new(file, access))?;
        }
    }
    Ok(ruleset)
}

/// Whether there is something behind the ruleset that the kernel can enforce.
pub(super) fn descriptor(ruleset: &RulesetCreated) -> bool {
    ruleset.try_clone().is_ok_and(|copy| Option::<OwnedFd>::from(copy).is_some())
}
