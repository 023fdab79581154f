//! Stand-ins for tests: they speak the real wire protocols over real sockets, and can be told to misbehave.

mod discord;
mod engine;
mod executable;
mod llm;
mod mcp;
mod slack;
mod telegram;

pub use discord::{
    DiscordButton, DiscordCall, DiscordEdit, DiscordFault, DiscordMessage, DiscordReaction, DiscordRecord, FakeDiscord,
    Followup, GatewayFault, Identify, InteractionAnswer, Resume, Said,
};
pub use engine::{FakeEngine, Trouble};
pub use executable::{copy_executable, write_executable};
pub use llm::{Gate, LlmRequest, Reply, ScriptedLlm};
pub use mcp::ScriptedMcp;
pub use slack::{Saying, SlackApi, SlackCall, SlackEnvelope, SlackFault, SlackFile, SlackMessage};
pub use telegram::{AnsweredPress, BotApi, BotCall, KeyboardButton, SendFault, SentFile, SentMessage, Words};
