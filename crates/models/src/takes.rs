//! Models that are known not to take tools or images, by the beginning of their ids.
//!
//! What is not listed is believed to take both: nobody knows all models of a gateway. <https://platform.openai.com/docs/models>,
//! <https://api-docs.deepseek.com>.

use stakpak_agent_core::Takes;

const NO_TOOLS: [&str; 4] = ["o1-mini", "o1-preview", "chatgpt-4o", "gpt-3.5-turbo-instruct"];

const NO_IMAGES: [&str; 8] =
    ["o1-mini", "o1-preview", "o3-mini", "gpt-3.5", "gpt-oss", "deepseek-chat", "deepseek-reasoner", "codestral"];

/// What the model of this id takes; a gateway's id has the vendor before it.
pub(crate) fn takes(id: &str) -> Takes {
    let name = id.rsplit('/').next().unwrap_or(id);
    let is_of = |list: &[&str]| list.iter().any(|beginning| name.starts_with(beginning));
    Takes { tools: !is_of(&NO_TOOLS), images: !is_of(&NO_IMAGES) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_takes_everything() {
        let of = |id: &str| (takes(id).tools, takes(id).images);
        assert_eq!(of("claude-sonnet-4-5"), (true, true));
        assert_eq!(of("my-own"), (true, true));
        assert_eq!(of("o3-mini-2025-01-31"), (true, false));
        assert_eq!(of("openai/o1-mini"), (false, false));
        assert_eq!(of("deepseek/deepseek-chat"), (true, false));
    }
}
