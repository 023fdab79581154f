//! The menu of commands, made of what `/help` says.

use std::{convert::Infallible, future::pending, sync::atomic::Ordering};

use super::{
    TelegramChannel,
    methods::{MenuEntry, SetMyCommands},
    send::cut,
};
use crate::commands::HELP;

/// Of a description.
const LONGEST: usize = 256;

impl TelegramChannel {
    /// Once, as well as it goes; then waits for ever.
    pub(super) async fn set_menu(&self) -> Infallible {
        if !self.menu_set.swap(true, Ordering::Relaxed)
            && let Err(failure) = self.api.try_call(SetMyCommands { commands: entries(HELP) }).await
        {
            tracing::info!(?failure, "the menu of commands was not set");
        }
        pending().await
    }
}

/// Of each line "`/name …`, `/other` – what for" the names and what for.
fn entries(help: &str) -> Vec<MenuEntry> {
    let mut entries = Vec::new();
    for line in help.lines() {
        let (commands, what) = line.split_once(" – ").unwrap_or((line, line));
        let description = cut(&what.replace('`', ""), LONGEST);
        let quoted = commands.split('`').skip(1).step_by(2);
        for command in quoted.filter_map(|command| command.strip_prefix('/')?.split_whitespace().next()) {
            let command = command.to_owned();
            if !entries.iter().any(|entry: &MenuEntry| entry.command == command) {
                entries.push(MenuEntry { command, description: description.clone() });
            }
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_of_the_help_is_in_the_menu() {
        let entries = entries(HELP);
        for command in HELP.split("`/").skip(1) {
            let name = command.split(['`', ' ']).next().unwrap();
            assert!(entries.iter().any(|entry| entry.command == name), "{name} of {entries:?}");
        }
        assert!(entries.iter().all(|entry| !entry.description.is_empty()));
        assert_eq!(entries[0], MenuEntry { command: "help".to_owned(), description: "this".to_owned() });
    }
}
