//! The gateway as a part of `up`: mounted under `/v1/gateway/`, started again when it fails or its configuration changes.
//!
//! The mount stays while the gateway is away and answers 503 meanwhile.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Result, anyhow};
use axum::{
    Json, Router,
    extract::Request,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::any,
};
use serde_json::json;
use stakpak_gateway::{Gateway, GatewayConfig};
use stakpak_protocol::CheckState;
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use super::supervise::{Fault, Supervisor};
use crate::place::Place;

/// Where its routes are.
pub(super) const MOUNTED_AT: &str = "/v1/gateway";
/// What [`Mount::states`] says when nothing is configured.
pub(super) const NO_CHANNELS: &str = "no channels";

/// The place of the gateway in this process. A cheap handle.
#[derive(Clone)]
pub(crate) struct Mount(Arc<Inner>);

struct Inner {
    place: Place,
    /// Url and token of the server in this process; none: those of the file.
    server: Option<(String, String)>,
    /// A configuration without a token is refused.
    needs_token: bool,
    off: bool,
    phase: Mutex<Phase>,
    changed: Notify,
    supervisor: Supervisor,
}

/// Where the gateway stands.
#[derive(Clone)]
pub(super) enum Phase {
    /// Switched off.
    Off,
    /// Not yet there, or between two configurations.
    Starting,
    /// There.
    Running(Arc<Gateway>),
    /// It failed; it is started again.
    Failed,
}

impl Mount {
    pub(super) fn new(place: Place, url: &str, token: Option<&str>, off: bool) -> Self {
        Self(Arc::new(Inner {
            place,
            server: Some((url.to_owned(), token.unwrap_or_default().to_owned())),
            needs_token: false,
            off,
            phase: Mutex::new(if off { Phase::Off } else { Phase::Starting }),
            changed: Notify::new(),
            supervisor: Supervisor::new("gateway"),
        }))
    }

    /// In a process without a server.
    pub(crate) fn standalone(place: Place, needs_token: bool) -> Self {
        Self(Arc::new(Inner {
            place,
            server: None,
            needs_token,
            off: false,
            phase: Mutex::new(Phase::Starting),
            changed: Notify::new(),
            supervisor: Supervisor::new("gateway"),
        }))
    }

    /// Routes under `/v1/gateway/`; none when the gateway is switched off.
    pub(crate) fn router(&self) -> Router {
        if self.0.off {
            return Router::new();
        }
        let mount = self.clone();
        let forward = any(move |request: Request| async move { mount.answer(request).await });
        Router::new().nest(MOUNTED_AT, Router::new().fallback_service(forward.with_state(())))
    }

    pub(super) fn is_on(&self) -> bool {
        !self.0.off
    }

    async fn answer(&self, request: Request) -> Response {
        match self.gateway() {
            Some(gateway) => gateway.api_router().oneshot(request).await.unwrap_or_else(|never| match never {}),
            None => {
                let body =
                    json!({ "error": "dispatcher_unavailable", "message": "the gateway is starting or restarting" });
                (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
            }
        }
    }

    pub(crate) fn start(&self, tasks: &TaskTracker, stop: CancellationToken) {
        if self.0.off {
            return;
        }
        let mount = self.clone();
        tasks.spawn(async move {
            let part = || async { mount.run(&stop).await };
            mount.0.supervisor.run(stop.clone(), part).await;
        });
    }

    /// Returns, with the reason, when it failed too often.
    pub(crate) async fn gave_up(&self) -> String {
        self.0.supervisor.gave_up().await
    }

    /// What is told of it, which is in that state.
    pub(super) fn judge(&self, state: CheckState) -> CheckState {
        self.0.supervisor.judge(state)
    }

    /// The file that its tables are in.
    pub(super) fn file(&self) -> PathBuf {
        self.0.place.file()
    }

    /// Takes the file up anew.
    pub(super) fn reload(&self) {
        self.0.changed.notify_one();
    }

    /// Runs one gateway after the other, a new one whenever the file changes.
    async fn run(&self, stop: &CancellationToken) -> Result<(), Fault> {
        let _failed = FailedWhenDropped { mount: self, stop };
        while !stop.is_cancelled() {
            let config = self.config().map_err(Fault::Start)?;
            for finding in &config.findings {
                tracing::warn!(target: "stakpak_gateway", "{finding}");
            }
            let gateway = Arc::new(Gateway::open(config).await.map_err(|error| Fault::Start(error.into()))?);
            self.set(Phase::Running(Arc::clone(&gateway)));
            let cancel = stop.child_token();
            let running = gateway.run(cancel.clone());
            tokio::pin!(running);
            let ended = tokio::select! {
                ended = &mut running => ended,
                () = self.usable_change() => {
                    cancel.cancel();
                    running.await
                }
            };
            self.set(Phase::Starting);
            ended.map_err(|error| Fault::Work(error.into()))?;
            if !cancel.is_cancelled() {
                return Err(Fault::Work(anyhow!("the gateway ended by itself")));
            }
        }
        Ok(())
    }

    /// Returns when the file has changed into one that can be used.
    async fn usable_change(&self) {
        loop {
            self.0.changed.notified().await;
            match self.config() {
                Ok(_) => return,
                Err(error) => {
                    tracing::warn!("the gateway's tables are unusable, the last good ones stay in use: {error:#}");
                }
            }
        }
    }

    fn config(&self) -> Result<GatewayConfig> {
        let config = self.0.place.load()?;
        let config = match &self.0.server {
            Some((url, token)) => config.with_server(url, token),
            None => config,
        };
        if self.0.needs_token && config.server.token.expose().is_empty() {
            anyhow::bail!("server.token is blank, and the gateway's API can be reached from other machines");
        }
        Ok(config)
    }

    pub(super) fn phase(&self) -> Phase {
        self.0.phase.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn gateway(&self) -> Option<Arc<Gateway>> {
        match self.phase() {
            Phase::Running(gateway) => Some(gateway),
            Phase::Off | Phase::Starting | Phase::Failed => None,
        }
    }

    fn set(&self, phase: Phase) {
        *self.0.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
    }

    /// Channels and their state on one line.
    pub(super) fn states(&self) -> String {
        if self.0.off {
            return "gateway off".to_owned();
        }
        let config = match self.config() {
            Ok(config) => config,
            Err(error) => return format!("unusable configuration: {error:#}"),
        };
        let states = self.gateway().map(|gateway| gateway.health()).unwrap_or_default();
        let state = |name: &str| {
            states
                .iter()
                .find(|(id, _)| id.as_str() == name)
                .map_or_else(|| "starting".to_owned(), |(_, health)| health.status.to_string())
        };
        let enabled = config.enabled_channels().into_iter().map(|name| format!("{name} {}", state(name)));
        let disabled = config.channels.disabled.iter().map(|(name, _)| format!("{name} disabled"));
        let all: Vec<String> = enabled.chain(disabled).collect();
        if all.is_empty() { NO_CHANNELS.to_owned() } else { all.join(", ") }
    }
}

/// However a gateway ends, by error or panic: unless it was asked to, it has failed.
struct FailedWhenDropped<'a> {
    mount: &'a Mount,
    stop: &'a CancellationToken,
}

impl Drop for FailedWhenDropped<'_> {
    fn drop(&mut self) {
        self.mount.set(if self.stop.is_cancelled() { Phase::Starting } else { Phase::Failed });
    }
}
