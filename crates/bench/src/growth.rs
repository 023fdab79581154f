//! Many runs in one session: whether the last ones cost what the first ones did.
//!
//! The request to the model grows with the history by nature: the model is asked with all of it. So the floor does that here
//! too, from a text that it keeps ready; what the server's figures have beyond the floor's is its own.

use std::time::Instant;

use anyhow::{Context, Result};

use crate::{
    companion::Companion,
    events::Kind,
    instance::Setting,
    report::{Goal, Report},
    stats::{median, millis},
    target::{PATIENCE, TEXT, Target},
};

/// Many runs in one session: the last as cheap as the first.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Runs in the session
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(2..))]
    runs: u32,
}

/// How much dearer the last tenth may be.
const RATIO: Goal = Goal::AtMost(1.3);

/// What a tenth of the runs took.
struct Tenth {
    accept_ms: f64,
    run_ms: f64,
    /// Of one run.
    cpu_ms: f64,
    /// Of one run.
    written: f64,
}

pub(crate) async fn measure(setting: &Setting, args: &Args, report: &mut Report) -> Result<()> {
    eprintln!("growth: {} runs in one session", args.runs);
    let model = Companion::model().await?;
    for _ in 0..setting.repeat {
        let home = setting.home(&model)?;
        let instance = home.up().await?;
        let empty = home.journal_bytes();
        let (first, last) = first_and_last(&instance.target, args.runs).await?;
        note(report, Report::add, &first, &last);
        let bytes = (home.journal_bytes() - empty) as f64 / f64::from(args.runs);
        report.add("growth: journal a run", "KB", Goal::None, bytes / 1e3);
        instance.stop().await?;
        let scratch = setting.scratch()?;
        let floor = Companion::floor_with_history(&model, scratch.path()).await?;
        let (first, last) = first_and_last(&floor.target()?, args.runs).await?;
        note(report, Report::add_floor, &first, &last);
    }
    Ok(())
}

fn note(report: &mut Report, add: fn(&mut Report, &str, &'static str, Goal, f64), first: &Tenth, last: &Tenth) {
    let mut add = |name, unit, goal, sample| add(report, name, unit, goal, sample);
    add("growth: run p50, last / first tenth", "ratio", RATIO, last.run_ms / first.run_ms);
    add("growth: accept p50, last / first tenth", "ratio", RATIO, last.accept_ms / first.accept_ms);
    add("growth: CPU, last / first tenth", "ratio", Goal::None, last.cpu_ms / first.cpu_ms);
    add("growth: bytes written, last / first tenth", "ratio", RATIO, last.written / first.written);
    add("growth: run p50, first tenth", "ms", Goal::None, first.run_ms);
    add("growth: run p50, last tenth", "ms", Goal::None, last.run_ms);
    add("growth: CPU a run, first tenth", "ms", Goal::None, first.cpu_ms);
    add("growth: CPU a run, last tenth", "ms", Goal::None, last.cpu_ms);
    add("growth: written a run, last tenth", "KB", Goal::None, last.written / 1e3);
}

async fn first_and_last(target: &Target, runs: u32) -> Result<(Tenth, Tenth)> {
    let mut connection = target.connect().await?;
    let session = connection.session().await?;
    let mut events = target.events(&session, 0).await?;
    let mut tenth = async |runs: u32| {
        let (cpu, written) = (target.process.cpu()?, target.process.written()?);
        let (mut accepted, mut completed) = (Vec::new(), Vec::new());
        for _ in 0..runs {
            let started = Instant::now();
            connection.message(&session, TEXT).await?;
            accepted.push(millis(started.elapsed()));
            let end = events.until(Kind::RunCompleted);
            tokio::time::timeout(PATIENCE, end).await.context("a run does not end")??;
            completed.push(millis(started.elapsed()));
        }
        let cpu_ms = millis(target.process.cpu()? - cpu) / f64::from(runs);
        let written = (target.process.written()? - written) as f64 / f64::from(runs);
        anyhow::Ok(Tenth { accept_ms: median(&accepted), run_ms: median(&completed), cpu_ms, written })
    };
    let share = (runs / 10).max(1);
    let first = tenth(share).await?;
    if runs > 2 * share {
        tenth(runs - 2 * share).await?;
    }
    Ok((first, tenth(share).await?))
}
