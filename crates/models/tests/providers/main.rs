//! The protocols of vendors against a scripted server on a real socket: C-P14, C-P63, C-P64, C-P66.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    clippy::needless_pass_by_value,
    reason = "tests say values where they are used"
)]

mod access;
mod anthropic;
mod bedrock;
mod every;
mod gemini;
mod reasoning;
mod responses;
mod support;
