//! Start to ready on a journal with many sessions.
//!
//! The journal is made of copies of one session that the binary itself has run, written in large groups through the store:
//! real rows, without driving a million events over HTTP.

use anyhow::{Context, Result, ensure};
use chrono::Utc;
use futures_util::{StreamExt, TryStreamExt, stream};
use stakpak_agent_core::{Append, Journal, NewSession, Row, RowClass, SessionRow};
use stakpak_protocol::{EventId, Run, RunId, SessionId};
use stakpak_store::SqliteJournal;

use crate::{
    companion::Companion,
    events::Kind,
    instance::{Home, Instance, Setting},
    report::{Goal, Report},
    stats::millis,
    target::TEXT,
};

/// Start to ready on a large journal.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Sessions in the journal
    #[arg(long, default_value_t = 10_000)]
    sessions: u32,
    /// Events in the journal
    #[arg(long, default_value_t = 1_000_000)]
    events: u32,
}

/// Appends that wait for the disk together.
const GROUP: usize = 512;

/// A session as it was run: its runs in order, each with its rows.
struct Template {
    session: SessionRow,
    runs: Vec<(Run, Vec<Row>)>,
}

pub(crate) async fn measure(setting: &Setting, args: &Args, report: &mut Report) -> Result<()> {
    eprintln!("start: {} sessions, {} events", args.sessions, args.events);
    let model = Companion::model().await?;
    let home = setting.home(&model)?;
    let wanted = args.events.div_ceil(args.sessions);
    let session = run_until(home.up().await?, wanted).await?;
    let made = fill(&home, session, args.sessions).await?;
    for _ in 0..setting.repeat {
        let instance = home.up().await?;
        report.add("start: ready on a large journal", "ms", Goal::AtMost(300.0), millis(instance.ready_after));
        let resident = instance.target.process.resident()? as f64 / 1e6;
        report.add("start: memory on a large journal", "MB", Goal::None, resident);
        let mut connection = instance.target.connect().await?;
        let started = std::time::Instant::now();
        let page = connection.get("/v1/sessions?limit=100").await?;
        report.add("start: newest 100 sessions", "ms", Goal::None, millis(started.elapsed()));
        ensure!(page["total"].as_u64() > Some(u64::from(args.sessions)), "sessions are missing: {}", page["total"]);
        instance.stop().await?;
        let empty = setting.home(&model)?;
        let instance = empty.up().await?;
        report.add("start: ready on a new home", "ms", Goal::None, millis(instance.ready_after));
        instance.stop().await?;
    }
    report.add("start: events in the large journal", "", Goal::None, made as f64);
    report.add("start: size of the large journal", "MB", Goal::None, home.journal_bytes() as f64 / 1e6);
    Ok(())
}

/// Runs in one session until it has so many events; then the instance is stopped.
async fn run_until(instance: Instance, wanted: u32) -> Result<SessionId> {
    let mut connection = instance.target.connect().await?;
    let session = connection.session().await?;
    let mut events = instance.target.events(&session, 0).await?;
    let mut count = 0;
    while count < wanted {
        connection.message(&session, TEXT).await?;
        let mut kind = Kind::Other;
        while kind != Kind::RunCompleted {
            kind = events.next().await?.kind;
            ensure!(kind != Kind::RunError, "a run failed");
            count += 1;
        }
    }
    instance.stop().await?;
    Ok(session.parse()?)
}

/// Copies the session so many times; tells how many events the copies have.
async fn fill(home: &Home<'_>, session: SessionId, copies: u32) -> Result<u64> {
    let journal = SqliteJournal::open(&home.journal())?;
    let template = Template::read(&journal, session).await?;
    stream::iter(0..copies)
        .map(|_| template.copy(&journal))
        .buffer_unordered(GROUP)
        .try_for_each(async |()| Ok(()))
        .await?;
    Ok(template.events() * u64::from(copies))
}

impl Template {
    async fn read(journal: &SqliteJournal, id: SessionId) -> Result<Self> {
        let session = journal.session(id).await?.context("the session is not there")?;
        let mut rows = journal.control_rows(id, 1, session.last_seq).await?;
        let events = journal.events(id, EventId(0), usize::MAX).await?;
        rows.extend(events.into_iter().map(|event| Row {
            seq: event.id.0,
            class: RowClass::Event,
            kind: event.name,
            payload: event.data,
            message_index: None,
        }));
        rows.sort_by_key(|row| row.seq);
        let mut runs = Vec::new();
        for rows in rows.chunk_by(|_, next| next.kind != "run_accepted") {
            let started = rows.iter().find(|row| row.class == RowClass::Event).context("a run has no event")?;
            let event: serde_json::Value = serde_json::from_str(&started.payload)?;
            let run = event["run_id"].as_str().context("an event has no run")?.parse()?;
            let run = journal.run(id, run).await?.context("the run is not there")?;
            runs.push((run, rows.to_vec()));
        }
        Ok(Self { session, runs })
    }

    fn events(&self) -> u64 {
        let rows = self.runs.iter().flat_map(|(_, rows)| rows);
        rows.filter(|row| row.class == RowClass::Event).count() as u64
    }

    /// The same under new ids.
    async fn copy(&self, journal: &SqliteJournal) -> Result<()> {
        let session = SessionRow { id: SessionId::random(), ..self.session.clone() };
        let new = SessionRow::new(session.id, session.title.clone(), session.cwd.clone(), Utc::now());
        journal.create_session(NewSession { session: new, receipt: None }).await?;
        for (run, rows) in &self.runs {
            let last_seq = rows.last().context("a run has no rows")?.seq;
            let copy = Run { run_id: RunId::random(), session_id: session.id, ..run.clone() };
            let ids = [
                (run.session_id.to_string(), session.id.to_string()),
                (run.run_id.to_string(), copy.run_id.to_string()),
            ];
            let rename = |text: &str| ids.iter().fold(text.to_owned(), |text, (old, new)| text.replace(old, new));
            let rows = rows.iter().map(|row| Row { payload: rename(&row.payload), ..row.clone() }).collect();
            let session = SessionRow { last_seq, ..session.clone() };
            let append = Append {
                epoch: journal.epoch(),
                session,
                rows,
                run: Some(copy),
                receipt: None,
                snapshot: None,
                spent: None,
            };
            journal.append(append).await?;
        }
        Ok(())
    }
}
