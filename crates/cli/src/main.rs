//! The `stakpak` binary: the composition root, and the only place that names concrete implementations.

#[cfg(all(feature = "campaign", not(debug_assertions)))]
compile_error!(
    "the feature `campaign` lets a file set the clock: build it with the profile `campaign`, never for a release"
);

#[macro_use]
mod output;

mod access;
mod agent_server;
mod allocator;
mod args;
mod auth;
mod autopilot_file;
mod backup;
mod channel;
mod chat;
mod comments;
mod config;
mod doctor;
mod exit;
mod gateway;
mod health;
mod home;
mod init;
mod instance;
mod journal_file;
mod logging;
mod logs;
mod mcp;
mod notifier;
mod offline;
mod place;
mod profiles;
mod run;
mod running;
mod sandbox;
mod schedule;
mod secrets;
mod service;
mod sessions;
mod status;
mod tasks;
mod up;

use std::{
    ffi::OsString,
    io::IsTerminal,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::{ColorChoice, CommandFactory, FromArgMatches};

use args::{AutopilotCommand, AutopilotTree, Cli, Command, Global};
use home::Home;

/// How long a thread for blocking work waits for more; with it goes what its work left on it. They take turns, so that even
/// looking at the files now and then keeps all of them if this is long.
const SPARE_THREADS: Duration = Duration::from_millis(600);

fn main() -> ExitCode {
    if tasks::is_shim() {
        return stakpak_tools::run_task_shim();
    }
    let started = Instant::now();
    let arguments = match args::root::arguments(&Cli::command(), std::env::args_os().collect()) {
        Ok(arguments) => arguments,
        Err(error) => return exit::report(&error.into(), std::env::args_os().any(|argument| argument == "--json")),
    };
    let cli = parse(arguments);
    let json = cli.global.json;
    output::set(&cli.global);
    if !starts_a_log(cli.command.as_ref()) {
        logging::on_terminal();
    }
    // Two TLS providers may end up in the graph; the first client would panic without a choice.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_keep_alive(SPARE_THREADS).build();
    let result = runtime.context("the async runtime cannot start").and_then(|runtime| {
        let result = runtime.block_on(dispatch(cli, started));
        // A thread that waits for the terminal must not hold up the exit.
        runtime.shutdown_background();
        result
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::report(&error, json),
    }
}

/// As clap's own `parse`, and its help without colours where nobody wants them.
fn parse(arguments: Vec<OsString>) -> Cli {
    let is_plain = arguments.iter().any(|argument| argument == "--no-color");
    let colour = if is_plain { ColorChoice::Never } else { ColorChoice::Auto };
    let matches = Cli::command().color(colour).get_matches_from(arguments);
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

/// Commands with log files of their own.
fn starts_a_log(command: Option<&Command>) -> bool {
    matches!(
        command,
        Some(
            Command::Autopilot(AutopilotCommand::Up(_))
                | Command::AutopilotTree(AutopilotTree::Shortcut(AutopilotCommand::Up(_)))
                | Command::Serve(_)
                | Command::Gateway(_)
        )
    )
}

async fn dispatch(cli: Cli, started: Instant) -> Result<()> {
    let Cli { global, command } = cli;
    let Some(command) = command else {
        if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
            return chat::run(&global, args::ChatArgs::default()).await;
        }
        let help = Cli::command().render_help();
        return Err(exit::Failure::Usage(format!("nothing to do\n\n{help}")).into());
    };
    match command {
        Command::Autopilot(command) | Command::AutopilotTree(AutopilotTree::Shortcut(command)) => {
            autopilot(&global, command, started).await
        }
        Command::AutopilotTree(AutopilotTree::Init(args)) => init::run(&global, &args).await,
        Command::Serve(args) => up::serve(&global, args, started).await,
        Command::Gateway(command) => gateway::run(&global, command, started).await,
        Command::Run(args) => run::run(&global, *args).await,
        Command::Init { non_interactive: true, .. } => Err(exit::Failure::Usage(
            "`stakpak init` is one run that looks at this machine; the set-up is: stakpak autopilot init --non-interactive"
                .to_owned(),
        )
        .into()),
        Command::Init { run, .. } => run::map_machine(&global, *run).await,
        Command::Set { machine_name } => {
            let home = Home::open(global.home.clone(), global.config.clone())?;
            config::set_key(&home, &global, "settings.machine_name", &machine_name)
        }
        Command::Chat(args) => chat::run(&global, args).await,
        Command::Sessions(command) => sessions::run(&global, command).await,
        Command::Config { command } => {
            let home = Home::open(global.home.clone(), global.config.clone())?;
            config::run(&home, &global, command.unwrap_or_default())
        }
        Command::Auth(command) => auth::run(&global, command),
        Command::Mcp(command) => mcp::run(&global, command).await,
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "stakpak", &mut script);
            Ok(std::io::Write::write_all(&mut std::io::stdout(), &script)?)
        }
        Command::Version => {
            say!("stakpak {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
    }
}

async fn autopilot(global: &Global, command: AutopilotCommand, started: Instant) -> Result<()> {
    let home = || Home::open(global.home.clone(), global.config.clone());
    match command {
        AutopilotCommand::Up(args) => up::run(global, args, started).await,
        AutopilotCommand::Down(args) => service::down(global, &args).await,
        AutopilotCommand::Restart => service::restart(global).await,
        AutopilotCommand::Logs(args) => logs::run(&home()?, global.json, &args).await,
        AutopilotCommand::Backup(args) => backup::run(&home()?, global.json, args).await,
        AutopilotCommand::Doctor(args) => doctor::run(&home()?, global, &args).await,
        AutopilotCommand::Status(args) => status::run(global, &args).await,
        AutopilotCommand::Schedule(command) => schedule::run(&home()?, global, command).await,
        AutopilotCommand::Channel(command) => {
            let home = home()?;
            channel::run(&channel::Desk::of_up(&home, global.json), global, command).await
        }
    }
}
