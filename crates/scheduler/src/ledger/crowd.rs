//! Thousands of rows that wait for their turn, through the ledger alone, in simulated time.

use std::{collections::HashMap, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};
use stakpak_config::Document;
use stakpak_sqlite::Database;

use super::{Finish, Job, Ledger, Look, Planned, Reason, RunNumber, RunStatus, Tracked, Verdict, schema};
use crate::{
    due::due,
    fire::number_of,
    spec::{Definition, ScheduleSet, ScheduleSpec},
    timing::Timing,
};

/// A ledger, its schedules, and what is at work.
struct Simulation {
    ledger: Ledger,
    set: Arc<ScheduleSet>,
    cursors: Vec<Cursor>,
    now: DateTime<Utc>,
    /// With the instant of its end.
    at_work: HashMap<RunNumber, (Arc<ScheduleSpec>, DateTime<Utc>)>,
    /// Names in the order of their starts, and the most at once.
    started: Vec<String>,
    most: usize,
    /// Seconds that a run takes at most.
    longest: u64,
}

struct Cursor {
    spec: Arc<ScheduleSpec>,
    timing: Timing,
    at: DateTime<Utc>,
    next: Option<DateTime<Utc>>,
}

/// What became of every row: schedule, instant, status, reason, start.
type Rows = Vec<(String, Option<i64>, String, Option<String>, Option<i64>)>;

impl Simulation {
    async fn new(toml: &str, start: &str, longest: u64) -> Self {
        let now = DateTime::parse_from_rfc3339(start).unwrap().to_utc();
        let database = Database::open_in_memory(schema::MIGRATIONS).unwrap();
        let ledger = Ledger {
            database,
            ended: Default::default(),
            deliveries: Default::default(),
            posted: Arc::default(),
            decided: tokio::sync::watch::channel(()).0,
        };
        let set = ScheduleSet::read(&Document::parse("autopilot.toml", toml).unwrap(), now).unwrap();
        let valid = set.schedules.iter().map(|schedule| match &schedule.definition {
            Definition::Valid { spec, timing, .. } => {
                Cursor { spec: Arc::clone(spec), timing: timing.clone(), at: now, next: timing.next_after(now) }
            }
            Definition::Invalid(findings) => panic!("{findings:?}"),
        });
        let cursors: Vec<_> = valid.collect();
        let tracked = |cursor: &Cursor| Tracked {
            name: cursor.spec.name.clone(),
            timing: cursor.spec.timing_hash(),
            only_instant: None,
        };
        ledger.track(cursors.iter().map(tracked).collect(), Vec::new(), now).await.unwrap();
        let (at_work, started) = (HashMap::new(), Vec::new());
        Self { ledger, set: Arc::new(set), cursors, now, at_work, started, most: 0, longest }
    }

    /// One second later: what is due is planned, what has ended ends, what may start does.
    async fn step(&mut self, all: bool) {
        let before = self.now;
        self.now += TimeDelta::seconds(1);
        let mut planned = Vec::new();
        for cursor in self.cursors.iter_mut().filter(|cursor| cursor.next.is_some_and(|next| next <= self.now)) {
            let Some(due) = due(&cursor.timing, &cursor.spec.firing, cursor.at, self.now) else { continue };
            (cursor.at, cursor.next) = (due.cursor, cursor.timing.next_after(due.cursor));
            let jitter = TimeDelta::from_std(cursor.spec.firing.jitter).unwrap();
            planned.push(Planned { spec: Arc::clone(&cursor.spec), jitter, due });
        }
        if !planned.is_empty() {
            self.ledger.plan(planned, self.now).await.unwrap();
        }
        let mut ended: Vec<_> =
            self.at_work.iter().filter(|(_, (_, end))| *end <= self.now).map(|(id, _)| *id).collect();
        ended.sort();
        for ended in ended.chunks(20) {
            for id in ended {
                self.end(*id, RunStatus::Completed, None).await;
            }
            self.dispatch(if all { Look::All } else { Look::Since(before) }).await;
        }
        self.dispatch(if all { Look::All } else { Look::Since(before) }).await;
    }

    async fn dispatch(&mut self, look: Look) {
        let verdict = |set: &ScheduleSet, name: &str, _| match set.get(name).map(|schedule| &schedule.definition) {
            Some(Definition::Valid { spec, .. }) => Verdict::Run(Arc::clone(spec)),
            _ => panic!("{name} is not in the file"),
        };
        let dispatched = self.ledger.dispatch(verdict, Arc::clone(&self.set), look, self.now).await.unwrap();
        for Job { id, key, spec, .. } in dispatched.jobs {
            let takes = TimeDelta::seconds(1 + i64::try_from(number_of(&key, self.longest - 1)).unwrap());
            self.started.push(spec.name.clone());
            assert!(self.at_work.insert(id, (spec, self.now + takes)).is_none(), "{id} was started twice");
        }
        self.most = self.most.max(self.at_work.len());
        for id in dispatched.to_be_ended {
            self.end(id, RunStatus::Cancelled, Some(Reason::Superseded)).await;
        }
    }

    async fn end(&mut self, id: RunNumber, status: RunStatus, reason: Option<Reason>) {
        let Some((spec, _)) = self.at_work.remove(&id) else { return };
        let finish = Finish::not_started(status, reason, String::new());
        self.ledger.finish(id, finish, (&spec, Arc::clone(&self.set)), self.now).await.unwrap();
    }

    async fn rows(&self) -> Rows {
        let read = |connection: &rusqlite::Connection| {
            let sql = "SELECT schedule, nominal_at, status, reason, started_at FROM runs ORDER BY id";
            let mut statement = connection.prepare(sql)?;
            let rows =
                statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)))?;
            Ok::<_, super::LedgerError>(rows.collect::<Result<Rows, _>>()?)
        };
        self.ledger.database.read(read).await.unwrap()
    }
}

/// A-P45: never more at once than may, spread by their jitter, in the order of their times and names, none lost and none doubled.
#[tokio::test]
async fn ten_thousand_fires_of_one_minute_take_their_turns() {
    const COUNT: usize = 10_000;
    let entry = |n| format!("[[schedules]]\nname = 's{n:05}'\ncron = '1 0 * * *'\nprompt = 'p'\n");
    let entries: String = (0..COUNT).map(entry).collect();
    let toml = format!("[watch]\nmax_concurrent_runs = 60\n[defaults]\njitter = '40s'\n{entries}");
    let mut simulation = Simulation::new(&toml, "2026-01-01T00:00:58Z", 5).await;
    for _ in 0..4000 {
        simulation.step(false).await;
        if simulation.started.len() == COUNT {
            break;
        }
    }
    assert_eq!(simulation.most, 60);
    let mut order: Vec<_> = simulation.started.clone();
    order.sort();
    order.dedup();
    assert_eq!(order.len(), COUNT, "one was started twice");
    let starts = {
        let read = |connection: &rusqlite::Connection| {
            let sql = "SELECT schedule, dispatch_at - nominal_at FROM runs ORDER BY dispatch_at, schedule";
            let mut statement = connection.prepare(sql)?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok::<_, super::LedgerError>(rows.collect::<Result<Vec<(String, i64)>, _>>()?)
        };
        simulation.ledger.database.read(read).await.unwrap()
    };
    assert!(starts.iter().map(|(name, _)| name).eq(&simulation.started), "not in the order of their turns");
    for second in 0..40 {
        let share = starts.iter().filter(|(_, delay)| delay / 1000 == second).count();
        assert!((COUNT / 80..COUNT / 20).contains(&share), "{share} in second {second}");
    }
}

/// A look at a part of the rows that wait comes to the same as a look at all of them, whatever the policies.
#[tokio::test]
async fn looking_at_fewer_rows_decides_the_same() {
    let overlaps = ["skip", "queue_one", "queue_all", "cancel_running"];
    let entry = |n: usize| {
        let group = if n.is_multiple_of(5) { "exclusive_group = 'g'\n" } else { "" };
        let (overlap, minutes) = (overlaps[n % 4], 1 + n % 3);
        format!(
            "[[schedules]]\nname = 's{n}'\ncron = '*/{minutes} * * * *'\nprompt = 'p'\noverlap = '{overlap}'\n\
             queue_limit = 3\njitter = '{}s'\n{group}",
            n % 7 * 9
        )
    };
    let entries: String = (0..40).map(entry).collect();
    for slots in [3, 12] {
        let toml = format!("[watch]\nmax_concurrent_runs = {slots}\n{entries}");
        let mut outcomes = Vec::new();
        for all in [true, false] {
            let mut simulation = Simulation::new(&toml, "2026-01-01T00:00:30Z", 150).await;
            for _ in 0..900 {
                simulation.step(all).await;
            }
            outcomes.push((simulation.rows().await, simulation.started));
        }
        let words: std::collections::BTreeSet<_> = outcomes[0].0.iter().map(|row| (&row.2, &row.3)).collect();
        assert!(words.len() >= 6, "too little happened: {words:?}");
        assert_eq!(outcomes[0], outcomes[1]);
    }
}
