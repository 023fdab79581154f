//! `channel …` through the built binary: what is written and what is not, who is let in, and what fails by which cause.

use axum::{Json, Router, http::StatusCode};
use serde_json::{Value, json};

use crate::{
    support::{Home, stderr, stdout, until},
    telegram::Stage,
};

const STRANGER: i64 = 77;
const TOKEN: &str = "123456:a-token-that-nobody-may-see";

fn file(home: &Home) -> String {
    std::fs::read_to_string(home.path(".stakpak/autopilot.toml")).unwrap()
}

fn json_of(output: &std::process::Output) -> Value {
    assert!(output.status.success(), "{} {}", stdout(output), stderr(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// G-P49: only the named keys change; comments, order, unknown keys and tables of others stay to the byte.
#[test]
fn add_and_remove_change_only_their_keys() {
    let home = Home::new();
    let head = "# mine\n[server] # keep\nlisten = \"127.0.0.1:4096\"   # odd   spacing\n\n[future]\nkey = { a = 1 }\n";
    let note = "\n# about the bot\n";
    let telegram =
        "[channels.telegram]   # the bot\ntoken = \"1:x\" # secret\nfuture_key = true\nallow_users = [ 1 ] # me\n";
    let tail = "\n[[schedules]]\nname = \"a\"   # the last\ncron = \"@daily\"\nprompt = \"p\"\n";
    home.write("autopilot.toml", &format!("{head}{note}{telegram}{tail}"));
    let add = ["channel", "add", "telegram", "--no-test", "--allow-user", "2", "--allow-user", "1", "--approver", "1"];
    let added = home.run(&add);
    assert!(added.status.success(), "{}", stderr(&added));
    let telegram = telegram.replace("[ 1 ] # me\n", "[ 1 , \"2\"] # me\napprovers = [\"1\"]\n");
    assert_eq!(file(&home), format!("{head}{note}{telegram}{tail}"));
    assert!(home.run(&["channel", "remove", "telegram"]).status.success());
    assert_eq!(file(&home), format!("{head}{note}{tail}"));
}

/// G-P49: what comes from the environment is written as a reference; a profile of the environment is not written.
#[test]
fn tokens_of_the_environment_are_not_written() {
    let home = Home::new();
    home.write("autopilot.toml", "");
    home.write("config.toml", "[profiles.ops]\n");
    let mut slack = home.command(&["channel", "add", "slack", "--no-test", "--allow-user", "U0A", "--target", "C0OPS"]);
    slack.env("SLACK_BOT_TOKEN", "xoxb-1-secret").env("SLACK_APP_TOKEN", "xapp-1-secret").env("STAKPAK_PROFILE", "ops");
    let slack = slack.output().unwrap();
    assert!(slack.status.success(), "{}", stderr(&slack));
    let mut discord = home.command(&["channel", "add", "discord", "--no-test", "--token-env", "MY_BOT"]);
    let discord = discord.args(["--profile", "ops", "--allow-chat", "5"]).output().unwrap();
    assert!(discord.status.success(), "{}", stderr(&discord));
    assert_eq!(
        file(&home),
        "[channels.slack]\nbot_token = \"${SLACK_BOT_TOKEN}\"\napp_token = \"${SLACK_APP_TOKEN}\"\nallow_users = [\"U0A\"]\n\
         \n[channels.discord]\ntoken = \"${MY_BOT}\"\nprofile = \"ops\"\nallow_chats = [\"5\"]\n\
         \n[notifications]\nchannel = \"slack\"\ntarget = \"C0OPS\"\n"
    );
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(home.path(".stakpak/autopilot.toml")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn flags_that_do_not_fit_are_refused_and_nothing_is_written() {
    let home = Home::new();
    home.write("autopilot.toml", "# mine\n");
    for (arguments, code, cause) in [
        (&["add", "slack", "--token", "x"][..], 2, "--bot-token and --app-token"),
        (&["add", "telegram", "--bot-token", "x"], 2, "it takes --token"),
        (&["add", "whatsapp", "--token", "x"], 2, "unsupported"),
        (&["add", "slack", "--bot-token", "xoxb-1"], 2, "SLACK_APP_TOKEN"),
        (&["add", "slack", "--bot-token", "xapp-1", "--app-token", "xoxb-1", "--no-test"], 1, "`xoxb-`"),
        (&["add", "telegram", "--token", "1:x", "--api-base-url", "http://example.com", "--no-test"], 1, "https"),
        (&["add", "telegram", "--token", "1:x", "--profile", "nobody", "--no-test"], 1, "nobody"),
        (&["add", "telegram", "--token-env", "12:a"], 2, "name of a variable"),
        (&["remove", "discord"], 1, "no channel discord"),
        (&["manifest", "telegram"], 2, "only slack"),
    ] {
        let refused = home.run(&[&["channel"], arguments].concat());
        assert_eq!(refused.status.code(), Some(code), "{arguments:?}: {}", stderr(&refused));
        assert!(stderr(&refused).contains(cause), "{arguments:?}: {}", stderr(&refused));
        assert_eq!(file(&home), "# mine\n", "{arguments:?}");
    }
}

/// G-P49: killed by the first write, as by a full disk or a power cut, the file is as it was.
#[test]
fn an_interrupted_add_leaves_the_old_file() {
    let home = Home::new();
    home.write("autopilot.toml", "# mine\n");
    assert!(home.run(&["channel", "list"]).status.success(), "directories and lock files are there");
    let add = home.command(&["channel", "add", "telegram", "--no-test", "--token", "1:x"]);
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "ulimit -c 0; ulimit -f 0; exec \"$0\" \"$@\""]).arg(add.get_program()).args(add.get_args());
    shell.env_clear().env("HOME", home.directory.path()).current_dir(home.directory.path());
    let killed = shell.output().unwrap();
    assert!(!killed.status.success(), "{}", stdout(&killed));
    assert_eq!(file(&home), "# mine\n");
    assert!(home.run(&["channel", "add", "telegram", "--no-test", "--token", "1:x"]).status.success());
    let added = file(&home);
    assert!(added.contains("[channels.telegram]\ntoken = \"1:x\"\n") && added.contains("# mine\n"), "{added}");
}

/// A bad token, a host that is not there: the file stays, the exit code is 1, the causes differ. G-P50: no token is shown.
#[tokio::test(flavor = "multi_thread")]
async fn a_failing_test_writes_nothing_and_tells_the_cause() {
    let refusing = Router::new().fallback(|| async {
        (StatusCode::UNAUTHORIZED, Json(json!({"ok": false, "error_code": 401, "description": "Unauthorized"})))
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move { axum::serve(listener, refusing).await });
    let home = Home::new();
    home.write("autopilot.toml", "# mine\n");
    let add = |more: &[&str]| {
        home.run(&[&["channel", "add", "telegram", "--token", TOKEN, "--api-base-url", &url], more].concat())
    };
    let refused = add(&[]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("refused the bot token"), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("nothing was written"), "{}", stderr(&refused));
    assert_eq!(file(&home), "# mine\n");
    assert!(add(&["--no-test"]).status.success());
    let bad = home.run(&["channel", "test", "telegram", "--json"]);
    assert_eq!(bad.status.code(), Some(1));
    let outcome: Value = serde_json::from_slice(&bad.stdout).unwrap();
    assert_eq!((&outcome["ok"], &outcome["channels"][0]["cause"]), (&json!(false), &json!("bad_token")));
    serving.abort();
    let _ = serving.await;
    let gone = home.run(&["channel", "test", "--json"]);
    assert_eq!(gone.status.code(), Some(1));
    let outcome: Value = serde_json::from_slice(&gone.stdout).unwrap();
    assert_eq!(outcome["channels"][0]["cause"], "unreachable", "{outcome}");
    let list = home.run(&["channel", "list", "--json"]);
    for output in [&refused, &bad, &gone, &list] {
        assert!(!stdout(output).contains("a-token-that") && !stderr(output).contains("a-token-that"), "{output:?}");
    }
}

/// From nothing to a conversation: a channel is added to what runs, its owner comes in by the code, a stranger by the owner's
/// word; taking it back counts at once. G-P50: the token is in no log and in no output.
#[tokio::test(flavor = "multi_thread")]
async fn a_channel_is_added_to_what_runs_and_people_are_let_in() {
    let stage = Stage::new().await;
    stage.home.write("autopilot.toml", "");
    let up = stage.up();
    let base = stage.telegram.base_url();
    let add = ["channel", "add", "telegram", "--token", TOKEN, "--api-base-url", &base, "--json"];
    let added = json_of(&stage.home.run(&add));
    assert_eq!((&added["live"], &added["identity"]), (&json!("connected"), &json!("@test_bot")), "{added}");
    let owner_code = added["owner_code"].as_str().unwrap();
    stage.telegram.say(42, &format!("/pair {owner_code}"));
    stage.telegram.wait_for_sent(|sent| sent.iter().any(|sent| sent.chat_id == 42)).await;
    stage.telegram.say(42, "hello");
    stage.telegram.wait_for_sent(|sent| sent.iter().any(|sent| sent.text.contains("hello"))).await;

    stage.telegram.say(STRANGER, "let me in");
    let sent = stage.telegram.wait_for_sent(|sent| sent.iter().any(|sent| sent.chat_id == STRANGER)).await;
    let told = sent.iter().find(|sent| sent.chat_id == STRANGER).unwrap();
    let code = told.text.split("pair approve ").nth(1).unwrap();
    let waiting = json_of(&stage.home.run(&["channel", "pair", "list", "--json"]));
    assert_eq!(waiting["pairings"][0]["user_id"], "77", "{waiting}");
    let wrong = stage.home.run(&["channel", "pair", "approve", "AAAAAAAA"]);
    assert_eq!(wrong.status.code(), Some(1), "{}", stdout(&wrong));
    let approved = json_of(&stage.home.run(&["autopilot", "channel", "pair", "approve", code, "--json"]));
    assert_eq!(approved["pairing"]["user_id"], "77", "{approved}");
    stage.telegram.say(STRANGER, "good morning");
    stage.telegram.wait_for_sent(|sent| sent.iter().any(|sent| sent.text.contains("good morning"))).await;
    let access = json_of(&stage.home.run(&["channel", "access", "list", "--json"]));
    let roles: Vec<_> = access["access"].as_array().unwrap().iter().map(|who| (&who["id"], &who["role"])).collect();
    assert_eq!(roles, [(&json!("42"), &json!("admin")), (&json!("77"), &json!("user"))]);

    assert!(stage.home.run(&["channel", "access", "revoke", "telegram", "77"]).status.success());
    stage.telegram.say(STRANGER, "and now");
    let last = stage.telegram.say(42, "the end");
    stage.telegram.wait_for_sent(|sent| sent.iter().any(|sent| sent.text.contains("the end"))).await;
    stage.telegram.wait_for_confirmed(last).await;
    assert!(!Stage::user_messages(&up).await.contains_key("and now"));

    let list = stage.home.run(&["channel", "list"]);
    assert!(stdout(&list).contains("user 42 (admin)") && stdout(&list).contains("connected"), "{}", stdout(&list));
    let sent = stage.home.run(&["channel", "test", "telegram", "--send", "42"]);
    assert!(stdout(&sent).contains("a message was sent"), "{} {}", stdout(&sent), stderr(&sent));
    let mut texts = vec![added.to_string(), stdout(&list), stdout(&stage.home.run(&["status", "--json"]))];
    for log in ["server", "gateway", "scheduler"] {
        texts.push(std::fs::read_to_string(stage.home.path(&format!(".stakpak/autopilot/logs/{log}.log"))).unwrap());
    }
    assert!(!texts.concat().contains("a-token-that"), "{texts:?}");
}

/// `up` reads the gateway's own file as long as its file has no channels, and `channel` edits the one that `up` reads.
#[tokio::test(flavor = "multi_thread")]
async fn channels_of_the_gateways_own_file_are_used() {
    let stage = Stage::new().await;
    let text = file(&stage.home);
    stage.home.write("autopilot.toml", "# mine\n");
    stage.home.write("gateway.toml", &text);
    let _up = stage.up();
    stage.telegram.say(42, "hello");
    stage.telegram.wait_for_sent(|sent| !sent.is_empty()).await;
    let removed = stage.home.run(&["channel", "remove", "telegram"]);
    assert!(removed.status.success(), "{}", stderr(&removed));
    assert_eq!(file(&stage.home), "# mine\n");
    until("the removal to be noticed", || {
        let list = json_of(&stage.home.run(&["status", "--json"]));
        (list["channels"] == json!([])).then_some(())
    });
}
