//! Flags of `stakpak run`.

use std::{path::PathBuf, time::Duration};

use clap::{ArgGroup, Args, ValueEnum};
use uuid::Uuid;

#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("goes-on").args(["session", "checkpoint"]),
    after_help = "Examples:\n  stakpak run \"how full are my disks?\"\n  stakpak run \"restart nginx\" --model openai/gpt-5\n  \
                  echo \"what changed?\" | stakpak run\n  stakpak run --pause-on-approval -o json \"clean up /tmp\"\n  \
                  stakpak run --session ID --approve CALL   # goes on with what was paused\n\n\
                  Exit codes: 0 done, 1 failed or cancelled, 2 bad usage, 10 waits for approval, 124 timed out, 130 interrupted"
)]
pub(crate) struct RunArgs {
    /// What to do [default: read from stdin]
    pub(crate) prompt: Option<String>,
    /// Read what to do from a file
    #[arg(long, value_name = "PATH", conflicts_with = "prompt")]
    pub(crate) prompt_file: Option<PathBuf>,
    /// provider/id or id
    #[arg(long, value_name = "MODEL")]
    pub(crate) model: Option<String>,
    /// Most turns of the run, 1 to 256 [default: 50]
    #[arg(short, long, visible_alias = "max-turns", value_name = "N", value_parser = clap::value_parser!(u64).range(1..=256))]
    max_steps: Option<u64>,
    /// Tool that runs without a question; in place of what the profile grants; may be repeated
    #[arg(short, long = "tool", value_name = "NAME")]
    pub(crate) tools: Vec<String>,
    /// Read the system prompt from a file
    #[arg(long, value_name = "PATH")]
    pub(crate) system_prompt_file: Option<PathBuf>,
    /// Go on in this session
    #[arg(short, long, value_name = "ID")]
    pub(crate) session: Option<Uuid>,
    /// Go on from this checkpoint: `checkpoint_id` of an earlier run
    #[arg(short, long, value_name = "ID")]
    pub(crate) checkpoint: Option<Uuid>,
    #[command(flatten)]
    pub(crate) approval: ApprovalArgs,
    /// End the run when it takes longer, with exit code 124
    #[arg(long, value_name = "DURATION", value_parser = stakpak_config::duration::parse)]
    pub(crate) timeout: Option<Duration>,
    /// Run tools isolated from this machine; fails where that is not possible
    #[arg(long)]
    pub(crate) sandbox: bool,
    /// End the run before it costs more, in US dollars
    #[arg(long, value_name = "USD", value_parser = dollars)]
    pub(crate) budget_usd: Option<f64>,
    /// Print the answer when it is complete, not as it comes
    #[arg(long)]
    pub(crate) no_stream: bool,
    /// Start it on the running instance and print its ids
    #[arg(long, conflicts_with_all = ["approve", "reject", "approve_all", "reject_all", "no_stream"])]
    pub(crate) detach: bool,
    /// How the outcome is told
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub(crate) output: OutputFormat,
    /// One step; the form of older scripts
    #[arg(short, long, hide = true)]
    print: bool,
    /// Without an interface, as every `run` is; accepted for older scripts
    #[arg(short = 'a', long = "async", hide = true)]
    _asynchronous: bool,
}

/// What becomes of calls that would ask.
#[derive(Debug, Args)]
pub(crate) struct ApprovalArgs {
    /// When a call would ask, end with exit code 10 and tell how to go on
    #[arg(long)]
    pub(crate) pause_on_approval: bool,
    /// Approve this call of a paused run; calls that are not named are rejected; may be repeated
    #[arg(long, value_name = "CALL", requires = "goes-on")]
    pub(crate) approve: Vec<String>,
    /// Reject this call of a paused run; may be repeated
    #[arg(long, value_name = "CALL", requires = "goes-on")]
    pub(crate) reject: Vec<String>,
    /// Approve every call that would ask
    #[arg(long, conflicts_with = "reject_all")]
    pub(crate) approve_all: bool,
    /// Reject every call that would ask
    #[arg(long)]
    pub(crate) reject_all: bool,
}

/// How the outcome is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// The answer
    Text,
    /// One JSON document, as with --json
    Json,
}

impl RunArgs {
    pub(crate) fn max_steps(&self) -> u64 {
        self.max_steps.unwrap_or(if self.print { 1 } else { 50 })
    }
}

impl ApprovalArgs {
    /// Whether something is said about calls that wait already.
    pub(crate) fn decides(&self) -> bool {
        self.approve_all || self.reject_all || self.named().next().is_some()
    }

    /// The calls that something is said about by name.
    pub(crate) fn named(&self) -> impl Iterator<Item = &String> {
        self.approve.iter().chain(&self.reject)
    }
}

fn dollars(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(amount) if amount.is_finite() && amount > 0.0 => Ok(amount),
        _ => Err("an amount of US dollars above 0 is needed, such as 0.50".to_owned()),
    }
}
