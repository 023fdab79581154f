//! Arguments of `sessions …`.

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum SessionsCommand {
    /// Lists sessions, newest first
    List {
        /// Only those whose title holds this
        #[arg(long, value_name = "TEXT")]
        search: Option<String>,
        /// Most sessions
        #[arg(long, default_value_t = 20, value_name = "N")]
        limit: usize,
        /// Newest ones to leave out
        #[arg(long, default_value_t = 0, value_name = "N")]
        offset: usize,
    },
    /// Shows the messages of a session, the newest at the end
    #[command(after_help = "Example:\n  stakpak sessions show 3f1c2a9e --role user --limit 0")]
    Show {
        /// Session; its first 8 characters are enough
        id: String,
        /// Only messages of user, assistant, tool or system
        #[arg(long, value_name = "ROLE")]
        role: Option<String>,
        /// Most messages, the newest; 0 for all
        #[arg(long, default_value_t = 50, value_name = "N")]
        limit: usize,
        /// Newest ones to leave out
        #[arg(long, default_value_t = 0, value_name = "N")]
        offset: usize,
    },
}
