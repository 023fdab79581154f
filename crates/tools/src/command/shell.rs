//! Starting the shell of a call: its environment, its session, its limits, its one pipe.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    process::Stdio,
};

use nix::{
    sys::resource::{Resource, getrlimit, rlim_t, setrlimit},
    unistd::setsid,
};
use serde::{Deserialize, Serialize};
use tokio::{
    net::unix::pipe::Receiver,
    process::{Child, Command},
};

use crate::{
    arguments::OWN_VARIABLES,
    sandbox::{Confinement, Entry, Inside, PrivateHome, is_value},
};

/// Of the channels, beside `*_API_KEY`.
const CHANNEL_TOKENS: [&str; 4] = ["TELEGRAM_BOT_TOKEN", "SLACK_BOT_TOKEN", "SLACK_APP_TOKEN", "DISCORD_BOT_TOKEN"];

/// So that nothing waits for a person or a pager.
const UNATTENDED: [(&str, &str); 6] = [
    ("DEBIAN_FRONTEND", "noninteractive"),
    ("GIT_PAGER", "cat"),
    ("GIT_TERMINAL_PROMPT", "0"),
    ("PAGER", "cat"),
    ("SUDO_ASKPASS", "/bin/false"),
    ("TERM", "dumb"),
];

const MAX_OPEN_FILES: rlim_t = 1024;
const MAX_PROCESSES: rlim_t = 4096;

/// The shell that runs commands: `bash` if there is one, else `sh`.
#[derive(Debug)]
pub(crate) struct Shell {
    program: PathBuf,
    /// Variables no child sees, beside those of [`is_withheld`].
    withheld: Vec<String>,
}

/// A command line with where and with what it runs. Its secrets are in the variables.
#[derive(Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) text: String,
    pub(crate) directory: PathBuf,
    /// Variables that the call names.
    pub(crate) asked_for: BTreeMap<String, String>,
    /// Variables that nothing overrides.
    pub(crate) variables: Vec<(String, String)>,
}

impl Shell {
    pub(crate) fn find(withheld: Vec<String>) -> Self {
        let path = env::var_os("PATH").unwrap_or_default();
        let bash = env::split_paths(&path)
            .map(|directory| directory.join("bash"))
            .find(|bash| bash.is_absolute() && bash.is_file());
        Self { program: bash.unwrap_or_else(|| PathBuf::from("/bin/sh")), withheld }
    }

    /// Starts a command line; the pipe carries both its outputs.
    pub(crate) fn start(
        &self,
        line: &Line,
        confined: Option<(Confinement, &PrivateHome)>,
    ) -> io::Result<(Child, Receiver)> {
        let (reader, writer) = io::pipe()?;
        // Before the start: nothing may fail once there is a process.
        let reader = Receiver::from_owned_fd(reader.into())?;
        let mut command = Command::new(&self.program);
        command
            .arg("-c")
            .arg(&line.text)
            .current_dir(&line.directory)
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer);
        let (confinement, home) = confined.unzip();
        for name in self.withheld_here(home) {
            command.env_remove(name);
        }
        let homes = home.into_iter().flat_map(|home| ["HOME", "TMPDIR"].map(|name| (name, home.path())));
        let variables = line.variables.iter().map(|(name, value)| (name, value));
        command.envs(UNATTENDED).envs(homes).envs(&line.asked_for).envs(variables);
        isolate(&mut command, confinement)?;
        let child = command.spawn()?;
        // Ours of the pipe's writing ends go with `command`: afterwards only the child's processes hold it open.
        drop(command);
        Ok((child, reader))
    }

    /// Lets a command line into a container; the pipe carries both its outputs. It ends in the container, not with the child.
    pub(crate) fn start_inside(
        &self,
        line: &Line,
        directory: &Path,
        entry: Entry,
    ) -> io::Result<(Child, Receiver, Inside)> {
        let (reader, writer) = io::pipe()?;
        let reader = Receiver::from_owned_fd(reader.into())?;
        let variables = self.variables_inside(line, &entry);
        let (mut command, mut inside) = entry.client(&line.text, directory, &variables)?;
        command.stdout(writer);
        for name in self.withheld_here(None).iter().filter(|name| !is_value(name)) {
            command.env_remove(name);
        }
        // So that the client is found when this process has died.
        command.envs(line.variables.iter().map(|(name, value)| (name, value)));
        isolate(&mut command, None)?;
        let mut child = command.spawn()?;
        drop(command);
        inside.started(&mut child);
        Ok((child, reader, inside))
    }

    /// Of this process only the credentials that are granted.
    fn variables_inside(&self, line: &Line, entry: &Entry) -> BTreeMap<String, String> {
        let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let is_granted = |name: &str| entry.grants(name) && !self.withholds(name, None);
        let granted =
            env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let home = entry.home().and_then(Path::to_str).into_iter();
        let mut variables: BTreeMap<_, _> = UNATTENDED.map(own).into();
        variables.extend(granted.filter(|(name, _)| is_granted(name)));
        variables.extend(home.flat_map(|home| ["HOME", "TMPDIR"].map(|name| own((name, home)))));
        variables.extend(line.asked_for.clone());
        variables.extend(line.variables.iter().cloned());
        variables
    }

    /// What a process that this one starts for a call does not get of its environment.
    pub(crate) fn withheld_here(&self, home: Option<&PrivateHome>) -> Vec<OsString> {
        let names = env::vars_os().map(|(name, _)| name);
        names.filter(|name| self.withholds(&name.to_string_lossy(), home)).collect()
    }

    /// Variables that no child sees, beside those that never do.
    pub(crate) fn withheld(&self) -> &[String] {
        &self.withheld
    }

    /// Whether a variable of the server stays with the server.
    fn withholds(&self, name: &str, home: Option<&PrivateHome>) -> bool {
        let is_out_of_reach = home.is_some_and(|home| !home.keeps(name));
        is_out_of_reach || is_withheld(name) || self.withheld.iter().any(|withheld| withheld == name)
    }
}

/// Whether the product itself may read a credential from this variable: what it has for itself, keys of model providers,
/// tokens of channels.
fn is_withheld(name: &str) -> bool {
    name.starts_with(OWN_VARIABLES) || name.ends_with("_API_KEY") || CHANNEL_TOKENS.contains(&name)
}

/// Own session and process group; bounded processes and files, no core dumps; then the confinement.
fn isolate(command: &mut Command, mut confinement: Option<Confinement>) -> io::Result<()> {
    let limits = [
        lowered(Resource::RLIMIT_NOFILE, MAX_OPEN_FILES)?,
        lowered(Resource::RLIMIT_NPROC, MAX_PROCESSES)?,
        lowered(Resource::RLIMIT_CORE, 0)?,
    ];
    let in_child = move || {
        setsid()?;
        for (resource, limit) in limits {
            setrlimit(resource, limit, limit)?;
        }
        confinement.as_mut().map_or(Ok(()), Confinement::enter)
    };
    #[expect(unsafe_code, reason = "there is no other way to set a session and limits between fork and exec")]
    // SAFETY: the closure only makes system calls, which are async-signal-safe; it neither allocates nor locks.
    unsafe {
        command.pre_exec(in_child);
    }
    Ok(())
}

/// A process may lower its limits only.
fn lowered(resource: Resource, limit: rlim_t) -> io::Result<(Resource, rlim_t)> {
    let (_, hard) = getrlimit(resource)?;
    Ok((resource, limit.min(hard)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_withheld_and_the_rest_is_not() {
        for name in ["OPENAI_API_KEY", "ANTHROPIC_API_KEY", "TELEGRAM_BOT_TOKEN", "STAKPAK_TOKEN", "SLACK_APP_TOKEN"] {
            assert!(is_withheld(name), "{name}");
        }
        for name in ["PATH", "HOME", "AWS_PROFILE", "API_KEYS", "KUBECONFIG"] {
            assert!(!is_withheld(name), "{name}");
        }
    }
}
