//! Files for the bot: named by id, told where they are, downloaded from there.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::{
    Shared,
    calls::{Outcome, Refusal},
    params::Params,
    world::World,
};

/// Bytes that bots can download, but from a server in local mode.
const LARGEST_DOWNLOAD: usize = 20 * 1024 * 1024;

pub(super) fn get(world: &mut World, params: &Params) -> Outcome {
    let id = params.text("file_id").unwrap_or_default();
    let file = world.files.get(id).cloned();
    let file = file.ok_or_else(|| Refusal::bad("wrong file_id or the file is temporarily unavailable"))?;
    let size = file.len();
    let path = match &world.local {
        Some(folder) => {
            let path = folder.join(id);
            std::fs::write(&path, &file).map_err(|error| Refusal::bad(error.to_string()))?;
            path.display().to_string()
        }
        None if size > LARGEST_DOWNLOAD => return Err(Refusal::bad("file is too big")),
        None => format!("documents/{id}"),
    };
    Ok(json!({ "file_id": id, "file_path": path, "file_size": size, "file_unique_id": id }))
}

pub(super) async fn download(
    State(shared): State<Arc<Shared>>,
    Path((_bot, path)): Path<(String, String)>,
) -> Response {
    let world = shared.world();
    let file = path.strip_prefix("documents/").and_then(|id| world.files.get(id));
    match file {
        Some(file) => file.clone().into_response(),
        None => Refusal::new(StatusCode::NOT_FOUND, "Not Found").into_response(),
    }
}
