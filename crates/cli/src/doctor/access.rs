//! Who may read what is private, and making it private again.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::PathBuf,
};

use anyhow::{Context, Result};
use nix::unistd::{AccessFlags, access};

use super::Probe;
use crate::home::Home;

/// What only its owner may read, if it is there, and its mode.
fn private(home: &Home) -> Vec<(PathBuf, u32)> {
    let directories = [home.autopilot(""), home.logs(), home.autopilot("owners"), home.autopilot("artefacts")];
    let files = [
        home.config_toml().to_owned(),
        home.auth_toml(),
        home.autopilot_toml(),
        home.gateway_toml(),
        home.token_file(),
        home.autopilot("env"),
        home.autopilot("journal.db"),
        home.autopilot("gateway.db"),
        home.ledger(),
    ];
    let directories = directories.into_iter().map(|path| (path, 0o700));
    let all = directories.chain(files.into_iter().map(|path| (path, 0o600)));
    all.filter(|(path, mode)| fs::metadata(path).is_ok_and(|found| found.mode() & 0o777 & !mode != 0)).collect()
}

pub(super) fn look(home: &Home) -> [Probe; 2] {
    let wide: Vec<_> = private(home).iter().map(|(path, mode)| format!("{}: not {mode:o}", Home::show(path))).collect();
    let permissions = Probe::of_details(
        "config_permissions",
        "only you can read the files",
        "others can read private files",
        wide,
        "`stakpak doctor --fix` makes them private",
    );
    [state_dir(home), permissions]
}

fn state_dir(home: &Home) -> Probe {
    let (id, path) = ("state_dir", home.autopilot(""));
    match access(&path, AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK) {
        Ok(()) => Probe::pass(id, format!("{} can be written", Home::show(&path))),
        Err(error) => {
            let summary = format!("{} cannot be written: {}", Home::show(&path), error.desc());
            Probe::blocking(id, summary, Vec::new(), "make it yours, or choose another with --home")
        }
    }
}

/// Takes from others what they have no business with; what was done.
pub(super) fn fix(home: &Home) -> Result<Vec<String>> {
    private(home)
        .into_iter()
        .map(|(path, mode)| {
            fs::set_permissions(&path, Permissions::from_mode(mode))
                .with_context(|| format!("{} cannot be made private", path.display()))?;
            Ok(format!("{} is {mode:o} now", Home::show(&path)))
        })
        .collect()
}
