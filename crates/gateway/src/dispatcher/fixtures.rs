//! Conversations for unit tests: on a platform that is faked and a server of the test's own.

use std::{path::Path, sync::Arc};

use stakpak_client::StakpakClient;
use stakpak_redact::Redactor;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Conversations, Sent};
use crate::{
    Address, Channel, GatewayCliFlags, GatewayConfig, GatewayStore,
    approvals::{Approvals, Desk},
    clock::now_ms,
    delivery::{Deliveries, Sender},
    store::{Gate, OpenRun},
};

/// A configuration with every platform.
pub(super) fn config(directory: &Path, server: &str) -> GatewayConfig {
    let file = directory.join("autopilot.toml");
    let text = "[channels.telegram]\ntoken = \"1:x\"\n[channels.discord]\ntoken = \"x\"\n\
                [channels.slack]\nbot_token = \"xoxb-1\"\napp_token = \"xapp-1\"\n";
    std::fs::write(&file, text).unwrap();
    let config = GatewayConfig::load(file.as_path(), &GatewayCliFlags::default()).unwrap();
    config.with_server(server, "token")
}

pub(super) fn conversations(config: &GatewayConfig, channel: Arc<dyn Channel>) -> Conversations {
    let (store, redactor) = (GatewayStore::open_in_memory().unwrap(), Redactor::new(["x-secret"]).unwrap());
    let client = StakpakClient::new(&config.server.url, "token");
    let deliveries = Deliveries::new(Sender::new(store.clone(), &[channel], CancellationToken::new()));
    let gate = Arc::new(Gate::new(config));
    let desk = Desk::new(config, store.clone(), client.clone(), Arc::clone(&deliveries), redactor.clone(), gate);
    Conversations::new(config, store, client, deliveries, redactor, Approvals::new(desk))
}

/// A run that began just now, for a message of a chat.
pub(super) fn run(chat: &str) -> OpenRun {
    let direct = (!chat.starts_with('-')).then(|| chat.into());
    OpenRun {
        run_id: Uuid::from_u128(1).to_string(),
        session_id: Uuid::from_u128(2).to_string(),
        address: Address { channel: "telegram".into(), chat: chat.to_owned(), thread: None, direct },
        cursor: 0,
        started_at: now_ms(),
        question: None,
        requester: None,
        timeout_s: None,
        sent: Sent::default(),
        fresh: true,
    }
}
