//! Memory does not grow with what a tool reads. Alone in its process, one test at a time: it is the process that is measured.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod setting;

use std::fs::{self, File};

use serde_json::json;
use setting::Setting;

static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// The most memory that the process has had since [`forget_peak`].
fn peak_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// `proc_pid_clear_refs(5)`.
fn forget_peak() {
    fs::write("/proc/self/clear_refs", "5").unwrap();
}

/// Patterns are compiled on first use, and that memory stays.
async fn warm(setting: &Setting) {
    setting.ok("run_command", json!({"command": "seq 1 100000; env; echo key=abcdefghijklmnop"})).await;
    setting.write("warm", "key=abc\n");
    setting.ok("view", json!({"path": "warm"})).await;
}

/// C-P35
#[tokio::test]
async fn one_line_of_a_huge_file_is_all_that_is_kept() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let setting = Setting::new();
    warm(&setting).await;
    let path = setting.cwd().join("huge");
    // Two lines, and a sparse two gigabytes of NUL in the second, beyond what decides about the type.
    fs::write(&path, format!("first\n{}", "x".repeat(16 * 1024))).unwrap();
    File::options().write(true).open(&path).unwrap().set_len(2 << 30).unwrap();
    forget_peak();
    let before = peak_kib();
    let text = setting.ok("view", json!({"path": "huge", "view_range": [1, 1]})).await;
    assert!(text.ends_with("\n  1: first"), "{text}");
    let text = setting.ok("view", json!({"path": "huge", "view_range": [2, 2]})).await;
    assert!(text.ends_with(" [line cut]") && text.len() < 4096);
    let text = setting.error("view", json!({"path": "huge", "view_range": [9999, -1]})).await;
    assert!(text.contains("has 2 lines"), "{text}");
    let grown = peak_kib() - before;
    assert!(grown < 10 * 1024, "{grown} KiB");
}

/// C-P31
#[tokio::test]
async fn a_flood_until_the_timeout_keeps_memory_flat() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let setting = Setting::new();
    warm(&setting).await;
    forget_peak();
    let before = peak_kib();
    let text = setting.error("run_command", json!({"command": "yes", "timeout": 3})).await;
    assert!(text.ends_with("\nCommand timed out after 3 seconds"), "{}", &text[text.len() - 200..]);
    assert!(text.len() < 66 * 1024);
    let grown = peak_kib() - before;
    assert!(grown < 10 * 1024, "{grown} KiB");
    let kept = setting.kept();
    assert!(kept.iter().all(|path| fs::metadata(path).unwrap().len() <= 64 << 20));
}
