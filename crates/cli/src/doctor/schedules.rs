//! What schedules and chats ask for: profiles, routes, people who decide, isolation.

use std::collections::BTreeSet;

use stakpak_gateway::GatewayConfig;
use stakpak_scheduler::{Definition, ScheduleSpec};

use super::{Probe, files::Files};
use crate::autopilot_file::AutopilotFile;

pub(super) fn look(files: &Files) -> Vec<Probe> {
    let (Ok(file), Ok(gateway)) = (&files.autopilot, &files.gateway) else { return Vec::new() };
    let specs: Vec<&ScheduleSpec> = file
        .schedules
        .schedules
        .iter()
        .filter_map(|schedule| match &schedule.definition {
            Definition::Valid { spec, .. } if spec.enabled => Some(&**spec),
            _ => None,
        })
        .collect();
    vec![
        checks(file, &specs),
        profiles(files, &specs, gateway),
        routes(&specs, gateway),
        approvers(&specs, gateway),
        grants(files),
    ]
}

/// Scripts that decide whether a schedule runs.
fn checks(file: &AutopilotFile, specs: &[&ScheduleSpec]) -> Probe {
    let id = "check_scripts";
    let findings = file.schedules.errors().chain(&file.warnings);
    let bad: Vec<_> = findings.filter(|it| matches!(it.code, "E108" | "W306")).map(ToString::to_string).collect();
    if bad.is_empty() && specs.iter().all(|spec| spec.check.is_none()) {
        return Probe::skip(id, "no schedule has a check");
    }
    let advice = "a check is an executable file, yours or root's, that nobody else may write";
    Probe::of_details(id, "every check can be run", "checks that are not as they should be", bad, advice)
}

fn profiles(files: &Files, specs: &[&ScheduleSpec], gateway: &GatewayConfig) -> Probe {
    let id = "profile_references";
    let Ok(config) = &files.config else { return Probe::skip(id, "config.toml is not read") };
    let of_schedules = specs.iter().map(|spec| (format!("schedule {}", spec.name), spec.profile.clone()));
    let of_channels = gateway
        .channels
        .settings()
        .filter_map(|(name, settings)| Some((format!("channel {name}"), settings.run.profile.clone()?)));
    let bad = of_schedules.chain(of_channels).filter_map(|(user, profile)| {
        let error = config.profile(&profile).err()?;
        Some(format!("{user}: {error}"))
    });
    let advice = "`stakpak config list` shows the profiles there are; a run without its profile fails";
    Probe::of_details(id, "every profile that is named is there", "profiles that cannot be used", bad.collect(), advice)
}

fn routes(specs: &[&ScheduleSpec], gateway: &GatewayConfig) -> Probe {
    let id = "notification_routes";
    let mut bad = Vec::new();
    for spec in specs {
        let notify = &spec.notify;
        match (notify.route(), &notify.channel, &notify.target) {
            (Some(route), ..) if !is_served(gateway, route.channel.as_str()) => {
                bad.push(format!("{}: {} is not configured or switched off", spec.name, route.channel.as_str()));
            }
            (None, Some(_), None) => bad.push(format!("{}: a channel without notify_target", spec.name)),
            (None, None, Some(_)) => bad.push(format!("{}: a target without notify_channel", spec.name)),
            _ => {}
        }
    }
    Probe::of_details(
        id,
        "what schedules tell has somewhere to go",
        "what schedules tell does not arrive",
        bad,
        "`stakpak channel add` connects a chat; notify_channel and notify_target, or [notifications], name the place",
    )
}

fn is_served(gateway: &GatewayConfig, channel: &str) -> bool {
    gateway.channels.settings().any(|(name, settings)| name == channel && settings.enabled)
}

/// Who is asked in a chat, and whether somebody there may answer.
fn approvers(specs: &[&ScheduleSpec], gateway: &GatewayConfig) -> Probe {
    let id = "approvers";
    let without: BTreeSet<&str> = gateway
        .channels
        .settings()
        .filter(|(_, settings)| settings.enabled && settings.approvers.is_empty())
        .map(|(name, _)| name)
        .collect();
    let mut bad: Vec<String> =
        without.iter().map(|name| format!("channel {name}: what needs approval there is refused")).collect();
    for spec in specs.iter().filter(|spec| spec.pause_on_approval) {
        let channel = spec.notify.route().map(|route| route.channel.as_str());
        if let Some(channel) = channel.filter(|channel| without.contains(channel)) {
            bad.push(format!("schedule {}: it pauses, and nobody in {channel} may decide", spec.name));
        }
    }
    Probe::of_details(
        id,
        "in every chat somebody may decide approvals",
        "chats in which nobody may decide approvals",
        bad,
        "name people: approvers = [\"…\"] under [channels.…], or `stakpak channel access allow`",
    )
}

/// Profiles under which everything runs unasked.
fn grants(files: &Files) -> Probe {
    let id = "tool_grants";
    let Ok(config) = &files.config else { return Probe::skip(id, "config.toml is not read") };
    let profiles = config.names().filter_map(|name| Some((name, config.profile(name).ok()?)));
    let bad = profiles.filter_map(|(name, profile)| {
        let granted = profile.allowed_tools.iter().chain(&profile.auto_approve).flatten();
        granted.map(String::as_str).any(|tool| tool == "*").then(|| format!("profile {name}: every tool"))
    });
    Probe::of_details(
        id,
        "no profile lets every tool run without a question",
        "profiles that let every tool run without a question",
        bad.collect(),
        "name the tools in place of \"*\"",
    )
}
