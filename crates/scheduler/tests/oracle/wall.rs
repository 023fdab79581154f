//! An evaluator of cron expressions written from the rules alone. It reads the fields by itself and walks time instant by
//! instant; nothing here uses `croner`.
//!
//! The rule for clock changes is put in other words than in the product: a clock on a wall is watched. An interval expression
//! fires whenever the wall shows a matching time. A fixed-time expression fires when the wall shows, for the first time ever, a
//! matching time, or jumps over one.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveDateTime, TimeDelta, Timelike, Utc, Weekday};
use chrono_tz::Tz;

/// What the wall shows around one clock change.
pub struct Wall {
    pub zone: Tz,
    pub start: DateTime<Utc>,
    pub end: DateTime<Utc>,
    step: TimeDelta,
    /// Every instant from a day before `start` to `end`, with the time shown.
    shown: Vec<(DateTime<Utc>, NaiveDateTime)>,
}

impl Wall {
    /// What the wall shows from `start` to `end`, looked at every `step`.
    pub fn watched(zone: Tz, start: DateTime<Utc>, end: DateTime<Utc>, step: TimeDelta) -> Self {
        let before = if step < TimeDelta::minutes(1) { TimeDelta::hours(1) } else { TimeDelta::hours(26) };
        let shown = std::iter::successors(Some(start - before), |instant| Some(*instant + step))
            .take_while(|instant| *instant <= end)
            .map(|instant| (instant, instant.with_timezone(&zone).naive_local()))
            .collect();
        Self { zone, start, end, step, shown }
    }

    /// The first `most` fires in (`after`, end].
    pub fn fires(&self, fields: &Fields, after: DateTime<Utc>, most: usize) -> Vec<DateTime<Utc>> {
        let mut fires = Vec::new();
        let last = self.end.date_naive() + Days::new(2);
        let days =
            self.shown[0].1.date().iter_days().take_while(|day| *day <= last).map(|day| (day, fields.match_date(day)));
        let days: BTreeMap<_, _> = days.collect();
        let matches = |time: NaiveDateTime| fields.match_clock(time) && days.get(&time.date()) == Some(&true);
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
            if fires.len() == most {
                break;
            }
        }
        fires
    }
}

/// Seven fields, as written.
#[derive(Debug)]
pub struct Fields {
    texts: [String; 7],
    numbers: [Vec<bool>; 7],
}

/// Years are counted from the first: `*/2` are the odd ones.
const LOW: [u32; 7] = [0, 0, 0, 1, 1, 0, 1];
const HIGH: [u32; 7] = [59, 59, 23, 31, 12, 7, 2100];

impl Fields {
    pub fn read(expression: &str) -> Self {
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

    pub fn match_date(&self, date: NaiveDate) -> bool {
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
