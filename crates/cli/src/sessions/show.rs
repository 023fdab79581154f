//! `sessions show`: messages, the window anchored at the newest end.

use anyhow::{Result, bail};
use stakpak_client::{Message, Session, StakpakClient};
use stakpak_protocol::Role;
use uuid::Uuid;

use super::{as_json, backend, failed};
use crate::{args::Global, exit::Failure, run::Connected};

/// Messages of one request.
const PAGE: usize = 100;
/// Characters of an id that are enough.
const PREFIX: usize = 8;

pub(super) async fn run(
    server: &Connected,
    global: &Global,
    id: &str,
    role: Option<&str>,
    limit: usize,
    offset: usize,
) -> Result<()> {
    let role = role.map(parse).transpose()?;
    let session = named(&server.client, id).await?;
    let mut messages = all(&server.client, &session).await?;
    messages.retain(|message| role.is_none_or(|role| message.role == role));
    let end = messages.len().saturating_sub(offset);
    let begin = if limit == 0 { 0 } else { end.saturating_sub(limit) };
    let messages = &messages[begin..end];
    if global.json {
        let mut answer = as_json(&session);
        answer["messages"] = serde_json::to_value(messages)?;
        answer["backend"] = backend(&server.home, global);
        say!("{answer}");
        return Ok(());
    }
    say!("{}  {}", session.id, session.title);
    for message in messages {
        let role = serde_json::to_value(message.role)?;
        say!("\n{}:\n{}", role.as_str().unwrap_or("?"), text(message)?);
    }
    Ok(())
}

fn parse(role: &str) -> Result<Role, Failure> {
    let wrong = |_| Failure::Usage(format!("--role {role}: use user, assistant, tool or system"));
    serde_json::from_value(role.into()).map_err(wrong)
}

/// Texts and results as they are, calls as the tool and its arguments, anything else as JSON.
fn text(message: &Message) -> Result<String> {
    let content = serde_json::to_value(&message.content)?;
    let Some(parts) = content.as_array() else {
        return Ok(content.as_str().map_or_else(|| content.to_string(), str::to_owned));
    };
    let shown =
        parts.iter().map(|part| match (part["text"].as_str(), part["content"].as_str(), part["name"].as_str()) {
            (Some(text), _, _) | (None, Some(text), _) => text.to_owned(),
            (None, None, Some(tool)) => format!("{tool} {}", part["arguments"]),
            (None, None, None) => part.to_string(),
        });
    Ok(shown.collect::<Vec<_>>().join("\n"))
}

/// The session of this id, or the only one whose id begins so.
async fn named(client: &StakpakClient, id: &str) -> Result<Session> {
    if let Ok(id) = id.parse::<Uuid>() {
        return client.get_session(&id.to_string()).await.map_err(|error| failed(&error));
    }
    let prefix = id.to_lowercase();
    if prefix.len() < PREFIX || !prefix.chars().all(|letter| letter.is_ascii_hexdigit() || letter == '-') {
        bail!(Failure::Usage(format!("{id} is not the id of a session, nor its first {PREFIX} characters")));
    }
    let (mut found, mut page) = (Vec::new(), None);
    loop {
        let (sessions, next) = client.list_sessions_page(page.as_deref()).await.map_err(|error| failed(&error))?;
        found.extend(sessions.into_iter().filter(|session| session.id.to_string().starts_with(&prefix)));
        page = next;
        if page.is_none() {
            break;
        }
    }
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => bail!(Failure::Named { code: "not_found", text: format!("no session begins with {id}") }),
        _ => bail!(Failure::Usage(format!("several sessions begin with {id}; give more of the id"))),
    }
}

async fn all(client: &StakpakClient, session: &Session) -> Result<Vec<Message>> {
    let mut messages = Vec::new();
    loop {
        let page =
            client.get_messages(&session.id.to_string(), PAGE, messages.len()).await.map_err(|error| failed(&error))?;
        let is_last = page.messages.is_empty();
        messages.extend(page.messages);
        if is_last || messages.len() >= page.total {
            return Ok(messages);
        }
    }
}
