//! `stakpak sessions …`: reading what was said, by the running instance or by a server of our own.

mod list;
mod show;

use anyhow::Result;
use serde_json::{Value, json};
use stakpak_client::{ClientError, Session};
use stakpak_protocol::ErrorCode;

use crate::{
    args::{Global, SessionsCommand},
    exit::Failure,
    home::Home,
    run::Connected,
};

pub(crate) async fn run(global: &Global, command: SessionsCommand) -> Result<()> {
    let server = Connected::new(global).await?;
    let result = match &command {
        SessionsCommand::List { search, limit, offset } => {
            list::run(&server, global, search.as_deref(), *limit, *offset).await
        }
        SessionsCommand::Show { id, role, limit, offset } => {
            show::run(&server, global, id, role.as_deref(), *limit, *offset).await
        }
    };
    server.end().await;
    result
}

/// Where the sessions are.
fn backend(home: &Home, global: &Global) -> Value {
    json!({ "kind": "local", "profile": global.profile, "store_path": home.autopilot("journal.db") })
}

/// What listing and showing have in common.
fn as_json(session: &Session) -> Value {
    json!({
        "id": session.id,
        "title": session.title,
        "visibility": session.visibility,
        "status": session.status,
        "cwd": session.cwd,
        "created_at": session.created_at,
        "updated_at": session.updated_at,
        "message_count": session.message_count,
        "active_checkpoint_id": session.checkpoint_id,
        "last_message_at": (session.message_count > 0).then_some(session.updated_at),
    })
}

/// An error with the word that scripts know it by.
fn failed(error: &ClientError) -> anyhow::Error {
    let code = match error {
        ClientError::Server(answer) => match answer.code {
            ErrorCode::NotFound => "not_found",
            ErrorCode::Unauthorized => "unauthorized",
            ErrorCode::RateLimited => "rate_limited",
            ErrorCode::InvalidRequest => return Failure::Usage(error.to_string()).into(),
            _ => "internal_error",
        },
        ClientError::Transport { .. } => "connection_error",
        ClientError::InvalidArgument(_) => return Failure::Usage(error.to_string()).into(),
        _ => "internal_error",
    };
    Failure::Named { code, text: error.to_string() }.into()
}
