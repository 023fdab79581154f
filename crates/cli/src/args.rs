//! The command line. `autopilot X` and `X` are the same commands.

mod auth;
mod channel;
mod config;
mod gateway;
mod init;
mod mcp;
pub(crate) mod root;
mod run;
mod schedule;
mod service;
mod sessions;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};

pub(crate) use auth::{AuthCommand, AuthLoginArgs};
pub(crate) use channel::{
    AccessCommand, AccessWho, ChannelAddArgs, ChannelCommand, ChannelKeys, ChannelType, PairCommand,
};
pub(crate) use config::{ConfigCommand, ConfigFileName};
pub(crate) use gateway::{ApprovalsCommand, GatewayCommand, GatewayInitArgs, GatewayRunArgs, OutboxCommand, ServeArgs};
pub(crate) use init::{InitArgs, ProviderChoice};
pub(crate) use mcp::{McpAddArgs, McpCommand};
pub(crate) use run::{ApprovalArgs, OutputFormat, RunArgs};
pub(crate) use schedule::{
    BACKFILL_LIMIT, BackfillArgs, DecisionArgs, ScheduleAddArgs, ScheduleCommand, ScheduleEditArgs, ScheduleKeys,
};
pub(crate) use service::{Backend, Component, DetachArgs, DownArgs, Level, LogsArgs, ServiceChoice};
pub(crate) use sessions::SessionsCommand;

use crate::logging::LogFormat;

/// The agent that lives on your machine around the clock.
#[derive(Debug, Parser)]
#[command(name = "stakpak", version, propagate_version = true, max_term_width = 120)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    /// None: `chat` on a terminal.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Profile of config.toml
    #[arg(long, global = true, env = "STAKPAK_PROFILE", default_value = "default", value_name = "NAME")]
    pub(crate) profile: String,
    /// Another config.toml
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) config: Option<PathBuf>,
    /// State directory [default: ~/.stakpak]
    #[arg(long, global = true, env = "STAKPAK_HOME", value_name = "DIR")]
    pub(crate) home: Option<PathBuf>,
    /// Directory that tools run in [default: your home directory for `up`, the current one for `run`]
    #[arg(short, long, global = true, value_name = "DIR")]
    pub(crate) workdir: Option<PathBuf>,
    /// One JSON document on stdout
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Answers and errors only: no notes, no progress
    #[arg(short, long, global = true, conflicts_with_all = ["verbose", "debug"])]
    pub(crate) quiet: bool,
    /// Says what goes on, on stderr
    #[arg(long, global = true)]
    pub(crate) verbose: bool,
    /// Says it in every detail, also in the log files
    #[arg(long, global = true)]
    pub(crate) debug: bool,
    /// Without colours; also with NO_COLOR
    #[arg(long, global = true)]
    pub(crate) no_color: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Autopilot(AutopilotCommand),
    /// The agent around the clock: `stakpak autopilot up` is `stakpak up`
    #[command(subcommand, name = "autopilot")]
    AutopilotTree(AutopilotTree),
    /// One run of the agent: streams the answer, asks before it does harm
    Run(Box<RunArgs>),
    /// A conversation in the terminal, line by line
    #[command(
        after_help = "In it, /help lists its commands; Ctrl-C ends a run, Ctrl-D the conversation.\n\nExamples:\n  stakpak chat\n  stakpak chat 3f1c2a9e-…   # goes on with a session"
    )]
    Chat(ChatArgs),
    /// Starts the server alone: without the scheduler, and without the chat gateway unless asked for
    Serve(ServeArgs),
    /// The chat gateway on its own; `--config` names its file here
    #[command(subcommand)]
    Gateway(GatewayCommand),
    /// What was said in sessions
    #[command(subcommand, visible_alias = "session")]
    Sessions(SessionsCommand),
    /// The configuration files: what they say, and changing it
    Config {
        /// list, if there is none
        #[command(subcommand)]
        command: Option<ConfigCommand>,
    },
    /// One run of the agent that finds out what this machine runs; the set-up is `autopilot init`
    #[command(
        mut_arg("prompt", |prompt| prompt.help("What to find out besides")),
        after_help = "Takes the flags of `stakpak run`.\n\nExamples:\n  stakpak init\n  stakpak init \"which of it is open to the network?\" --approve-all"
    )]
    Init {
        #[command(flatten)]
        run: Box<RunArgs>,
        /// Of `autopilot init`, which is what it is for
        #[arg(long, hide = true)]
        non_interactive: bool,
    },
    /// Tells what is true of this machine; everything else is `config set`
    Set {
        /// What `status` calls this machine
        #[arg(long, value_name = "NAME", required = true, value_parser = one_line)]
        machine_name: String,
    },
    /// Keys of providers, apart from config.toml
    #[command(subcommand)]
    Auth(AuthCommand),
    /// Tools of other programs: servers that speak the Model Context Protocol
    #[command(subcommand)]
    Mcp(McpCommand),
    /// Prints a completion script for your shell
    Completion {
        /// Shell
        shell: clap_complete::Shell,
    },
    /// Prints the version
    Version,
}

/// What `autopilot` has beyond its shortcuts.
#[derive(Debug, Subcommand)]
pub(crate) enum AutopilotTree {
    /// Sets up model, chat platform and a first schedule; asks at the terminal, or takes flags
    #[command(alias = "onboard")]
    Init(Box<InitArgs>),
    #[command(flatten)]
    Shortcut(AutopilotCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum AutopilotCommand {
    /// Starts server, chat gateway and scheduler, in the foreground unless -d
    #[command(
        after_help = "Examples:\n  stakpak up\n  stakpak up -d\n  stakpak up --bind 127.0.0.1:5000 --model openai/gpt-5"
    )]
    Up(UpArgs),
    /// Stops it and removes the background service; active runs go on at the next start
    Down(DownArgs),
    /// Starts the background service anew, after everything is checked
    Restart,
    /// Shows the log, of all parts in the order of time
    Logs(LogsArgs),
    /// What is running and how it goes, with which model, channels and schedules
    Status(StatusArgs),
    /// Looks for what is wrong with files, machine, schedules and channels, also beside a running instance
    Doctor(DoctorArgs),
    /// Copies the journal to a file and verifies the copy, also while it is in use
    #[command(after_help = "Example:\n  stakpak autopilot backup /backups/stakpak-$(date +%F).db")]
    Backup(BackupArgs),
    /// Schedules: prompts that run by the clock
    #[command(subcommand)]
    Schedule(ScheduleCommand),
    /// Channels: chat platforms that reach the agent
    #[command(subcommand)]
    Channel(ChannelCommand),
}

#[derive(Debug, Default, Args)]
pub(crate) struct ChatArgs {
    /// Session to go on with [default: a new one]
    #[arg(value_name = "SESSION")]
    pub(crate) session: Option<String>,
    /// provider/id or id
    #[arg(long, value_name = "MODEL")]
    pub(crate) model: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Fail unless everything works
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Also ask providers and platforms whether they take the keys
    #[arg(long)]
    pub(crate) online: bool,
    /// Make private files private again
    #[arg(long)]
    pub(crate) fix: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// Where the copy goes; only you can read it
    pub(crate) file: PathBuf,
    /// Replace the file if there is one
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// Address to listen on [default: server.listen of autopilot.toml, else 127.0.0.1:4096]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) bind: Option<SocketAddr>,
    /// Model of runs that name none, as provider/id
    #[arg(long, value_name = "MODEL")]
    pub(crate) model: Option<String>,
    /// Open every route without a token; loopback only, never saved
    #[arg(long)]
    pub(crate) no_auth: bool,
    /// Run every tool without a question; this start only
    #[arg(long)]
    pub(crate) auto_approve_all: bool,
    /// Without the chat gateway
    #[arg(long)]
    pub(crate) no_gateway: bool,
    /// Without the scheduler
    #[arg(long, alias = "no-watch")]
    pub(crate) no_scheduler: bool,
    /// How long active runs may go on after Ctrl-C [default: server.drain_timeout of autopilot.toml, else 10s]
    #[arg(long, value_name = "DURATION", value_parser = stakpak_config::duration::parse)]
    pub(crate) drain_timeout: Option<Duration>,
    /// How the log files are written [default: server.log_format of autopilot.toml, else text]
    #[arg(long, env = "STAKPAK_LOG_FORMAT", value_name = "FORMAT")]
    pub(crate) log_format: Option<LogFormat>,
    #[command(flatten)]
    pub(crate) detach: DetachArgs,
    /// Accepted for older scripts; this is how `up` runs
    #[arg(long, hide = true, conflicts_with = "detach")]
    pub(crate) foreground: bool,
    /// Accepted for older scripts; `up` never asks
    #[arg(long, hide = true)]
    pub(crate) non_interactive: bool,
}

/// What is shown in a line of its own.
fn one_line(text: &str) -> Result<String, &'static str> {
    let text = text.trim();
    match text.is_empty() || text.chars().any(char::is_control) {
        true => Err("must be one line, and not blank"),
        false => Ok(text.to_owned()),
    }
}
