//! What a model writes, in the form of each platform.
//!
//! One Markdown parser, one neutral form, one writer a platform. Nothing of the text is lost, each message is within its
//! platform's limits, and nothing in it reaches people or shows one address for another.

mod leaf;
mod link;
mod literal;
mod neutral;
mod pack;
mod parse;
mod table;

pub mod discord;
pub mod slack;
pub mod telegram;

#[cfg(test)]
mod tests;

pub use literal::{fence_for, literal};

use crate::{Body, chunking::chunk_text};

/// The messages; or the text as it is, for markup without any content.
fn or_plain(mut messages: Vec<Body>, markdown: &str, limit: usize, neutral: fn(&str) -> String) -> Vec<Body> {
    messages.retain(|body| !body.text.trim().is_empty());
    if messages.is_empty() {
        // Half of the limit: what makes it neutral makes it longer.
        return chunk_text(markdown, limit / 2).iter().map(|chunk| Body::plain(neutral(chunk.trim_end()))).collect();
    }
    messages
}
