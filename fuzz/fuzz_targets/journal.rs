//! What is read back from the journal. The first line of the input is a row's kind, each further one a payload. Whatever they
//! are: reading is an error or a value, a value that is written again reads as the same, and deltas that are merged give every
//! reader the text that follows its cursor.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use stakpak_agent_core::{Record, Row, RowClass, event_after, event_time, merge_deltas, merged_ids};
use stakpak_protocol::{Event, EventEnvelope, EventId, to_ascii_json};

fn row(seq: u64, class: RowClass, kind: &str, payload: &str) -> Row {
    Row { seq, class, kind: kind.to_owned(), payload: payload.to_owned(), message_index: None }
}

fuzz_target!(|data: &[u8]| -> Corpus {
    let Ok(input) = std::str::from_utf8(data) else { return Corpus::Reject };
    let Some((kind, payloads)) = input.split_once('\n') else { return Corpus::Reject };
    for payload in payloads.split('\n') {
        record(&row(1, RowClass::Control, kind, payload));
        event(&row(9, RowClass::Event, kind, payload));
    }
    let rows: Vec<Row> =
        (1..).zip(payloads.split('\n')).map(|(seq, payload)| row(seq, RowClass::Event, kind, payload)).collect();
    let _ = merge_deltas(&rows);
    merged(payloads);
    Corpus::Keep
});

fn record(row: &Row) {
    let Ok(record) = Record::from_row(row) else { return };
    let Ok(payload) = serde_json::to_string(&record) else { panic!("{record:?} is not written") };
    let again = Record::from_row(&Row { payload, ..row.clone() });
    assert_eq!(again.ok().as_ref(), Some(&record));
}

fn event(row: &Row) {
    let _ = (event_time(row), merged_ids(row));
    for after in [0, 1, 4, 9, u64::MAX] {
        let _ = event_after(row.clone(), EventId(after));
    }
    let Ok(envelope) = serde_json::from_str::<EventEnvelope>(&row.payload) else { return };
    let Ok(written) = to_ascii_json(&envelope) else { panic!("{envelope:?} is not written") };
    assert!(written.is_ascii() && !written.contains('\n'), "{written:?} is not one line of ASCII");
    assert_eq!(serde_json::from_str::<EventEnvelope>(&written).ok().as_ref(), Some(&envelope));
}

/// The payloads that are events, as rows of one session.
fn merged(payloads: &str) {
    let events = payloads.split('\n').filter_map(|payload| serde_json::from_str::<EventEnvelope>(payload).ok());
    let events: Vec<EventEnvelope> =
        (1..).zip(events).map(|(id, event)| EventEnvelope { id: EventId(id), ..event }).collect();
    let rows = events.iter().map(|event| {
        let Ok(payload) = to_ascii_json(event) else { panic!("{event:?} is not written") };
        row(event.id.0, RowClass::Event, event.event.name(), &payload)
    });
    let Ok(merged) = merge_deltas(&rows.collect::<Vec<_>>()) else { panic!("events that are read are not merged") };
    for merged in merged {
        let last = merged.row.seq;
        for after in merged.from.0 - 1..last {
            let Ok(record) = event_after(merged.row.clone(), EventId(after)) else {
                panic!("nothing after {after}: {merged:?}")
            };
            let left: String =
                events.iter().filter(|event| (after + 1..=last).contains(&event.id.0)).map(text).collect();
            let read = serde_json::from_str::<EventEnvelope>(&record.data).ok();
            assert_eq!(read.as_ref().map(text), Some(left), "after {after}");
        }
        assert!(event_time(&merged.row).is_ok(), "no time: {merged:?}");
    }
}

fn text(envelope: &EventEnvelope) -> String {
    match &envelope.event {
        Event::TextDelta { delta, .. } | Event::ThinkingDelta { delta, .. } => delta.clone(),
        _ => String::new(),
    }
}
