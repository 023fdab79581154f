//! Agent contract 9.3, row by row.

use super::*;

/// C-P39, C-P43: every row of the table, and what they have in common with others.
#[test]
fn every_row_of_the_table_holds() {
    let policy = usual();
    let nested = format!("{}git status", "eval ".repeat(17));
    let long = format!("sh -c 'git status {}'", "x".repeat(17 << 10));
    let rows: &[(Approval, &[&str])] = &[
        (Deny, &["'rm' x", "r\"\"m x", r"\rm x", "$'rm' x", "/bin/rm x", "./rm x", "r\\\nm x", r"$'\x72m' x"]),
        (Ask, &["$X x", "$(echo rm) x", "${A}m x", "~/bin/x y", "{rm,x}", "r? x"]),
        (
            Deny,
            &[
                "sudo rm x",
                "time rm x",
                "env A=1 rm x",
                "command rm x",
                "exec rm x",
                "nohup rm x",
                "timeout 5 rm x",
                "coproc rm x",
                "xargs rm",
                "nice -n 5 rm x",
                "ionice -c3 rm x",
                "stdbuf -oL rm x",
                "setsid rm x",
                "flock f rm x",
                "flock f -c 'rm x'",
                "watch rm x",
                "builtin rm x",
                "sudo -u root env A=1 nohup rm x",
                "ssh host rm x",
                "su - x -c 'rm x'",
                "chroot / rm x",
                "env -S 'rm x' rm",
                "exec -a z rm x",
                "docker exec c rm x",
                "kubectl exec p -- rm x",
            ],
        ),
        (Ask, &["sudo git status", "ssh host git status"]),
        (Auto, &["env A=1 git status", "timeout 5 git status", "nohup git status", "time git status", "! git status"]),
        (
            Deny,
            &["bash -lc 'rm x'", "bash --norc -ec \"rm x\"", "eval 'rm x'", "trap 'rm x' EXIT", "bash -c 'rm x' a b"],
        ),
        (
            Ask,
            &[
                "bash -c \"$X\"",
                "eval \"$X\"",
                "bash s.sh",
                "bash < f",
                "cat f | bash",
                "bash",
                "source f",
                ". f",
                "zsh -c 'git status'",
                "sh -c 'echo &>/dev/null git status'",
            ],
        ),
        (Deny, &["bash <<< 'rm x'", "bash <<E\nrm x\nE\n", "bash -s <<E\nrm x\nE\n"]),
        (Ask, &["python3 -c 'import os'"]),
        (
            Deny,
            &[
                "echo \"$(rm x)\"",
                "echo `rm x`",
                "A=$(rm x) git status",
                "A=$(rm x)",
                "[[ -n $(rm x) ]]",
                "(( $(rm x) ))",
                "echo ${A:-$(rm x)}",
                "echo \"${A:-$(rm x)}\"",
                "A=(1 $(rm x))",
                "echo $((1 + $(rm x)))",
                "echo \"a $(echo \"b $(rm x)\")\"",
                "echo \"`rm x`\"",
                "echo > /dev/null $(rm x)",
            ],
        ),
        (Auto, &["echo 'rm x'", "git status # rm x", "bash -c 'git status'", "echo $HOME", "echo \"$(git log)\""]),
        (Deny, &["cat <<E\n$(rm x)\nE\n", "cat <<-E\n\t$(rm x)\n\tE\n"]),
        (Auto, &["cat <<'E'\n$(rm x)\nE\n"]),
        (Deny, &["cat <(rm x)", "f(){ rm x; }; f", "git(){ rm x; }; git status", "git log > >(rm x)"]),
        (Ask, &["alias git=ls; git x", "git(){ echo x; }; git status"]),
        (
            Deny,
            &[
                "if rm x; then :; fi",
                "for i in $(rm x); do :; done",
                "! rm x",
                "rm x &",
                "case a in a) rm x;; esac",
                "while :; do rm x; done",
                "(rm x)",
                "{ rm x; }",
                "git log | rm x",
                "git log || rm x",
                "git log\nrm x",
                "until rm x; do :; done",
                "for ((i=0;i<1;i++)); do rm x; done",
                "git log;rm x",
                "git log&rm x",
            ],
        ),
        // Bash finds the end of these, the parser of words does not.
        (
            Ask,
            &[
                "echo \"$(rm x; cat <<E\n(\nE\n)\"",
                "echo \"$(\nx <<-E\n\t$g(\\\\\n\tE\n\n)\"",
                "cat <<E\n$(rm x; cat <<F\n(\nF\n)\nE\n",
                "x='a[$(rm y)]'; echo $[x]",
                "x='a[$(rm y)]'; echo \"$[x]\"",
            ],
        ),
        (Auto, &["echo \"\\$(rm x) \\`a\\` $ \\${b\"", "echo '$(rm x)' \"$'\"", "cat <<E\n\\$(rm x) $ \\`\nE\n"]),
        (Ask, &["if true", "echo 'open", "select x in a; do :; done", "git log &&", "echo \"$(", "((", "echo @(rm|x)"]),
        (
            Ask,
            &[
                "echo x > /etc/cron.d/y",
                "echo x >> ~/.bashrc",
                "cat a >| b",
                "echo x &> f",
                "echo x &>> f",
                "> f",
                "echo x >&f",
                "echo x > $F",
                "cat <> f",
            ],
        ),
        (
            Auto,
            &[
                "echo x > /dev/null",
                "git log 2>&1",
                "git log 2>/dev/null",
                "echo x >&2",
                "echo x &>/dev/null",
                "cat < f",
            ],
        ),
        (Ask, &["echo x > /dev/tcp/h/80", "exec 3<>/dev/tcp/h/80", "cat < /dev/tcp/h/80", "cat < /dev/udp/h/80"]),
        (Ask, &["/opt/x/git status", "./git status"]),
        (Deny, &["find . -exec rm {} \\;", "find . -execdir rm {} +", "find . -name x -ok rm {} \\; -print"]),
        (Ask, &["find . -delete", "find . -fprint f", "find $X"]),
        (Auto, &["find . -name '*.rs'", "find . -exec git log {} \\;"]),
        (Deny, &["git -C d push", "git --git-dir=d push", "git -C d -c a=b push", "git --no-pager push"]),
        (Auto, &["git -C d status", "git --no-pager log"]),
        (Deny, &["git -c core.pager='rm x' log", "git -c alias.x='!rm x' x"]),
        (Ask, &["git -c core.pager=\"$X\" log", "git -c a=b log", "git $X", "git \"$X\""]),
        (
            Ask,
            &[
                "GIT_SSH_COMMAND=x git fetch",
                "LD_PRELOAD=./x git status",
                "PATH=.:$PATH git status",
                "PATH=.; git status",
                "export PATH=.; git status",
                "env PATH=. git status",
                "for PATH in .; do git status; done",
            ],
        ),
        (Auto, &["A=1 git status", "A=1; git status"]),
        (
            Deny,
            &["tar cf x --to-command='rm x' y", "tar cf x --checkpoint-action=exec='rm x' y", "rsync -e 'rm x' a b"],
        ),
        (
            Ask,
            &[
                nested.as_str(),
                long.as_str(),
                "git\u{a0}status",
                "git \u{202e}status",
                "git status\u{200b}",
                "git status\r",
            ],
        ),
    ];
    let mut wrong = Vec::new();
    for (expected, lines) in rows {
        for line in *lines {
            let found = judge(&policy, "stakpak__run_command", &json!({ "command": line }));
            if found.approval != *expected {
                wrong.push(format!("{line:?}: {found:?}, not {expected:?}\n   {:?}", stakpak_shell::read(line)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Rules that were there before: [keep].
#[test]
fn rules_of_before_mean_what_they_meant() {
    let git = [("git", Auto)];
    let no_push = [("git", Auto), ("git::push", Deny)];
    for (rules, default, line, expected) in [
        (&git[..], Ask, "git status", Auto),
        (&no_push, Ask, "git push origin main", Deny),
        (&no_push, Ask, "git log && git push", Deny),
        (&git, Ask, "rm -rf x", Ask),
        (&[("curl", Auto), ("curl::*.prod.*", Deny)], Ask, "curl https://api.prod.example.com", Deny),
        (&[("rm", Ask)], Auto, "sh -c 'rm -rf x'", Ask),
        (&[("git::status", Auto)], Ask, "git status -s", Auto),
        (&[("stakpak::config::show", Auto)], Ask, "stakpak config", Ask),
        (&[("git::add::src/*", Auto)], Ask, "git add $F", Ask),
        (&[("git::add::src/*", Auto)], Ask, "git add src/a/b.rs", Auto),
        (&[("git::push::--force", Deny)], Ask, "git push --forc", Deny),
        (&[("git::push::--force", Deny)], Ask, "git push origin --force", Deny),
        (&[("git::push::--force", Deny), ("git", Auto)], Ask, "git push origin --force-with-lease", Auto),
        (&[("git::push::--force", Deny), ("git", Auto)], Ask, "git push origin $X", Ask),
        (&[("docker::rm::-f", Deny), ("docker", Auto)], Ask, "docker rm -vf x", Ask),
        (&[("psql::re:(?i)drop", Deny), ("psql", Auto)], Ask, "psql 'DROP TABLE x'", Deny),
        (&[(">::build/**", Auto), ("echo", Auto)], Ask, "echo x > build/a/b", Auto),
        (&[(">::build/**", Auto), ("echo", Auto)], Ask, "echo x > build/../../etc/b", Ask),
        (&[(">::build/**", Auto), ("echo", Auto)], Ask, "echo x > src/b", Ask),
        (&[("/opt/x/git", Auto)], Ask, "/opt/x/git status", Auto),
        (&[("run_command", Deny), ("git", Auto)], Auto, "git status; ls", Deny),
        (&[("run_command", Auto), ("rm", Deny)], Ask, "ls && $X", Ask),
        (&[("run_command", Auto), ("rm", Deny)], Ask, "ls && rm", Deny),
        (&[("run_command", Auto), ("rm", Deny)], Ask, "ls && cat x", Auto),
        (&[("run_command", Auto)], Ask, "echo x > f; $X", Auto),
        (&[("run_command", Auto)], Ask, "echo 'open", Ask),
        (&[("run_command", Auto)], Ask, "# a comment", Auto),
        (&git, Ask, "", Ask),
    ] {
        let policy = commands(rules, default);
        assert_eq!(of_line(&policy, line), expected, "{rules:?} {line:?}");
    }
}

#[test]
fn tasks_have_their_own_scope_and_then_that_of_commands() {
    let nested = format!("{}ls", "eval ".repeat(17));
    let denied = commands(&[("run_command_task", Deny), ("git", Auto)], Ask);
    assert_eq!((of_task(&denied, "git status"), of_line(&denied, "git status")), (Deny, Auto));
    assert_eq!(of_task(&commands(&[("git", Auto)], Ask), "git status"), Auto);
    assert_eq!(of_task(&commands(&[("run_command_task", Deny)], Auto), &nested), Deny);
}

/// A pattern that does not compile matches what is restricted, and nothing that is approved.
#[test]
fn an_invalid_pattern_counts_only_as_a_restriction() {
    for (action, expected) in [(Auto, Ask), (Ask, Ask), (Deny, Deny)] {
        for pattern in ["git::re:(", "git::[a"] {
            assert_eq!(of_line(&commands(&[(pattern, action)], Ask), "git status"), expected, "{pattern} {action:?}");
        }
    }
    for key in ["run_command::git::re:(", "create::[a", "", "::x", "run_command::"] {
        assert!(stakpak_agent_core::check_key(key).is_err(), "{key}");
    }
    for key in ["view", "github__*", "run_command::git::re:^push$", "create::src/**", "run_command::>::build/**"] {
        assert_eq!(stakpak_agent_core::check_key(key), Ok(()), "{key}");
    }
}

/// A reason names the rule, or what is not understood.
#[test]
fn reasons_name_the_rule_or_the_doubt() {
    let reason = |line: &str| judge(&usual(), "stakpak__run_command", &json!({ "command": line })).reason;
    assert_eq!(reason("git push").unwrap(), "the rule run_command::git::push denies `git push`");
    assert!(reason("echo x > f").unwrap().contains("it writes to f"));
    assert!(reason("if true").unwrap().contains("syntax"));
    assert_eq!(reason("git status"), None);
    assert_eq!(reason("ls"), None);
}

/// Variables that the call sets count as those that the line sets.
#[test]
fn the_environment_of_a_call_is_judged() {
    let call = |name: &str| json!({ "command": "git status", "env": { name: "x" } });
    assert_eq!(judge(&usual(), "stakpak__run_command", &call("LD_PRELOAD")).approval, Ask);
    assert_eq!(judge(&usual(), "stakpak__run_command", &call("A")).approval, Auto);
}

/// What evaluates the value of a variable again can start anything.
#[test]
fn evaluation_of_values_asks() {
    for line in [
        "x='a[$(rm y)]'; echo $((x))",
        "echo \"${x@P}\"",
        "echo ${!x}",
        "[[ x -eq 0 ]]",
        "[[ -v 'a[$(rm)]' ]]",
        "echo ${a[x]}",
        "echo ${a:x}",
        "echo \"$(: # )\nrm x\n)\"",
        "{git}>/dev/null rm x",
    ] {
        assert_ne!(of_line(&usual(), line), Auto, "{line}");
    }
}
