//! How fast the release binary is, and what it costs: each figure beside its target and the *floor*, the least a durable
//! server can do. Both are measured in the same run on the same machine; absolute figures do not travel.
//!
//! Model, floor and server under test are processes of their own. This one drives them, on a single thread, so that it takes
//! as little of the machine as it can; the chat platforms of `gateway` are in it too, and so is the redactor, which is measured
//! as a library.

mod cancel;
mod chats;
mod commit;
mod companion;
mod connection;
mod events;
mod fanout;
mod floor;
mod gateway;
mod growth;
mod instance;
mod load;
mod memory;
mod model;
mod process;
mod redaction;
mod replay;
mod report;
mod schedules;
mod start;
mod stats;
mod target;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{SignalKind, signal},
};

use crate::{instance::Setting, process::Machine, report::Report};

#[derive(Debug, Parser)]
#[command(name = "stakpak-bench", version, about, max_term_width = 120)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Args)]
struct Global {
    /// The binary to measure [default: `stakpak` beside this one]
    #[arg(long, global = true, value_name = "PATH")]
    stakpak: Option<PathBuf>,
    /// Where homes and journals are made; on a disk, or nothing is durable [default: beside this binary]
    #[arg(long, global = true, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// How often each figure is measured; the median counts
    #[arg(long, global = true, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// One JSON document on stdout
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Every figure, at full size
    All,
    /// Runs a second, CPU a run, latencies
    Load(load::Args),
    /// Resident memory, idle and per finished session
    Memory(memory::Args),
    /// Many runs in one session: the last as cheap as the first
    Growth(growth::Args),
    /// Readers that replay one session after a restart
    Replay(replay::Args),
    /// Start to ready on a large journal
    Start(start::Args),
    /// Many live readers of one session
    Fanout(fanout::Args),
    /// From the request to the terminal event, in each state of a run
    Cancel(cancel::Args),
    /// What one durable append takes
    Commit(commit::Args),
    /// What the way through a chat platform adds, and what idle conversations hold
    Gateway(gateway::Args),
    /// Many schedules: start to ready, lateness, cost while idle
    Schedules(schedules::Args),
    /// What redacting a text takes
    Redaction(redaction::Args),
    /// An engine and its first text, in milliseconds
    #[command(hide = true)]
    RedactionStart,
    /// The scripted model alone
    Model(model::Args),
    /// The floor alone
    Floor(floor::Args),
}

/// The last children have ended by then, so that their time is known.
const REAPED: Duration = Duration::from_millis(200);

fn main() -> Result<()> {
    let Cli { global, command } = Cli::parse();
    raise_descriptor_limit()?;
    match command {
        Command::Model(args) => light()?.block_on(model::serve(args)),
        Command::RedactionStart => redaction::start(),
        Command::Floor(args) => Runtime::new()?.block_on(floor::serve(args)),
        command => light()?.block_on(async {
            tokio::select! {
                measured = measure(global, command) => measured,
                interrupted = interrupted() => interrupted.and(Err(anyhow::anyhow!("interrupted"))),
            }
        }),
    }
}

/// Ctrl-C and SIGTERM: what was started is ended, and what was written is removed, by dropping it.
async fn interrupted() -> Result<()> {
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminated.recv() => Ok(()),
        interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
    }
}

async fn measure(global: Global, command: Command) -> Result<()> {
    let setting = Setting::new(global.stakpak, global.directory, global.repeat)?;
    let mut report = Report::new(global.repeat);
    let before = Machine::now()?;
    match command {
        Command::All => all(&setting, &mut report).await?,
        Command::Load(args) => load::measure(&setting, &args, &mut report).await?,
        Command::Memory(args) => memory::measure(&setting, &args, &mut report).await?,
        Command::Growth(args) => growth::measure(&setting, &args, &mut report).await?,
        Command::Replay(args) => replay::measure(&setting, &args, &mut report).await?,
        Command::Start(args) => start::measure(&setting, &args, &mut report).await?,
        Command::Fanout(args) => fanout::measure(&setting, &args, &mut report).await?,
        Command::Cancel(args) => cancel::measure(&setting, &args, &mut report).await?,
        Command::Commit(args) => commit::measure(&setting, &args, &mut report).await?,
        Command::Gateway(args) => gateway::measure(&setting, &args, &mut report).await?,
        Command::Schedules(args) => schedules::measure(&setting, &args, &mut report).await?,
        Command::Redaction(args) => redaction::measure(&setting, &args, &mut report)?,
        Command::Model(_) | Command::Floor(_) | Command::RedactionStart => {}
    }
    tokio::time::sleep(REAPED).await;
    report.disturbed_by(Machine::now()?.others_since(before));
    report.print(global.json);
    Ok(())
}

async fn all(setting: &Setting, report: &mut Report) -> Result<()> {
    load::measure(setting, &defaults()?, report).await?;
    memory::measure(setting, &defaults()?, report).await?;
    growth::measure(setting, &defaults()?, report).await?;
    replay::measure(setting, &defaults()?, report).await?;
    start::measure(setting, &defaults()?, report).await?;
    fanout::measure(setting, &defaults()?, report).await?;
    cancel::measure(setting, &defaults()?, report).await?;
    commit::measure(setting, &defaults()?, report).await?;
    gateway::measure(setting, &defaults()?, report).await?;
    schedules::measure(setting, &defaults()?, report).await?;
    redaction::measure(setting, &defaults()?, report)
}

/// The arguments that a subcommand has when none is given.
fn defaults<A: clap::Args>() -> Result<A> {
    let command = A::augment_args(clap::Command::new("defaults"));
    Ok(A::from_arg_matches(&command.try_get_matches_from(["defaults"])?)?)
}

/// One thread: less to schedule on a machine that the server under test needs too.
fn light() -> Result<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

/// Thousands of streams, on both ends; children inherit it.
fn raise_descriptor_limit() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("the limit of open files cannot be raised")
}
