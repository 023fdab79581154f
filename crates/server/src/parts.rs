//! Parts of the process that live beside the server and are asked how they go: scheduler, chat gateway, journal file.
//!
//! The server knows none of them; whoever puts the process together connects them.

use futures_util::future::BoxFuture;
use stakpak_protocol::CheckState;
use utoipa::openapi::OpenApi;

use crate::Measures;

/// What a part's state is shown as in `GET /v1/ready`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// `scheduler`.
    Scheduler,
    /// `channels`.
    Channels,
    /// `sandbox`.
    Sandbox,
}

/// A part of the process.
pub trait Part: Send + Sync {
    /// Its state, if it has a place among the checks. Asked at each request, without a token: must be cheap.
    fn check(&self) -> Option<(Check, CheckState)> {
        None
    }

    /// Adds its numbers to an answer of `GET /metrics`.
    fn measure<'a>(&'a self, measures: &'a mut Measures) -> BoxFuture<'a, ()> {
        let _ = measures;
        Box::pin(std::future::ready(()))
    }

    /// Its routes, with whole paths, as `GET /v1/openapi.json` tells of them beside the server's own. Asked once.
    fn document(&self) -> Option<OpenApi> {
        None
    }
}
