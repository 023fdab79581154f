//! A container engine's command line: a program that records how it was called, really runs what it is told to, and can
//! misbehave.
//!
//! It isolates nothing. What it starts in a container carries the container's name and is no child of the client.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::executable::write_executable;

/// A directory for a `PATH`, with one engine in it. Dropped, its containers are gone.
#[derive(Debug)]
pub struct FakeEngine {
    directory: tempfile::TempDir,
    name: &'static str,
}

/// What can be wrong with it.
#[derive(Debug, Clone, Copy)]
pub enum Trouble {
    /// Its daemon does not run.
    Dead,
    /// It never answers.
    Hanging,
    /// It has no image.
    WithoutImage,
    /// It bounds no memory.
    Unbounded,
    /// It starts no container.
    Refusing,
    /// It removes none.
    Clinging,
    /// What runs inside does not learn that its input was closed.
    Deaf,
}

impl FakeEngine {
    /// `docker` or `podman`.
    ///
    /// # Panics
    /// If it cannot be put there.
    #[must_use]
    #[expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]
    pub fn new(name: &'static str) -> Self {
        let directory = tempfile::Builder::new().prefix("engine").tempdir().expect("a directory");
        let state = directory.path().join("state");
        for part in ["calls", "containers", "io", "is"] {
            fs::create_dir_all(state.join(part)).expect("a directory");
        }
        let program = directory.path().join("bin").join(name);
        fs::create_dir(directory.path().join("bin")).expect("a directory");
        let script = include_str!("engine/engine.sh").replace("@STATE@", &state.display().to_string());
        write_executable(program, script);
        Self { directory, name }
    }

    /// What goes in a `PATH`.
    #[must_use]
    pub fn bin(&self) -> PathBuf {
        self.directory.path().join("bin")
    }

    /// From now on.
    ///
    /// # Panics
    /// If its state cannot be written.
    #[expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]
    pub fn becomes(&self, trouble: Trouble) {
        fs::write(self.mark(trouble), "").expect("a file");
    }

    /// No longer.
    pub fn recovers_from(&self, trouble: Trouble) {
        drop(fs::remove_file(self.mark(trouble)));
    }

    /// The arguments of each call so far, in order.
    #[must_use]
    pub fn calls(&self) -> Vec<Vec<String>> {
        let call = |path: PathBuf| {
            let text = fs::read_to_string(path).unwrap_or_default();
            text.split_terminator('\0').map(str::to_owned).collect()
        };
        entries(&self.state("calls")).into_iter().map(call).collect()
    }

    /// Those calls that begin with this.
    #[must_use]
    pub fn calls_of(&self, action: &str) -> Vec<Vec<String>> {
        self.calls().into_iter().filter(|call| call.first().is_some_and(|first| first == action)).collect()
    }

    /// Names of the containers that are there.
    #[must_use]
    pub fn containers(&self) -> Vec<String> {
        let name = |path: PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned());
        entries(&self.state("containers")).into_iter().filter_map(name).collect()
    }

    fn state(&self, part: &str) -> PathBuf {
        self.directory.path().join("state").join(part)
    }

    fn mark(&self, trouble: Trouble) -> PathBuf {
        self.state("is").join(match trouble {
            Trouble::Dead => "dead",
            Trouble::Hanging => "hanging",
            Trouble::WithoutImage => "without_image",
            Trouble::Unbounded => "unbounded",
            Trouble::Refusing => "refusing",
            Trouble::Clinging => "clinging",
            Trouble::Deaf => "deaf",
        })
    }
}

impl Drop for FakeEngine {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(self.state("is")));
        let program = self.bin().join(self.name);
        for container in self.containers() {
            drop(std::process::Command::new(&program).args(["rm", "--force", &container]).output());
        }
    }
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}
