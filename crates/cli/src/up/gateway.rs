//! stub
use crate::home::Home;
use axum::Router;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
#[derive(Clone)]
pub(super) struct Mount;
impl Mount {
    pub(super) fn new(_: &Home, _: &str, _: Option<&str>, _: bool) -> Self {
        Self
    }
    pub(super) fn router(&self) -> Router {
        Router::new()
    }
    pub(super) fn start(&self, _: &TaskTracker, _: CancellationToken) {}
    pub(super) fn reload(&self) {}
    pub(super) async fn summary(&self) -> String {
        "none".into()
    }
}
