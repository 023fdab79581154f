//! Spans for an OpenTelemetry collector, over OTLP, when the standard variables name one.
//!
//! Not configured, it is not there: no thread, no layer. Spans hold ids, names and numbers. A collector that is away costs
//! spans, never requests: they wait in a bounded queue on a thread of their own.

use std::{
    env,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use axum::http::{Request, Response};
use opentelemetry::{KeyValue, trace::TracerProvider};
use opentelemetry_http::{Bytes, HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    resource::{EnvResourceDetector, TelemetryResourceDetector},
    trace::SdkTracerProvider,
};
use tokio::runtime::Handle;
use tracing::Subscriber;
use tracing_subscriber::{Layer, filter::FilterFn, registry::LookupSpan};

/// Longest answer of a collector: the default of the specification.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long the last spans may hold up the end of the process.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// Variables that may hold a key of the collector.
pub(crate) const SECRET_VARIABLES: [&str; 2] = ["OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"];

/// The export.
#[derive(Debug)]
pub(super) struct Traces(SdkTracerProvider);

impl Traces {
    /// None unless a variable names a collector.
    ///
    /// # Errors
    /// When a variable cannot be used.
    pub(super) fn from_environment() -> Result<Option<Self>> {
        let is_off = set("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
            || set("OTEL_TRACES_EXPORTER").is_some_and(|value| value == "none");
        let endpoint = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"].into_iter().find_map(set);
        if is_off || endpoint.is_none() {
            return Ok(None);
        }
        let protocol = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"].into_iter().find_map(set);
        if let Some(protocol) = protocol.filter(|protocol| protocol != "http/protobuf") {
            bail!("OTEL_EXPORTER_OTLP_PROTOCOL is {protocol}: only http/protobuf is spoken");
        }
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Client::new()?)
            .build()
            .context("the OTEL_EXPORTER_OTLP variables cannot be used")?;
        Ok(Some(Self(SdkTracerProvider::builder().with_resource(resource()).with_batch_exporter(exporter).build())))
    }

    /// Takes our spans. Lines of the log are left out: their texts are for the log alone.
    pub(super) fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(&self) -> impl Layer<S> + use<S> {
        let layer = tracing_opentelemetry::layer().with_tracer(self.0.tracer("stakpak"));
        let layer = layer.with_location(false).with_threads(false).with_target(false).with_tracked_inactivity(false);
        let ours = FilterFn::new(|meta| meta.is_span() && meta.target().starts_with("stakpak"));
        layer.with_context_activation(false).with_filter(ours)
    }

    /// Sends what is left.
    pub(super) async fn end(self) {
        let sent = tokio::task::spawn_blocking(move || self.0.shutdown_with_timeout(LAST_SPANS)).await;
        if let Ok(Err(error)) = sent {
            tracing::warn!(%error, "the last spans are lost");
        }
    }
}

/// What the variables say wins.
fn resource() -> Resource {
    let known = Resource::builder_empty()
        .with_service_name("stakpak")
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_detectors(&[Box::new(TelemetryResourceDetector), Box::new(EnvResourceDetector::new())]);
    match set("OTEL_SERVICE_NAME") {
        Some(name) => known.with_service_name(name).build(),
        None => known.build(),
    }
}

/// An empty variable counts as absent, says the specification.
fn set(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.trim().is_empty())
}

/// Sends on the process's runtime: the exporter's thread has none.
#[derive(Debug)]
struct Client {
    http: reqwest::Client,
    runtime: Handle,
    is_lost: AtomicBool,
}

impl Client {
    fn new() -> Result<Self> {
        let http = reqwest::Client::builder().timeout(PATIENCE).build().context("no HTTP client for traces")?;
        Ok(Self { http, runtime: Handle::current(), is_lost: AtomicBool::new(false) })
    }

    /// Once for each time that the collector is lost.
    fn tell(&self, result: &Result<Response<Bytes>, HttpError>) {
        let problem = match result {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(response.status().to_string()),
            Err(error) => Some(error.to_string()),
        };
        let was_lost = self.is_lost.swap(problem.is_some(), Ordering::Relaxed);
        match problem {
            Some(error) if !was_lost => tracing::warn!(error, "spans cannot be exported; tried again with the next"),
            None if was_lost => tracing::info!("spans are exported again"),
            _ => {}
        }
    }
}

#[async_trait::async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let sending = self.runtime.spawn(send(self.http.clone(), request));
        let result = match sending.await {
            Ok(result) => result,
            Err(ended) => Err(ended.into()),
        };
        self.tell(&result);
        result
    }
}

async fn send(http: reqwest::Client, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
    // The address may hold a key.
    let response = http.execute(request.try_into()?).await.map_err(reqwest::Error::without_url)?;
    let mut answer = Response::new(Bytes::new());
    *answer.status_mut() = response.status();
    *answer.headers_mut() = response.headers().clone();
    *answer.body_mut() = response.bytes().await?;
    Ok(answer)
}
