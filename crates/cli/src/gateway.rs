//! `stakpak gateway …`: the gateway on its own, and what its operator does.

mod approvals;
mod init;
mod outbox;
mod run;

use anyhow::{Result, bail};

use crate::{
    access,
    args::{GatewayCommand, Global},
    channel::{self, Desk},
    exit::Failure,
    home::Home,
    place::Place,
};

pub(crate) async fn run(global: &Global, command: GatewayCommand, started: std::time::Instant) -> Result<()> {
    // `--config` is the gateway's file here, not that of the profiles.
    let home = Home::open(global.home.clone(), None)?;
    let named = global.config.as_deref().map(std::path::absolute).transpose()?;
    let is_new = matches!(command, GatewayCommand::Init(_) | GatewayCommand::Channels(_));
    if let Some(named) = named.as_ref().filter(|named| !is_new && !named.exists()) {
        bail!(Failure::Usage(format!("--config {}: there is no such file", named.display())));
    }
    let place = Place::standalone(&home, named.as_deref());
    let desk = Desk { home: &home, place, json: global.json, name: "gateway.channels" };
    match command {
        GatewayCommand::Init(args) => init::run(&desk, named, &args).await,
        GatewayCommand::Run(args) => run::run(desk, named, args, started).await,
        GatewayCommand::Channels(command) => channel::run(&desk, global, command).await,
        GatewayCommand::Pair(command) => access::pair(&desk, command).await,
        GatewayCommand::Access(command) => access::access(&desk, command).await,
        GatewayCommand::Approvals(command) => approvals::run(&desk, command).await,
        GatewayCommand::Outbox(command) => outbox::run(&desk, command).await,
    }
}
