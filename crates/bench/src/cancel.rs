//! From the cancel request to the terminal event at a reader, in each state that a run can be in.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::{
    companion::Companion,
    connection::Connection,
    events::Kind,
    instance::Setting,
    report::{Goal, Report},
    stats::{median, millis},
    target::{PATIENCE, Target, text},
};

/// From the request to the terminal event, in each state of a run.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Runs cancelled in each state
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    times: u32,
    /// Runs at work before the one that waits for its turn
    #[arg(long, default_value_t = 64)]
    active: u32,
}

/// A run is left alone for so long after it has reached its state, so that it is in it and not on the way.
const SETTLE: Duration = Duration::from_millis(30);

/// A state, and how a run gets there.
struct State {
    name: &'static str,
    message: &'static str,
    approve: &'static str,
    /// The event that says it is there.
    reached: Kind,
}

const STATES: [State; 5] = [
    State { name: "model silent", message: "[[silent]]", approve: "none", reached: Kind::TurnStarted },
    State { name: "streaming", message: "[[slow]]", approve: "none", reached: Kind::TextDelta },
    State { name: "back-off", message: "[[busy]]", approve: "none", reached: Kind::RetryAttempt },
    State { name: "waiting for approval", message: "[[tool]]", approve: "none", reached: Kind::WaitingForToolApproval },
    State { name: "tool running", message: "[[tool]]", approve: "all", reached: Kind::ToolExecutionStarted },
];

pub(crate) async fn measure(setting: &Setting, args: &Args, report: &mut Report) -> Result<()> {
    eprintln!("cancel: {} runs in each state", args.times);
    let model = Companion::model().await?;
    let home = setting.home(&model)?;
    let instance = home.up().await?;
    for _ in 0..setting.repeat {
        for state in &STATES {
            let mut latencies = Vec::new();
            for _ in 0..args.times {
                latencies.push(cancel(&instance.target, state).await.with_context(|| state.name)?);
            }
            note(report, state.name, &latencies);
        }
        note(report, "queued", &queued(&instance.target, args).await?);
    }
    instance.stop().await
}

fn note(report: &mut Report, state: &str, latencies: &[f64]) {
    report.add(&format!("cancel: {state}, p50"), "ms", Goal::None, median(latencies));
    let worst = latencies.iter().copied().fold(0.0, f64::max);
    report.add(&format!("cancel: {state}, worst"), "ms", Goal::AtMost(100.0), worst);
}

/// Brings one run into the state and cancels it.
async fn cancel(target: &Target, state: &State) -> Result<f64> {
    let mut connection = target.connect().await?;
    let session = connection.session().await?;
    let mut events = target.events(&session, 0).await?;
    let run = start(&mut connection, &session, state.message, state.approve).await?;
    tokio::time::timeout(PATIENCE, events.until(state.reached)).await.context("the state is not reached")??;
    tokio::time::sleep(SETTLE).await;
    while events.buffered().is_some() {}
    let started = Instant::now();
    let end = tokio::time::timeout(PATIENCE, events.until(Kind::RunCompleted));
    let (cancelled, ended) =
        tokio::join!(request(&mut connection, &session, &run), async { (end.await, started.elapsed()) });
    cancelled?;
    ended.0.context("the run does not end")??;
    Ok(millis(ended.1))
}

/// Cancels runs that come when as many as may are at work.
async fn queued(target: &Target, args: &Args) -> Result<Vec<f64>> {
    let mut connection = target.connect().await?;
    let mut active = Vec::new();
    for _ in 0..args.active {
        let session = connection.session().await?;
        let run = start(&mut connection, &session, "[[silent]]", "none").await?;
        active.push((session, run));
    }
    let queued = State { name: "queued", message: "[[silent]]", approve: "none", reached: Kind::RunStarted };
    let mut latencies = Vec::new();
    for _ in 0..args.times {
        latencies.push(cancel(target, &queued).await?);
    }
    for (session, run) in active {
        request(&mut connection, &session, &run).await?;
    }
    Ok(latencies)
}

async fn start(connection: &mut Connection, session: &str, message: &str, approve: &str) -> Result<String> {
    let body = json!({"message": {"role": "user", "content": message}, "overrides": {"auto_approve": approve}});
    text(&connection.post(&format!("/v1/sessions/{session}/messages"), &body).await?, "run_id")
}

async fn request(connection: &mut Connection, session: &str, run: &str) -> Result<Value> {
    connection.post(&format!("/v1/sessions/{session}/cancel"), &json!({"run_id": run})).await
}
