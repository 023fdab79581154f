//! Many schedules: start to ready, how late they fire on an idle server, and what they cost while none is due.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::{
    companion::Companion,
    instance::{Home, Instance, Setting},
    memory::megabytes,
    report::{Goal, Report},
    stats::{median, millis, percentile},
};

/// Many schedules: start to ready, lateness, cost while idle.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Schedules in the file
    #[arg(long, default_value_t = 10_000)]
    schedules: u32,
    /// How long fires are watched, in seconds; each schedule fires once an hour, spread over it
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    watch: u64,
    /// How long the process is watched while nothing is due, in seconds
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    idle: u64,
}

/// Until everything that a start sets off is done.
const SETTLED: Duration = Duration::from_secs(3);
/// Until the runs that were started last have their rows.
const RECORDED: Duration = Duration::from_secs(2);
/// Runs of one answer.
const PAGE: usize = 1000;
const HOUR: u32 = 3600;

pub(crate) async fn measure(setting: &Setting, args: &Args, report: &mut Report) -> Result<()> {
    eprintln!("schedules: {} of them", args.schedules);
    let model = Companion::model().await?;
    for _ in 0..setting.repeat {
        let home = setting.home(&model)?;
        home.configure(&file(args.schedules, |_| "0 0 1 1 *".to_owned()))?;
        idle(&home, args, report).await?;
        let home = setting.home(&model)?;
        home.configure(&file(args.schedules, |index| {
            let second = index % HOUR;
            format!("{} {} * * * *", second % 60, second / 60)
        }))?;
        lateness(&home, args, report).await?;
    }
    Ok(())
}

/// So many entries.
fn file(schedules: u32, cron: impl Fn(u32) -> String) -> String {
    let entry = |index| {
        let cron = cron(index);
        format!(
            "[[schedules]]\nname = 'schedule-{index:05}'\ncron = '{cron}'\nprompt = 'hi'\ninteraction = 'silent'\n\n"
        )
    };
    (0..schedules).map(entry).collect()
}

async fn idle(home: &Home<'_>, args: &Args, report: &mut Report) -> Result<()> {
    let instance = home.up().await?;
    report.add("schedules: ready with new ones", "ms", Goal::AtMost(1000.0), millis(instance.ready_after));
    tokio::time::sleep(SETTLED).await;
    instance.stop().await?;
    let instance = home.up().await?;
    report.add("schedules: ready with known ones", "ms", Goal::AtMost(1000.0), millis(instance.ready_after));
    tokio::time::sleep(SETTLED).await;
    let (began, before) = (Instant::now(), instance.target.process.cpu()?);
    tokio::time::sleep(Duration::from_secs(args.idle)).await;
    let used = instance.target.process.cpu()? - before;
    let percent = used.as_secs_f64() / began.elapsed().as_secs_f64() * 100.0;
    report.add("schedules: CPU while none is due", "%", Goal::AtMost(1.0), percent);
    let resident = instance.target.process.resident()? as f64;
    report.add("schedules: memory while none is due", "MB", Goal::None, megabytes(resident));
    instance.stop().await
}

async fn lateness(home: &Home<'_>, args: &Args, report: &mut Report) -> Result<()> {
    let instance = home.up().await?;
    tokio::time::sleep(SETTLED).await;
    let from = Utc::now();
    tokio::time::sleep(Duration::from_secs(args.watch)).await;
    let to = Utc::now();
    tokio::time::sleep(RECORDED).await;
    let late = late(&instance, from, to).await?;
    ensure!(!late.is_empty(), "nothing fired in {} s", args.watch);
    report.add("schedules: lateness p50", "ms", Goal::None, median(&late));
    report.add("schedules: lateness p99", "ms", Goal::AtMost(100.0), percentile(&late, 0.99));
    report.add("schedules: fires", "", Goal::None, late.len() as f64);
    instance.stop().await
}

/// Of the fires of a time, in ms.
async fn late(instance: &Instance, from: DateTime<Utc>, to: DateTime<Utc>) -> Result<Vec<f64>> {
    let mut connection = instance.target.connect().await?;
    let answer = connection.get(&format!("/v1/schedule-runs?limit={PAGE}")).await?;
    let runs = answer["runs"].as_array().context("the answer has no runs")?;
    let mut late = Vec::new();
    for run in runs {
        let nominal = instant(&run["nominal_at"])?;
        if nominal >= from && nominal <= to {
            late.push((instant(&run["started_at"])? - nominal).as_seconds_f64() * 1e3);
        }
    }
    Ok(late)
}

fn instant(value: &Value) -> Result<DateTime<Utc>> {
    let text = value.as_str().with_context(|| format!("{value} is no instant"))?;
    Ok(DateTime::parse_from_rfc3339(text)?.to_utc())
}
