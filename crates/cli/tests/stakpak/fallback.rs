//! What happens where a model fails, through the whole product: another model goes on, or the same one with another key.

use serde_json::json;
use stakpak_client::{SendMessageOptions, StakpakClient};
use stakpak_protocol::{Event, Message};
use stakpak_test_support::{Gate, Reply, ScriptedLlm};

use crate::support::{Home, stderr, stdout};

fn provider(id: &str, llm: &ScriptedLlm) -> String {
    format!(
        "[profiles.default.providers.{id}]\ntype = \"custom\"\napi_endpoint = \"{}\"\napi_key = \"key-of-{id}-0123456789\"\n",
        llm.base_url()
    )
}

fn configured(first: &ScriptedLlm, second: &ScriptedLlm, fallback: &[&str]) -> Home {
    let home = Home::new();
    let table = format!("[profiles.default]\nmodel = \"a/first\"\nmodels = {{ fallback = {fallback:?} }}\n");
    let limits = "[limits.\"b/small\"]\ncontext = 1024\noutput = 64\n";
    home.write("config.toml", &[&table, limits, &provider("a", first), &provider("b", second)].concat());
    home
}

fn out_of_credit() -> Reply {
    Reply::status(402, &json!({ "error": { "message": "no credit left" } }))
}

/// Those that cannot do what the run needs are passed over: `o1-mini` takes no tools, `small` is too small.
#[tokio::test(flavor = "multi_thread")]
async fn another_model_goes_on_where_one_fails() {
    let (first, second) = (ScriptedLlm::start().await, ScriptedLlm::start().await);
    first.always(out_of_credit());
    second.push(Reply::tool_call("call_1", "stakpak__run_command", &json!({ "command": "echo $((6*7))" })));
    second.push(Reply::text(["it is 42"]));
    let home = configured(&first, &second, &["b/o1-mini", "b/small", "b/second", "a/third"]);
    let run = home.run(&["run", "--approve-all", "what is six times seven?"]);
    assert!(stdout(&run).contains("it is 42"), "{}{}", stdout(&run), stderr(&run));
    assert!(stderr(&run).contains("402 out of quota") && stderr(&run).contains("using b/second"), "{}", stderr(&run));
    let models =
        |llm: &ScriptedLlm| -> Vec<_> { llm.requests().into_iter().map(|asked| asked.body["model"].clone()).collect() };
    assert_eq!(models(&first), ["first"], "for the rest of the run");
    assert_eq!(models(&second), ["second", "second"]);
    assert_eq!(second.requests()[0].headers["authorization"], "Bearer key-of-b-0123456789");
}

/// `small` knows no pictures, and the one after it does.
#[tokio::test(flavor = "multi_thread")]
async fn pictures_go_to_a_model_that_takes_them() {
    let (first, second) = (ScriptedLlm::start().await, ScriptedLlm::start().await);
    first.always(out_of_credit());
    let home = configured(&first, &second, &["b/gpt-oss", "b/second"]);
    let up = home.up();
    let talk = Talk::begin(up.client()).await;
    let picture = json!({ "role": "user", "content": [
        { "type": "text", "text": "look" }, { "type": "image", "url": "data:image/png;base64,AAAA" }
    ] });
    for (message, model) in [(json!({ "role": "user", "content": "hello" }), "gpt-oss"), (picture, "second")] {
        talk.send(serde_json::from_value(message).unwrap()).await;
        talk.follow().await;
        assert_eq!(second.requests().last().unwrap().body["model"], model);
    }
}

/// A kill while the other model answers: it is the one that is asked again. The next run asks the session's own.
#[tokio::test(flavor = "multi_thread")]
async fn the_other_model_goes_on_after_a_restart() {
    let (first, second) = (ScriptedLlm::start().await, ScriptedLlm::start().await);
    first.push(out_of_credit());
    let gate = Gate::new();
    second.push(Reply::text(["half "]).then_wait(&gate));
    let home = configured(&first, &second, &["b/second"]);
    let up = home.up();
    let mut talk = Talk::begin(up.client()).await;
    talk.send(Message::user("go")).await;
    second.wait_for_requests(1).await;
    up.kill();
    second.push(Reply::text(["whole"]));
    let up = home.up();
    talk.client = up.client();
    let events = talk.follow_from(Some(0)).await;
    assert!(matches!(events.last(), Some(Event::RunCompleted { .. })), "{events:?}");
    assert_eq!((first.requests().len(), second.requests().len()), (1, 2));
    first.push(Reply::text(["back"]));
    talk.send(Message::user("again")).await;
    talk.follow().await;
    assert_eq!((first.requests().len(), second.requests().len()), (2, 2));
}

/// With nobody to stand in the run ends, and never with the offline model.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_stands_in_for_nothing() {
    let (first, second) = (ScriptedLlm::start().await, ScriptedLlm::start().await);
    first.always(out_of_credit());
    second.always(out_of_credit());
    let run = configured(&first, &second, &["b/second"]).run(&["run", "hello"]);
    assert_eq!(run.status.code(), Some(1));
    assert!(stderr(&run).contains("402 out of quota") && !stdout(&run).contains("offline"), "{}", stderr(&run));
    let run = configured(&first, &second, &["builtin/offline"]).run(&["run", "hello"]);
    assert!(stderr(&run).contains("profiles.default.models.fallback"), "{}", stderr(&run));
}

/// C-P65: a key that was changed on disk is taken up by a process that runs, without a reload: `file:`, then `auth.toml`.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_changed_is_read_again_when_it_is_refused() {
    let llm = ScriptedLlm::start().await;
    llm.answer_with(|asked| match asked.headers["authorization"].as_str() {
        "Bearer new-key-0123456789" => Reply::text(["welcome"]),
        _ => Reply::status(401, &json!({ "error": { "message": "expired" } })),
    });
    let home = Home::new();
    let table =
        provider("a", &llm).replace("\"key-of-a-0123456789\"", &format!("\"file:{}\"", home.path("key").display()));
    home.write("config.toml", &format!("[profiles.default]\nmodel = \"a/first\"\n{table}"));
    std::fs::write(home.path("key"), "old-key-0123456789\n").unwrap();
    let up = home.up();
    let talk = Talk::begin(up.client()).await;
    talk.send(Message::user("hello")).await;
    let events = talk.follow().await;
    let Some(Event::RunError { error, retryable: false, .. }) = events.last() else { panic!("{events:?}") };
    assert_eq!(error, "a: 401 key refused: check the api_key of this provider");
    std::fs::write(home.path("key"), "new-key-0123456789\n").unwrap();
    talk.send(Message::user("hello")).await;
    let events = talk.follow().await;
    assert!(matches!(events.last(), Some(Event::RunCompleted { .. })), "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn thinking_is_asked_for_where_the_profile_says_so() {
    let llm = ScriptedLlm::start().await;
    for (line, effort) in
        [("", json!(null)), ("reasoning = \"low\"\n", json!("low")), ("reasoning = 20000\n", json!("high"))]
    {
        let home = Home::new();
        home.write("config.toml", &format!("[profiles.default]\nmodel = \"a/first\"\n{line}{}", provider("a", &llm)));
        home.run(&["run", "hello"]);
        assert_eq!(llm.requests().last().unwrap().body["reasoning_effort"], effort, "{line}");
    }
}

/// A session of a running instance, followed from its last event on.
struct Talk {
    client: StakpakClient,
    session: String,
}

impl Talk {
    async fn begin(client: StakpakClient) -> Self {
        let session = client.create_session("fallback").await.unwrap().id.to_string();
        Self { client, session }
    }

    async fn send(&self, message: Message) {
        self.client.send_messages(&self.session, vec![message], SendMessageOptions::default()).await.unwrap();
    }

    async fn follow(&self) -> Vec<Event> {
        self.follow_from(None).await
    }

    async fn follow_from(&self, after: Option<u64>) -> Vec<Event> {
        let mut stream = self.client.subscribe_events(&self.session, after).await.unwrap();
        let mut events = Vec::new();
        loop {
            let Some(envelope) = stream.next_event().await.unwrap().envelope() else { continue };
            let is_last = envelope.event.is_terminal();
            events.push(envelope.event);
            if is_last {
                return events;
            }
        }
    }
}
