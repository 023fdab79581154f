//! Checks and agents as they themselves saw it: which fires they were at work for, how often, and when.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Findings, Kind, name_of};
use crate::{
    campaign::shown,
    history::{Asked, Checked, Fire, History, Row},
    schedules::{Check, Millis, SECOND, Schedule},
};

/// The first run of a check, and one for each time the run is taken up again.
const CHECKED_AT_MOST: usize = 4;
/// Exit code of a check that wants the agent.
const WANTS: i64 = 3;
/// The clocks of the script and of this process are read one after the other.
const SLACK: Millis = 3;
/// The start of a process on a busy host, and what it does first.
const CALLED_OFF: Millis = 5 * SECOND;

type Rows<'a> = BTreeMap<&'a Fire, &'a Row>;

/// Whether a row stands for a run, of which at least the check was at work.
fn was_run(row: &Row) -> bool {
    match row.status.as_str() {
        "missed" | "pending" => false,
        "skipped" => row.reason.as_deref() == Some("check"),
        _ => true,
    }
}

pub fn checks(history: &History, rows: &Rows<'_>, findings: &mut Findings) {
    let mut by_fire: BTreeMap<&Fire, Vec<&Checked>> = BTreeMap::new();
    history.checks.iter().for_each(|checked| by_fire.entry(&checked.fire).or_default().push(checked));
    for (fire, checked) in &by_fire {
        let pids: BTreeSet<i64> = checked.iter().map(|checked| checked.pid).collect();
        let wrong = |what: &str| format!("check for {}: {what}", shown(fire.nominal));
        if !rows.get(fire).is_some_and(|row| was_run(row)) {
            findings.add(Kind::CheckWrong, &fire.schedule, wrong("nobody asked for it"));
        }
        if pids.len() != checked.len() {
            findings.add(Kind::CheckWrong, &fire.schedule, wrong("twice by one process"));
        }
        if checked.len() > CHECKED_AT_MOST {
            findings.add(Kind::CheckWrong, &fire.schedule, wrong("taken up too often"));
        }
    }
    for schedule in history.schedules.iter().filter(|schedule| schedule.check != Check::Absent) {
        for row in history.rows.iter().filter(|row| row.fire.schedule == schedule.name) {
            let has_finished =
                by_fire.get(&row.fire).is_some_and(|checked| checked.iter().any(|checked| checked.end.is_some()));
            let scripted = if schedule.check.wants(row.fire.nominal) { WANTS } else { 0 };
            let is_wrong = match row.exit_code {
                Some(code) => code != scripted || !has_finished,
                // Until its result is written the check is run again.
                None => {
                    matches!(row.status.as_str(), "completed" | "timed_out") || row.reason.as_deref() == Some("check")
                }
            };
            if is_wrong {
                findings.add(Kind::CheckWrong, &schedule.name, format!("its answer: {}", name_of(row, schedule)));
            }
        }
    }
}

pub fn runs(history: &History, rows: &Rows<'_>, findings: &mut Findings) {
    let mut asked: BTreeMap<&Fire, Vec<&Asked>> = BTreeMap::new();
    history.asked.iter().for_each(|one| asked.entry(&one.fire).or_default().push(one));
    let mut commands: HashMap<&Fire, usize> = HashMap::new();
    history.commands.iter().for_each(|fire| *commands.entry(fire).or_default() += 1);
    for (fire, asked) in &asked {
        let row = rows.get(fire);
        if !row.is_some_and(|row| was_run(row) && row.status != "skipped") {
            let what = format!("the agent was at work for {}, and no row says so", shown(fire.nominal));
            findings.add(Kind::RunTwice, &fire.schedule, what);
        }
        let mut seen = BTreeSet::new();
        for one in asked {
            if !seen.insert((one.epoch, one.told.is_some())) {
                let what = format!("asked twice for {} by process {}", shown(fire.nominal), one.epoch);
                findings.add(Kind::RunTwice, &fire.schedule, what);
            }
        }
        let phases: BTreeSet<bool> = asked.iter().map(|one| one.told.is_some()).collect();
        findings.asked_again += asked.len() - phases.len();
    }
    for (fire, count) in &commands {
        if *count > 1 || !asked.contains_key(fire) {
            let what = format!("{count} commands for {}", shown(fire.nominal));
            findings.add(Kind::RunTwice, &fire.schedule, what);
        }
    }
    for row in history.rows.iter().filter(|row| row.status == "completed") {
        let told: Vec<&str> =
            asked.get(&row.fire).into_iter().flatten().filter_map(|one| one.told.as_deref()).collect();
        let is_unknown = told.iter().any(|told| told.contains("OUTCOME_UNKNOWN"));
        findings.unknown += usize::from(is_unknown);
        if told.is_empty() || !is_unknown && !commands.contains_key(&row.fire) {
            let what = format!("run {} for {} is completed, and no agent was", row.id, shown(row.fire.nominal));
            findings.add(Kind::NotRun, &row.fire.schedule, what);
        }
    }
}

/// A run of which too many processes died has ended in the ledger when the next one starts, which resumes it at the server and
/// calls it off: both begin at once.
fn is_being_called_off(history: &History, rows: &Rows<'_>, asked: &Asked) -> bool {
    rows.get(&asked.fire).is_some_and(|row| row.reason.as_deref() == Some("crash_limit"))
        && history.processes.iter().any(|process| (process.from..process.from + CALLED_OFF).contains(&asked.at))
}

/// No two fires of a schedule are worked on at the same time. What a killed process left running does not count.
pub fn overlaps(history: &History, schedule: &Schedule, rows: &Rows<'_>, findings: &mut Findings) {
    let mut work: BTreeMap<&Fire, Vec<(Millis, Millis)>> = BTreeMap::new();
    for checked in history.checks.iter().filter(|checked| checked.fire.schedule == schedule.name) {
        let of = history.processes.iter().find(|one| one.pid == checked.pid && one.to >= checked.begin);
        let Some(process) = of.filter(|process| process.from <= checked.begin) else { continue };
        let end = checked.end.unwrap_or(checked.begin).min(process.to);
        work.entry(&checked.fire).or_default().push((checked.begin, end));
    }
    let mut agents: BTreeMap<&Fire, (Millis, Millis)> = BTreeMap::new();
    let of_schedule = history.asked.iter().filter(|asked| asked.fire.schedule == schedule.name);
    for asked in of_schedule.filter(|asked| !is_being_called_off(history, rows, asked)) {
        let has_completed = rows.get(&asked.fire).is_some_and(|row| row.status == "completed");
        let until = if has_completed { asked.until } else { asked.at };
        let (from, to) = agents.entry(&asked.fire).or_insert((asked.at, until));
        // A request that a kill cut is asked again: what counts is when the last one is answered.
        (*from, *to) = ((*from).min(asked.at), until);
    }
    agents.into_iter().for_each(|(fire, span)| work.entry(fire).or_default().push(span));
    let mut spans: Vec<(Millis, Millis, &Fire)> =
        work.into_iter().flat_map(|(fire, spans)| spans.into_iter().map(move |(from, to)| (from, to, fire))).collect();
    spans.sort_unstable();
    let mut latest: Option<(Millis, &Fire)> = None;
    for (from, to, fire) in spans {
        if let Some((end, other)) = latest.filter(|(end, other)| *other != fire && from + SLACK < *end) {
            let told = |fire: &Fire| rows.get(fire).map_or_else(|| shown(fire.nominal), |row| name_of(row, schedule));
            let what = format!("{} ms before the end of {}: {}", end - from, told(other), told(fire));
            findings.add(Kind::Overlapped, &schedule.name, what);
        }
        latest = latest.filter(|(end, _)| *end > to).or(Some((to, fire)));
    }
}
