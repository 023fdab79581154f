//! The rules of [`Upkeep`]. Time is given, so that everything is as old as a rule needs it.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use stakpak_protocol::{Event, EventEnvelope, EventId, RunId, RunStatus, SessionId, SessionStatus, StopReason, Usage};

use super::{Subject, receipt, time};
use crate::{
    EventRecord, Journal, JournalError, Progress, Receipt, Retention, Row, RowClass, SessionQuery, Upkeep,
    record::event_row,
};

/// Keeps everything for ever.
const ALL: Retention =
    Retention { events_age: None, events_bytes: None, deleted_sessions: None, deltas: Duration::MAX };

/// A journal with its upkeep.
pub trait Kept: Journal + Upkeep {}

impl<J: Journal + Upkeep> Kept for J {}

/// Every rule. They change no session but their own, and leave nothing due.
pub async fn upkeep<J: Kept>(journal: &J) {
    merged_deltas_read_the_same_from_every_cursor(journal).await;
    deltas_of_young_runs_keep_their_rows(journal).await;
    old_events_go_and_a_cursor_below_is_told(journal).await;
    excess_events_go_oldest_first(journal).await;
    an_active_run_is_not_touched(journal).await;
    a_settled_session_needs_nothing(journal).await;
    a_deleted_session_is_purged_in_time(journal).await;
    expired_receipts_go_without_new_ones(journal).await;
}

/// P25: ids, order and the text after any cursor stay; only the number of rows does not.
async fn merged_deltas_read_the_same_from_every_cursor<J: Kept>(journal: &J) {
    let mut subject = Subject::make(journal).await;
    // More deltas than one step takes.
    let long: Vec<String> = (0..1500).map(|number| format!("é{number} ")).collect();
    let long: Vec<&str> = long.iter().map(String::as_str).collect();
    subject.run(time(0), &["Let ", "me ", "löök"]).await;
    subject.run(time(10), &long).await;
    subject.run(time(20), &["alone"]).await;
    let before = subject.events(0, usize::MAX).await;
    let messages = journal.message_rows(subject.id(), 0, 99).await.expect("read");

    let policy = Retention { deltas: HOUR, ..ALL };
    subject.tidy(journal, &policy, time(3_700)).await;
    let after = subject.events(0, usize::MAX).await;
    assert!(after.len() < before.len() - 1400, "{} of {} rows are left", after.len(), before.len());
    let cursors = (0..40)
        .chain((40..subject.session.last_seq).step_by(97))
        .chain(subject.session.last_seq - 9..=subject.session.last_seq);
    for cursor in cursors {
        let then: Vec<_> = before.iter().filter(|event| event.id.0 > cursor).cloned().collect();
        assert_eq!(meaning(&subject.events(cursor, usize::MAX).await), meaning(&then), "after {cursor}");
        let first = subject.events(cursor, 1).await;
        assert!(first.len() <= 1 && first.iter().all(|event| event.id.0 > cursor), "{cursor}: {first:?}");
    }
    assert_eq!(journal.message_rows(subject.id(), 0, 99).await.expect("read"), messages);
    assert_eq!(journal.session(subject.id()).await.expect("read"), Some(subject.session.clone()));
    // It goes on as if nothing had been.
    subject.run(time(4_000), &["more"]).await;
    let newest = subject.events(subject.session.run_first_seq - 1, usize::MAX).await;
    assert_eq!(newest.len(), 5);
}

/// P25: until then a replay is byte-identical.
async fn deltas_of_young_runs_keep_their_rows<J: Kept>(journal: &J) {
    let mut subject = Subject::make(journal).await;
    subject.run(time(0), &["a", "b"]).await;
    subject.run(time(3_000), &["c", "d"]).await;
    let first_end = subject.session.run_first_seq - 1;
    let before = subject.events(0, usize::MAX).await;
    let policy = Retention { deltas: HOUR, ..ALL };
    subject.tidy(journal, &policy, time(3_599)).await;
    assert_eq!(subject.events(0, usize::MAX).await, before);
    subject.tidy(journal, &policy, time(3_600)).await;
    let after = subject.events(0, usize::MAX).await;
    assert_eq!(after.len(), before.len() - 1);
    let young = |event: &&EventRecord| event.id.0 > first_end;
    assert!(after.iter().filter(young).eq(before.iter().filter(young)));
}

/// What is left reads as before; messages and the last run stay whole.
async fn old_events_go_and_a_cursor_below_is_told<J: Kept>(journal: &J) {
    let mut subject = Subject::make(journal).await;
    subject.run(time(0), &["old ", "old"]).await;
    let first_end = subject.session.last_event_id.0;
    subject.run(time(100), &["young"]).await;
    let before = subject.events(0, usize::MAX).await;
    let messages = journal.message_rows(subject.id(), 0, 99).await.expect("read");
    assert_eq!(messages.len(), 4);
    let last_run = subject.control(subject.session.run_first_seq).await;

    let policy = Retention { events_age: Some(HOUR), ..ALL };
    subject.tidy(journal, &policy, time(3_650)).await;
    let kept: Vec<_> = before.iter().filter(|event| event.id.0 > first_end).cloned().collect();
    for cursor in 0..first_end {
        subject.assert_gone(cursor, kept[0].id).await;
    }
    for cursor in first_end..=subject.session.last_seq {
        let expected: Vec<_> = kept.iter().filter(|event| event.id.0 > cursor).cloned().collect();
        assert_eq!(subject.events(cursor, usize::MAX).await, expected, "after {cursor}");
    }
    assert_eq!(journal.message_rows(subject.id(), 0, 99).await.expect("read"), messages);
    assert_eq!(subject.control(subject.session.run_first_seq).await, last_run);
    let control = subject.control(0).await;
    let earlier = control.iter().filter(|row| row.seq < subject.session.run_first_seq);
    assert!(earlier.clone().all(|row| row.message_index.is_some()) && earlier.count() == 2, "{control:?}");

    // In the end the newest event is left, so that there is one to name, and the last run can still be folded.
    subject.tidy(journal, &policy, time(1_000_000)).await;
    subject.assert_gone(0, subject.session.last_event_id).await;
    assert_eq!(subject.events(subject.session.last_event_id.0 - 1, usize::MAX).await, kept[kept.len() - 1..]);
    assert_eq!(subject.control(subject.session.run_first_seq).await, last_run);
    subject.run(time(1_000_000), &["again"]).await;
    subject.tidy(journal, &policy, time(1_000_000)).await;
    let control = subject.control(0).await;
    let earlier = control.iter().filter(|row| row.seq < subject.session.run_first_seq);
    assert!(earlier.clone().all(|row| row.message_index.is_some()), "{control:?}");
}

/// A bound on bytes, held as soon as upkeep comes by.
async fn excess_events_go_oldest_first<J: Kept>(journal: &J) {
    let mut subject = Subject::make(journal).await;
    let piece = "x".repeat(10_000);
    for run in 0..4 {
        subject.run(time(run), &[&piece, &piece]).await;
    }
    let before = subject.events(0, usize::MAX).await;
    let policy = Retention { events_bytes: Some(50_000), ..ALL };
    subject.tidy(journal, &policy, time(9)).await;
    let oldest = subject.oldest().await;
    let kept = subject.events(oldest.0 - 1, usize::MAX).await;
    assert!(before.ends_with(&kept) && !kept.is_empty());
    let bytes = |events: &[EventRecord]| events.iter().map(|event| event.data.len()).sum::<usize>();
    assert!(bytes(&kept) <= 50_000, "{} bytes", bytes(&kept));
    let one_more = &before[before.len() - kept.len() - 1..];
    assert!(bytes(one_more) > 50_000, "more went than had to");
    // The same counts after more was appended.
    subject.run(time(10), &[&piece]).await;
    subject.tidy(journal, &policy, time(11)).await;
    let left = subject.events(subject.oldest().await.0 - 1, usize::MAX).await;
    assert!(bytes(&left) <= 50_000 && left.len() < kept.len() + 5, "{} bytes", bytes(&left));
    // A bound that nothing can hold leaves the newest.
    subject.tidy(journal, &Retention { events_bytes: Some(0), ..ALL }, time(11)).await;
    assert_eq!(subject.oldest().await, subject.session.last_event_id);
}

/// However strict the policy.
async fn an_active_run_is_not_touched<J: Kept>(journal: &J) {
    let mut subject = Subject::make(journal).await;
    subject.run(time(0), &["old ", "old"]).await;
    subject.begin_run(time(1), &["a", "b", "c"]).await;
    let first = subject.session.run_first_seq;
    let (events, control) = (subject.events(first - 1, usize::MAX).await, subject.control(first).await);
    let strict = Retention {
        events_age: Some(Duration::ZERO),
        events_bytes: Some(0),
        deltas: Duration::ZERO,
        ..Retention::default()
    };
    subject.tidy(journal, &strict, time(1_000_000)).await;
    assert_eq!(subject.events(first - 1, usize::MAX).await, events);
    assert_eq!(subject.control(first).await, control);
    subject.assert_gone(0, events[0].id).await;
    // Once it has ended, it is as any other.
    subject.end_run(time(2)).await;
    subject.tidy(journal, &strict, time(1_000_000)).await;
    subject.assert_gone(0, subject.session.last_event_id).await;
}

/// It is not visited again before it changes or something in it becomes old enough.
async fn a_settled_session_needs_nothing<J: Kept>(journal: &J) {
    let mut subject = Subject::make(journal).await;
    let policy = Retention { events_age: Some(HOUR * 3), deltas: HOUR, ..ALL };
    let due = async |now| {
        let due = journal.untidy_sessions(&policy, now, None, 10_000).await.expect("read");
        due.contains(&subject.id())
    };
    assert!(!due(time(9)).await, "an empty session has nothing to tidy");
    subject.run(time(0), &["a", "b"]).await;
    let due = async |subject: &Subject<'_>, now| {
        let due = journal.untidy_sessions(&policy, now, None, 10_000).await.expect("read");
        assert!(due.is_sorted());
        let last = due.last().copied();
        assert_eq!(journal.untidy_sessions(&policy, now, last, 10_000).await.expect("read"), []);
        due.contains(&subject.id())
    };
    assert!(due(&subject, time(9)).await);
    subject.tidy(journal, &policy, time(9)).await;
    assert!(!due(&subject, time(3_599)).await);
    assert!(due(&subject, time(3_600)).await, "deltas can be merged");
    subject.tidy(journal, &policy, time(3_600)).await;
    assert!(!due(&subject, time(3 * 3_600 - 1)).await);
    assert!(due(&subject, time(3 * 3_600)).await, "events are too old");
    subject.tidy(journal, &policy, time(3 * 3_600)).await;
    assert!(!due(&subject, time(1_000_000)).await, "only the newest is left");
    subject.run(time(1_000_000), &[]).await;
    assert!(due(&subject, time(1_000_000)).await, "it has changed");
    subject.tidy(journal, &policy, time(1_000_000)).await;
}

/// P46: neither before its time nor unless it was deleted; then its rows, runs and keys are gone.
async fn a_deleted_session_is_purged_in_time<J: Kept>(journal: &J) {
    let policy = Retention { deleted_sessions: Some(HOUR), ..ALL };
    let mut kept = Subject::make(journal).await;
    kept.run(time(0), &["stays"]).await;
    let mut subject = Subject::make(journal).await;
    let key = scoped(&format!("default POST /v1/sessions/{}/messages key", subject.id()));
    let foreign = scoped(&format!("default POST /v1/sessions/{}/messages {}", kept.id(), subject.id()));
    let run = super::run(subject.id());
    let mut append = subject.append(Vec::new());
    (append.run, append.receipt) = (Some(run.clone()), Some(key.clone()));
    subject.accept(append).await;
    let mut append = kept.append(Vec::new());
    append.receipt = Some(foreign.clone());
    kept.accept(append).await;
    subject.run(time(0), &vec!["text"; 1200]).await;
    let mut append = subject.append(Vec::new());
    (append.session.status, append.session.updated_at) = (SessionStatus::Deleted, time(0));
    subject.accept(append).await;

    let expired = async |now| journal.expired_sessions(&policy, now, None, 10_000).await.expect("read");
    assert!(!expired(time(3_599)).await.contains(&subject.id()));
    assert!(expired(time(3_600)).await.contains(&subject.id()));
    assert!(!expired(time(1_000_000)).await.contains(&kept.id()));
    let never = Retention { deleted_sessions: None, ..policy.clone() };
    assert_eq!(journal.expired_sessions(&never, time(1_000_000), None, 10_000).await.expect("read"), []);

    for session in [subject.id(), kept.id(), SessionId::random()] {
        journal.purge(session).await.expect("purge");
    }
    assert_eq!(journal.session(subject.id()).await.expect("read"), None);
    let gone = journal.events(subject.id(), EventId(0), 1).await;
    assert!(matches!(gone, Err(JournalError::UnknownSession(_))), "{gone:?}");
    // Made while rows of the purged one are still there: it has nothing of it.
    let mut next = Subject::make(journal).await;
    next.run(time(0), &["mine"]).await;
    let steps = sweep(journal, time(3_600)).await;
    assert!(steps > 2, "1,200 rows in {steps} steps");
    assert_eq!(journal.run(subject.id(), run.run_id).await.expect("read"), None);
    assert_eq!(journal.receipt(&key.scope, time(0)).await.expect("read"), None);
    assert_eq!(journal.receipt(&foreign.scope, time(0)).await.expect("read"), Some(foreign));
    let query = SessionQuery { limit: 10_000, ..SessionQuery::default() };
    let listed = journal.sessions(query).await.expect("read").sessions;
    assert!(listed.contains(&kept.session) && !listed.iter().any(|session| session.id == subject.id()));
    for subject in [&kept, &next] {
        assert_eq!(journal.session(subject.id()).await.expect("read"), Some(subject.session.clone()));
        assert_eq!(subject.events(0, usize::MAX).await.len(), 5);
    }
}

/// Many at a time are no single long write.
async fn expired_receipts_go_without_new_ones<J: Kept>(journal: &J) {
    let mut subject = Subject::make(journal).await;
    let now = Utc::now();
    let mut kept = Vec::new();
    for number in 0..40 {
        let lasting = receipt(now + TimeDelta::hours(if number % 2 == 0 { 1 } else { 3 }));
        let mut append = subject.append(Vec::new());
        append.receipt = Some(lasting.clone());
        subject.accept(append).await;
        kept.push(lasting);
    }
    let later = now + TimeDelta::hours(2);
    sweep(journal, later).await;
    assert_eq!(journal.sweep(later).await.expect("sweep"), Progress::Done);
    for receipt in kept {
        let expired = receipt.expires_at <= later;
        // Asked as of before its expiry: it is there or it is not.
        let found = journal.receipt(&receipt.scope, now).await.expect("read");
        assert_eq!(found, (!expired).then_some(receipt));
    }
}

const HOUR: Duration = Duration::from_secs(3600);

async fn sweep<J: Kept>(journal: &J, now: DateTime<Utc>) -> u64 {
    let mut steps = 0;
    while journal.sweep(now).await.expect("sweep") == Progress::More {
        steps += 1;
    }
    steps
}

fn scoped(scope: &str) -> Receipt {
    Receipt { scope: scope.to_owned(), ..receipt(Utc::now() + TimeDelta::hours(9)) }
}

/// Deltas side by side joined, everything else as it is, each with the id of its last event.
fn meaning(events: &[EventRecord]) -> Vec<(u64, Event)> {
    let mut meaning: Vec<(u64, Event)> = Vec::new();
    for record in events {
        let envelope: EventEnvelope = serde_json::from_str(&record.data).expect("an event");
        assert_eq!((envelope.id, envelope.event.name()), (record.id, record.name.as_str()));
        match (meaning.last_mut(), envelope.event) {
            (Some((id, Event::TextDelta { delta, .. })), Event::TextDelta { delta: more, .. }) => {
                delta.push_str(&more);
                *id = record.id.0;
            }
            (_, event) => meaning.push((record.id.0, event)),
        }
    }
    meaning
}

/// Runs with all that upkeep looks at.
impl Subject<'_> {
    /// A run from its start to its end; four of its events are no deltas.
    async fn run(&mut self, at: DateTime<Utc>, deltas: &[&str]) {
        self.begin_run(at, deltas).await;
        self.end_run(at).await;
    }

    async fn begin_run(&mut self, at: DateTime<Utc>, deltas: &[&str]) {
        let run_id = RunId::random();
        let mut append = self.append(Vec::new());
        let session = &mut append.session;
        session.run_first_seq = session.last_seq + 1;
        session.run_status = RunStatus::Running { run_id, pending_tool_calls: None, cancelling: None };
        let message = session.message_count;
        session.message_count += 1;
        self.session = append.session;
        let mut rows = Rows { next: self.session.last_seq + 1, session: self.session.id, at, rows: Vec::new() };
        rows.event(Event::RunStarted { run_id });
        rows.control(None);
        rows.control(Some(message));
        rows.event(Event::TurnStarted { run_id, turn: 1 });
        for (place, delta) in deltas.iter().enumerate() {
            rows.event(Event::TextDelta { run_id, delta: (*delta).to_owned() });
            if place == 1 {
                // As when a command is accepted while the model writes.
                rows.control(None);
            }
        }
        self.write(rows.rows).await;
    }

    async fn end_run(&mut self, at: DateTime<Utc>) {
        let (RunStatus::Running { run_id, .. }, message) = (&self.session.run_status, self.session.message_count)
        else {
            unreachable!("no run was begun");
        };
        let run_id = *run_id;
        self.session.message_count += 1;
        self.session.run_status = RunStatus::Idle;
        let mut rows = Rows { next: self.session.last_seq + 1, session: self.session.id, at, rows: Vec::new() };
        rows.control(Some(message));
        rows.event(Event::TextComplete { run_id, text: String::new() });
        rows.control(None);
        let (total_usage, stop_reason) = (Usage::default(), StopReason::Completed);
        let (detail, unconsumed) = (None, Vec::new());
        rows.event(Event::RunCompleted { run_id, total_turns: 1, total_usage, stop_reason, detail, unconsumed });
        self.write(rows.rows).await;
    }

    async fn tidy<J: Kept>(&self, journal: &J, policy: &Retention, now: DateTime<Utc>) {
        let mut steps = 0;
        while journal.tidy(self.id(), policy, now).await.expect("tidy") == Progress::More {
            steps += 1;
            assert!(steps < 10_000, "upkeep does not come to an end");
        }
        assert_eq!(journal.tidy(self.id(), policy, now).await.expect("tidy"), Progress::Done);
    }

    async fn control(&self, from: u64) -> Vec<Row> {
        let rows = self.journal.control_rows(self.id(), from, u64::MAX).await.expect("read");
        assert!(rows.iter().all(|row| row.class == RowClass::Control));
        rows
    }

    async fn oldest(&self) -> EventId {
        match self.journal.events(self.id(), EventId(0), 1).await {
            Err(JournalError::EventsGone { oldest, .. }) => oldest,
            Ok(events) => events[0].id,
            Err(error) => unreachable!("{error}"),
        }
    }

    async fn assert_gone(&self, cursor: u64, kept: EventId) {
        let answer = self.journal.events(self.id(), EventId(cursor), usize::MAX).await;
        let Err(JournalError::EventsGone { session, oldest, newest }) = answer else {
            unreachable!("after {cursor}: {answer:?}");
        };
        assert_eq!((session, oldest, newest), (self.id(), kept, self.session.last_event_id), "after {cursor}");
    }
}

/// Rows in the making.
struct Rows {
    next: u64,
    session: SessionId,
    at: DateTime<Utc>,
    rows: Vec<Row>,
}

impl Rows {
    fn event(&mut self, event: Event) {
        let (id, session_id, timestamp) = (EventId(self.next), self.session, self.at);
        self.next += 1;
        self.rows.push(event_row(&EventEnvelope { id, session_id, run_id: Some(event.run_id()), timestamp, event }));
    }

    fn control(&mut self, message_index: Option<u64>) {
        self.rows.push(Row { message_index, ..super::control(self.next) });
        self.next += 1;
    }
}
