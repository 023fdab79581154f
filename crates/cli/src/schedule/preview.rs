//! `schedule trigger --dry-run`: what a run would be. The check runs, nothing is written.

use anyhow::{Context, Result, bail};
use serde_json::json;
use stakpak_agent_core::Profiles;
use stakpak_protocol::AutoApproveMode;
use stakpak_scheduler::{Definition, Preview, preview};

use crate::{
    args::Global, autopilot_file::AutopilotFile, exit::Failure, home::Home, profiles::ConfigProfiles, secrets,
};

pub(super) async fn run(home: &Home, global: &Global, name: &str, no_check: bool) -> Result<()> {
    let file = AutopilotFile::load(home)?;
    let spec = match file.schedules.get(name).map(|schedule| &schedule.definition) {
        Some(Definition::Valid { spec, .. }) => spec,
        Some(Definition::Invalid(errors)) => bail!("schedule {name} is invalid: {}", errors[0]),
        None => bail!("there is no schedule named {name}"),
    };
    let config = home.config_file()?;
    let model = file.server.model.clone();
    let profiles = ConfigProfiles::new(config, &global.profile, model, file.server.auto_approve_all)?;
    let profile = profiles.profile(Some(spec.profile.as_str())).context("the run would fail: profile_invalid")?;
    let model = spec.model.clone().or_else(|| profile.models.default_model());
    let grant = match profile.policy.mode() {
        AutoApproveMode::All => "everything",
        AutoApproveMode::None => "nothing",
        AutoApproveMode::Custom => "what only looks, and what the profile lists",
    };
    // Not made if it is not there: a dry run leaves no trace.
    let token = std::fs::read_to_string(home.token_file()).map(|token| token.trim().to_owned()).ok();
    let redactor = secrets::redactor(home, &token)?;
    let what = preview(spec, no_check, &home.credential_variables(), &redactor).await;
    if global.json {
        let answer = json!({ "command": "autopilot.schedule.trigger", "ok": what.error.is_none(), "dry_run": true,
            "name": name, "preview": what, "profile": spec.profile, "model": model, "unasked": grant });
        say!("{answer}");
    } else {
        tell(&what);
        say!("profile  {}\nmodel    {}\nunasked  {grant}", spec.profile, model.as_deref().unwrap_or("-"));
    }
    if what.error.is_some() {
        bail!(Failure::Silent);
    }
    Ok(())
}

fn tell(what: &Preview) {
    if let Some(check) = &what.check {
        let code = check.exit_code.map_or_else(|| "no exit code".to_owned(), |code| format!("exit code {code}"));
        say!("check    {code}{}", if check.timed_out { ", ended at its time limit" } else { "" });
        for text in [&check.stdout, &check.stderr] {
            text.lines().for_each(|line| say!("         {line}"));
        }
    }
    match (&what.error, what.would_start) {
        (Some(error), _) => say!("fails    {error}"),
        (None, false) => say!("agent    would not start: the check sees nothing to do"),
        (None, true) => say!("agent    would start; nothing was written"),
    }
    for (name, text) in [("message", &what.message), ("context", &what.context)] {
        for (index, line) in text.iter().flat_map(|text| text.lines()).enumerate() {
            say!("{:<8} {line}", if index == 0 { name } else { "" });
        }
    }
}
