//! What one durable append takes: through the journal, and as the least there is, a write and a sync of a file.

use std::{fs::File, io::Write, path::Path, time::Instant};

use anyhow::Result;
use chrono::Utc;
use futures_util::future::try_join_all;
use stakpak_agent_core::{Append, Journal, NewSession, Row, RowClass, SessionRow};
use stakpak_protocol::{EventId, SessionId};
use stakpak_store::SqliteJournal;

use crate::{
    instance::Setting,
    report::{Goal, Report},
    stats::{median, millis, percentile},
};

/// What one durable append takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Appends, one after the other
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    appends: u32,
    /// Sessions that append at the same time in the second part
    #[arg(long, default_value_t = 64)]
    sessions: u32,
}

/// A row as large as an event usually is.
const ROW_BYTES: usize = 256;

pub(crate) async fn measure(setting: &Setting, args: &Args, report: &mut Report) -> Result<()> {
    eprintln!("commit: {} appends", args.appends);
    for _ in 0..setting.repeat {
        let scratch = setting.scratch()?;
        let journal = SqliteJournal::open(&scratch.path().join("journal.db"))?;
        note(report, Report::add, "one at a time", &appends(&journal, args.appends).await?);
        note(report, Report::add_floor, "one at a time", &syncs(&scratch.path().join("floor.log"), args.appends)?);
        let each = args.appends.div_ceil(args.sessions);
        let together = try_join_all((0..args.sessions).map(|_| appends(&journal, each))).await?.concat();
        note(report, Report::add, &format!("{} at a time", args.sessions), &together);
    }
    Ok(())
}

fn note(report: &mut Report, add: fn(&mut Report, &str, &'static str, Goal, f64), how: &str, latencies: &[f64]) {
    add(report, &format!("commit: {how}, p50"), "ms", Goal::None, median(latencies));
    add(report, &format!("commit: {how}, p99"), "ms", Goal::None, percentile(latencies, 0.99));
}

/// Appends to a new session, each after the one before is durable.
async fn appends(journal: &SqliteJournal, count: u32) -> Result<Vec<f64>> {
    let mut session = SessionRow::new(SessionId::random(), "bench", None, Utc::now());
    journal.create_session(NewSession { session: session.clone(), receipt: None }).await?;
    let mut latencies = Vec::new();
    for _ in 0..count {
        session.last_seq += 1;
        session.last_event_id = EventId(session.last_seq);
        let payload = "x".repeat(ROW_BYTES);
        let kind = "text_delta".to_owned();
        let row = Row { seq: session.last_seq, class: RowClass::Event, kind, payload, message_index: None };
        let append = Append {
            epoch: journal.epoch(),
            session: session.clone(),
            rows: vec![row],
            run: None,
            receipt: None,
            snapshot: None,
            spent: None,
        };
        latencies.push(timed(journal.append(append)).await?);
    }
    Ok(latencies)
}

async fn timed<E>(append: impl Future<Output = Result<(), E>>) -> Result<f64, E> {
    let started = Instant::now();
    append.await?;
    Ok(millis(started.elapsed()))
}

fn syncs(path: &Path, count: u32) -> Result<Vec<f64>> {
    let mut file = File::create(path)?;
    let sync = |_| {
        let started = Instant::now();
        file.write_all(&[b'x'; ROW_BYTES])?;
        file.sync_data()?;
        Ok(millis(started.elapsed()))
    };
    (0..count).map(sync).collect()
}
