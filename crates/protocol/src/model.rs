//! Models and what they cost.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::Usd;

/// A model of the catalogue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelInfo {
    /// Id at its provider; may hold slashes.
    pub id: String,
    /// Display name.
    pub name: String,
    /// Provider id: the prefix of `provider/id`.
    pub provider: String,
    /// Whether it thinks before it answers.
    pub reasoning: bool,
    /// Price, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<ModelCost>,
    /// Token limits.
    pub limit: ModelLimit,
    /// `YYYY-MM-DD`, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release_date: Option<String>,
}

impl ModelInfo {
    /// `provider/id`.
    #[must_use]
    pub fn full_id(&self) -> String {
        format!("{}/{}", self.provider, self.id)
    }
}

/// US dollars per million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelCost {
    /// Input tokens.
    pub input: f64,
    /// Output tokens.
    pub output: f64,
    /// Input tokens read from the provider's cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_read: Option<f64>,
    /// Input tokens written to the provider's cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<f64>,
}

/// A price for a million tokens is one in millionths of a dollar for each. Such parts of a millionth are counted.
const PARTS: f64 = 1_000_000.0;

impl ModelCost {
    /// What these tokens cost at list price, to the nearest millionth of a dollar. A price for cached input that is missing
    /// is that of input.
    #[must_use]
    pub fn of(&self, usage: &Usage) -> Usd {
        let details = usage.input_token_details.unwrap_or_default();
        let read = details.cache_read.unwrap_or(0).min(usage.prompt_tokens);
        let written = details.cache_write.unwrap_or(0).min(usage.prompt_tokens - read);
        let priced = [
            (usage.prompt_tokens - read - written, self.input),
            (read, self.cache_read.unwrap_or(self.input)),
            (written, self.cache_write.unwrap_or(self.input)),
            (usage.completion_tokens, self.output),
        ];
        let sum: u128 = priced.iter().map(|(tokens, price)| u128::from(*tokens) * u128::from(parts(*price))).sum();
        let micros = (sum + u128::from(parts(1.0)) / 2) / u128::from(parts(1.0));
        Usd::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "such casts stop at the bounds")]
fn parts(price: f64) -> u64 {
    (price * PARTS).round() as u64
}

/// Token limits of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelLimit {
    /// Context window in tokens.
    pub context: u64,
    /// Longest answer in tokens.
    pub output: u64,
}

impl Default for ModelLimit {
    /// What a model outside the catalogue gets.
    fn default() -> Self {
        Self { context: 128_000, output: 8_192 }
    }
}

/// Tokens of one answer, or summed over a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    /// Tokens in.
    pub prompt_tokens: u64,
    /// Tokens out.
    pub completion_tokens: u64,
    /// Both.
    pub total_tokens: u64,
    /// Tokens in, by origin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_token_details: Option<InputTokenDetails>,
    /// Tokens out, by kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_token_details: Option<OutputTokenDetails>,
    /// The provider's own object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<Value>,
}

/// Tokens in, by origin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InputTokenDetails {
    /// All of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// Not cached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_cache: Option<u64>,
    /// Read from the cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_read: Option<u64>,
    /// Written to the cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<u64>,
}

/// Tokens out, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OutputTokenDetails {
    /// All of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// Visible text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<u64>,
    /// Thinking.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<u64>,
}

impl Usage {
    /// Adds another answer's tokens. `raw` belongs to one answer and is dropped.
    pub fn add(&mut self, other: &Self) {
        self.prompt_tokens += other.prompt_tokens;
        self.completion_tokens += other.completion_tokens;
        self.total_tokens += other.total_tokens;
        self.raw = None;
        if let Some(details) = other.input_token_details {
            let sum = self.input_token_details.get_or_insert_default();
            add(&mut sum.total, details.total);
            add(&mut sum.no_cache, details.no_cache);
            add(&mut sum.cache_read, details.cache_read);
            add(&mut sum.cache_write, details.cache_write);
        }
        if let Some(details) = other.output_token_details {
            let sum = self.output_token_details.get_or_insert_default();
            add(&mut sum.total, details.total);
            add(&mut sum.text, details.text);
            add(&mut sum.reasoning, details.reasoning);
        }
    }
}

fn add(sum: &mut Option<u64>, more: Option<u64>) {
    if let Some(more) = more {
        *sum = Some(sum.unwrap_or(0) + more);
    }
}

#[cfg(test)]
mod tests {
    use super::{InputTokenDetails, ModelCost, Usage};

    /// C-P17: 300 plain, 600 read from the cache, 100 written to it, 300 out of which 200 are thinking.
    #[test]
    fn cost_is_what_a_hand_counts() {
        let details =
            InputTokenDetails { cache_read: Some(600), cache_write: Some(100), ..InputTokenDetails::default() };
        let usage = Usage {
            prompt_tokens: 1_000,
            completion_tokens: 300,
            total_tokens: 1_300,
            input_token_details: Some(details),
            ..Usage::default()
        };
        let price = ModelCost { input: 3.0, output: 15.0, cache_read: Some(0.3), cache_write: Some(3.75) };
        assert_eq!(price.of(&usage).micros(), 900 + 180 + 375 + 4_500);
        let price = ModelCost { cache_read: None, cache_write: None, ..price };
        assert_eq!(price.of(&usage).micros(), 3_000 + 4_500, "cached input has the price of input");
    }

    #[test]
    fn parts_of_a_millionth_are_rounded_once() {
        let price = ModelCost { input: 0.05, output: 0.4, cache_read: Some(0.005), cache_write: None };
        let usage = |prompt_tokens, completion_tokens| Usage { prompt_tokens, completion_tokens, ..Usage::default() };
        for (usage, micros) in
            [(usage(9, 0), 0), (usage(10, 0), 1), (usage(29, 0), 1), (usage(1, 2), 1), (usage(0, 1), 0)]
        {
            assert_eq!(price.of(&usage).micros(), micros, "{usage:?}");
        }
    }

    #[test]
    fn details_that_do_not_add_up_cost_no_more_than_all_tokens() {
        let details = InputTokenDetails { cache_read: Some(9), cache_write: Some(9), ..InputTokenDetails::default() };
        let usage = Usage { prompt_tokens: 10, input_token_details: Some(details), ..Usage::default() };
        let price = ModelCost { input: 3.0, output: 15.0, cache_read: None, cache_write: None };
        assert_eq!(price.of(&usage).micros(), 30);
    }
}
