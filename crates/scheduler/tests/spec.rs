//! What `autopilot.toml` may say, and that one wrong entry leaves the others alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::time::Duration;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use stakpak_config::{Document, Finding};
use stakpak_protocol::Usd;
use stakpak_scheduler::{
    Budget, Catchup, Check, DayLimits, Definition, Event, Firing, Interaction, Notify, NotifyMode, NotifyOn, Overlap,
    Prompt, ScheduleSet, ScheduleSpec, SharedBudget, TriggerOn, When,
};

fn now() -> DateTime<Utc> {
    DateTime::parse_from_rfc3339("2026-01-01T00:00:00Z").unwrap().to_utc()
}

fn read(toml: &str) -> Result<ScheduleSet, Vec<Finding>> {
    ScheduleSet::read(&Document::parse("autopilot.toml", toml).unwrap(), now())
}

/// Code and key of every error of the entry that holds these lines besides a name, a cron and a prompt.
fn errors(lines: &str) -> Vec<String> {
    let base = [("name", "\"x\""), ("cron", "\"0 * * * *\""), ("prompt", "\"p\"")];
    let says = |key: &str| lines.lines().any(|line| line.split('=').next().unwrap().trim() == key);
    let has = |key: &str| says(key) || key == "cron" && (says("every") || says("at"));
    let rest: String =
        base.iter().filter(|(key, _)| !has(key)).map(|(key, value)| format!("{key} = {value}\n")).collect();
    let set = read(&format!("[[schedules]]\n{rest}{lines}\n")).unwrap();
    set.errors().map(|error| format!("{} {}", error.code, error.path.rsplit('.').next().unwrap())).collect()
}

#[test]
fn an_entry_in_full() {
    let set = read(
        "[watch]\nmax_concurrent_runs = 2\nstop_grace = '5s'\n\
         [defaults]\ntimezone = 'Europe/Berlin'\nprofile = 'ops'\ntimeout = '10m'\n\
         overlap = 'queue_one'\n[[schedules]]\nname = 'disk'\ncron = '*/15 * * * *'\nprompt = 'look'\nmodel = 'a/b'\nmax_steps = 12\n\
         pause_on_approval = true\napproval_timeout = '1h'\nworkdir = '/srv'\n\
         [[schedules]]\nname = 'off'\ncron = '@daily'\nprompt = 'look'\nenabled = false\ntimezone = 'UTC'\nprofile = 'own'\n",
    )
    .unwrap();
    assert_eq!((set.max_concurrent_runs, set.stop_grace), (2, Duration::from_secs(5)));
    assert_eq!(set.warnings, []);
    let spec = |name: &str| match &set.get(name).unwrap().definition {
        Definition::Valid { spec, .. } => ScheduleSpec::clone(spec),
        Definition::Invalid(errors) => panic!("{errors:?}"),
    };
    assert_eq!(
        spec("disk"),
        ScheduleSpec {
            name: "disk".into(),
            when: When::Cron("*/15 * * * *".into()),
            timezone: Tz::Europe__Berlin,
            prompt: Prompt::Text("look".into()),
            enabled: true,
            profile: "ops".into(),
            model: Some("a/b".into()),
            timeout: Duration::from_secs(600),
            max_turns: Some(12),
            workdir: Some("/srv".into()),
            sandbox: false,
            interaction: Interaction::Interactive,
            firing: Firing { overlap: Overlap::QueueOne, ..Firing::default() },
            pause_on_approval: true,
            approval_timeout: Duration::from_secs(3600),
            check: None,
            board_id: None,
            notify: Notify::default(),
            budget: Budget::default(),
        }
    );
    let off = spec("off");
    assert_eq!((off.enabled, off.timezone, off.profile.as_str()), (false, Tz::UTC, "own"));
}

#[test]
fn every_error_has_its_code_and_its_key() {
    assert_eq!(errors(""), Vec::<String>::new());
    assert_eq!(errors("prompt = ' '"), ["E101 prompt"]);
    assert_eq!(errors("cron = '0 25 * * *'"), ["E102 cron"]);
    assert_eq!(errors("cron = '@reboot'"), ["E102 cron"]);
    assert_eq!(errors("cron = '0 0 30 2 *'"), ["E103 cron"]);
    assert_eq!(errors("cron = '0 0 0 1 1 * 2020'"), ["E103 cron"]);
    assert_eq!(errors("timezone = 'Mars/Olympus'"), ["E104 timezone"]);
    assert_eq!(errors("name = ' '"), ["E106 name"]);
    assert_eq!(errors("name = '__config_reload__'"), ["E106 name"]);
    assert_eq!(errors(&format!("name = '{}'", "x".repeat(129))), ["E106 name"]);
    assert_eq!(errors("timeout = 'soon'"), ["E109 timeout"]);
    assert_eq!(errors("max_turns = 0"), ["E110 max_turns"]);
    assert_eq!(errors("max_turns = 257"), ["E110 max_turns"]);
    assert_eq!(errors("max_turns = 256"), Vec::<String>::new());
    assert_eq!(errors("max_turns = 1"), Vec::<String>::new());
    assert_eq!(
        errors("prompt = ''\ntimezone = 'x'\nmax_turns = 300"),
        ["E104 timezone", "E101 prompt", "E110 max_turns"]
    );
}

#[test]
fn when_is_said_once() {
    assert_eq!(errors("every = '5m'"), Vec::<String>::new());
    assert_eq!(errors("at = '2026-05-01T09:00'"), Vec::<String>::new());
    assert_eq!(errors("at = 2026-05-01T09:00:00Z"), Vec::<String>::new());
    assert_eq!(errors("cron = '@daily'\nevery = '5m'"), ["E112 every"]);
    assert_eq!(errors("every = '5m'\nat = '2026-05-01T09:00'"), ["E112 at"]);
    assert_eq!(errors("every = ' '"), ["E101 every"]);
    assert_eq!(errors("every = 'often'"), ["E109 every"]);
    assert_eq!(errors("every = '9s'"), ["E110 every"]);
    assert_eq!(errors("every = '1000years'"), ["E103 every"]);
    assert_eq!(errors("at = 'tomorrow'"), ["E110 at"]);
    assert_eq!(errors("at = '2096-05-01T09:00'"), ["E103 at"]);
    let berlin = "timezone = 'Europe/Berlin'";
    assert_eq!(errors(&format!("at = '2026-03-29T02:30'\n{berlin}")), ["E107 at"]);
    assert_eq!(errors(&format!("at = '2026-10-25T02:30'\n{berlin}")), ["E107 at"]);
    assert_eq!(errors(&format!("at = '2026-10-25T02:30:00+01:00'\n{berlin}")), Vec::<String>::new());
    let none = read("[[schedules]]\nname = 'x'\nprompt = 'p'\n").unwrap();
    assert_eq!(none.errors().map(|error| error.code).collect::<Vec<_>>(), ["E101"]);
}

#[test]
fn policies_have_their_bounds_and_their_defaults() {
    assert_eq!(errors("overlap = 'sometimes'"), ["E114 overlap"]);
    assert_eq!(errors("catchup = 'some'"), ["E114 catchup"]);
    assert_eq!(errors("catchup_window = 'auto'"), Vec::<String>::new());
    assert_eq!(errors("catchup_window = '9s'"), ["E110 catchup_window"]);
    assert_eq!(errors("catchup_window = 'wide'"), ["E109 catchup_window"]);
    assert_eq!(errors("catchup_limit = 0"), ["E110 catchup_limit"]);
    assert_eq!(errors("retries = 101"), ["E110 retries"]);
    assert_eq!(errors("retry_backoff = '0s'"), ["E110 retry_backoff"]);
    assert_eq!(errors("retry_backoff = '1h'"), ["E110 retry_max_delay"]);
    assert_eq!(errors("retry_on = 'never'"), ["E114 retry_on"]);
    assert_eq!(errors("on_crash = 'panic'"), ["E114 on_crash"]);
    assert_eq!(errors("approval_timeout = '0s'"), ["E110 approval_timeout"]);
    assert_eq!(errors("queue_limit = 0"), ["E110 queue_limit"]);
    assert_eq!(errors("jitter = 'some'"), ["E109 jitter"]);
    assert_eq!(errors("exclusive_group = ' '"), ["E110 exclusive_group"]);
    let set = read(
        "[defaults]\ncatchup = 'none'\ncatchup_window = '1h'\njitter = '20s'\npause_after_failures = 0\n\
         [[schedules]]\nname = 'x'\ncron = '@hourly'\nprompt = 'p'\ncatchup = 'all'\ncatchup_window = 'auto'\n",
    )
    .unwrap();
    let Definition::Valid { spec, .. } = &set.get("x").unwrap().definition else { panic!() };
    let expected =
        Firing { catchup: Catchup::All, jitter: Duration::from_secs(20), pause_after_failures: 0, ..Firing::default() };
    assert_eq!(spec.firing, expected);
    assert_eq!((Firing::default().pause_after_failures, Firing::default().queue_limit), (5, 100));

    let jitter = |jitter: &str| {
        let entry = format!("[[schedules]]\nname = 'x'\ncron = '0 0,1 * * *'\nprompt = 'p'\njitter = '{jitter}'\n");
        read(&entry).unwrap().warnings.iter().map(|warning| warning.code).collect::<Vec<_>>()
    };
    assert_eq!(jitter("59m"), Vec::<&str>::new());
    assert_eq!(jitter("60m"), ["W304"]);
}

#[test]
fn the_prompt_is_a_text_or_a_file() {
    let file = "[[schedules]]\nname = 'x'\ncron = '@daily'\nprompt_file = '/etc/prompt.md'\n";
    let set = read(file).unwrap();
    let Definition::Valid { spec, .. } = &set.get("x").unwrap().definition else { panic!() };
    assert_eq!(spec.prompt, Prompt::File("/etc/prompt.md".into()));
    assert_eq!(errors("prompt_file = '/etc/prompt.md'"), ["E110 prompt_file"]);
    let blank = read("[[schedules]]\nname = 'x'\ncron = '@daily'\nprompt_file = ''\n").unwrap();
    assert_eq!(blank.errors().map(|error| error.code).collect::<Vec<_>>(), ["E101"]);
}

#[test]
fn what_may_not_be_meant_is_a_warning() {
    let warnings = |cron: &str| {
        let set = read(&format!("[[schedules]]\nname = 'x'\ncron = '{cron}'\nprompt = 'p'\n")).unwrap();
        assert_eq!(set.errors().count(), 0, "{cron}");
        set.warnings.iter().map(|warning| warning.code).collect::<Vec<_>>()
    };
    assert_eq!(warnings("0 9 13 * 5"), ["W303"]);
    assert_eq!(warnings("0 9 13 * +5"), Vec::<&str>::new());
    assert_eq!(warnings("0 9 ? * 5"), Vec::<&str>::new());
    assert_eq!(warnings("*/90 * * * *"), ["W305"]);
    assert_eq!(warnings("0 0 */2 * 5/9"), ["W303", "W305"]);
}

/// A run keeps the version it was started with, whatever way it says when.
#[test]
fn a_definition_is_the_same_after_it_was_stored() {
    for lines in ["cron = '0 * * * *'", "every = '90m'", "at = '2026-05-01T09:00'"] {
        let set = read(&format!("[[schedules]]\nname = 'x'\n{lines}\nprompt = 'p'\ntimeout = '90s'\n")).unwrap();
        let Definition::Valid { spec, .. } = &set.get("x").unwrap().definition else { panic!("{lines}") };
        let stored = serde_json::to_string(&**spec).unwrap();
        assert_eq!(serde_json::from_str::<ScheduleSpec>(&stored).unwrap(), **spec, "{stored}");
    }
}

#[test]
fn a_check_is_a_script_that_nobody_else_can_have_written() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("check.sh");
    let entry = format!("check = '{}'", script.display());
    assert_eq!(errors(&entry), ["E108 check"], "it does not exist");
    std::fs::write(&script, "#!/bin/sh\n").unwrap();
    let warnings = |mode: u32| {
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(mode)).unwrap();
        let set = read(&format!("[[schedules]]\nname = 'x'\ncron = '@daily'\nprompt = 'p'\n{entry}\n")).unwrap();
        set.errors().chain(&set.warnings).map(|finding| finding.code).collect::<Vec<_>>()
    };
    assert_eq!(warnings(0o700), Vec::<&str>::new());
    assert_eq!(warnings(0o755), Vec::<&str>::new());
    assert_eq!(warnings(0o770), ["W306"]);
    assert_eq!(warnings(0o707), ["E108"]);
    assert_eq!(warnings(0o644), ["E108"]);
    assert_eq!(errors(&format!("check = '{}'", directory.path().display())), ["E108 check"], "a directory");
    assert_eq!(errors("check = ' '"), ["E108 check"]);
    assert_eq!(warnings(0o700), Vec::<&str>::new());
    assert_eq!(errors(&format!("{entry}\ncheck_timeout = '0s'")), ["E110 check_timeout"]);
    assert_eq!(errors(&format!("{entry}\ncheck_timeout = 'x'")), ["E109 check_timeout"]);
    assert_eq!(errors(&format!("{entry}\ntrigger_on = 'sometimes'")), ["E114 trigger_on"]);

    let set = read(&format!(
        "[defaults]\ncheck_timeout = '5s'\ntrigger_on = 'any'\n\
         [[schedules]]\nname = 'x'\ncron = '@daily'\nprompt = 'p'\n{entry}\ncheck_args = ['a']\ncheck_env = ['B']\n"
    ))
    .unwrap();
    let Definition::Valid { spec, .. } = &set.get("x").unwrap().definition else { panic!() };
    let expected = Check {
        path: script.to_str().unwrap().to_owned(),
        args: vec!["a".to_owned()],
        env: vec!["B".to_owned()],
        timeout: Duration::from_secs(5),
        trigger_on: TriggerOn::Any,
    };
    assert_eq!(spec.check.as_ref(), Some(&expected));
}

#[test]
fn budgets_are_of_a_schedule_and_of_all_together() {
    let set = read(
        "[defaults]\ntimezone = 'Europe/Berlin'\n[budget]\nusd_per_day = 10\ntokens_per_day = 9\nalert_at = [0.5]\n\
         [[schedules]]\nname = 'x'\ncron = '@daily'\nprompt = 'p'\n\
         budget = { usd_per_run = 0.25, usd_per_day = 2, tokens_per_run = 1, tokens_per_day = 2, runs_per_day = 3 }\n",
    )
    .unwrap();
    let Definition::Valid { spec, .. } = &set.get("x").unwrap().definition else { panic!() };
    let usd = |micros| Some(Usd::from_micros(micros));
    let day = DayLimits { usd_per_day: usd(2_000_000), tokens_per_day: Some(2), runs_per_day: Some(3) };
    assert_eq!(spec.budget, Budget { usd_per_run: usd(250_000), tokens_per_run: Some(1), day });
    let stored: ScheduleSpec = serde_json::from_str(&serde_json::to_string(&**spec).unwrap()).unwrap();
    assert_eq!(stored.budget, spec.budget, "a run keeps it");
    let day = DayLimits { usd_per_day: usd(10_000_000), tokens_per_day: Some(9), runs_per_day: None };
    assert_eq!(set.budget, SharedBudget { day, alert_at: vec![0.5], zone: Tz::Europe__Berlin });
    assert_eq!(set.warnings.len(), 0);
    assert_eq!(SharedBudget::default().alert_at, [0.8, 1.0]);
}

#[test]
fn a_budget_that_makes_no_sense_is_refused() {
    for key in ["usd_per_run", "usd_per_day", "tokens_per_run", "tokens_per_day", "runs_per_day"] {
        for value in ["0", "-1", "'many'"] {
            let expected = format!("E110 {key}");
            assert_eq!(errors(&format!("budget = {{ {key} = {value} }}")), [expected], "{key} {value}");
        }
    }
    for wrong in [
        "usd_per_day = 0",
        "usd_per_day = -1",
        "usd_per_day = nan",
        "tokens_per_day = 0",
        "runs_per_day = 'x'",
        "alert_at = [0]",
        "alert_at = [80]",
        "alert_at = [nan]",
    ] {
        let findings = read(&format!("[budget]\n{wrong}\n")).unwrap_err();
        assert_eq!(findings.iter().map(|finding| finding.code).collect::<Vec<_>>(), ["E002"], "{wrong}");
    }
}

#[test]
fn one_wrong_entry_disables_only_itself_and_says_where() {
    let set = read(
        "[[schedules]]\nname = 'bad'\ncron = '0 25 * * *'\nprompt = 'p'\n\n\
         [[schedules]]\nname = 'good'\ncron = '@daily'\nprompt = 'p'\n\n\
         [[schedules]]\nname = 'good'\ncron = '@hourly'\nprompt = 'second'\n\n\
         [[schedules]]\nname = 'type'\ncron = 5\nprompt = 'p'\n",
    )
    .unwrap();
    let told: Vec<_> = set.errors().map(|error| (error.line, error.code)).collect();
    assert_eq!(told, [(3, "E102"), (12, "E105"), (18, "E110")]);
    assert!(set.errors().next().unwrap().message.starts_with("hour field `25`"), "{:?}", set.errors().next());
    let Definition::Valid { spec, .. } = &set.get("good").unwrap().definition else { panic!() };
    assert_eq!(spec.when.cron(), Some("@daily"));
}

#[test]
fn keys_without_effect_are_named_with_their_line() {
    let set = read(
        "[defaults]\nenable_slack_tools = true\n[[schedules]]\nname = 'x'\ncron = '@daily'\nprompt = 'p'\n\
         enable_slack_tools = true\nenable_subagents = true\nnotfiy_on = 'all'\n",
    )
    .unwrap();
    assert_eq!(set.errors().count(), 0);
    let mut told: Vec<_> = set.warnings.iter().map(|w| (w.line, w.code, w.path.as_str())).collect();
    told.sort_unstable();
    assert_eq!(
        told,
        [
            (2, "W302", "defaults.enable_slack_tools"),
            (7, "W302", "schedules.x.enable_slack_tools"),
            (8, "W302", "schedules.x.enable_subagents"),
            (9, "W301", "schedules.x.notfiy_on"),
        ]
    );
}

#[test]
fn a_bad_value_for_all_schedules_refuses_the_file() {
    for toml in [
        "[defaults]\ntimeout = 'x'",
        "[watch]\nmax_concurrent_runs = 0",
        "[watch]\nhistory_max_runs = 0",
        "schedules = 3",
    ] {
        assert_eq!(read(toml).unwrap_err().len(), 1, "{toml}");
    }
}

/// The route of the only schedule, or what is wrong with the file.
fn route(notifications: &str, entry: &str) -> Result<Option<(String, serde_json::Value)>, Vec<String>> {
    let file = format!(
        "[notifications]\n{notifications}\n[[schedules]]\nname = 'x'\ncron = '@daily'\nprompt = 'p'\n{entry}\n"
    );
    let told =
        |findings: Vec<&Finding>| findings.iter().map(|error| format!("{} {}", error.code, error.path)).collect();
    let set = read(&file).map_err(|errors| told(errors.iter().collect()))?;
    match &set.get("x").unwrap().definition {
        Definition::Valid { spec, .. } => Ok(spec.notify.route().map(|route| (route.to_string(), route.target))),
        Definition::Invalid(errors) => Err(told(errors.iter().collect())),
    }
}

#[test]
fn channel_and_target_are_looked_for_from_the_entry_outwards() {
    use serde_json::json;
    let found = |notifications: &str, entry: &str| route(notifications, entry).unwrap();
    let telegram = |chat: serde_json::Value| {
        Some((
            format!("telegram:{}", chat.as_str().map_or_else(|| chat.to_string(), str::to_owned)),
            json!({ "chat_id": chat }),
        ))
    };
    assert_eq!(found("", ""), None);
    assert_eq!(found("channel = 'telegram'", ""), None);
    assert_eq!(found("", "notify_target = '1'"), None);
    assert_eq!(found("channel = 'telegram'\nchat_id = '1'", ""), telegram(json!("1")));
    assert_eq!(found("channel = 'telegram'\nchat_id = '1'\ntarget = -100", ""), telegram(json!(-100)));
    assert_eq!(found("channel = 'telegram'\ntarget = '1'", "channel = '2'"), telegram(json!("2")));
    assert_eq!(found("channel = 'telegram'\ntarget = '1'", "channel = '2'\nnotify_chat_id = 3"), telegram(json!(3)));
    assert_eq!(
        found("channel = 'telegram'", "channel = '2'\nnotify_chat_id = '3'\nnotify_target = '4'"),
        telegram(json!("4"))
    );
    assert_eq!(found("channel = 'telegram'\ntarget = '1'", "notify_target = ' '"), telegram(json!("1")));
    assert_eq!(
        found("channel = 'telegram'\ntarget = '1'", "notify_channel = 'slack'\nnotify_target = '#ops'"),
        Some(("slack:#ops".to_owned(), json!({ "channel": "#ops" })))
    );
    assert_eq!(
        found("channel = 'discord'", "notify_target = { channel_id = '9', thread_id = '8' }"),
        Some(("discord:9/8".to_owned(), json!({ "channel_id": "9", "thread_id": "8" })))
    );
    assert_eq!(route("", "notify_channel = 'pager'").unwrap_err(), ["E114 schedules.x.notify_channel"]);
    assert_eq!(route("", "notify_target = true").unwrap_err(), ["E110 schedules.x.notify_target"]);
    assert_eq!(route("", "notify_chat_id = 1.5").unwrap_err(), ["E110 schedules.x.notify_chat_id"]);
    for (line, key) in [
        ("channel = 'pager'", "channel"),
        ("target = []", "target"),
        ("max_age = '0s'", "max_age"),
        ("gateway_url = 'ftp://x'", "gateway_url"),
        ("mode = 'sometimes'", "mode"),
        ("notify_on = ['boom']", "notify_on[0]"),
    ] {
        assert_eq!(route(line, "").unwrap_err(), [format!("E002 notifications.{key}")]);
    }
}

#[test]
fn what_is_told_is_a_word_or_a_list() {
    let notify = |notifications: &str, entry: &str| {
        let file = format!(
            "[notifications]\n{notifications}\n[[schedules]]\nname = 'x'\ncron = '@daily'\nprompt = 'p'\n{entry}\n"
        );
        let set = read(&file).unwrap();
        assert_eq!(set.warnings, [], "{notifications} {entry}");
        match &set.get("x").unwrap().definition {
            Definition::Valid { spec, .. } => spec.notify.clone(),
            Definition::Invalid(errors) => panic!("{errors:?}"),
        }
    };
    assert_eq!(notify("", "").on, NotifyOn::All);
    assert_eq!(notify("notify_on = 'failures'\nmode = 'change'\nmax_age = '2h'", "").on, NotifyOn::Failures);
    assert_eq!(notify("mode = 'change'", "").mode, NotifyMode::Change);
    assert_eq!(notify("notify_on = 'failures'", "notify_on = 'none'").on, NotifyOn::None);
    assert_eq!(
        notify("", "notify_on = ['started', 'timed_out']").on,
        NotifyOn::Only(vec![Event::Started, Event::TimedOut])
    );
    assert_eq!(errors("notify_on = 'sometimes'"), ["E114 notify_on"]);
    assert_eq!(errors("notify_on = ['completed', 'done']"), ["E114 notify_on[1]"]);
    // What a schedule that pauses itself says goes to those who are responsible for all.
    let global = notify("channel = 'slack'\ntarget = '#ops'", "notify_target = '#own'");
    assert_eq!(global.system_route.unwrap().to_string(), "slack:#ops");
    assert_eq!(notify("channel = 'slack'\ntarget = '#ops'", "").system_route, None);
    // A gateway is that of this process unless the file names another.
    let gateway = |lines: &str| read(&format!("[notifications]\n{lines}\n")).unwrap().notifications.gateway;
    assert!(gateway("gateway_url = 'http://127.0.0.1:4097'").is_none() && gateway("gateway_url = ' '").is_none());
    let remote = gateway("gateway_url = 'https://gateway.example.org'\ngateway_token = 'abc'").unwrap();
    assert_eq!((remote.url.as_str(), remote.token.expose()), ("https://gateway.example.org", "abc"));
}

/// What a chat cannot take is said when the file is read, and runs beside it.
#[test]
fn a_run_takes_place_in_its_chat_unless_that_cannot_be() {
    let read = |notifications: &str, entry: &str| {
        let set =
            read(&format!("[notifications]\n{notifications}\n[[schedules]]\nname = 'x'\ncron = '@daily'\n{entry}\n"))
                .unwrap();
        let interaction = match &set.schedules[0].definition {
            Definition::Valid { spec, .. } => spec.interaction,
            Definition::Invalid(errors) => panic!("{errors:?}"),
        };
        (
            interaction,
            set.warnings.iter().map(|warning| format!("{} {}", warning.code, warning.path)).collect::<Vec<_>>(),
        )
    };
    let told = "channel = 'telegram'\ntarget = '1'";
    let remote = format!("{told}\ngateway_url = 'https://gateway.example.org'");
    let long = format!("prompt = '{}'", "x".repeat(32 * 1024 + 1));
    let warned = |path: &str| vec![format!("W302 schedules.x.{path}")];
    assert_eq!(read(told, "prompt = 'p'"), (Interaction::Interactive, vec![]));
    assert_eq!(read(told, "prompt = 'p'\ninteraction = 'silent'"), (Interaction::Silent, vec![]));
    assert_eq!(read(told, &long), (Interaction::Silent, warned("prompt")));
    assert_eq!(read("", &long), (Interaction::Interactive, vec![]), "without a chat it makes no difference");
    assert_eq!(read(told, &format!("{long}\ninteraction = 'silent'")), (Interaction::Silent, vec![]));
    assert_eq!(read(&remote, "prompt = 'p'"), (Interaction::Silent, warned("interaction")));
}

/// A-P36: what `[defaults]` says and a schedule does not is as if the schedule said it.
#[test]
fn what_the_defaults_say_holds_for_every_entry() {
    let spec = |defaults: &str, own: &str| {
        let entry = "[[schedules]]\nname = 'x'\ncron = '0 * * * *'\nprompt = 'p'\ncheck = '/bin/sh'\n";
        let set = read(&format!("[defaults]\n{defaults}\n{entry}{own}\n")).unwrap();
        match &set.get("x").unwrap().definition {
            Definition::Valid { spec, .. } => ScheduleSpec::clone(spec),
            Definition::Invalid(errors) => panic!("{defaults} {own} {errors:?}"),
        }
    };
    for line in [
        "profile = 'ops'",
        "model = 'a/b'",
        "timezone = 'Europe/Berlin'",
        "timeout = '7m'",
        "check_timeout = '3s'",
        "trigger_on = 'any'",
        "workdir = '/'",
        "pause_on_approval = true",
        "approval_timeout = '7h'",
        "sandbox = true",
        "overlap = 'queue_all'",
        "queue_limit = 7",
        "catchup = 'all'",
        "catchup_window = '1h'",
        "catchup_limit = 7",
        "jitter = '7s'",
        "retries = 7",
        "retry_backoff = '7s'",
        "retry_max_delay = '20m'",
        "retry_on = 'any'",
        "pause_after_failures = 7",
        "on_crash = 'fail'",
    ] {
        assert_eq!(spec(line, ""), spec("", line), "{line}");
        assert_ne!(spec(line, ""), spec("", ""), "{line}");
    }
}
