//! Long polling.

use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{
    Shared,
    calls::{Outcome, Refusal},
    params::Params,
};

/// Updates of one answer at most.
const BATCH: usize = 100;

pub(super) async fn get(shared: &Shared, params: &Params) -> Outcome {
    let offset = params.number("offset");
    let wait = Duration::from_secs(params.number("timeout").and_then(|wait| u64::try_from(wait).ok()).unwrap_or(0));
    let mut changed = shared.changed.subscribe();
    let poll = {
        let mut world = shared.world();
        world.polls += 1;
        world.offsets.push(offset);
        if world.webhook {
            let text = "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first";
            return Err(Refusal::new(StatusCode::CONFLICT, text));
        }
        if let Some(kinds) = params.get("allowed_updates").as_array() {
            let kinds: Vec<String> = kinds.iter().filter_map(Value::as_str).map(str::to_owned).collect();
            world.wanted = Some(kinds).filter(|kinds| !kinds.is_empty());
        }
        let before = |update: &mut Value| offset.is_some_and(|offset| update["update_id"].as_i64() < Some(offset));
        while let Some(update) = world.updates.pop_front_if(before) {
            world.confirmed.push(update);
        }
        world.polls
    };
    shared.change();
    let updates = async {
        loop {
            changed.borrow_and_update();
            {
                let world = shared.world();
                if world.polls != poll || world.contested {
                    return None;
                }
                let batch: Vec<Value> = world.updates.iter().take(BATCH).cloned().collect();
                if !batch.is_empty() {
                    return Some(batch);
                }
            }
            if changed.changed().await.is_err() {
                return Some(Vec::new());
            }
        }
    };
    match timeout(wait, updates).await {
        Ok(Some(batch)) => Ok(json!(batch)),
        Ok(None) => {
            let text =
                "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running";
            Err(Refusal::new(StatusCode::CONFLICT, text))
        }
        Err(_) => Ok(json!([])),
    }
}
