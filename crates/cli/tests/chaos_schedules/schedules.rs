//! The schedules of a campaign: drawn at random, written as TOML for the product, and told to the checks with their instants,
//! which an evaluator of its own computes.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use chrono_tz::Tz;
use fastrand::Rng;

use crate::wall::{Fields, Wall};

/// Unix milliseconds of the simulated time.
pub type Millis = i64;

pub const SECOND: Millis = 1000;
pub const MINUTE: Millis = 60 * SECOND;
pub const HOUR: Millis = 60 * MINUTE;
pub const DAY: Millis = 24 * HOUR;

/// Agent runs of all schedules at once.
pub const SLOTS: usize = 6;
/// A run that must end has so long to do it.
pub const STOP_GRACE: Millis = 6 * HOUR;
/// What waits at most under `queue_all`.
pub const QUEUE_LIMIT: usize = 3;

/// With a clock change in October, November, March or April, or none; an hour, half an hour.
const ZONES: [Tz; 8] = [
    Tz::UTC,
    Tz::Europe__Stockholm,
    Tz::America__New_York,
    Tz::Australia__Lord_Howe,
    Tz::Australia__Sydney,
    Tz::America__St_Johns,
    Tz::Asia__Kolkata,
    Tz::Europe__London,
];
const MINUTES: [&str; 10] = ["*/5", "*/10", "*/15", "7,37", "0", "30", "13", "0-10/5", "*/20", "0,30"];
const HOURS: [&str; 10] = ["*", "*", "*", "*/2", "2", "1-3", "9", "0", "22-23", "2,14"];
const DAYS: [&str; 6] = ["*", "*", "*", "*/2", "L,1-27", "30W,31,1"];
const WEEKDAYS: [&str; 6] = ["*", "*", "*", "MON-FRI", "0,6", "+1-6"];
const INTERVALS: [(&str, i64); 7] =
    [("4m", 240), ("7m", 420), ("11m", 660), ("30m", 1800), ("45m", 2700), ("90m", 5400), ("6h", 21600)];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlap {
    Skip,
    QueueOne,
    QueueAll,
    CancelRunning,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Catchup {
    Latest,
    All,
    None,
}

/// When the check wants the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// There is none: always.
    Absent,
    Never,
    /// From midnight UTC to this hour, below ten.
    Until(u8),
}

#[derive(Debug, Clone)]
pub struct Schedule {
    pub name: String,
    /// Its line in the file.
    pub when: String,
    pub overlap: Overlap,
    pub catchup: Catchup,
    /// None: `auto`.
    pub window: Option<Millis>,
    /// Under `all`.
    pub limit: usize,
    pub jitter: Millis,
    pub timeout: Millis,
    pub check: Check,
    /// In order.
    pub instants: Vec<Millis>,
}

/// Draws `count` schedules with their instants from `start` to `end`.
pub fn draw(count: usize, start: DateTime<Utc>, end: DateTime<Utc>, rng: &mut Rng) -> Vec<Schedule> {
    let mut walls: BTreeMap<&str, Wall> = BTreeMap::new();
    let minute = start - TimeDelta::milliseconds(start.timestamp_millis() % MINUTE);
    let mut one = |index: usize| {
        let (when, instants) = match rng.u8(..10) {
            0 => at(start, rng),
            1 | 2 => every(start, end, rng),
            _ => {
                let zone = *rng.choice(&ZONES).unwrap();
                let wall =
                    walls.entry(zone.name()).or_insert_with(|| Wall::watched(zone, minute, end, TimeDelta::minutes(1)));
                cron(wall, rng)
            }
        };
        let days = usize::try_from((end - start).num_days()).unwrap() + 1;
        let check = match rng.u8(..10) {
            0..=3 if instants.len() < 50 * days => Check::Absent,
            0..=6 => Check::Until(rng.u8(1..9)),
            _ => Check::Never,
        };
        Schedule {
            name: format!("s{index}"),
            when,
            overlap: [Overlap::Skip, Overlap::QueueOne, Overlap::QueueAll, Overlap::CancelRunning][rng.usize(..4)],
            catchup: [Catchup::Latest, Catchup::All, Catchup::None][rng.usize(..3)],
            window: [None, None, Some(10 * SECOND), Some(20 * MINUTE), Some(3 * HOUR), Some(30 * HOUR)][rng.usize(..6)],
            limit: [1, 3, 10][rng.usize(..3)],
            jitter: [0, 0, 0, 20 * SECOND, 4 * MINUTE][rng.usize(..5)],
            timeout: if rng.u8(..5) == 0 { 20 * MINUTE } else { 20 * DAY },
            check,
            instants,
        }
    };
    (0..count).map(&mut one).collect()
}

fn at(start: DateTime<Utc>, rng: &mut Rng) -> (String, Vec<Millis>) {
    let at = start + TimeDelta::seconds(rng.i64(3600..80_000));
    (format!("at = \"{}\"", at.to_rfc3339_opts(SecondsFormat::Secs, true)), vec![at.timestamp_millis()])
}

fn every(start: DateTime<Utc>, end: DateTime<Utc>, rng: &mut Rng) -> (String, Vec<Millis>) {
    let (text, seconds) = *rng.choice(&INTERVALS).unwrap();
    let instants = (start.timestamp() + 1..=end.timestamp()).filter(|second| second % seconds == 0);
    (format!("every = \"{text}\""), instants.map(|second| second * SECOND).collect())
}

fn cron(wall: &Wall, rng: &mut Rng) -> (String, Vec<Millis>) {
    let mut pick = |from: &[&'static str]| *rng.choice(from).unwrap();
    let (minute, hour, day, weekday) = (pick(&MINUTES), pick(&HOURS), pick(&DAYS), pick(&WEEKDAYS));
    let expression = format!("{minute} {hour} {day} * {weekday}");
    let instants = wall.fires(&Fields::read(&expression), wall.start, usize::MAX);
    let instants = instants.iter().map(DateTime::timestamp_millis).collect();
    (format!("cron = \"{expression}\"\ntimezone = \"{}\"", wall.zone.name()), instants)
}

/// The file that the product reads.
pub fn file(schedules: &[Schedule]) -> String {
    let mut text = format!("[watch]\nmax_concurrent_runs = {SLOTS}\nstop_grace = \"{}s\"\n", STOP_GRACE / SECOND);
    for schedule in schedules {
        let Schedule { name, when, limit, .. } = schedule;
        let (overlap, catchup) = (schedule.overlap.word(), schedule.catchup.word());
        let window = schedule.window.map_or_else(|| "auto".to_owned(), |window| format!("{}s", window / SECOND));
        let (jitter, timeout) = (schedule.jitter / SECOND, schedule.timeout / SECOND);
        text += &format!(
            "\n[[schedules]]\nname = \"{name}\"\n{when}\nprompt = \"Look after {name}.\"\n\
             overlap = \"{overlap}\"\nqueue_limit = {QUEUE_LIMIT}\ncatchup = \"{catchup}\"\ncatchup_window = \"{window}\"\n\
             catchup_limit = {limit}\njitter = \"{jitter}s\"\ntimeout = \"{timeout}s\"\npause_after_failures = 0\n"
        );
        if let Some(pattern) = schedule.check.pattern() {
            text += &format!("check = \"~/check.sh\"\ncheck_args = [\"{pattern}\"]\n");
        }
    }
    text
}

/// The check of all schedules: says when it was run for which fire by which process, and wants the agent if the instant fits.
pub const CHECK: &str = r#"#!/bin/sh
echo "begin $STAKPAK_SCHEDULE $STAKPAK_NOMINAL_AT $PPID $(date +%s%N)" >> checks
case "$STAKPAK_NOMINAL_AT" in
  $1) code=3 ;;
  *) code=0 ;;
esac
echo "end $STAKPAK_SCHEDULE $STAKPAK_NOMINAL_AT $PPID $(date +%s%N)" >> checks
exit $code
"#;

impl Check {
    /// For `case` of the shell.
    fn pattern(self) -> Option<String> {
        match self {
            Self::Absent => None,
            Self::Never => Some("never".to_owned()),
            Self::Until(hour) => Some(format!("*T0[0-{}]:*", hour - 1)),
        }
    }

    /// Whether the agent is wanted at an instant.
    pub fn wants(self, instant: Millis) -> bool {
        match self {
            Self::Absent => true,
            Self::Never => false,
            Self::Until(hour) => instant.rem_euclid(DAY) < i64::from(hour) * HOUR,
        }
    }
}

impl Overlap {
    fn word(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::QueueOne => "queue_one",
            Self::QueueAll => "queue_all",
            Self::CancelRunning => "cancel_running",
        }
    }
}

impl Catchup {
    fn word(self) -> &'static str {
        match self {
            Self::Latest => "latest",
            Self::All => "all",
            Self::None => "none",
        }
    }
}

impl Schedule {
    /// The newest instant not after `time`.
    pub fn newest(&self, time: Millis) -> Option<Millis> {
        self.instants[..self.instants.partition_point(|instant| *instant <= time)].last().copied()
    }

    /// The first instant after `time`.
    pub fn next(&self, time: Millis) -> Option<Millis> {
        self.instants.get(self.instants.partition_point(|instant| *instant <= time)).copied()
    }
}
