//! Readers that replay one session from its first event, after a restart: nothing of it is in the server's memory.
//!
//! The floor replays what it holds in memory; it has no restart.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use tokio::task::JoinSet;

use crate::{
    companion::Companion,
    events::{Events, Kind},
    instance::Setting,
    report::{Goal, Report},
    target::{PATIENCE, TEXT, Target},
};

/// Readers that replay one session after a restart.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Runs in the session
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Readers at a time
    #[arg(long, default_value_t = 50)]
    readers: u32,
}

/// A session with a past.
struct Past {
    session: String,
    /// The last event.
    newest: u64,
    /// How many events there are: ids may have holes.
    events: u64,
}

pub(crate) async fn measure(setting: &Setting, args: &Args, report: &mut Report) -> Result<()> {
    eprintln!("replay: {} runs, {} readers", args.runs, args.readers);
    let model = Companion::model().await?;
    let home = setting.home(&model)?;
    let instance = home.up().await?;
    let past = fill(&instance.target, args.runs).await?;
    instance.stop().await?;
    let scratch = setting.scratch()?;
    let floor = Companion::floor(&model, scratch.path()).await?;
    let floor_target = floor.target()?;
    let floor_past = fill(&floor_target, args.runs).await?;
    let goal = Goal::AtLeast(200_000.0);
    for _ in 0..setting.repeat {
        let instance = home.up().await?;
        let cpu = instance.target.process.cpu()?;
        let rate = replay(&instance.target, &past, args.readers).await?;
        let cpu = instance.target.process.cpu()? - cpu;
        report.add("replay: events after a restart", "1/s", goal, rate);
        let events = past.events as f64 * f64::from(args.readers);
        report.add("replay: CPU an event", "µs", Goal::None, cpu.as_secs_f64() * 1e6 / events);
        report.add("replay: memory after it", "MB", Goal::None, instance.target.process.resident()? as f64 / 1e6);
        instance.stop().await?;
        report.add_floor(
            "replay: events after a restart",
            "1/s",
            goal,
            replay(&floor_target, &floor_past, args.readers).await?,
        );
    }
    Ok(())
}

async fn fill(target: &Target, runs: u32) -> Result<Past> {
    let mut connection = target.connect().await?;
    let session = connection.session().await?;
    let mut events = target.events(&session, 0).await?;
    let (mut newest, mut count) = (0, 0);
    for _ in 0..runs {
        connection.message(&session, TEXT).await?;
        loop {
            let frame = tokio::time::timeout(PATIENCE, events.next()).await.context("a run does not end")??;
            newest = frame.id.context("there is a frame without an id")?;
            count += 1;
            ensure!(frame.kind != Kind::RunError, "a run failed");
            if frame.kind == Kind::RunCompleted {
                break;
            }
        }
    }
    Ok(Past { session, newest, events: count })
}

/// Events a second over all readers, from the first connection to the last event.
async fn replay(target: &Target, past: &Past, readers: u32) -> Result<f64> {
    let started = Instant::now();
    let mut reading = JoinSet::new();
    for _ in 0..readers {
        let (target, session, newest) = (target.clone(), past.session.clone(), past.newest);
        reading.spawn(async move { read_all(target.events(&session, 0).await?, newest).await });
    }
    while let Some(count) = reading.join_next().await {
        let count = count??;
        ensure!(count == past.events, "a reader got {count} events of {}", past.events);
    }
    Ok(past.events as f64 * f64::from(readers) / started.elapsed().as_secs_f64())
}

/// How many events come until `newest`; ids that go down, and gaps, are errors.
async fn read_all(mut events: Events, newest: u64) -> Result<u64> {
    let reading = async {
        let (mut count, mut last) = (0, 0);
        while last < newest {
            let id = events.next().await?.id.context("there is a frame without an id")?;
            ensure!(id > last, "event {id} came after {last}");
            (last, count) = (id, count + 1);
        }
        Ok(count)
    };
    tokio::time::timeout(PATIENCE, reading).await.context("a replay does not end")?
}
