//! `config validate`.

use anyhow::{Result, bail};
use serde_json::json;
use stakpak_config::Severity;

use super::findings;
use crate::{args::Global, exit::Failure, home::Home};

pub(super) fn run(home: &Home, global: &Global, strict: bool) -> Result<()> {
    let findings = findings::of_all(home, &global.profile)?;
    let errors = findings.iter().filter(|finding| strict || finding.severity == Severity::Error).count();
    if global.json {
        say!("{}", json!({ "command": "config.validate", "ok": errors == 0, "strict": strict, "findings": findings }));
    } else {
        findings.iter().for_each(|finding| say!("{finding}"));
        match (errors, findings.len()) {
            (0, 0) => say!("Both files are in order."),
            (0, warnings) => say!("The files can be used; {warnings} to look at."),
            (errors, _) => say!("{errors} to repair."),
        }
    }
    if errors > 0 {
        bail!(Failure::Silent);
    }
    Ok(())
}
