//! Variables that change what programs do, or which program a name means.

/// Exact names.
const NAMES: [&str; 18] = [
    "PATH",
    "IFS",
    "ENV",
    "BASH_ENV",
    "PROMPT_COMMAND",
    "PAGER",
    "EDITOR",
    "VISUAL",
    "LESSOPEN",
    "LESSCLOSE",
    "NODE_OPTIONS",
    "RUBYOPT",
    "PS0",
    "PS4",
    "SHELLOPTS",
    "BASHOPTS",
    "HOME",
    "CDPATH",
];
/// What other names begin with.
const PREFIXES: [&str; 6] = ["LD_", "DYLD_", "GIT_", "PYTHON", "PERL5", "BASH_FUNC_"];

/// Whether setting the variable may change what the rest of a command line starts.
#[must_use]
pub fn is_dangerous(name: &str) -> bool {
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}
