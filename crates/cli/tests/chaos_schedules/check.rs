//! The rules, held against a history. Pure: what it says depends on the history alone.

mod agents;
mod ends;
mod instants;

use std::{collections::BTreeMap, fmt};

use crate::{
    campaign::shown,
    history::{Fire, History, Row},
    schedules::Schedule,
};

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub kind: Kind,
    pub schedule: String,
    /// Which, for people.
    pub what: String,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $words:literal,)*) => {
        /// A rule that was broken.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Kind { $($(#[$doc])* $kind,)* }

        impl Kind {
            pub const ALL: &[Self] = &[$(Self::$kind,)*];
        }

        impl fmt::Display for Kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$kind => $words,)* })
            }
        }
    };
}

kinds! {
    /// A due instant without a row.
    Lost = "instants lost",
    /// An instant in two rows, or in a row and a range.
    Twice = "instants twice",
    /// A row for what is no instant of the schedule.
    Unexpected = "rows of no instant",
    /// A fire before its time, or at a time that no clock showed.
    Early = "fires before their time",
    /// Late, although somebody was there.
    LateWithoutCause = "late without a cause",
    /// Fired or missed against the catch-up policy.
    CatchupWrong = "late ones against the policy",
    /// A row without an end.
    NotEnded = "runs that do not end",
    /// An end that the schedule's policies do not allow.
    EndWrong = "ends that are not allowed",
    /// A check that was not run, for the wrong fire, twice by one process, or whose answer was not followed.
    CheckWrong = "checks run wrongly",
    /// An agent run that should not be, or a second one of a fire.
    RunTwice = "agent runs too many",
    /// A completed run whose agent never was at work.
    NotRun = "agent runs too few",
    /// Two runs of a schedule at the same time, or more at once than may.
    Overlapped = "runs at the same time",
    /// A process that needs more and more.
    Grew = "bounds passed",
    /// Waited for in vain.
    Stuck = "waits in vain",
}

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    pub violations: Vec<Violation>,
    /// Fires that were late, and why they may be is known.
    pub late: usize,
    /// Agents asked again after a kill.
    pub asked_again: usize,
    /// Commands met by a kill.
    pub unknown: usize,
}

impl Findings {
    fn add(&mut self, kind: Kind, schedule: &str, what: String) {
        self.violations.push(Violation { kind, schedule: schedule.to_owned(), what });
    }
}

/// All rules.
pub fn check(history: &History) -> Findings {
    let mut findings = Findings::default();
    let rows: BTreeMap<&Fire, &Row> = history.rows.iter().map(|row| (&row.fire, row)).collect();
    for schedule in &history.schedules {
        instants::check(history, schedule, &mut findings);
        ends::check(history, schedule, &mut findings);
        agents::overlaps(history, schedule, &rows, &mut findings);
    }
    for row in &history.rows {
        if !history.schedules.iter().any(|schedule| schedule.name == row.fire.schedule) {
            findings.add(Kind::Unexpected, &row.fire.schedule, format!("run {} of no schedule", row.id));
        }
    }
    agents::checks(history, &rows, &mut findings);
    agents::runs(history, &rows, &mut findings);
    history.crowded.iter().for_each(|what| findings.add(Kind::Overlapped, "", what.clone()));
    history.stuck.iter().for_each(|what| findings.add(Kind::Stuck, "", what.clone()));
    bounds(history, &mut findings);
    findings
}

/// Memory and open files of the later processes against those of the earlier; the ledger against its rows.
fn bounds(history: &History, findings: &mut Findings) {
    const SOME_MEMORY: u64 = 64 * 1024;
    const SOME_FILES: usize = 64;
    const ROW: u64 = 8 * 1024;
    const EMPTY_LEDGER: u64 = 16 * 1024 * 1024;
    let (first, second) = history.samples.split_at(history.samples.len() / 2);
    let peak = |samples: &[crate::history::Sample]| {
        let memory = samples.iter().map(|sample| sample.memory).max().unwrap_or_default();
        (memory, samples.iter().map(|sample| sample.files).max().unwrap_or_default())
    };
    let ((memory, files), (later_memory, later_files)) = (peak(first), peak(second));
    if !first.is_empty() && later_memory > 2 * memory + SOME_MEMORY {
        findings.add(Kind::Grew, "", format!("memory grew from {memory} KiB to {later_memory} KiB"));
    }
    if !first.is_empty() && later_files > 2 * files + SOME_FILES {
        findings.add(Kind::Grew, "", format!("open files grew from {files} to {later_files}"));
    }
    if history.ledger_bytes > EMPTY_LEDGER + ROW * history.rows.len() as u64 {
        findings.add(Kind::Grew, "", format!("{} bytes for {} rows", history.ledger_bytes, history.rows.len()));
    }
}

fn name_of(row: &Row, schedule: &Schedule) -> String {
    let Row { id, status, reason, planned_at, started_at, finished_at, error, .. } = row;
    let error = error.as_deref().unwrap_or("-");
    let reason = reason.as_deref().unwrap_or("-");
    let [started, finished] = [started_at, finished_at].map(|time| time.map_or_else(|| "-".to_owned(), shown));
    format!(
        "run {id} for {}: {status} ({reason}), planned {}, started {started}, finished {finished}; {:?} {:?} window {:?} limit {}; {error}",
        shown(row.fire.nominal),
        shown(*planned_at),
        schedule.overlap,
        schedule.catchup,
        schedule.window,
        schedule.limit,
    )
}
