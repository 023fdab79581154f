//! Short texts that are queued by the transaction that causes them.

use stakpak_sqlite::rusqlite::Connection;

use super::{Content, NewPart, StoreError, outbox};
use crate::{Address, Body};

/// Queues a text that any platform takes in one message; once for its key.
pub(super) fn queue(
    connection: &Connection,
    idem_key: String,
    address: &Address,
    text: &str,
    now: i64,
) -> Result<(), StoreError> {
    outbox::insert(connection, &[part(idem_key, address, text)], now)
}

pub(super) fn part(idem_key: String, address: &Address, text: &str) -> NewPart {
    NewPart { idem_key, address: address.clone(), content: Content::Text { body: Body::plain(text) } }
}
