//! A server as people and scripts see it: what it is, and nothing secret of it.
//!
//! Of variables and headers only references are shown; of arguments and addresses not what is known, or looks, like a
//! secret.

use std::collections::BTreeMap;

use serde::Serialize;
use stakpak_config::is_secret;
use stakpak_mcp::ServerTable;
use stakpak_redact::Redactor;

use super::variable;

const HIDDEN: &str = "***";

#[derive(Debug, Serialize)]
pub(super) struct Shown<'a> {
    pub(super) name: &'a str,
    pub(super) transport: &'static str,
    /// The program with its arguments, or the address.
    pub(super) target: String,
    pub(super) disabled: bool,
    /// Why it cannot be used.
    pub(super) error: Option<String>,
}

impl<'a> Shown<'a> {
    pub(super) fn of(name: &'a str, table: &ServerTable, redactor: &Redactor) -> Self {
        let (transport, target) = match (&table.command, &table.url) {
            (Some(command), _) => {
                let arguments = arguments(&table.args);
                ("stdio", std::iter::once(command.clone()).chain(arguments).collect::<Vec<_>>().join(" "))
            }
            (None, url) => ("http", address(url.as_deref().unwrap_or_default())),
        };
        let error = table.settings(name, &variable).err();
        let error = error.map(|error| redactor.redact(&error.to_string()).into_owned());
        let target = redactor.redact(&target).into_owned();
        Self { name, transport, target, disabled: table.disabled, error }
    }
}

/// What of these may be shown, by name.
pub(super) fn references(values: &BTreeMap<String, String>) -> BTreeMap<&str, &str> {
    values.iter().map(|(name, value)| (name.as_str(), if is_reference(value) { value } else { HIDDEN })).collect()
}

/// Whether it says nothing but where a value comes from.
pub(super) fn is_reference(value: &str) -> bool {
    let of_variable = |word: &str| {
        let name = word
            .strip_prefix('$')
            .map(|name| name.strip_prefix('{').and_then(|name| name.strip_suffix('}')).unwrap_or(name));
        name.is_some_and(|name| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
    };
    let is_scheme = |word: &str| ["basic", "bearer", "token"].iter().any(|scheme| word.eq_ignore_ascii_case(scheme));
    let words: Vec<&str> = value.split_whitespace().collect();
    words.iter().any(|word| of_variable(word)) && words.iter().all(|word| of_variable(word) || is_scheme(word))
}

/// Without the value of an option that is named like a secret.
pub(super) fn arguments(arguments: &[String]) -> Vec<String> {
    let names_secret = |option: &str| {
        let name = option.trim_start_matches('-').to_ascii_lowercase().replace('-', "_");
        option.starts_with('-') && is_secret(&[name.as_str()])
    };
    let mut hide_next = false;
    let shown = arguments.iter().map(|argument| {
        if std::mem::take(&mut hide_next) {
            return HIDDEN.to_owned();
        }
        match argument.split_once('=') {
            Some((option, _)) if names_secret(option) => format!("{option}={HIDDEN}"),
            _ => {
                hide_next = names_secret(argument);
                argument.clone()
            }
        }
    });
    shown.collect()
}

/// Without what stands before `@` and behind `?`.
pub(super) fn address(url: &str) -> String {
    let (url, query) = url.split_once('?').map_or((url, ""), |(url, _)| (url, "?***"));
    let shown = match url.split_once("://") {
        Some((scheme, rest)) => match rest.split_once('/').map_or((rest, None), |(host, path)| (host, Some(path))) {
            (host, path) if host.contains('@') => {
                let host = host.rsplit('@').next().unwrap_or_default();
                format!("{scheme}://{HIDDEN}@{host}{}", path.map(|path| format!("/{path}")).unwrap_or_default())
            }
            _ => url.to_owned(),
        },
        None => url.to_owned(),
    };
    format!("{shown}{query}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_shown_and_values_are_not() {
        for (value, shown) in [
            ("${TOKEN}", true),
            ("$TOKEN", true),
            ("Bearer ${TOKEN}", true),
            ("${TOKEN:-hunter2}", false),
            ("hunter2", false),
            ("hunter2 $TOKEN", false),
            ("Bearer", false),
            ("", false),
        ] {
            assert_eq!(is_reference(value), shown, "{value}");
        }
    }

    #[test]
    fn arguments_and_addresses_lose_what_is_named_like_a_secret() {
        let given = ["run", "--api-key", "hunter2", "--token=hunter2", "--port", "80"].map(str::to_owned);
        assert_eq!(arguments(&given).join(" "), "run --api-key *** --token=*** --port 80");
        for (url, shown) in [
            ("https://mcp.example.com/mcp", "https://mcp.example.com/mcp"),
            ("https://me:hunter2@mcp.example.com/mcp?key=hunter2", "https://***@mcp.example.com/mcp?***"),
            ("https://hunter2@mcp.example.com", "https://***@mcp.example.com"),
        ] {
            assert_eq!(address(url), shown);
        }
    }
}
