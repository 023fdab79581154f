//! What the gateway adds to a run, and what its conversations hold when nothing happens.
//!
//! A round is one message in every conversation, at different times as people write them or all in the same instant. The same
//! round is done over plain HTTP and SSE at the same instance, by turns; what the gateway adds is the difference. Rounds keep
//! to what platforms and gateway allow: a message a second in a chat, 200 a minute to a bot.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use tokio::task::LocalSet;

use crate::{
    chats::{Chats, PLATFORMS, Room, turn},
    companion::Companion,
    connection::Connection,
    events::{Events, Kind},
    instance::{Instance, Setting},
    load::Load,
    memory::{megabytes, settled},
    process::Process,
    report::{Goal, Report},
    stats::{median, millis, percentile},
    target::{PATIENCE, TEXT, Target},
};

/// What the way through a chat platform adds, and what idle conversations hold.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Conversations at once, by turns on each platform
    #[arg(long, default_value_t = 50)]
    conversations: usize,
    /// Messages in each, after the first
    #[arg(long, default_value_t = 9)]
    rounds: u32,
    /// Idle conversations of the memory part
    #[arg(long, default_value_t = 1_000)]
    idle: usize,
    /// How long after the last answer memory is looked at, in ms: finished sessions are on their way out
    #[arg(long, default_value_t = 10_000, value_name = "MS")]
    settle: u64,
}

/// Between rounds: a chat is written to once a second at most, signs and edits included.
const BETWEEN_ROUNDS: Duration = Duration::from_millis(2_200);
/// Messages to one bot that pass at once, and how far apart the others have to be.
const BURST: usize = 195;
const APART: Duration = Duration::from_millis(305);
/// How long it takes until everybody has written, where they do not write in one instant.
const SPREAD: Duration = Duration::from_secs(2);
/// Conversations after which an instance is warm: two waves.
const WARM: usize = 2 * WAVE;
/// For the memory part, which need not wait until a conversation is idle; between two rounds none is.
const SOON_IDLE: &str = "[server.limits]\nidle_after = \"5s\"\n";
/// New conversations at a time, below what each platform takes in a second.
const WAVE: usize = 45;

pub(crate) async fn measure(setting: &Setting, args: &Args, report: &mut Report) -> Result<()> {
    eprintln!("gateway: {} conversations at once, {} idle ones", args.conversations, args.idle);
    let model = Companion::model().await?;
    for _ in 0..setting.repeat {
        latency(setting, &model, args, report).await?;
        memory(setting, &model, args, report).await?;
    }
    Ok(())
}

/// Conversations, and what was measured in them.
#[derive(Default)]
struct Rounds {
    by_chat: Vec<Vec<f64>>,
    by_http: Vec<f64>,
    chat_cpu: Duration,
    http_cpu: Duration,
    /// What the stand-ins for the platforms took of the same processors, in this process.
    platforms_cpu: Duration,
}

async fn latency(setting: &Setting, model: &Companion, args: &Args, report: &mut Report) -> Result<()> {
    let (chats, instance, _home) = stage(setting, model, "").await?;
    let rooms = chats.rooms(args.conversations);
    let mut plain = Plain::open(&instance.target, args.conversations).await?;
    let first = chats.ask(&rooms, Duration::ZERO).await?;
    plain.round(Duration::ZERO).await?;
    report.add("gateway: first answers p50", "ms", Goal::None, median(&first));
    tokio::time::sleep(BETWEEN_ROUNDS).await;
    for (name, over) in [("spread", SPREAD), ("in one instant", Duration::ZERO)] {
        let rounds = rounds(&chats, &rooms, &mut plain, &instance, args.rounds, over).await?;
        tell(name, &rooms, &rounds, report);
    }
    instance.stop().await
}

async fn rounds(
    chats: &Chats,
    rooms: &[Room],
    plain: &mut Plain,
    instance: &Instance,
    count: u32,
    over: Duration,
) -> Result<Rounds> {
    let mut rounds = Rounds::default();
    let stand_ins = Process(std::process::id());
    for _ in 0..count {
        let (before, idle) = (instance.target.process.cpu()?, stand_ins.cpu()?);
        rounds.by_chat.push(chats.ask(rooms, over).await?);
        // Signs and what is stored at the end come after the answer.
        tokio::time::sleep(BETWEEN_ROUNDS).await;
        let between = instance.target.process.cpu()?;
        rounds.platforms_cpu += stand_ins.cpu()? - idle;
        rounds.by_http.extend(plain.round(over).await?);
        tokio::time::sleep(BETWEEN_ROUNDS).await;
        rounds.chat_cpu += between - before;
        rounds.http_cpu += instance.target.process.cpu()? - between;
    }
    Ok(rounds)
}

fn tell(name: &str, rooms: &[Room], rounds: &Rounds, report: &mut Report) {
    let (all, by_http) = (rounds.by_chat.concat(), &rounds.by_http);
    let mut add = |what: &str, goal, value| report.add(&format!("gateway, {name}: {what}"), "ms", goal, value);
    let p99 = |values: &[f64]| percentile(values, 0.99);
    add("answer p50", Goal::None, median(&all));
    add("answer p99", Goal::None, p99(&all));
    add("over plain HTTP p50", Goal::None, median(by_http));
    add("over plain HTTP p99", Goal::None, p99(by_http));
    add("added p50", Goal::AtMost(30.0), median(&all) - median(by_http));
    add("added p99", Goal::AtMost(150.0), p99(&all) - p99(by_http));
    let messages = by_http.len() as f64;
    add("CPU a message", Goal::None, millis(rounds.chat_cpu) / messages);
    add("CPU a message over plain HTTP", Goal::None, millis(rounds.http_cpu) / messages);
    add("CPU a message of the stand-ins for platforms", Goal::None, millis(rounds.platforms_cpu) / messages);
    for (index, platform) in PLATFORMS.iter().enumerate() {
        let here = of_platform(rooms, &rounds.by_chat, index);
        add(&format!("added on {platform} p50"), Goal::None, median(&here) - median(by_http));
        add(&format!("added on {platform} p99"), Goal::None, p99(&here) - p99(by_http));
    }
}

fn of_platform(rooms: &[Room], rounds: &[Vec<f64>], platform: usize) -> Vec<f64> {
    let here = |round: &Vec<f64>| -> Vec<f64> {
        let answers = rooms.iter().zip(round).filter(|(room, _)| room.platform() == platform);
        answers.map(|(_, answer)| *answer).collect()
    };
    rounds.iter().flat_map(here).collect()
}

async fn memory(setting: &Setting, model: &Companion, args: &Args, report: &mut Report) -> Result<()> {
    let settle = Duration::from_millis(args.settle);
    let (chats, instance, _home) = stage(setting, model, SOON_IDLE).await?;
    let empty = settled(&instance.target, settle).await?;
    // Code, connections and caches of an instance that works, however many conversations there are.
    let begun = args.idle.min(WARM);
    converse(&chats, 0..begun).await?;
    let warm = settled(&instance.target, settle).await?;
    converse(&chats, begun..args.idle).await?;
    let idle = settled(&instance.target, settle).await?;
    instance.stop().await?;
    let (_chats, instance, _home) = stage(setting, model, SOON_IDLE).await?;
    let plain_empty = settled(&instance.target, settle).await?;
    let sessions = u32::try_from(args.idle)?;
    Load { sessions, messages: 1, concurrency: u32::try_from(WAVE)? }.run(&instance.target).await?;
    let plain = settled(&instance.target, settle).await?;
    instance.stop().await?;
    let each = |bytes: f64| bytes / 1e3 / f64::from(sessions);
    report.add("gateway: connected to three platforms", "MB", Goal::None, megabytes(empty));
    report.add("gateway: the same after the first conversations", "MB", Goal::None, megabytes(warm));
    let others = (args.idle - begun).max(1) as f64;
    let of_others = (idle - warm) / 1e3 / others;
    report.add("gateway: an idle conversation, of the others", "KB", Goal::AtMost(10.0), of_others);
    report.add("gateway: an idle conversation, of all", "KB", Goal::AtMost(10.0), each(idle - empty));
    report.add("gateway: a finished session beside it", "KB", Goal::None, each(plain - plain_empty));
    Ok(())
}

/// Conversations of one message and its answer, as fast as a bot may be written to.
async fn converse(chats: &Chats, which: Range<usize>) -> Result<()> {
    let mut said = which.start.div_ceil(PLATFORMS.len());
    for wave in chats.rooms(which.end)[which.start..].chunks(WAVE) {
        let began = Instant::now();
        chats.ask(wave, Duration::ZERO).await?;
        said += wave.len().div_ceil(PLATFORMS.len());
        if said + WAVE / PLATFORMS.len() > BURST {
            let due = APART * u32::try_from(wave.len().div_ceil(PLATFORMS.len()))?;
            tokio::time::sleep(due.saturating_sub(began.elapsed())).await;
        }
    }
    Ok(())
}

/// Platforms and an instance that hears from them.
async fn stage<'a>(
    setting: &'a Setting,
    model: &Companion,
    limits: &str,
) -> Result<(Chats, Instance, crate::instance::Home<'a>)> {
    let (chats, home) = (Chats::start().await, setting.home(model)?);
    home.configure(&format!("{limits}{}", chats.config()))?;
    let instance = home.up().await?;
    chats.connected(&instance).await?;
    Ok((chats, instance, home))
}

/// The same conversations over HTTP, each with its own connection and its stream.
struct Plain {
    sessions: Vec<Session>,
}

struct Session {
    id: String,
    connection: Connection,
    events: Events,
}

impl Plain {
    async fn open(target: &Target, count: usize) -> Result<Self> {
        let mut sessions = Vec::new();
        for _ in 0..count {
            let mut connection = target.connect().await?;
            let id = connection.session().await?;
            let events = target.events(&id, 0).await?;
            sessions.push(Session { id, connection, events });
        }
        Ok(Self { sessions })
    }

    /// A message in each, one after the other `over` some time. For each, in ms, how long the run took.
    async fn round(&mut self, over: Duration) -> Result<Vec<f64>> {
        let (local, count) = (LocalSet::new(), self.sessions.len());
        let run = |(index, session): (usize, Session)| local.spawn_local(session.run(turn(index, count, over)));
        let runs: Vec<_> = self.sessions.drain(..).enumerate().map(run).collect();
        local.await;
        let mut took = Vec::new();
        for run in runs {
            let (session, time) = run.await??;
            self.sessions.push(session);
            took.push(time);
        }
        Ok(took)
    }
}

impl Session {
    async fn run(mut self, after: Duration) -> Result<(Self, f64)> {
        tokio::time::sleep(after).await;
        let started = Instant::now();
        self.connection.message(&self.id, TEXT).await?;
        let done = self.events.until(Kind::RunCompleted);
        tokio::time::timeout(PATIENCE, done).await.context("a run does not end")??;
        let took = millis(started.elapsed());
        Ok((self, took))
    }
}
