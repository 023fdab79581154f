//! A unit of the user's systemd.

use std::{fmt::Write, path::PathBuf};

use anyhow::{Context, Result};

use super::{STOP_SLACK, Service, output, tool};
use crate::home::Home;

const UNIT: &str = "stakpak-autopilot.service";

/// Whether the user's manager can be reached.
pub(super) async fn answers() -> bool {
    output("systemctl", &["--user", "show", "--property=Version"]).await.is_ok_and(|output| output.status.success())
}

pub(super) fn unit_path() -> Result<PathBuf> {
    let home = std::env::home_dir().context("HOME is not set")?;
    Ok(home.join(".config/systemd/user").join(UNIT))
}

pub(super) async fn install(service: &Service, home: &Home) -> Result<()> {
    let (path, text) = (unit_path()?, unit(service, home));
    if std::fs::read_to_string(&path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    tool("systemctl", &["--user", "daemon-reload"]).await
}

pub(super) async fn start() -> Result<()> {
    tool("systemctl", &["--user", "enable", "--now", "--no-block", UNIT]).await
}

pub(super) async fn stop() -> Result<()> {
    tool("systemctl", &["--user", "stop", "--no-block", UNIT]).await
}

pub(super) async fn uninstall() -> Result<()> {
    let disabled = tool("systemctl", &["--user", "disable", UNIT]).await;
    let path = unit_path()?;
    if path.exists() {
        std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    tool("systemctl", &["--user", "daemon-reload"]).await.and(disabled)
}

/// What to do so that the service outlives the user's last session; none if it does.
pub(super) async fn linger_hint() -> Option<String> {
    let user = std::env::var("USER").ok()?;
    let shown = output("loginctl", &["show-user", &user, "--property=Linger"]).await.ok()?;
    let lingers = String::from_utf8_lossy(&shown.stdout).trim() == "Linger=yes";
    (!lingers).then(|| format!("it stops when you log out; to keep it: loginctl enable-linger {user}"))
}

fn unit(service: &Service, home: &Home) -> String {
    let command = std::iter::once(service.binary.display().to_string()).chain(service.args.iter().cloned());
    // In commands systemd replaces variables too.
    let command: Vec<String> = command.map(|word| quoted(&word).replace('$', "$$")).collect();
    let mut unit = String::from(
        "# Written by `stakpak up -d`; changes are lost at the next one.\n[Unit]\nDescription=stakpak autopilot\n\
         Wants=network-online.target\nAfter=network-online.target\n\n[Service]\nType=notify\nNotifyAccess=main\n",
    );
    let _ = write!(
        unit,
        "ExecStart={}\nEnvironment={}\nEnvironmentFile=-{}\nRestart=on-failure\nRestartSec=5\nWatchdogSec=60\n\
         KillMode=process\nTimeoutStopSec={}\n\n[Install]\nWantedBy=default.target\n",
        command.join(" "),
        quoted(&format!("PATH={}", service.path)),
        home.autopilot("env").display().to_string().replace('%', "%%"),
        service.drain_secs + STOP_SLACK.as_secs(),
    );
    unit
}

/// One word, whatever is in it.
fn quoted(word: &str) -> String {
    let escaped = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
    format!("\"{escaped}\"")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::args::Backend;

    pub(crate) fn service(backend: Backend) -> Service {
        let args = ["--home", "/home/ann/my state/50%$x", "up", "--from-service", backend.name()];
        Service {
            backend,
            binary: PathBuf::from("/usr/local/bin/stakpak"),
            args: args.map(str::to_owned).to_vec(),
            path: "/usr/bin:/opt/$x/bin".to_owned(),
            drain_secs: 10,
        }
    }

    /// Tasks of sessions outlive the server, a restart of the service too: with any other mode systemd would kill all of the
    /// unit's processes. Calls and tool servers are ended by the server itself; what it left when it was killed, by the next.
    #[test]
    fn systemd_ends_the_server_and_leaves_its_tasks_alone() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(Some(folder.path().join("state")), None).unwrap();
        let text = unit(&service(Backend::Systemd), &home);
        assert!(text.lines().any(|line| line == "KillMode=process"), "{text}");
    }

    #[test]
    fn the_unit_says_all_that_the_service_needs() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(Some(folder.path().join("state")), None).unwrap();
        let text = unit(&service(Backend::Systemd), &home).replace(&folder.path().display().to_string(), "/home/ann");
        insta::assert_snapshot!(text);
    }

    /// Where systemd's own checker is installed, it has nothing to say.
    #[test]
    fn systemd_understands_the_unit() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(Some(folder.path().join("state")), None).unwrap();
        let service = Service { binary: std::env::current_exe().unwrap(), ..service(Backend::Systemd) };
        let file = folder.path().join(UNIT);
        std::fs::write(&file, unit(&service, &home)).unwrap();
        let mut analyze = std::process::Command::new("systemd-analyze");
        analyze.args(["verify", "--user"]).arg(&file).env("XDG_RUNTIME_DIR", folder.path());
        let Ok(checked) = analyze.output() else { return println!("systemd-analyze is not here") };
        assert_eq!(String::from_utf8_lossy(&checked.stderr), "");
        assert!(checked.status.success());
    }
}
