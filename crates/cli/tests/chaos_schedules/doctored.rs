//! The checks can fail: a healthy history passes, and each way of doctoring it is found and named.

use crate::{
    check::{Kind, check},
    history::{Asked, Checked, Fire, History, Process, Range, Row, Sample, Times},
    schedules::{Catchup, Check, DAY, HOUR, MINUTE, Millis, Overlap, SECOND, Schedule},
};

const SOON: Millis = 5;
/// Nobody was there from here on.
const GONE: Millis = 3 * HOUR + 30 * MINUTE;
const BACK: Millis = 5 * HOUR + 20 * MINUTE;

/// Hourly; the agent is wanted at one and two.
fn schedule() -> Schedule {
    Schedule {
        name: "s0".to_owned(),
        when: String::new(),
        overlap: Overlap::Skip,
        catchup: Catchup::Latest,
        window: None,
        limit: 1,
        jitter: 0,
        timeout: DAY,
        check: Check::Until(3),
        instants: (1..=8).map(|hour| hour * HOUR).collect(),
    }
}

fn fire(hour: i64) -> Fire {
    Fire { schedule: "s0".to_owned(), nominal: hour * HOUR }
}

fn row(hour: i64, planned_at: Millis, status: &str, reason: Option<&str>) -> Row {
    let was_run = status == "completed" || reason == Some("check");
    Row {
        id: hour,
        fire: fire(hour),
        key: format!("sched:s0:{}", hour * HOUR / SECOND),
        status: status.to_owned(),
        reason: reason.map(str::to_owned),
        blocking: None,
        planned_at,
        dispatch_at: hour * HOUR,
        started_at: was_run.then_some(planned_at),
        agent_at: (status == "completed").then_some(planned_at),
        finished_at: Some(planned_at + SOON),
        exit_code: was_run.then_some(if status == "completed" { 3 } else { 0 }),
        recoveries: 0,
        error: None,
    }
}

/// The second fire meets the first; then nobody is there for the fourth, and somebody is back in time for the fifth.
fn healthy() -> History {
    let skipped = |hour: i64, planned_at| row(hour, planned_at, "skipped", Some("check"));
    let long = Row { finished_at: Some(2 * HOUR + MINUTE), ..row(1, HOUR + SOON, "completed", None) };
    let met = Row { blocking: Some(1), ..row(2, 2 * HOUR + SOON, "skipped", Some("overlap")) };
    let rows = vec![
        long,
        met,
        skipped(3, 3 * HOUR + SOON),
        row(4, BACK, "missed", Some("window")),
        skipped(5, BACK),
        skipped(6, 6 * HOUR + SOON),
    ];
    let checked = |hour, pid, begin| Checked { fire: fire(hour), pid, begin, end: Some(begin + 10) };
    let asked =
        |told: Option<&str>, at, until| Asked { fire: fire(1), told: told.map(str::to_owned), epoch: 1, at, until };
    History {
        schedules: vec![schedule()],
        rows,
        checks: vec![checked(1, 7, 100), checked(3, 7, 300), checked(5, 8, 1100), checked(6, 8, 1200)],
        commands: vec![fire(1)],
        asked: vec![asked(None, 120, 120), asked(Some("(no output)"), 130, 200)],
        processes: vec![Process { pid: 7, from: 0, to: 900 }, Process { pid: 8, from: 1000, to: 2000 }],
        times: Times {
            known: 30 * MINUTE,
            end: 6 * HOUR + MINUTE,
            now: 6 * HOUR + 2 * MINUTE,
            gaps: vec![(GONE, BACK)],
            shown: vec![(0, GONE), (BACK - MINUTE, 7 * HOUR)],
            again: Vec::new(),
        },
        samples: vec![Sample { memory: 60_000, files: 30 }; 4],
        ledger_bytes: 100_000,
        ..History::default()
    }
}

/// What is found in a history after this was done to it.
fn found(doctor: impl FnOnce(&mut History)) -> Vec<Kind> {
    let mut history = healthy();
    doctor(&mut history);
    let mut kinds: Vec<Kind> = check(&history).violations.into_iter().map(|violation| violation.kind).collect();
    kinds.sort();
    kinds.dedup();
    kinds
}

#[test]
fn a_healthy_history_passes() {
    let findings = check(&healthy());
    assert_eq!(findings.violations, []);
    assert_eq!(findings.late, 2);
}

#[test]
fn a_lost_or_doubled_instant_is_found() {
    let lost = |history: &mut History| {
        history.rows.remove(2);
        history.checks.remove(1);
    };
    assert_eq!(found(lost), [Kind::Lost]);
    let again = |history: &mut History| history.rows.push(Row { id: 9, ..history.rows[5].clone() });
    assert_eq!(found(again), [Kind::Twice]);
    let in_range = |history: &mut History| {
        history.ranges.push(Range { schedule: "s0".to_owned(), from: 4 * HOUR, to: 4 * HOUR, count: 1 });
    };
    assert!(found(in_range).contains(&Kind::Twice));
}

#[test]
fn a_row_of_no_instant_is_found() {
    let beside = |history: &mut History| {
        let mut row = row(6, 6 * HOUR + 30 * MINUTE + SOON, "missed", Some("policy"));
        row.fire.nominal += 30 * MINUTE;
        (row.id, row.dispatch_at) = (9, row.fire.nominal);
        history.rows.push(row);
    };
    assert!(found(beside).contains(&Kind::Unexpected));
    assert_eq!(found(|history| history.rows[2].key = "sched:s0:1".to_owned()), [Kind::Unexpected]);
}

#[test]
fn a_fire_before_its_time_or_at_a_time_that_never_was_is_found() {
    let early = |history: &mut History| history.rows[5].planned_at = 6 * HOUR - 1;
    assert!(found(early).contains(&Kind::Early));
    assert_eq!(found(|history| history.rows[5].started_at = Some(6 * HOUR - 1)), [Kind::Early]);
    assert_eq!(found(|history| history.rows[5].dispatch_at += 1 + SOON), [Kind::Early], "it has no jitter");
    assert_eq!(found(|history| history.rows[5].finished_at = Some(8 * HOUR)), [Kind::Early], "no clock showed that");
}

#[test]
fn a_late_fire_needs_a_cause() {
    assert_eq!(found(|history| history.times.gaps.clear()), [Kind::LateWithoutCause]);
}

#[test]
fn catch_up_against_the_policy_is_found() {
    let status = |index: usize, status: &'static str, reason: &'static str| {
        move |history: &mut History| {
            history.rows[index].status = status.to_owned();
            history.rows[index].reason = Some(reason.to_owned());
        }
    };
    assert_eq!(found(status(3, "missed", "policy")), [Kind::CatchupWrong], "another reason");
    assert!(found(status(3, "skipped", "check")).contains(&Kind::CatchupWrong), "fired outside its window");
    assert!(found(status(4, "missed", "policy")).contains(&Kind::CatchupWrong), "missed inside its window");
    assert!(found(status(5, "missed", "policy")).contains(&Kind::CatchupWrong), "missed in time");
    assert!(found(|history| history.schedules[0].catchup = Catchup::None).contains(&Kind::CatchupWrong));
    let beyond_the_limit = |history: &mut History| {
        history.schedules[0].catchup = Catchup::All;
        history.schedules[0].window = Some(2 * HOUR);
    };
    assert_eq!(
        found(beyond_the_limit),
        [Kind::CatchupWrong],
        "of two inside the window one fires: the other by the limit"
    );
    let in_two_goes = |history: &mut History| history.rows[3].planned_at = BACK - SECOND;
    assert!(found(in_two_goes).contains(&Kind::CatchupWrong), "planned only up to the fourth");
}

#[test]
fn a_range_stands_for_its_instants_and_no_others() {
    let ranged = |count: usize| {
        move |history: &mut History| {
            history.rows.remove(3);
            let (from, to) = (4 * HOUR, 4 * HOUR);
            history.ranges.push(Range { schedule: "s0".to_owned(), from, to, count });
        }
    };
    assert_eq!(found(ranged(1)), []);
    assert_eq!(found(ranged(2)), [Kind::Unexpected]);
    let inside_the_window = |history: &mut History| {
        ranged(1)(history);
        history.schedules[0].catchup = Catchup::All;
        history.schedules[0].window = Some(2 * HOUR);
        history.schedules[0].limit = 3;
    };
    assert_eq!(found(inside_the_window), [Kind::CatchupWrong]);
}

#[test]
fn an_end_that_is_missing_or_not_allowed_is_found() {
    assert!(found(|history| history.rows[5].status = "running".to_owned()).contains(&Kind::NotEnded));
    assert!(found(|history| history.rows[5].status = "unknown".to_owned()).contains(&Kind::EndWrong));
    let queue_full = |overlap: Overlap| {
        move |history: &mut History| {
            history.schedules[0].overlap = overlap;
            history.rows[1].reason = Some("queue_full".to_owned());
        }
    };
    assert_eq!(
        (found(queue_full(Overlap::QueueAll)), found(queue_full(Overlap::Skip))),
        (vec![], vec![Kind::EndWrong])
    );
    assert_eq!(found(|history| history.rows[1].blocking = None), [Kind::EndWrong], "blocked by nothing");
    assert_eq!(found(|history| history.rows[0].finished_at = Some(HOUR + MINUTE)), [Kind::EndWrong], "it had ended");
    let too_soon = |history: &mut History| history.rows[0].status = "timed_out".to_owned();
    assert_eq!(found(too_soon), [Kind::EndWrong]);
    let set_back_from = |high: Millis| {
        move |history: &mut History| {
            too_soon(history);
            history.schedules[0].timeout = 2 * HOUR;
            history.times.again.push((HOUR, high));
        }
    };
    assert_eq!(found(set_back_from(3 * HOUR)), [Kind::EndWrong], "its time was not up before the clock was set back");
    assert_eq!(found(set_back_from(4 * HOUR)), [], "and here it was");
    let superseded = |history: &mut History| {
        history.rows[0].status = "cancelled".to_owned();
        history.rows[0].reason = Some("superseded".to_owned());
    };
    assert_eq!(found(superseded), [Kind::EndWrong], "its policy is to leave the newer one out");
    let often = |recoveries: u32| {
        move |history: &mut History| {
            history.rows[0].status = "failed".to_owned();
            history.rows[0].reason = Some("crash_limit".to_owned());
            history.rows[0].recoveries = recoveries;
        }
    };
    assert_eq!((found(often(2)), found(often(3))), (vec![Kind::EndWrong], vec![]));
}

#[test]
fn a_check_run_wrongly_is_found() {
    let for_a_skipped_one = |history: &mut History| history.checks[1].fire = fire(2);
    assert!(found(for_a_skipped_one).contains(&Kind::CheckWrong));
    let again = |pid: i64| {
        move |history: &mut History| history.checks.push(Checked { pid, begin: 1300, ..history.checks[3].clone() })
    };
    assert_eq!(found(again(8)), [Kind::CheckWrong], "twice by one process");
    assert_eq!(found(again(9)), [], "again after a kill");
    let too_often = |history: &mut History| (9..13).for_each(|pid| again(pid)(history));
    assert_eq!(found(too_often), [Kind::CheckWrong]);
    assert_eq!(found(|history| history.rows[2].exit_code = Some(3)), [Kind::CheckWrong]);
    assert_eq!(found(|history| drop(history.checks.remove(1))), [Kind::CheckWrong], "it never ran");
    let not_followed = |history: &mut History| history.schedules[0].check = Check::Never;
    assert_eq!(found(not_followed), [Kind::EndWrong, Kind::CheckWrong]);
}

#[test]
fn a_second_agent_run_is_found_and_a_repeat_after_a_kill_is_not_one() {
    assert_eq!(found(|history| history.commands.push(fire(1))), [Kind::RunTwice]);
    let again =
        |epoch: u64| move |history: &mut History| history.asked.push(Asked { epoch, ..history.asked[1].clone() });
    assert_eq!(found(again(1)), [Kind::RunTwice], "the same process asked twice");
    assert_eq!(found(again(2)), [], "the answer was not recorded");
    let for_a_skipped_one =
        |history: &mut History| history.asked.push(Asked { fire: fire(2), epoch: 1, ..history.asked[0].clone() });
    assert!(found(for_a_skipped_one).contains(&Kind::RunTwice));
}

#[test]
fn a_completed_run_without_an_agent_is_found() {
    assert_eq!(found(|history| history.commands.clear()), [Kind::NotRun]);
    let unknown = |history: &mut History| {
        history.commands.clear();
        history.asked[1].told = Some("OUTCOME_UNKNOWN".to_owned());
    };
    assert_eq!(found(unknown), [], "a kill met it");
    let unanswered = |history: &mut History| drop(history.asked.pop());
    assert_eq!(found(unanswered), [Kind::NotRun]);
}

#[test]
fn two_runs_at_a_time_are_found() {
    let beside = |history: &mut History| history.checks[1].begin = 150;
    assert_eq!(found(beside), [Kind::Overlapped]);
    let left_over = |history: &mut History| {
        history.checks[1].end = Some(5000);
        history.checks[2].begin = 1050;
    };
    assert_eq!(found(left_over), [], "a killed process left it running");
    let given_up = |since: Millis| {
        move |history: &mut History| {
            history.rows[0].status = "failed".to_owned();
            (history.rows[0].reason, history.rows[0].recoveries) = (Some("crash_limit".to_owned()), 3);
            (history.checks[1].begin, history.processes[0].from) = (125, since);
        }
    };
    assert_eq!(found(given_up(0)), [], "its process has just started, and calls it off");
    assert_eq!(found(given_up(-MINUTE)), [Kind::Overlapped], "nobody calls it off");
    assert_eq!(found(|history| history.crowded.push("two".to_owned())), [Kind::Overlapped]);
}

#[test]
fn growth_and_vain_waits_are_found() {
    assert_eq!(found(|history| history.samples[3].memory = 400_000), [Kind::Grew]);
    assert_eq!(found(|history| history.samples[2].files = 300), [Kind::Grew]);
    assert_eq!(found(|history| history.ledger_bytes = 1 << 30), [Kind::Grew]);
    assert_eq!(found(|history| history.stuck.push("a run".to_owned())), [Kind::Stuck]);
}
