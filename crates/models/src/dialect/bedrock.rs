//! ConverseStream of Amazon Bedrock, with a bearer key. genai builds the body and takes the stream's binary framing apart.

mod frames;
mod render;

pub(crate) use frames::BedrockFrames;
pub(crate) use render::{effort, request};
