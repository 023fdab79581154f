//! What readers see of the journal's upkeep.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use stakpak_agent_core::{Append, Clock, Retention};
use stakpak_client::{EventStream, SseEvent};
use stakpak_protocol::{Event, EventEnvelope, GapDetected, SessionId, SessionStatus};
use stakpak_server::{UpkeepJob, UpkeepPass};
use tokio::sync::Semaphore;

use crate::support::{Step, TestServer};

/// Always the same moment.
struct At(DateTime<Utc>);

impl Clock for At {
    fn now(&self) -> DateTime<Utc> {
        self.0
    }
}

fn job(server: &TestServer, retention: Retention, at: DateTime<Utc>) -> UpkeepJob {
    UpkeepJob::new(server.upkeep.clone(), server.tools.clone(), Arc::new(At(at)), retention)
}

fn later(hours: i64) -> DateTime<Utc> {
    Utc::now() + TimeDelta::hours(hours)
}

async fn next(events: &mut EventStream) -> SseEvent {
    tokio::time::timeout(Duration::from_secs(20), events.next_event()).await.unwrap().unwrap()
}

async fn until_end(events: &mut EventStream) -> Vec<SseEvent> {
    let mut seen = Vec::new();
    loop {
        seen.push(next(events).await);
        if seen.last().unwrap().is_run_terminal() {
            return seen;
        }
    }
}

fn joined(events: &[SseEvent]) -> String {
    events.iter().filter_map(SseEvent::as_text_delta).collect()
}

/// A cursor below what is kept: `gap_detected`, then everything kept, then live. Messages stay.
#[tokio::test]
async fn a_reader_of_what_is_gone_is_told_first() {
    let server = TestServer::start([Step::Say("one"), Step::Say("two"), Step::Say("three")]).await;
    let first = server.run("go", json!("none")).await.finish().await;
    let session = first[0].session_id.to_string();
    let boundary = Utc::now();
    let second = server.run_in(&session, "go", json!("none")).await.finish().await;
    let oldest = second[0].id.0;
    let newest = second.last().unwrap().id.0;

    let policy = Retention { events_age: Some(Duration::from_secs(3600)), ..Retention::default() };
    job(&server, policy, boundary + TimeDelta::hours(1)).pass().await.unwrap();
    for cursor in [0, 1, first[first.len() - 2].id.0] {
        let mut events = server.client().subscribe_events(&session, Some(cursor)).await.unwrap();
        let gap = next(&mut events).await;
        let expected = GapDetected {
            requested_after_id: cursor,
            oldest_available_id: oldest,
            newest_available_id: newest,
            resume_hint: "refresh_snapshot_then_resume".into(),
        };
        assert_eq!((gap.as_gap_detected(), gap.id), (Some(expected), None));
        let kept = until_end(&mut events).await;
        assert_eq!(kept[0].event_id_u64, Some(oldest));
        assert_eq!(joined(&kept), "two");
    }
    // Nothing that this cursor needs is gone.
    let mut events = server.client().subscribe_events(&session, Some(oldest - 1)).await.unwrap();
    assert_eq!(next(&mut events).await.event_id_u64, Some(oldest));
    until_end(&mut events).await;
    // A cursor from before a restore gets what there is of the latest run.
    let mut lost = server.client().subscribe_events(&session, Some(newest + 7)).await.unwrap();
    let gap = next(&mut lost).await.as_gap_detected().unwrap();
    assert_eq!((gap.oldest_available_id, gap.newest_available_id), (oldest, newest));
    assert_eq!(next(&mut lost).await.event_id_u64, Some(oldest));

    let run = server.run_in(&session, "go", json!("none")).await;
    assert_eq!(joined(&until_end(&mut events).await), "three", "and then live");
    assert_eq!(run.messages().await["total"], 7);
}

/// P25: a client whose cursor lies inside what was merged gets exactly the rest.
#[tokio::test]
async fn a_cursor_inside_merged_deltas_yields_the_rest() {
    let gate = Arc::new(Semaphore::new(0));
    let pieces = vec!["the ", "answer ", "comes ", "in ", "se", "ven ", "pieces"];
    let server = TestServer::start([Step::SayGated(pieces, Arc::clone(&gate))]).await;
    let mut run = server.run("go", json!("none")).await;
    // One at a time, or those that wait together would be one event from the start.
    let mut before = Vec::new();
    while !before.last().is_some_and(|last: &EventEnvelope| last.event.is_terminal()) {
        before.push(run.next().await);
        if before.last().unwrap().event.name() == "text_delta" {
            gate.add_permits(1);
        }
    }
    let session = before[0].session_id.to_string();
    let pass = job(&server, Retention::default(), later(23)).pass().await.unwrap();
    assert_eq!(pass.tidied, 0, "never within 24 h");
    let pass = job(&server, Retention::default(), later(25)).pass().await.unwrap();
    assert_eq!(pass.tidied, 1);

    let delta = |event: &Event| match event {
        Event::TextDelta { delta, .. } => delta.clone(),
        _ => String::new(),
    };
    let mut rows = usize::MAX;
    for cursor in 0..before.last().unwrap().id.0 {
        let expected: String =
            before.iter().filter(|event| event.id.0 > cursor).map(|event| delta(&event.event)).collect();
        let mut events = server.client().subscribe_events(&session, Some(cursor)).await.unwrap();
        let seen = until_end(&mut events).await;
        assert_eq!(joined(&seen), expected, "after {cursor}");
        assert!(seen.iter().all(|event| event.envelope().unwrap().id.0 > cursor));
        rows = rows.min(if cursor == 0 { seen.len() } else { rows });
    }
    assert_eq!(rows, before.len() - 6, "seven deltas are one");
}

/// P46: files and rows of a session go when it was deleted long enough ago.
#[tokio::test]
async fn deleted_sessions_are_purged_with_their_files() {
    let server = TestServer::start([Step::Say("one"), Step::Say("two")]).await;
    let deleted = server.run("go", json!("none")).await.finish().await[0].session_id;
    let kept = server.run("go", json!("none")).await.finish().await[0].session_id;
    mark_deleted(&server, deleted).await;

    let pass = job(&server, Retention::default(), later(29 * 24)).pass().await.unwrap();
    assert_eq!((pass.purged, server.tools.forgotten.lock().unwrap().len()), (0, 0));
    let http = server.http();
    assert_eq!(http.get(&format!("/v1/sessions/{deleted}")).await.0, 200, "readable until then");

    let pass = job(&server, Retention::default(), later(31 * 24)).pass().await.unwrap();
    assert_eq!((pass.purged, pass.swept > 0, pass.damaged), (1, true, 0));
    assert_eq!(*server.tools.forgotten.lock().unwrap(), [deleted]);
    assert_eq!(http.get(&format!("/v1/sessions/{deleted}")).await.0, 404);
    assert_eq!(http.get(&format!("/v1/sessions/{kept}")).await.0, 200);
    let again = job(&server, Retention::default(), later(31 * 24)).pass().await.unwrap();
    assert_eq!(again, UpkeepPass::default(), "a second pass finds nothing to do");
}

/// A session whose files cannot be removed stays until they can: nothing else would know of them.
#[tokio::test]
async fn a_session_is_not_purged_before_its_files() {
    let server = TestServer::start([Step::Say("one")]).await;
    let deleted = server.run("go", json!("none")).await.finish().await[0].session_id;
    mark_deleted(&server, deleted).await;
    server.tools.keep_files.store(true, std::sync::atomic::Ordering::Relaxed);
    let mut job = job(&server, Retention::default(), later(31 * 24));
    assert_eq!(job.pass().await.unwrap().purged, 0);
    assert_eq!(server.http().get(&format!("/v1/sessions/{deleted}")).await.0, 200);
    server.tools.keep_files.store(false, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(job.pass().await.unwrap().purged, 1);
}

async fn mark_deleted(server: &TestServer, id: SessionId) {
    let mut session = server.journal.session(id).await.unwrap().unwrap();
    session.status = SessionStatus::Deleted;
    let epoch = server.journal.epoch();
    server
        .journal
        .append(Append { epoch, session, rows: Vec::new(), run: None, receipt: None, snapshot: None, spent: None })
        .await
        .unwrap();
}
