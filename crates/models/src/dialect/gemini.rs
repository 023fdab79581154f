//! The Gemini API. <https://ai.google.dev/api/generate-content>

mod frames;
mod render;

pub(super) use self::{frames::GeminiFrames, render::body};
