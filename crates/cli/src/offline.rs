//! Saying plainly that the built-in offline model answers, and how to configure a real one.

/// The model that needs no key and no network.
pub(crate) const MODEL: &str = "builtin/offline";

pub(crate) fn is_offline(model: &str) -> bool {
    model == MODEL
}

/// What every front end says when the offline model answers.
pub(crate) const NOTICE: [&str; 2] = [
    "The built-in offline model answers: it understands help, status, disk, memory, uptime and run <command>.",
    "For a real model: stakpak autopilot init",
];
