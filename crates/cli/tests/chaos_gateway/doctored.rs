//! The checks can fail: a healthy history passes, and each way of doctoring it is found and named.

use std::time::Duration;

use crate::{
    check::{Findings, Kind, check},
    history::{Asked, Conversation, History, Platform, Said, Shown, Taken, Wish, token, wish},
};

fn second(second: u64) -> Duration {
    Duration::from_secs(second)
}

/// Three messages, each answered before the next was said, by two processes.
fn conversation(index: usize, platform: Platform) -> Conversation {
    let tokens: Vec<String> = (0..3).map(|number| token(index, number)).collect();
    let taken = |number| if platform == Platform::Slack { Taken::At(second(number + 1)) } else { Taken::InOrder };
    let said = tokens.iter().zip(0..);
    let said =
        said.map(|(token, number)| Said { token: token.clone(), at: second(number), taken: taken(number), done: 0 });
    let shown = tokens.iter().zip(1..).map(|(token, number)| Shown {
        text: format!("Answer to {token}: number {number} of this session."),
        epoch: number / 2,
        open: false,
    });
    let asked = (1..=3).map(|count| Asked { known: tokens[..count].to_vec(), told: None, epoch: count as u64 / 2 });
    let (said, shown, asked) = (said.collect(), shown.collect(), asked.collect());
    Conversation { platform, name: format!("{platform:?}"), said, shown, asked }
}

fn healthy() -> History {
    let conversations = Platform::ALL.into_iter().enumerate();
    let conversations = conversations.map(|(index, platform)| conversation(index, platform)).collect();
    History { conversations, answers_lost: 0 }
}

const TELEGRAM: usize = 0;
const SLACK: usize = 1;
const DISCORD: usize = 2;

fn findings(doctor: impl FnOnce(&mut History)) -> Findings {
    let mut history = healthy();
    doctor(&mut history);
    check(&history)
}

/// What is found in a history after this was done to it.
fn found(doctor: impl FnOnce(&mut History)) -> Vec<Kind> {
    let mut kinds: Vec<Kind> = findings(doctor).violations.into_iter().map(|violation| violation.kind).collect();
    kinds.sort();
    kinds.dedup();
    kinds
}

#[test]
fn a_healthy_history_passes() {
    assert_eq!(check(&healthy()).violations, []);
}

#[test]
fn a_lost_answer_is_found() {
    for index in [TELEGRAM, SLACK, DISCORD] {
        assert_eq!(found(|history| drop(history.conversations[index].shown.remove(1))), [Kind::Lost]);
    }
    let from_history = |history: &mut History| {
        history.conversations[SLACK].said[2].taken = Taken::FromHistory;
        history.conversations[SLACK].shown.pop();
    };
    assert_eq!(found(from_history), [Kind::Lost], "what is in the history of a known chat must be found");
    assert_eq!(found(|history| history.conversations[TELEGRAM].said[2].taken = Taken::Never), [Kind::NeverTaken]);
}

#[test]
fn a_doubled_answer_is_found_where_it_is_not_allowed() {
    let double = |index: usize, copies: usize, epoch: u64| {
        move |history: &mut History| {
            let shown = &mut history.conversations[index].shown;
            for _ in 0..copies {
                let copy = Shown { epoch, ..shown[2].clone() };
                shown.push(copy);
            }
        }
    };
    assert_eq!(found(double(SLACK, 1, 9)), [Kind::ReplyRepeated]);
    assert_eq!(found(double(DISCORD, 1, 9)), [Kind::ReplyRepeated]);
    assert_eq!(found(double(TELEGRAM, 2, 9)), [Kind::ReplyRepeated], "never a third copy");
    let around_a_crash = findings(double(TELEGRAM, 1, 9));
    assert_eq!((around_a_crash.violations.len(), around_a_crash.copies), (0, 1));
    assert_eq!(found(double(TELEGRAM, 1, 1)), [Kind::ReplyRepeated], "no crash and no lost answer excuses it");
    let after_a_lost_answer = found(|history| {
        history.answers_lost = 1;
        double(TELEGRAM, 1, 1)(history);
    });
    assert_eq!(after_a_lost_answer, []);
}

#[test]
fn a_reordered_answer_is_found_unless_its_message_came_late() {
    for index in [TELEGRAM, SLACK, DISCORD] {
        assert_eq!(found(|history| history.conversations[index].shown.swap(0, 1)), [Kind::OrderBroken]);
    }
    let late = findings(|history| {
        let slack = &mut history.conversations[SLACK];
        slack.said[0].taken = Taken::At(second(60));
        slack.shown.swap(0, 1);
    });
    assert_eq!((late.violations.len(), late.overtaken), (0, 1));
}

#[test]
fn a_second_run_is_found_and_a_repeat_after_a_kill_is_not_one() {
    let again = |epoch: u64| {
        move |history: &mut History| {
            let asked = &mut history.conversations[DISCORD].asked;
            let copy = Asked { epoch, ..asked[2].clone() };
            asked.push(copy);
        }
    };
    assert_eq!(found(again(1)), [Kind::RunTwice], "the same process asked twice");
    let after_a_kill = findings(again(2));
    assert_eq!((after_a_kill.violations.len(), after_a_kill.asked_again), (0, 1));
    let twice_in_session = found(|history| {
        let asked = &mut history.conversations[DISCORD].asked;
        let mut known = asked[2].known.clone();
        known.push(known[2].clone());
        asked.push(Asked { known, told: None, epoch: 2 });
    });
    assert!(twice_in_session.contains(&Kind::RunTwice), "{twice_in_session:?}");
}

#[test]
fn a_changed_or_mixed_session_is_found() {
    let forgotten = |history: &mut History| drop(history.conversations[SLACK].asked[2].known.remove(0));
    assert!(found(forgotten).contains(&Kind::SessionBroken));
    let mixed = |history: &mut History| history.conversations[SLACK].asked[2].known.insert(0, token(DISCORD, 0));
    assert!(found(mixed).contains(&Kind::SessionBroken));
    let wrong_number = |history: &mut History| {
        history.conversations[SLACK].shown[2].text =
            format!("Answer to {}: number 1 of this session.", token(SLACK, 2));
    };
    assert_eq!(found(wrong_number), [Kind::SessionBroken]);
}

#[test]
fn a_beginning_is_no_answer() {
    let cut = |history: &mut History| {
        let text = &mut history.conversations[TELEGRAM].shown[2].text;
        text.truncate(text.find(':').unwrap() + 1);
    };
    assert_eq!(found(cut), [Kind::SessionBroken]);
    let beside = findings(|history| {
        let whole = Shown { epoch: 9, ..history.conversations[TELEGRAM].shown[2].clone() };
        cut(history);
        history.conversations[TELEGRAM].shown.push(whole);
    });
    assert_eq!((beside.violations.len(), beside.copies), (0, 1), "as it stood when the process died");
}

#[test]
fn what_nobody_asked_for_is_found() {
    let stub = |index: usize| {
        move |history: &mut History| {
            history.conversations[index].shown.push(Shown { text: "…".to_owned(), epoch: 1, open: false });
        }
    };
    assert_eq!(found(stub(SLACK)), [Kind::Unexpected], "a stub where there are none");
    assert_eq!((findings(stub(TELEGRAM)).unfinished, found(stub(TELEGRAM))), (1, vec![]));
    let elsewhere = |history: &mut History| {
        let shown = history.conversations[SLACK].shown.remove(0);
        history.conversations[DISCORD].shown.push(shown);
    };
    assert_eq!(found(elsewhere), [Kind::Lost, Kind::Unexpected], "an answer in another chat");
}

/// A conversation whose sender denies a fourth message's command, or allows it.
fn with_approval(index: usize, wanted: Wish) -> Conversation {
    let mut talk = conversation(index, Platform::Discord);
    let token = token(index, 3);
    assert_eq!(wish(&token), wanted);
    let allowed = wanted == Wish::Allow;
    talk.said.push(Said { token: token.clone(), at: second(3), taken: Taken::InOrder, done: usize::from(allowed) });
    let verdict = if allowed { "Allowed by Ann." } else { "Denied by Ann." };
    let prompt = format!("{verdict}\n\n1. run_command\n\necho {token} >> witness");
    talk.shown.push(Shown { text: prompt, epoch: 2, open: false });
    talk.shown.push(Shown { text: format!("Answer to {token}: number 4 of this session."), epoch: 2, open: false });
    let known: Vec<String> = talk.said.iter().map(|said| said.token.clone()).collect();
    let told = if allowed { "(no output)" } else { "Tool call rejected by user" };
    for told in [None, Some(told.to_owned())] {
        talk.asked.push(Asked { known: known.clone(), told, epoch: 2 });
    }
    talk
}

#[test]
fn an_approval_that_is_lost_or_not_as_it_says_is_found() {
    let found = |wanted, doctor: &dyn Fn(&mut Conversation)| {
        let mut talk = with_approval(if wanted == Wish::Allow { 7 } else { 2 }, wanted);
        doctor(&mut talk);
        let findings = check(&History { conversations: vec![talk], answers_lost: 0 });
        findings.violations.into_iter().map(|violation| violation.kind).collect::<Vec<_>>()
    };
    for wanted in [Wish::Allow, Wish::Deny] {
        assert_eq!(found(wanted, &|_| {}), []);
        assert_eq!(found(wanted, &|talk| talk.shown[3].open = true), [Kind::Undecided]);
        assert_eq!(found(wanted, &|talk| drop(talk.shown.remove(3))), [Kind::Undecided]);
        assert_eq!(found(wanted, &|talk| talk.said[3].done += 1), [Kind::DecidedWrongly]);
        let again = |talk: &mut Conversation| talk.shown.insert(3, talk.shown[3].clone());
        assert_eq!(found(wanted, &again), [Kind::ReplyRepeated]);
    }
    assert_eq!(found(Wish::Allow, &|talk| talk.said[3].done = 0), [Kind::DecidedWrongly], "allowed and not run");
    let unknown = |talk: &mut Conversation| {
        talk.said[3].done = 0;
        talk.asked[4].told = Some("OUTCOME_UNKNOWN".to_owned());
    };
    assert_eq!(found(Wish::Allow, &unknown), [], "a kill met it");
    let other = |talk: &mut Conversation| talk.shown[3].text = talk.shown[3].text.replace("Denied", "Allowed");
    assert_eq!(found(Wish::Deny, &other), [Kind::DecidedWrongly]);
}

#[test]
fn a_run_is_given_up_only_after_three_kills_and_with_a_notice() {
    let killed = |history: &mut History, epochs: std::ops::Range<u64>| {
        let talk = &mut history.conversations[DISCORD];
        talk.asked.truncate(2);
        let known: Vec<String> = talk.said.iter().map(|said| said.token.clone()).collect();
        talk.asked.extend(epochs.map(|epoch| Asked { known: known.clone(), told: None, epoch }));
        talk.shown[2].text = "The run failed: interrupted: the server stopped again and again".to_owned();
    };
    let often = findings(|history| killed(history, 2..5));
    assert_eq!((often.violations, often.given_up), (vec![], 1));
    assert_eq!(found(|history| killed(history, 2..4)), [Kind::Lost, Kind::Unexpected]);
    let in_silence = |history: &mut History| {
        killed(history, 2..5);
        history.conversations[DISCORD].shown.pop();
    };
    assert_eq!(found(in_silence), [Kind::Lost]);
}
