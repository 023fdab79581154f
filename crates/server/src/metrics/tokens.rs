//! Tokens of an answer by kind, each counted once.

use stakpak_protocol::Usage;

/// The kinds do not overlap: together they are the answer's total.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tokens {
    input: u64,
    cache_read: u64,
    cache_write: u64,
    output: u64,
    reasoning: u64,
}

impl Tokens {
    pub(super) fn of(usage: &Usage) -> Self {
        let details = usage.input_token_details.unwrap_or_default();
        let cache_read = details.cache_read.unwrap_or(0).min(usage.prompt_tokens);
        let cache_write = details.cache_write.unwrap_or(0).min(usage.prompt_tokens - cache_read);
        let reasoning = usage.output_token_details.and_then(|details| details.reasoning).unwrap_or(0);
        let reasoning = reasoning.min(usage.completion_tokens);
        Self {
            input: usage.prompt_tokens - cache_read - cache_write,
            cache_read,
            cache_write,
            output: usage.completion_tokens - reasoning,
            reasoning,
        }
    }

    pub(super) fn kinds(self) -> [(&'static str, u64); 5] {
        let Self { input, cache_read, cache_write, output, reasoning } = self;
        [
            ("input", input),
            ("cache_read", cache_read),
            ("cache_write", cache_write),
            ("output", output),
            ("reasoning", reasoning),
        ]
    }
}

#[cfg(test)]
mod tests {
    use stakpak_protocol::{InputTokenDetails, OutputTokenDetails, Usage};

    use super::Tokens;

    #[test]
    fn each_token_is_counted_once() {
        let usage = Usage {
            prompt_tokens: 1_000,
            completion_tokens: 300,
            total_tokens: 1_300,
            input_token_details: Some(InputTokenDetails {
                cache_read: Some(600),
                cache_write: Some(100),
                ..InputTokenDetails::default()
            }),
            output_token_details: Some(OutputTokenDetails { reasoning: Some(200), ..OutputTokenDetails::default() }),
            raw: None,
        };
        let tokens = Tokens::of(&usage);
        assert_eq!(tokens.kinds().map(|(_, count)| count), [300, 600, 100, 100, 200]);
        assert_eq!(tokens.kinds().iter().map(|(_, count)| count).sum::<u64>(), usage.total_tokens);
    }

    #[test]
    fn details_that_do_not_add_up_never_wrap_around() {
        let details = InputTokenDetails { cache_read: Some(9), cache_write: Some(9), ..InputTokenDetails::default() };
        let usage = Usage { prompt_tokens: 10, input_token_details: Some(details), ..Usage::default() };
        assert_eq!(Tokens::of(&usage).kinds().map(|(_, count)| count), [0, 9, 1, 0, 0]);
    }
}
