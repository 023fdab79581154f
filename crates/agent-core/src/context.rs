//! What requests show of the history, and what is done when that grows too large for the model.
//!
//! * History is never changed: what is cleared, summed up or cut is so in the view alone.
//! * What the view leaves out is part of the control state, recorded before it has an effect, and handed on from run to run:
//!   a restart shows what was shown before.
//! * A view grows only at its end, so that the provider's cache holds, but for the moments when it is made smaller; it is then
//!   made so much smaller that they are far apart.

mod conversation;
mod estimate;
mod plan;
mod shorten;
mod summary;

use serde::{Deserialize, Serialize};
use stakpak_protocol::{ModelInfo, ModelLimit};

pub(crate) use conversation::Conversation;
pub(crate) use estimate::{Meter, estimate, estimate_text, overhead};
pub use plan::Plan;
pub(crate) use plan::{Situation, plan};
pub(crate) use shorten::head_and_tail;
pub use summary::digest;
pub(crate) use summary::{as_message, bounded, request};

use crate::longest_answer;

/// Bytes of text that make so many tokens: 3.5 each, in English and code. What a provider reports corrects it.
pub(crate) fn bytes_of(tokens: u64) -> usize {
    usize::try_from(tokens.saturating_mul(7) / 2).unwrap_or(usize::MAX)
}

/// When and how a conversation is made to fit.
#[derive(Debug, Clone, PartialEq)]
pub struct Compaction {
    /// Otherwise a conversation that is too long ends its run.
    pub enabled: bool,
    /// Share of the window above which something is done.
    pub trigger: f64,
    /// Share of the window that is left when older messages were summed up.
    pub target: f64,
    /// `provider/id` of the model that sums up; none: the run's own.
    pub model: Option<String>,
}

impl Default for Compaction {
    fn default() -> Self {
        Self { enabled: true, trigger: 0.80, target: 0.40, model: None }
    }
}

/// What requests show of a session's history. Small: it names places, and holds no text.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ContextState {
    /// Messages before this one are not shown.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub first: u64,
    /// Place of the record with the summary that stands for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary_at: Option<u64>,
    /// Results and long arguments of messages before this one are stubs.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cleared: u64,
    /// What was cut because nothing else was left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<Cut>,
    /// Tokens of the conversation as the next request sends it, about.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tokens: u64,
    /// What the provider said last of a request's size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured: Option<Measured>,
}

/// Long parts of messages are shown by their beginning and end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// Of messages before this one.
    pub before: u64,
    /// Bytes that are left of each part.
    pub keep: u64,
}

/// A request's size, as estimated and as reported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// `provider/id`.
    pub model: String,
    /// Tokens that the provider counted.
    pub reported: u64,
    /// Tokens that were expected.
    pub estimated: u64,
}

/// What has been done in the open turn to make the conversation fit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shrinking {
    /// Times that the provider refused a request as too long, compactions included.
    pub overflows: u64,
    /// Times that older messages were summed up.
    pub compactions: u64,
    /// The last of these made the conversation less than a fifth smaller: another one would be no better.
    pub in_vain: bool,
    /// What the provider said when it refused; none: nothing, or something was done about it.
    pub refused: Option<String>,
}

/// Tokens that a conversation may have: the model's context without its longest answer. Limits that are not known count as
/// those of a model outside the catalogue.
pub(crate) fn window(model: &ModelInfo) -> u64 {
    let known = |limit: u64, default: u64| if limit == 0 { default } else { limit };
    let default = ModelLimit::default();
    let context = known(model.limit.context, default.context);
    let answer = longest_answer(model).unwrap_or(default.output).min(context / 2);
    context - answer
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window_of(context: u64, output: u64) -> u64 {
        let limit = ModelLimit { context, output };
        let (id, name, provider) = ("m".into(), "m".into(), "p".into());
        window(&ModelInfo { id, name, provider, reasoning: false, cost: None, limit, release_date: None })
    }

    /// C-P20: limits that nobody knows are never 0.
    #[test]
    fn a_window_is_never_empty() {
        let table = [
            ((200_000, 64_000), 200_000 - 16_384),
            ((16_000, 2_000), 14_000),
            ((0, 0), 128_000 - 8_192),
            ((0, 4_096), 128_000 - 4_096),
            ((32_000, 0), 32_000 - 8_192),
            ((8_192, 8_192), 4_096),
        ];
        for ((context, output), expected) in table {
            assert_eq!(window_of(context, output), expected, "{context} {output}");
        }
    }
}
