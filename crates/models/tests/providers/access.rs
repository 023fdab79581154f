//! What all requests with one key share: the key itself, how many there are, and whether any is sent.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::StreamExt;
use serde_json::json;
use stakpak_agent_core::{Clock, ErrorClass};
use stakpak_models::{Gates, KeyError, KeySource, ProviderKind};
use stakpak_test_support::{Gate, Reply, ScriptedLlm};

use crate::support::{ask, hello, hurried, model_behind, model_of, settings};

const KINDS: [ProviderKind; 5] =
    [ProviderKind::Chat, ProviderKind::Responses, ProviderKind::Anthropic, ProviderKind::Gemini, ProviderKind::Bedrock];

/// A key that is another each time it is looked for, and how often that was.
struct Source {
    next: &'static str,
    looks: AtomicUsize,
}

impl Source {
    fn of(next: &'static str) -> Arc<Self> {
        Arc::new(Self { next, looks: AtomicUsize::new(0) })
    }

    fn looks(&self) -> usize {
        self.looks.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl KeySource for Source {
    async fn fetch(&self) -> Result<Option<String>, KeyError> {
        self.looks.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        match self.next {
            "" => Err(KeyError { message: "nothing there".to_owned() }),
            "none" => Ok(None),
            next => Ok(Some(next.to_owned())),
        }
    }
}

fn unauthorized() -> Reply {
    Reply::status(401, &json!({ "error": { "type": "authentication_error", "message": "expired" } }))
}

fn done(kind: ProviderKind) -> Reply {
    match kind {
        ProviderKind::Chat => Reply::text(["ok"]),
        ProviderKind::Responses => {
            let content = json!([{ "type": "output_text", "text": "ok" }]);
            Reply::responses(&[json!({ "type": "message", "id": "m", "content": content })], "completed")
        }
        ProviderKind::Anthropic => Reply::anthropic(&[json!({ "type": "text", "text": "ok" })], "end_turn"),
        ProviderKind::Gemini => Reply::gemini(&[json!([{ "text": "ok" }])], "STOP"),
        ProviderKind::Bedrock => Reply::bedrock(&[json!({ "text": "ok" })], "end_turn"),
    }
}

/// C-P65: ten requests at once with a key that has run out; it is fetched once, and all ten are answered.
#[tokio::test]
async fn a_key_that_ran_out_is_fetched_once_for_ten() {
    for kind in KINDS {
        let llm = ScriptedLlm::start().await;
        let arrived = Arc::new(AtomicUsize::new(0));
        let all_there = Gate::new();
        let (count, gate) = (Arc::clone(&arrived), all_there.clone());
        llm.answer_with(move |asked| {
            if asked.headers.values().any(|value| value.contains("new-key-9876543210")) {
                return done(kind);
            }
            if count.fetch_add(1, Ordering::SeqCst) == 9 {
                gate.open();
            }
            unauthorized().then_wait(&gate)
        });
        let source = Source::of("new-key-9876543210");
        let mut settings = settings(&llm, kind);
        settings.key_source = Some(source.clone());
        let model = model_of(settings, "m");
        let asking = (0..10).map(|_| {
            let model = Arc::clone(&model);
            tokio::spawn(async move { ask(&model, hello()).await })
        });
        for heard in futures_util::future::join_all(asking).await {
            assert_eq!(heard.unwrap().text, "ok", "{kind:?}");
        }
        assert_eq!((arrived.load(Ordering::SeqCst), source.looks()), (10, 1), "{kind:?}");
    }
}

/// C-P6: without another key a 401 is sent once; with one that is refused too, twice.
#[tokio::test]
async fn a_refused_key_is_not_sent_again() {
    for (next, requests) in [("", 1), ("none", 1), (crate::support::KEY, 1), ("another-key-0123456789", 2)] {
        let llm = ScriptedLlm::start().await;
        llm.always(unauthorized());
        let mut settings = settings(&llm, ProviderKind::Anthropic);
        settings.key_source = Some(Source::of(next));
        let error = ask(&model_of(settings, "m"), hello()).await.end.unwrap_err();
        assert_eq!((error.class, llm.requests().len()), (ErrorClass::Auth, requests), "{next}");
        assert!(!format!("{error:?}").contains("another-key"), "{error:?}");
    }
    for status in [400, 404] {
        let llm = ScriptedLlm::start().await;
        llm.always(Reply::status(status, &json!({ "error": { "message": "no" } })));
        ask(&model_of(settings(&llm, ProviderKind::Anthropic), "m"), hello()).await.end.unwrap_err();
        assert_eq!(llm.requests().len(), 1, "{status}");
    }
}

#[tokio::test]
async fn a_provider_that_wants_no_repetition_says_so() {
    for kind in KINDS {
        let llm = ScriptedLlm::start().await;
        let model = model_of(settings(&llm, kind), "m");
        for (says, is_final) in [("false", true), ("true", false)] {
            llm.push(Reply::status(529, &json!({ "error": { "message": "busy" } })).header("x-should-retry", says));
            let error = ask(&model, hello()).await.end.unwrap_err();
            assert_eq!((error.class, error.is_final), (ErrorClass::Overloaded, is_final), "{kind:?} {says}");
        }
    }
}

/// Models of one key, also those of another profile, wait for each other; those of another key do not.
#[tokio::test]
async fn so_many_requests_at_once_with_one_key() {
    let llm = ScriptedLlm::start().await;
    let gate = Gate::new();
    llm.always(Reply::text(["ok"]).then_wait(&gate));
    let gates = hurried();
    let mut limited = settings(&llm, ProviderKind::Chat);
    limited.max_concurrent = 2;
    let models = ["a", "b"].map(|id| model_behind(&gates, limited.clone(), id));
    let asking: Vec<_> = (0..6)
        .map(|n| {
            let model = Arc::clone(&models[n % 2]);
            tokio::spawn(async move { ask(&model, hello()).await.end.unwrap() })
        })
        .collect();
    llm.wait_for_requests(2).await;
    let mut other = limited.clone();
    other.api_key = Some("another-key-0123456789".to_owned());
    let other = model_behind(&gates, other, "a");
    let other = tokio::spawn(async move { ask(&other, hello()).await.end.unwrap() });
    // It comes after those that would have come before it.
    let asked = llm.wait_for_requests(3).await;
    let keys: Vec<_> = asked.iter().map(|asked| asked.headers["authorization"].contains("another")).collect();
    assert_eq!(keys, [false, false, true]);
    gate.open();
    futures_util::future::join_all(asking).await.into_iter().for_each(|ended| drop(ended.unwrap()));
    other.await.unwrap();
    assert_eq!(llm.requests().len(), 7);
}

/// One that is given up leaves its place.
#[tokio::test]
async fn a_dropped_stream_leaves_its_place() {
    let llm = ScriptedLlm::start().await;
    let mut settings = settings(&llm, ProviderKind::Chat);
    settings.max_concurrent = 1;
    let model = model_of(settings, "m");
    llm.push(Reply::text(["ok"]).stalled());
    let mut stream = model.stream(hello()).await.unwrap();
    stream.next().await.unwrap().unwrap();
    drop(stream);
    assert_eq!(ask(&model, hello()).await.text, "hello");
}

/// A clock that stands still until it is told.
struct Stopped(Mutex<DateTime<Utc>>);

impl Stopped {
    fn later(&self, seconds: i64) {
        *self.0.lock().unwrap() += TimeDelta::seconds(seconds);
    }
}

impl Clock for Stopped {
    fn now(&self) -> DateTime<Utc> {
        *self.0.lock().unwrap()
    }
}

/// Five failures in a row, of whichever model: the sixth request is not sent, and a run meets it as an overloaded provider.
#[tokio::test]
async fn a_provider_that_fails_again_and_again_is_left_alone() {
    for kind in KINDS {
        let llm = ScriptedLlm::start().await;
        let clock = Arc::new(Stopped(Mutex::new("2026-03-01T09:00:00Z".parse().unwrap())));
        let gates = Gates::new(clock.clone());
        let models = ["a", "b"].map(|id| model_behind(&gates, settings(&llm, kind), id));
        llm.always(Reply::status(500, &json!({ "error": { "message": "boom" } })));
        for n in 0..5 {
            assert_eq!(ask(&models[n % 2], hello()).await.end.unwrap_err().class, ErrorClass::Server, "{kind:?}");
        }
        for model in &models {
            let error = ask(model, hello()).await.end.unwrap_err();
            let wait = Some(Duration::from_secs(30));
            assert_eq!((error.class, error.retry_after), (ErrorClass::Overloaded, wait), "{kind:?}");
            assert!(error.message.contains("is not asked for now"), "{error}");
        }
        assert_eq!(llm.requests().len(), 5, "{kind:?}");
        let mut other = settings(&llm, kind);
        other.api_key = Some("another-key-0123456789".to_owned());
        assert_eq!(ask(&model_behind(&gates, other, "a"), hello()).await.end.unwrap_err().class, ErrorClass::Server);

        clock.later(30);
        assert_eq!(ask(&models[0], hello()).await.end.unwrap_err().class, ErrorClass::Server, "{kind:?}: one tries");
        let error = ask(&models[1], hello()).await.end.unwrap_err();
        assert_eq!(error.retry_after, Some(Duration::from_secs(60)), "{kind:?}");
        clock.later(60);
        llm.always(done(kind));
        for model in &models {
            assert_eq!(ask(model, hello()).await.text, "ok", "{kind:?}");
        }
    }
}

/// What the provider means is no failure of it.
#[tokio::test]
async fn refusals_are_no_failures() {
    let llm = ScriptedLlm::start().await;
    let clock = Arc::new(Stopped(Mutex::new("2026-03-01T09:00:00Z".parse().unwrap())));
    let model = model_behind(&Gates::new(clock), settings(&llm, ProviderKind::Chat), "m");
    for _ in 0..4 {
        for status in [500, 500, 500, 500, 400] {
            llm.push(Reply::status(status, &json!({ "error": { "message": "no" } })));
            assert_ne!(ask(&model, hello()).await.end.unwrap_err().class, ErrorClass::Overloaded);
        }
    }
    assert_eq!(llm.requests().len(), 20);
}
