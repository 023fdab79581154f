//! What a campaign came to: counts of what was done and of what was wrong.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use crate::{
    campaign::{Kills, Size},
    check::{Findings, Kind, Violation},
    disturb::Done,
    history::{Conversation, History, Platform, Taken},
};

/// One broken guarantee can violate much: so many of each kind are printed, each cut to so many characters.
const MOST_PRINTED: usize = 6;
const LONGEST_PRINTED: usize = 500;
/// Conversations that are printed whole, for each kind.
const MOST_DUMPED: usize = 2;

#[derive(Debug)]
pub struct Report {
    size: Size,
    kills: Kills,
    done: Done,
    history: History,
    findings: Findings,
    violations: BTreeMap<Kind, usize>,
}

impl Report {
    /// Counts; what is wrong is printed with all that is known of it.
    pub fn new(
        size: Size,
        kills: Kills,
        done: Done,
        history: History,
        findings: Findings,
        log: impl Fn() -> String,
    ) -> Self {
        let mut violations = BTreeMap::new();
        let mut dumped: BTreeSet<usize> = BTreeSet::new();
        for Violation { kind, conversation, what } in &findings.violations {
            let count: &mut usize = violations.entry(*kind).or_default();
            *count += 1;
            if *count <= MOST_PRINTED {
                let what: String = what.chars().take(LONGEST_PRINTED).collect();
                println!("VIOLATION {kind}: {what} (conversation {conversation}, seed {})", size.seed);
            }
            if *count <= MOST_DUMPED {
                dumped.insert(*conversation);
            }
        }
        for index in &dumped {
            println!("{}", Dump(&history.conversations[*index]));
        }
        if !dumped.is_empty() {
            println!("{}", log());
        }
        Self { size, kills, done, history, findings, violations }
    }

    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }

    fn said(&self, of: impl Fn(&Conversation, Taken) -> bool) -> usize {
        let conversations = self.history.conversations.iter();
        conversations.map(|talk| talk.said.iter().filter(|said| of(talk, said.taken)).count()).sum()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { size, kills, done, history, findings, .. } = self;
        let mut starts = kills.starts.clone();
        starts.sort();
        let start = |part: usize| starts.get((starts.len() * part / 100).min(starts.len().saturating_sub(1)));
        let milliseconds = |time: Option<&Duration>| time.map_or(0, Duration::as_millis);
        writeln!(
            f,
            "chaos campaign, seed {}: {} kills ({} of them in the start); ready again after {} ms (median), {} ms (p99)",
            size.seed,
            kills.kills,
            kills.in_start,
            milliseconds(start(50)),
            milliseconds(start(99)),
        )?;
        let on = |platform| self.said(|talk, _| talk.platform == platform);
        writeln!(
            f,
            "  {} messages in {} conversations ({} Telegram, {} Slack, {} Discord); {} of them never acknowledged by Slack's app and found in the history",
            self.said(|_, _| true),
            history.conversations.len(),
            on(Platform::Telegram),
            on(Platform::Slack),
            on(Platform::Discord),
            self.said(|_, taken| taken == Taken::FromHistory),
        )?;
        let disturbed: Vec<String> = done.iter().map(|(name, count)| format!("{count} {name}")).collect();
        writeln!(f, "  besides: {}", disturbed.join(", "))?;
        let asked: usize = history.conversations.iter().map(|talk| talk.asked.len()).sum();
        let shown: usize = history.conversations.iter().map(|talk| talk.shown.len()).sum();
        writeln!(
            f,
            "  model asked {asked} times ({} again after a kill, because no answer was recorded); {shown} messages of the bot",
            findings.asked_again,
        )?;
        writeln!(
            f,
            "  {} approvals decided; {} of the allowed commands met by a kill while they ran",
            findings.decided, findings.unknown,
        )?;
        writeln!(
            f,
            "  allowed: {} second copies and {} unfinished messages on Telegram, {} answers overtaken by one to a message that was delivered earlier, {} runs killed three times and given up with a notice, {} answers offered again after ten attempts of unknown outcome",
            findings.copies, findings.unfinished, findings.overtaken, findings.given_up, findings.parked,
        )?;
        let wrong = |kind: &Kind| format!("{} {kind}", self.violations.get(kind).copied().unwrap_or_default());
        write!(f, "  violations: {}", Kind::ALL.iter().map(wrong).collect::<Vec<_>>().join(" · "))
    }
}

/// Everything known of a conversation, for people.
struct Dump<'a>(&'a Conversation);

impl fmt::Display for Dump<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Conversation { name, said, shown, asked, .. } = self.0;
        writeln!(f, "=== {name}")?;
        for said in said {
            writeln!(f, "said {} at {:?}, taken {:?}, done {}", said.token, said.at, said.taken, said.done)?;
        }
        for shown in shown {
            writeln!(
                f,
                "shown by process {}: {:?}{}",
                shown.epoch,
                shown.text,
                if shown.open { ", open" } else { "" }
            )?;
        }
        for asked in asked {
            writeln!(f, "asked by process {}: {:?}, told {:?}", asked.epoch, asked.known, asked.told)?;
        }
        Ok(())
    }
}
