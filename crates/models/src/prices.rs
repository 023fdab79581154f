//! What models cost, in US dollars per million tokens: the list prices of providers known by name.
//! What the configuration says instead wins.
//!
//! * A list price belongs to an address: a model of the same name elsewhere has none.
//! * The prices are those of requests of up to 200,000 tokens at the provider's usual speed; writing to Anthropic's cache is
//!   for 5 minutes.
//!
//! Prices: <https://platform.claude.com/docs/en/about-claude/pricing>, <https://platform.openai.com/docs/pricing>,
//! <https://ai.google.dev/gemini-api/docs/pricing>.

use stakpak_protocol::ModelCost;

/// Version of the table: when it was compared with the providers' lists. A run keeps the price itself.
pub const PRICES_OF: &str = "2025-12";

/// Provider, id, and per million tokens: input, output, read from the cache, written to it.
type Row = (&'static str, &'static str, f64, f64, Option<f64>, Option<f64>);

const TABLE: &[Row] = &[
    ("anthropic", "claude-opus-4-5", 5.0, 25.0, Some(0.5), Some(6.25)),
    ("anthropic", "claude-sonnet-4-5", 3.0, 15.0, Some(0.3), Some(3.75)),
    ("anthropic", "claude-haiku-4-5", 1.0, 5.0, Some(0.1), Some(1.25)),
    ("anthropic", "claude-opus-4-1", 15.0, 75.0, Some(1.5), Some(18.75)),
    ("anthropic", "claude-opus-4", 15.0, 75.0, Some(1.5), Some(18.75)),
    ("anthropic", "claude-sonnet-4", 3.0, 15.0, Some(0.3), Some(3.75)),
    ("anthropic", "claude-3-5-haiku", 0.8, 4.0, Some(0.08), Some(1.0)),
    ("openai", "gpt-5.1", 1.25, 10.0, Some(0.125), None),
    ("openai", "gpt-5", 1.25, 10.0, Some(0.125), None),
    ("openai", "gpt-5-mini", 0.25, 2.0, Some(0.025), None),
    ("openai", "gpt-5-nano", 0.05, 0.4, Some(0.005), None),
    ("openai", "gpt-4.1", 2.0, 8.0, Some(0.5), None),
    ("openai", "gpt-4.1-mini", 0.4, 1.6, Some(0.1), None),
    ("openai", "gpt-4.1-nano", 0.1, 0.4, Some(0.025), None),
    ("openai", "gpt-4o", 2.5, 10.0, Some(1.25), None),
    ("openai", "gpt-4o-mini", 0.15, 0.6, Some(0.075), None),
    ("openai", "o3", 2.0, 8.0, Some(0.5), None),
    ("openai", "o4-mini", 1.1, 4.4, Some(0.275), None),
    ("gemini", "gemini-2.5-pro", 1.25, 10.0, Some(0.125), None),
    ("gemini", "gemini-2.5-flash", 0.3, 2.5, Some(0.03), None),
    ("gemini", "gemini-2.5-flash-lite", 0.1, 0.4, Some(0.01), None),
];

/// The list price of a model of a provider known by this name.
pub(crate) fn list_price(provider: &str, id: &str) -> Option<ModelCost> {
    let id = undated(id);
    let row = TABLE.iter().find(|row| row.0 == provider && row.1 == id);
    row.map(|&(_, _, input, output, cache_read, cache_write)| ModelCost { input, output, cache_read, cache_write })
}

/// `-20250929` or `-2025-08-07` at the end names an issue of the same model at the same price.
fn undated(id: &str) -> &str {
    let is_date = |end: &str| {
        let mut bytes = end.bytes();
        bytes.next() == Some(b'-') && bytes.all(|byte| byte.is_ascii_digit() || byte == b'-') && {
            end.bytes().filter(u8::is_ascii_digit).count() == 8
        }
    };
    [9, 11]
        .iter()
        .filter_map(|length| id.split_at_checked(id.len().checked_sub(*length)?))
        .find(|(_, end)| is_date(end))
        .map_or(id, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::{PRICES_OF, TABLE, list_price, undated};
    use crate::KNOWN_PROVIDERS;

    #[test]
    fn an_issue_has_the_price_of_its_model() {
        for (id, name) in [
            ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
            ("gpt-5-2025-08-07", "gpt-5"),
            ("gpt-4o", "gpt-4o"),
            ("gpt-5-mini", "gpt-5-mini"),
            ("-20250929", ""),
            ("modèle-20x50929", "modèle-20x50929"),
        ] {
            assert_eq!(undated(id), name);
        }
        assert_eq!(list_price("anthropic", "claude-sonnet-4-20250514").unwrap().output, 15.0);
        assert_eq!(list_price("openai", "claude-sonnet-4-5"), None, "of another provider");
        assert_eq!(list_price("openai", "gpt-5-pro"), None, "of no other model");
    }

    #[test]
    fn each_model_is_there_once_and_of_a_known_provider() {
        for (at, row) in TABLE.iter().enumerate() {
            assert!(KNOWN_PROVIDERS.iter().any(|known| known.name == row.0), "{row:?}");
            assert!(!TABLE[..at].iter().any(|other| (other.0, other.1) == (row.0, row.1)), "{row:?}");
            assert!(row.4.is_none_or(|read| read < row.2) && row.2 < row.3, "{row:?}");
        }
    }

    #[test]
    fn people_are_told_of_when_the_prices_are() {
        let readme = include_str!("../../../README.md");
        assert!(readme.contains(&format!("(as of {PRICES_OF},")), "{PRICES_OF}");
    }

    /// What a newcomer runs has a price; what the fourth provider routes to is not known beforehand.
    #[test]
    fn the_model_that_answers_unless_told_otherwise_has_a_price() {
        for known in KNOWN_PROVIDERS.iter().filter(|known| known.name != "openrouter") {
            assert!(list_price(known.name, known.model).is_some(), "{}", known.name);
        }
    }
}
