//! The messages of a session while it is driven: read once, then followed.

use std::collections::HashSet;

use stakpak_protocol::{Message, MessagePart, ToolCallId};
use uuid::Uuid;

use crate::{Journal, JournalError, ModelAnswer, ModelError, Record, SessionRow};

/// Longest id that every provider takes back.
const MAX_CALL_ID: usize = 64;

#[derive(Debug)]
pub(super) struct History {
    /// None until it was needed.
    messages: Option<Vec<Option<Message>>>,
    /// Length of the messages' rows.
    bytes: usize,
}

pub(super) enum HistoryError {
    Journal(JournalError),
    Model(ModelError),
}

impl From<JournalError> for HistoryError {
    fn from(error: JournalError) -> Self {
        Self::Journal(error)
    }
}

impl History {
    /// The history of this session: there is nothing to read of one without messages.
    pub(super) fn of(session: &SessionRow) -> Self {
        Self { messages: (session.message_count == 0).then(Vec::new), bytes: 0 }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Reads the history unless it is here already.
    pub(super) async fn load(&mut self, journal: &dyn Journal, session: &SessionRow) -> Result<(), JournalError> {
        if self.messages.is_some() {
            return Ok(());
        }
        let rows = journal.message_rows(session.id, 0, session.message_count).await?;
        let mut messages = Vec::with_capacity(rows.len());
        for row in rows {
            self.bytes += row.payload.len();
            let record =
                Record::from_row(&row).map_err(|_| JournalError::Damaged { session: session.id, seq: row.seq })?;
            messages.push(record.message().cloned());
        }
        self.messages = Some(messages);
        Ok(())
    }

    /// Follows a message that is durable. Results may come before earlier ones.
    pub(super) fn put(&mut self, index: u64, message: Message) {
        let Some(messages) = &mut self.messages else { return };
        let index = usize::try_from(index).unwrap_or(usize::MAX - 1);
        if messages.len() <= index {
            messages.resize(index + 1, None);
        }
        messages[index] = Some(message);
    }

    /// Counts messages that were put.
    pub(super) fn grow(&mut self, stored: usize) {
        if self.messages.is_some() {
            self.bytes += stored;
        }
    }

    pub(super) fn messages(&self) -> impl Iterator<Item = &Message> {
        self.messages.iter().flatten().flatten()
    }

    /// Some providers repeat their ids every turn; ours are unique in the session.
    pub(super) fn make_call_ids_unique(&self, answer: &mut ModelAnswer) {
        let used: HashSet<&ToolCallId> = self.messages().flat_map(Message::parts).filter_map(call_id).collect();
        let mut fresh = Vec::new();
        for part in &mut answer.parts {
            let MessagePart::ToolCall { id, .. } = part else { continue };
            if used.contains(id) || fresh.contains(id) || !is_well_formed(id.as_str()) {
                *id = ToolCallId(format!("call_{}", Uuid::new_v4().simple()));
            }
            fresh.push(id.clone());
        }
    }
}

fn call_id(part: &MessagePart) -> Option<&ToolCallId> {
    match part {
        MessagePart::ToolCall { id, .. } => Some(id),
        _ => None,
    }
}

fn is_well_formed(id: &str) -> bool {
    (1..=MAX_CALL_ID).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}
