//! Sessions side by side; in each, messages one after the other, every run read to its end. Then the same one at a time.

use std::{
    cell::Cell,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use tokio::task::LocalSet;

use crate::{
    companion::Companion,
    events::Kind,
    instance::Setting,
    report::{Goal, Report},
    stats::{median, millis, percentile},
    target::{PATIENCE, TEXT, Target},
};

/// Runs a second, CPU a run, latencies.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Sessions of the loaded part
    #[arg(long, default_value_t = 256)]
    sessions: u32,
    /// Messages in each
    #[arg(long, default_value_t = 4)]
    messages: u32,
    /// Sessions at a time
    #[arg(long, default_value_t = 64)]
    concurrency: u32,
    /// Sessions of the part that runs one at a time
    #[arg(long, default_value_t = 50)]
    serial_sessions: u32,
}

/// How much to do at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) sessions: u32,
    pub(crate) messages: u32,
    pub(crate) concurrency: u32,
}

/// What came of it. Latencies in ms, from before the request was sent.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
    pub(crate) accepted: Vec<f64>,
    pub(crate) first_text: Vec<f64>,
    pub(crate) completed: Vec<f64>,
}

pub(crate) async fn measure(setting: &Setting, args: &Args, report: &mut Report) -> Result<()> {
    eprintln!("load: {} sessions of {} messages, {} at a time", args.sessions, args.messages, args.concurrency);
    let loaded = Load { sessions: args.sessions, messages: args.messages, concurrency: args.concurrency };
    let serial = Load { sessions: args.serial_sessions, concurrency: 1, ..loaded };
    let model = Companion::model().await?;
    let home = setting.home(&model)?;
    let instance = home.up().await?;
    let scratch = setting.scratch()?;
    let floor = Companion::floor(&model, scratch.path()).await?;
    let floor_target = floor.target()?;
    for target in [&instance.target, &floor_target] {
        Load { sessions: loaded.concurrency, messages: 1, ..loaded }.run(target).await?;
    }
    for _ in 0..setting.repeat {
        note(report, Report::add, &loaded.run(&instance.target).await?, &serial.run(&instance.target).await?);
        note(report, Report::add_floor, &loaded.run(&floor_target).await?, &serial.run(&floor_target).await?);
    }
    instance.stop().await
}

fn note(report: &mut Report, add: fn(&mut Report, &str, &'static str, Goal, f64), loaded: &Outcome, serial: &Outcome) {
    let mut add = |name, unit, goal, sample| add(report, name, unit, goal, sample);
    let runs = loaded.completed.len() as f64;
    add("load: runs", "1/s", Goal::AtLeastOfFloor(0.5), runs / loaded.wall.as_secs_f64());
    add("load: CPU a run", "ms", Goal::AtMostFloors(3.0), millis(loaded.cpu) / runs);
    add("load: accept p50", "ms", Goal::None, median(&loaded.accepted));
    add("load: accept p99", "ms", Goal::None, percentile(&loaded.accepted, 0.99));
    add("load: first text p50", "ms", Goal::None, median(&loaded.first_text));
    add("load: run p50", "ms", Goal::None, median(&loaded.completed));
    add("load: run p99", "ms", Goal::None, percentile(&loaded.completed, 0.99));
    add("one at a time: runs", "1/s", Goal::None, serial.completed.len() as f64 / serial.wall.as_secs_f64());
    add("one at a time: accept p50", "ms", Goal::AtMostFloors(3.0), median(&serial.accepted));
    add("one at a time: first text p50", "ms", Goal::AtMostFloors(3.0), median(&serial.first_text));
    add("one at a time: run p50", "ms", Goal::None, median(&serial.completed));
}

impl Load {
    /// Drives it all and watches every run to its end. A run that fails is an error.
    pub(crate) async fn run(self, target: &Target) -> Result<Outcome> {
        let left = Rc::new(Cell::new(self.sessions));
        let (cpu, started) = (target.process.cpu()?, Instant::now());
        let local = LocalSet::new();
        let workers: Vec<_> = (0..self.concurrency.min(self.sessions))
            .map(|_| local.spawn_local(work(target.clone(), Rc::clone(&left), self.messages)))
            .collect();
        local.await;
        let mut outcome = Outcome { wall: started.elapsed(), cpu: target.process.cpu()? - cpu, ..Outcome::default() };
        for worker in workers {
            outcome.merge(worker.await??);
        }
        Ok(outcome)
    }
}

impl Outcome {
    fn merge(&mut self, other: Self) {
        self.accepted.extend(other.accepted);
        self.first_text.extend(other.first_text);
        self.completed.extend(other.completed);
    }
}

/// Takes sessions until none is left.
async fn work(target: Target, left: Rc<Cell<u32>>, messages: u32) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut connection = target.connect().await?;
    while let Some(rest) = left.get().checked_sub(1) {
        left.set(rest);
        let session = connection.session().await?;
        let mut events = target.events(&session, 0).await?;
        for _ in 0..messages {
            let started = Instant::now();
            connection.message(&session, TEXT).await?;
            outcome.accepted.push(millis(started.elapsed()));
            let watched = async {
                events.until(Kind::TextDelta).await?;
                outcome.first_text.push(millis(started.elapsed()));
                events.until(Kind::RunCompleted).await
            };
            tokio::time::timeout(PATIENCE, watched).await.context("a run does not end")??;
            outcome.completed.push(millis(started.elapsed()));
        }
    }
    Ok(outcome)
}
