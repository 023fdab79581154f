//! The Messages API of Anthropic. <https://platform.claude.com/docs/en/api/messages>

mod frames;
mod render;

pub(super) use self::{frames::AnthropicFrames, render::body};
