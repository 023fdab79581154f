//! Arguments of `auth …`.

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum AuthCommand {
    /// Stores the key of a provider for a profile, in auth.toml
    #[command(
        after_help = "Examples:\n  stakpak auth login --provider anthropic\n  stakpak auth login --provider openai --api-key - < key\n  \
                      stakpak auth login --provider my --endpoint http://127.0.0.1:8000/v1 --api-key env:MY_KEY\n\n\
                      With --profile all it holds for every profile. A key that config.toml has goes before it, and it goes before\n\
                      the variables, such as ANTHROPIC_API_KEY."
    )]
    Login(AuthLoginArgs),
    /// Forgets a key that `auth login` has stored
    Logout {
        /// Provider
        #[arg(long, value_name = "NAME")]
        provider: String,
    },
    /// Lists the keys that are stored; none is shown
    List,
    /// The providers of the profile, and where the key of each comes from
    Status,
}

#[derive(Debug, Args)]
pub(crate) struct AuthLoginArgs {
    /// Provider: anthropic, openai, gemini, openrouter, or the name of a table in config.toml [default: asks]
    #[arg(long, value_name = "NAME")]
    pub(crate) provider: Option<String>,
    /// Its key, or a reference such as env:NAME; `-` reads it from stdin [default: asks]
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    pub(crate) api_key: Option<String>,
    /// Base URL, for a provider that is not known by name; written to config.toml
    #[arg(long, value_name = "URL")]
    pub(crate) endpoint: Option<String>,
    /// Accepted for older scripts; no provider of this version has regions
    #[arg(long, value_name = "REGION", hide = true)]
    pub(crate) region: Option<String>,
}
