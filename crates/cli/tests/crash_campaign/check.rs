//! The guarantees, held against one session's ledger. Pure: what it says depends on the ledger alone.

mod changes;
mod effects;
mod history;
mod runs;
mod streams;
mod writes;

use std::fmt;

use crate::ledger::Ledger;

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub kind: Kind,
    /// Which, for people.
    pub what: String,
}

/// A guarantee that was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    MessageLost,
    MessageRepeated,
    CommandLost,
    RefusedYetDone,
    EventChanged,
    EventMissing,
    EventRepeated,
    EndMissing,
    EndRepeated,
    EventAfterEnd,
    OrderBroken,
    TextWrong,
    EffectRepeated,
    EffectWrong,
    AskedAgain,
    DecisionLost,
    CancelLost,
    ChangeLost,
    DeletionLost,
    AnswerChanged,
    AnswerUnexpected,
    HistoryBroken,
    RunFailed,
    SessionStuck,
    ProcessLeft,
}

impl Kind {
    pub const ALL: [Self; 25] = [
        Self::MessageLost,
        Self::MessageRepeated,
        Self::CommandLost,
        Self::RefusedYetDone,
        Self::EventChanged,
        Self::EventMissing,
        Self::EventRepeated,
        Self::EndMissing,
        Self::EndRepeated,
        Self::EventAfterEnd,
        Self::OrderBroken,
        Self::TextWrong,
        Self::EffectRepeated,
        Self::EffectWrong,
        Self::AskedAgain,
        Self::DecisionLost,
        Self::CancelLost,
        Self::ChangeLost,
        Self::DeletionLost,
        Self::AnswerChanged,
        Self::AnswerUnexpected,
        Self::HistoryBroken,
        Self::RunFailed,
        Self::SessionStuck,
        Self::ProcessLeft,
    ];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MessageLost => "accepted messages lost",
            Self::MessageRepeated => "messages repeated",
            Self::CommandLost => "accepted commands lost",
            Self::RefusedYetDone => "requests refused and yet done",
            Self::EventChanged => "event ids changed or reused",
            Self::EventMissing => "gaps in events",
            Self::EventRepeated => "events repeated",
            Self::EndMissing => "runs without an end",
            Self::EndRepeated => "runs with two ends",
            Self::EventAfterEnd => "events after the end",
            Self::OrderBroken => "events out of order",
            Self::TextWrong => "texts that are not their deltas",
            Self::EffectRepeated => "tool effects repeated",
            Self::EffectWrong => "tool effects missing or unwanted",
            Self::AskedAgain => "recorded answers asked for again",
            Self::DecisionLost => "decisions lost",
            Self::CancelLost => "cancels lost",
            Self::ChangeLost => "changes of title or model lost",
            Self::DeletionLost => "deletions lost",
            Self::AnswerChanged => "replayed answers changed",
            Self::AnswerUnexpected => "unexpected answers",
            Self::HistoryBroken => "histories broken",
            Self::RunFailed => "runs failed",
            Self::SessionStuck => "sessions stuck",
            Self::ProcessLeft => "processes left",
        })
    }
}

/// Collects violations.
#[derive(Debug, Default)]
struct Findings(Vec<Violation>);

impl Findings {
    fn add(&mut self, kind: Kind, what: impl fmt::Display) {
        self.0.push(Violation { kind, what: what.to_string() });
    }

    fn require(&mut self, holds: bool, kind: Kind, what: impl fmt::Display) {
        if !holds {
            self.add(kind, what);
        }
    }
}

/// Everything that is wrong with a session.
pub fn check(ledger: &Ledger) -> Vec<Violation> {
    let mut findings = Findings::default();
    if let Some(waited_for) = &ledger.stuck {
        findings.add(Kind::SessionStuck, format!("waited in vain for {waited_for}"));
    }
    findings.require(ledger.processes.is_empty(), Kind::ProcessLeft, format!("processes {:?}", ledger.processes));
    let sessions = format!("{} sessions were made by one request", ledger.sessions);
    findings.require(ledger.sessions == 1, Kind::MessageRepeated, sessions);
    streams::check(ledger, &mut findings);
    runs::check(ledger, &mut findings);
    effects::check(ledger, &mut findings);
    writes::check(ledger, &mut findings);
    changes::check(ledger, &mut findings);
    history::check(ledger, &mut findings);
    findings.0
}
