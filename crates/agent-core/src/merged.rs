//! Deltas of old runs, several in one row.
//!
//! * A merged row stands under the id of its last delta, so that larger ids and the order of events stay as they were.
//! * It keeps the id and the offset of each delta: from any cursor, also one inside, readers get exactly the text that
//!   follows it. What they get is an ordinary delta; the stored form is never sent.
//! * The stored form is a contract with the past, as that of a record.

use std::mem::discriminant;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize, de::Error};
use stakpak_protocol::{Event, EventEnvelope, EventId, to_ascii_json};

use crate::{EventRecord, Row, RowClass};

/// `kind` of a merged row.
const MERGED: &str = "merged_deltas";

#[derive(Debug, Serialize, Deserialize)]
struct Merged {
    /// The last delta's envelope, with the text of all.
    envelope: EventEnvelope,
    /// Of each delta its id, and where in the text (in bytes of UTF-8) its part begins.
    pieces: Vec<(EventId, usize)>,
}

/// A row that takes the place of others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergedRow {
    /// First of the event rows whose place it takes; the last is its own.
    pub from: EventId,
    /// The row.
    pub row: Row,
}

/// What becomes of event rows, given in order, that nobody adds to any more: a row for each sequence of two or more deltas
/// of one kind and one request. Rows that are merged already stay as they are.
///
/// # Errors
/// When a delta is no event.
pub fn merge_deltas(rows: &[Row]) -> serde_json::Result<Vec<MergedRow>> {
    let mut merged = Vec::new();
    let mut open: Option<Merged> = None;
    for row in rows {
        let delta = if is_delta(&row.kind) { Some(serde_json::from_str::<EventEnvelope>(&row.payload)?) } else { None };
        open = match (open, delta) {
            (Some(open), Some(next)) if open.takes(&next) => Some(open.with(next)),
            (closed, next) => {
                merged.extend(closed.map(Merged::into_row).transpose()?.flatten());
                next.map(Merged::begin)
            }
        };
    }
    merged.extend(open.map(Merged::into_row).transpose()?.flatten());
    Ok(merged)
}

/// The event of a row as readers get it whose cursor is `after`: of a merged row, what follows the cursor.
///
/// # Errors
/// When the row is no event, or lies before the cursor.
pub fn event_after(row: Row, after: EventId) -> serde_json::Result<EventRecord> {
    let id = EventId(row.seq);
    if row.kind != MERGED {
        return Ok(EventRecord { id, name: row.kind, data: row.payload });
    }
    let Merged { mut envelope, pieces } = serde_json::from_str(&row.payload)?;
    let first = pieces.iter().find(|(piece, _)| *piece > after);
    let rest = first.zip(text(&mut envelope.event)).and_then(|((_, offset), text)| {
        *text = text.get(*offset..)?.to_owned();
        Some(())
    });
    rest.ok_or_else(|| serde_json::Error::custom("the row has no text after the cursor"))?;
    Ok(EventRecord { id, name: envelope.event.name().to_owned(), data: to_ascii_json(&envelope)? })
}

/// The ids that a merged row stands for; none for another row.
///
/// # Errors
/// When it has the name of a merged row and not its form.
pub fn merged_ids(row: &Row) -> serde_json::Result<Option<Vec<EventId>>> {
    if row.kind != MERGED {
        return Ok(None);
    }
    let merged: Merged = serde_json::from_str(&row.payload)?;
    Ok(Some(merged.pieces.into_iter().map(|(id, _)| id).collect()))
}

/// When the event of a row, merged or not, was recorded.
///
/// # Errors
/// When the row is no event.
pub fn event_time(row: &Row) -> serde_json::Result<DateTime<Utc>> {
    #[derive(Deserialize)]
    struct Stamped {
        timestamp: DateTime<Utc>,
    }
    #[derive(Deserialize)]
    struct Wrapped {
        envelope: Stamped,
    }
    let stamped = match row.kind.as_str() {
        MERGED => serde_json::from_str::<Wrapped>(&row.payload)?.envelope,
        _ => serde_json::from_str(&row.payload)?,
    };
    Ok(stamped.timestamp)
}

impl Merged {
    fn begin(envelope: EventEnvelope) -> Self {
        Self { pieces: vec![(envelope.id, 0)], envelope }
    }

    fn takes(&self, next: &EventEnvelope) -> bool {
        self.envelope.run_id == next.run_id && discriminant(&self.envelope.event) == discriminant(&next.event)
    }

    fn with(mut self, mut next: EventEnvelope) -> Self {
        if let (Some(so_far), Some(more)) = (text(&mut self.envelope.event), text(&mut next.event)) {
            self.pieces.push((next.id, so_far.len()));
            so_far.push_str(more);
            std::mem::swap(so_far, more);
            self.envelope = next;
        }
        self
    }

    /// None for a delta that stands alone.
    fn into_row(self) -> serde_json::Result<Option<MergedRow>> {
        let (Some((first, _)), true) = (self.pieces.first(), self.pieces.len() > 1) else { return Ok(None) };
        let from = *first;
        let row = Row {
            seq: self.envelope.id.0,
            class: RowClass::Event,
            kind: MERGED.to_owned(),
            payload: serde_json::to_string(&self)?,
            message_index: None,
        };
        Ok(Some(MergedRow { from, row }))
    }
}

fn is_delta(kind: &str) -> bool {
    matches!(kind, "text_delta" | "thinking_delta")
}

fn text(event: &mut Event) -> Option<&mut String> {
    match event {
        Event::TextDelta { delta, .. } | Event::ThinkingDelta { delta, .. } => Some(delta),
        _ => None,
    }
}
