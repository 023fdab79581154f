//! The session that a run belongs to: a new one, the one that is named, or the one that a checkpoint is of.

use anyhow::{Result, bail};
use stakpak_client::{CreateSessionOptions, PendingTools, Session, StakpakClient};
use uuid::Uuid;

use super::Connected;
use crate::args::RunArgs;

/// Characters of the prompt that name a new session.
const TITLE: usize = 80;

/// The session that the flags name, with the calls that wait in it.
pub(super) async fn named(client: &StakpakClient, args: &RunArgs) -> Result<Option<(Session, PendingTools)>> {
    let session = match (args.session, args.checkpoint) {
        (Some(session), _) => client.get_session(&session.to_string()).await?,
        (None, Some(checkpoint)) => of_checkpoint(client, checkpoint).await?,
        (None, None) => return Ok(None),
    };
    let pending = client.pending_tools(&session.id.to_string()).await?;
    Ok(Some((session, pending)))
}

pub(super) async fn new(server: &Connected, prompt: &str) -> Result<Session> {
    let title = prompt.lines().next().unwrap_or_default().chars().take(TITLE).collect();
    let cwd = Some(server.workdir.clone());
    Ok(server.client.create_session_with(CreateSessionOptions { title, cwd }).await?)
}

/// A checkpoint is the end of a session as it was at a pause or an end.
async fn of_checkpoint(client: &StakpakClient, checkpoint: Uuid) -> Result<Session> {
    let mut page = None;
    loop {
        let (sessions, next) = client.list_sessions_page(page.as_deref()).await?;
        for session in sessions {
            if session.checkpoint_id == Some(checkpoint) {
                return Ok(session);
            }
            if is_earlier(&session, checkpoint) {
                bail!(
                    "checkpoint {checkpoint} is not the end of its session any more, and going back is not possible; \
                     go on at the end with --session {}",
                    session.id
                );
            }
        }
        match next {
            Some(next) => page = Some(next),
            None => bail!("no session has the checkpoint {checkpoint}"),
        }
    }
}

/// Whether a checkpoint is one of this session's: they are made of the session and the place of the last message.
fn is_earlier(session: &Session, checkpoint: Uuid) -> bool {
    (0..session.message_count).any(|last| Uuid::new_v5(&session.id, last.to_string().as_bytes()) == checkpoint)
}
