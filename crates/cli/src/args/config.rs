//! Arguments of `config …`.

use clap::{Subcommand, ValueEnum};

#[derive(Debug, Default, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Lists the profiles
    #[default]
    List,
    /// What the files say, where it is said, and without secrets
    Show {
        /// With what profiles inherit, the environment adds and is built in
        #[arg(long)]
        effective: bool,
    },
    /// Prints a commented file with every key
    #[command(after_help = "Example:\n  stakpak config sample autopilot | less")]
    Sample {
        /// File
        #[arg(default_value = "config")]
        file: ConfigFileName,
    },
    /// Writes commented files where there are none
    New,
    /// Checks the files; fails if anything in them cannot be used
    Validate {
        /// Warnings, such as unknown keys, are errors
        #[arg(long)]
        strict: bool,
    },
    /// Gives keys of earlier versions the names they have now; keeps a copy of the file
    Migrate,
    /// Prints where the files are
    Path,
    /// Prints a value; a secret is not shown
    #[command(
        after_help = "Examples:\n  stakpak config get server.listen\n  stakpak config get schedules.morning.cron"
    )]
    Get {
        /// Dotted key
        key: String,
    },
    /// Writes a value, and nothing else
    #[command(
        after_help = "Examples:\n  stakpak config set server.listen 127.0.0.1:5000\n  stakpak config set profiles.default.auto_approve '[\"view\"]'\n  stakpak config set channels.telegram.token - < token"
    )]
    Set {
        /// Dotted key
        key: String,
        /// Value; `-` reads it from stdin
        #[arg(allow_hyphen_values = true)]
        value: String,
    },
    /// Opens a file in $EDITOR; what cannot be used is not written
    Edit {
        /// File
        #[arg(default_value = "config")]
        file: ConfigFileName,
    },
    /// Prints the JSON Schema of both files, or of one for an editor
    Schema {
        /// File
        file: Option<ConfigFileName>,
    },
}

/// One of the two files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ConfigFileName {
    /// config.toml: profiles and providers
    Config,
    /// autopilot.toml: server, schedules and channels
    Autopilot,
}
