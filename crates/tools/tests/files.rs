//! `view`, `create` and `str_replace` on real files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod setting;

use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
};

use serde_json::json;
use setting::Setting;

fn numbered(lines: usize) -> String {
    (1..=lines).fold(String::new(), |text, line| format!("{text}line {line}\n"))
}

#[tokio::test]
async fn a_file_is_shown_in_numbered_lines_three_hundred_at_most() {
    let setting = Setting::new();
    setting.write("long", &numbered(1000));
    let text = setting.ok("view", json!({"path": "long"})).await;
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("File: ") && lines[0].contains("(lines 1 to 300; there is more"), "{}", lines[0]);
    assert_eq!((lines[1], lines[300], lines.len()), ("  1: line 1", "300: line 300", 301));

    let text = setting.ok("view", json!({"path": "long", "view_range": [999, -1]})).await;
    assert!(text.ends_with("(lines 999 to 1000)\n999: line 999\n1000: line 1000"), "{text}");
    let text = setting.ok("view", json!({"path": "long", "view_range": [7, 7]})).await;
    assert!(text.ends_with("(lines 7 to 7)\n  7: line 7"), "{text}");
    let text = setting.ok("view", json!({"path": "long", "view_range": [1, 900]})).await;
    assert!(text.lines().next().unwrap().contains("go on with view_range [301, 900]"), "{text}");
}

/// C-P35
#[tokio::test]
async fn a_range_that_is_none_is_an_error() {
    let setting = Setting::new();
    setting.write("ten", &numbered(10));
    setting.write("empty", "");
    for range in [[5, 2], [0, 0], [9999, -1], [0, 5], [-3, -1], [1, 0], [1, -2], [11, 12], [i64::MIN, i64::MAX]] {
        let text = setting.error("view", json!({"path": "ten", "view_range": range})).await;
        assert!(text.starts_with("INVALID_RANGE\n"), "{range:?}: {text}");
    }
    assert!(setting.error("view", json!({"path": "ten", "view_range": [9999, -1]})).await.contains("has 10 lines"));
    assert!(setting.ok("view", json!({"path": "ten", "view_range": [1, i64::MAX]})).await.ends_with(" 10: line 10"));
    assert!(setting.ok("view", json!({"path": "empty"})).await.ends_with("is empty"));
}

#[tokio::test]
async fn what_is_no_text_is_named_not_shown() {
    let setting = Setting::new();
    fs::write(setting.cwd().join("picture"), b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR").unwrap();
    let text = setting.ok("view", json!({"path": "picture"})).await;
    assert!(text.contains("binary (image/png, 16 bytes)"), "{text}");
    fs::write(setting.cwd().join("latin"), b"caf\xe9\x1b[31m\x07\n").unwrap();
    assert!(setting.ok("view", json!({"path": "latin"})).await.ends_with("1: caf\u{fffd}"));
    assert!(setting.error("view", json!({"path": "none"})).await.starts_with("FILE_NOT_FOUND\n"));
    assert!(setting.error("view", json!({"path": "/dev/zero"})).await.starts_with("READ_ERROR\n"));
    nix::unistd::mkfifo(&setting.cwd().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(setting.error("view", json!({"path": "fifo"})).await.starts_with("READ_ERROR\n"));
}

#[tokio::test]
async fn a_directory_is_listed_walked_and_searched() {
    let setting = Setting::new();
    for (path, text) in [
        (".gitignore", "target\n"),
        ("a/b/c/d/deep.rs", "needle"),
        ("src/main.rs", "fn main() {}\nlet needle = 1;\n"),
        ("src/lib.txt", "needle"),
        (".hidden", "needle"),
        ("target/out.rs", "needle"),
        (".git/config.rs", "needle"),
        (".env", "KEY=needle"),
        ("keys/server.pem", "needle"),
    ] {
        setting.write(path, text);
    }
    symlink("src", setting.cwd().join("link")).unwrap();
    let text = setting.ok("view", json!({"path": "."})).await;
    assert!(text.contains("(10 entries)") || text.contains("(9 entries)"), "{text}");
    assert!(text.contains("\nlink -> src\n") && text.contains("\nsrc/\n"), "{text}");
    let text = setting.ok("view", json!({"path": ".", "tree": true})).await;
    assert!(text.contains("\na/\n  b/\n    c/\n") && !text.contains("deep.rs") && !text.contains("target"), "{text}");

    let text = setting.ok("view", json!({"path": ".", "glob": "*.rs"})).await;
    assert!(text.ends_with("\na/b/c/d/deep.rs\nsrc/main.rs"), "{text}");
    let text = setting.ok("view", json!({"path": ".", "glob": "src/*.rs"})).await;
    assert!(text.ends_with("\nsrc/main.rs"), "{text}");
    let text = setting.ok("view", json!({"path": ".", "grep": "needle( = \\d)?"})).await;
    assert!(text.contains("\n.hidden:1: needle\n") && text.contains("\nsrc/main.rs:2: let needle = 1;\n"), "{text}");
    assert!(
        !text.contains("KEY") && !text.contains(".pem:") && text.contains("[2 files that may hold secrets"),
        "{text}"
    );
    let text = setting.ok("view", json!({"path": "src", "grep": "needle", "glob": "*.txt"})).await;
    assert!(text.ends_with("\nlib.txt:1: needle"), "{text}");
    let text = setting.ok("view", json!({"path": "src/main.rs", "grep": "^fn"})).await;
    assert!(text.ends_with("\n1: fn main() {}"), "{text}");
    assert!(setting.ok("view", json!({"path": ".", "grep": "nothing like it"})).await.starts_with("Nothing found in "));
    assert!(setting.error("view", json!({"path": ".", "grep": "("})).await.starts_with("INVALID_REGEX\n"));
    assert!(setting.error("view", json!({"path": ".", "glob": "a[" })).await.starts_with("INVALID_GLOB\n"));
}

#[tokio::test]
async fn create_makes_parents_and_never_overwrites() {
    let setting = Setting::new();
    let text = setting.ok("create", json!({"path": "new/dir/file.txt", "file_text": "one\ntwo\n"})).await;
    assert!(text.ends_with("(2 lines, 8 bytes)"), "{text}");
    assert_eq!(setting.read("new/dir/file.txt"), "one\ntwo\n");
    assert_eq!(setting.names("new/dir"), ["file.txt"]);
    symlink("nowhere", setting.cwd().join("dangling")).unwrap();
    for path in ["new/dir/file.txt", "new", "dangling"] {
        let text = setting.error("create", json!({"path": path, "file_text": "x"})).await;
        assert!(text.starts_with("FILE_EXISTS\n"), "{path}: {text}");
    }
    assert_eq!(setting.read("new/dir/file.txt"), "one\ntwo\n");
    assert!(!setting.cwd().join("nowhere").exists());
    let text = setting.error("create", json!({"path": "new/dir/file.txt/below", "file_text": "x"})).await;
    assert!(text.starts_with("WRITE_ERROR\n"), "{text}");
    let mode = fs::metadata(setting.cwd().join("new/dir/file.txt")).unwrap().mode();
    assert_ne!(mode & 0o044, 0, "the umask decides, not the temporary file: {mode:o}");
}

/// C-P34
#[tokio::test]
async fn a_replacement_must_be_unique_unless_all_are_meant() {
    let setting = Setting::new();
    setting.write("f", "alpha\nbeta\nalpha\n");
    let text = setting.error("str_replace", json!({"path": "f", "old_str": "alpha", "new_str": "x"})).await;
    assert!(text.starts_with("STRING_NOT_UNIQUE\n") && text.contains("at lines 1, 3"), "{text}");
    assert_eq!(setting.read("f"), "alpha\nbeta\nalpha\n");

    let text = setting.ok("str_replace", json!({"path": "f", "old_str": "beta\n", "new_str": "gamma\n"})).await;
    assert!(text.contains("in 1 place\n") && text.contains("\n-beta\n+gamma\n"), "{text}");
    let arguments = json!({"path": "f", "old_str": "alpha", "new_str": "x", "replace_all": true});
    assert!(setting.ok("str_replace", arguments).await.contains("in 2 places"));
    assert_eq!(setting.read("f"), "x\ngamma\nx\n");

    let same = setting.error("str_replace", json!({"path": "f", "old_str": "x", "new_str": "x"})).await;
    assert!(same.starts_with("OLD_STR_NEW_STR_IDENTICAL\n"), "{same}");
    setting.write("g", "fn compute(total: u32) {\n    body\n}\n");
    let text =
        setting.error("str_replace", json!({"path": "g", "old_str": "fn compute(sum: u32) {", "new_str": "y"})).await;
    assert!(text.starts_with("STRING_NOT_FOUND\n") && text.contains("\n  1: fn compute(total: u32) {\n"), "{text}");
    assert_eq!(setting.names("."), ["f", "g"]);
}

#[tokio::test]
async fn overlapping_places_are_not_unique() {
    let setting = Setting::new();
    setting.write("g", "ababa\n");
    let text = setting.error("str_replace", json!({"path": "g", "old_str": "aba", "new_str": "x"})).await;
    assert!(text.starts_with("STRING_NOT_UNIQUE\n"), "{text}");
    assert_eq!(setting.read("g"), "ababa\n");
}

#[tokio::test]
async fn typographic_characters_are_found_by_plain_ones() {
    let setting = Setting::new();
    setting.write("f", "say “hello” – it’s\u{a0}me (a+b)\n");
    let arguments = json!({"path": "f", "old_str": "\"hello\" - it's me (a+b)", "new_str": "bye $1"});
    let text = setting.ok("str_replace", arguments).await;
    assert!(text.contains("typographic"), "{text}");
    assert_eq!(setting.read("f"), "say bye $1\n");
}

#[tokio::test]
async fn mode_links_line_ends_and_bom_stay() {
    let setting = Setting::new();
    setting.write("f", "\u{feff}one\r\ntwo\r\nthree\r\n");
    let file = setting.cwd().join("f");
    fs::set_permissions(&file, Permissions::from_mode(0o4751)).unwrap();
    symlink("f", setting.cwd().join("link")).unwrap();
    setting.ok("str_replace", json!({"path": "link", "old_str": "one\ntwo", "new_str": "1\n2"})).await;
    assert_eq!(setting.read("f"), "\u{feff}1\r\n2\r\nthree\r\n");
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o4751);
    assert!(setting.cwd().join("link").symlink_metadata().unwrap().is_symlink());
    fs::write(&file, b"\xff\xfe").unwrap();
    let text = setting.error("str_replace", json!({"path": "f", "old_str": "a", "new_str": "b"})).await;
    assert!(text.starts_with("READ_ERROR\n"), "{text}");
}

/// C-P38
#[tokio::test]
async fn no_path_pattern_or_text_reaches_a_shell() {
    let setting = Setting::new();
    for name in ["$(touch owned)", "`touch owned`", "a'b\"c", "new\nline", "; touch owned", "-rf", "~", "*"] {
        let path = format!("{name}.txt");
        setting.ok("create", json!({"path": path, "file_text": "x $(touch owned)"})).await;
        setting.ok("str_replace", json!({"path": path, "old_str": "x", "new_str": "y`touch owned`"})).await;
        setting.ok("view", json!({"path": path})).await;
        setting.ok("view", json!({"path": ".", "grep": "\\$\\(touch owned\\)", "glob": "*touch owned*"})).await;
        assert!(setting.cwd().join(&path).exists(), "{name}");
    }
    assert!(!setting.cwd().join("owned").exists());
}

#[tokio::test]
async fn secrets_in_files_are_redacted() {
    let setting = Setting::new();
    setting.write("config", &format!("token: {}\n", setting::SECRET));
    for text in [
        setting.ok("view", json!({"path": "config"})).await,
        setting.ok("view", json!({"path": ".", "grep": "token"})).await,
        setting.ok("str_replace", json!({"path": "config", "old_str": "token:", "new_str": "tok:"})).await,
    ] {
        assert!(!text.contains(setting::SECRET), "{text}");
    }
    assert_eq!(setting.read("config"), format!("tok: {}\n", setting::SECRET));
}
