//! Many live readers of one session: each gets every event, and none much later than the first.

use std::{
    cell::RefCell,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use tokio::task::LocalSet;

use crate::{
    companion::Companion,
    events::{Events, Kind},
    instance::Setting,
    report::{Goal, Report},
    stats::{median, millis},
    target::{PATIENCE, TEXT, Target},
};

/// Many live readers of one session.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Readers
    #[arg(long, default_value_t = 2_000)]
    readers: u32,
    /// Runs that they read, one after the other
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
}

/// When the first and the last reader got an event, and how many did.
#[derive(Debug, Clone, Copy)]
struct Spread {
    first: Instant,
    last: Instant,
    readers: u32,
}

/// What readers saw, and what they cost.
struct Outcome {
    /// How far apart in ms the first and the last reader got each event.
    spreads: Vec<f64>,
    /// Resident memory of the server for an open stream.
    bytes_a_reader: f64,
}

type Spreads = Rc<RefCell<Vec<Option<Spread>>>>;

pub(crate) async fn measure(setting: &Setting, args: &Args, report: &mut Report) -> Result<()> {
    eprintln!("fanout: {} readers, {} runs", args.readers, args.runs);
    let model = Companion::model().await?;
    for _ in 0..setting.repeat {
        let home = setting.home(&model)?;
        let instance = home.up().await?;
        note(report, Report::add, &fan_out(&instance.target, args).await?);
        instance.stop().await?;
        let scratch = setting.scratch()?;
        let floor = Companion::floor(&model, scratch.path()).await?;
        note(report, Report::add_floor, &fan_out(&floor.target()?, args).await?);
    }
    Ok(())
}

fn note(report: &mut Report, add: fn(&mut Report, &str, &'static str, Goal, f64), outcome: &Outcome) {
    let worst = outcome.spreads.iter().copied().fold(0.0, f64::max);
    add(report, "fanout: last reader behind the first, worst", "ms", Goal::AtMost(250.0), worst);
    add(report, "fanout: last reader behind the first, p50", "ms", Goal::None, median(&outcome.spreads));
    add(report, "fanout: memory a reader", "KB", Goal::None, outcome.bytes_a_reader / 1e3);
}

/// A reader that misses an event is an error.
async fn fan_out(target: &Target, args: &Args) -> Result<Outcome> {
    let mut connection = target.connect().await?;
    let session = connection.session().await?;
    let spreads = Spreads::default();
    let local = LocalSet::new();
    let mut reading = Vec::new();
    let before = target.process.resident()? as f64;
    for _ in 0..args.readers {
        let events = target.events(&session, 0).await?;
        reading.push(local.spawn_local(read(events, args.runs, Rc::clone(&spreads))));
    }
    let bytes_a_reader = (target.process.resident()? as f64 - before) / f64::from(args.readers);
    let own = target.events(&session, 0).await?;
    let drive = async {
        let mut events = own;
        for _ in 0..args.runs {
            connection.message(&session, TEXT).await?;
            events.until(Kind::RunCompleted).await?;
            // The next run begins when this one has reached everybody: what is measured is the spread, not a queue.
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        anyhow::Ok(())
    };
    let all = local.run_until(async {
        drive.await?;
        for reader in reading {
            reader.await??;
        }
        anyhow::Ok(())
    });
    tokio::time::timeout(PATIENCE, all).await.context("not every reader gets every event")??;
    let spreads = spreads.borrow();
    let spreads: Vec<Spread> = spreads.iter().flatten().copied().collect();
    ensure!(spreads.iter().all(|spread| spread.readers == args.readers), "not every reader got every event");
    let spreads = spreads.iter().map(|spread| millis(spread.last - spread.first)).collect();
    Ok(Outcome { spreads, bytes_a_reader })
}

async fn read(mut events: Events, runs: u32, spreads: Spreads) -> Result<()> {
    let mut left = runs;
    while left > 0 {
        let frame = events.next().await?;
        let id = usize::try_from(frame.id.context("there is a frame without an id")?)?;
        let now = Instant::now();
        let mut spreads = spreads.borrow_mut();
        if spreads.len() <= id {
            spreads.resize(id + 1, None);
        }
        let spread = spreads[id].get_or_insert(Spread { first: now, last: now, readers: 0 });
        (spread.last, spread.readers) = (now, spread.readers + 1);
        ensure!(frame.kind != Kind::RunError, "a run failed");
        left -= u32::from(frame.kind == Kind::RunCompleted);
    }
    Ok(())
}
