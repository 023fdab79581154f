//! What runs tell on their way, brought to the gateway of this process: it keeps a message durably before it answers.

use async_trait::async_trait;
use stakpak_client::{GatewaySend, StakpakClient};
use stakpak_tools::{Notice, Notifier, Unsent};

/// By the route that schedules use too.
#[derive(Debug)]
pub(crate) struct OfGateway(StakpakClient);

impl OfGateway {
    /// Of the server that the gateway is mounted on.
    pub(crate) fn new(client: StakpakClient) -> Self {
        Self(client)
    }
}

#[async_trait]
impl Notifier for OfGateway {
    async fn send(&self, notice: &Notice) -> Result<(), Unsent> {
        let send = GatewaySend {
            channel: notice.route.channel.clone(),
            target: notice.route.target.clone().into(),
            text: notice.text.clone(),
            context: None,
            interactive: None,
        };
        match self.0.with_idempotency_key(&notice.key).gateway_send(&send).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() => {
                Err(Unsent("no chat gateway runs here; say it in your answer".to_owned()))
            }
            Err(error) => Err(Unsent(format!("the gateway: {error}"))),
        }
    }
}
