//! What is said to the terminal itself.

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    Help,
    New,
    Model(Option<String>),
    Status,
    Exit,
    Unknown(String),
}

pub(super) const HELP: &str = "\
/new              a new session; the old one stays
/model [NAME]     shows or sets the model; `default` is that of the profile
/status           session, model, directory
/exit             ends, as Ctrl-D does
Ctrl-C ends a run. A line that ends with \\ goes on in the next.";

impl Command {
    /// None for a message.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let rest = line.trim().strip_prefix('/')?;
        let (name, argument) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        // A path is no command.
        if name.contains('/') {
            return None;
        }
        let argument = Some(argument.trim()).filter(|argument| !argument.is_empty()).map(str::to_owned);
        Some(match name {
            "help" | "?" => Self::Help,
            "new" => Self::New,
            "model" => Self::Model(argument),
            "status" => Self::Status,
            "exit" | "quit" => Self::Exit,
            name => Self::Unknown(name.to_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Command;

    #[test]
    fn a_command_is_told_from_a_message_and_a_path() {
        assert_eq!(Command::parse("/model a/b "), Some(Command::Model(Some("a/b".to_owned()))));
        assert_eq!(Command::parse("/quit"), Some(Command::Exit));
        assert_eq!(Command::parse("/what now"), Some(Command::Unknown("what".to_owned())));
        assert_eq!(Command::parse("/var/log is full"), None);
        assert_eq!(Command::parse("how full is /var?"), None);
    }
}
