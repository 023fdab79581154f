use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Puts a script there that can be started at once.
///
/// `install(1)` writes it: a file that this process has open for writing is also open in what another thread is just
/// forking, and to start it would fail with "Text file busy".
///
/// # Panics
/// If it cannot be written.
#[expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]
pub fn write_executable(path: impl AsRef<Path>, script: impl AsRef<[u8]>) {
    let mut install = install("/dev/stdin".as_ref(), path.as_ref()).stdin(Stdio::piped()).spawn().expect("install(1)");
    let mut stdin = install.stdin.take().expect("its input");
    stdin.write_all(script.as_ref()).expect("it reads");
    drop(stdin);
    assert!(install.wait().expect("its end").success(), "{} cannot be written", path.as_ref().display());
}

/// Puts a copy of a program there that can be started at once, as [`write_executable`] does.
///
/// # Panics
/// If it cannot be written.
#[expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]
pub fn copy_executable(from: impl AsRef<Path>, to: impl AsRef<Path>) {
    let status = install(from.as_ref(), to.as_ref()).status().expect("install(1)");
    assert!(status.success(), "{} cannot be written", to.as_ref().display());
}

fn install(from: &Path, to: &Path) -> Command {
    let mut install = Command::new("install");
    install.args(["-m", "755", "--"]).args([from, to]);
    install
}
