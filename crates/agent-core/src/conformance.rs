//! The suite that every [`Journal`] runs in its tests: one function a rule, each panics where the rule is broken.
//!
//! Rules make their own sessions and receipts, so that they can share one journal with each other. [`all`] runs those
//! that need no more than a journal; [`upkeep`](fn@upkeep) those of its upkeep, which may remove any expired receipt;
//! [`reopening`] also needs a way to open the same storage again.

#![expect(clippy::expect_used, reason = "this is test code that other crates compile")]

mod upkeep;

pub use upkeep::{Kept, upkeep};

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;
use stakpak_protocol::{
    EventId, LastError, LastErrorCode, Run, RunId, RunState, RunStatus, SessionId, SessionStatus, Usage, Usd,
    Visibility,
};
use uuid::Uuid;

use crate::{
    Append, EventRecord, Journal, JournalError, NewSession, Receipt, Row, RowClass, SessionCursor, SessionPage,
    SessionQuery, SessionRow, Snapshot, Spending, Spent,
};

macro_rules! assert_refused {
    ($call:expr, $error:pat) => {
        let answer = $call.await;
        assert!(matches!(answer, Err($error)), "{answer:?} is not {}", stringify!($error));
    };
}

/// Every rule that holds within one opening.
pub async fn all(journal: &dyn Journal) {
    a_session_reads_back(journal).await;
    rows_read_back_byte_for_byte(journal).await;
    an_append_is_whole_or_nothing(journal).await;
    a_sequence_has_no_holes(journal).await;
    a_refused_append_fails_alone(journal).await;
    a_stale_epoch_is_refused(journal).await;
    a_receipt_and_its_rows_are_one_fact(journal).await;
    a_receipt_is_used_once(journal).await;
    a_receipt_expires(journal).await;
    a_snapshot_and_its_rows_are_one_fact(journal).await;
    messages_are_paged_by_index(journal).await;
    events_are_paged_from_any_cursor(journal).await;
    runs_read_back(journal).await;
    open_sessions_are_those_with_a_run(journal).await;
    active_runs_are_those_that_have_not_ended(journal).await;
    sessions_are_listed_newest_first(journal).await;
    a_listing_neither_skips_nor_repeats(journal).await;
    a_cursor_of_somebody_else_is_refused(journal).await;
    sessions_are_searched_literally(journal).await;
    an_unknown_session_is_refused(journal).await;
    a_probe_succeeds_and_changes_no_session(journal).await;
    spending_is_of_a_profile_and_of_a_time(journal).await;
}

/// As often as it is asked for.
pub async fn a_probe_succeeds_and_changes_no_session(journal: &dyn Journal) {
    let mut subject = Subject::make(journal).await;
    subject.write(vec![event(1), control(2)]).await;
    let before = journal.session(subject.id()).await.expect("read");
    for _ in 0..3 {
        journal.probe().await.expect("probe");
    }
    assert_eq!(journal.session(subject.id()).await.expect("read"), before);
    subject.assert_holds(&[event(1), control(2)]).await;
}

/// Of every session, from the quarter of an hour on that is asked for; that of a refused append is none.
pub async fn spending_is_of_a_profile_and_of_a_time(journal: &dyn Journal) {
    let noon = Utc::now() - TimeDelta::hours(12);
    let of = |profile: &str, at: DateTime<Utc>, tokens| {
        let (profile, spending) =
            (profile.to_owned(), Spending { tokens, cost: Usd::from_micros(10 * tokens), runs: 1 });
        Some(Spent { profile, at, spending })
    };
    // Of this journal alone, whatever other rules have spent.
    let [mine, other] = [RunId::random().to_string(), RunId::random().to_string()];
    for tokens in [1, 2] {
        let mut subject = Subject::make(journal).await;
        for (seq, (profile, at, tokens)) in (1..).zip([
            (&mine, noon, tokens),
            (&mine, noon + TimeDelta::hours(1), 10 * tokens),
            (&other, noon, 1000),
            (&mine, noon - TimeDelta::hours(1), 100 * tokens),
        ]) {
            subject.accept(Append { spent: of(profile, at, tokens), ..subject.append(vec![event(seq)]) }).await;
        }
        let refused = Append { spent: of(&mine, noon, 5000), ..subject.append(vec![event(99)]) };
        assert_refused!(journal.append(refused), JournalError::OutOfSequence { .. });
    }
    for (since, tokens, runs) in [
        (noon - TimeDelta::hours(2), 333, 6),
        (noon, 33, 4),
        (noon + TimeDelta::minutes(30), 30, 2),
        (noon + TimeDelta::hours(2), 0, 0),
    ] {
        let expected = Spending { tokens, cost: Usd::from_micros(10 * tokens), runs };
        assert_eq!(journal.spent(&mine, since).await.expect("read"), expected, "{since}");
    }
}

/// Every field of the projection, as it was made and as an append leaves it.
pub async fn a_session_reads_back(journal: &dyn Journal) {
    let made = Subject::make(journal).await;
    assert_eq!(journal.session(made.id()).await.expect("read"), Some(made.session.clone()));
    assert_eq!(journal.session(SessionId::random()).await.expect("read"), None);
    let again = NewSession { session: made.session.clone(), receipt: None };
    assert_refused!(journal.create_session(again), JournalError::SessionExists(_));

    let mut append = made.append(vec![event(1), control(2)]);
    let run_id = RunId::random();
    append.session = SessionRow {
        title: "naïve \u{0} ✓".into(),
        cwd: Some("/srv/app".into()),
        updated_at: time(60),
        run_status: RunStatus::Failed {
            last_error: Some(LastError {
                code: LastErrorCode::Interrupted,
                message: "the process ended".into(),
                run_id,
                at: time(59),
                retryable: true,
            }),
        },
        status: SessionStatus::Deleted,
        visibility: Visibility::Public,
        model: Some("builtin/offline".into()),
        message_count: 3,
        run_first_seq: 1,
        checkpoint_id: Some(Uuid::new_v5(&made.id().0, b"2")),
        ..append.session
    };
    let expected = append.session.clone();
    journal.append(append).await.expect("append");
    assert_eq!(journal.session(made.id()).await.expect("read"), Some(expected));
}

/// Whatever is in them, and in the ranges asked for.
pub async fn rows_read_back_byte_for_byte(journal: &dyn Journal) {
    let mut subject = Subject::make(journal).await;
    let payloads = [
        "",
        "{}",
        "{\"text\":\"zwölf ✓ \u{1F600}\"}",
        "line\nline\r\n",
        "nul \u{0} nul",
        "'; --",
        &"x".repeat(200_000),
    ];
    let mut rows = Vec::new();
    for (seq, payload) in (1..).zip(payloads.into_iter().chain(payloads)) {
        let class = if seq % 2 == 0 { RowClass::Event } else { RowClass::Control };
        rows.push(Row { class, kind: format!("kind {seq}"), payload: payload.into(), ..control(seq) });
    }
    let (first, rest) = rows.split_at(3);
    subject.write(first.to_vec()).await;
    subject.write(rest.to_vec()).await;

    let written: Vec<_> = rows.iter().filter(|row| row.class == RowClass::Control).cloned().collect();
    assert_eq!(journal.control_rows(subject.id(), 0, u64::MAX).await.expect("read"), written);
    assert_eq!(journal.control_rows(subject.id(), 3, 7).await.expect("read"), written[1..4]);
    assert_eq!(journal.control_rows(subject.id(), 4, 4).await.expect("read"), []);
    assert_eq!(subject.events(0, usize::MAX).await, events_of(&rows));
}

/// A refused append leaves neither its first rows, nor its projection, nor its run.
pub async fn an_append_is_whole_or_nothing(journal: &dyn Journal) {
    let mut subject = Subject::make(journal).await;
    let taken = receipt(Utc::now() + TimeDelta::hours(1));
    let mut append = subject.append(vec![event(1), control(2)]);
    append.receipt = Some(taken.clone());
    subject.accept(append).await;

    let run = run(subject.id());
    let mut append = subject.append(vec![event(3), message(4, 0)]);
    append.session.title = "changed".into();
    append.run = Some(run.clone());
    append.receipt = Some(taken);
    assert_refused!(journal.append(append), JournalError::ReceiptExists);

    subject.assert_holds(&[event(1), control(2)]).await;
    assert_eq!(journal.message_rows(subject.id(), 0, u64::MAX).await.expect("read"), []);
    assert_eq!(journal.run(subject.id(), run.run_id).await.expect("read"), None);
    subject.write(vec![event(3), message(4, 0)]).await;
    subject.assert_holds(&[event(1), control(2), event(3), message(4, 0)]).await;
}

/// Rows continue the sequence, follow each other, and end where the projection says.
pub async fn a_sequence_has_no_holes(journal: &dyn Journal) {
    let mut subject = Subject::make(journal).await;
    subject.write(vec![event(1), event(2)]).await;
    let starts = [vec![4], vec![2], vec![1], vec![0]];
    let inside = [vec![3, 5], vec![3, 3], vec![3, 5, 5], vec![3, 5, 4, 6]];
    for wrong in starts.into_iter().chain(inside) {
        let wrong = wrong.into_iter().map(event).collect();
        let append = subject.append(wrong);
        assert_refused!(journal.append(append), JournalError::OutOfSequence { .. });
    }
    for wrong in [vec![event(3)], vec![]] {
        let mut append = subject.append(wrong);
        append.session.last_seq = 4;
        assert_refused!(journal.append(append), JournalError::OutOfSequence { .. });
    }
    let answer = journal.append(subject.append(vec![event(9)])).await;
    assert!(matches!(answer, Err(JournalError::OutOfSequence { expected: 3, found: 9, .. })), "{answer:?}");
    subject.assert_holds(&[event(1), event(2)]).await;
}

/// Appends of other sessions that wait at the same moment succeed.
pub async fn a_refused_append_fails_alone(journal: &dyn Journal) {
    let mut subjects = Vec::new();
    for _ in 0..40 {
        subjects.push(Subject::make(journal).await);
    }
    let appends = (0..).zip(&subjects).map(|(n, subject)| {
        let gap = n % 2;
        journal.append(subject.append(vec![event(1 + gap), control(2 + gap)]))
    });
    let answers = join_all(appends).await;
    for (n, (answer, mut subject)) in answers.into_iter().zip(subjects).enumerate() {
        if n % 2 == 0 {
            answer.expect("an append in order");
            let written = vec![event(1), control(2)];
            subject.session = subject.append(written.clone()).session;
            subject.assert_holds(&written).await;
        } else {
            assert!(matches!(answer, Err(JournalError::OutOfSequence { .. })), "{answer:?}");
            subject.assert_holds(&[]).await;
        }
    }
}

/// The highest epoch that has written to a session owns it.
pub async fn a_stale_epoch_is_refused(journal: &dyn Journal) {
    let mut subject = Subject::make(journal).await;
    let epoch = journal.epoch();
    let under = |subject: &Subject<'_>, epoch, row| Append { epoch, ..subject.append(vec![row]) };

    assert_refused!(journal.append(under(&subject, epoch - 1, event(1))), JournalError::StaleEpoch { .. });
    subject.accept(under(&subject, epoch + 2, event(1))).await;
    let answer = journal.append(under(&subject, epoch, event(2))).await;
    assert!(
        matches!(answer, Err(JournalError::StaleEpoch { session, attempted, current })
            if (session, attempted, current) == (subject.id(), epoch, epoch + 2)),
        "{answer:?}"
    );
    subject.accept(under(&subject, epoch + 2, event(2))).await;
    subject.assert_holds(&[event(1), event(2)]).await;
}

/// Both are there or neither, for appends with and without rows and for new sessions.
pub async fn a_receipt_and_its_rows_are_one_fact(journal: &dyn Journal) {
    let now = Utc::now();
    let mut subject = Subject::make(journal).await;
    let kept = receipt(now + TimeDelta::hours(1));
    let with = |subject: &Subject<'_>, rows, receipt: &Receipt| Append {
        receipt: Some(receipt.clone()),
        ..subject.append(rows)
    };

    let refused = with(&subject, vec![event(2)], &kept);
    assert_refused!(journal.append(refused), JournalError::OutOfSequence { .. });
    assert_eq!(journal.receipt(&kept.scope, now).await.expect("read"), None);

    subject.accept(with(&subject, vec![event(1)], &kept)).await;
    assert_eq!(journal.receipt(&kept.scope, now).await.expect("read"), Some(kept.clone()));
    let other = Receipt { body_hash: [9; 32], status: 409, body: "other".into(), ..kept.clone() };
    assert_refused!(journal.append(with(&subject, vec![event(2)], &other)), JournalError::ReceiptExists);
    assert_eq!(journal.receipt(&kept.scope, now).await.expect("read"), Some(kept.clone()));

    let alone = receipt(now + TimeDelta::hours(1));
    subject.accept(with(&subject, vec![], &alone)).await;
    assert_eq!(journal.receipt(&alone.scope, now).await.expect("read"), Some(alone));
    subject.assert_holds(&[event(1)]).await;

    let made = receipt(now + TimeDelta::hours(1));
    let session = session("made under a key");
    let new = NewSession { session: session.clone(), receipt: Some(made.clone()) };
    journal.create_session(new).await.expect("create");
    assert_eq!(journal.receipt(&made.scope, now).await.expect("read"), Some(made.clone()));
    let second = NewSession { session: SessionRow { id: SessionId::random(), ..session }, receipt: Some(made) };
    let id = second.session.id;
    assert_refused!(journal.create_session(second), JournalError::ReceiptExists);
    assert_eq!(journal.session(id).await.expect("read"), None);
}

/// Of many appends under one scope at once, one succeeds.
pub async fn a_receipt_is_used_once(journal: &dyn Journal) {
    let shared = receipt(Utc::now() + TimeDelta::hours(1));
    let mut subjects = Vec::new();
    for _ in 0..20 {
        subjects.push(Subject::make(journal).await);
    }
    let appends = subjects
        .iter()
        .map(|subject| journal.append(Append { receipt: Some(shared.clone()), ..subject.append(vec![event(1)]) }));
    let answers = join_all(appends).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    for (answer, subject) in answers.iter().zip(&subjects) {
        assert!(matches!(answer, Ok(()) | Err(JournalError::ReceiptExists)), "{answer:?}");
        assert_eq!(subject.events(0, usize::MAX).await.len(), usize::from(answer.is_ok()));
    }
}

/// From the moment it expires it is not found, and its scope is free.
pub async fn a_receipt_expires(journal: &dyn Journal) {
    let mut subject = Subject::make(journal).await;
    let now = Utc::now();
    let kept = receipt(now + TimeDelta::hours(1));
    subject.accept(Append { receipt: Some(kept.clone()), ..subject.append(vec![event(1)]) }).await;
    let just_before = kept.expires_at - TimeDelta::nanoseconds(1);
    assert_eq!(journal.receipt(&kept.scope, just_before).await.expect("read"), Some(kept.clone()));
    assert_eq!(journal.receipt(&kept.scope, kept.expires_at).await.expect("read"), None);

    let expired = receipt(now - TimeDelta::hours(1));
    subject.accept(Append { receipt: Some(expired.clone()), ..subject.append(vec![event(2)]) }).await;
    assert_eq!(journal.receipt(&expired.scope, now).await.expect("read"), None);
    let next = Receipt { status: 201, body: "next".into(), expires_at: now + TimeDelta::hours(1), ..expired };
    subject.accept(Append { receipt: Some(next.clone()), ..subject.append(vec![event(3)]) }).await;
    assert_eq!(journal.receipt(&next.scope, now).await.expect("read"), Some(next));
}

/// In the order of the history, not of the sequence; places may be assigned ahead of their rows.
pub async fn messages_are_paged_by_index(journal: &dyn Journal) {
    let mut subject = Subject::make(journal).await;
    let id = subject.id();
    let page = async |from, to| journal.message_rows(id, from, to).await.expect("read");
    assert_eq!(page(0, u64::MAX).await, []);
    subject
        .write(vec![message(1, 0), event(2), message(3, 1), control(4), message(5, 4), event(6), message(7, 2)])
        .await;
    assert_eq!(page(0, u64::MAX).await, [message(1, 0), message(3, 1), message(7, 2), message(5, 4)]);
    assert_eq!(page(0, 2).await, [message(1, 0), message(3, 1)]);
    assert_eq!(page(2, 4).await, [message(7, 2)]);
    assert_eq!(page(3, 4).await, []);
    assert_eq!(page(4, 4).await, []);
    assert_eq!(page(5, 100).await, []);
    subject.write(vec![message(8, 3)]).await;
    assert_eq!(page(3, 5).await, [message(8, 3), message(5, 4)]);
}

/// Every cursor yields exactly the rest, page by page, and a page is never empty while there is more.
pub async fn events_are_paged_from_any_cursor(journal: &dyn Journal) {
    let mut subject = Subject::make(journal).await;
    assert_eq!(subject.events(0, usize::MAX).await, []);
    let rows: Vec<_> = (1..=60).map(|seq| if seq % 7 == 0 { control(seq) } else { event(seq) }).collect();
    for part in rows.chunks(9) {
        subject.write(part.to_vec()).await;
    }
    let written = events_of(&rows);
    for cursor in 0..=61 {
        let rest: Vec<_> = written.iter().filter(|event| event.id.0 > cursor).cloned().collect();
        assert_eq!(subject.events(cursor, usize::MAX).await, rest, "after {cursor}");
        for max_bytes in [0, 1, 100] {
            let page = subject.events(cursor, max_bytes).await;
            assert_eq!(page[..], rest[..page.len()], "after {cursor}");
            assert_eq!(page.is_empty(), rest.is_empty(), "after {cursor}");
            let but_last = page.iter().rev().skip(1).map(|event| event.data.len()).sum::<usize>();
            assert!(but_last <= max_bytes, "{but_last} bytes did not end a page of {max_bytes}");
        }
    }
    assert_eq!(subject.events(u64::MAX, usize::MAX).await, []);
}

/// The newest state of each, in its own session only.
pub async fn runs_read_back(journal: &dyn Journal) {
    let mut subject = Subject::make(journal).await;
    let other = Subject::make(journal).await;
    let begun = run(subject.id());
    let ended = Run { state: RunState::Completed, ended_at: Some(time(9)), turns: 4, ..begun.clone() };
    for (seq, run) in (1..).zip([begun, ended]) {
        subject.accept(Append { run: Some(run.clone()), ..subject.append(vec![event(seq)]) }).await;
        assert_eq!(journal.run(subject.id(), run.run_id).await.expect("read"), Some(run.clone()));
        assert_eq!(journal.run(other.id(), run.run_id).await.expect("read"), None);
    }
    assert_eq!(journal.run(subject.id(), RunId::random()).await.expect("read"), None);
}

/// From the append that starts a run to the one that ends it.
pub async fn open_sessions_are_those_with_a_run(journal: &dyn Journal) {
    let mut subject = Subject::make(journal).await;
    let run_id = RunId::random();
    let states = [
        (RunStatus::Starting { run_id, queue_position: Some(2) }, true),
        (RunStatus::Running { run_id, pending_tool_calls: Some(1), cancelling: None }, true),
        (RunStatus::Idle, false),
        (RunStatus::Running { run_id, pending_tool_calls: None, cancelling: Some(true) }, true),
        (RunStatus::Failed { last_error: None }, false),
    ];
    for (seq, (run_status, open)) in (1..).zip(states) {
        let mut append = subject.append(vec![control(seq)]);
        append.session.run_status = run_status;
        subject.accept(append).await;
        let found = journal.open_sessions().await.expect("read");
        let found = found.into_iter().find(|session| session.id == subject.id());
        assert_eq!(found, open.then(|| subject.session.clone()));
    }
}

/// By `updated_at`, then by id, with the total of all matches on every page.
pub async fn sessions_are_listed_newest_first(journal: &dyn Journal) {
    let title = Uuid::new_v4().to_string();
    let mut expected = Vec::new();
    for n in 0..9 {
        let status = if n % 4 == 3 { SessionStatus::Deleted } else { SessionStatus::Active };
        let made = SessionRow { status, updated_at: time(n / 2), ..session(&title) };
        journal.create_session(NewSession { session: made.clone(), receipt: None }).await.expect("create");
        expected.push(made);
    }
    let changed = Subject { journal, session: expected[0].clone() };
    let mut append = changed.append(vec![control(1)]);
    append.session.updated_at = time(100);
    expected[0] = append.session.clone();
    journal.append(append).await.expect("append");
    expected.sort_by_key(|session| (std::cmp::Reverse(session.updated_at), session.id));

    let page = async |status, offset, limit| {
        let query = SessionQuery { search: Some(title.clone()), status, limit, offset, cursor: None };
        let SessionPage { sessions, total, next } = journal.sessions(query).await.expect("read");
        assert_eq!(next.is_some(), limit > 0 && offset.saturating_add(limit) < total, "{offset} {limit} of {total}");
        (sessions, total)
    };
    assert_eq!(page(None, 0, u64::MAX).await, (expected.clone(), 9));
    assert_eq!(page(None, 0, 9).await, (expected.clone(), 9));
    assert_eq!(page(None, 2, 3).await, (expected[2..5].to_vec(), 9));
    assert_eq!(page(None, 8, 3).await, (expected[8..].to_vec(), 9));
    assert_eq!(page(None, 9, 3).await, (vec![], 9));
    assert_eq!(page(None, u64::MAX, 3).await, (vec![], 9));
    assert_eq!(page(None, 0, 0).await, (vec![], 9));
    for (status, total) in [(SessionStatus::Active, 7), (SessionStatus::Deleted, 2)] {
        let sessions: Vec<_> = expected.iter().filter(|session| session.status == status).cloned().collect();
        assert_eq!(page(Some(status), 0, 1).await, (sessions[..1].to_vec(), total));
        assert_eq!(page(Some(status), 0, 100).await, (sessions, total));
    }

    for (offset, limit) in [(0, 1), (0, 4), (3, 2)] {
        let listed = listing(journal, &title, offset, limit, async |_| {}).await;
        assert_eq!(listed, expected[usize::try_from(offset).expect("small")..], "{limit} a page");
    }
}

/// Every session of the first page's moment is given once: sessions that were given and sessions that were not change
/// between any two pages, and new ones are made.
pub async fn a_listing_neither_skips_nor_repeats(journal: &dyn Journal) {
    for (offset, limit) in [(0, 1), (0, 3), (0, 7), (4, 3)] {
        let title = Uuid::new_v4().to_string();
        let make = async |updated_at| {
            let made = SessionRow { updated_at, ..session(&title) };
            journal.create_session(NewSession { session: made.clone(), receipt: None }).await.expect("create");
            made
        };
        let mut expected = Vec::new();
        for n in 0..20 {
            expected.push(make(time(n / 3)).await);
        }
        expected.sort_by_key(|session| (std::cmp::Reverse(session.updated_at), session.id));
        let mut subjects: Vec<_> =
            expected.iter().map(|session| Subject { journal, session: session.clone() }).collect();
        let expected: BTreeSet<_> = expected.iter().skip(offset).map(|session| session.id).collect();
        let mut round = 0;
        let listed = listing(journal, &title, offset as u64, limit, async |given| {
            round += 1;
            let now = time(100) + TimeDelta::seconds(round);
            make(now).await;
            for (n, subject) in (0..).zip(&mut subjects) {
                let was_given = given.iter().any(|session| session.id == subject.id());
                if (n + round) % 4 == i64::from(was_given) {
                    let mut append = subject.append(vec![control(subject.session.last_seq + 1)]);
                    append.session.updated_at = now;
                    subject.accept(append).await;
                }
            }
        })
        .await;
        let ids: BTreeSet<_> = listed.iter().map(|session| session.id).collect();
        assert_eq!(ids.len(), listed.len(), "a session is given twice, {limit} a page");
        assert_eq!(ids, expected, "{limit} a page");
    }
}

/// Never taken for a beginning.
pub async fn a_cursor_of_somebody_else_is_refused(journal: &dyn Journal) {
    let query = SessionQuery { limit: 1, cursor: Some(SessionCursor(b"odd".to_vec())), ..SessionQuery::default() };
    assert_refused!(journal.sessions(query), JournalError::BadCursor);
}

/// All pages of a listing; `between` is told what was given before each but the first.
async fn listing(
    journal: &dyn Journal,
    title: &str,
    offset: u64,
    limit: u64,
    mut between: impl AsyncFnMut(&[SessionRow]),
) -> Vec<SessionRow> {
    let mut listed = Vec::new();
    let mut query = SessionQuery { search: Some(title.to_owned()), status: None, limit, offset, cursor: None };
    loop {
        let page = journal.sessions(query.clone()).await.expect("read");
        assert!(page.sessions.len() as u64 <= limit);
        listed.extend(page.sessions);
        assert!(listed.len() < 1_000, "the listing has no end");
        query.cursor = page.next;
        if query.cursor.is_none() {
            return listed;
        }
        between(&listed).await;
    }
}

/// Those that have not ended, with the newest event of their session.
pub async fn active_runs_are_those_that_have_not_ended(journal: &dyn Journal) {
    use RunState::{Cancelled, Completed, Failed, Queued, Running, WaitingApproval};
    for state in [Queued, Running, WaitingApproval, Completed, Cancelled, Failed] {
        let mut subject = Subject::make(journal).await;
        let before = run(subject.id());
        let ended = Run { state: Cancelled, ..before.clone() };
        subject.accept(Append { run: Some(ended), ..subject.append(vec![event(1)]) }).await;
        let run = Run { run_id: RunId::random(), state, ..before };
        let mut append = Append { run: Some(run.clone()), ..subject.append(vec![event(2)]) };
        append.session.run_status = match state {
            Queued => RunStatus::Starting { run_id: run.run_id, queue_position: Some(1) },
            Running => RunStatus::Running { run_id: run.run_id, pending_tool_calls: None, cancelling: None },
            WaitingApproval => RunStatus::Running { run_id: run.run_id, pending_tool_calls: Some(1), cancelling: None },
            Completed | Cancelled => RunStatus::Idle,
            Failed => RunStatus::Failed { last_error: None },
        };
        subject.accept(append).await;
        // An append that leaves the run's projection as it was.
        subject.write(vec![event(3)]).await;
        let found = journal.active_runs().await.expect("read");
        let found: Vec<_> = found.into_iter().filter(|run| run.session_id == subject.id()).collect();
        let expected = (!state.is_terminal()).then_some(Run { last_event_id: EventId(3), ..run });
        assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
    }
}

/// A part of the title in any case; nothing in it is a pattern.
pub async fn sessions_are_searched_literally(journal: &dyn Journal) {
    let mark = Uuid::new_v4().simple().to_string();
    let titles = ["100% of DISK_1", "1000 of disk-1", "back\\slash", "Größe ΣΑΣ", "plain"];
    for title in titles {
        let session = session(&format!("{title} {mark}"));
        journal.create_session(NewSession { session, receipt: None }).await.expect("create");
    }
    let found = async |part: &str| {
        let search = Some(part.to_owned());
        let query = SessionQuery { search, limit: 1000, ..SessionQuery::default() };
        let page = journal.sessions(query).await.expect("read");
        let marked =
            page.sessions.into_iter().filter_map(|session| Some(session.title.strip_suffix(&mark)?.trim().to_owned()));
        marked.collect::<BTreeSet<_>>()
    };
    let titled = |titles: &[&str]| titles.iter().map(|title| (*title).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(found(&mark.to_uppercase()).await, titled(&titles));
    assert_eq!(found("").await, titled(&titles));
    assert_eq!(found("0%").await, titled(&titles[..1]));
    assert_eq!(found("disk_").await, titled(&titles[..1]));
    assert_eq!(found("OF DISK").await, titled(&titles[..2]));
    assert_eq!(found("K\\S").await, titled(&titles[2..3]));
    assert_eq!(found("GRÖß").await, titled(&titles[3..4]));
    assert_eq!(found("σας").await.len(), 0, "letters are compared one by one");
    assert_eq!(found("σασ").await, titled(&titles[3..4]));
    assert_eq!(found(&format!("in {mark}")).await, titled(&titles[4..]));
}

/// For writing and for every read of rows; never taken for an empty one.
pub async fn an_unknown_session_is_refused(journal: &dyn Journal) {
    let nobody = Subject { journal, session: session("never made") };
    let id = nobody.id();
    assert_refused!(journal.append(nobody.append(vec![event(1)])), JournalError::UnknownSession(_));
    assert_refused!(journal.control_rows(id, 0, 9), JournalError::UnknownSession(_));
    assert_refused!(journal.message_rows(id, 0, 9), JournalError::UnknownSession(_));
    assert_refused!(journal.events(id, EventId(0), 9), JournalError::UnknownSession(_));
    assert_eq!(journal.run(id, RunId::random()).await.expect("read"), None);
}

/// The newest is there with its rows or not at all, and none is of another position than the end of its append.
pub async fn a_snapshot_and_its_rows_are_one_fact(journal: &dyn Journal) {
    let found = async |id| journal.snapshot(id).await.expect("read");
    let mut subject = Subject::make(journal).await;
    let other = Subject::make(journal).await;
    assert_eq!(found(SessionId::random()).await, None);
    subject.write(vec![event(1), control(2)]).await;
    assert_eq!(found(subject.id()).await, None);
    let first = snapshot(4, 1, "{\"state\":\"é \u{0}\"}");
    subject.accept(Append { snapshot: Some(first.clone()), ..subject.append(vec![event(3), control(4)]) }).await;
    assert_eq!(found(subject.id()).await, Some(first.clone()));

    let with = |rows, seq| Append { snapshot: Some(snapshot(seq, 9, "newer")), ..subject.append(rows) };
    let stale = Append { epoch: journal.epoch() - 1, ..with(vec![control(5)], 5) };
    assert_refused!(journal.append(stale), JournalError::StaleEpoch { .. });
    assert_refused!(journal.append(with(vec![control(7)], 7)), JournalError::OutOfSequence { .. });
    for seq in [4, 6, 0, u64::MAX] {
        assert_refused!(journal.append(with(vec![control(5)], seq)), JournalError::OutOfSequence { .. });
    }
    assert_eq!(found(subject.id()).await, Some(first.clone()));

    // It stays where it is while the session goes on, and goes when there is a newer one.
    subject.write(vec![control(5)]).await;
    assert_eq!(found(subject.id()).await, Some(first));
    let large = snapshot(7, u32::MAX, &"x".repeat(64 << 10));
    subject.accept(Append { snapshot: Some(large.clone()), ..subject.append(vec![event(6), control(7)]) }).await;
    assert_eq!(found(subject.id()).await, Some(large));
    assert_eq!(found(other.id()).await, None);
    let rows = [event(1), control(2), event(3), control(4), control(5), event(6), control(7)];
    subject.assert_holds(&rows).await;
}

/// Everything is there, positions go on, and the epoch before is stale once the next has written. `open` opens the
/// same storage each time, after the journal of the time before was dropped.
pub async fn reopening<J: Journal>(open: impl Fn() -> J) {
    let now = Utc::now();
    let kept = receipt(now + TimeDelta::hours(1));
    let run_id = RunId::random();
    let journal = open();
    let old_epoch = journal.epoch();
    let mut subject = Subject::make(&journal).await;
    let mut append = subject.append(vec![message(1, 0), event(2)]);
    append.session.run_status = RunStatus::Running { run_id, pending_tool_calls: None, cancelling: None };
    append.receipt = Some(kept.clone());
    append.snapshot = Some(snapshot(2, 1, "{}"));
    subject.accept(append).await;
    let session = subject.session;
    drop(journal);

    let journal = open();
    assert!(journal.epoch() > old_epoch, "{} does not follow {old_epoch}", journal.epoch());
    let mut subject = Subject { journal: &journal, session };
    subject.assert_holds(&[message(1, 0), event(2)]).await;
    assert!(journal.open_sessions().await.expect("read").contains(&subject.session));
    assert_eq!(journal.receipt(&kept.scope, now).await.expect("read"), Some(kept.clone()));
    assert_eq!(journal.snapshot(subject.id()).await.expect("read"), Some(snapshot(2, 1, "{}")));
    let again = Append { receipt: Some(kept), ..subject.append(vec![event(3)]) };
    assert_refused!(journal.append(again), JournalError::ReceiptExists);
    assert_refused!(journal.append(subject.append(vec![event(1)])), JournalError::OutOfSequence { .. });
    subject.write(vec![event(3), message(4, 1)]).await;
    let stale = Append { epoch: old_epoch, ..subject.append(vec![event(5)]) };
    assert_refused!(journal.append(stale), JournalError::StaleEpoch { .. });
    subject.assert_holds(&[message(1, 0), event(2), event(3), message(4, 1)]).await;
}

/// A session with what is expected to be known of it.
struct Subject<'a> {
    journal: &'a dyn Journal,
    session: SessionRow,
}

impl<'a> Subject<'a> {
    async fn make(journal: &'a dyn Journal) -> Self {
        let session = session("conformance");
        journal.create_session(NewSession { session: session.clone(), receipt: None }).await.expect("create");
        Self { journal, session }
    }

    fn id(&self) -> SessionId {
        self.session.id
    }

    /// An append of these rows with the projection after them.
    fn append(&self, rows: Vec<Row>) -> Append {
        let mut session = self.session.clone();
        for row in &rows {
            session.last_seq = row.seq;
            if row.class == RowClass::Event {
                session.last_event_id = EventId(row.seq);
            }
        }
        Append { epoch: self.journal.epoch(), session, rows, run: None, receipt: None, snapshot: None, spent: None }
    }

    async fn accept(&mut self, append: Append) {
        self.session = append.session.clone();
        self.journal.append(append).await.expect("append");
    }

    async fn write(&mut self, rows: Vec<Row>) {
        self.accept(self.append(rows)).await;
    }

    async fn events(&self, after: u64, max_bytes: usize) -> Vec<EventRecord> {
        self.journal.events(self.id(), EventId(after), max_bytes).await.expect("read")
    }

    /// The session is as expected and has these rows and no other.
    async fn assert_holds(&self, rows: &[Row]) {
        assert_eq!(self.journal.session(self.id()).await.expect("read"), Some(self.session.clone()));
        let control: Vec<_> = rows.iter().filter(|row| row.class == RowClass::Control).cloned().collect();
        assert_eq!(self.journal.control_rows(self.id(), 0, u64::MAX).await.expect("read"), control);
        assert_eq!(self.events(0, usize::MAX).await, events_of(rows));
    }
}

fn session(title: &str) -> SessionRow {
    SessionRow::new(SessionId::random(), title, None, time(0))
}

fn control(seq: u64) -> Row {
    let payload = format!("{{\"control\":{seq}}}");
    Row { seq, class: RowClass::Control, kind: "control".into(), payload, message_index: None }
}

fn snapshot(seq: u64, version: u32, state: &str) -> Snapshot {
    Snapshot { seq, version, state: state.into() }
}

fn event(seq: u64) -> Row {
    let payload = format!("{{\"event\":{seq}}}");
    Row { seq, class: RowClass::Event, kind: "text_delta".into(), payload, message_index: None }
}

fn message(seq: u64, index: u64) -> Row {
    Row { kind: "message".into(), message_index: Some(index), ..control(seq) }
}

fn events_of(rows: &[Row]) -> Vec<EventRecord> {
    let events = rows.iter().filter(|row| row.class == RowClass::Event);
    events.map(|row| EventRecord { id: EventId(row.seq), name: row.kind.clone(), data: row.payload.clone() }).collect()
}

fn run(session_id: SessionId) -> Run {
    Run {
        run_id: RunId::random(),
        session_id,
        state: RunState::Running,
        stop_reason: None,
        detail: None,
        started_at: time(1),
        ended_at: None,
        turns: 1,
        side_effects: false,
        checkpoint_id: None,
        first_event_id: EventId(1),
        last_event_id: EventId(1),
        total_usage: Usage::default(),
        cost_usd: Some(Usd::from_micros(4_100_007)),
        last_error: None,
    }
}

/// Under a scope of its own.
fn receipt(expires_at: DateTime<Utc>) -> Receipt {
    let scope = format!("default POST /v1/sessions {}", Uuid::new_v4());
    Receipt { scope, body_hash: [7; 32], status: 200, body: "{\"id\":\"é\"}".into(), expires_at }
}

/// Some seconds after a moment with all nine digits.
fn time(seconds: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::seconds(1_772_355_600 + seconds) + TimeDelta::nanoseconds(892_923_415)
}
