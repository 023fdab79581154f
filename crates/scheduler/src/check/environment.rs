//! What a script sees of the process's environment: all but what may hold a secret.

use std::ffi::{OsStr, OsString};

const CHANNEL_TOKENS: [&str; 4] = ["TELEGRAM_BOT_TOKEN", "DISCORD_BOT_TOKEN", "SLACK_BOT_TOKEN", "SLACK_APP_TOKEN"];
const OWN_VARIABLES: &str = "STAKPAK_";

/// `variables` without those of `credentials`, providers, channels and this program, unless `allowed` names them.
pub(super) fn without_secrets(
    variables: impl Iterator<Item = (OsString, OsString)>,
    allowed: &[String],
    credentials: &[String],
) -> Vec<(OsString, OsString)> {
    let names = |list: &[String], name: &OsStr| list.iter().any(|one| OsStr::new(one) == name);
    variables
        .filter(|(name, _)| names(allowed, name) || !(names(credentials, name) || is_secret(&name.to_string_lossy())))
        .collect()
}

fn is_secret(name: &str) -> bool {
    name.starts_with(OWN_VARIABLES) || name.ends_with("_API_KEY") || CHANNEL_TOKENS.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_hold_a_secret_is_left_out_unless_it_is_named() {
        let given = ["PATH", "OPENAI_API_KEY", "SLACK_APP_TOKEN", "STAKPAK_TOKEN", "REFERENCED", "NAMED", "HOME"];
        let variables = given.iter().map(|name| (OsString::from(name), OsString::from("value")));
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let kept = without_secrets(variables, &list(&["NAMED", "OPENAI_API_KEY"]), &list(&["REFERENCED", "NAMED"]));
        let kept: Vec<_> = kept.iter().map(|(name, _)| name.to_str().unwrap()).collect();
        assert_eq!(kept, ["PATH", "OPENAI_API_KEY", "NAMED", "HOME"]);
    }
}
