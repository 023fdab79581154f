//! Logs: one file per part under `autopilot/logs`, warnings on the terminal too; spans to a collector when one is configured.
//!
//! A line carries the fields of the spans around it, so that request, session and run ids are on all that is logged for them.

mod rotated;
mod traces;

use std::{
    path::{Path, PathBuf},
    sync::Mutex,
};

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::Deserialize;
use tracing_subscriber::{
    Layer, Registry, filter::FilterFn, fmt, fmt::MakeWriter, layer::SubscriberExt, util::SubscriberInitExt,
};

pub(crate) use rotated::KEPT as KEPT_FILES;
use rotated::RotatedFile;
pub(crate) use traces::SECRET_VARIABLES;
use traces::Traces;

use crate::output;

/// Levels below this are left out; `STAKPAK_LOG` (`error` to `trace`) overrides it.
const LEVEL: tracing::Level = tracing::Level::INFO;

/// How lines are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    /// As it is given.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

type BoxedLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// What has to be ended with the process.
#[derive(Debug)]
pub(crate) struct Logging(Option<Traces>);

impl Logging {
    /// Logs to the files of `logs`, and warnings to stderr.
    pub(crate) fn start(logs: &Path, format: LogFormat) -> Result<Self> {
        let level = std::env::var("STAKPAK_LOG").ok().and_then(|level| level.parse().ok());
        let level = level.unwrap_or_else(|| output::level().map_or(LEVEL, |level| level.max(LEVEL)));
        let traces = Traces::from_environment();
        let mut layers: Vec<BoxedLayer> = Vec::new();
        for name in ["server", "gateway", "scheduler"] {
            let writer = Mutex::new(open(logs.join(format!("{name}.log")))?);
            // Spans whatever the level: their ids belong to what is logged inside.
            let wanted = FilterFn::new(move |meta| {
                part_of(meta.target()) == Some(name) && (meta.is_span() || *meta.level() <= level)
            });
            layers.push(lines(format, writer).with_filter(wanted).boxed());
        }
        layers.push(terminal(format));
        if let Ok(Some(traces)) = &traces {
            layers.push(traces.layer().boxed());
        }
        tracing_subscriber::registry().with(layers).init();
        let traces = traces.unwrap_or_else(|error| {
            tracing::warn!("no spans are exported: {error:#}");
            None
        });
        Ok(Self(traces))
    }

    /// Sends the last spans.
    pub(crate) async fn end(self) {
        if let Some(traces) = self.0 {
            traces.end().await;
        }
    }
}

/// For commands without log files: what `--verbose` and `--debug` ask for, on stderr.
pub(crate) fn on_terminal() {
    if output::level().is_some() {
        tracing_subscriber::registry().with(terminal(LogFormat::Text)).init();
    }
}

fn lines<W: for<'a> MakeWriter<'a> + Send + Sync + 'static>(format: LogFormat, writer: W) -> BoxedLayer {
    let layer = fmt::layer().with_ansi(false).with_writer(writer);
    match format {
        LogFormat::Text => layer.boxed(),
        LogFormat::Json => layer.json().flatten_event(true).with_current_span(false).boxed(),
    }
}

/// For people without ids, which the files have.
fn terminal(format: LogFormat) -> BoxedLayer {
    let is_json = format == LogFormat::Json;
    let level = output::level().unwrap_or(tracing::Level::WARN);
    let wanted = FilterFn::new(move |meta| {
        part_of(meta.target()).is_some() && (*meta.level() <= level || is_json && meta.is_span())
    });
    if is_json {
        return lines(format, std::io::stderr).with_filter(wanted).boxed();
    }
    let layer = fmt::layer().with_ansi(output::is_coloured(&std::io::stderr())).with_writer(std::io::stderr);
    layer.with_target(false).without_time().with_filter(wanted).boxed()
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

fn open(path: PathBuf) -> Result<RotatedFile> {
    let place = path.clone();
    RotatedFile::open(path, rotated::LIMIT).with_context(|| format!("cannot open {}", place.display()))
}
