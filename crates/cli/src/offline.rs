//! Saying plainly that the built-in offline model answers, and how to configure a real one.

use crate::home::Home;

/// The model that needs no key and no network.
const OFFLINE: &str = "builtin/offline";

pub(crate) fn is_offline(model: &str) -> bool {
    model == OFFLINE
}

/// What every front end says when the offline model answers.
pub(crate) fn notice(home: &Home) -> [String; 2] {
    [
        "The built-in offline model answers: it understands help, status, disk, memory, uptime and run <command>."
            .to_owned(),
        format!(
            "For a real model add to {}: [profiles.default] model = \"my/MODEL\" and [profiles.default.providers.my] \
             type = \"custom\", api_endpoint = \"https://HOST/v1\", api_key = \"env:NAME\"",
            Home::show(home.config_toml())
        ),
    ]
}
