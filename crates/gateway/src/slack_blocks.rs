//! Markdown as Slack messages, by the name that programs know it by.

use crate::{Body, render::slack};

/// Messages with at most 50 blocks and one table each: `{"blocks": […]}` as the form, a fallback as the text.
#[must_use]
pub fn markdown_to_slack_messages(markdown: &str) -> Vec<Body> {
    slack::compose(markdown)
}
