//! The oracle: a real bash whose `PATH` holds recording stubs only. What it starts under *approve* is never a denied program.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::{Command, Stdio},
};

use proptest::{prelude::*, sample::select, test_runner::Config};

use super::*;

const STUBS: [&str; 7] = ["git", "echo_", "cat", "find", "env", "rm", "xargs"];

/// Pieces of lines: names in disguises, wrappers, and all that joins them.
fn piece() -> impl Strategy<Value = String> {
    let names = select(vec![
        "rm",
        "'rm'",
        r"\rm",
        "r\"\"m",
        "$'rm'",
        r"$'\162m'",
        "git",
        "cat",
        "find",
        "env",
        "xargs",
        "$X",
        "${X:-rm}",
        "r{m,}",
        "\"r\"m",
        "r\\\nm",
        "[r]m",
        "$(echo rm)",
        "`echo rm`",
        "eval",
        "bash",
        "exec",
        "command",
        "builtin",
        "time",
        "nohup",
    ]);
    let joins = select(vec![
        " ",
        " ",
        " ",
        "; ",
        " && ",
        " || ",
        " | ",
        " & ",
        "\n",
        "(",
        ")",
        "{ ",
        "; }",
        "$(",
        "\"$(",
        ")\"",
        "`",
        "\"",
        "'",
        "<(",
        ">(",
        "<<< ",
        "<<E\n",
        "\nE\n",
        " # ",
        "\\",
        "\\\n",
        "!",
        " ! ",
        "[[ ",
        " ]]",
        "((",
        "))",
        "$((",
        "${A:-",
        "}",
        "if ",
        "; then ",
        "; fi",
        "for i in ",
        "; do ",
        "; done",
        "case a in a) ",
        ";; esac",
        "f(){ ",
        "=",
        "A=",
        "PATH=",
        "~",
        ">/dev/null",
        "2>&1",
        "&>/dev/null",
        "|&",
        ">&",
        "$'",
        "$\"",
        "\\'",
        "{x}>",
        "*",
        "coproc ",
        "function f ",
        "[",
        "]",
        "<&",
    ]);
    let words = select(vec![
        "status",
        "push",
        "-c",
        "'rm x'",
        "\"rm x\"",
        "-exec",
        "{} \\;",
        "+",
        "-n",
        "A=1",
        "X=rm",
        "a",
        "-p",
        "-I{}",
        "--",
        "-",
        "-i",
        "$A",
        "\"$@\"",
        "${X@P}",
        "a[$(rm)]",
        "x='a[$(rm)]'",
        "EXIT",
        "trap",
        "alias",
        "set",
        "-e",
        "esac",
        "in",
        "do",
    ]);
    prop_oneof![3 => names, 4 => joins, 2 => words].prop_map(str::to_owned)
}

/// Lines that are likely to be whole: a disguise inside a construct.
fn whole() -> impl Strategy<Value = String> {
    let disguise = select(vec![
        "rm x",
        "'rm' x",
        r"\rm x",
        "$'rm' x",
        "r\"\"m x",
        "env rm x",
        "command rm x",
        "bash -c 'rm x'",
        "eval rm x",
        "eval 'r''m' x",
        "git; rm x",
        "cat <<< x; rm x",
        "A=1 rm x",
        "find . -exec rm {} +",
        "x='a[$(rm y)]'; cat $((x))",
        "cat <<E\n$(rm x)\nE\n",
        "cat <<'E'\nx\nE\nrm x",
        "git #\\\nrm x",
        "git \\# ; rm x",
        "xargs rm </dev/null",
        "exec rm x",
        "trap 'rm x' EXIT",
        "bash <<E\nrm x\nE\n",
        "bash <<< 'rm x'",
        "time -p rm x",
        "coproc rm x",
        "IFS=x; Y=rmxx; $Y",
        "git 2>&1 >/dev/null; rm",
    ]);
    let frame = select(vec![
        "@",
        "(@)",
        "{ @\n}",
        "cat \"$(@)\"",
        "cat $(@)",
        "cat `@`",
        "if @\nthen git; fi",
        "for i in 1; do @\ndone",
        "! @",
        "cat <(@)",
        "git | { @\n}",
        "while @\ndo break; done",
        "case a in a) @\n;; esac",
        "git \"a$(cat \"b$(@)\")\"",
        "cat ${A:-$(@)}",
        "[[ -n $(@) ]]",
        "f(){ @\n}; f",
        "git && @",
        "git\n@",
        "cat \"${A:-\"$(@)\"}\"",
        "cat ${A:-'$(@)'}",
        "cat $(: # )\n@\n)",
        "cat \"$(cat <<E\n)\nE\n@\n)\"",
        "cat \"$(case x in x) @\n;; esac)\"",
        "cat <<E\n`@`\nE\n",
        "cat <<\\E\n\nE\n@",
    ]);
    (disguise, frame).prop_map(|(disguise, frame)| frame.replace('@', disguise))
}

fn stubs(folder: &Path) {
    let bin = folder.join("bin");
    fs::create_dir(&bin).unwrap();
    for name in STUBS {
        // Named by what it was called as; `xargs` and `env` do not start anything themselves: their rules are wrappers' rules.
        let script = format!("#!/bin/bash\nprintf '%s\\n' \"{name}\" >> {}\n", folder.join("started").display());
        fs::write(bin.join(name), script).unwrap();
        fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    symlink("/bin/bash", bin.join("bash")).unwrap();
    symlink("/bin/bash", bin.join("sh")).unwrap();
}

fn started(folder: &Path, line: &str) -> String {
    let log = folder.join("started");
    let _ = fs::remove_file(&log);
    let mut command = Command::new("/bin/bash");
    command.arg("-c").arg(line).env_clear().env("PATH", folder.join("bin")).current_dir(folder.join("cwd"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // A line that loops is cut: what it started by then counts.
    let limited = "ulimit -t 2 -u 4096; exec \"$@\"";
    let mut guarded = Command::new("/bin/bash");
    guarded
        .arg("-c")
        .arg(limited)
        .arg("_")
        .arg("/usr/bin/timeout")
        .args(["-s", "KILL", "5"])
        .arg(command.get_program());
    guarded.args(command.get_args()).env_clear().env("PATH", folder.join("bin")).current_dir(folder.join("cwd"));
    guarded.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let _ = guarded.status();
    fs::read_to_string(log).unwrap_or_default()
}

fn never_starts_what_is_denied(folder: &Path, line: &str) {
    let approved =
        ["git", "cat", "find", "env", "bash", "eval", "trap", "echo", "exec", "xargs", "[", ":", "break", "set"];
    let approved: Vec<_> = approved.into_iter().map(|program| (program, Auto)).chain([("rm", Deny)]).collect();
    for policy in [commands(&approved, Ask), commands(&[("rm", Deny)], Auto)] {
        if of_line(&policy, line) == Auto {
            let started = started(folder, line);
            assert!(
                !started.lines().any(|program| program == "rm"),
                "{line:?} started rm: {:?}",
                stakpak_shell::read(line)
            );
            return;
        }
    }
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("cwd")).unwrap();
    stubs(folder.path());
    folder
}

/// How many lines of each kind; the recipe for long runs sets more.
fn cases() -> u32 {
    std::env::var("STAKPAK_ORACLE_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(1_000)
}

#[test]
fn the_oracle_sees_what_bash_starts() {
    let folder = folder();
    for line in ["rm x", "eval 'r'm", "cat \"$(rm)\"", "bash -c 'rm x'"] {
        assert!(started(folder.path(), line).contains("rm"), "{line}");
    }
    assert!(!started(folder.path(), "echo rm").contains("rm"));
}

/// C-P39.
#[test]
fn no_line_starts_a_denied_program_under_approve() {
    let folder = folder();
    let config = Config { cases: cases(), failure_persistence: None, ..Config::default() };
    proptest!(config, |(line in whole())| never_starts_what_is_denied(folder.path(), &line));
}

/// C-P39, with lines that are mostly not whole.
#[test]
fn no_random_line_starts_a_denied_program_under_approve() {
    let folder = folder();
    let config = Config { cases: cases() * 3, failure_persistence: None, ..Config::default() };
    let line = prop::collection::vec(piece(), 1..14).prop_map(|pieces| pieces.concat());
    proptest!(config, |(line in line)| never_starts_what_is_denied(folder.path(), &line));
}
