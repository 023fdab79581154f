//! A second evaluator, written from the rules alone, against the product's: random expressions of the whole dialect through every
//! kind of clock change. It reads the fields by itself and walks time instant by instant; nothing here uses `croner`.
//!
//! The rule for clock changes is put in other words than in the product: a clock on a wall is watched. An interval expression
//! fires whenever the wall shows a matching time. A fixed-time expression fires when the wall shows, for the first time ever, a
//! matching time, or jumps over one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveDateTime, TimeDelta, TimeZone, Timelike, Utc, Weekday};
use chrono_tz::Tz;
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use stakpak_scheduler::Cron;

/// Expressions that are compared.
const EXPRESSIONS: usize = 10_000;

/// Fires of each that are compared.
const FIRES: usize = 40;

/// Gaps and repeats of an hour north and south, of half an hour, at midnight, of a day, and none at all.
const ZONES: [(Tz, &str); 14] = [
    (Tz::Europe__Stockholm, "2026-03-29"),
    (Tz::Europe__Stockholm, "2026-10-25"),
    (Tz::America__New_York, "2026-03-08"),
    (Tz::America__New_York, "2026-11-01"),
    (Tz::Australia__Sydney, "2026-10-04"),
    (Tz::Australia__Sydney, "2026-04-05"),
    (Tz::Australia__Lord_Howe, "2026-10-04"),
    (Tz::Australia__Lord_Howe, "2026-04-05"),
    (Tz::America__St_Johns, "2026-11-01"),
    (Tz::Africa__Cairo, "2026-04-24"),
    (Tz::America__Santiago, "2026-04-05"),
    (Tz::Pacific__Apia, "2011-12-30"),
    (Tz::Asia__Kolkata, "2026-06-01"),
    (Tz::UTC, "2028-02-29"),
];

/// What the wall shows around one clock change.
struct Wall {
    zone: Tz,
    start: DateTime<Utc>,
    end: DateTime<Utc>,
    step: TimeDelta,
    /// Every instant from a day before `start` to `end`, with the time shown.
    shown: Vec<(DateTime<Utc>, NaiveDateTime)>,
}

impl Wall {
    fn around(zone: Tz, day: &str, step: TimeDelta) -> Self {
        let noon = day.parse::<NaiveDate>().unwrap().and_hms_opt(2, 0, 0).unwrap().and_utc();
        // Seconds are many: their window is as wide as the offsets of all zones, and no wider than needed.
        let around = if step < TimeDelta::minutes(1) { TimeDelta::hours(16) } else { TimeDelta::hours(40) };
        let (start, end) = (noon - around, noon + around);
        let watched = start - if step < TimeDelta::minutes(1) { TimeDelta::hours(1) } else { TimeDelta::hours(26) };
        let shown = std::iter::successors(Some(watched), |instant| Some(*instant + step))
            .take_while(|instant| *instant <= end)
            .map(|instant| (instant, instant.with_timezone(&zone).naive_local()))
            .collect();
        Self { zone, start, end, step, shown }
    }

    /// The first fires in (`after`, end].
    fn fires(&self, fields: &Fields, after: DateTime<Utc>) -> Vec<DateTime<Utc>> {
        let mut fires = Vec::new();
        let days = self.shown[0].1.date().iter_days().take(7).map(|day| (day, fields.match_date(day)));
        let days: Vec<_> = days.collect();
        let matches = |time: NaiveDateTime| {
            fields.match_clock(time) && days.iter().any(|(day, fits)| *fits && *day == time.date())
        };
        let mut latest = self.shown[0].1;
        for (instant, time) in &self.shown[1..] {
            let is_new = *time > latest;
            let fired = match fields.is_fixed_time() {
                false => matches(*time),
                true if !is_new => false,
                // Between the latest time shown and this one: more than one step when the clock jumps.
                true => std::iter::successors(Some(latest + self.step), |time| Some(*time + self.step))
                    .take_while(|shown| shown <= time)
                    .any(matches),
            };
            if is_new {
                latest = *time;
            }
            if fired && *instant > after {
                fires.push(*instant);
            }
            if fires.len() == FIRES {
                break;
            }
        }
        fires
    }
}

/// Seven fields, as written.
#[derive(Debug)]
struct Fields {
    texts: [String; 7],
    numbers: [Vec<bool>; 7],
}

/// Years are counted from the first: `*/2` are the odd ones.
const LOW: [u32; 7] = [0, 0, 0, 1, 1, 0, 1];
const HIGH: [u32; 7] = [59, 59, 23, 31, 12, 7, 2100];

impl Fields {
    fn read(expression: &str) -> Self {
        let mut texts: Vec<String> = expression.split(' ').map(str::to_uppercase).collect();
        if texts.len() == 5 {
            texts.insert(0, "0".to_owned());
        }
        if texts.len() == 6 {
            texts.push("*".to_owned());
        }
        let texts: [String; 7] = texts.try_into().unwrap();
        let numbers = std::array::from_fn(|index| {
            let mut numbers = vec![false; 2200];
            texts[index].split(',').for_each(|item| plain(index, item, &mut numbers));
            numbers
        });
        Self { texts, numbers }
    }

    fn is_fixed_time(&self) -> bool {
        self.texts[..3].iter().all(|text| !text.contains('*') && !text.contains('/') && !text.contains('?'))
    }

    fn has(&self, index: usize, number: u32) -> bool {
        self.numbers[index][number as usize]
    }

    fn match_clock(&self, time: NaiveDateTime) -> bool {
        self.has(2, time.hour()) && self.has(1, time.minute()) && self.has(0, time.second())
    }

    fn match_date(&self, date: NaiveDate) -> bool {
        let anything = |index: usize| matches!(self.texts[index].as_str(), "*" | "?");
        let day = self.texts[3].split(',').any(|item| day_of_month(item, date)) || self.has(3, date.day());
        let weekday = date.weekday().num_days_from_sunday();
        let weekdays = self.texts[5].trim_start_matches('+').split(',').any(|item| day_of_week(item, date))
            || self.has(5, weekday)
            || weekday == 0 && self.has(5, 7);
        let date_fits = match (anything(3), anything(5)) {
            (true, true) => true,
            (true, false) => weekdays,
            (false, true) => day,
            (false, false) if self.texts[5].starts_with('+') => day && weekdays,
            (false, false) => day || weekdays,
        };
        date_fits && self.has(4, date.month()) && self.has(6, u32::try_from(date.year()).unwrap())
    }
}

fn named(index: usize, text: &str) -> u32 {
    let names: &[&str] = match index {
        4 => &["", "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
        _ => &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"],
    };
    match names.iter().position(|name| *name == text) {
        Some(number) => u32::try_from(number).unwrap(),
        None => text.parse().unwrap_or_else(|_| panic!("{text}")),
    }
}

/// Items that are numbers, ranges and steps; those that depend on the month are left to others.
fn plain(index: usize, item: &str, numbers: &mut [bool]) {
    let item = item.trim_start_matches('+');
    if item.contains('#') || item.contains('W') || item.ends_with('L') {
        return;
    }
    let (range, step) = item.split_once('/').map_or((item, 1), |(range, step)| (range, step.parse().unwrap()));
    let (from, to) = match range.split_once('-') {
        Some((from, "SUN")) => (named(index, from), 7),
        Some((from, to)) => (named(index, from), named(index, to)),
        None if range == "*" || range == "?" => (LOW[index], HIGH[index]),
        None if item.contains('/') => (named(index, range), HIGH[index]),
        None => (named(index, range), named(index, range)),
    };
    (from..=to).step_by(step).for_each(|number| numbers[number as usize] = true);
}

fn is_weekend(date: NaiveDate) -> bool {
    matches!(date.weekday(), Weekday::Sat | Weekday::Sun)
}

/// `L`, `LW` and `15W`.
fn day_of_month(item: &str, date: NaiveDate) -> bool {
    let days: Vec<NaiveDate> =
        date.with_day(1).unwrap().iter_days().take_while(|day| day.month() == date.month()).collect();
    if item == "L" {
        return Some(&date) == days.last();
    }
    if item == "LW" {
        return days.iter().rfind(|day| !is_weekend(**day)) == Some(&date);
    }
    let Some(wanted) = item.strip_suffix('W').map(|day| day.parse::<usize>().unwrap()) else { return false };
    // The nearest weekday of the month: Saturdays look back first, Sundays forward.
    let Some(wanted) = days.get(wanted - 1) else { return false };
    let near: [i64; 5] = if wanted.weekday() == Weekday::Sun { [0, 1, -1, 2, -2] } else { [0, -1, 1, -2, 2] };
    let near = near.into_iter().map(|days| *wanted + TimeDelta::days(days));
    near.into_iter().find(|day| day.month() == wanted.month() && !is_weekend(*day)) == Some(date)
}

/// `5#2` and `5L`.
fn day_of_week(item: &str, date: NaiveDate) -> bool {
    let is_day = |day: &str| named(5, day) % 7 == date.weekday().num_days_from_sunday();
    if let Some((day, nth)) = item.split_once('#') {
        return is_day(day) && (date.day() - 1) / 7 + 1 == nth.parse::<u32>().unwrap();
    }
    item.strip_suffix('L').is_some_and(|day| is_day(day) && (date + Days::new(7)).month() != date.month())
}

fn number(low: u32, high: u32) -> impl Strategy<Value = String> {
    (low..=high).prop_map(|number| number.to_string())
}

fn range(low: u32, high: u32) -> impl Strategy<Value = String> {
    (low..=high, low..=high).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b)))
}

fn field(low: u32, high: u32) -> impl Strategy<Value = String> {
    let step = move || 1..=high + 3;
    let item = prop_oneof![
        4 => number(low, high),
        2 => range(low, high),
        1 => (range(low, high), step()).prop_map(|(range, step)| format!("{range}/{step}")),
        1 => (number(low, high), step()).prop_map(|(start, step)| format!("{start}/{step}")),
    ];
    prop_oneof![
        3 => Just("*".to_owned()),
        4 => prop::collection::vec(item, 1..4).prop_map(|items| items.join(",")),
        1 => step().prop_map(|step| format!("*/{step}")),
    ]
}

fn day_of_month_field() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => Just("*".to_owned()),
        3 => field(1, 31),
        1 => prop::sample::select(vec!["L", "LW", "?", "1W", "L,7", "30W,3", "15W", "31W"]).prop_map(str::to_owned),
    ]
}

fn day_of_week_field() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => Just("*".to_owned()),
        3 => field(0, 7),
        1 => field(0, 6).prop_map(|field| format!("+{field}")),
        1 => prop::sample::select(vec!["MON-FRI", "fri-sun", "0L", "7#1", "sun#5", "5#2,1", "+FRI", "6L,2#3", "?", "+1#1"])
            .prop_map(str::to_owned),
    ]
}

fn month_field() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => Just("*".to_owned()),
        2 => field(1, 12),
        1 => prop::sample::select(vec!["mar-nov", "APR,OCT,dec", "JAN-DEC/3"]).prop_map(str::to_owned),
    ]
}

fn five() -> impl Strategy<Value = String> {
    (field(0, 59), field(0, 23), day_of_month_field(), month_field(), day_of_week_field())
        .prop_map(|(minute, hour, day, month, weekday)| format!("{minute} {hour} {day} {month} {weekday}"))
}

/// The same 10,000 each time: a difference is a difference for everybody.
fn each<S: Strategy>(strategy: &S, count: usize, mut compare: impl FnMut(S::Value, u64)) {
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    for _ in 0..count {
        let expression = strategy.new_tree(&mut runner).unwrap().current();
        compare(expression, runner.rng().random());
    }
}

fn compare(wall: &Wall, expression: &str, random: u64) -> usize {
    let span = (wall.end - wall.start).num_seconds();
    let after = wall.start + TimeDelta::seconds(i64::try_from(random % u64::try_from(span).unwrap()).unwrap());
    let cron = Cron::parse(expression, wall.zone).unwrap_or_else(|error| panic!("{expression}: {error}"));
    let found: Vec<_> = std::iter::successors(cron.next_after(after), |fire| cron.next_after(*fire))
        .take_while(|fire| *fire <= wall.end)
        .take(FIRES)
        .collect();
    let expected = wall.fires(&Fields::read(expression), after);
    assert_eq!(found, expected, "{expression} in {} after {after}", wall.zone);
    found.len()
}

/// A-P3, A-P4: what fires is what the rules say, whatever the expression, the zone and the clock change.
#[test]
fn fires_are_those_of_an_independent_evaluator() {
    let walls: Vec<Wall> = ZONES.iter().map(|(zone, day)| Wall::around(*zone, day, TimeDelta::minutes(1))).collect();
    let mut fires = 0;
    each(&five(), EXPRESSIONS, |expression, random| {
        fires += compare(&walls[usize::try_from(random % 14).unwrap()], &expression, random / 14);
    });
    assert!(fires > EXPRESSIONS, "expressions that never fire would show nothing: {fires}");
}

/// The same with seconds, and with years.
#[test]
fn seconds_and_years_are_those_of_an_independent_evaluator() {
    let walls: Vec<Wall> =
        ZONES.iter().take(9).map(|(zone, day)| Wall::around(*zone, day, TimeDelta::seconds(1))).collect();
    let year = prop::sample::select(vec!["", " *", " 2026", " 2020-2026", " 2025/2", " */2"]);
    // One or few matches an hour: all of them are compared.
    let seconds = (field(0, 59), number(0, 59), field(0, 3), year)
        .prop_map(|(second, minute, hour, year)| format!("{second} {minute} {hour} * * *{year}"));
    let mut fires = 0;
    each(&seconds, 300, |expression, random| {
        fires += compare(&walls[usize::try_from(random % 9).unwrap()], &expression, random / 9);
    });
    assert!(fires > 300, "{fires}");
}

/// Days over years, where `L`, `W` and `#` have their corners.
#[test]
fn days_are_those_of_an_independent_evaluator() {
    let days = (day_of_month_field(), month_field(), day_of_week_field())
        .prop_map(|(day, month, weekday)| format!("0 12 {day} {month} {weekday}"));
    let start = Utc.with_ymd_and_hms(2027, 1, 1, 0, 0, 0).unwrap();
    let end = start + Days::new(800);
    each(&days, 300, |expression, _| {
        let fields = Fields::read(&expression);
        let expected: Vec<_> = start.date_naive().iter_days().take(800).filter(|day| fields.match_date(*day)).collect();
        let cron = Cron::parse(&expression, Tz::UTC).unwrap();
        let found: Vec<_> = std::iter::successors(cron.next_after(start), |fire| cron.next_after(*fire))
            .take_while(|fire| *fire < end)
            .map(|fire| fire.date_naive())
            .collect();
        assert_eq!(found, expected, "{expression}");
    });
}
