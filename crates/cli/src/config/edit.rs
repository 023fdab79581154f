//! `config edit`: a copy in the editor, written back when it can be used.

use std::{ffi::OsString, fs, process::Command};

use anyhow::{Context, Result, bail};
use serde_json::json;
use stakpak_config::write_private;

use super::{findings, new};
use crate::{
    args::{ConfigFileName, Global},
    exit::Failure,
    home::Home,
};

pub(super) fn run(home: &Home, global: &Global, file: ConfigFileName) -> Result<()> {
    let path = file.path(home);
    let before = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => new::text(file),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let copy = path.with_file_name(format!(".edit-{}", file.name()));
    write_private(&copy, before.as_bytes())?;
    open(&copy)?;
    let after = fs::read_to_string(&copy).with_context(|| format!("cannot read {}", copy.display()))?;
    if after == before {
        fs::remove_file(&copy)?;
        return say(global, file, false);
    }
    let kept = || format!("nothing was written; what you wrote is in {}", Home::show(&copy));
    let worse = findings::worse(file, &before, &after, home, &global.profile).with_context(kept)?;
    if !worse.is_empty() {
        let worse: Vec<_> = worse.iter().map(ToString::to_string).collect();
        bail!("{}\n{}", worse.join("\n"), kept());
    }
    if fs::read_to_string(&path).is_ok_and(|now| now != before) {
        bail!("{} was changed meanwhile; {}", Home::show(&path), kept());
    }
    write_private(&path, after.as_bytes())?;
    fs::remove_file(&copy)?;
    say(global, file, true)
}

fn say(global: &Global, file: ConfigFileName, changed: bool) -> Result<()> {
    if global.json {
        say!("{}", json!({ "command": "config.edit", "ok": true, "changed": changed, "file": file.name() }));
    } else {
        say!("{} is {}.", file.name(), if changed { "written" } else { "as it was" });
    }
    Ok(())
}

/// `$VISUAL`, else `$EDITOR`, else `vi`; either may hold arguments.
fn open(file: &std::path::Path) -> Result<()> {
    let named = |name: &str| std::env::var(name).ok().filter(|editor| !editor.trim().is_empty());
    let editor = named("VISUAL").or_else(|| named("EDITOR")).unwrap_or_else(|| "vi".to_owned());
    let words = shlex::split(&editor).filter(|words| !words.is_empty());
    let words = words.ok_or_else(|| Failure::Usage(format!("$EDITOR cannot be read: {editor}")))?;
    let (program, arguments) = words.split_first().context("$EDITOR is empty")?;
    let status = Command::new(program).args(arguments).arg::<OsString>(file.into()).status();
    let status = status.with_context(|| format!("{program} cannot be started; set EDITOR"))?;
    if !status.success() {
        bail!("{program} failed; nothing was written, what you wrote is in {}", Home::show(file));
    }
    Ok(())
}
