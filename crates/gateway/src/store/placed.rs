//! A message that was addressed to a name, which its receipt told the id of.
//!
//! From there on everything about it is in the chat of that id, so that answers and presses find it. What is queued behind it
//! stays in its lane, and so in its order.

use stakpak_sqlite::rusqlite::{Connection, params};

use super::{
    GatewayStore, StoreError,
    outbox::{self, AfterSent},
    prompts,
    sends::{address_of, delivery_of},
};
use crate::Address;

impl GatewayStore {
    /// As [`GatewayStore::sent`], into a chat that was addressed otherwise.
    pub(crate) async fn sent_in(&self, id: i64, message_id: String, chat: String) -> Result<AfterSent, StoreError> {
        self.database
            .write(move |connection| {
                place(connection, id, &chat)?;
                // Its lane is another now; what is behind it is in the old one.
                Ok(AfterSent { more: true, ..outbox::sent(connection, id, Some(&message_id))? })
            })
            .await
    }
}

fn place(connection: &Connection, id: i64, chat: &str) -> Result<(), StoreError> {
    let sql = "SELECT idem_key, address FROM outbox WHERE id = ?1";
    let read =
        |row: &stakpak_sqlite::rusqlite::Row<'_>| -> Result<(String, String), _> { Ok((row.get(0)?, row.get(1)?)) };
    let (key, address) = connection.prepare_cached(sql)?.query_row([id], read)?;
    let named: Address = serde_json::from_str(&address)?;
    let of_id = |address: &Address| Address { chat: chat.to_owned(), ..address.clone() };
    let to = of_id(&named);
    let place = serde_json::to_string(&to)?;
    let sql = "UPDATE outbox SET address = ?2, lane = ?3 WHERE id = ?1";
    connection.prepare_cached(sql)?.execute(params![id, place, to.chat_key()])?;
    // Presses are compared with it.
    let sql = "UPDATE approvals SET address = ?2 WHERE prompt_key = ?1";
    connection.prepare_cached(sql)?.execute(params![key, place])?;
    let Some(delivery) = delivery_of(&key) else { return Ok(()) };
    match address_of(connection, delivery)? {
        Some(from) if from.chat == named.chat => prompts::move_delivery(connection, delivery, &from, &of_id(&from)),
        _ => Ok(()),
    }
}
