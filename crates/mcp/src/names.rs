//! Names: of servers as people write them, of tools as the model sees them.
//!
//! A full name is `server__tool` and is split at its first `__`; a server's name has none, so no two servers can offer the
//! same one.

use sha2::{Digest, Sha256};

/// Providers accept no longer names of tools.
const MAX_FULL_NAME: usize = 64;
/// What is kept of a longer one before `_` and 8 hex digits of its hash.
const KEPT: usize = 55;
const MAX_SERVER_NAME: usize = 32;
/// The product's own.
const RESERVED: [&str; 3] = ["stakpak", "paks", "aap"];

/// A name that a server cannot have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It is the product's own.
    #[error("`{0}` is a name of the product's own tools; choose another")]
    Reserved(String),
    /// It would not be told apart from a tool's name.
    #[error(
        "a server's name is made of words of A-Z, a-z, 0-9 and `-`, with single `_` between them, 32 characters at most; `{0}` is not"
    )]
    Malformed(String),
}

/// Checks the name of a server.
///
/// # Errors
/// What is wrong with it.
pub fn check_server_name(name: &str) -> Result<(), NameError> {
    if RESERVED.contains(&name) {
        return Err(NameError::Reserved(name.to_owned()));
    }
    let is_word =
        |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if name.len() > MAX_SERVER_NAME || !name.split('_').all(is_word) {
        return Err(NameError::Malformed(name.to_owned()));
    }
    Ok(())
}

/// What the model calls a server's tool. The tool's own name is kept apart, for the call.
pub(crate) fn full_name(server: &str, tool: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '_' };
    let name: String = format!("{server}__").chars().chain(tool.chars().map(plain)).collect();
    if name.len() <= MAX_FULL_NAME {
        return name;
    }
    let hash = hex(&Sha256::digest(format!("{server}__{tool}")));
    format!("{}_{}", &name[..KEPT], &hash[..8])
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// C-P60
    #[test]
    fn a_servers_name_has_no_double_underscore_and_is_not_ours() {
        for name in ["github", "my-docs", "a_b_c", "X1", &"s".repeat(32)] {
            assert_eq!(check_server_name(name), Ok(()), "{name}");
        }
        for name in ["", "a__b", "_a", "a_", "a b", "a.b", "é", &"s".repeat(33)] {
            assert_eq!(check_server_name(name), Err(NameError::Malformed(name.to_owned())), "{name}");
        }
        for name in RESERVED {
            assert_eq!(check_server_name(name), Err(NameError::Reserved(name.to_owned())));
        }
    }

    /// C-P60
    #[test]
    fn every_tool_has_a_name_that_providers_accept() {
        assert_eq!(full_name("git", "list_issues"), "git__list_issues");
        assert_eq!(full_name("git", "a__b"), "git__a__b");
        assert_eq!(full_name("git", "list issues.v2/é"), "git__list_issues_v2__");
        let long = full_name("git", &"x".repeat(100));
        assert_eq!(long.len(), 64);
        assert!(long.starts_with(&format!("git__{}_", "x".repeat(50))));
        assert_ne!(long, full_name("git", &format!("{}y", "x".repeat(99))));
        assert_eq!(full_name("git", &"x".repeat(59)), format!("git__{}", "x".repeat(59)));
    }
}
