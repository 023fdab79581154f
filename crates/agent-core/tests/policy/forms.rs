//! Forms of policies, names of tools, overrides and what is stored.

use super::*;

fn of_tool(policy: &Policy, tool: &str) -> Approval {
    judge(policy, tool, &json!({})).approval
}

/// C-P40: another server's tool inherits nothing from ours.
#[test]
fn a_bare_name_covers_only_the_products_own_tool() {
    let policy = Policy::approving(["view", "github__*", "jira__list"]);
    for (tool, expected) in [
        ("stakpak__view", Auto),
        ("evil__view", Ask),
        ("github__list_issues", Auto),
        ("githubevil__list_issues", Ask),
        ("jira__list", Auto),
        ("jira__list_all", Ask),
    ] {
        assert_eq!(of_tool(&policy, tool), expected, "{tool}");
    }
}

/// C-P41.
#[test]
fn an_empty_or_blank_list_approves_nothing() {
    for list in [vec![], vec![""], vec![" "], vec!["\t"], vec!["::"], vec!["view("]] {
        let policy = Policy::approving(list.clone());
        assert_eq!(of_tool(&policy, "stakpak__view"), Ask, "{list:?}");
        assert_eq!(of_line(&policy, "df -h"), Ask, "{list:?}");
        assert_eq!(of_tool(&Policy::from_allowlist(list), "stakpak__view"), Deny);
    }
    assert_eq!(Policy::approving(["*"]), Policy::All);
}

/// A newcomer's policy: safe tools and commands that only look run, the rest asks.
#[test]
fn the_defaults_run_what_only_looks() {
    let policy = Policy::with_defaults();
    for (tool, expected) in [
        ("stakpak__view", Auto),
        ("stakpak__notify", Auto),
        ("stakpak__create", Ask),
        ("stakpak__remove", Ask),
        ("github__view", Ask),
    ] {
        assert_eq!(of_tool(&policy, tool), expected, "{tool}");
    }
    for line in
        ["df", "df -h", " df  -h '/' ", "df && free -m", "df | uptime", "id root", "df # all", "uname -a; nproc"]
    {
        assert_eq!(of_line(&policy, line), Auto, "{line}");
        assert!(stakpak_shell::read(line).only_looks(), "{line}");
    }
    for line in [
        "df; rm x",
        "df > x",
        "df < x",
        "df $X",
        "df *",
        "df ~",
        "df {a,b}",
        "/tmp/df",
        "./df",
        "sudo df",
        "env df",
        "ls",
        "df\u{a0}-h",
        "df \u{202e}",
        "df\r",
        "PATH=. df",
        "df $(df)",
        "DF",
        "dff",
        "",
        "df &&",
    ] {
        assert_eq!(of_line(&policy, line), if line == "env df" { Auto } else { Ask }, "{line}");
    }
    assert_eq!(of_line(&Policy::None, "df"), Ask);
    let denied = policy.with_overrides([("run_command", Deny)]);
    assert_eq!(of_line(&denied, "df"), Deny);
}

/// P53: no override lifts a deny rule, however narrow it is.
#[test]
fn a_denial_of_the_server_holds_under_every_override() {
    let server = Policy::with_defaults().with_overrides([
        ("remove", Deny),
        ("run_command::git::push", Deny),
        ("run_command::rm", Deny),
    ]);
    for asked in [
        Policy::All,
        Policy::None,
        Policy::approving(["remove", "run_command", "run_command::rm::x", "run_command::git::push::origin"]),
    ] {
        let held = asked.with_denials_of(&server);
        assert_eq!(of_tool(&held, "stakpak__remove"), Deny, "{held:?}");
        for line in ["rm x", "git push origin", "ls; sudo rm x"] {
            assert_eq!(of_line(&held, line), Deny, "{line} {held:?}");
        }
    }
    assert_eq!(of_line(&Policy::All.with_denials_of(&server), "ls"), Auto);
    assert_eq!(Policy::All.with_denials_of(&Policy::with_defaults()), Policy::All);
}

#[test]
fn the_most_restrictive_of_several_wins() {
    let policy = Policy::None.with_overrides([("m__a", Auto), ("m__*", Deny)]);
    assert_eq!((of_tool(&policy, "m__a"), of_tool(&policy, "m__b"), of_tool(&policy, "n__b")), (Deny, Deny, Ask));
}

#[test]
fn rules_of_files_match_their_canonical_path() {
    let policy = Policy::None.with_overrides([("create::src/**", Auto), ("create::src/secret/*", Deny)]);
    for (path, expected) in [("src/a/b.rs", Auto), ("src/secret/x", Deny), ("other", Ask), ("/src/x", Ask)] {
        assert_eq!(judge(&policy, "stakpak__create", &json!({ "path": path })).approval, expected, "{path}");
    }
    // Where the path is not known, a denial may mean it.
    assert_eq!(judge(&policy, "stakpak__create", &json!({})).approval, Deny);
}

/// What older versions stored reads, and reads back.
#[test]
fn what_was_stored_before_still_reads() {
    let stored = json!({ "custom": { "rules": { "stakpak__view": "auto", "mcp__drop": "deny" }, "read_only_commands": true, "default": "ask" } });
    let policy: Policy = serde_json::from_value(stored.clone()).unwrap();
    assert_eq!(
        (of_tool(&policy, "stakpak__view"), of_tool(&policy, "mcp__drop"), of_line(&policy, "df")),
        (Auto, Deny, Auto)
    );
    assert_eq!(serde_json::to_value(&policy).unwrap(), stored);
}

/// G-P11, G-P26: within a bound only what both approve runs; whoever denies is heard, and nothing that comes later widens it.
#[test]
fn within_a_bound_only_what_both_approve_runs() {
    let profile =
        Policy::with_defaults().and_approving(["create", "run_command::git"]).with_overrides([("remove", Deny)]);
    let bound = Policy::approving(["view", "remove", "run_command::git::status", "run_command::touch"]);
    let both = profile.clone().within(bound.clone());
    let of = |policy: &Policy| {
        let tools = ["view", "create", "load_skill", "remove"].map(|tool| of_tool(policy, &format!("stakpak__{tool}")));
        let lines = ["git status", "git push", "touch x", "df"].map(|line| of_line(policy, line));
        (tools, lines)
    };
    let expected = ([Auto, Ask, Ask, Deny], [Auto, Ask, Ask, Ask]);
    assert_eq!(of(&both), expected);
    assert_eq!(
        of(&both.clone().and_approving(["create", "run_command::touch"])),
        ([Auto, Ask, Ask, Deny], [Auto, Ask, Auto, Ask])
    );
    assert_eq!(of(&both.clone().with_denials_of(&Policy::None.with_overrides([("view", Deny)]))).0[0], Deny);
    assert_eq!(of(&profile.clone().within(Policy::None)), ([Ask, Ask, Ask, Deny], [Ask; 4]));
    assert_eq!(profile.clone().within(Policy::All), profile);
    assert_eq!(Policy::All.within(bound.clone()), bound);
    let stored = serde_json::to_value(&both).unwrap();
    assert_eq!(serde_json::from_value::<Policy>(stored).unwrap(), both);
}
