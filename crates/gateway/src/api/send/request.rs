//! The body of `POST /send`, and what may stand in it.

use axum::{
    Json,
    body::Bytes,
    extract::rejection::BytesRejection,
    http::{HeaderMap, StatusCode, header},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use stakpak_client::CallerContextInput;
use stakpak_protocol::{AutoApproveOverride, RunLimits, RunOverrides};
use utoipa::ToSchema;

use super::invalid;
use crate::{
    Address, Channel, StoreError, api::ApiError, dispatcher::safe_name, store::RunOptions, targeting::parse_target,
};

/// Largest body; without files it is [`MAX_PLAIN_BODY`].
pub(in crate::api) const MAX_BODY: usize = 32 * 1024 * 1024;
const MAX_PLAIN_BODY: usize = 1024 * 1024;
const MAX_FILES: usize = 10;
const MAX_PROMPT: usize = 32 * 1024;
const MAX_CONTEXT_ITEMS: usize = 50;
const MAX_CONTEXT_NAME: usize = 256;
const MAX_CONTEXT_PRIORITY: usize = 32;
const MAX_CONTEXT_ITEM: usize = 10 * 1024;
const MAX_TOTAL: usize = 100 * 1024;
const MAX_TURNS: u64 = 256;
const MAX_TIMEOUT_S: u64 = 30 * 24 * 3600;

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct SendRequest {
    /// `telegram`, `slack` or `discord`.
    pub(super) channel: String,
    /// Telegram: `chat_id`, `thread_id`; Discord: `channel_id` (also of a thread or a person), `thread_id`; Slack: `channel`
    /// (an id, `#name`, or the id of a person), `thread_ts`.
    #[schema(value_type = Object)]
    target: Value,
    /// Markdown, not blank.
    pub(super) text: String,
    /// What the next run of that chat is told.
    #[serde(default)]
    pub(super) context: Option<Value>,
    /// The run to start.
    #[serde(default)]
    pub(super) interactive: Option<Interactive>,
    /// At most 10.
    #[serde(default)]
    attachments: Option<Vec<Attachment>>,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = SendAttachment)]
struct Attachment {
    filename: String,
    /// Platforms look at the content themselves.
    #[serde(default)]
    mime_type: Option<String>,
    data_base64: String,
}

/// A run that answers in the chat.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = InteractiveSend)]
pub(super) struct Interactive {
    /// 1 byte to 32 KiB, not blank.
    pub(super) prompt: String,
    #[serde(default)]
    caller_context: Vec<CallerContextInput>,
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    sandbox: Option<bool>,
    #[serde(default)]
    profile: Option<String>,
    #[serde(default)]
    max_turns: Option<u64>,
    #[serde(default)]
    auto_approve: Option<AutoApproveOverride>,
    /// Seconds.
    #[serde(default)]
    #[schema(value_type = Option<u64>)]
    timeout: Option<Value>,
    #[serde(default)]
    limits: Option<RunLimits>,
    #[serde(default)]
    pub(super) session: Session,
    #[serde(default)]
    pub(super) cwd: Option<String>,
}

/// Where a run takes place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = SendSession)]
pub(super) enum Session {
    /// In the session of the chat.
    #[default]
    Chat,
    /// In one of its own.
    New,
}

/// A file for the chat.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum File {
    /// As it is.
    Upload { name: String, base64: String },
    /// What it says, for a platform that takes no files.
    Text { name: String, text: String },
}

impl SendRequest {
    pub(super) fn read(headers: &HeaderMap, body: Result<Bytes, BytesRejection>) -> Result<Self, ApiError> {
        let body = body.map_err(|error| match error.status() {
            StatusCode::PAYLOAD_TOO_LARGE => too_large(),
            _ => invalid("invalid_request", error.body_text()),
        })?;
        let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/json") {
            return Err(invalid("invalid_request", "content-type: must be application/json"));
        }
        let Json(request) =
            Json::<Self>::from_bytes(&body).map_err(|error| invalid("invalid_request", error.body_text()))?;
        if body.len() > MAX_PLAIN_BODY && request.attachments.as_ref().is_none_or(Vec::is_empty) {
            return Err(too_large());
        }
        if request.text.trim().is_empty() {
            return Err(invalid("invalid_request", "text: must not be blank"));
        }
        if let Some(interactive) = &request.interactive {
            interactive.check()?;
        }
        Ok(request)
    }

    pub(super) fn address(&self) -> Result<Address, ApiError> {
        parse_target(&self.channel, &self.target).map_err(|error| invalid("invalid_target", error.to_string()))
    }

    /// The same for the same request, whatever the order of its keys.
    pub(super) fn hash(&self) -> Result<String, ApiError> {
        let canonical = serde_json::to_vec(self).map_err(StoreError::from)?;
        Ok(Sha256::digest(canonical).iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The files in the form that the platform takes.
    pub(super) fn files(&self, channel: &dyn Channel) -> Result<Vec<File>, ApiError> {
        let attachments = self.attachments.as_deref().unwrap_or_default();
        if attachments.len() > MAX_FILES {
            return Err(invalid("invalid_request", format!("attachments: at most {MAX_FILES}")));
        }
        attachments.iter().enumerate().map(|(index, attachment)| attachment.file(index, channel)).collect()
    }
}

impl Attachment {
    fn file(&self, index: usize, channel: &dyn Channel) -> Result<File, ApiError> {
        let wrong =
            |field: &str, what: String| Err(invalid("invalid_request", format!("attachments[{index}]{field}: {what}")));
        if self.filename.trim().is_empty() {
            return wrong(".filename", "must not be blank".to_owned());
        }
        let name = safe_name(&self.filename);
        let content = match BASE64_STANDARD.decode(&self.data_base64) {
            Ok(content) if content.is_empty() => return wrong(".data_base64", "the file is empty".to_owned()),
            Ok(content) => content,
            Err(error) => return wrong(".data_base64", format!("is not base64: {error}")),
        };
        let most = channel.capabilities().max_file;
        if u64::try_from(content.len()).is_ok_and(|size| size <= most) {
            return Ok(File::Upload { name, base64: self.data_base64.clone() });
        }
        match String::from_utf8(content) {
            Ok(text) if most == 0 => Ok(File::Text { name, text }),
            _ if most == 0 => wrong("", format!("{} takes no files, and this is no text", channel.display_name())),
            _ => wrong("", format!("{} takes files of at most {most} bytes", channel.display_name())),
        }
    }
}

impl Interactive {
    fn check(&self) -> Result<(), ApiError> {
        if self.prompt.trim().is_empty() || self.prompt.len() > MAX_PROMPT {
            return Err(invalid("invalid_interactive_prompt", "interactive.prompt: 1 byte to 32 KiB, not blank"));
        }
        self.timeout_s()?;
        let context = &self.caller_context;
        let bad = |item: &CallerContextInput| {
            item.name.trim().is_empty()
                || item.name.len() > MAX_CONTEXT_NAME
                || item.content.len() > MAX_CONTEXT_ITEM
                || item.priority.as_ref().is_some_and(|priority| priority.len() > MAX_CONTEXT_PRIORITY)
        };
        let total = self.prompt.len() + context.iter().map(|item| item.content.len()).sum::<usize>();
        if context.len() > MAX_CONTEXT_ITEMS || context.iter().any(bad) || total > MAX_TOTAL {
            let message = "interactive.caller_context: at most 50 items with a name of at most 256 bytes and a priority of \
                           at most 32, 10 KiB each, 100 KiB with the prompt";
            return Err(invalid("invalid_interactive_caller_context", message));
        }
        self.check_options().map_err(|message| invalid("invalid_request", message))
    }

    /// What the server would refuse is refused before anything is sent.
    fn check_options(&self) -> Result<(), &'static str> {
        if self.max_turns.is_some_and(|turns| !(1..=MAX_TURNS).contains(&turns)) {
            return Err("interactive.max_turns: must be from 1 to 256");
        }
        if let Some(AutoApproveOverride::Mode(mode)) = &self.auto_approve
            && !["all", "none"].contains(&mode.trim().to_ascii_lowercase().as_str())
        {
            return Err("interactive.auto_approve: must be \"all\", \"none\" or a list of tool names");
        }
        let limits = self.limits.clone().unwrap_or_default();
        if limits.wall_clock_s == Some(0) || limits.tokens == Some(0) || limits.cost_usd.is_some_and(|usd| usd <= 0.0) {
            return Err("interactive.limits: each must be more than 0, or absent");
        }
        if self.cwd.as_ref().is_some_and(|cwd| !std::path::Path::new(cwd).is_absolute()) {
            return Err("interactive.cwd: must be an absolute path");
        }
        Ok(())
    }

    fn timeout_s(&self) -> Result<Option<u64>, ApiError> {
        let seconds = match &self.timeout {
            None | Some(Value::Null) => return Ok(None),
            Some(given) => given.as_u64().filter(|seconds| (1..=MAX_TIMEOUT_S).contains(seconds)),
        };
        let message = "interactive.timeout: must be whole seconds, from 1 to 30 days";
        seconds.map(Some).ok_or_else(|| invalid("invalid_interactive_timeout", message))
    }

    /// What the run is to be like.
    pub(super) fn options(&self) -> Result<RunOptions, ApiError> {
        let overrides = RunOverrides {
            profile: self.profile.clone(),
            max_turns: self.max_turns,
            auto_approve: self.auto_approve.clone(),
            limits: self.limits.clone(),
            ..RunOverrides::default()
        };
        Ok(RunOptions {
            title: self.title.clone(),
            model: self.model.clone(),
            sandbox: self.sandbox,
            context: self.caller_context.clone(),
            overrides: (overrides != RunOverrides::default()).then_some(overrides),
            files: Vec::new(),
            timeout_s: self.timeout_s()?,
            notify_route: None,
            cwd: self.cwd.clone(),
            vault: None,
        })
    }
}

fn too_large() -> ApiError {
    let message = "the body is larger than 1 MiB, or 32 MiB with attachments";
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", message)
}
