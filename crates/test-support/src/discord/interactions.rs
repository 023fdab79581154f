//! Presses of buttons: the answer within 3 seconds, and the messages after it.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::IntoResponse,
};
use serde_json::{Value, json};

use super::{
    FakeDiscord, Shared,
    people::blank_message,
    record::{Followup, InteractionAnswer},
    rest::{Answer, Refusal, ok},
};

/// After this an interaction that nobody answered is shown as failed.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// For as long messages may follow.
const FOLLOW_UP_WITHIN: Duration = Duration::from_secs(15 * 60);
/// The flag of a message that only one person sees.
const EPHEMERAL: u64 = 1 << 6;

pub(super) async fn answer(
    State(shared): State<Arc<Shared>>,
    Path((id, token)): Path<(u64, String)>,
    Json(body): Json<Value>,
) -> Answer {
    shared.update(|state| {
        let interaction = state.world.interactions.get_mut(&id).filter(|interaction| interaction.token == token);
        let interaction = interaction.ok_or(Refusal::UNKNOWN_INTERACTION)?;
        if interaction.answered {
            return Err(Refusal::ALREADY_ANSWERED);
        }
        let after = interaction.at.elapsed();
        if after > ANSWER_WITHIN {
            return Err(Refusal::UNKNOWN_INTERACTION);
        }
        let kind = body["type"].as_u64().filter(|kind| (4..=7).contains(kind)).ok_or(Refusal::INVALID_FORM)?;
        interaction.answered = true;
        state.record.answers.push(InteractionAnswer { interaction: id, kind, after });
        if kind == 4 {
            state.record.followups.push(followup(id, &body["data"]));
        }
        Ok(StatusCode::NO_CONTENT.into_response())
    })
}

pub(super) async fn follow_up(
    State(shared): State<Arc<Shared>>,
    Path((application, token)): Path<(u64, String)>,
    Json(body): Json<Value>,
) -> Answer {
    shared.update(|state| {
        let found = state.world.interactions.iter().find(|(_, interaction)| interaction.token == token);
        let (id, interaction) = found.ok_or(Refusal::UNKNOWN_WEBHOOK)?;
        let alive = interaction.answered && interaction.at.elapsed() < FOLLOW_UP_WITHIN;
        if application != FakeDiscord::APPLICATION || !alive {
            return Err(Refusal::UNKNOWN_WEBHOOK);
        }
        super::messages::validate(&body, 0)?;
        state.record.followups.push(followup(*id, &body));
        let message_id = state.world.next_id();
        let mut message = blank_message(message_id, 0, &state.world.user(FakeDiscord::BOT));
        message["content"] = json!(body["content"]);
        Ok(ok(&message))
    })
}

fn followup(interaction: u64, message: &Value) -> Followup {
    let ephemeral = message["flags"].as_u64().unwrap_or_default() & EPHEMERAL != 0;
    Followup { interaction, content: message["content"].as_str().unwrap_or_default().to_owned(), ephemeral }
}
