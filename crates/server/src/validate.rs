//! Values of a message and its options: what the contract allows, and what it becomes.

use std::{path::Path, sync::Arc};

use stakpak_agent_core::{
    ContextState, DayBudget, LimitKeys, ModelTerms, Policy, Profile, RunAccepted, Sandbox, SessionRow, check_key,
};
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
        let (limits, limit_keys) = run_limits(overrides.limits.as_ref(), &profile, &self.limits().run)?;
        let info = profile.models.resolve(&model).map(|model| model.info().clone());
        let info = info.map_err(|error| invalid(ErrorCode::InvalidModel, format!("model: {error}")))?;
        let terms = terms(&info, &limits, &profile.day)?;
        let cwd = session.cwd.clone().unwrap_or_else(|| self.default_cwd().display().to_string());
        let sandbox = self.sandbox(request, &profile, Path::new(&cwd))?;
        Ok(RunAccepted {
            run_id: RunId::random(),
            at: self.agent().clock.now(),
            model,
            system_prompt: system_prompt(&overrides, &profile)?,
            max_turns: max_turns(&overrides, &profile)?,
            no_progress: profile.no_progress,
            policy: policy(&overrides, &profile, &self.limits().approval_ceiling)?,
            profile: profile.name.clone(),
            cwd,
            limits,
            limit_keys,
            terms,
            sandbox,
            notify_route: request.notify_route.clone(),
            interactive: request.interactive.unwrap_or_default(),
            context: ContextState::default(),
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
pub(crate) fn terms(model: &ModelInfo, limits: &RunLimits, day: &DayBudget) -> Result<ModelTerms, ApiError> {
    let is_known = day.cost.is_none() || model.cost.is_some();
    ModelTerms::of(model, limits).filter(|_| is_known).ok_or_else(|| {
        let model = model.full_id();
        let message = format!(
            "model {model}: a limit of cost applies and its price is unknown; set it in config.toml, [cost.{model:?}], or use \
             a model whose price is known"
        );
        invalid(ErrorCode::PriceUnknown, message)
    })
}

/// What the message asks for, what the profile allows and what the server sets: of each the strictest, and who set it.
fn run_limits(
    asked: Option<&RunLimits>,
    profile: &Profile,
    server: &RunLimits,
) -> Result<(RunLimits, LimitKeys), ApiError> {
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
    let (of_profile, name) = (&profile.limits, &profile.name);
    let (wall_clock_s, wall_clock_key) = strictest(
        [asked.wall_clock_s, of_profile.wall_clock_s, server.wall_clock_s],
        &format!("profiles.{name}"),
        "server.limits.run_wall_clock",
    );
    let (tokens, tokens_key) = strictest(
        [asked.tokens, of_profile.tokens, server.tokens],
        &format!("profiles.{name}.budget.tokens_per_run"),
        "server.limits.run_tokens",
    );
    let (cost_usd, cost_key) = strictest(
        [asked.cost_usd, of_profile.cost_usd, server.cost_usd],
        &format!("profiles.{name}.budget.usd_per_run"),
        "server.limits.run_cost_usd",
    );
    let keys = LimitKeys { wall_clock_s: wall_clock_key, tokens: tokens_key, cost_usd: cost_key };
    Ok((RunLimits { wall_clock_s, tokens, cost_usd }, keys))
}

/// Of message, profile and server, and the key of the latter two.
fn strictest<T: PartialOrd + Copy>(limits: [Option<T>; 3], profile: &str, server: &str) -> (Option<T>, Option<String>) {
    let keys = [None, Some(profile), Some(server)];
    let set = limits.into_iter().zip(keys).filter_map(|(limit, key)| Some((limit?, key)));
    match set.reduce(|a, b| if b.0 < a.0 { b } else { a }) {
        Some((limit, key)) => (Some(limit), key.map(str::to_owned)),
        None => (None, None),
    }
}

/// What runs without a question. Deny rules of the profile hold, whatever the message asks for.
fn policy(overrides: &RunOverrides, profile: &Profile, ceiling: &ApprovalCeiling) -> Result<Policy, ApiError> {
    let asked = overrides.auto_approve.as_ref().map(|asked| named("auto_approve", asked)).transpose()?;
    let of_caller =
        overrides.caller_auto_approve.as_ref().map(|asked| named("caller_auto_approve", asked)).transpose()?;
    let asked = match (asked, of_caller) {
        (None, None) => return Ok(profile.policy.clone()),
        (None, Some(of_caller)) if profile.has_own_policy => return Ok(profile.policy.clone().within(of_caller)),
        // A standing setting is not refused again and again: people are asked about what is above.
        (None, Some(of_caller)) => return Ok(of_caller.with_denials_of(&profile.policy).within(ceiling.policy())),
        (Some(asked), _) => asked,
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

/// A policy as a message names it.
fn named(key: &str, asked: &AutoApproveOverride) -> Result<Policy, ApiError> {
    let invalid = |what: String| invalid(ErrorCode::InvalidOverrides, format!("overrides.{key}: {what}"));
    match asked {
        AutoApproveOverride::Tools(keys) => {
            for key in keys.iter().map(|key| key.trim()).filter(|key| !key.is_empty()) {
                check_key(key).map_err(|error| invalid(error.to_string()))?;
            }
            Ok(Policy::approving(keys.iter().map(String::as_str)))
        }
        AutoApproveOverride::Mode(mode) => match mode.trim().to_ascii_lowercase().as_str() {
            "all" => Ok(Policy::All),
            "none" => Ok(Policy::None),
            _ => Err(invalid("must be \"all\", \"none\" or a list of tool names".to_owned())),
        },
    }
}
