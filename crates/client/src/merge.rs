//! Many messages to one: a POST carries a single message.

use stakpak_protocol::{Message, MessageContent, MessagePart, Role};

use crate::ClientError;

/// One message goes as it is. Several must be user messages; their parts follow each other in order.
pub(crate) fn merged(mut messages: Vec<Message>) -> Result<Message, ClientError> {
    if messages.len() > 1 && messages.iter().any(|message| message.role != Role::User) {
        return Err(ClientError::InvalidArgument("only user messages can be sent together"));
    }
    if messages.len() == 1
        && let Some(message) = messages.pop()
    {
        return Ok(message);
    }
    let Some(name) = messages.first().map(|message| message.name.clone()) else {
        return Err(ClientError::InvalidArgument("there is no message to send"));
    };
    let name = name.filter(|name| messages.iter().all(|message| message.name.as_ref() == Some(name)));
    let parts = messages.into_iter().flat_map(into_parts).collect();
    Ok(Message { name, ..Message::new(Role::User, MessageContent::Parts(parts)) })
}

/// Options of a message mean its end, so they move to its last part.
fn into_parts(message: Message) -> Vec<MessagePart> {
    let mut parts = match message.content {
        MessageContent::Text(text) => vec![MessagePart::text(text)],
        MessageContent::Parts(parts) => parts,
    };
    if let Some(last) = parts.last_mut() {
        let (MessagePart::Text { provider_options, .. }
        | MessagePart::Image { provider_options, .. }
        | MessagePart::ToolCall { provider_options, .. }
        | MessagePart::ToolResult { provider_options, .. }) = last;
        *provider_options = provider_options.take().or(message.provider_options);
    }
    parts
}
