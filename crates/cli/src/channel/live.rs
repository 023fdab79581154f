//! The state of channels in the gateway that runs.

use std::time::Duration;

use serde_json::Value;

use crate::running::RunningGateway;

/// How long a running instance may take to read the file and to connect.
const PATIENCE: Duration = Duration::from_secs(6);
const PAUSE: Duration = Duration::from_millis(200);

/// The channels as the gateway shows them; none if it does not answer.
pub(super) async fn states(running: Option<&RunningGateway>) -> Option<Vec<Value>> {
    let body = running?.get("channels").await.ok()?;
    body["channels"].as_array().cloned()
}

pub(super) fn of<'a>(states: Option<&'a Vec<Value>>, channel: &str) -> Option<&'a Value> {
    states?.iter().find(|state| state["id"] == channel)
}

/// The state of a channel that the gateway did not have before, once it is more than `connecting`.
pub(super) async fn taken_up(running: &RunningGateway, channel: &str) -> Option<Value> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let state = of(states(Some(running)).await.as_ref(), channel).cloned();
        let is_settled = state.as_ref().is_some_and(|state| state["status"] != "connecting");
        if is_settled || tokio::time::Instant::now() > deadline {
            return state;
        }
        tokio::time::sleep(PAUSE).await;
    }
}
