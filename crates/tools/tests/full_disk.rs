//! A write that finds no room. Alone in its process: the limit is the process's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod setting;

use nix::sys::{
    resource::{Resource, getrlimit, setrlimit},
    signal::{SigHandler, Signal, signal},
};
use serde_json::json;
use setting::Setting;

/// C-P34: the old file stays as it is, and nothing is left beside it.
#[tokio::test]
async fn a_write_without_room_leaves_the_old_file() {
    let setting = Setting::new();
    let old = format!("{}end", "x".repeat(1 << 20));
    setting.write("file", &old);
    #[expect(unsafe_code, reason = "a write over the limit is to fail, not to end the process")]
    // SAFETY: ignoring a signal installs no handler.
    unsafe {
        signal(Signal::SIGXFSZ, SigHandler::SigIgn).unwrap();
    }
    let (soft, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
    setrlimit(Resource::RLIMIT_FSIZE, 1 << 19, hard).unwrap();
    let replaced = setting.error("str_replace", json!({"path": "file", "old_str": "end", "new_str": "END"})).await;
    let created = setting.error("create", json!({"path": "new", "file_text": old})).await;
    setrlimit(Resource::RLIMIT_FSIZE, soft, hard).unwrap();
    assert!(created.starts_with("WRITE_ERROR\n"), "{created}");
    assert!(replaced.starts_with("BACKUP_ERROR\n"), "{replaced}");
    assert_eq!(setting.backups(), [] as [std::path::PathBuf; 0], "no half of a backup");
    assert_eq!((setting.read("file"), setting.names(".")), (old, vec!["file".to_owned()]));
}
