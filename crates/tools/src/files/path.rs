//! Where a path leads, and whether a person must be asked before a tool goes there.
//!
//! The question is about the place, not the spelling: symbolic links, `..` and `/proc/self/root` are resolved first. Both
//! the spelling and the place are checked, so a secret directory that is itself a link stays secret.

use std::{
    ffi::OsStr,
    path::{Component, Path, PathBuf},
};

use crate::command::ARTEFACT_PREFIX;

/// Secret, with everything below them, wherever they are: other users have homes too.
const SECRET_NAMES: [&str; 9] =
    [".ssh", ".aws", ".gnupg", ".kube", ".docker", ".azure", ".netrc", ".git-credentials", ".stakpak"];

/// The path as the call means it. An absolute one stays; links are not followed.
pub(crate) fn resolve(cwd: &Path, path: &str) -> PathBuf {
    cwd.join(path)
}

/// Why a person must be asked before a tool looks at or writes to the path, if so. `artefacts` holds a directory a session
/// with kept outputs, which are free to read: their names cannot be guessed.
pub(crate) fn question(path: &Path, cwd: &Path, artefacts: &Path) -> Option<String> {
    let place = place(path);
    if is_artefact(&place, &self::place(artefacts)) {
        return None;
    }
    if is_secret(path) || is_secret(&place) {
        return Some(format!("{} may hold secrets", place.display()));
    }
    (!place.starts_with(self::place(cwd))).then(|| format!("{} is outside the working directory", place.display()))
}

/// Whether the name is that of a place for secrets. Case is ignored, as some file systems do.
pub(crate) fn is_secret(path: &Path) -> bool {
    let names: Vec<String> = path.iter().map(|name| name.to_string_lossy().to_lowercase()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    if names.iter().any(|name| SECRET_NAMES.contains(name))
        || names.windows(2).any(|pair| pair == [".config", "gcloud"])
    {
        return true;
    }
    match names.as_slice() {
        ["/", "etc", "shadow"] | ["/", "proc", .., "environ"] => true,
        [.., name] => name.starts_with(".env") || name.ends_with(".pem"),
        [] => false,
    }
}

/// A kept output itself: not its directory, which would show the names of others.
fn is_artefact(place: &Path, artefacts: &Path) -> bool {
    let named = place.file_name().and_then(OsStr::to_str).is_some_and(|name| name.starts_with(ARTEFACT_PREFIX));
    named && place.parent().and_then(Path::parent) == Some(artefacts)
}

/// The path with every link followed that exists; what does not exist yet follows as it is written.
pub(crate) fn place(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |place, component| match component {
        Component::Prefix(_) | Component::RootDir => place.join(component),
        Component::CurDir => place,
        Component::ParentDir => place.parent().map(Path::to_path_buf).unwrap_or(place),
        Component::Normal(name) => {
            let next = place.join(name);
            next.canonicalize().unwrap_or(next)
        }
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    /// A working directory with a sibling `home`, and the directory of kept outputs.
    fn tree() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let root = tempfile::tempdir().expect("a directory");
        let (work, kept) = (root.path().join("work"), root.path().join(".stakpak/artefacts"));
        for directory in ["work/src", "home/.ssh", "home/.config/gcloud", ".stakpak/artefacts/session"] {
            fs::create_dir_all(root.path().join(directory)).expect("a directory");
        }
        fs::write(root.path().join("home/.ssh/id_rsa"), "key").expect("a file");
        fs::write(kept.join("session/tool-output.stakpak.run_command.1.x.txt"), "out").expect("a file");
        symlink(root.path().join("home/.ssh/id_rsa"), work.join("innocent")).expect("a link");
        symlink(root.path().join("home"), work.join("away")).expect("a link");
        symlink("/", work.join("top")).expect("a link");
        symlink(work.join("src"), work.join("inside")).expect("a link");
        (root, work, kept)
    }

    fn asks(work: &Path, kept: &Path, path: &str) -> bool {
        question(&resolve(work, path), work, kept).is_some()
    }

    #[test]
    fn the_working_directory_is_free() {
        let (_root, work, kept) = tree();
        for path in [".", "src", "src/../src/new/file.rs", "inside/x", "./a/../b", "environ", "shadow"] {
            assert!(!asks(&work, &kept, path), "{path}");
        }
        assert!(!asks(&work, &kept, work.join("src/main.rs").to_str().expect("text")));
    }

    #[test]
    fn secrets_and_the_outside_ask_however_they_are_spelled() {
        let (root, work, kept) = tree();
        for path in [
            "..",
            "../home/notes",
            "src/../../home/notes",
            "innocent",
            "away/notes",
            "away/../notes",
            "top/etc/passwd",
            "/etc/passwd",
            "/etc/shadow",
            "/proc/self/environ",
            "/proc/self/root/etc/shadow",
            ".ssh/id_rsa",
            ".SSH/id_rsa",
            ".env",
            ".env.production",
            ".ENV",
            "certs/server.pem",
            "certs/server.PEM",
            ".config/gcloud/credentials.db",
            ".netrc",
        ] {
            assert!(asks(&work, &kept, path), "{path}");
        }
        // With everything below the working directory, secrets still ask.
        for path in ["home/.ssh/id_rsa", "work/innocent", "proc/self/environ", "proc/1/environ", "etc/shadow"] {
            let (cwd, path) = if path.starts_with("home") || path.starts_with("work") {
                (root.path(), root.path().join(path))
            } else {
                (Path::new("/"), Path::new("/").join(path))
            };
            assert!(question(&path, cwd, &kept).is_some(), "{}", path.display());
        }
    }

    #[test]
    fn a_kept_output_is_free_but_not_its_directory() {
        let (_root, work, kept) = tree();
        let file = kept.join("session/tool-output.stakpak.run_command.1.x.txt");
        assert_eq!(question(&file, &work, &kept), None);
        for path in
            [kept.join("session"), kept.clone(), kept.join("session/../../config.toml"), kept.join("session/other")]
        {
            assert!(question(&path, &work, &kept).is_some(), "{}", path.display());
        }
        symlink(&file, kept.join("session/tool-output.link")).expect("a link");
        symlink("/etc/passwd", kept.join("session/tool-output.evil")).expect("a link");
        assert!(question(&kept.join("session/tool-output.evil"), &work, &kept).is_some());
    }
}
