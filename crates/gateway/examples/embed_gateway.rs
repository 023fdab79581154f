//! The gateway in a program of one's own, as the README shows it. Ctrl-C stops it.
//!
//! It reads `~/.stakpak/gateway.toml`, else `~/.stakpak/autopilot.toml`, and talks to the server at `server.url`:
//!
//! ```sh
//! cargo run -p stakpak-gateway --example embed_gateway
//! ```

use stakpak_gateway::{Gateway, GatewayCliFlags, GatewayConfig};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cancel = CancellationToken::new();
    let stop = cancel.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            stop.cancel();
        }
    });

    let cli = GatewayCliFlags::default();
    let config = GatewayConfig::load_default(&cli)?;
    let gateway = Gateway::new(config)?;
    gateway.run(cancel).await?;
    Ok(())
}
