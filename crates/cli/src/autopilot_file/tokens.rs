//! `[server.tokens]`: further bearer tokens by name, so that one can be replaced without a gap.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use stakpak_config::Secret;

const LONGEST_NAME: usize = 64;

/// Shorter ones can be guessed.
const SHORTEST_TOKEN: usize = 16;

/// What callers are called that come with the first token, or with none.
const TAKEN: [&str; 2] = ["default", "anonymous"];

/// The tokens by name, checked: names stand in approvals and logs, and each token belongs to one name.
pub(super) fn checked(tokens: &BTreeMap<String, Secret>, first: &str) -> Result<BTreeMap<String, String>> {
    let mut checked = BTreeMap::new();
    for (name, token) in tokens {
        let token = token.expose().trim();
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if !(1..=LONGEST_NAME).contains(&name.len()) || !name.bytes().all(is_plain) {
            bail!("[server.tokens] {name:?}: a name is 1 to {LONGEST_NAME} letters, digits, `-`, `_` or `.`");
        }
        if TAKEN.contains(&name.as_str()) {
            bail!("[server.tokens] {name}: the name is taken; choose another");
        }
        if token.len() < SHORTEST_TOKEN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            bail!(
                "[server.tokens] {name}: a token is at least {SHORTEST_TOKEN} printable characters without spaces; \
                 make one with `openssl rand -hex 32`"
            );
        }
        if token == first || checked.values().any(|other| other == token) {
            bail!("[server.tokens] {name}: another name has the same token; give each its own");
        }
        checked.insert(name.clone(), token.to_owned());
    }
    Ok(checked)
}

#[cfg(test)]
mod tests {
    use stakpak_config::Document;

    use super::*;
    use crate::autopilot_file::AutopilotFile;

    fn read(lines: &str) -> Result<BTreeMap<String, String>, String> {
        let text = format!("[server.tokens]\n{lines}");
        let document = Document::parse("autopilot.toml", &text).unwrap();
        let file = AutopilotFile::read(&document).map_err(|error| error.to_string())?;
        assert!(file.warnings.is_empty(), "{:?}", file.warnings);
        file.named_tokens("the-first-token-of-all").map_err(|error| error.to_string())
    }

    #[test]
    fn tokens_are_read_by_name_and_by_reference() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        std::fs::write(&path, "from-a-file-0123456789\n").unwrap();
        let read = read(&format!("ann = \"anns-token-0123456789\"\nbot = \"file:{}\"", path.display())).unwrap();
        let expected = [("ann", "anns-token-0123456789"), ("bot", "from-a-file-0123456789")];
        assert_eq!(read, expected.map(|(name, token)| (name.to_owned(), token.to_owned())).into());
    }

    #[test]
    fn a_bad_token_is_refused_by_name_and_never_shown() {
        for (lines, cause) in [
            ("ann = \"short\"", "at least 16"),
            ("ann = \"with a space in its middle\"", "without spaces"),
            ("default = \"anns-token-0123456789\"", "taken"),
            ("\"a b\" = \"anns-token-0123456789\"", "a name is"),
            ("ann = \"anns-token-0123456789\"\nbob = \"anns-token-0123456789\"", "its own"),
            ("ann = \"the-first-token-of-all\"", "its own"),
        ] {
            let error = read(lines).unwrap_err();
            assert!(error.contains("[server.tokens]") && error.contains(cause), "{lines}: {error}");
            assert!(!error.contains("0123456789") && !error.contains("space in"), "{error}");
        }
    }
}
