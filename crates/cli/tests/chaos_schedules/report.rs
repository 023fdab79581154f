//! What a campaign came to: counts of what was done and of what was wrong.

use std::{collections::BTreeMap, fmt, time::Duration};

use crate::{
    campaign::{Done, Size},
    check::{Findings, Kind, Violation},
    history::History,
    schedules::HOUR,
};

/// One broken rule can be violated often: so many of each kind are printed.
const MOST_PRINTED: usize = 8;

#[derive(Debug)]
pub struct Report {
    size: Size,
    took: Duration,
    done: Done,
    history: History,
    findings: Findings,
    violations: BTreeMap<Kind, usize>,
}

impl Report {
    /// Counts; what is wrong is printed.
    pub fn new(
        size: Size,
        took: Duration,
        done: Done,
        history: History,
        findings: Findings,
        log: impl Fn() -> String,
    ) -> Self {
        let mut violations = BTreeMap::new();
        for Violation { kind, schedule, what } in &findings.violations {
            let count: &mut usize = violations.entry(*kind).or_default();
            *count += 1;
            if *count <= MOST_PRINTED {
                println!("VIOLATION {kind}: {schedule}: {what} (seed {})", size.seed);
            }
        }
        if !violations.is_empty() {
            let wrong: Vec<&str> = findings.violations.iter().map(|violation| violation.schedule.as_str()).collect();
            for schedule in history.schedules.iter().filter(|schedule| wrong.contains(&schedule.name.as_str())) {
                println!("{}: {}", schedule.name, schedule.when.replace('\n', ", "));
            }
            println!("{}", log());
        }
        Self { size, took, done, history, findings, violations }
    }

    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { size, took, done, history, findings, .. } = self;
        let hours = (history.times.end - history.times.known) / HOUR;
        writeln!(
            f,
            "chaos of schedules, seed {}: {} schedules through {hours} simulated hours in {} s",
            size.seed,
            history.schedules.len(),
            took.as_secs(),
        )?;
        let done: Vec<String> = done.iter().map(|(name, count)| format!("{count} {name}")).collect();
        writeln!(f, "  {}", done.join(", "))?;
        let mut ends: BTreeMap<String, usize> = BTreeMap::new();
        for row in &history.rows {
            let end =
                row.reason.as_ref().map_or_else(|| row.status.clone(), |reason| format!("{} ({reason})", row.status));
            *ends.entry(end).or_default() += 1;
        }
        let ends: Vec<String> = ends.iter().map(|(end, count)| format!("{count} {end}")).collect();
        let in_ranges: usize = history.ranges.iter().map(|range| range.count).sum();
        writeln!(
            f,
            "  {} rows: {}; {in_ranges} more missed in {} ranges",
            history.rows.len(),
            ends.join(", "),
            history.ranges.len()
        )?;
        writeln!(
            f,
            "  {} checks run, model asked {} times ({} again after a kill), {} commands ({} met by a kill), {} late with a cause",
            history.checks.len(),
            history.asked.len(),
            findings.asked_again,
            history.commands.len(),
            findings.unknown,
            findings.late,
        )?;
        let memory = history.samples.iter().map(|sample| sample.memory).max().unwrap_or_default();
        let files = history.samples.iter().map(|sample| sample.files).max().unwrap_or_default();
        writeln!(
            f,
            "  at most {} MiB and {files} open files; ledger {} KiB",
            memory / 1024,
            history.ledger_bytes / 1024
        )?;
        let wrong = |kind: &Kind| format!("{} {kind}", self.violations.get(kind).copied().unwrap_or_default());
        write!(f, "  violations: {}", Kind::ALL.iter().map(wrong).collect::<Vec<_>>().join(" · "))
    }
}
