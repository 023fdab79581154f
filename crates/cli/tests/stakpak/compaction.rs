//! Conversations that grow too long for their model, through the whole product: a model with 16 k tokens on a real socket,
//! which refuses what is longer as OpenAI does.

mod small_model;

use serde_json::Value;
use stakpak_client::{SendMessageOptions, StakpakClient};
use stakpak_protocol::{Event, Message};
use stakpak_test_support::Gate;

use self::small_model::{CONTEXT, OUTPUT, SmallModel, is_compaction, tokens};
use crate::support::{Home, Up};

fn configured(model: &SmallModel, limits: bool) -> Home {
    let home = Home::new();
    let mut config = format!(
        "[profiles.default]\nmodel = \"my/small\"\n[profiles.default.providers.my]\ntype = \"custom\"\n\
         api_endpoint = \"{}\"\nmodels = [\"small\"]\n",
        model.url()
    );
    if limits {
        config.push_str(&format!("[limits.\"my/small\"]\ncontext = {CONTEXT}\noutput = {OUTPUT}\n"));
    }
    home.write("config.toml", &config);
    home
}

/// A session of a running instance.
struct Talk {
    client: StakpakClient,
    session: String,
}

impl Talk {
    async fn begin(up: &Up) -> Self {
        let client = up.client();
        let session = client.create_session("long").await.unwrap().id.to_string();
        Self { client, session }
    }

    async fn send(&self, text: &str) {
        let message = Message::user(text);
        self.client.send_messages(&self.session, vec![message], SendMessageOptions::default()).await.unwrap();
    }

    /// The events of the run of this message.
    async fn say(&self, text: &str) -> Vec<Event> {
        self.send(text).await;
        self.follow(None).await
    }

    async fn follow(&self, after: Option<u64>) -> Vec<Event> {
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

    async fn messages(&self) -> Vec<Message> {
        let mut messages = Vec::new();
        loop {
            let page = self.client.get_messages(&self.session, 100, messages.len()).await.unwrap();
            messages.extend(page.messages);
            if messages.len() == page.total {
                return messages;
            }
        }
    }
}

fn answer(events: &[Event]) -> String {
    let mut answers = events.iter().filter_map(|event| match event {
        Event::TextComplete { text, .. } => Some(text.clone()),
        Event::RunError { error, .. } => Some(format!("failed: {error}")),
        _ => None,
    });
    answers.next_back().unwrap_or_default()
}

/// 500 turns through 16 k: it knows what was said before all compactions, what a turn costs does not grow, every message can
/// still be read, and the provider's cache holds but for the moments when the view is made smaller (C-P21).
#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_turns_through_a_small_context() {
    const TURNS: usize = 500;
    let model = SmallModel::start().await;
    let home = configured(&model, true);
    let log = format!("{}\n", "nothing happened ".repeat(4)).repeat(60);
    std::fs::write(home.path("big.log"), &log).unwrap();
    let up = home.up();
    let talk = Talk::begin(&up).await;
    let mut said = Vec::new();
    let mut compactions = 0;
    for turn in 0..TURNS {
        let text = match turn % 25 {
            // Each fact is asked for again long after it was told.
            3 => format!("Remember this: fact-{turn}=value-{} for later. {}", turn * 7 + 1, filler(turn, 300)),
            17 if turn > 100 => format!("What was fact-{}? {}", turn - 114 - (turn - 114) % 25 + 3, filler(turn, 300)),
            9 => format!("Please look at big.log. {}", filler(turn, 200)),
            _ => filler(turn, 600),
        };
        let events = talk.say(&text).await;
        let answer = answer(&events);
        assert!(!answer.starts_with("failed"), "turn {turn}: {answer}");
        if let Some(fact) = text.strip_prefix("What was fact-").and_then(|rest| rest.split_once('?')) {
            let number: usize = fact.0.parse().unwrap();
            assert_eq!(answer, format!("It was value-{}.", number * 7 + 1), "turn {turn}");
        }
        compactions += events.iter().filter(|event| matches!(event, Event::CompactionCompleted { .. })).count();
        assert!(!events.iter().any(|event| matches!(event, Event::CompactionCompleted { truncated: true, .. })));
        said.push(text);
    }
    assert!((5..=60).contains(&compactions), "{compactions}");
    assert_eq!(model.refused(), 0, "what is sent is known to fit");
    check_history(&talk.messages().await, &said);
    let requests = model.requests();
    check_costs(&requests);
    check_prefixes(&requests);
    // The same after a restart: nothing of it was in memory only.
    up.kill();
    let up = home.up();
    let talk = Talk { client: up.client(), session: talk.session };
    assert_eq!(answer(&talk.say("What was fact-3? ").await), "It was value-22.");
    check_history(&talk.messages().await[..], &[said, vec!["What was fact-3? ".to_owned()]].concat());
}

fn filler(turn: usize, bytes: usize) -> String {
    let words = ["lorem", "ipsum", "dolor", "amet", "servers", "hum", "quietly"];
    let mut text = format!("turn {turn}:");
    let mut at = turn;
    while text.len() < bytes {
        text.push(' ');
        text.push_str(words[at % words.len()]);
        at += 1 + turn % 3;
    }
    text
}

/// Each message as it was sent, in order, and each call with its whole result.
fn check_history(messages: &[Message], said: &[String]) {
    let users = messages.iter().filter(|message| message.role == stakpak_protocol::Role::User);
    let users: Vec<String> = users.map(Message::text).collect();
    assert_eq!(users.len(), said.len());
    for (user, said) in users.iter().zip(said) {
        assert!(user.ends_with(said.as_str()), "{user} {said}");
    }
    let results = messages.iter().filter(|message| message.role == stakpak_protocol::Role::Tool);
    for result in results {
        assert!(serde_json::to_string(result).unwrap().len() > 4_000, "{result:?}");
    }
}

/// What a turn costs: tokens of all its requests, those for summaries among them.
fn check_costs(requests: &[Value]) {
    let asked: Vec<u64> = requests.iter().map(tokens).collect();
    assert!(asked.iter().all(|tokens| *tokens + OUTPUT <= CONTEXT), "{:?}", asked.iter().max());
    let mean = |part: &[u64]| part.iter().sum::<u64>() as f64 / part.len() as f64;
    let (early, late) = (&asked[asked.len() / 5..asked.len() * 2 / 5], &asked[asked.len() * 4 / 5..]);
    let grown = mean(late) / mean(early);
    assert!((0.7..1.3).contains(&grown), "{grown}");
    let summaries = requests.iter().filter(|request| is_compaction(request)).count();
    assert!(summaries * 8 < requests.len(), "{summaries} of {}", requests.len());
}

/// A request begins with the bytes of the one before, unless something was summed up or cleared.
fn check_prefixes(requests: &[Value]) {
    let mut breaks = 0;
    let mut last: Option<&Value> = None;
    for request in requests.iter().filter(|request| !is_compaction(request)) {
        if let Some(last) = last {
            assert_eq!(request["tools"].to_string(), last["tools"].to_string());
            let messages = |request: &Value| {
                request["messages"].as_array().unwrap().iter().map(Value::to_string).collect::<Vec<_>>()
            };
            let (before, now) = (messages(last), messages(request));
            assert_eq!(before[0], now[0], "the system prompt");
            breaks += usize::from(!now.starts_with(&before));
        }
        last = Some(request);
    }
    assert!(breaks * 8 < requests.len(), "{breaks} of {}", requests.len());
    assert!(breaks > 0, "it was made smaller at some time");
}

/// C-P5 by the other end: a model of which nobody knows how little it takes says so itself, and the conversation goes on.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_model_refuses_is_summed_up() {
    let model = SmallModel::start().await;
    let home = configured(&model, false);
    let up = home.up();
    let talk = Talk::begin(&up).await;
    talk.say("Remember this: fact-1=value-77 for later.").await;
    for turn in 0..60 {
        let said = answer(&talk.say(&filler(turn, 1_500)).await);
        assert!(!said.starts_with("failed"), "turn {turn}: {said}");
    }
    assert!((1..=20).contains(&model.refused()), "{}", model.refused());
    assert_eq!(answer(&talk.say("What was fact-1? ").await), "It was value-77.");
    assert_eq!(talk.messages().await.len(), 1 + 2 * 62);
}

/// C-P5: three requests in the turn, then the run says why.
#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_refuses_everything_is_asked_three_times() {
    let model = SmallModel::start().await;
    let home = configured(&model, true);
    let up = home.up();
    let talk = Talk::begin(&up).await;
    for turn in 0..12 {
        talk.say(&filler(turn, 600)).await;
    }
    let before = model.requests().len();
    model.refuse_everything();
    let events = talk.say("and now?").await;
    let Some(Event::RunError { error, retryable: false, .. }) = events.last() else { panic!("{:?}", events.last()) };
    assert!(error.contains("maximum context length"), "{error}");
    let asked = model.requests().len() - before;
    assert!((2..=3).contains(&asked), "{asked}");
    assert_eq!(talk.messages().await.len(), 1 + 2 * 12 + 1, "every message is still there");
}

/// C-P18: killed while it sums up, it begins again; no message is lost or changed.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_while_summing_up_loses_nothing() {
    let model = SmallModel::start().await;
    let home = configured(&model, true);
    let up = home.up();
    let talk = Talk::begin(&up).await;
    talk.say("Remember this: fact-1=value-5 for later.").await;
    let gate = Gate::new();
    model.hold_summaries(&gate);
    let mut said = 0;
    while model.held() == 0 {
        talk.send(&filler(said, 1_500)).await;
        said += 1;
        tokio::select! {
            _ = talk.follow(None) => {}
            () = model.wait_until_held(1) => {}
        }
        assert!(said < 60);
    }
    let before = talk.messages().await;
    up.kill();
    gate.open();
    let up = home.up();
    let talk = Talk { client: up.client(), session: talk.session };
    let events = talk.follow(Some(0)).await;
    assert!(matches!(events.last(), Some(Event::RunCompleted { .. })) || said > 1);
    crate::support::until("the run to end", || {
        let client = talk.client.clone();
        let session = talk.session.clone();
        let status = tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current()
                .block_on(async move { client.get_session(&session).await.unwrap().run_status })
        });
        serde_json::to_string(&status).unwrap().contains("idle").then_some(())
    });
    let after = talk.messages().await;
    assert_eq!(after[..before.len()], before[..]);
    assert_eq!(after.len(), before.len() + 1, "the answer that was waited for");
    assert_eq!(answer(&talk.say("What was fact-1? ").await), "It was value-5.");
}

/// C-P19: 5 MB in one message: a part goes on, the whole is in a file that the agent can read.
#[tokio::test(flavor = "multi_thread")]
async fn a_huge_paste_does_not_wedge_a_session() {
    let model = SmallModel::start().await;
    let home = configured(&model, true);
    let up = home.up();
    let talk = Talk::begin(&up).await;
    let paste = format!("BEGIN {}END", "all work and no play\n".repeat(250_000));
    let said = answer(&talk.say(&paste).await);
    assert!(!said.starts_with("failed"), "{said}");
    let kept = talk.messages().await[1].text();
    assert!(kept.len() < 20_000 && kept.contains("BEGIN") && kept.ends_with("END"), "{}", kept.len());
    let path = kept.split_whitespace().find(|word| word.contains("/tool-output.user.message.")).unwrap();
    assert_eq!(std::fs::read_to_string(path).unwrap().len(), paste.len() + kept.find("BEGIN").unwrap());
    model.look_at_next(path);
    assert_eq!(answer(&talk.say("Please look at it.").await), "I looked.", "without a question");
    assert_eq!(model.refused(), 0);
}
