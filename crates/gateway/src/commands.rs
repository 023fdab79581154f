//! What people say to the gateway itself: `/new`, `/stop`, `/status` and the like.
//!
//! A command is an inbox row as a message is, so it survives a crash and is done once, but it never waits behind a run.
//! What is no known command goes to the agent as text.

mod run;

pub(crate) use run::{Commander, Commands};

use crate::access::Role;

/// What may be said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    Help,
    Status,
    WhoAmI,
    /// A fresh session, and perhaps its first message.
    New(Option<String>),
    Stop,
    Queue,
    QueueClear,
    QueueContinue,
    /// A text into the running run.
    Steer(String),
    Retry,
    Resend,
    Model(Option<String>),
    Schedules,
    /// Something done to a schedule, by its name.
    Schedule(ScheduleAct, String),
    /// A decision by text; the words behind the command.
    Approve(Vec<String>),
    Deny(Vec<String>),
    Show(Vec<String>),
    Pair(String),
    Allow(String),
    Revoke(String),
    /// Known, but not like this: what it takes.
    Usage(&'static str),
}

/// What is done to a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScheduleAct {
    /// It runs now.
    Run,
    /// It does not fire.
    Pause,
    /// It fires again.
    Resume,
}

/// For `/help`.
pub(crate) const HELP: &str = "\
`/help` – this
`/status` – run, queue, model, approvals, undelivered messages
`/whoami` – your id and role
`/new [text]` – a fresh session for this chat; the old one stays on the server
`/stop` – ends the run and holds the queue
`/queue [clear|continue]` – waiting messages
`/steer <text>` – a text into the running run
`/retry` – the last failed message again
`/resend` – undelivered messages again
`/approve [id] [n|all]`, `/deny [id] [n|all] [reason]`, `/show [id]` – decide what waits
`/model [name|default]` – the model of this chat
`/schedules`, `/schedule run|pause|resume <name>`
`/pair <code>`, `/allow <id>`, `/revoke <id>` – who may talk";

impl Command {
    /// The command at the start of a text, with `/` or `!`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let rest = text.strip_prefix(['/', '!'])?;
        let (name, arguments) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let arguments = arguments.trim();
        let some = || (!arguments.is_empty()).then(|| arguments.to_owned());
        let words = || arguments.split_whitespace().map(str::to_owned).collect();
        let needed = |make: fn(String) -> Self, usage| Some(some().map_or(Self::Usage(usage), make));
        match name.to_lowercase().as_str() {
            "help" | "start" => Some(Self::Help),
            "status" => Some(Self::Status),
            "whoami" => Some(Self::WhoAmI),
            "new" => Some(Self::New(some())),
            "stop" => Some(Self::Stop),
            "queue" => Some(match arguments {
                "" => Self::Queue,
                "clear" => Self::QueueClear,
                "continue" => Self::QueueContinue,
                _ => Self::Usage("/queue [clear|continue]"),
            }),
            "steer" => needed(Self::Steer, "/steer <text>"),
            "retry" => Some(Self::Retry),
            "resend" => Some(Self::Resend),
            "model" => Some(Self::Model(some())),
            "schedules" => Some(Self::Schedules),
            "schedule" => Some(match arguments.split_once(char::is_whitespace) {
                Some(("run", name)) => Self::Schedule(ScheduleAct::Run, name.trim().to_owned()),
                Some(("pause", name)) => Self::Schedule(ScheduleAct::Pause, name.trim().to_owned()),
                Some(("resume", name)) => Self::Schedule(ScheduleAct::Resume, name.trim().to_owned()),
                _ => Self::Usage("/schedule run|pause|resume <name>"),
            }),
            "approve" => Some(Self::Approve(words())),
            "deny" => Some(Self::Deny(words())),
            "show" => Some(Self::Show(words())),
            "pair" => needed(Self::Pair, "/pair <code>"),
            "allow" => needed(Self::Allow, "/allow <user id>"),
            "revoke" => needed(Self::Revoke, "/revoke <user id>"),
            _ => None,
        }
    }

    /// Who may say it.
    pub(crate) fn role(&self) -> Role {
        match self {
            // Who decides is looked at with the approval: it may be who asked.
            Self::Schedule(..) => Role::Approver,
            Self::Model(Some(_)) | Self::Allow(_) | Self::Revoke(_) => Role::Admin,
            _ => Role::User,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Command, ScheduleAct};

    #[test]
    fn a_command_is_the_first_word_with_a_slash_or_a_bang() {
        assert_eq!(Command::parse("/new"), Some(Command::New(None)));
        assert_eq!(Command::parse(" !NEW  two words\nmore "), Some(Command::New(Some("two words\nmore".to_owned()))));
        assert_eq!(Command::parse("/queue clear"), Some(Command::QueueClear));
        let pause = Command::Schedule(ScheduleAct::Pause, "nightly".to_owned());
        assert_eq!(Command::parse("/schedule pause nightly"), Some(pause));
        assert_eq!(Command::parse("/steer"), Some(Command::Usage("/steer <text>")));
    }

    #[test]
    fn everything_else_is_for_the_agent() {
        for text in ["new", "/etc/hosts is odd", "/unknown", "say /new", "", "/"] {
            assert_eq!(Command::parse(text), None, "{text}");
        }
    }
}
