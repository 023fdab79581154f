//! Logs: one file per part under `autopilot/logs`, warnings on the terminal too.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::Mutex,
};

use anyhow::{Context, Result};
use tracing_subscriber::{Layer, Registry, filter::FilterFn, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// Levels below this are left out; `STAKPAK_LOG` (`error` to `trace`) overrides it.
const LEVEL: tracing::Level = tracing::Level::INFO;

/// Logs to the files of `logs`, and warnings to stderr when `terminal`.
pub(crate) fn start(logs: &Path, terminal: bool) -> Result<()> {
    let level = std::env::var("STAKPAK_LOG").ok().and_then(|level| level.parse().ok()).unwrap_or(LEVEL);
    let mut layers: Vec<Box<dyn Layer<Registry> + Send + Sync>> = Vec::new();
    for name in ["server", "gateway", "scheduler"] {
        let writer = Mutex::new(open(&logs.join(format!("{name}.log")))?);
        let wanted = FilterFn::new(move |meta| part_of(meta.target()) == Some(name) && *meta.level() <= level);
        layers.push(fmt::layer().with_ansi(false).with_writer(writer).with_filter(wanted).boxed());
    }
    if terminal {
        let wanted = FilterFn::new(|meta| part_of(meta.target()).is_some() && *meta.level() <= tracing::Level::WARN);
        let shown = fmt::layer().with_writer(std::io::stderr).with_target(false).without_time();
        layers.push(shown.with_filter(wanted).boxed());
    }
    tracing_subscriber::registry().with(layers).init();
    Ok(())
}

/// Which log a line belongs to. Libraries are left out: some log bodies of requests.
fn part_of(target: &str) -> Option<&'static str> {
    if !target.starts_with("stakpak") {
        None
    } else if target.starts_with("stakpak_gateway") {
        Some("gateway")
    } else if target.starts_with("stakpak_scheduler") {
        Some("scheduler")
    } else {
        Some("server")
    }
}

fn open(path: &Path) -> Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))
}
