//! Models and what they cost.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

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

/// Prices are for this many tokens.
const TOKENS_A_PRICE: f64 = 1_000_000.0;

impl ModelCost {
    /// What these tokens cost at list price, in US dollars.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "tokens of one run are far below 2^52")]
    pub fn of(&self, usage: &Usage) -> f64 {
        let details = usage.input_token_details.unwrap_or_default();
        let read = details.cache_read.unwrap_or(0);
        let written = details.cache_write.unwrap_or(0);
        let plain = usage.prompt_tokens.saturating_sub(read).saturating_sub(written);
        let parts = [
            (plain, self.input),
            (read, self.cache_read.unwrap_or(self.input)),
            (written, self.cache_write.unwrap_or(self.input)),
            (usage.completion_tokens, self.output),
        ];
        parts.iter().map(|(tokens, price)| *tokens as f64 * price).sum::<f64>() / TOKENS_A_PRICE
    }
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
