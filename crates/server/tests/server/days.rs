//! The budget of a profile's day: kept over sessions and restarts, shared by runs side by side, named by its key.

use std::sync::Arc;

use chrono::TimeDelta;
use serde_json::{Value, json};
use stakpak_agent_core::{Calendar, DayBudget};
use stakpak_protocol::Usd;
use tokio::sync::Semaphore;

use crate::{
    limits::{ended, post_with},
    support::{Setting, Step, TestServer},
};

/// What an answer of the scripted model takes.
const TOKENS: u64 = 17;
const MICROS: u64 = 111;

async fn start(directory: &Arc<tempfile::TempDir>, day: DayBudget, steps: Vec<Step>) -> TestServer {
    let setting = Setting { profile_day: day, ..Setting::on(directory) };
    TestServer::start_on(Arc::clone(directory), steps, setting).await
}

/// How the next run ends; when by an error, its code and what people are told.
async fn next_run(server: &TestServer) -> Result<(), (Value, String)> {
    let (status, answer, session) = post_with(server, json!({})).await;
    assert_eq!(status, 200, "{answer}");
    let (end, code) = ended(server, &session).await;
    if end == "run_completed" {
        return Ok(());
    }
    let (_, detail) = server.http().get(&format!("/v1/sessions/{session}")).await;
    Err((code, detail["session"]["run_status"]["last_error"]["message"].as_str().unwrap().to_owned()))
}

/// What a run's first request may take: told by a day that has no room for it.
async fn most_of_a_request() -> (u64, u64) {
    let mut most = Vec::new();
    let (tokens, cost) = (Some(1), Some(Usd::from_micros(1)));
    for day in [DayBudget { tokens, ..DayBudget::default() }, DayBudget { cost, ..DayBudget::default() }] {
        let server = start(&Arc::new(tempfile::tempdir().unwrap()), day, vec![]).await;
        let (_, message) = next_run(&server).await.unwrap_err();
        let number = message.split("request may ").nth(1).unwrap().split([' ', ';']).nth(1).unwrap();
        most.push(number.to_owned());
    }
    (most[0].parse().unwrap(), Usd::from_dollars(most[1].parse().unwrap()).micros())
}

/// A day with room for the first run and not for the second, by each limit.
async fn days_of_one_run() -> [(DayBudget, &'static str); 3] {
    let (tokens, micros) = most_of_a_request().await;
    let none = DayBudget::default;
    [
        (DayBudget { runs: Some(1), ..none() }, "profiles.default.budget.runs_per_day"),
        (DayBudget { tokens: Some(tokens + TOKENS - 1), ..none() }, "profiles.default.budget.tokens_per_day"),
        (
            DayBudget { cost: Some(Usd::from_micros(micros + MICROS - 1)), ..none() },
            "profiles.default.budget.usd_per_day",
        ),
    ]
}

/// What is spent is of the profile, not of a session or a process; a day that begins has its whole budget.
#[tokio::test]
async fn a_day_of_a_profile_is_kept_over_sessions_and_crashes() {
    for (day, key) in days_of_one_run().await {
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let server = start(&directory, day.clone(), vec![Step::Say("done")]).await;
        next_run(&server).await.unwrap();
        assert_refused(&server, key).await;
        assert_eq!(server.model.requests.lock().unwrap().len(), 1, "{key}: what does not fit is not sent");
        let server = start(&server.crash().await, day.clone(), vec![]).await;
        assert_refused(&server, key).await;
        let tomorrow = DayBudget { calendar: Calendar::new(|now| now + TimeDelta::minutes(15)), ..day };
        let server = start(&server.crash().await, tomorrow, vec![Step::Say("done")]).await;
        next_run(&server).await.unwrap();
    }
}

async fn assert_refused(server: &TestServer, key: &str) {
    let (code, message) = next_run(server).await.unwrap_err();
    assert_eq!(code, "budget_exceeded", "{message}");
    assert!(message.contains(key), "{key}: {message}");
}

/// A-P44: what is under way counts as spent until it is answered, so that runs side by side overspend no more than one.
#[tokio::test]
async fn requests_under_way_hold_their_room_of_the_day() {
    for (day, key) in days_of_one_run().await {
        let gate = Arc::new(Semaphore::new(0));
        let steps = vec![Step::SayGated(vec!["never ", "done"], gate), Step::Say("done")];
        let server = start(&Arc::new(tempfile::tempdir().unwrap()), day, steps).await;
        let mut first = server.run("go", json!("none")).await;
        first.until("text_delta").await;
        assert_refused(&server, key).await;
        assert_eq!(first.cancel().await.0, 200);
        first.finish().await;
        next_run(&server).await.unwrap_or_else(|told| panic!("{key}: the room is given back: {told:?}"));
    }
}

/// A run goes on in its own run of the day: only the first request of a run is one more.
#[tokio::test]
async fn a_run_of_several_requests_is_one_run_of_the_day() {
    let day = DayBudget { runs: Some(1), ..DayBudget::default() };
    let call = Step::Call(vec![("a", "stakpak__look", json!({}))]);
    let server = start(&Arc::new(tempfile::tempdir().unwrap()), day, vec![call, Step::Say("done")]).await;
    next_run(&server).await.unwrap();
    assert_eq!(server.model.requests.lock().unwrap().len(), 2);
    assert_refused(&server, "runs_per_day").await;
}

#[tokio::test]
async fn dollars_of_a_day_need_a_price() {
    let day = DayBudget { cost: Some(Usd::from_dollars(1.0)), ..DayBudget::default() };
    let server = start(&Arc::new(tempfile::tempdir().unwrap()), day, vec![]).await;
    let (status, answer, _) = post_with(&server, json!({"model": "other"})).await;
    assert_eq!((status, &answer["code"]), (400, &json!("price_unknown")));
}
