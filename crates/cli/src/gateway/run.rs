//! `gateway run`: the gateway in a process of its own, next to a server anywhere, with its API on a listener of its own.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail};
use axum::{Json, Router, extract::DefaultBodyLimit, routing::get};
use serde_json::json;
use stakpak_client::StakpakClient;
use stakpak_config::Document;
use stakpak_gateway::{GatewayCliFlags, GatewayConfig, Ownership};
use stakpak_server::edge::{self, EdgePolicy};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    args::GatewayRunArgs,
    autopilot_file::AutopilotFile,
    channel::Desk,
    exit::Failure,
    instance::{Facts, Lock, Owner, Seat, explain_bind_error},
    logging::{LogFormat, Logging},
    place::Place,
    up::{StopSignals, gateway::Mount, watch},
};

/// Largest body of the gateway's API.
const MAX_BODY: usize = 1024 * 1024;
/// Texts on their way get five seconds; this is a little more.
const DRAIN: Duration = Duration::from_secs(8);

pub(super) async fn run(
    desk: Desk<'_>,
    named: Option<PathBuf>,
    args: GatewayRunArgs,
    started: std::time::Instant,
) -> Result<()> {
    let Desk { home, place, json, .. } = desk;
    let GatewayRunArgs { url, token, store, bind, require_server } = args;
    let place = place.with_flags(GatewayCliFlags { url, token, store, ..GatewayCliFlags::default() });
    let config = place.load()?;
    config.validate()?;
    refuse_open_api(&config, bind)?;
    let policy = edge_policy(&place, bind)?;
    if require_server {
        let client = StakpakClient::new(&config.server.url, config.server.token.expose());
        client.health().await.with_context(|| format!("the server at {} does not answer", config.server.url))?;
    }
    let Owner::Us(lock) = Lock::acquire_patiently(home, Seat::Gateway).await? else {
        bail!("a gateway runs on {} already", crate::home::Home::show(&home.autopilot("")));
    };
    // A look only: whoever has them, there is no use in starting. The gateway itself takes them.
    drop(Ownership::claim(&config)?);
    let listener = TcpListener::bind(bind).await.map_err(|error| explain_bind_error(bind, &error))?;
    let address = listener.local_addr()?;
    let logging = Logging::start(&home.logs(), LogFormat::default())?;
    for finding in &config.findings {
        eprintln!("{finding}");
    }

    let mut signals = StopSignals::new()?;
    let (stop, shutdown, tasks) = (CancellationToken::new(), CancellationToken::new(), TaskTracker::new());
    let mount = Mount::standalone(place, !bind.ip().is_loopback());
    let router = edge::wrap(router(&mount, started), policy, None);
    let serving = tokio::spawn(edge::serve(listener, router, edge::WRITE_STALL, shutdown.clone()));
    let url = format!("http://{address}");
    facts(&url, named).write_as(home, Seat::Gateway)?;
    mount.start(&tasks, stop.clone());
    watch::start_gateway(mount.clone(), &tasks, stop.clone());
    ready(json, &url, &config, started.elapsed());

    let gave_up = tokio::select! {
        () = signals.next() => None,
        why = mount.gave_up() => Some(why),
    };
    stop.cancel();
    tasks.close();
    if tokio::time::timeout(DRAIN, tasks.wait()).await.is_err() {
        tracing::warn!("the drain took too long; what is not sent is sent at the next start");
    }
    shutdown.cancel();
    serving.await.context("the listener's task failed")??;
    logging.end().await;
    Facts::remove_as(home, Seat::Gateway);
    drop(lock);
    gave_up.map_or(Ok(()), |why| bail!(why))
}

/// Without a token every route is open, which is for this machine only.
fn refuse_open_api(config: &GatewayConfig, bind: SocketAddr) -> Result<()> {
    if config.server.token.expose().is_empty() && !bind.ip().is_loopback() {
        bail!(Failure::Usage(format!(
            "--bind {bind} is refused without a token: give --token, set STAKPAK_GATEWAY_TOKEN, or write server.token"
        )));
    }
    Ok(())
}

/// `[server].allowed_hosts` and `allowed_origins` of the same file.
fn edge_policy(place: &Place, bind: SocketAddr) -> Result<EdgePolicy> {
    let server = Document::load(&place.file())?.map(|document| AutopilotFile::read(&document)).transpose()?;
    let mut policy = server.map_or_else(EdgePolicy::default, |file| EdgePolicy {
        allowed_hosts: file.server.allowed_hosts,
        allowed_origins: file.server.allowed_origins,
    });
    policy.allowed_hosts.push(bind.ip().to_string());
    Ok(policy)
}

fn router(mount: &Mount, started: std::time::Instant) -> Router {
    let health = move || async move {
        let uptime = started.elapsed().as_secs();
        Json(json!({ "status": "ok", "uptime_seconds": uptime, "version": env!("CARGO_PKG_VERSION") }))
    };
    Router::new().route("/v1/health", get(health)).merge(mount.router()).layer(DefaultBodyLimit::max(MAX_BODY))
}

fn facts(url: &str, config: Option<PathBuf>) -> Facts {
    Facts {
        pid: std::process::id(),
        started_at: chrono::Utc::now(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        url: url.to_owned(),
        mode: "gateway".to_owned(),
        profile: String::new(),
        service: None,
        config,
        restart_required: Vec::new(),
    }
}

fn ready(json: bool, url: &str, config: &GatewayConfig, took: Duration) {
    let channels = config.enabled_channels();
    if json {
        let ready = json!({ "channels": channels, "event": "ready", "pid": std::process::id(),
            "ready_ms": took.as_millis(), "server": config.server.url, "url": url });
        say!("{ready}");
        return;
    }
    say!("stakpak gateway {} is ready on {url} ({} ms)", env!("CARGO_PKG_VERSION"), took.as_millis());
    say!("  server     {}", config.server.url);
    say!("  channels   {}", channels.join(", "));
    say!("Ctrl-C stops it and loses nothing.");
}
