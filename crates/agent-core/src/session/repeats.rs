//! A run that makes no progress: its turns make the same calls and get the same results, again and again.
//!
//! * All calls of a turn count as one: a turn repeats the one before it when its calls, in declared order, are of the same
//!   tools with the same arguments and came to the same results, whoever gave them. What was said beside them does not matter.
//! * A message of the user begins anew.
//! * Folded from the records, so that a restart goes on counting.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use stakpak_protocol::{Message, MessagePart};
use uuid::Uuid;

use super::{ActiveRun, Call};
use crate::ToolCall;

/// How many turns in a row may be the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoProgress {
    /// From this many on the model is told.
    pub warn: u64,
    /// At this many the run ends.
    pub stop: u64,
}

impl Default for NoProgress {
    fn default() -> Self {
        Self { warn: 3, stop: 6 }
    }
}

/// Turns in a row that were the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repeats {
    /// Of the last turn's calls and results; none: it made no call, or there was none.
    turn: Option<Uuid>,
    /// The last turn included.
    times: u64,
}

impl Repeats {
    /// A turn is over.
    pub(super) fn count(&mut self, calls: &[Call]) {
        let turn = turn(calls);
        let times = if turn.is_some() && turn == self.turn { self.times + 1 } else { u64::from(turn.is_some()) };
        *self = Self { turn, times };
    }
}

impl ActiveRun {
    /// How many turns in a row were the same, if the model should know.
    pub(crate) fn repeats_to_tell(&self) -> Option<u64> {
        Some(self.repeats.times).filter(|times| *times >= self.accepted.no_progress.warn)
    }

    /// Whether it only repeats itself. A message that waits may change that.
    pub(super) fn makes_no_progress(&self) -> bool {
        self.repeats.times >= self.accepted.no_progress.stop && !self.is_steered()
    }
}

/// Names a call and its result.
pub(super) fn outcome(call: &ToolCall, result: &Message) -> Uuid {
    let mut arguments = call.arguments.clone();
    arguments.sort_all_objects();
    let results = result.parts().iter().filter_map(|part| match part {
        MessagePart::ToolResult { content, is_error, .. } => Some((content, *is_error)),
        _ => None,
    });
    let results: Vec<(&Value, bool)> = results.collect();
    // No part of it is a map with keys that are not strings: it is JSON.
    let named = serde_json::to_vec(&(&call.name, arguments, results)).unwrap_or_default();
    Uuid::new_v5(&Uuid::nil(), &named)
}

fn turn(calls: &[Call]) -> Option<Uuid> {
    let outcomes: Vec<u8> = calls.iter().filter_map(|call| call.outcome).flat_map(Uuid::into_bytes).collect();
    (!outcomes.is_empty()).then(|| Uuid::new_v5(&Uuid::nil(), &outcomes))
}
