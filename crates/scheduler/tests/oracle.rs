//! A second evaluator ([`wall`]), written from the rules alone, against the product's: random expressions of the whole dialect
//! through every kind of clock change.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    missing_debug_implementations
)]

#[path = "oracle/wall.rs"]
mod wall;

use chrono::{Days, NaiveDate, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use stakpak_scheduler::Cron;
use wall::{Fields, Wall};

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
fn around(zone: Tz, day: &str, step: TimeDelta) -> Wall {
    let noon = day.parse::<NaiveDate>().unwrap().and_hms_opt(2, 0, 0).unwrap().and_utc();
    // Seconds are many: their window is as wide as the offsets of all zones, and no wider than needed.
    let around = if step < TimeDelta::minutes(1) { TimeDelta::hours(16) } else { TimeDelta::hours(40) };
    Wall::watched(zone, noon - around, noon + around, step)
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
    let expected = wall.fires(&Fields::read(expression), after, FIRES);
    assert_eq!(found, expected, "{expression} in {} after {after}", wall.zone);
    found.len()
}

/// A-P3, A-P4: what fires is what the rules say, whatever the expression, the zone and the clock change.
#[test]
fn fires_are_those_of_an_independent_evaluator() {
    let walls: Vec<Wall> = ZONES.iter().map(|(zone, day)| around(*zone, day, TimeDelta::minutes(1))).collect();
    let mut fires = 0;
    each(&five(), EXPRESSIONS, |expression, random| {
        fires += compare(&walls[usize::try_from(random % 14).unwrap()], &expression, random / 14);
    });
    assert!(fires > EXPRESSIONS, "expressions that never fire would show nothing: {fires}");
}

/// The same with seconds, and with years.
#[test]
fn seconds_and_years_are_those_of_an_independent_evaluator() {
    let walls: Vec<Wall> = ZONES.iter().take(9).map(|(zone, day)| around(*zone, day, TimeDelta::seconds(1))).collect();
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
