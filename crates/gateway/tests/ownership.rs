//! A store and a bot token belong to one gateway at a time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::path::Path;

use stakpak_gateway::{Gateway, GatewayCliFlags, GatewayConfig, GatewayError, Ownership, OwnershipError};
use tokio_util::sync::CancellationToken;

/// A gateway's configuration in `home`; its platform is a port that nobody listens on.
fn config(home: &Path, store: &str, telegram_token: &str) -> GatewayConfig {
    let file = home.join(format!("{store}.toml"));
    let table = format!("[channels.telegram]\ntoken = \"{telegram_token}\"\napi_base_url = \"http://127.0.0.1:9\"\n");
    std::fs::write(&file, table).unwrap();
    let flags = GatewayCliFlags { store: Some(home.join(store)), ..GatewayCliFlags::default() };
    let mut config = GatewayConfig::load(file.as_path(), &flags).unwrap().with_server("http://127.0.0.1:9", "token");
    config.gateway.state_dir = home.join("state");
    config
}

async fn refused(config: GatewayConfig) -> OwnershipError {
    match Gateway::open(config).await.unwrap().run(CancellationToken::new()).await {
        Err(GatewayError::Owned(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// G-P53: a store in use is refused, by whatever path; so is a token in use, whatever store. What is refused keeps nothing.
#[tokio::test]
async fn a_second_gateway_on_the_same_store_or_token_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let (first, cancel) = (Gateway::open(config(home.path(), "a.db", "1:a")).await.unwrap(), CancellationToken::new());
    let stop = cancel.clone();
    let running = tokio::spawn(async move { first.run(stop).await });
    while Ownership::claim(&config(home.path(), "a.db", "1:other")).is_ok() {
        tokio::task::yield_now().await;
    }

    let same_store = refused(config(home.path(), "a.db", "1:b")).await;
    assert!(matches!(&same_store, OwnershipError::Store { process: Some(id), .. } if *id == std::process::id()));
    let said = same_store.to_string();
    assert!(said.contains("a.db is in use by another gateway (process") && said.contains("gateway.store"), "{said}");
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(home.path().join("a.db"), home.path().join("link.db")).unwrap();
        assert!(matches!(refused(config(home.path(), "link.db", "1:b")).await, OwnershipError::Store { .. }));
    }
    let same_token = refused(config(home.path(), "b.db", "1:a")).await;
    assert!(matches!(same_token, OwnershipError::Token { channel: "telegram", .. }), "{same_token:?}");
    assert!(!same_token.to_string().contains("1:a"), "{same_token}");
    drop(Ownership::claim(&config(home.path(), "b.db", "1:b")).unwrap());

    cancel.cancel();
    running.await.unwrap().unwrap();
    drop(Ownership::claim(&config(home.path(), "a.db", "1:a")).unwrap());
}
