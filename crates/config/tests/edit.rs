//! Editing files that people write too, and private files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::{
    convert::Infallible,
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::Path,
    thread,
};

use stakpak_config::{EditError, create_if_absent, edit, private_dir, set, write_private};
use toml_edit::{DocumentMut, value};

const WRITTEN: &str = "\
# my agent
[server]   # the door
listen   =  \"127.0.0.1:4096\"   # loopback
unknown = { b = 1 , a = [ 1,2,  3 ] }


[[schedules]] # first
name = 'disk'
\tcron=\"*/15 * * * *\"
# the end";

fn set_listen(document: &mut DocumentMut) -> Result<(), Infallible> {
    document["server"]["model"] = value("openai/gpt-x");
    Ok(())
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn what_is_not_edited_survives_byte_for_byte() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("autopilot.toml");
    for original in [WRITTEN.to_owned(), WRITTEN.replace('\n', "\r\n"), format!("\u{feff}{WRITTEN}")] {
        fs::write(&path, &original).unwrap();
        edit(&path, |document| {
            let server = document["server"].as_table_like_mut().unwrap();
            set(server, "listen", "127.0.0.1:0");
            set(server.get_mut("unknown").unwrap().as_table_like_mut().unwrap(), "b", 2);
            Ok::<_, Infallible>(())
        })
        .unwrap();
        let edited = fs::read_to_string(&path).unwrap();
        assert_eq!(edited, original.replace("{ b = 1 ", "{ b = 2 ").replace(":4096", ":0"));
    }
    assert_eq!(mode(&path), 0o600);
}

#[test]
fn a_file_that_does_not_parse_is_not_touched() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("autopilot.toml");
    let broken = "[server]\nlisten = \n";
    fs::write(&path, broken).unwrap();
    let before = fs::metadata(&path).unwrap();

    let error = edit(&path, set_listen).unwrap_err();
    let EditError::Unparsable(finding) = error else { panic!("{error}") };
    assert_eq!((finding.code, finding.line), ("E001", 2));

    let after = fs::metadata(&path).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), broken);
    assert_eq!((before.mtime(), before.mtime_nsec()), (after.mtime(), after.mtime_nsec()));
    assert_eq!(before.ino(), after.ino());
}

#[test]
fn a_refused_or_empty_change_writes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("autopilot.toml");
    fs::write(&path, WRITTEN).unwrap();
    let inode = fs::metadata(&path).unwrap().ino();

    let error = edit(&path, |document| {
        document.clear();
        Err::<(), _>(std::io::Error::other("no"))
    });
    assert!(matches!(error, Err(EditError::Refused(_))));
    assert_eq!(edit(&path, |_| Ok::<_, Infallible>(7)).unwrap(), 7);

    assert_eq!(fs::read_to_string(&path).unwrap(), WRITTEN);
    assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
}

#[test]
fn parallel_edits_lose_none() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.toml");
    thread::scope(|scope| {
        for number in 0..50 {
            let path = &path;
            scope.spawn(move || {
                edit(path, |document| {
                    document[&format!("key{number}")] = value(number);
                    Ok::<_, Infallible>(())
                })
                .unwrap();
            });
        }
    });
    let document: DocumentMut = fs::read_to_string(&path).unwrap().parse().unwrap();
    assert_eq!(document.len(), 50);
}

#[test]
fn a_change_by_somebody_without_the_lock_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.toml");
    fs::write(&path, "a = 1\n").unwrap();
    let mut calls = 0;
    edit(&path, |document| {
        calls += 1;
        if calls == 1 {
            fs::write(&path, "a = 1\nb = 2\n").unwrap();
        }
        document["c"] = value(3);
        Ok::<_, Infallible>(())
    })
    .unwrap();
    assert_eq!(calls, 2);
    assert_eq!(fs::read_to_string(&path).unwrap(), "a = 1\nb = 2\nc = 3\n");
}

#[test]
fn a_symbolic_link_stays_one() {
    let directory = tempfile::tempdir().unwrap();
    let dotfiles = directory.path().join("dotfiles");
    fs::create_dir(&dotfiles).unwrap();
    fs::write(dotfiles.join("real.toml"), "[server]\n").unwrap();
    let path = directory.path().join("autopilot.toml");
    symlink("dotfiles/real.toml", &path).unwrap();

    edit(&path, set_listen).unwrap();
    assert_eq!(fs::read_link(&path).unwrap(), Path::new("dotfiles/real.toml"));
    let real = fs::read_to_string(dotfiles.join("real.toml")).unwrap();
    assert_eq!(real, "[server]\nmodel = \"openai/gpt-x\"\n");

    write_private(&path, b"x = 1\n").unwrap();
    assert!(path.is_symlink());
    assert_eq!(fs::read_to_string(dotfiles.join("real.toml")).unwrap(), "x = 1\n");

    let circle = directory.path().join("circle");
    symlink("circle", &circle).unwrap();
    assert!(edit(&circle, set_listen).is_err());
}

#[test]
fn private_files_and_directories_are_private() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("a/b");
    private_dir(&state).unwrap();
    private_dir(&state).unwrap();
    assert_eq!((mode(&state), mode(&directory.path().join("a"))), (0o700, 0o700));

    let token = state.join("token");
    fs::write(&token, "old").unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).unwrap();
    write_private(&token, b"new").unwrap();
    assert_eq!((fs::read_to_string(&token).unwrap().as_str(), mode(&token)), ("new", 0o600));

    let leftovers: Vec<_> = fs::read_dir(&state).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(leftovers, ["token"]);
    assert!(private_dir(&token).is_err());
    assert!(write_private(&directory.path().join("none/token"), b"x").is_err());
}

#[test]
fn a_template_never_replaces_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("autopilot.toml");
    let created: usize = thread::scope(|scope| {
        let make = |number: usize| {
            let path = &path;
            scope.spawn(move || usize::from(create_if_absent(path, &format!("n = {number}\n")).unwrap()))
        };
        (0..8).map(make).collect::<Vec<_>>().into_iter().map(|made| made.join().unwrap()).sum()
    });
    assert_eq!((created, mode(&path)), (1, 0o600));
    let written = fs::read_to_string(&path).unwrap();
    assert!(!create_if_absent(&path, "other").unwrap());
    assert_eq!(fs::read_to_string(&path).unwrap(), written);
}
