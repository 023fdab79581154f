//! When expressions fire: the stated vectors at clock changes, the rules for days, and that time only moves forward.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use chrono::{DateTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use proptest::prelude::*;
use stakpak_scheduler::{Cron, CronError};

/// Every fire in [from, to), as local times with offset.
fn fires(expression: &str, zone: Tz, from: &str, to: &str) -> Vec<String> {
    let at = |text: &str| DateTime::parse_from_rfc3339(text).unwrap().to_utc();
    let cron = Cron::parse(expression, zone).unwrap();
    let (mut instant, end) = (at(from) - TimeDelta::milliseconds(1), at(to));
    let mut fires = Vec::new();
    while let Some(next) = cron.next_after(instant).filter(|next| *next < end) {
        fires.push(next.with_timezone(&zone).format("%d %H:%M%z").to_string());
        instant = next;
    }
    fires
}

#[test]
fn clock_changes_in_stockholm() {
    let spring =
        |expression| fires(expression, Tz::Europe__Stockholm, "2026-03-29T00:00:00+01:00", "2026-03-29T04:00:00+02:00");
    let autumn =
        |expression| fires(expression, Tz::Europe__Stockholm, "2026-10-25T01:00:00+02:00", "2026-10-25T03:30:00+01:00");
    assert_eq!(spring("30 2 * * *"), ["29 03:00+0200"]);
    assert_eq!(autumn("30 2 * * *"), ["25 02:30+0200"]);
    assert_eq!(spring("0,30 2 * * *"), ["29 03:00+0200"]);
    assert_eq!(autumn("0,30 2 * * *"), ["25 02:00+0200", "25 02:30+0200"]);
    assert_eq!(spring("0 1-3 * * *"), ["29 01:00+0100", "29 03:00+0200"]);
    assert_eq!(autumn("0 1-3 * * *"), ["25 01:00+0200", "25 02:00+0200", "25 03:00+0100"]);
    assert_eq!(spring("*/30 2 * * *"), Vec::<String>::new());
    assert_eq!(autumn("*/30 2 * * *"), ["25 02:00+0200", "25 02:30+0200", "25 02:00+0100", "25 02:30+0100"]);
    assert_eq!(spring("0 * * * *"), ["29 00:00+0100", "29 01:00+0100", "29 03:00+0200"]);
    assert_eq!(autumn("0 * * * *"), ["25 01:00+0200", "25 02:00+0200", "25 02:00+0100", "25 03:00+0100"]);
    assert_eq!(autumn("@hourly"), autumn("0 * * * *"));
}

#[test]
fn clock_changes_in_the_south_and_by_half_an_hour() {
    // Sydney: 4 October 2026 02:00+10 → 03:00+11; 5 April 2026 03:00+11 → 02:00+10.
    let sydney = |expression, from, to| fires(expression, Tz::Australia__Sydney, from, to);
    let (from, to) = ("2026-10-04T00:30:00+10:00", "2026-10-04T04:00:00+11:00");
    assert_eq!(sydney("30 2 * * *", from, to), ["04 03:00+1100"]);
    assert_eq!(sydney("*/30 2 * * *", from, to), Vec::<String>::new());
    let (from, to) = ("2026-04-05T01:30:00+11:00", "2026-04-05T03:30:00+10:00");
    assert_eq!(sydney("30 2 * * *", from, to), ["05 02:30+1100"]);
    assert_eq!(sydney("30 * * * *", from, to), ["05 01:30+1100", "05 02:30+1100", "05 02:30+1000"]);
    // Lord Howe: 4 October 2026 02:00+10:30 → 02:30+11; 5 April 2026 02:00+11 → 01:30+10:30.
    let howe = |expression, from, to| fires(expression, Tz::Australia__Lord_Howe, from, to);
    let (from, to) = ("2026-10-04T01:30:00+10:30", "2026-10-04T03:30:00+11:00");
    assert_eq!(howe("15 2 * * *", from, to), ["04 02:30+1100"]);
    assert_eq!(howe("15,30 2 * * *", from, to), ["04 02:30+1100"]);
    assert_eq!(howe("*/15 2 * * *", from, to), ["04 02:30+1100", "04 02:45+1100"]);
    let (from, to) = ("2026-04-05T01:30:00+11:00", "2026-04-05T02:15:00+10:30");
    assert_eq!(howe("45 1 * * *", from, to), ["05 01:45+1100"]);
    assert_eq!(howe("*/15 1 * * *", from, to), ["05 01:30+1100", "05 01:45+1100", "05 01:30+1030", "05 01:45+1030"]);
}

#[test]
fn days() {
    let utc = |expression, from, to| fires(expression, Tz::UTC, from, to);
    let november = ("2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z");
    let in_november = |expression| utc(expression, november.0, november.1);
    // Either field, unless `+` asks for both; the 13th of November 2026 is a Friday.
    assert_eq!(in_november("0 9 13 * 5").len(), 4);
    assert_eq!(in_november("0 9 14 * 5").len(), 5);
    assert_eq!(in_november("0 9 13 * +5"), ["13 09:00+0000"]);
    assert_eq!(in_november("0 9 * * 1"), in_november("0 9 * * MON"));
    assert_eq!(in_november("0 9 * * 1")[0], "02 09:00+0000");
    assert_eq!(in_november("0 0 * * 0"), in_november("0 0 * * 7"));
    assert_eq!(in_november("0 0 L * *"), ["30 00:00+0000"]);
    assert_eq!(in_november("0 0 15W * ?"), ["16 00:00+0000"]);
    assert_eq!(in_november("0 0 * * 5#2"), ["13 00:00+0000"]);
    assert_eq!(in_november("0 0 * * 5L"), ["27 00:00+0000"]);
    assert_eq!(in_november("0 0 * * FRIL"), ["27 00:00+0000"]);
    assert_eq!(in_november("0 0 1 nov,DEC *"), ["01 00:00+0000"]);
    // Six fields begin with seconds, seven end with the year.
    assert_eq!(utc("*/20 0 0 1 1 *", "2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z").len(), 3);
    assert_eq!(utc("0 0 0 1 1 * 2027", "2026-01-01T00:00:00Z", "2029-01-01T00:00:00Z").len(), 1);
    assert_eq!(in_november("@daily").len(), 30);
    assert_eq!(in_november("@midnight").len(), 30);
    assert_eq!(in_november("@weekly"), in_november("0 0 * * SUN"));
    assert_eq!(in_november("@monthly").len(), 1);
    assert_eq!(in_november("@yearly").len(), 0);
}

#[test]
fn what_nobody_can_mean_is_refused() {
    let refused = |expression: &str| match Cron::parse(expression, Tz::UTC) {
        Err(CronError::Field { field, reason, .. }) => format!("{field}: {reason}"),
        other => panic!("{expression}: {other:?}"),
    };
    assert_eq!(refused("1,,2 * * * *"), "minute: an item of the list is missing");
    assert_eq!(refused("/5 * * * *"), "minute: a step needs a start, such as `*/10`");
    assert_eq!(refused("0 0 L,LW * *"), "day-of-month: `L` and `LW` cannot stand in one list");
    assert!(refused("0 0 * * L").starts_with("day-of-week: `L` needs a day"));
    assert!(refused("0 0 * * SAT-MON").starts_with("day-of-week: "));
    assert!(refused("*/0 * * * *").starts_with("minute: "));
    assert!(refused("0 0 5L * *").starts_with("day-of-month: "));
}

#[test]
fn what_is_wrong_is_named() {
    let field = |expression: &str| match Cron::parse(expression, Tz::UTC) {
        Err(CronError::Field { field, .. }) => field,
        other => panic!("{expression}: {other:?}"),
    };
    assert_eq!(field("0 25 * * *"), "hour");
    assert_eq!(field("61 * * * *"), "minute");
    assert_eq!(field("0 0 * * 8"), "day-of-week");
    assert_eq!(field("0 0 * XYZ *"), "month");
    assert_eq!(field("1MON * * * *"), "minute");
    assert_eq!(field("H * * * *"), "minute");
    for shortcut in ["@reboot", "@fortnightly"] {
        assert!(matches!(Cron::parse(shortcut, Tz::UTC), Err(CronError::Shortcut { .. })), "{shortcut}");
    }
    assert_eq!(Cron::parse("* * * *", Tz::UTC).unwrap_err(), CronError::FieldCount { found: 4 });
    assert!(Cron::parse("", Tz::UTC).is_err());
}

fn field(low: u32, high: u32) -> impl Strategy<Value = String> {
    prop_oneof![
        3 => Just("*".to_owned()),
        2 => (low..=high).prop_map(|value| value.to_string()),
        1 => (low..=high, low..=high).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
        1 => (low..=high, low..=high).prop_map(|(a, b)| format!("{a},{b}")),
        1 => (2..=high.max(2)).prop_map(|step| format!("*/{step}")),
    ]
}

fn expression() -> impl Strategy<Value = String> {
    (field(0, 59), field(0, 23), field(1, 28), field(1, 12), field(0, 6))
        .prop_map(|(minute, hour, day, month, weekday)| format!("{minute} {hour} {day} {month} {weekday}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// In zones with gaps and repeats of an hour, of half an hour, and with a day left out.
    #[test]
    fn next_is_later_and_nothing_lies_between(
        expression in expression(),
        zone in prop::sample::select(vec![
            Tz::UTC, Tz::Europe__Stockholm, Tz::America__New_York, Tz::Australia__Lord_Howe, Tz::Pacific__Apia,
        ]),
        // 2011 to 2028.
        second in 1_293_840_000_i64..1_830_000_000,
        step in 0_i64..7_200,
    ) {
        let cron = Cron::parse(&expression, zone).unwrap();
        let start = Utc.timestamp_opt(second, 0).unwrap();
        let Some(next) = cron.next_after(start) else { return Ok(()) };
        prop_assert!(next > start);
        // Asked from any later instant before it, the answer is the same; asked from itself, it is later.
        let between = (start + TimeDelta::seconds(step)).min(next - TimeDelta::seconds(1));
        prop_assert_eq!(cron.next_after(between), Some(next));
        prop_assert!(cron.next_after(next).is_none_or(|following| following > next));
    }
}
