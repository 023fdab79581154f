//! The directory that a confined call has for its own: `HOME` and `TMPDIR` of its processes, gone when it is over.
//!
//! Credentials get in by name only, as copies.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use nix::unistd::geteuid;
use stakpak_agent_core::SandboxUnavailable;
use stakpak_protocol::{RunId, SessionId};
use tempfile::TempDir;

/// What credentials are, by the name that `sandbox.secrets` knows them by: variables, and files of the home.
struct Credentials {
    name: &'static str,
    /// A name, or with `*` the start of one.
    variables: &'static [&'static str],
    files: &'static [&'static str],
}

const CREDENTIALS: &[Credentials] = &[
    Credentials { name: "aws", variables: &["AWS_*"], files: &[".aws/config", ".aws/credentials"] },
    Credentials {
        name: "azure",
        variables: &["AZURE_*", "ARM_*"],
        files: &[".azure/azureProfile.json", ".azure/msal_token_cache.json", ".azure/service_principal_entries.json"],
    },
    Credentials { name: "docker", variables: &[], files: &[".docker/config.json"] },
    Credentials {
        name: "gcloud",
        variables: &["CLOUDSDK_*"],
        files: &[".config/gcloud/application_default_credentials.json", ".config/gcloud/credentials.db"],
    },
    Credentials { name: "git", variables: &[], files: &[".git-credentials", ".gitconfig", ".netrc"] },
    Credentials { name: "github", variables: &["GH_TOKEN", "GITHUB_TOKEN"], files: &[".config/gh/hosts.yml"] },
    Credentials { name: "kube", variables: &[], files: &[".kube/config"] },
];

/// Of the server's environment: where programs are and how people write; nothing that is a credential.
const KEPT: [&str; 18] = [
    "CARGO_HOME",
    "GOPATH",
    "GOROOT",
    "JAVA_HOME",
    "LANG",
    "LANGUAGE",
    "LC_*",
    "LOGNAME",
    "NIX_PATH",
    "NVM_DIR",
    "PATH",
    "PNPM_HOME",
    "PYENV_ROOT",
    "RUSTUP_HOME",
    "SHELL",
    "TZ",
    "USER",
    "VIRTUAL_ENV",
];

/// Whose processes live in a home.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Owner<'a> {
    /// A call of the session, in this run.
    Call(SessionId, Option<RunId>),
    /// This task of the session.
    Task(SessionId, &'a str),
    /// A container that this process keeps.
    Containers(&'a str),
}

impl Owner<'_> {
    fn prefix(self) -> String {
        match self {
            Self::Call(session, _) => format!("stakpak-call-{session}-"),
            Self::Task(session, task) => format!("stakpak-task-{session}-{task}-"),
            Self::Containers(process) => format!("stakpak-container-{process}-"),
        }
    }
}

/// Removed when dropped.
#[derive(Debug)]
pub(crate) struct PrivateHome {
    directory: TempDir,
    secrets: Vec<String>,
}

/// Whether every name is known.
pub(super) fn check(secrets: &[String]) -> Result<(), SandboxUnavailable> {
    match secrets.iter().find(|name| !CREDENTIALS.iter().any(|known| known.name == **name)) {
        None => Ok(()),
        Some(name) => {
            let known: Vec<_> = CREDENTIALS.iter().map(|known| known.name).collect();
            let message = format!("sandbox.secrets: {name:?} is not known; known are {}", known.join(", "));
            Err(SandboxUnavailable::new(message))
        }
    }
}

impl PrivateHome {
    /// With copies of the credentials of these names, as far as `user_home` has them. Blocks.
    pub(super) fn new(
        owner: Owner<'_>,
        secrets: &[String],
        user_home: Option<&Path>,
    ) -> Result<Self, SandboxUnavailable> {
        let failed =
            |error: io::Error| SandboxUnavailable::new(format!("no temporary directory could be made: {error}"));
        let directory = tempfile::Builder::new()
            .prefix(&owner.prefix())
            .permissions(Permissions::from_mode(0o700))
            .tempdir()
            .map_err(failed)?;
        let home = Self { directory, secrets: secrets.to_vec() };
        for file in home.credentials().flat_map(|credentials| credentials.files) {
            let source = user_home.map(|user_home| user_home.join(file)).filter(|source| source.is_file());
            if let Some(source) = source {
                copy(&source, &home.path().join(file)).map_err(failed)?;
            }
        }
        Ok(home)
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Whether a confined process gets this variable of the server.
    pub(crate) fn keeps(&self, variable: &str) -> bool {
        self.grants(variable) || KEPT.iter().any(|pattern| matches(pattern, variable))
    }

    /// Whether it is one of the credentials that are granted.
    pub(crate) fn grants(&self, variable: &str) -> bool {
        let mut granted = self.credentials().flat_map(|credentials| credentials.variables);
        granted.any(|pattern| matches(pattern, variable))
    }

    fn credentials(&self) -> impl Iterator<Item = &'static Credentials> {
        CREDENTIALS.iter().filter(|known| self.secrets.iter().any(|name| known.name == *name))
    }
}

fn matches(pattern: &str, variable: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => variable.starts_with(start),
        None => variable == pattern,
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::copy(from, to)?;
    fs::set_permissions(to, Permissions::from_mode(0o600))
}

/// Removes what was left behind when the server or the shim died. Blocks.
pub(crate) fn remove_leftovers(owner: Owner<'_>) {
    let (prefix, own) = (owner.prefix(), geteuid().as_raw());
    let entries = fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().to_str().is_some_and(|name| name.starts_with(&prefix))) {
        let path: PathBuf = entry.path();
        if !fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.uid() == own) {
            continue;
        }
        if let Err(error) = fs::remove_dir_all(&path) {
            tracing::warn!(%error, path = %path.display(), "a temporary directory cannot be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// C-P48: what is not named is not there.
    #[test]
    fn credentials_get_in_by_name_only() {
        let user = tempfile::tempdir().expect("a directory");
        for file in [".aws/credentials", ".kube/config", ".ssh/id_rsa"] {
            let file = user.path().join(file);
            fs::create_dir_all(file.parent().expect("a directory")).expect("a directory");
            fs::write(file, "key").expect("a file");
        }
        let session = SessionId::random();
        let home = PrivateHome::new(Owner::Call(session, None), &names(&["aws"]), Some(user.path())).expect("a home");
        assert!(home.path().join(".aws/credentials").is_file());
        assert!(!home.path().join(".kube").exists() && !home.path().join(".ssh").exists());
        assert!(home.keeps("AWS_PROFILE") && home.keeps("PATH") && home.keeps("LC_ALL"));
        for withheld in ["GITHUB_TOKEN", "SSH_AUTH_SOCK", "HOME", "KUBECONFIG", "DATABASE_URL", "OPENAI_API_KEY"] {
            assert!(!home.keeps(withheld), "{withheld}");
        }
        assert!(
            !PrivateHome::new(Owner::Call(session, None), &[], Some(user.path())).expect("a home").keeps("AWS_PROFILE")
        );
        assert!(check(&names(&["aws", "kube"])).is_ok());
        assert!(check(&names(&["awz"])).expect_err("unknown").message.contains("\"awz\" is not known"));
    }

    #[test]
    fn what_a_dead_server_left_is_removed_and_nothing_else() {
        let (mine, other) = (SessionId::random(), SessionId::random());
        let left = PrivateHome::new(Owner::Call(mine, None), &[], None).expect("a home").directory.keep();
        let living = PrivateHome::new(Owner::Call(other, None), &[], None).expect("a home");
        let of_task = PrivateHome::new(Owner::Task(mine, "abc123"), &[], None).expect("a home");
        remove_leftovers(Owner::Call(mine, None));
        assert!(!left.exists() && living.path().exists() && of_task.path().exists());
    }
}
