//! A file system of its own, small enough to be filled: a tmpfs in a mount namespace that only the tested processes are in.

use std::{
    fs::File,
    io::{BufRead, BufReader, ErrorKind, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// Mounted over a directory for as long as this lives, across the ends of the processes on it.
pub struct SmallDisk {
    at: PathBuf,
    /// Keeps the namespace; ends with its input.
    holder: Child,
    enter: &'static [&'static str],
}

impl SmallDisk {
    /// # Errors
    /// Why there is none: mount namespaces are not for everybody everywhere.
    pub fn mount(at: &Path, bytes: u64) -> Result<Self, String> {
        let ways: [(&[&str], &'static [&'static str]); 2] =
            [(&["-m"], &["-m"]), (&["-Urm"], &["-U", "--preserve-credentials", "-m"])];
        let mut refusals = Vec::new();
        for (unshare, enter) in ways {
            match hold(unshare, at, bytes) {
                Ok(holder) => return Ok(Self { at: at.to_owned(), holder, enter }),
                Err(refusal) => refusals.push(refusal),
            }
        }
        Err(refusals.join("; "))
    }

    /// Runs a program on this disk; the process is the program's own.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", self.holder.id())).args(self.enter);
        command.args(["sh", "-c", "cd \"$HOME\" && exec \"$0\" \"$@\"", program]);
        command
    }

    /// Its directory, as those outside reach it.
    pub fn path(&self) -> PathBuf {
        let inside = self.at.strip_prefix("/").unwrap();
        PathBuf::from(format!("/proc/{}/root", self.holder.id())).join(inside)
    }

    /// Takes all the room that is left.
    pub fn fill(&self) {
        let mut filler = File::create(self.path().join("filler")).unwrap();
        let refused = loop {
            if let Err(error) = filler.write_all(&[b'x'; 4096]) {
                break error;
            }
        };
        assert_eq!(refused.kind(), ErrorKind::StorageFull, "{refused}");
    }

    pub fn empty(&self) {
        std::fs::remove_file(self.path().join("filler")).unwrap();
    }
}

fn hold(unshare: &[&str], at: &Path, bytes: u64) -> Result<Child, String> {
    let script = "mount -t tmpfs -o \"size=$1,mode=700\" tmpfs \"$0\" && echo mounted && exec cat";
    let mut command = Command::new("unshare");
    command.args(unshare).args(["sh", "-c", script]).arg(at).arg(bytes.to_string());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut holder = command.spawn().map_err(|error| format!("unshare: {error}"))?;
    let mut line = String::new();
    BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
    if line == "mounted\n" {
        return Ok(holder);
    }
    let output = holder.wait_with_output().unwrap();
    Err(format!("unshare {}: {}", unshare.concat(), String::from_utf8_lossy(&output.stderr).trim()))
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
