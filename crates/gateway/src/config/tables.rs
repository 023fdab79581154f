//! The tables as they are written.

use std::fmt;

use serde::{Deserialize, Deserializer, de};
use stakpak_config::Secret;

use super::{BusyPolicy, DmPolicy, GroupPolicy, MessageWhilePending, Progress, Queued};
use crate::{ApprovalMode, DmScope};

/// `[server]` is shared: only the gateway's two keys are read here, the server's reader knows the rest.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Server {
    pub(super) url: Option<String>,
    pub(super) token: Option<Secret>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Gateway {
    pub(super) store: Option<String>,
    pub(super) model: Option<String>,
    pub(super) title_template: Option<String>,
    pub(super) delivery_context_ttl_hours: Option<u64>,
    pub(super) approval_mode: Option<ApprovalMode>,
    #[serde(default)]
    pub(super) approval_allowlist: Vec<String>,
    pub(super) prune_after_hours: Option<u64>,
    pub(super) approval_timeout_minutes: Option<u64>,
    pub(super) approval_route: Option<String>,
    #[serde(default)]
    pub(super) two_person: bool,
    #[serde(default)]
    pub(super) message_while_pending: MessageWhilePending,
    #[serde(default)]
    pub(super) busy_policy: BusyPolicy,
    #[serde(default)]
    pub(super) queued: Queued,
    pub(super) queue_limit: Option<u32>,
    pub(super) run_timeout_minutes: Option<u64>,
    pub(super) stale_after_minutes: Option<u64>,
    #[serde(default)]
    pub(super) progress: Progress,
    pub(super) long_reply_chunks: Option<usize>,
    pub(super) max_attachment_mb: Option<u64>,
    pub(super) catch_up_hours: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Routing {
    #[serde(default)]
    pub(super) dm_scope: DmScope,
    #[serde(default)]
    pub(super) bindings: Vec<BindingTable>,
}

#[derive(Debug, Deserialize)]
pub(super) struct BindingTable {
    pub(super) channel: String,
    pub(super) routing_key: String,
    pub(super) direct: Option<Id>,
    pub(super) group: Option<Id>,
}

/// The keys of all platforms; which of them have one is checked by its reader.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Channel {
    pub(super) token: Option<Secret>,
    pub(super) bot_token: Option<Secret>,
    pub(super) app_token: Option<Secret>,
    #[serde(default)]
    pub(super) local_mode: bool,
    #[serde(default)]
    pub(super) allow_external: bool,
    #[serde(default)]
    pub(super) guilds: Vec<Id>,
    #[serde(default)]
    pub(super) auto_thread: bool,
    pub(super) enabled: Option<bool>,
    pub(super) api_base_url: Option<String>,
    #[serde(default)]
    pub(super) insecure_api_base_url: bool,
    pub(super) require_mention: Option<bool>,
    #[serde(default, alias = "allow_from")]
    pub(super) allow_users: Vec<Id>,
    #[serde(default)]
    pub(super) allow_chats: Vec<Id>,
    #[serde(default)]
    pub(super) approvers: Vec<Id>,
    #[serde(default)]
    pub(super) dm_policy: DmPolicy,
    #[serde(default)]
    pub(super) group_policy: GroupPolicy,
    pub(super) profile: Option<String>,
    pub(super) model: Option<String>,
    pub(super) auto_approve: Option<Vec<String>>,
    #[serde(default)]
    pub(super) sandbox: Sandbox,
}

/// Isolation of the runs of a channel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Sandbox {
    #[default]
    Auto,
    On,
    Off,
}

/// An id of a platform, written as a string or as a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Id(pub(super) String);

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IdVisitor;
        impl de::Visitor<'_> for IdVisitor {
            type Value = Id;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an id as string or number")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Id, E> {
                Ok(Id(text.trim().to_owned()))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Id, E> {
                Ok(Id(number.to_string()))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Id, E> {
                Ok(Id(number.to_string()))
            }
        }
        deserializer.deserialize_any(IdVisitor)
    }
}
