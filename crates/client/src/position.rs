//! Where a reader of a session's events is: what it was given is not given to it again.

use stakpak_protocol::{CONTROL_EVENTS, EventId};

use crate::{
    SseEvent,
    frames::{Frame, Frames},
};

/// Where a reader of a session's events is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Position {
    /// The last event given to it.
    pub(crate) cursor: EventId,
    /// The server's ids start below the cursor (it was restored from an older state), and said so.
    rewound: bool,
}

impl Position {
    pub(crate) fn behind(cursor: EventId) -> Self {
        Self { cursor, rewound: false }
    }

    /// What a frame holds for the reader.
    pub(crate) fn accept(&mut self, frame: Frame) -> Option<SseEvent> {
        let Frame { id, event: event_type, data } = frame;
        if CONTROL_EVENTS.contains(&event_type.as_str()) {
            // A frame without an id repeats the last one.
            let event = SseEvent { id: None, event_id_u64: None, event_type, data };
            if event.event_type == "gap_detected" {
                let gap = event.as_gap_detected();
                self.rewound = gap.is_some_and(|gap| EventId(gap.newest_available_id) < self.cursor);
            }
            return Some(event);
        }
        let number = id.parse::<u64>().ok();
        if let Some(id) = number.map(EventId) {
            if id <= self.cursor && !self.rewound {
                return None;
            }
            *self = Self::behind(id);
        }
        let id = (!id.is_empty()).then_some(id);
        Some(SseEvent { id, event_id_u64: number, event_type, data })
    }
}

/// What a reader behind `cursor` gets of a connection whose bytes come in these pieces, up to where they are damaged. Of no
/// use but to test this crate from outside.
#[doc(hidden)]
pub fn events_of<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, cursor: u64) -> Vec<SseEvent> {
    let (mut frames, mut position) = (Frames::default(), Position::behind(EventId(cursor)));
    let mut events = Vec::new();
    for piece in pieces {
        frames.push(piece);
        while let Some(frame) = frames.next() {
            let Ok(frame) = frame else { return events };
            events.extend(position.accept(frame));
        }
    }
    events
}
