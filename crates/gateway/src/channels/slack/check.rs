//! Whether tokens and scopes suffice, for `channel test`.

use super::SlackChannel;
use crate::{ChannelError, ChannelTestResult};

/// Without these the bot is mute or deaf somewhere.
const NEEDED: [&str; 11] = [
    "chat:write",
    "reactions:write",
    "channels:read",
    "groups:read",
    "im:read",
    "mpim:read",
    "channels:history",
    "groups:history",
    "im:history",
    "mpim:history",
    "app_mentions:read",
];
/// What is missing without each.
const OPTIONAL: [(&str, &str); 6] = [
    ("reactions:read", "reactions"),
    ("files:read", "attachments of people"),
    ("files:write", "long answers as files"),
    ("users:read", "names of people"),
    ("im:write", "messages to people by id"),
    ("commands", "the slash command"),
];

impl SlackChannel {
    /// Bot token, app token, scopes; the first that is not good is the error.
    pub(super) async fn check(&self) -> Result<ChannelTestResult, ChannelError> {
        let answered = self.api.auth_test().await.map_err(of_bot_token)?;
        self.api.check_app_token().await?;
        let (user, team) = (&answered.body["user"], &answered.body["team"]);
        let name = |value: &serde_json::Value| value.as_str().unwrap_or("?").to_owned();
        let scopes = match answered.scopes {
            None => "scopes unknown: the server does not tell them".to_owned(),
            Some(granted) => {
                let absent = |scope: &&str| !granted.iter().any(|granted| granted == scope);
                let missing: Vec<&str> = NEEDED.into_iter().filter(absent).collect();
                if !missing.is_empty() {
                    let scope = missing.join(", ");
                    return Err(ChannelError::MissingScope { host: self.api.host().to_owned(), scope });
                }
                let optional = OPTIONAL.into_iter().filter(|(scope, _)| absent(scope));
                let without: Vec<String> = optional.map(|(scope, what)| format!("{what} (`{scope}`)")).collect();
                if without.is_empty() {
                    "all scopes granted".to_owned()
                } else {
                    format!("works without {}", without.join(", "))
                }
            }
        };
        let identity = format!("@{}", name(user));
        let details = format!("workspace {} at {}; both tokens are good; {scopes}", name(team), self.api.host());
        Ok(ChannelTestResult { channel: "slack".into(), identity, details })
    }
}

pub(super) fn of_bot_token(error: ChannelError) -> ChannelError {
    match error {
        ChannelError::Unauthorized { host, reason } => {
            ChannelError::Unauthorized { host, reason: format!("`bot_token`: {reason}") }
        }
        other => other,
    }
}
