//! What an idle server holds, and what a finished session leaves behind.

use std::time::Duration;

use anyhow::Result;

use crate::{
    companion::Companion,
    instance::Setting,
    load::Load,
    report::{Goal, Report},
    target::Target,
};

/// Resident memory, idle and per finished session.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Sessions of one run each, done twice
    #[arg(long, default_value_t = 5_000)]
    sessions: u32,
    /// Sessions at a time
    #[arg(long, default_value_t = 64)]
    concurrency: u32,
    /// How long after the last run memory is looked at, in ms: finished sessions are on their way out
    #[arg(long, default_value_t = 2_000, value_name = "MS")]
    settle: u64,
}

/// What bounded caches may still take between the first and the second half, in MB.
const CACHES: f64 = 4.0;

pub(crate) async fn measure(setting: &Setting, args: &Args, report: &mut Report) -> Result<()> {
    eprintln!("memory: twice {} sessions of one run", args.sessions);
    let model = Companion::model().await?;
    let load = Load { sessions: args.sessions, messages: 1, concurrency: args.concurrency };
    let settle = Duration::from_millis(args.settle);
    for _ in 0..setting.repeat {
        let home = setting.home(&model)?;
        let instance = home.up().await?;
        let idle = settled(&instance.target, settle).await?;
        load.run(&instance.target).await?;
        let half = settled(&instance.target, settle).await?;
        load.run(&instance.target).await?;
        let whole = settled(&instance.target, settle).await?;
        let sessions = f64::from(args.sessions);
        report.add("memory: idle after start", "MB", Goal::AtMost(25.0), megabytes(idle));
        report.add("memory: a finished session", "KB", Goal::AtMost(10.0), (half - idle) / 1e3 / sessions);
        report.add("memory: second half of the sessions", "MB", Goal::AtMost(CACHES), megabytes(whole - half));
        report.add("memory: at the end", "MB", Goal::None, megabytes(whole));
        instance.stop().await?;
    }
    Ok(())
}

pub(crate) async fn settled(target: &Target, settle: Duration) -> Result<f64> {
    tokio::time::sleep(settle).await;
    Ok(target.process.resident()? as f64)
}

pub(crate) fn megabytes(bytes: f64) -> f64 {
    bytes / 1e6
}
