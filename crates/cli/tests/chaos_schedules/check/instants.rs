//! Every due instant is accounted for once: run, skipped or missed; and the late ones as the policy says, which is computed
//! here again, from the rules.

use std::collections::BTreeMap;

use super::{Findings, Kind, name_of};
use crate::{
    campaign::shown,
    history::{Fire, History, Row},
    schedules::{Catchup, HOUR, MINUTE, Millis, SECOND, Schedule},
};

const LATE: Millis = 10 * SECOND;

/// How an instant is accounted for.
#[derive(Clone, Copy)]
enum Account<'a> {
    Row(&'a Row),
    Range,
}

/// What becomes of an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Fires,
    Missed(&'static str),
}

pub fn check(history: &History, schedule: &Schedule, findings: &mut Findings) {
    let accounts = accounts(history, schedule, findings);
    let (known, end) = (history.times.known, history.times.end);
    for instant in schedule.instants.iter().filter(|instant| **instant > known && **instant <= end) {
        if !accounts.contains_key(instant) {
            findings.add(Kind::Lost, &schedule.name, format!("nothing became of {}", shown(*instant)));
        }
    }
    for account in accounts.values() {
        if let Account::Row(row) = account {
            in_time(history, schedule, row, findings);
        }
    }
    for (planned_at, group) in groups(&accounts) {
        as_the_policy_says(schedule, planned_at, &group, findings);
    }
}

fn accounts<'a>(history: &'a History, schedule: &Schedule, findings: &mut Findings) -> BTreeMap<Millis, Account<'a>> {
    let mut accounts = BTreeMap::new();
    let mut add = |instant: Millis, account, findings: &mut Findings| {
        if accounts.insert(instant, account).is_some() {
            findings.add(Kind::Twice, &schedule.name, format!("{} has two rows", shown(instant)));
        }
    };
    for row in history.rows.iter().filter(|row| row.fire.schedule == schedule.name) {
        let Fire { nominal, schedule: name } = &row.fire;
        if schedule.instants.binary_search(nominal).is_err() || row.key != format!("sched:{name}:{}", nominal / SECOND)
        {
            findings.add(Kind::Unexpected, name, format!("{} {}", row.key, name_of(row, schedule)));
        }
        add(*nominal, Account::Row(row), findings);
    }
    for range in history.ranges.iter().filter(|range| range.schedule == schedule.name) {
        let inside = schedule.instants.iter().filter(|instant| (range.from..=range.to).contains(instant));
        let inside: Vec<Millis> = inside.copied().collect();
        if inside.len() != range.count || inside.first() != Some(&range.from) || inside.last() != Some(&range.to) {
            findings.add(Kind::Unexpected, &schedule.name, format!("{} instants and not {range:?}", inside.len()));
        }
        inside.into_iter().for_each(|instant| add(instant, Account::Range, findings));
    }
    accounts
}

/// Not before its time, and late only if nobody was there.
fn in_time(history: &History, schedule: &Schedule, row: &Row, findings: &mut Findings) {
    let times = &history.times;
    let nominal = row.fire.nominal;
    // Once its check has passed, a run waits for its turn from then on, at whatever the clock says that was set back.
    let has_passed = row.exit_code.is_some() && row.dispatch_at < nominal;
    let is_spread = (nominal..=nominal + schedule.jitter).contains(&row.dispatch_at) || has_passed;
    let is_early = row.planned_at < nominal
        || !is_spread
        || row.started_at.is_some_and(|started| started < row.dispatch_at.max(nominal));
    // Who reads the clock while it is set may be held up between the host's time and what is added to it.
    let was_shown = |time: Millis| times.shown.iter().any(|(from, to)| (from - SECOND..=to + SECOND).contains(&time));
    let is_invented =
        [Some(row.planned_at), row.started_at, row.finished_at].into_iter().flatten().any(|at| !was_shown(at));
    if is_early || is_invented {
        findings.add(Kind::Early, &schedule.name, name_of(row, schedule));
    }
    if row.planned_at - nominal > LATE {
        findings.late += 1;
        if !times.gaps.iter().any(|(from, to)| *from < nominal && nominal <= *to) {
            findings.add(Kind::LateWithoutCause, &schedule.name, name_of(row, schedule));
        }
    }
}

/// What was planned in one go has one time; a range goes with the row behind it.
fn groups<'a>(accounts: &BTreeMap<Millis, Account<'a>>) -> Vec<(Millis, Vec<(Millis, Account<'a>)>)> {
    let mut groups: Vec<(Millis, Vec<(Millis, Account<'a>)>)> = Vec::new();
    let mut ranged = Vec::new();
    for (instant, account) in accounts {
        let Account::Row(row) = account else {
            ranged.push((*instant, *account));
            continue;
        };
        match groups.last_mut() {
            Some((planned_at, group)) if *planned_at == row.planned_at && ranged.is_empty() => {
                group.push((*instant, *account));
            }
            _ => {
                let mut group = std::mem::take(&mut ranged);
                group.push((*instant, *account));
                groups.push((row.planned_at, group));
            }
        }
    }
    groups
}

fn as_the_policy_says(
    schedule: &Schedule,
    planned_at: Millis,
    group: &[(Millis, Account<'_>)],
    findings: &mut Findings,
) {
    let instants: Vec<Millis> = group.iter().map(|(instant, _)| *instant).collect();
    let newest = instants.last().copied();
    if schedule.newest(planned_at) != newest {
        let newest = newest.map(shown);
        let what = format!("planned at {} only up to {newest:?}", shown(planned_at));
        findings.add(Kind::CatchupWrong, &schedule.name, what);
    }
    // The ledger's times are cut to milliseconds: both sides of the cut count.
    let fates = [fates(schedule, &instants, planned_at), fates(schedule, &instants, planned_at + 1)];
    let agrees = |fates: &Vec<Fate>| group.iter().zip(fates).all(|((_, account), fate)| agrees(*account, *fate));
    if fates.iter().any(agrees) {
        return;
    }
    for ((instant, account), fate) in group.iter().zip(&fates[0]) {
        if !self::agrees(*account, *fate) {
            let is = match account {
                Account::Row(row) => name_of(row, schedule),
                Account::Range => format!("{} is in a range", shown(*instant)),
            };
            findings.add(Kind::CatchupWrong, &schedule.name, format!("should be {fate:?}: {is}"));
        }
    }
}

fn agrees(account: Account<'_>, fate: Fate) -> bool {
    match (account, fate) {
        (Account::Row(row), Fate::Fires) => row.status != "missed",
        (Account::Row(row), Fate::Missed(reason)) => row.status == "missed" && row.reason.as_deref() == Some(reason),
        // Only the reason of its newest is kept.
        (Account::Range, fate) => fate != Fate::Fires,
    }
}

/// Section 7.3, for instants that are planned together at `now`.
fn fates(schedule: &Schedule, instants: &[Millis], now: Millis) -> Vec<Fate> {
    let is_late = |instant: Millis| now - instant > LATE;
    let is_inside = |instant: Millis| now - instant <= window(schedule, instant);
    let catches_up: Vec<Millis> = match schedule.catchup {
        Catchup::Latest => instants.last().copied().into_iter().filter(|newest| is_inside(*newest)).collect(),
        Catchup::All => {
            let late = instants.iter().copied().filter(|instant| is_late(*instant) && is_inside(*instant));
            let late: Vec<Millis> = late.collect();
            late[late.len().saturating_sub(schedule.limit)..].to_vec()
        }
        Catchup::None => Vec::new(),
    };
    let fate = |instant: &Millis| match schedule.catchup {
        _ if !is_late(*instant) || catches_up.contains(instant) => Fate::Fires,
        _ if !is_inside(*instant) => Fate::Missed("window"),
        Catchup::All => Fate::Missed("limit"),
        Catchup::Latest | Catchup::None => Fate::Missed("policy"),
    };
    instants.iter().map(fate).collect()
}

fn window(schedule: &Schedule, instant: Millis) -> Millis {
    let half = || schedule.next(instant).map_or(2 * HOUR, |next| (next - instant) / 2);
    schedule.window.unwrap_or_else(|| half().clamp(2 * MINUTE, 2 * HOUR))
}
