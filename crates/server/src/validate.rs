//! Values of a message and its options: what the contract allows, and what it becomes.

use std::{path::Path, sync::Arc};

use stakpak_agent_core::{ModelTerms, Policy, Profile, RunAccepted, Sandbox, SessionRow, check_key};
use stakpak_protocol::{
    AutoApproveOverride, CallerContext, ErrorCode, Message, MessageContent, MessagePart, ModelInfo, NotifyRoute,
    PostMessageRequest, Role, RunId, RunLimits, RunOverrides,
};

use crate::{ApiError, ApprovalCeiling, Server, prompt::BASE_PROMPT};

const MAX_TITLE: usize = 1_024;
const MAX_SYSTEM_PROMPT: usize = 32_768;
const MAX_CONTEXT_ENTRIES: usize = 32;
const MAX_CONTEXT_NAME: usize = 256;
const MAX_CONTEXT_CONTENT: usize = 50_000;
const MAX_CONTEXT_TOTAL: usize = 500_000;
const DEFAULT_MAX_TURNS: u64 = 64;

fn invalid(code: ErrorCode, message: impl Into<String>) -> ApiError {
    ApiError::new(code, message)
}

pub(crate) fn title(title: &str) -> Result<(), ApiError> {
    if title.chars().count() > MAX_TITLE {
        return Err(invalid(ErrorCode::InvalidRequest, format!("title: at most {MAX_TITLE} characters")));
    }
    Ok(())
}

pub(crate) fn cwd(cwd: &str) -> Result<(), ApiError> {
    let path = Path::new(cwd);
    if path.is_absolute() && path.is_dir() {
        return Ok(());
    }
    Err(invalid(ErrorCode::InvalidRequest, "cwd: must be an existing directory, given by its absolute path"))
}

/// A user's message of text and images that says something.
pub(crate) fn message(message: &Message) -> Result<(), ApiError> {
    if message.role != Role::User {
        return Err(invalid(ErrorCode::InvalidMessageRole, "message.role: must be `user`"));
    }
    let says_something = match &message.content {
        MessageContent::Text(text) => !text.trim().is_empty(),
        MessageContent::Parts(parts) => {
            let allowed = |part: &MessagePart| matches!(part, MessagePart::Text { .. } | MessagePart::Image { .. });
            if !parts.iter().all(allowed) {
                return Err(invalid(
                    ErrorCode::InvalidRequest,
                    "message.content: a user message holds text and image parts only",
                ));
            }
            parts.iter().any(|part| match part {
                MessagePart::Text { text, .. } => !text.trim().is_empty(),
                _ => true,
            })
        }
    };
    if says_something {
        Ok(())
    } else {
        Err(invalid(ErrorCode::InvalidRequest, "message.content: must hold text or an image"))
    }
}

pub(crate) fn context(entries: &[CallerContext]) -> Result<(), ApiError> {
    let fail = |message: String| Err(invalid(ErrorCode::InvalidContext, message));
    if entries.len() > MAX_CONTEXT_ENTRIES {
        return fail(format!("context: at most {MAX_CONTEXT_ENTRIES} entries"));
    }
    let mut total = 0;
    for (index, entry) in entries.iter().enumerate() {
        let size = entry.content.chars().count();
        if entry.name.chars().count() > MAX_CONTEXT_NAME {
            return fail(format!("context[{index}].name: at most {MAX_CONTEXT_NAME} characters"));
        }
        if size > MAX_CONTEXT_CONTENT {
            return fail(format!("context[{index}].content: at most {MAX_CONTEXT_CONTENT} characters"));
        }
        total += size;
    }
    if total > MAX_CONTEXT_TOTAL {
        return fail(format!("context: at most {MAX_CONTEXT_TOTAL} characters in all contents together"));
    }
    Ok(())
}

/// Which platforms there are, and how each names its chats, is known to who sends there.
fn notify_route(route: &NotifyRoute) -> Result<(), ApiError> {
    if route.channel.trim().is_empty() {
        return Err(invalid(ErrorCode::InvalidRequest, "notify_route.channel: must not be blank"));
    }
    if route.target.is_empty() {
        return Err(invalid(ErrorCode::InvalidRequest, "notify_route.target: must name a chat"));
    }
    Ok(())
}

impl Server {
    /// The run that this message starts: every option resolved, so that a restart needs nothing else.
    pub(crate) fn accept(&self, request: &PostMessageRequest, session: &SessionRow) -> Result<RunAccepted, ApiError> {
        let overrides = request.overrides.clone().unwrap_or_default();
        let profile = self.profile(&overrides)?;
        let model = self.model(request, &overrides, &profile, session)?;
        if let Some(route) = &request.notify_route {
            notify_route(route)?;
        }
        let limits = run_limits(overrides.limits.as_ref(), &self.limits().run)?;
        let info = profile.models.resolve(&model).map(|model| model.info().clone());
        let info = info.map_err(|error| invalid(ErrorCode::InvalidModel, format!("model: {error}")))?;
        let terms = terms(&info, &limits)?;
        let cwd = session.cwd.clone().unwrap_or_else(|| self.default_cwd().display().to_string());
        let sandbox = self.sandbox(request, &profile, Path::new(&cwd))?;
        Ok(RunAccepted {
            run_id: RunId::random(),
            at: self.agent().clock.now(),
            model,
            system_prompt: system_prompt(&overrides, &profile)?,
            max_turns: max_turns(&overrides, &profile)?,
            policy: policy(&overrides, &profile, &self.limits().approval_ceiling)?,
            profile: profile.name.clone(),
            cwd,
            limits,
            terms,
            sandbox,
        })
    }

    /// The profile's, or the strongest where only the message asks for one. A message cannot lower it.
    fn sandbox(&self, request: &PostMessageRequest, profile: &Profile, cwd: &Path) -> Result<Sandbox, ApiError> {
        let of_profile = profile.sandbox.clone();
        let asked = if request.sandbox == Some(true) { of_profile.demanded() } else { of_profile };
        self.agent().tools.settle_sandbox(&asked, cwd).map_err(|error| {
            let message = format!("sandbox: {error}; the run was not started on the host");
            invalid(ErrorCode::SandboxUnavailable, message)
        })
    }

    fn profile(&self, overrides: &RunOverrides) -> Result<Arc<Profile>, ApiError> {
        self.agent()
            .profiles
            .profile(overrides.profile.as_deref())
            .map_err(|error| invalid(ErrorCode::InvalidOverrides, format!("overrides.profile: {error}")))
    }

    /// Override, message, the named profile's default, the session's last, the default.
    fn model(
        &self,
        request: &PostMessageRequest,
        overrides: &RunOverrides,
        profile: &Profile,
        session: &SessionRow,
    ) -> Result<String, ApiError> {
        let named = overrides.model.as_ref().or(request.model.as_ref());
        let of_profile = overrides.profile.as_ref().and_then(|_| profile.models.default_model());
        if let Some(named) = named {
            let model = profile.models.resolve(named);
            let model = model.map_err(|error| invalid(ErrorCode::InvalidModel, format!("model: {error}")))?;
            return Ok(model.info().full_id());
        }
        let last = session.model.clone().filter(|last| profile.models.resolve(last).is_ok());
        of_profile
            .or(last)
            .or_else(|| profile.models.default_model())
            .ok_or_else(|| invalid(ErrorCode::InvalidModel, "model: no model is configured"))
    }
}

fn max_turns(overrides: &RunOverrides, profile: &Profile) -> Result<u64, ApiError> {
    let turns = overrides.max_turns.or(profile.max_turns).unwrap_or(DEFAULT_MAX_TURNS);
    if (1..=256).contains(&turns) {
        return Ok(turns);
    }
    Err(invalid(ErrorCode::InvalidOverrides, "overrides.max_turns: must be 1 to 256"))
}

fn system_prompt(overrides: &RunOverrides, profile: &Profile) -> Result<String, ApiError> {
    match overrides.system_prompt.as_deref() {
        Some(prompt) if prompt.chars().count() > MAX_SYSTEM_PROMPT => Err(invalid(
            ErrorCode::InvalidOverrides,
            format!("overrides.system_prompt: at most {MAX_SYSTEM_PROMPT} characters"),
        )),
        Some(prompt) if !prompt.trim().is_empty() => Ok(prompt.to_owned()),
        _ => Ok(profile.system_prompt.as_deref().unwrap_or(BASE_PROMPT).to_owned()),
    }
}

/// What the run's limits need to know of the model.
pub(crate) fn terms(model: &ModelInfo, limits: &RunLimits) -> Result<ModelTerms, ApiError> {
    ModelTerms::of(model, limits).ok_or_else(|| {
        let model = model.full_id();
        let message = format!(
            "model {model}: a limit of cost applies and its price is unknown; set it in config.toml, [cost.{model:?}], or use \
             a model whose price is known"
        );
        invalid(ErrorCode::PriceUnknown, message)
    })
}

/// What the message asks for and what the server sets: of each the stricter.
fn run_limits(asked: Option<&RunLimits>, server: &RunLimits) -> Result<RunLimits, ApiError> {
    let asked = asked.cloned().unwrap_or_default();
    let too_small = |name: &str| {
        Err(invalid(ErrorCode::InvalidOverrides, format!("overrides.limits.{name}: must be more than 0, or absent")))
    };
    if asked.wall_clock_s == Some(0) {
        return too_small("wall_clock_s");
    }
    if asked.tokens == Some(0) {
        return too_small("tokens");
    }
    if asked.cost_usd.is_some_and(|usd| usd <= 0.0) {
        return too_small("cost_usd");
    }
    let cost_usd = asked.cost_usd.into_iter().chain(server.cost_usd).reduce(f64::min);
    Ok(RunLimits {
        wall_clock_s: asked.wall_clock_s.into_iter().chain(server.wall_clock_s).min(),
        tokens: asked.tokens.into_iter().chain(server.tokens).min(),
        cost_usd,
    })
}

/// What runs without a question. Deny rules of the profile hold, whatever the message asks for.
fn policy(overrides: &RunOverrides, profile: &Profile, ceiling: &ApprovalCeiling) -> Result<Policy, ApiError> {
    let asked = match &overrides.auto_approve {
        None => return Ok(profile.policy.clone()),
        Some(AutoApproveOverride::Tools(keys)) => {
            for key in keys.iter().filter(|key| !key.trim().is_empty()) {
                check_key(key).map_err(|error| {
                    invalid(ErrorCode::InvalidOverrides, format!("overrides.auto_approve: {error}"))
                })?;
            }
            Policy::approving(keys.iter().map(String::as_str))
        }
        Some(AutoApproveOverride::Mode(mode)) => match mode.trim().to_ascii_lowercase().as_str() {
            "all" => Policy::All,
            "none" => Policy::None,
            _ => {
                return Err(invalid(
                    ErrorCode::InvalidOverrides,
                    "overrides.auto_approve: must be \"all\", \"none\" or a list of tool names",
                ));
            }
        },
    };
    if let Some(above) = ceiling.first_above(&asked) {
        return Err(invalid(
            ErrorCode::Forbidden,
            format!(
                "overrides.auto_approve: {above} is above [server].approval_ceiling; leave it out and decide each call"
            ),
        ));
    }
    Ok(asked.with_denials_of(&profile.policy))
}
