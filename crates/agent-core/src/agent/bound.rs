//! What a person says is bounded when it comes in: of a text that would fill the model, the whole goes into a file that the
//! agent can read, and its beginning and end into the conversation.

use stakpak_protocol::{Message, MessageContent, MessagePart};

use super::driver::Driver;
use crate::{
    context::{bytes_of, head_and_tail, window},
    session::Request,
};

/// Share of the window that one text may take.
const SHARE: u64 = 4;

impl Driver<'_> {
    /// Texts that cannot be kept in a file stay whole: nothing that was said is lost.
    pub(super) async fn bound(&self, request: &mut Request) {
        let (run, message) = match request {
            Request::Post { accepted, message, .. } => (Some(&**accepted), message),
            Request::Queue { message, .. } => (self.session.active().map(|run| &run.accepted), message),
            Request::Decide { .. }
            | Request::Cancel { .. }
            | Request::SwitchModel { .. }
            | Request::Change { .. }
            | Request::Delete => return,
        };
        let profile = run.and_then(|run| self.agent.profiles.profile(Some(&run.profile)).ok());
        let model = profile.zip(run).and_then(|(profile, run)| profile.models.resolve(&run.model).ok());
        let Some(model) = model else { return };
        let bytes = bytes_of(window(model.info()) / SHARE);
        for text in texts(message).into_iter().filter(|text| text.len() > bytes) {
            match self.agent.tools.keep_text(self.session.row.id, text.clone()).await {
                Ok(path) => {
                    let note = format!(
                        "of this text are left out here; the whole is in {} (use view with view_range or grep)",
                        path.display()
                    );
                    *text = head_and_tail(text, bytes.saturating_sub(note.len() + 64), &note);
                }
                Err(error) => {
                    tracing::warn!(%error, bytes = text.len(), "a long text could not be kept in a file");
                }
            }
        }
    }
}

fn texts(message: &mut Message) -> Vec<&mut String> {
    match &mut message.content {
        MessageContent::Text(text) => vec![text],
        MessageContent::Parts(parts) => parts
            .iter_mut()
            .filter_map(|part| match part {
                MessagePart::Text { text, .. } => Some(text),
                _ => None,
            })
            .collect(),
    }
}
