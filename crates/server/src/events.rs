//! From committed events to SSE frames: replay and live are one path.
//!
//! A reader has a cursor. It reads what follows from the session's cache of frames, or from the journal when the cache no
//! longer (or not yet) reaches back to its cursor, and sleeps when there is nothing. So a slow reader loses nothing, holds
//! nobody up, and costs no memory of its own.

mod hub;
mod lag;
mod reader;

pub(crate) use hub::Hub;
pub(crate) use reader::Reader;

use bytes::Bytes;
use serde::Serialize;
use stakpak_agent_core::EventRecord;

/// The SSE frame of an event.
fn frame(event: &EventRecord) -> Bytes {
    format!("id: {}\nevent: {}\ndata: {}\n\n", event.id, event.name, event.data).into()
}

/// A frame without an id: the reader's cursor does not move.
pub(crate) fn control_frame<T: Serialize>(name: &str, data: &T) -> Bytes {
    let data = stakpak_protocol::to_ascii_json(data).unwrap_or_else(|_| "{}".to_owned());
    format!("event: {name}\ndata: {data}\n\n").into()
}
