//! `serve` and `gateway …` through the built binary: the gateway in a process of its own, and its operator's commands.

use serde_json::{Value, json};
use stakpak_test_support::SendFault;

use crate::{
    support::{Home, PATIENCE, stderr, stdout, until},
    telegram::Stage,
};

fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap()
}

/// `serve` leaves the chats alone; `gateway run` beside it answers them, and guards its own listener (G-P51).
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_beside_a_server_answers_a_chat() {
    let stage = Stage::new().await;
    let server = stage.home.start(stage.home.command(&["serve", "--json", "--bind", "127.0.0.1:0"]));
    let run = ["gateway", "run", "--json", "--bind", "127.0.0.1:0", "--url", &server.url, "--require-server"];
    let gateway = stage.home.start(stage.home.command(&run));
    stage.telegram.say(42, "hello");
    stage.telegram.wait_for_sent(|sent| sent.iter().any(|sent| sent.text.contains("hello"))).await;
    assert_eq!(Stage::user_messages(&server).await, [("hello".to_owned(), 1)].into());

    let get = |path: &str| http().get(format!("{}{path}", gateway.url));
    let status = |request: reqwest::RequestBuilder| async move { request.send().await.unwrap().status().as_u16() };
    let channels = get("/v1/gateway/channels").bearer_auth(&server.token).send().await.unwrap();
    assert!(channels.headers().contains_key("x-request-id"));
    let channels: Value = channels.json().await.unwrap();
    assert_eq!(channels["channels"][0]["status"], "connected", "{channels}");
    assert_eq!(status(get("/v1/health")).await, 200);
    assert_eq!(status(get("/v1/gateway/status")).await, 200);
    assert_eq!(status(get("/v1/gateway/channels")).await, 401);
    assert_eq!(status(get("/v1/gateway/channels").bearer_auth("wrong")).await, 401);
    let token = &server.token;
    assert_eq!(status(get("/v1/gateway/channels").bearer_auth(token).header("host", "evil.example")).await, 403);
    let of_page = get("/v1/gateway/channels").bearer_auth(token).header("origin", "https://evil.example");
    assert_eq!(status(of_page).await, 403);
    assert_eq!(status(http().get(format!("{}/v1/gateway/status", server.url)).bearer_auth(token)).await, 404);

    let list = stage.home.run(&["gateway", "channels", "list", "--json"]);
    let list: Value = serde_json::from_slice(&list.stdout).unwrap();
    assert_eq!(list["channels"][0]["state"], "connected", "{list}");
    let second = stage.home.run(&["gateway", "run", "--bind", "127.0.0.1:0"]);
    assert_eq!(second.status.code(), Some(1));
    assert!(stderr(&second).contains("already"), "{}", stderr(&second));
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(server.stop(), Some(0));
}

/// `serve --gateway` is one process; its file is the named one.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_its_gateway_reads_the_named_file() {
    let stage = Stage::new().await;
    let named = stage.home.path("elsewhere.toml");
    std::fs::rename(stage.home.path(".stakpak/autopilot.toml"), &named).unwrap();
    let named = named.to_str().unwrap();
    let serve = ["serve", "--json", "--bind", "127.0.0.1:0", "--gateway", "--gateway-config", named];
    let _server = stage.home.start(stage.home.command(&serve));
    stage.telegram.say(42, "hello");
    stage.telegram.wait_for_sent(|sent| sent.iter().any(|sent| sent.text.contains("hello"))).await;
    let absent = stage.home.run(&["serve", "--gateway", "--gateway-config", "nowhere.toml"]);
    assert_eq!(absent.status.code(), Some(2), "{}", stderr(&absent));
}

/// G-P53: a second process on the same store, or with the same bot token, is refused and names what is in use; once the first
/// has ended, however it did, the place is free.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_on_a_store_or_a_token_is_refused() {
    let stage = Stage::new().await;
    let serve = ["serve", "--json", "--bind", "127.0.0.1:0", "--gateway"];
    let server = stage.home.start(stage.home.command(&serve));
    stage.telegram.say(42, "hello");
    stage.telegram.wait_for_sent(|sent| sent.iter().any(|sent| sent.text.contains("hello"))).await;
    let run = ["gateway", "run", "--json", "--bind", "127.0.0.1:0"];
    let other_store = [&run[..], &["--store", "other.db"]].concat();
    for (arguments, cause) in [(&run[..], "gateway.db is in use"), (&other_store, "telegram bot token is in use")] {
        let refused = stage.home.run(arguments);
        assert_eq!(refused.status.code(), Some(1), "{}", stderr(&refused));
        assert!(stderr(&refused).contains(cause), "{}", stderr(&refused));
        assert!(stderr(&refused).contains(&format!("process {}", server.child.id())), "{}", stderr(&refused));
    }
    server.kill();
    let gateway = stage.home.start(stage.home.command(&run));
    assert_eq!(gateway.stop(), Some(0));
}

/// G-P51: without a token the API is for this machine only.
#[test]
fn an_open_api_is_refused_on_other_addresses() {
    let home = Home::new();
    home.write("gateway.toml", "[channels.telegram]\ntoken = \"1:x\"\napi_base_url = \"http://127.0.0.1:9\"\n");
    let refused = home.run(&["gateway", "run", "--bind", "0.0.0.0:0"]);
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("without a token"), "{}", stderr(&refused));
}

/// G-P48: a file that is no TOML is refused with its place; no channel is said, not served in silence.
#[test]
fn a_gateway_that_could_not_receive_does_not_start() {
    let home = Home::new();
    let run = |text: &str| {
        home.write("gateway.toml", text);
        home.run(&["gateway", "run", "--bind", "127.0.0.1:0"])
    };
    for (text, cause) in [
        ("[channels.telegram\n", "gateway.toml:1:"),
        ("", "no channel is configured"),
        ("[channels.telegram]\ntoken = \" \"\n", "gateway.toml:2:9"),
    ] {
        let refused = run(text);
        assert_eq!(refused.status.code(), Some(1), "{text}: {}", stderr(&refused));
        assert!(stderr(&refused).contains(cause), "{text}: {}", stderr(&refused));
    }
    let absent = home.run(&["gateway", "run", "--config", "nowhere.toml"]);
    assert_eq!(absent.status.code(), Some(2), "{}", stderr(&absent));
}

/// A new file holds references and the tools that only look; a second time it is changed only with `--force`, after a copy.
#[tokio::test(flavor = "multi_thread")]
async fn init_writes_a_file_once() {
    let stage = Stage::new().await;
    let file = || std::fs::read_to_string(stage.home.path(".stakpak/gateway.toml")).unwrap();
    let nothing = stage.home.run(&["gateway", "init"]);
    assert_eq!(nothing.status.code(), Some(2), "{}", stderr(&nothing));
    let half = stage.home.run(&["gateway", "init", "--slack-bot-token", "xoxb-1"]);
    assert_eq!(half.status.code(), Some(2), "{}", stderr(&half));
    let mut init = stage.home.command(&["gateway", "init", "--json"]);
    init.env("TELEGRAM_BOT_TOKEN", "1:secret").env("TELEGRAM_API_BASE_URL", stage.telegram.base_url());
    let init = init.output().unwrap();
    assert!(init.status.success(), "{}", stderr(&init));
    let said: Value = serde_json::from_slice(&init.stdout).unwrap();
    assert_eq!(said["channels"][0]["identity"], "@test_bot", "{said}");
    assert_eq!(said["channels"][0]["owner_code"].as_str().map(str::len), Some(8), "{said}");
    assert!(file().contains("approval_mode = \"allowlist\"") && file().contains("\"view\""), "{}", file());
    assert!(file().contains("token = \"${TELEGRAM_BOT_TOKEN}\"") && !file().contains("secret"), "{}", file());
    let before = file();
    let again = ["gateway", "init", "--discord-token", "d", "--no-verify"];
    assert_eq!(stage.home.run(&again).status.code(), Some(1));
    assert_eq!(file(), before);
    let mut forced = stage.home.command(&[&again[..], &["--force", "--json"]].concat());
    let forced = forced.env("TELEGRAM_BOT_TOKEN", "1:secret").output().unwrap();
    assert!(forced.status.success(), "{}", stderr(&forced));
    assert_eq!(file(), format!("{before}\n[channels.discord]\ntoken = \"d\"\n"));
    let said: Value = serde_json::from_slice(&forced.stdout).unwrap();
    assert_eq!(std::fs::read_to_string(said["backup"].as_str().unwrap()).unwrap(), before);
}

/// What the platform refused is parked; the operator sees why, and has it sent again or gives it up.
#[tokio::test(flavor = "multi_thread")]
async fn parked_messages_are_listed_sent_again_and_dropped() {
    let stage = Stage::new().await;
    let _up = stage.up();
    let parked = |count: usize| {
        until("messages to be parked", || {
            let list = stage.home.run(&["gateway", "outbox", "list", "--json"]);
            let list: Value = serde_json::from_slice(&list.stdout).unwrap();
            let failed = list["messages"].as_array()?.iter().filter(|message| message["state"] == "failed");
            let failed: Vec<Value> = failed.cloned().collect();
            (failed.len() == count).then_some(failed)
        })
    };
    stage.telegram.fail_next(SendFault::Refused);
    stage.telegram.say(42, "one");
    let first = parked(1).remove(0);
    assert_eq!(first["target_key"], "telegram:chat:42", "{first}");
    assert!(first["error"].as_str().unwrap().contains("refused"), "{first}");
    let id = first["id"].to_string();
    let retried = stage.home.run(&["gateway", "outbox", "retry", &id]);
    assert!(retried.status.success(), "{}", stderr(&retried));
    stage.telegram.wait_for_sent(|sent| sent.iter().any(|sent| sent.text.contains("one"))).await;
    stage.telegram.fail_next(SendFault::Refused);
    stage.telegram.say(42, "two");
    let id = parked(1)[0]["id"].to_string();
    let dropped = stage.home.run(&["gateway", "outbox", "drop", &id, "--json"]);
    assert_eq!(serde_json::from_slice::<Value>(&dropped.stdout).unwrap()["ok"], json!(true), "{}", stdout(&dropped));
    parked(0);
    assert_eq!(stage.home.run(&["gateway", "outbox", "retry", &id]).status.code(), Some(1));
}
