//! The messages of a session while it is driven: read once, then followed.

use std::{collections::HashSet, sync::Arc};

use serde_json::Value;
use stakpak_protocol::{Message, MessagePart, SessionId, ToolCallId};
use uuid::Uuid;

use crate::{Journal, JournalError, ModelAnswer, ModelError, Record, SessionRow};

/// Longest id that every provider takes back.
const MAX_CALL_ID: usize = 64;

#[derive(Debug)]
pub(super) struct History {
    /// None until it was needed.
    entries: Option<Vec<Option<Entry>>>,
    /// Length of the messages' rows.
    bytes: usize,
    /// The summary that stands for older messages, with the place of its record.
    summary: Option<(u64, Arc<str>)>,
}

/// A message, and what the provider said beside it.
type Entry = (Message, Option<Arc<Value>>);

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
        Self { entries: (session.message_count == 0).then(Vec::new), bytes: 0, summary: None }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Reads the history unless it is here already.
    pub(super) async fn load(&mut self, journal: &dyn Journal, session: &SessionRow) -> Result<(), JournalError> {
        if self.entries.is_some() {
            return Ok(());
        }
        let rows = journal.message_rows(session.id, 0, session.message_count).await?;
        let mut entries = Vec::with_capacity(rows.len());
        for row in rows {
            self.bytes += row.payload.len();
            let record =
                Record::from_row(&row).map_err(|_| JournalError::Damaged { session: session.id, seq: row.seq })?;
            let reasoning = record.reasoning().cloned().map(Arc::new);
            entries.push(record.message().cloned().map(|message| (message, reasoning)));
        }
        self.entries = Some(entries);
        Ok(())
    }

    /// The summary that this record holds.
    pub(super) async fn summary(
        &mut self,
        journal: &dyn Journal,
        session: SessionId,
        place: u64,
    ) -> Result<Arc<str>, JournalError> {
        if let Some((at, summary)) = &self.summary
            && *at == place
        {
            return Ok(Arc::clone(summary));
        }
        let rows = journal.control_rows(session, place, place).await?;
        let Some(Ok(Record::Compaction { summary, .. })) = rows.first().map(Record::from_row) else {
            return Err(JournalError::Damaged { session, seq: place });
        };
        let summary: Arc<str> = summary.into();
        self.summary = Some((place, Arc::clone(&summary)));
        Ok(summary)
    }

    /// Follows a message that is durable. Results may come before earlier ones.
    pub(super) fn put(&mut self, index: u64, message: Message, reasoning: Option<Value>) {
        let Some(entries) = &mut self.entries else { return };
        let index = usize::try_from(index).unwrap_or(usize::MAX - 1);
        if entries.len() <= index {
            entries.resize(index + 1, None);
        }
        entries[index] = Some((message, reasoning.map(Arc::new)));
    }

    /// Counts messages that were put.
    pub(super) fn grow(&mut self, stored: usize) {
        if self.entries.is_some() {
            self.bytes += stored;
        }
    }

    /// The messages with their places, each with what the provider said beside it.
    pub(super) fn entries_at(&self) -> impl Iterator<Item = (u64, &Message, Option<&Arc<Value>>)> {
        let entries = (0..).zip(self.entries.iter().flatten());
        entries.filter_map(|(index, entry)| {
            let (message, reasoning) = entry.as_ref()?;
            Some((index, message, reasoning.as_ref()))
        })
    }

    /// Some providers repeat their ids every turn; ours are unique in the session.
    pub(super) fn make_call_ids_unique(&self, answer: &mut ModelAnswer) {
        let used: HashSet<&ToolCallId> =
            self.entries_at().flat_map(|(_, message, _)| message.parts()).filter_map(call_id).collect();
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
