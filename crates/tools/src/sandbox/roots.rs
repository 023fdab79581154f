//! Which files a confined call may reach: the system for reading, the workspace for writing, nothing of anybody's home.
//!
//! Landlock only grants, so a grant must not hold anything that is protected. A directory that does is refused; `/etc`, and
//! the home where it is the workspace, are granted entry by entry, and nothing can be made beside those entries.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use stakpak_agent_core::{Sandbox, SandboxUnavailable};

/// For reading and executing, where they are there.
const SYSTEM: [&str; 7] = ["/usr", "/bin", "/sbin", "/opt", "/nix", "/proc", "/sys/devices/system/cpu"];
/// For reading and writing.
const DEVICES: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/tty", "/dev/urandom"];
/// Of a home: nothing in a sandbox reads or writes them, whatever is configured.
const SECRETS_IN_HOME: [&str; 11] = [
    ".ssh",
    ".aws",
    ".gnupg",
    ".kube",
    ".docker",
    ".config/gcloud",
    ".azure",
    ".netrc",
    ".git-credentials",
    ".stakpak",
    ".config/systemd/user",
];

/// What a call may reach. Every path exists.
#[derive(Debug, Clone)]
pub(super) struct Roots {
    /// To read and execute, with everything below.
    pub(super) read: Vec<PathBuf>,
    /// To read, execute and write, with everything below.
    pub(super) write: Vec<PathBuf>,
    /// To read and write: files.
    pub(super) devices: Vec<PathBuf>,
}

impl Roots {
    /// The system's, the workspace and what is configured.
    pub(super) fn of(sandbox: &Sandbox, workspace: &Path, guarded: &Guarded) -> Result<Self, SandboxUnavailable> {
        let mut roots = Self::granted(sandbox, workspace, guarded)?;
        roots.read.extend(system());
        roots.devices = DEVICES.iter().map(PathBuf::from).filter(|path| path.exists()).collect();
        Ok(roots)
    }

    /// The workspace and what is configured; nothing of the system.
    pub(super) fn granted(sandbox: &Sandbox, workspace: &Path, guarded: &Guarded) -> Result<Self, SandboxUnavailable> {
        let read = sandbox.read.iter().map(|path| guarded.granted("sandbox.read", path)).collect::<Result<_, _>>()?;
        let mut write = guarded.workspace(workspace)?;
        for path in &sandbox.write {
            write.push(guarded.granted("sandbox.write", path)?);
        }
        Ok(Self { read, write, devices: Vec::new() })
    }

    /// The same for a thread of this process, which the kernel would show the environment and memory of this process.
    pub(super) fn without_own_process(mut self) -> Self {
        self.read.retain(|path| path != Path::new("/proc"));
        let of_machine = entries(Path::new("/proc"), |name| !name.starts_with(|first: char| first.is_ascii_digit()));
        // What tells of a process is a number, or a link to one.
        self.read.extend(of_machine.into_iter().filter(|path| !path.is_symlink()));
        self
    }
}

/// What no sandbox opens.
#[derive(Debug)]
pub(super) struct Guarded {
    /// Resolved, as far as they exist.
    protected: Vec<PathBuf>,
    /// Of the user that this process belongs to.
    home: Option<PathBuf>,
}

impl Guarded {
    /// These, and the places for secrets in the home.
    pub(super) fn new(protected: Vec<PathBuf>, home: Option<PathBuf>) -> Self {
        let place = |path: PathBuf| path.canonicalize().unwrap_or(path);
        let secrets = home.iter().flat_map(|home| SECRETS_IN_HOME.map(|name| home.join(name)));
        Self { protected: protected.into_iter().chain(secrets).map(place).collect(), home: home.map(place) }
    }

    pub(super) fn home(&self) -> Option<&Path> {
        self.home.as_deref()
    }

    /// The protected place that a grant of this one would open.
    fn opened_by(&self, place: &Path) -> Option<&Path> {
        let opens = |protected: &&PathBuf| protected.starts_with(place) || place.starts_with(protected);
        self.protected.iter().find(opens).map(PathBuf::as_path)
    }

    /// The place of a path that is to be granted as a whole.
    fn granted(&self, what: &str, path: &Path) -> Result<PathBuf, SandboxUnavailable> {
        let unusable = |why: String| SandboxUnavailable::new(format!("{what} {}: {why}", path.display()));
        let place = path.canonicalize().map_err(|error| unusable(error.to_string()))?;
        match self.opened_by(&place) {
            None => Ok(place),
            Some(protected) => Err(unusable(format!(
                "it would open {} to the sandbox; give the session a `cwd`, or the server a --workdir, that has nothing \
                 to protect in it",
                protected.display()
            ))),
        }
    }

    /// The workspace as a whole; of the home, what is neither hidden nor a link.
    fn workspace(&self, workspace: &Path) -> Result<Vec<PathBuf>, SandboxUnavailable> {
        if self.home.is_none() || workspace.canonicalize().ok() != self.home {
            return self.granted("the working directory", workspace).map(|place| vec![place]);
        }
        let visible = entries(workspace, |name| !name.starts_with('.')).into_iter();
        Ok(visible.filter(|path| !path.is_symlink() && self.opened_by(path).is_none()).collect())
    }
}

fn system() -> Vec<PathBuf> {
    let libraries = entries(Path::new("/"), |name| name.starts_with("lib"));
    let settings = entries(Path::new("/etc"), |name| !is_private_setting(name) && name != "ssl");
    let certificates = entries(Path::new("/etc/ssl"), |name| name != "private");
    let system = SYSTEM.iter().map(PathBuf::from).filter(|path| path.exists());
    // What only its owner may read stays so, also where the owner is root and so is this process.
    let public = settings.into_iter().chain(certificates).filter(|path| is_public(path));
    system.chain(libraries).chain(public).collect()
}

fn is_private_setting(name: &str) -> bool {
    ["shadow", "gshadow", "sudoers"].iter().any(|private| name.starts_with(private)) || name == "ssh"
}

fn is_public(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0)
}

fn entries(directory: &Path, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let wanted = |entry: &fs::DirEntry| entry.file_name().to_str().is_some_and(&wanted);
    entries.flatten().filter(wanted).map(|entry| entry.path()).filter(|path| path.exists()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// C-P47: neither what holds a protected directory nor what lies in one is granted, whatever is configured.
    #[test]
    fn nothing_protected_is_granted() {
        let directory = tempfile::tempdir().expect("a directory");
        let root = directory.path().canonicalize().expect("a place");
        for name in ["home/.ssh", "home/work", "state/inner", "elsewhere"] {
            fs::create_dir_all(root.join(name)).expect("a directory");
        }
        std::os::unix::fs::symlink(root.join("state"), root.join("elsewhere/link")).expect("a link");
        std::os::unix::fs::symlink(root.join("state"), root.join("home/link")).expect("a link");
        let guarded = Guarded::new(vec![root.join("state")], Some(root.join("home")));
        let of = |workspace: &str, sandbox: Sandbox| Roots::of(&sandbox, &root.join(workspace), &guarded);
        for workspace in ["", "state", "state/inner", "elsewhere/link", "home/.ssh", "nowhere"] {
            let refused = of(workspace, Sandbox::default()).expect_err(workspace).message;
            assert!(refused.starts_with("the working directory"), "{refused}");
        }
        for path in ["home", "state/inner"] {
            let read = Sandbox { read: vec![root.join(path)], ..Sandbox::default() };
            assert!(of("home/work", read).expect_err(path).message.starts_with("sandbox.read"));
            let write = Sandbox { write: vec![root.join(path)], ..Sandbox::default() };
            assert!(of("home/work", write).expect_err(path).message.starts_with("sandbox.write"));
        }
        let roots = of("home/work", Sandbox::default()).expect("fine");
        assert_eq!(roots.write, [root.join("home/work")]);
        assert_eq!(of("home", Sandbox::default()).expect("entry by entry").write, [root.join("home/work")]);
        assert!(roots.read.contains(&"/usr".into()) && roots.read.contains(&"/etc/passwd".into()));
        for private in ["/etc", "/etc/shadow", "/etc/shadow-", "/etc/ssl", "/etc/ssl/private", "/etc/ssh", "/root"] {
            assert!(!roots.read.contains(&private.into()), "{private}");
        }
    }
}
