//! Chat completions of OpenAI, which nearly every server speaks. Rendered by genai.
//!
//! <https://platform.openai.com/docs/api-reference/chat>

mod frames;
mod render;

pub(super) use self::{
    frames::ChatFrames,
    render::{extras, request},
};
