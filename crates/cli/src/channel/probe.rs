//! `channel test`: asks each platform who the bot is and what it may do, and tells the causes of a failure apart.

use std::sync::Arc;

use anyhow::{Result, bail};
use serde::Serialize;
use serde_json::json;
use stakpak_gateway::{
    Body, Channel, ChannelError, ChannelTestResult, GatewayConfig, OutboundReply, build_channels,
    config::ChannelConfigs, targeting::parse_target,
};

use super::{Desk, name_of};
use crate::{args::ChannelType, exit::Failure};

/// Why a channel does not work.
#[derive(Debug, Serialize)]
pub(super) struct Problem {
    /// For programs: `bad_token`, `missing_scope`, `unreachable`, …
    pub(super) cause: &'static str,
    /// For people.
    pub(super) error: String,
}

/// What came of asking one platform.
#[derive(Debug, Serialize)]
struct Outcome {
    channel: String,
    ok: bool,
    #[serde(flatten)]
    problem: Option<Problem>,
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<String>,
    /// The id of the message of `--send`.
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<String>,
}

/// What is done besides asking.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deed<'a> {
    /// Send a message there.
    pub(super) send: Option<&'a str>,
    /// Have updates delivered here again.
    pub(super) delete_webhook: bool,
}

/// One that fails does not keep the others from being asked.
pub(super) async fn run(desk: &Desk<'_>, only: Option<ChannelType>, deed: Deed<'_>) -> Result<()> {
    let only = only.map(name_of).transpose()?;
    let config = desk.place.load()?;
    if deed.delete_webhook && only.is_some_and(|only| only != "telegram") {
        bail!(Failure::Usage("--delete-webhook is for telegram: only there a webhook can be set".to_owned()));
    }
    let only = only.or(deed.delete_webhook.then_some("telegram"));
    let outcomes = outcomes(&config, only, deed).await?;
    if outcomes.is_empty() {
        bail!("no such channel is configured; add one: {} add telegram", desk.typed());
    }
    let failed = outcomes.iter().any(|outcome| !outcome.ok);
    if desk.json {
        say!("{}", json!({ "command": format!("{}.test", desk.name), "ok": !failed, "channels": outcomes }));
    } else {
        outcomes.iter().for_each(show);
    }
    if failed {
        bail!(Failure::Silent);
    }
    Ok(())
}

async fn outcomes(config: &GatewayConfig, only: Option<&str>, deed: Deed<'_>) -> Result<Vec<Outcome>> {
    let Deed { send, delete_webhook } = deed;
    let wanted = |name: &str| only.is_none_or(|only| only == name);
    let disabled = config.channels.disabled.iter().filter(|(name, _)| wanted(name));
    let mut outcomes: Vec<Outcome> = disabled
        .map(|(name, finding)| failed(name, Problem { cause: "configuration", error: finding.to_string() }))
        .collect();
    // One that is switched off is asked only by name.
    let settings = config.channels.settings().filter(|(name, settings)| only == Some(name) || settings.enabled);
    let names: Vec<&str> = settings.map(|(name, _)| name).filter(|name| wanted(name)).collect();
    if send.is_some() && names.len() + outcomes.len() > 1 {
        bail!(Failure::Usage("--send needs the channel: stakpak channel test telegram --send 42".to_owned()));
    }
    for name in names {
        outcomes.push(match ask_and(config, name, delete_webhook).await {
            Err(problem) => failed(name, problem),
            Ok((channel, result)) => match send {
                None => passed(result, None),
                Some(target) => match deliver(&*channel, name, target).await {
                    Ok(message_id) => passed(result, Some(message_id)),
                    Err(problem) => failed(name, problem),
                },
            },
        });
    }
    Ok(outcomes)
}

/// Whether the platform takes the channel's token; its words if not.
pub(crate) async fn identity(config: &GatewayConfig, name: &str) -> Result<(), String> {
    ask(config, name).await.map(drop).map_err(|problem| problem.error)
}

/// The adapter of one channel, and who its bot is.
pub(super) async fn ask(config: &GatewayConfig, name: &str) -> Result<(Arc<dyn Channel>, ChannelTestResult), Problem> {
    ask_and(config, name, false).await
}

async fn ask_and(
    config: &GatewayConfig,
    name: &str,
    delete_webhook: bool,
) -> Result<(Arc<dyn Channel>, ChannelTestResult), Problem> {
    let channels = build_channels(&alone(config, name)).map_err(Problem::from)?;
    let Some(channel) = channels.into_iter().next() else {
        let error = format!("{name} is not supported by this version");
        return Err(Problem { cause: "unsupported", error });
    };
    if delete_webhook {
        channel.delete_webhook().await.map_err(Problem::from)?;
    }
    let result = channel.test().await.map_err(Problem::from)?;
    Ok((channel, result))
}

/// The same with one channel, enabled: what is wrong with others is not its fault.
fn alone(config: &GatewayConfig, name: &str) -> GatewayConfig {
    let mut config = config.clone();
    let ChannelConfigs { telegram, slack, discord, .. } = std::mem::take(&mut config.channels);
    match name {
        "telegram" => config.channels.telegram = telegram,
        "slack" => config.channels.slack = slack,
        _ => config.channels.discord = discord,
    }
    let channels = &mut config.channels;
    let settings = [
        channels.telegram.as_mut().map(|channel| &mut channel.settings),
        channels.slack.as_mut().map(|channel| &mut channel.settings),
        channels.discord.as_mut().map(|channel| &mut channel.settings),
    ];
    for settings in settings.into_iter().flatten() {
        settings.enabled = true;
    }
    config
}

async fn deliver(channel: &dyn Channel, name: &str, target: &str) -> Result<String, Problem> {
    let key = match name {
        "telegram" => "chat_id",
        "slack" => "channel",
        _ => "channel_id",
    };
    let address = parse_target(name, &json!({ key: target }))
        .map_err(|error| Problem { cause: "target", error: error.to_string() })?;
    let address = channel.locate(&address).await.unwrap_or(address);
    let reply = OutboundReply {
        address,
        body: Body::plain("A test of `stakpak channel test`: messages arrive here."),
        reply_to: None,
        dedupe_key: format!("test:{}", chrono::Utc::now().timestamp_millis()),
    };
    Ok(channel.send_with_receipt(reply).await.map_err(Problem::from)?.message_id)
}

impl From<ChannelError> for Problem {
    fn from(error: ChannelError) -> Self {
        let cause = match &error {
            ChannelError::Unauthorized { .. } => "bad_token",
            ChannelError::MissingScope { .. } => "missing_scope",
            ChannelError::Unreachable { .. } => "unreachable",
            ChannelError::Uncertain { .. } => "no_answer",
            ChannelError::Conflict { .. } => "conflict",
            ChannelError::RateLimited { .. } => "rate_limited",
            ChannelError::Rejected { .. } => "refused",
            ChannelError::NotAllowed { .. } => "not_allowed",
            ChannelError::Setup { .. } => "configuration",
            ChannelError::Store { .. } => "store",
        };
        let advice = match &error {
            ChannelError::Unauthorized { .. } => "; make a new token, or look for a typing error",
            ChannelError::MissingScope { .. } => "; add it to the app and install the app again",
            ChannelError::Unreachable { .. } => "; look at network, proxy and api_base_url",
            _ => "",
        };
        Self { cause, error: format!("{error}{advice}") }
    }
}

fn failed(name: &str, problem: Problem) -> Outcome {
    Outcome {
        channel: name.to_owned(),
        ok: false,
        problem: Some(problem),
        identity: None,
        details: None,
        message_id: None,
    }
}

fn passed(result: ChannelTestResult, message_id: Option<String>) -> Outcome {
    Outcome {
        channel: result.channel.to_string(),
        ok: true,
        problem: None,
        identity: Some(result.identity),
        details: Some(result.details),
        message_id,
    }
}

fn show(outcome: &Outcome) {
    let name = &outcome.channel;
    match &outcome.problem {
        Some(problem) => eprintln!("{name}: FAILED: {}", problem.error),
        None => {
            say!("{name}: pass, the bot is {}", outcome.identity.as_deref().unwrap_or_default());
            say!("  {}", outcome.details.as_deref().unwrap_or_default());
        }
    }
    if let Some(message_id) = &outcome.message_id {
        say!("  a message was sent: {message_id}");
    }
}
