//! What the agent said, read from the recorded history once its run has ended.

use stakpak_client::{ClientError, StakpakClient};
use stakpak_protocol::{Role, SessionId};

use crate::agent::retry::{Backoff, is_transient};

const PAGE: usize = 500;
/// Then the run is reported without its text rather than not at all.
const ATTEMPTS: u32 = 8;

/// The agent's words in a session that holds one run.
#[derive(Debug, Default)]
pub(super) struct Transcript {
    /// Every text, a line break between two.
    pub(super) text: String,
    /// The last one.
    pub(super) last: Option<String>,
}

/// Empty when the history cannot be read.
pub(super) async fn read(client: &StakpakClient, session: SessionId) -> Transcript {
    let mut backoff = Backoff::new();
    for _ in 0..ATTEMPTS {
        match read_once(client, session).await {
            Ok(transcript) => return transcript,
            Err(error) if is_transient(&error) => backoff.wait(Some(&error)).await,
            Err(error) => {
                tracing::warn!(%session, %error, "the history of an ended run cannot be read");
                break;
            }
        }
    }
    Transcript::default()
}

async fn read_once(client: &StakpakClient, session: SessionId) -> Result<Transcript, ClientError> {
    let mut texts = Vec::new();
    let mut offset = 0;
    loop {
        let page = client.get_messages(&session.to_string(), PAGE, offset).await?;
        offset += page.messages.len();
        let ended = page.messages.is_empty() || offset >= page.total;
        let spoken =
            page.messages.iter().filter(|message| message.role == Role::Assistant).map(|message| message.text());
        texts.extend(spoken.filter(|text| !text.trim().is_empty()));
        if ended {
            return Ok(Transcript { text: texts.join("\n"), last: texts.pop() });
        }
    }
}
