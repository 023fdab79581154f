//! Arguments of `autopilot init`: every question of the set-up has a flag that answers it.

use std::net::SocketAddr;

use chrono_tz::Tz;
use clap::{ArgGroup, Args, ValueEnum};

use super::{ChannelKeys, ChannelType};

/// Where a model comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProviderChoice {
    /// api.anthropic.com
    Anthropic,
    /// api.openai.com
    Openai,
    /// generativelanguage.googleapis.com
    Gemini,
    /// openrouter.ai
    Openrouter,
    /// An Ollama, at OLLAMA_HOST or on this machine
    Ollama,
    /// Another endpoint that speaks the protocol of OpenAI: --api-endpoint
    Custom,
    /// The built-in model, which needs no key
    Offline,
}

#[derive(Debug, Args)]
#[command(
    group(ArgGroup::new("when").args(["cron", "every"])),
    after_help = "Examples:
  stakpak autopilot init
  stakpak autopilot init --yes --provider openai --model gpt-5 --channel telegram --approver 42 --target 42
  stakpak autopilot init --yes --schedule disk --every 15m --prompt 'how full are the disks?'

Keys are looked for in ANTHROPIC_API_KEY, OPENAI_API_KEY, GEMINI_API_KEY and OPENROUTER_API_KEY, and an Ollama at OLLAMA_HOST or
on this machine. What comes from a variable is written as a reference to it. Files that are there are edited, never replaced."
)]
pub(crate) struct InitArgs {
    /// Ask nothing: what no flag says is detected, or left as it is
    #[arg(long)]
    pub(crate) non_interactive: bool,
    /// Take every proposal: nothing is asked
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Set up anew what the files say already
    #[arg(long)]
    pub(crate) force: bool,
    /// Do not ask provider and platform whether key and token are good
    #[arg(long)]
    pub(crate) no_test: bool,
    /// Where the model comes from [default: the first that is detected, else offline]
    #[arg(long)]
    pub(crate) provider: Option<ProviderChoice>,
    /// Model, as id or provider/id [default: one that the provider offers]
    #[arg(long)]
    pub(crate) model: Option<String>,
    /// Key of the provider; `-` reads it from stdin
    #[arg(long, value_name = "KEY", allow_hyphen_values = true, conflicts_with = "api_key_env")]
    pub(crate) api_key: Option<String>,
    /// Variable that holds the key of the provider
    #[arg(long, value_name = "NAME")]
    pub(crate) api_key_env: Option<String>,
    /// Base URL of the provider
    #[arg(long, value_name = "URL")]
    pub(crate) api_endpoint: Option<String>,
    /// Address that `up` listens on
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) bind: Option<SocketAddr>,
    /// Time zone of schedules that name none [default: that of this machine]
    #[arg(long, value_name = "ZONE")]
    pub(crate) tz: Option<Tz>,
    /// Chat platform [default: the first whose token is in the environment]
    #[arg(long)]
    pub(crate) channel: Option<ChannelType>,
    /// No chat platform, whatever the environment holds
    #[arg(long, conflicts_with = "channel")]
    pub(crate) no_channel: bool,
    #[command(flatten)]
    pub(crate) channel_keys: ChannelKeys,
    /// Name of a first schedule
    #[arg(long, value_name = "NAME", requires = "when", requires = "prompt")]
    pub(crate) schedule: Option<String>,
    /// When it runs: an expression
    #[arg(long, requires = "schedule")]
    pub(crate) cron: Option<String>,
    /// When it runs: at multiples of an interval
    #[arg(long, value_name = "DURATION", requires = "schedule")]
    pub(crate) every: Option<String>,
    /// What it does
    #[arg(long, requires = "schedule")]
    pub(crate) prompt: Option<String>,
    /// Script that decides whether it runs
    #[arg(long, value_name = "PATH", requires = "schedule")]
    pub(crate) check: Option<String>,
}
