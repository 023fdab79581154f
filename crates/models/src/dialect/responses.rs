//! The Responses API of OpenAI, without state at the provider. <https://platform.openai.com/docs/api-reference/responses>

mod frames;
mod render;

pub(super) use self::{frames::ResponsesFrames, render::body};
