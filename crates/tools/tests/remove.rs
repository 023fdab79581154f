//! `remove`, and what is known of file calls after a crash.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod setting;

use std::{
    fs,
    os::unix::fs::{MetadataExt, symlink},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use setting::{SECRET, Setting, completed};
use stakpak_agent_core::{Probed, SandboxLevel, Secrets, ToolCall, Tools};

/// The path of the one backup that a result names.
fn backup(text: &str) -> PathBuf {
    let (_, rest) = text.split_once("<file_backups>\n<file original_path=\"").unwrap();
    let (_, rest) = rest.split_once("backup_path=\"").unwrap();
    let (path, rest) = rest.split_once('"').unwrap();
    assert_eq!(rest, " location=\"local\"/>\n</file_backups>");
    path.into()
}

/// C-P36
#[tokio::test]
async fn what_is_removed_is_whole_in_its_backup() {
    let setting = Setting::new();
    setting.write("file", "text");
    setting.write("tree/a/b", "deep");
    symlink("file", setting.cwd().join("link")).unwrap();
    let text = setting.ok("remove", json!({"path": "file"})).await;
    assert_eq!(fs::read_to_string(backup(&text)).unwrap(), "text");

    let text = setting.error("remove", json!({"path": "tree"})).await;
    assert!(text.starts_with("DIRECTORY_NOT_EMPTY\n") && text.contains("recursive"), "{text}");
    assert_eq!(setting.read("tree/a/b"), "deep");
    let text = setting.ok("remove", json!({"path": "tree", "recursive": true})).await;
    assert_eq!(fs::read_to_string(backup(&text).join("a/b")).unwrap(), "deep");

    setting.write("target/file", "stays");
    symlink("target", setting.cwd().join("to_directory")).unwrap();
    setting.ok("remove", json!({"path": "to_directory"})).await;
    fs::create_dir(setting.cwd().join("empty")).unwrap();
    setting.ok("remove", json!({"path": "empty"})).await;
    setting.ok("remove", json!({"path": "link"})).await;
    assert_eq!((setting.names("."), setting.read("target/file")), (vec!["target".to_owned()], "stays".to_owned()));
    assert!(setting.error("remove", json!({"path": "file"})).await.starts_with("FILE_NOT_FOUND\n"));

    let odd = "a \"b\" <c> & $(touch evil)\nd";
    setting.write(odd, "odd");
    let text = setting.ok("remove", json!({"path": odd})).await;
    assert!(text.contains("a &quot;b&quot; &lt;c&gt; &amp; $(touch evil)"), "{text}");
    assert_eq!(setting.names("."), ["target"]);
}

/// C-P36
#[tokio::test]
async fn what_holds_the_session_or_the_product_is_never_removed() {
    let setting = Setting::new();
    let root = setting.cwd().parent().unwrap().to_owned();
    fs::create_dir_all(root.join("home/.stakpak")).unwrap();
    fs::create_dir_all(root.join("artefacts")).unwrap();
    setting.write("inner/file", "text");
    symlink(&root, setting.cwd().join("up")).unwrap();
    for path in [
        "/".into(),
        "/..".into(),
        ".".into(),
        "..".into(),
        "inner/..".into(),
        setting.cwd(),
        root.clone(),
        "../home".into(),
        "up/home".into(),
        "up/work".into(),
        "../artefacts".into(),
    ] as [PathBuf; 11]
    {
        let text = setting.error("remove", json!({"path": path, "recursive": true})).await;
        assert!(text.starts_with("PATH_DENIED\n"), "{}: {text}", path.display());
    }
    assert_eq!(setting.read("inner/file"), "text");
    setting.ok("remove", json!({"path": "up"})).await;
    assert!(root.join("home").exists(), "the link only");
}

/// C-P36: `/dev/shm` is a file system of its own nearly everywhere.
#[tokio::test]
async fn a_removal_goes_over_the_border_of_a_file_system() {
    let setting = Setting::new();
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev());
    let Ok(other) = tempfile::tempdir_in("/dev/shm") else { return };
    if device(other.path()).unwrap() == device(&setting.cwd()).unwrap() {
        return;
    }
    fs::create_dir_all(other.path().join("tree/a")).unwrap();
    fs::write(other.path().join("tree/a/file"), "text").unwrap();
    fs::write(other.path().join("single"), "one").unwrap();
    let text = setting.ok("remove", json!({"path": other.path().join("tree"), "recursive": true})).await;
    assert_eq!(fs::read_to_string(backup(&text).join("a/file")).unwrap(), "text");
    let text = setting.ok("remove", json!({"path": other.path().join("single")})).await;
    assert_eq!(fs::read_to_string(backup(&text)).unwrap(), "one");
    assert_eq!(fs::read_dir(other.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn backups_go_with_their_session() {
    let setting = Setting::new();
    setting.write("file", "text");
    let backup = backup(&setting.ok("remove", json!({"path": "file"})).await);
    setting.tools.forget_session(setting.session).await.unwrap();
    assert!(!backup.exists());
}

async fn probed(setting: &Setting, call: &ToolCall, act: impl AsyncFnOnce(&ToolCall)) -> Probed {
    let probe = setting.tools.probe(call, setting.context().0).await.unwrap();
    act(call).await;
    setting.tools.probed(call, &probe, setting.context().0).await
}

/// C-P25: done, not done, and neither, for each tool that changes a file.
#[tokio::test]
async fn a_file_tells_after_a_crash_how_far_its_call_got() {
    let calls: [(&str, Value); 3] = [
        ("create", json!({"path": "new/file", "file_text": "text"})),
        ("str_replace", json!({"path": "old", "old_str": "a", "new_str": "b"})),
        ("remove", json!({"path": "old"})),
    ];
    for (tool, arguments) in calls {
        let setting = Setting::new();
        setting.write("old", "a text");
        let call = Setting::call(tool, arguments.clone());
        assert_eq!(probed(&setting, &call, async |_| ()).await, Probed::Untouched, "{tool}");

        let elsewhere = async |_: &ToolCall| {
            let path = setting.cwd().join(arguments["path"].as_str().unwrap());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "somebody else's").unwrap();
        };
        assert_eq!(probed(&setting, &call, elsewhere).await, Probed::Unknown, "{tool}");

        let setting = Setting::new();
        setting.write("old", "a text");
        let told = std::cell::RefCell::new(String::new());
        let run = async |call: &ToolCall| {
            *told.borrow_mut() = setting::completed(setting.tools.run(call, setting.context().0).await).0;
        };
        let Probed::Done(text) = probed(&setting, &call, run).await else { panic!("{tool} was done") };
        let path = setting.cwd().join(arguments["path"].as_str().unwrap());
        assert!(text.contains(&path.display().to_string()), "{text}");
        if tool == "remove" {
            assert_eq!(text, *told.borrow(), "the same backup");
        }
    }
}

/// C-P25: a call that is refused has changed nothing, so it may run again and be refused again.
#[tokio::test]
async fn a_call_that_will_be_refused_is_untouched() {
    let setting = Setting::new();
    setting.write("old", "a a");
    for (tool, arguments) in [
        ("create", json!({"path": "old", "file_text": "a a"})),
        ("str_replace", json!({"path": "old", "old_str": "a", "new_str": "b"})),
        ("str_replace", json!({"path": "none", "old_str": "a", "new_str": "b"})),
        ("remove", json!({"path": "none"})),
    ] {
        let call = Setting::call(tool, arguments);
        assert_eq!(probed(&setting, &call, async |_| ()).await, Probed::Untouched, "{tool}");
    }
    assert_eq!(setting.tools.probe(&Setting::call("view", json!({"path": "old"})), setting.context().0).await, None);
}

/// C-P25, C-P57: the fingerprint is of what is written, and shows none of it.
#[tokio::test]
async fn a_probe_is_of_the_restored_text_and_holds_none_of_it() {
    let setting = Setting::new();
    let hidden = setting.secrets.hide(setting.session, "password=Zk3vQ9xT7mLp2RwY".to_owned()).await;
    assert!(hidden.contains("[REDACTED_SECRET:"), "{hidden}");
    let call = Setting::call("create", json!({"path": "file", "file_text": hidden}));
    let probe = setting.tools.probe(&call, setting.context().0).await.unwrap();
    setting.tools.run(&call, setting.context().0).await;
    assert_eq!(setting.read("file"), "password=Zk3vQ9xT7mLp2RwY");
    assert!(matches!(setting.tools.probed(&call, &probe, setting.context().0).await, Probed::Done(_)));
    let text = serde_json::to_string(&probe).unwrap();
    assert!(!text.contains("Zk3vQ9xT7mLp2RwY") && !text.contains(SECRET), "{text}");
}

/// 7.1: also behind a link, and in a sandbox.
#[tokio::test]
async fn the_old_version_of_a_changed_file_is_kept() {
    let setting = Setting::new();
    setting.write("file", "one\ntwo\n");
    symlink("file", setting.cwd().join("link")).unwrap();
    setting.error("str_replace", json!({"path": "link", "old_str": "three", "new_str": "x"})).await;
    assert!(setting.backups().is_empty(), "nothing was changed");
    setting.ok("str_replace", json!({"path": "link", "old_str": "two", "new_str": "2"})).await;
    let kept = setting.backups();
    assert_eq!(kept.iter().map(|path| path.file_name().unwrap()).collect::<Vec<_>>(), ["file"]);
    assert_eq!(fs::read_to_string(&kept[0]).unwrap(), "one\ntwo\n");
    assert_eq!(fs::metadata(&kept[0]).unwrap().mode() & 0o777, 0o600);
    assert_eq!(setting.read("file"), "one\n2\n");

    if stakpak_tools::sandbox_support(&SandboxLevel::Landlock.into()).is_err() {
        return println!("no landlock here");
    }
    let (mut context, _progress) = setting.context();
    context.sandbox.level = SandboxLevel::Landlock;
    let call = Setting::call("str_replace", json!({"path": "file", "old_str": "one", "new_str": "1"}));
    let (text, is_error) = completed(setting.tools.run(&call, context).await);
    assert!(!is_error, "{text}");
    let kept: Vec<_> = setting.backups().iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    assert!(kept.len() == 2 && kept.contains(&"one\n2\n".to_owned()), "{kept:?}");
    setting.tools.forget_session(setting.session).await.unwrap();
    assert!(setting.backups().is_empty());
}
