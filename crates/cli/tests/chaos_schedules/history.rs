//! What a campaign saw: the ledger's rows, what checks and commands wrote, what the model was asked, and what was done to the
//! process and its clock. Everything that [`check`](crate::check::check) looks at.

use crate::schedules::{Millis, Schedule};

/// One instant of one schedule.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fire {
    pub schedule: String,
    pub nominal: Millis,
}

#[derive(Debug, Clone, Default)]
pub struct History {
    pub schedules: Vec<Schedule>,
    pub rows: Vec<Row>,
    pub ranges: Vec<Range>,
    pub checks: Vec<Checked>,
    /// Fires whose command ran, once for each time.
    pub commands: Vec<Fire>,
    pub asked: Vec<Asked>,
    pub processes: Vec<Process>,
    pub times: Times,
    /// What a look at the ledger while the product was at work showed and must not.
    pub crowded: Vec<String>,
    /// What was waited for in vain.
    pub stuck: Vec<String>,
    pub samples: Vec<Sample>,
    pub ledger_bytes: u64,
}

/// A row of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub id: i64,
    pub fire: Fire,
    pub key: String,
    pub status: String,
    pub reason: Option<String>,
    pub blocking: Option<i64>,
    pub planned_at: Millis,
    pub dispatch_at: Millis,
    pub started_at: Option<Millis>,
    /// Since when the time of the agent counts.
    pub agent_at: Option<Millis>,
    pub finished_at: Option<Millis>,
    pub exit_code: Option<i64>,
    pub recoveries: u32,
    pub error: Option<String>,
}

/// Missed instants that share a row, both ends included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    pub schedule: String,
    pub from: Millis,
    pub to: Millis,
    pub count: usize,
}

/// One run of a check, by the host's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    pub fire: Fire,
    /// The process that ran it.
    pub pid: i64,
    pub begin: Millis,
    /// None: it was killed.
    pub end: Option<Millis>,
}

/// One request to the model, by the host's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub fire: Fire,
    /// What it was told of the command.
    pub told: Option<String>,
    pub epoch: u64,
    pub at: Millis,
    /// Before this it is not answered.
    pub until: Millis,
}

/// A life of the binary, by the host's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    pub pid: i64,
    pub from: Millis,
    pub to: Millis,
}

/// What the simulated time did.
#[derive(Debug, Clone, Default)]
pub struct Times {
    /// Every schedule is known to the product from here on.
    pub known: Millis,
    /// Everything up to here was planned.
    pub end: Millis,
    /// The clock at the very end.
    pub now: Millis,
    /// Nobody was there to plan in time: after the first, up to the second.
    pub gaps: Vec<(Millis, Millis)>,
    /// What the clock showed, from and to, while a process could see it.
    pub shown: Vec<(Millis, Millis)>,
    /// The clock was set back, from the second to the first.
    pub again: Vec<(Millis, Millis)>,
}

/// What a process used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    pub memory: u64,
    pub files: usize,
}
