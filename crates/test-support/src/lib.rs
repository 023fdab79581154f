//! Stand-ins for tests: they speak the real wire protocols over real sockets, and can be told to misbehave.

mod llm;
mod slack;
mod telegram;

pub use llm::{Gate, LlmRequest, Reply, ScriptedLlm};
pub use slack::{Saying, SlackApi, SlackCall, SlackEnvelope, SlackFault, SlackFile, SlackMessage};
pub use telegram::{BotApi, SendFault, SentMessage};
