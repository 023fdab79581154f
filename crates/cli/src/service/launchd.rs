//! An agent of launchd.

use std::{fmt::Write, path::PathBuf};

use anyhow::{Context, Result};
use nix::unistd::Uid;

use super::{STOP_SLACK, Service, environment, output, tool};
use crate::home::Home;

const LABEL: &str = "dev.stakpak.autopilot";

pub(super) fn plist_path() -> Result<PathBuf> {
    let home = std::env::home_dir().context("HOME is not set")?;
    Ok(home.join("Library/LaunchAgents").join(format!("{LABEL}.plist")))
}

pub(super) fn install(service: &Service, home: &Home) -> Result<()> {
    let path = plist_path()?;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(&path, plist(service, home)).with_context(|| format!("cannot write {}", path.display()))
}

pub(super) async fn start() -> Result<()> {
    // A definition that is loaded is the old one.
    let _ = output("launchctl", &["bootout", &target()]).await;
    let domain = format!("gui/{}", Uid::current());
    tool("launchctl", &["bootstrap", &domain, &plist_path()?.display().to_string()]).await
}

pub(super) async fn stop() -> Result<()> {
    tool("launchctl", &["bootout", &target()]).await
}

pub(super) fn uninstall() -> Result<()> {
    let path = plist_path()?;
    std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))
}

fn target() -> String {
    format!("gui/{}/{LABEL}", Uid::current())
}

/// The variables are read from their own file by a shell: other users may read a property list.
fn plist(service: &Service, home: &Home) -> String {
    let environment = home.autopilot(environment::FILE).display().to_string();
    let script = "set -a; [ -f \"$0\" ] && . \"$0\"; set +a; exec \"$@\"";
    let fixed = ["/bin/sh", "-c", script].map(str::to_owned);
    let binary = service.binary.display().to_string();
    let command = fixed.into_iter().chain([environment, binary]).chain(service.args.iter().cloned());
    let mut words = String::new();
    for word in command {
        let _ = write!(words, "\n    <string>{}</string>", escaped(&word));
    }
    let log = escaped(&home.logs().join("service.log").display().to_string());
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n\
         <plist version=\"1.0\">\n<dict>\n  <key>Label</key>\n  <string>{LABEL}</string>\n\
         \x20 <key>ProgramArguments</key>\n  <array>{words}\n  </array>\n\
         \x20 <key>EnvironmentVariables</key>\n  <dict>\n    <key>PATH</key>\n    <string>{}</string>\n  </dict>\n\
         \x20 <key>RunAtLoad</key>\n  <true/>\n\
         \x20 <key>KeepAlive</key>\n  <dict>\n    <key>SuccessfulExit</key>\n    <false/>\n  </dict>\n\
         \x20 <key>ExitTimeOut</key>\n  <integer>{}</integer>\n\
         \x20 <key>StandardOutPath</key>\n  <string>{log}</string>\n\
         \x20 <key>StandardErrorPath</key>\n  <string>{log}</string>\n</dict>\n</plist>\n",
        escaped(&service.path),
        service.drain_secs + STOP_SLACK.as_secs(),
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{super::systemd::tests::service, *};
    use crate::args::Backend;

    #[test]
    fn the_property_list_says_all_that_the_service_needs() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(Some(folder.path().join("state")), None).unwrap();
        let text = plist(&service(Backend::Launchd), &home).replace(&folder.path().display().to_string(), "/home/ann");
        insta::assert_snapshot!(text);
    }
}
