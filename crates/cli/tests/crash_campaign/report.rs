//! What a campaign came to: counts of what was done and of what was wrong.

use std::{collections::BTreeMap, fmt, time::Duration};

use stakpak_protocol::{Event, StopReason};

use crate::{
    check::{Kind, Violation},
    ledger::{Ledger, What},
};

/// One broken guarantee can violate much: so many of a session are printed, each cut to so many characters.
const MOST_PRINTED: usize = 10;
const LONGEST_PRINTED: usize = 500;

/// Counts over all rounds.
#[derive(Debug)]
pub struct Report {
    seed: u64,
    pub rounds: u64,
    pub kills: u64,
    /// Of them, while the binary was starting or had just started.
    pub kills_in_start: u64,
    /// How long each start took.
    pub starts: Vec<Duration>,
    counts: BTreeMap<Count, u64>,
    violations: BTreeMap<Kind, u64>,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Count {
    Sessions,
    Runs,
    Messages,
    Commands,
    Unconsumed,
    Decisions,
    Cancels,
    Changes,
    Deletions,
    CutRequests,
    Events,
    Streams,
    FramesSeen,
    Asked,
    AskedAgain,
    AnswersLostBeforeCommit,
    Calls,
    Effects,
    OutcomesUnknown,
    Interrupted,
}

impl Report {
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            rounds: 0,
            kills: 0,
            kills_in_start: 0,
            starts: Vec::new(),
            counts: BTreeMap::new(),
            violations: BTreeMap::new(),
        }
    }

    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }

    /// Counts a session; what is wrong with it is printed with all that is known of it.
    pub fn add(&mut self, ledger: &Ledger, violations: Vec<Violation>, log: impl Fn() -> String) {
        self.count(ledger);
        if violations.is_empty() {
            return;
        }
        println!("\n=== session {} (seed {}, round {})", ledger.label, self.seed, self.rounds);
        for (index, Violation { kind, what }) in violations.into_iter().enumerate() {
            if index < MOST_PRINTED {
                println!("VIOLATION {kind}: {}", what.chars().take(LONGEST_PRINTED).collect::<String>());
            }
            *self.violations.entry(kind).or_default() += 1;
        }
        println!("{}\n{}", Dump(ledger), log());
    }

    fn bump(&mut self, count: Count, by: u64) {
        *self.counts.entry(count).or_default() += by;
    }

    fn count(&mut self, ledger: &Ledger) {
        self.bump(Count::Sessions, 1);
        for write in &ledger.writes {
            self.bump(Count::CutRequests, write.unanswered);
            let accepted = u64::from(write.accepted().is_some());
            match write.what {
                What::Session => {}
                What::Message(_) => self.bump(Count::Messages, accepted),
                What::Command(_) => self.bump(Count::Commands, accepted),
                What::Decision(_) => self.bump(Count::Decisions, accepted),
                What::Cancel(_) => self.bump(Count::Cancels, accepted),
                What::Title(_) | What::Model(_) => self.bump(Count::Changes, accepted),
                What::Deletion => self.bump(Count::Deletions, accepted),
            }
        }
        self.bump(Count::Streams, ledger.connections.len() as u64);
        self.bump(Count::FramesSeen, ledger.connections.iter().map(|seen| seen.frames.len() as u64).sum());
        self.bump(Count::Events, ledger.replay.len() as u64);
        self.bump(Count::Effects, ledger.witness.len() as u64);
        self.count_asked(ledger);
        for frame in &ledger.replay {
            self.count_event(&frame.envelope().event);
        }
    }

    /// An answer that was whole and asked for again was lost between its last byte and its commit.
    fn count_asked(&mut self, ledger: &Ledger) {
        let mut turns: BTreeMap<(&str, usize), (u64, u64)> = BTreeMap::new();
        for asked in &ledger.asked {
            let (times, whole) = turns.entry((&asked.run, asked.turn)).or_default();
            *times += 1;
            *whole += u64::from(asked.sent.is_open());
        }
        for (times, whole) in turns.into_values() {
            self.bump(Count::Asked, times);
            self.bump(Count::AskedAgain, times - 1);
            self.bump(Count::AnswersLostBeforeCommit, whole.saturating_sub(1));
        }
    }

    fn count_event(&mut self, event: &Event) {
        match event {
            Event::RunStarted { .. } => self.bump(Count::Runs, 1),
            Event::ToolExecutionStarted { .. } => self.bump(Count::Calls, 1),
            Event::ToolExecutionCompleted { result, .. }
                if result.as_str().is_some_and(|text| text.starts_with("OUTCOME_UNKNOWN")) =>
            {
                self.bump(Count::OutcomesUnknown, 1);
            }
            Event::RunError { unconsumed, .. } => {
                self.bump(Count::Interrupted, 1);
                self.bump(Count::Unconsumed, unconsumed.len() as u64);
            }
            Event::RunCompleted { unconsumed, stop_reason, .. } => {
                debug_assert_ne!(*stop_reason, StopReason::Error);
                self.bump(Count::Unconsumed, unconsumed.len() as u64);
            }
            _ => {}
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |count: Count| self.counts.get(&count).copied().unwrap_or_default();
        let mut starts = self.starts.clone();
        starts.sort();
        let start = |part: usize| starts.get((starts.len() * part / 100).min(starts.len().saturating_sub(1)));
        let milliseconds = |time: Option<&Duration>| time.map_or(0, Duration::as_millis);
        writeln!(
            f,
            "crash campaign, seed {}: {} kills ({} of them in the start) in {} rounds; ready again after {} ms (median), {} ms (p99)",
            self.seed,
            self.kills,
            self.kills_in_start,
            self.rounds,
            milliseconds(start(50)),
            milliseconds(start(99)),
        )?;
        writeln!(
            f,
            "  accepted: {} messages, {} commands ({} unconsumed), {} decisions, {} cancels, {} changes, {} deletions; \
             {} requests cut by a kill and repeated",
            count(Count::Messages),
            count(Count::Commands),
            count(Count::Unconsumed),
            count(Count::Decisions),
            count(Count::Cancels),
            count(Count::Changes),
            count(Count::Deletions),
            count(Count::CutRequests),
        )?;
        writeln!(
            f,
            "  {} sessions, {} runs ({} interrupted after three kills), {} events; {} streams with {} frames compared byte by byte",
            count(Count::Sessions),
            count(Count::Runs),
            count(Count::Interrupted),
            count(Count::Events),
            count(Count::Streams),
            count(Count::FramesSeen),
        )?;
        writeln!(
            f,
            "  model asked {} times ({} again because no answer was recorded; {} answers lost between last byte and commit)",
            count(Count::Asked),
            count(Count::AskedAgain),
            count(Count::AnswersLostBeforeCommit),
        )?;
        writeln!(
            f,
            "  {} calls started, {} effects seen, {} outcomes unknown",
            count(Count::Calls),
            count(Count::Effects),
            count(Count::OutcomesUnknown),
        )?;
        let wrong = |kind: &Kind| format!("{} {kind}", self.violations.get(kind).copied().unwrap_or_default());
        write!(f, "  violations: {}", Kind::ALL.iter().map(wrong).collect::<Vec<_>>().join(" · "))
    }
}

/// Everything known of a session, for people.
struct Dump<'a>(&'a Ledger);

impl fmt::Display for Dump<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ledger { writes, connections, replay, history, session, witness, asked, .. } = self.0;
        writeln!(f, "--- requests")?;
        for write in writes {
            writeln!(f, "{} {} {} {}", write.key, write.method, write.path, write.body)?;
            for answer in &write.answers {
                writeln!(f, "  {} {} replayed={} {}", answer.at, answer.status, answer.replayed, answer.body)?;
            }
        }
        writeln!(f, "--- streams")?;
        for seen in connections {
            let ids = seen.frames.first().zip(seen.frames.last()).map(|(first, last)| (first.id(), last.id()));
            let (after, count) = (seen.after, seen.frames.len());
            writeln!(f, "after {after}: {count} frames {ids:?} complete={} {:?}", seen.complete, seen.control)?;
        }
        writeln!(f, "--- events")?;
        for frame in replay {
            let (at, event) = (frame.envelope().timestamp, &frame.envelope().event);
            writeln!(f, "{} {at} {}", frame.id(), serde_json::to_string(event).unwrap_or_default())?;
        }
        writeln!(f, "--- messages")?;
        for message in history.iter().skip(1) {
            writeln!(f, "{}", serde_json::to_string(message).unwrap_or_default())?;
        }
        writeln!(f, "--- session: {session:?}\n--- effects: {witness:?}\n--- asked")?;
        for asked in asked {
            let whole = asked.sent.is_open();
            writeln!(f, "{} {} turn {} model={} whole={whole}", asked.at, asked.run, asked.turn, asked.model)?;
        }
        Ok(())
    }
}
