//! Merged deltas: the text after every cursor is the same, and the stored form is a contract with the past.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use stakpak_agent_core::{EventRecord, Row, RowClass, event_after, event_time, merge_deltas, merged_ids};
use stakpak_protocol::{Event, EventEnvelope, EventId, FinishReason, RunId, SessionId, to_ascii_json};
use uuid::Uuid;

fn run_id() -> RunId {
    RunId(Uuid::from_u128(1))
}

fn at(seconds: u64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::seconds(1_772_355_600 + i64::try_from(seconds).unwrap())
}

fn row(id: u64, event: Event) -> Row {
    let envelope = EventEnvelope {
        id: EventId(id),
        session_id: SessionId(Uuid::from_u128(2)),
        run_id: Some(event.run_id()),
        timestamp: at(id),
        event,
    };
    let payload = to_ascii_json(&envelope).unwrap();
    Row { seq: id, class: RowClass::Event, kind: envelope.event.name().into(), payload, message_index: None }
}

fn text(delta: &str) -> Event {
    Event::TextDelta { run_id: run_id(), delta: delta.into() }
}

fn thinking(delta: &str) -> Event {
    Event::ThinkingDelta { run_id: run_id(), delta: delta.into() }
}

fn turn_ends() -> Event {
    Event::TurnCompleted { run_id: run_id(), turn: 1, finish_reason: FinishReason::Stop, truncated: None }
}

fn retry() -> Event {
    Event::RetryAttempt { run_id: run_id(), attempt: 1, delay_ms: 0, reason: "again".into(), discard_text: Some(true) }
}

/// The rows with merged ones in their places.
fn merged(rows: &[Row]) -> Vec<Row> {
    let mut left = rows.to_vec();
    for merged in merge_deltas(rows).unwrap() {
        left.retain(|row| row.seq < merged.from.0 || row.seq > merged.row.seq);
        left.push(merged.row);
    }
    left.sort_by_key(|row| row.seq);
    left
}

/// What a reader with this cursor gets.
fn read(rows: &[Row], after: u64) -> Vec<EventRecord> {
    let after = EventId(after);
    rows.iter().filter(|row| row.seq > after.0).map(|row| event_after(row.clone(), after).unwrap()).collect()
}

/// Deltas side by side joined, everything else as it is, each with the id of its last event.
fn meaning(events: &[EventRecord]) -> Vec<(u64, Event)> {
    let mut meaning: Vec<(u64, Event)> = Vec::new();
    for record in events {
        let envelope: EventEnvelope = serde_json::from_str(&record.data).unwrap();
        assert_eq!((envelope.id, envelope.event.name()), (record.id, record.name.as_str()));
        assert_eq!(envelope.timestamp, at(record.id.0));
        assert!(record.data.is_ascii() && !record.data.contains('\n'));
        match (meaning.last_mut(), envelope.event) {
            (Some((id, Event::TextDelta { delta, .. })), Event::TextDelta { delta: more, .. })
            | (Some((id, Event::ThinkingDelta { delta, .. })), Event::ThinkingDelta { delta: more, .. }) => {
                delta.push_str(&more);
                *id = record.id.0;
            }
            (_, event) => meaning.push((record.id.0, event)),
        }
    }
    meaning
}

fn event() -> impl Strategy<Value = Event> {
    let delta = "[a-zé✓😀\"\\\\\n]{0,6}";
    prop_oneof![
        8 => delta.prop_map(|delta| text(&delta)),
        4 => delta.prop_map(|delta| thinking(&delta)),
        1 => Just(turn_ends()),
        1 => Just(retry()),
    ]
}

proptest! {
    /// P25: for every cursor, between rows, on them and inside them.
    #[test]
    fn the_text_after_every_cursor_is_the_same(events in prop::collection::vec((1..4_u64, event()), 0..40)) {
        let mut id = 0;
        let rows: Vec<Row> = events.into_iter().map(|(step, event)| { id += step; row(id, event) }).collect();
        let merged = merged(&rows);
        for after in 0..=id {
            prop_assert_eq!(meaning(&read(&merged, after)), meaning(&read(&rows, after)), "after {}", after);
        }
        // The larger ids stay, and the order with them.
        prop_assert!(merged.windows(2).all(|rows| rows[0].seq < rows[1].seq));
        let kept = |row: &Row| rows.iter().any(|before| before.seq == row.seq);
        prop_assert!(merged.iter().all(kept));
        // A second time there is nothing to do, and no two deltas that belong together are left.
        prop_assert_eq!(merge_deltas(&merged).unwrap(), vec![]);
        let bytes = |rows: &[Row]| rows.iter().map(|row| row.payload.len()).sum::<usize>();
        prop_assert!(bytes(&merged) <= bytes(&rows));
    }
}

#[test]
fn a_request_that_is_repeated_is_not_joined_with_the_one_before() {
    let rows = [row(1, text("a")), row(2, text("b")), row(3, retry()), row(4, text("c")), row(5, text("d"))];
    let merged = merged(&rows);
    assert_eq!(merged.iter().map(|row| row.seq).collect::<Vec<_>>(), [2, 3, 5]);
    assert_eq!(merged_ids(&merged[2]).unwrap(), Some(vec![EventId(4), EventId(5)]));
    assert_eq!(merged_ids(&merged[1]).unwrap(), None);
    assert_eq!(event_time(&merged[2]).unwrap(), at(5));
}

/// A changed snapshot is a journal that can no longer be read.
#[test]
fn the_stored_form_stays() {
    let rows = [row(3, text("Grüße")), row(4, text(" ✓")), row(7, text("!"))];
    let merged = merge_deltas(&rows).unwrap();
    assert_eq!((merged.len(), merged[0].from), (1, EventId(3)));
    insta::assert_debug_snapshot!(merged[0].row);
    assert_eq!(
        event_after(merged[0].row.clone(), EventId(3)).unwrap().data,
        row(7, text(" ✓!")).payload,
        "the rest is sent as if it had been one delta"
    );
}

#[test]
fn what_is_no_event_is_not_merged_over() {
    let broken = Row { payload: "{\"delta\"".into(), ..row(2, text("b")) };
    assert!(merge_deltas(&[row(1, text("a")), broken.clone()]).is_err());
    assert!(event_time(&broken).is_err());
    let offset = merge_deltas(&[row(1, text("é")), row(2, text("b"))]).unwrap().remove(0).row;
    let offset = Row { payload: offset.payload.replace("[2,2]", "[2,1]"), ..offset };
    assert!(event_after(offset, EventId(1)).is_err(), "inside a character");
}
