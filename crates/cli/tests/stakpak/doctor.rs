//! `doctor` and `backup` of the shipped binary, beside a running instance.

use std::{fs, os::unix::fs::PermissionsExt};

use serde_json::Value;
use stakpak_test_support::write_executable;

use crate::support::{Home, stderr, stdout, until};

fn json(output: &std::process::Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}{}", stdout(output), stderr(output)))
}

#[test]
fn a_fresh_home_is_healthy_and_has_nothing_to_back_up() {
    let home = Home::new();
    let doctor = home.run(&["doctor", "--json"]);
    assert_eq!((doctor.status.code(), json(&doctor)["ok"].clone()), (Some(0), Value::Bool(true)));
    let backup = home.run(&["autopilot", "backup", "copy.db"]);
    assert_eq!(backup.status.code(), Some(1));
    assert!(stderr(&backup).contains("no journal yet"), "{}", stderr(&backup));
    assert!(!home.path(".stakpak/autopilot/journal.db").exists() && !home.path("copy.db").exists());
}

/// The copy is a journal that another instance serves.
#[test]
fn a_backup_beside_a_running_instance_is_a_journal() {
    let home = Home::new();
    let up = home.up();
    assert!(home.run(&["run", "disk"]).status.success());
    let doctor = home.run(&["doctor", "--json"]);
    let told = json(&doctor);
    assert_eq!(doctor.status.code(), Some(0), "{told}");
    assert_eq!((&told["probes"][0]["status"], &told["journal"]["sessions"]), (&"pass".into(), &1.into()), "{told}");

    let backup = home.run(&["autopilot", "backup", "copy.db", "--json"]);
    let copied = json(&backup);
    assert_eq!(backup.status.code(), Some(0), "{copied}");
    assert_eq!(
        (&copied["sessions"], &copied["runs"], &copied["rows"]),
        (&1.into(), &1.into(), &told["journal"]["rows"])
    );
    let there = fs::metadata(home.path("copy.db")).unwrap();
    assert_eq!((there.permissions().mode() & 0o777, Some(there.len())), (0o600, copied["bytes"].as_u64()));

    let again = home.run(&["autopilot", "backup", "copy.db"]);
    let refused = stderr(&again);
    assert!(again.status.code() == Some(2) && refused.contains("copy.db") && refused.contains("--force"), "{refused}");
    let itself = home.run(&["autopilot", "backup", ".stakpak/autopilot/journal.db", "--force"]);
    assert!(itself.status.code() == Some(2) && stderr(&itself).contains("itself"), "{}", stderr(&itself));
    assert!(home.run(&["run", "help"]).status.success());
    let replaced = home.run(&["autopilot", "backup", "copy.db", "--force"]);
    assert!(replaced.status.success() && stdout(&replaced).contains("2 sessions"), "{}", stdout(&replaced));
    assert_eq!(up.stop(), Some(0));

    let restored = Home::new();
    restored.write("autopilot/journal.db", "");
    fs::copy(home.path("copy.db"), restored.path(".stakpak/autopilot/journal.db")).unwrap();
    let up = restored.up();
    let listed = restored.run(&["doctor", "--json"]);
    assert_eq!(json(&listed)["journal"]["sessions"], 2);
    assert_eq!(up.stop(), Some(0));
}

/// The audit log of the chat gateway is looked at beside a running instance; who changed it is not hidden by that.
#[test]
fn a_changed_audit_log_is_told() {
    let home = Home::new();
    let up = home.up();
    for user in ["5", "6"] {
        assert!(home.run(&["channel", "access", "allow", "telegram", user]).status.success());
    }
    let told = json(&home.run(&["doctor", "--json"]));
    assert_eq!((&told["ok"], &told["probes"][1]["status"]), (&Value::Bool(true), &"pass".into()), "{told}");
    assert_eq!(up.stop(), Some(0));
    let file = home.path(".stakpak/autopilot/gateway.db");
    let mut bytes = fs::read(&file).unwrap();
    let subject = bytes.windows(15).position(|seen| seen == b"telegram:user:5").unwrap();
    bytes[subject + 14] = b'7';
    fs::write(&file, bytes).unwrap();
    let doctor = home.run(&["doctor", "--json"]);
    let told = json(&doctor);
    assert_eq!((doctor.status.code(), &told["probes"][0]["status"]), (Some(1), &"pass".into()), "{told}");
    assert_eq!((&told["probes"][1]["status"], &told["counts"]["fail"]), (&"fail".into(), &1.into()), "{told}");
    assert!(told["probes"][1]["details"].as_str().unwrap().contains("entry 1"), "{told}");
}

/// P48: with a damaged projection in it, the instance starts, lists the other sessions, and says which is damaged.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_session_is_named_and_the_others_are_served() {
    let home = Home::new();
    let up = home.up();
    let client = up.client();
    let damaged = client.create_session("damaged").await.unwrap().id;
    let whole = client.create_session("whole").await.unwrap().id;
    assert_eq!(up.stop(), Some(0));
    let file = home.path(".stakpak/autopilot/journal.db");
    let mut bytes = fs::read(&file).unwrap();
    let title = bytes.windows(7).position(|seen| seen == b"damaged").unwrap();
    let active = bytes[..title].windows(6).rposition(|seen| seen == b"ACTIVE").unwrap();
    bytes[active] = b'X';
    fs::write(&file, bytes).unwrap();

    let up = home.up();
    let doctor = home.run(&["doctor"]);
    assert_eq!(doctor.status.code(), Some(1));
    assert!(stdout(&doctor).contains(&format!("session {damaged}")), "{}", stdout(&doctor));
    let told = json(&home.run(&["doctor", "--json"]));
    assert_eq!((&told["ok"], &told["probes"][0]["status"]), (&Value::Bool(false), &"fail".into()), "{told}");
    assert!(
        told["journal"]["findings"].as_array().unwrap().iter().any(|found| found["session"] == damaged.to_string())
    );
    let get = async |path: &str| {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let response = http.get(format!("{}/v1/{path}", up.url)).bearer_auth(&up.token).send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    let (status, listed) = get("sessions").await;
    assert_eq!((status, &listed["sessions"][0]["id"]), (200, &whole.to_string().into()), "{listed}");
    let (status, own) = get(&format!("sessions/{damaged}")).await;
    assert_eq!((status, &own["code"]), (500, &"checkpoint_read_failed".into()), "{own}");
}

/// What is no database is named with the reason and never changed.
#[test]
fn a_file_that_is_no_journal_is_named_and_kept() {
    let home = Home::new();
    home.write("autopilot/journal.db", "somebody's notes, which are not a database at all");
    for command in [&["doctor"][..], &["autopilot", "backup", "copy.db"]] {
        let output = home.run(command);
        let told = stdout(&output) + &stderr(&output);
        assert!(output.status.code() == Some(1) && told.contains("not a database"), "{told}");
    }
    let kept = fs::read(home.path(".stakpak/autopilot/journal.db")).unwrap();
    assert_eq!(kept, b"somebody's notes, which are not a database at all");
    assert!(!home.path("copy.db").exists());
}

/// What is wrong is told with what it means: only what keeps `up` from its work fails the command.
#[test]
fn doctor_tells_what_is_wrong_and_how_bad_it_is() {
    let home = Home::new();
    home.write(
        "autopilot.toml",
        "[server]\nlisten = \"127.0.0.1:0\"\n[notifications]\nchannel = \"telegram\"\ntarget = \"42\"\n[[schedules]]\nname = \"a\"\n\
         cron = \"@daily\"\nprompt = \"p\"\npause_on_approval = true\nprofile = \"gone\"\n[channels.telegram]\n\
         token = \"123456:abcdefghijklmnopqrstuvwxyz012345678\"\n",
    );
    let file = home.path(".stakpak/autopilot.toml");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let failed = |told: &Value| -> Vec<String> {
        let probes = told["probes"].as_array().unwrap().iter().filter(|probe| probe["status"] == "fail");
        let told =
            probes.map(|probe| format!("{} {}", probe["severity"].as_str().unwrap(), probe["id"].as_str().unwrap()));
        let of_machine = ["disk_space", "memory", "timezone_data"];
        told.filter(|probe| !of_machine.iter().any(|id| probe.ends_with(id))).collect()
    };
    let doctor = home.run(&["doctor", "--json"]);
    let told = json(&doctor);
    assert_eq!(
        (doctor.status.code(), failed(&told)),
        (Some(0), ["config_permissions", "profile_references", "approvers"].map(|id| format!("warning {id}")).to_vec()),
        "{told:#}"
    );
    let fixed = json(&home.run(&["doctor", "--fix", "--json"]));
    assert_eq!(fixed["fixed"].as_array().unwrap().len(), 1, "{fixed:#}");
    assert!(!failed(&fixed).contains(&"warning config_permissions".to_owned()));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    home.write("autopilot.toml", "[server\n");
    let broken = home.run(&["doctor", "--json"]);
    let told = json(&broken);
    assert_eq!(broken.status.code(), Some(1));
    assert!(failed(&told).contains(&"blocking config_parse".to_owned()), "{told:#}");
}

/// What `doctor` says of these probes, in their order; `-` of one that is not there.
fn looks(home: &Home, ids: &[&str]) -> Vec<String> {
    let told = json(&home.run(&["doctor", "--json"]));
    let probes = told["probes"].as_array().unwrap();
    let look = |id: &&str| {
        let probe = probes.iter().find(|probe| probe["id"] == *id);
        let status = probe.map_or("-", |probe| probe["status"].as_str().unwrap());
        format!("{id} {status}")
    };
    ids.iter().map(look).collect()
}

fn all_are(home: &Home, ids: &[&str], status: &str) {
    let expected: Vec<_> = ids.iter().map(|id| format!("{id} {status}")).collect();
    assert_eq!(looks(home, ids), expected);
}

/// Of people's files: each probe passes, fails and has nothing to look at.
const OF_FILES: [&str; 10] = [
    "schedules_valid",
    "channels_valid",
    "check_scripts",
    "profile_references",
    "notification_routes",
    "approvers",
    "tool_grants",
    "sandbox_mount_inputs",
    "budget_prices",
    "exposure",
];

const PRICED: &str = "[profiles.default.providers.my]\ntype = \"custom\"\napi_endpoint = \"http://127.0.0.1:9\"\n";

#[test]
fn each_probe_of_the_files_passes_where_all_is_well() {
    let home = Home::new();
    let check = home.path("check");
    write_executable(&check, "#!/bin/sh\n");
    home.write(
        "config.toml",
        &format!(
            "[profiles.default]\nmodel = \"my/test\"\nallowed_tools = [\"view\"]\nbudget = {{ usd_per_day = 1 }}\n\
             sandbox = {{ level = \"landlock\", read = [\"/usr\"] }}\n{PRICED}[cost.\"my/test\"]\ninput = 1\noutput = 1\n"
        ),
    );
    home.write(
        "autopilot.toml",
        &format!(
            "[server]\nlisten = \"127.0.0.1:1\"\n[[schedules]]\nname = \"a\"\ncron = \"@daily\"\nprompt = \"p\"\n\
             check = \"{}\"\nnotify_channel = \"telegram\"\nnotify_target = \"1\"\n[channels.telegram]\n\
             token = \"123456:abcdefghijklmnopqrstuvwxyz012345678\"\nallow_users = [1]\napprovers = [1]\nprofile = \"default\"\n",
            check.display()
        ),
    );
    for file in ["config.toml", "autopilot.toml"] {
        fs::set_permissions(home.path(&format!(".stakpak/{file}")), fs::Permissions::from_mode(0o600)).unwrap();
    }
    all_are(&home, &OF_FILES, "pass");
    all_are(
        &home,
        &["landlock", "config_parse", "state_dir", "config_permissions", "credentials", "bind_port"],
        "pass",
    );
}

#[test]
fn each_probe_of_the_files_fails_by_its_own_cause() {
    let taken = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let home = Home::new();
    home.write(
        "config.toml",
        &format!(
            "[profiles.default]\nmodel = \"my/test\"\nallowed_tools = [\"*\"]\nbudget = {{ usd_per_day = 1 }}\n\
             sandbox = {{ level = \"container\", write = [\"/\"] }}\n{PRICED}"
        ),
    );
    home.write(
        "autopilot.toml",
        &format!(
            "[server]\nlisten = \"0.0.0.0:{}\"\nauto_approve_all = true\n[[schedules]]\nname = \"a\"\ncron = \"@daily\"\n\
             prompt = \"p\"\nprofile = \"gone\"\nnotify_channel = \"discord\"\nnotify_target = \"1\"\n[[schedules]]\nname = \"b\"\n\
             cron = \"99 * * * *\"\nprompt = \"p\"\n[[schedules]]\nname = \"c\"\ncron = \"@daily\"\nprompt = \"p\"\n\
             check = \"/nowhere\"\n[channels.telegram]\ntoken = \"1:a\"\nallow_users = [1]\n[channels.slack]\nbot_token = \"x\"\n",
            taken.local_addr().unwrap().port()
        ),
    );
    all_are(&home, &OF_FILES, "fail");
    all_are(&home, &["bind_port", "docker_accessible"], "fail");
}

#[test]
fn each_probe_says_that_there_is_nothing_to_look_at() {
    let home = Home::new();
    let nothing = ["channels_valid", "check_scripts", "landlock", "sandbox_mount_inputs", "budget_prices"];
    all_are(&home, &nothing, "skip");
    all_are(&home, &["docker_installed", "docker_accessible", "docker_user_systemd"], "skip");
    all_are(&home, &["lock_owner", "scheduler_heartbeat", "database_integrity", "gateway_database"], "skip");
    home.write("config.toml", "[profiles\n");
    all_are(&home, &["config_parse"], "fail");
    all_are(&home, &["sandbox_mount_inputs", "profile_references", "tool_grants", "budget_prices"], "skip");
    home.write("autopilot.toml", "[server\n");
    all_are(&home, &["schedules_valid", "channels_valid"], "skip");
}

#[test]
fn each_probe_of_the_instance_follows_it() {
    let home = Home::new();
    let up = home.up();
    // Parts may still be starting when it is ready.
    until("all parts", || looks(&home, &["lock_owner"])[0].ends_with("pass").then_some(()));
    all_are(&home, &["lock_owner", "scheduler_heartbeat", "database_integrity"], "pass");
    all_are(&home, &["bind_port"], "skip");
    assert_eq!(up.stop(), Some(0));
    let _up = home.up_with(&["--no-scheduler"]);
    all_are(&home, &["scheduler_heartbeat"], "skip");
}
