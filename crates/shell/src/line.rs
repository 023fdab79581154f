//! What was read.

use std::{collections::BTreeSet, fmt};

/// A command line as bash would start it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Line {
    /// Every simple command, those inside others too.
    pub commands: Vec<Command>,
    /// Files that are read or written by redirection. Null devices and copies of descriptors are left out.
    pub redirects: Vec<Redirect>,
    /// Why it is not fully understood; empty: it is.
    pub doubts: BTreeSet<Doubt>,
}

/// A simple command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Its first word.
    pub name: Word,
    /// The others.
    pub arguments: Vec<Word>,
    /// Whether it stands for itself.
    pub role: Role,
    /// Where it was found.
    pub origin: Origin,
}

/// Whether a command stands for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It does.
    Plain,
    /// It only starts another, which is listed too: `env`, `timeout`.
    Transparent,
    /// It may be started; a doubt says so.
    Possible,
}

/// Where a command was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// In the line itself.
    Line,
    /// In text that a shell is given: `sh -c`, `eval`, a here-document.
    Text,
    /// Among the arguments of this program.
    Program(String),
}

/// A word after quotes and escapes are removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// The word; of a dynamic one, expansions stand as they are written.
    pub text: String,
    /// Whether it holds an expansion or an unquoted glob.
    pub is_dynamic: bool,
    /// Whether it may become several words, or none.
    pub may_split: bool,
}

/// A file named by a redirection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// Read or written.
    pub kind: RedirectKind,
    /// The file.
    pub target: Word,
}

/// What a redirection does to its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedirectKind {
    /// It is only read.
    Read,
    /// It is made, truncated or written.
    Write,
}

/// Why a line is not fully understood.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Doubt {
    /// Over 16 KiB: not read.
    TooLong,
    /// More than 16 constructs inside each other.
    TooDeep,
    /// A character that people do not see, or take for another.
    Character(char),
    /// Bash would refuse it, or reads it in a way that is not known here.
    Syntax,
    /// A construct whose effect depends on more than the text.
    Construct(&'static str),
    /// A variable that changes what programs do.
    Sets(String),
    /// A program that is given its work in a way that cannot be read.
    Runs(String),
}

impl Line {
    /// Whether it could not be read at all, or not to its end: programs may be missing.
    #[must_use]
    pub fn is_unread(&self) -> bool {
        self.doubts
            .iter()
            .any(|doubt| matches!(doubt, Doubt::TooLong | Doubt::TooDeep | Doubt::Character(_) | Doubt::Syntax))
    }

    /// Whether it holds commands, each of the read-only list, and nothing else.
    #[must_use]
    pub fn only_looks(&self) -> bool {
        let clear = self.doubts.is_empty() && self.redirects.is_empty() && !self.commands.is_empty();
        clear && self.commands.iter().all(Command::only_looks)
    }
}

impl Command {
    /// Whether it is on the read-only list: no argument makes it write, run or send anything.
    #[must_use]
    pub fn only_looks(&self) -> bool {
        /// Nothing joins that can write, run or send with any option.
        const PROGRAMS: [&str; 9] = ["df", "free", "uptime", "uname", "nproc", "whoami", "id", "pwd", "vm_stat"];
        self.name.literal().is_some_and(|name| PROGRAMS.contains(&name))
            && self.arguments.iter().all(|argument| !argument.is_dynamic)
    }
}

impl Word {
    /// A word without expansions.
    #[must_use]
    pub fn of(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_dynamic: false, may_split: false }
    }

    /// Its text, if it is fixed.
    #[must_use]
    pub fn literal(&self) -> Option<&str> {
        (!self.is_dynamic).then_some(self.text.as_str())
    }

    /// What follows the last slash.
    #[must_use]
    pub fn base_name(&self) -> &str {
        self.text.rsplit_once('/').map_or(self.text.as_str(), |(_, base)| base)
    }

    /// The rest of it from this byte on.
    pub(crate) fn from(&self, start: usize) -> Self {
        Self { text: self.text.get(start..).unwrap_or_default().to_owned(), ..*self }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name.text)?;
        self.arguments.iter().try_for_each(|argument| write!(f, " {}", argument.text))
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => f.write_str("it is longer than 16 KiB"),
            Self::TooDeep => f.write_str("its parts are nested too deep"),
            Self::Character(char) => write!(f, "it holds the character U+{:04X}", u32::from(*char)),
            Self::Syntax => f.write_str("its syntax is not understood"),
            Self::Construct(what) => write!(f, "it holds {what}"),
            Self::Sets(name) => write!(f, "it sets {name}"),
            Self::Runs(what) => write!(f, "what {what} does is not in the line"),
        }
    }
}
