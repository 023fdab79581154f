//! How much a model thinks, as each protocol says it. Nothing is said where nobody asked for it.
//!
//! <https://platform.claude.com/docs/en/build-with-claude/adaptive-thinking>: from version 4.6 on Claude decides itself,
//! by an effort; before, it gets a budget, which its whole answer has to be larger than.
//! <https://ai.google.dev/gemini-api/docs/thinking>: Gemini 3 has levels, earlier ones a budget.

use serde_json::{Map, Value, json};
use stakpak_agent_core::{Effort, Reasoning};

/// Of the whole answer, so that there is room for words.
const MOST_THINKING: (u64, u64) = (3, 4);

/// Anthropic takes no smaller one.
const LEAST_BUDGET: u64 = 1_024;

/// A budget of which it is `medium` or `high`.
const MEDIUM: u64 = 4_096;
const HIGH: u64 = 12_288;

pub(super) fn for_anthropic(body: &mut Map<String, Value>, model: &str, reasoning: Reasoning, most_output: u64) {
    if version(model) >= (4, 6) {
        body.insert("thinking".to_owned(), json!({ "type": "adaptive" }));
        body.insert("output_config".to_owned(), json!({ "effort": effort(reasoning) }));
        return;
    }
    if let Some(budget) = claude_budget(reasoning, most_output) {
        body.insert("thinking".to_owned(), json!({ "type": "enabled", "budget_tokens": budget }));
    }
}

/// None: there is no room to think in.
pub(super) fn claude_budget(reasoning: Reasoning, most_output: u64) -> Option<u64> {
    Some(budget(reasoning, most_output)).filter(|budget| *budget >= LEAST_BUDGET)
}

/// What goes into `generationConfig`.
pub(super) fn for_gemini(model: &str, reasoning: Reasoning, most_output: u64) -> Value {
    if version(model) < (3, 0) {
        return json!({ "includeThoughts": true, "thinkingBudget": budget(reasoning, most_output) });
    }
    let level = match effort(reasoning) {
        // The first Pro has no level between the two.
        "medium" if model.contains("gemini-3-pro") => "high",
        level => level,
    };
    json!({ "includeThoughts": true, "thinkingLevel": level })
}

pub(super) fn effort(reasoning: Reasoning) -> &'static str {
    match reasoning {
        Reasoning::Effort(Effort::Low) => "low",
        Reasoning::Effort(Effort::Medium) => "medium",
        Reasoning::Effort(Effort::High) => "high",
        Reasoning::Budget(tokens) if tokens < MEDIUM => "low",
        Reasoning::Budget(tokens) if tokens < HIGH => "medium",
        Reasoning::Budget(_) => "high",
    }
}

fn budget(reasoning: Reasoning, most_output: u64) -> u64 {
    let wanted = match reasoning {
        Reasoning::Effort(Effort::Low) => LEAST_BUDGET * 2,
        Reasoning::Effort(Effort::Medium) => MEDIUM * 2,
        Reasoning::Effort(Effort::High) => HIGH * 2,
        Reasoning::Budget(tokens) => tokens,
    };
    let (share, whole) = MOST_THINKING;
    wanted.min(most_output / whole * share)
}

/// The version in an id such as `claude-opus-4-6-20260101`, `claude-3-7-sonnet` or `gemini-2.5-pro`.
fn version(model: &str) -> (u64, u64) {
    let mut numbers = model.split(['-', '.', '@', ':']).skip_while(|part| part.parse::<u64>().is_err());
    let mut number = || numbers.next().and_then(|part| part.parse().ok()).filter(|number| *number < 100).unwrap_or(0);
    (number(), number())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_in_ids() {
        for (model, expected) in [
            ("claude-opus-4-6-20260101", (4, 6)),
            ("claude-sonnet-4-20250514", (4, 0)),
            ("claude-3-7-sonnet-20250219", (3, 7)),
            ("claude-opus-5", (5, 0)),
            ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", (4, 5)),
            ("gemini-2.5-pro", (2, 5)),
            ("gemini-3-pro-preview", (3, 0)),
            ("plain", (0, 0)),
        ] {
            assert_eq!(version(model), expected, "{model}");
        }
    }

    #[test]
    fn a_budget_leaves_room_for_words() {
        assert_eq!(budget(Reasoning::Budget(50_000), 8_000), 6_000);
        assert_eq!(budget(Reasoning::Budget(2_000), 8_000), 2_000);
        assert_eq!(effort(Reasoning::Budget(2_000)), "low");
        assert_eq!(effort(Reasoning::Budget(20_000)), "high");
        let mut body = Map::new();
        for_anthropic(&mut body, "claude-sonnet-4-5", Reasoning::Effort(Effort::High), 100);
        assert!(body.is_empty(), "no room to think in: {body:?}");
    }
}
