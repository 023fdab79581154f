//! `config …` through the built binary: what the files say, where it comes from, and what is not written.

use serde_json::Value;

use crate::support::{Home, stderr, stdout};

const KEY: &str = "sk-secret-of-the-provider";

fn home() -> Home {
    let home = Home::new();
    home.write(
        "config.toml",
        &format!(
            "[profiles.all]\nmax_turns = 9\n[profiles.ops]   # mine\nmodel = \"my/one\"\n[profiles.ops.providers.my]\ntype = \"custom\"\n\
             api_endpoint = \"http://127.0.0.1:1/v1\"\napi_key = \"{KEY}\"\n"
        ),
    );
    home.write(
        "autopilot.toml",
        "[channels.telegram]\nenabled = false\ntoken = \"${BOT}\"\n[[schedules]]\nname = \"disk\"\ncron = \"@daily\"\nprompt = \"p\"\n",
    );
    home
}

fn file(home: &Home, name: &str) -> String {
    std::fs::read_to_string(home.path(&format!(".stakpak/{name}"))).unwrap()
}

fn json_of(home: &Home, arguments: &[&str]) -> Value {
    let output = home.run(&[arguments, &["--json"]].concat());
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", stderr(&output)))
}

/// A-P33: no secret in `config show`; a reference to one may be seen.
#[test]
fn show_names_the_origin_of_each_value_and_no_secret() {
    let home = home();
    let said = stdout(&home.run(&["config", "show"]));
    assert!(said.contains("profiles.ops.model = \"my/one\"  (config.toml:4)"), "{said}");
    assert!(said.contains("channels.telegram.token = \"${BOT}\"  (autopilot.toml:3)"), "{said}");
    assert!(said.contains("api_key = \"***\"") && !said.contains(KEY), "{said}");
    let said = stdout(&home.run(&["config", "get", "profiles.ops.providers.my.api_key"]));
    assert_eq!(said, "***\n");
}

/// Flag, environment, file, `all`, built in: the first that says something, by name.
#[test]
fn show_effective_tells_what_holds_and_why() {
    let home = home();
    let said = stdout(&home.run(&["config", "show", "--effective", "--profile", "ops"]));
    for line in [
        "profiles.ops.model = \"my/one\"  (config.toml:4)",
        "profiles.ops.max_turns = 9  (config.toml:2)",
        "server.listen = \"127.0.0.1:4096\"  (built in)",
        "defaults.overlap = \"skip\"  (built in)",
    ] {
        assert!(said.contains(line), "{line}\n{said}");
    }
    let mut default = home.command(&["config", "show", "--effective"]);
    let default = default.env("OPENAI_API_KEY", KEY).env("STAKPAK_LOG_FORMAT", "json").output().unwrap();
    let said = stdout(&default);
    assert!(said.contains("profiles.default.model = \"openai/gpt-5\"  (the first provider)"), "{said}");
    assert!(said.contains("profiles.default.providers.openai.api_key = \"***\"  (OPENAI_API_KEY)"), "{said}");
    assert!(said.contains("server.log_format = \"json\"  (STAKPAK_LOG_FORMAT)") && !said.contains(KEY), "{said}");
}

/// All that is wrong, in one pass, with its place; unknown keys fail only when that is asked for.
#[test]
fn validate_tells_all_that_is_wrong() {
    let home = home();
    let telegram = "[channels.telegram]\nenabled = false\ntoken = \"1:x\"\nprofile = \"gone\"\n";
    let schedule = "[[schedules]]\nname = \"disk\"\ncron = \"0 25 * * *\"\nprompt = \"p\"\n";
    let other = "[[schedules]]\nname = \"other\"\ncron = \"@daily\"\nprompt = \"p\"\nprofile = \"op\"\n";
    let gateway = "[gateway]\napproval_allowlist = [\"view\", \"run_command::\"]\n";
    let text = format!("[server]\nlistem = 1\nlisten = \"nowhere\"\n{telegram}{schedule}{other}{gateway}");
    home.write("autopilot.toml", &text);
    let output = home.run(&["config", "validate"]);
    assert_eq!(output.status.code(), Some(1));
    let said = stdout(&output);
    for finding in [
        "autopilot.toml:3:10: error[E002] server.listen",
        "autopilot.toml:2:1: warning[W301] server.listem: unknown key, did you mean `listen`?",
        "autopilot.toml:7:11: error[E204] channels.telegram.profile",
        "autopilot.toml:10:8: error[E102] schedules.disk.cron",
        "autopilot.toml:16:11: error[E111] schedules.other.profile",
        "autopilot.toml:18:22: error[E201] gateway.approval_allowlist: \"run_command::\" has an empty part",
    ] {
        assert!(said.contains(finding), "{finding}\n{said}");
    }

    home.write("autopilot.toml", "[server]\nlistem = 1\n");
    assert!(home.run(&["config", "validate"]).status.success());
    let strict = json_of(&home, &["config", "validate", "--strict"]);
    assert_eq!((&strict["ok"], &strict["findings"][0]["code"]), (&Value::Bool(false), &Value::from("W301")));

    home.write("autopilot.toml", "listen = \n");
    let broken = home.run(&["config", "validate"]);
    assert_eq!(broken.status.code(), Some(1));
    assert!(stdout(&broken).contains("autopilot.toml:1:"), "{}", stdout(&broken));
}

/// A-P34: the samples parse without a warning, and are what `new` writes.
#[test]
fn samples_are_in_order() {
    let home = Home::new();
    assert!(home.run(&["config", "new"]).status.success());
    assert_eq!(file(&home, "config.toml"), stdout(&home.run(&["config", "sample"])));
    let strict = home.run(&["config", "validate", "--strict"]);
    assert!(strict.status.success(), "{}", stdout(&strict));
    home.write("autopilot.toml", &stdout(&home.run(&["config", "sample", "autopilot"])));
    let strict = home.run(&["config", "validate", "--strict"]);
    assert!(strict.status.success(), "{}", stdout(&strict));

    home.write("config.toml", "# mine\n");
    assert!(stdout(&home.run(&["config", "new"])).contains("stays"));
    assert_eq!(file(&home, "config.toml"), "# mine\n");
}

/// A-P31: only the key changes, and what the parser refuses is not written.
#[test]
fn set_changes_one_key_or_nothing() {
    let home = home();
    let (config, autopilot) = (file(&home, "config.toml"), file(&home, "autopilot.toml"));
    for (key, value) in
        [("profiles.ops.model", "my/two"), ("schedules.disk.timeout", "5m"), ("server.limits.streams", "7")]
    {
        let output = home.run(&["config", "set", key, value]);
        assert!(output.status.success(), "{key}: {}", stderr(&output));
        assert_eq!(stdout(&home.run(&["config", "get", key])).trim(), value);
    }
    assert_eq!(file(&home, "config.toml"), config.replace("my/one", "my/two"));
    assert_eq!(file(&home, "autopilot.toml"), format!("{autopilot}timeout = \"5m\"\n\n[server.limits]\nstreams = 7\n"));

    let before = file(&home, "autopilot.toml");
    for (key, value, code, cause) in [
        ("server.listen", "nowhere", 1, "server.listen"),
        ("schedules.disk.cron", "0 25 * * *", 1, "25"),
        ("server.listem", "x", 2, "server.listen"),
        ("schedules.gone.cron", "@daily", 1, "gone"),
        ("server.limits.streams", "many", 2, "a whole number"),
        ("defaults.overlap", "sometimes", 2, "queue_one"),
    ] {
        let output = home.run(&["config", "set", key, value]);
        assert_eq!(output.status.code(), Some(code), "{key}: {}", stderr(&output));
        assert!(stderr(&output).contains(cause), "{key}: {}", stderr(&output));
    }
    assert_eq!(file(&home, "autopilot.toml"), before);
}

/// What the editor leaves is written only if it can be used; nothing of it is lost.
#[test]
fn edit_writes_what_can_be_used() {
    let home = home();
    let edit = |script: &str| {
        home.command(&["config", "edit", "autopilot"]).env("EDITOR", format!("sed -i {script}")).output().unwrap()
    };
    assert!(edit("s/disk/disks/").status.success());
    assert!(file(&home, "autopilot.toml").contains("\"disks\""));
    let before = file(&home, "autopilot.toml");
    let refused = edit("s/@daily/@never/");
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        stderr(&refused).contains("E102") && stderr(&refused).contains(".edit-autopilot.toml"),
        "{}",
        stderr(&refused)
    );
    assert_eq!(file(&home, "autopilot.toml"), before);
    assert!(file(&home, ".edit-autopilot.toml").contains("@never"));
}

#[test]
fn list_path_and_schema_are_for_programs_too() {
    let home = home();
    let list = json_of(&home, &["--profile", "ops", "config"]);
    let of = |name: &str| list["profiles"].as_array().unwrap().iter().find(|it| it["name"] == name).unwrap().clone();
    assert_eq!((&of("ops")["model"], &of("ops")["current"]), (&Value::from("my/one"), &Value::Bool(true)));
    assert_eq!(of("readonly")["model"], "builtin/offline");
    let paths = json_of(&home, &["config", "path"]);
    assert_eq!(paths["files"][0]["path"], home.path(".stakpak/config.toml").display().to_string());

    let schema = json_of(&home, &["config", "schema"]);
    let schedule = &schema["autopilot.toml"]["properties"]["schedules"]["items"]["properties"];
    assert_eq!(schedule["enabled"]["type"], "boolean");
    let provider = &schema["config.toml"]["properties"]["profiles"]["additionalProperties"]["properties"]["providers"];
    assert_eq!(provider["additionalProperties"]["properties"]["requires_done"]["default"], true);
}

/// What 0.3.x calls `set --machine-name` is a key like any other.
#[test]
fn the_name_of_the_machine_is_set_and_shown() {
    let home = home();
    let before = file(&home, "config.toml");
    assert!(home.run(&["set", "--machine-name", "build 1"]).status.success());
    assert_eq!(file(&home, "config.toml"), format!("{before}\n[settings]\nmachine_name = \"build 1\"\n"));
    assert_eq!(json_of(&home, &["status"])["machine_name"], "build 1");
    assert_eq!(home.run(&["set"]).status.code(), Some(2));
}
