//! Simple commands: their words, assignments and redirections.

use brush_parser::ast::{
    Assignment, AssignmentName, AssignmentValue, CommandPrefixOrSuffixItem as Item, IoFileRedirectKind as Kind,
    IoFileRedirectTarget as Target, IoRedirect, SimpleCommand,
};

use crate::{Doubt, Redirect, RedirectKind, Role, Word, reader::Reader};

/// What a command reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stdin {
    /// What the line was given: nothing.
    Inherited,
    /// A pipe or a file.
    Unknown,
    /// This text.
    Text(String),
}

/// Files that are free to write: they keep nothing.
const FREE: [&str; 6] = ["/dev/null", "/dev/stdout", "/dev/stderr", "/dev/fd/1", "/dev/fd/2", "/dev/tty"];

pub(crate) fn is_identifier(text: &str) -> bool {
    !text.starts_with(|char: char| char.is_ascii_digit())
        && !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

impl Reader {
    pub(crate) fn simple(&mut self, command: &SimpleCommand, stdin: Stdin) {
        let mut stdin = stdin;
        for item in command.prefix.iter().flat_map(|prefix| &prefix.0) {
            match item {
                Item::IoRedirect(redirect) => stdin = self.redirect(redirect).unwrap_or(stdin),
                Item::AssignmentWord(assignment, _) => self.assignment(assignment),
                Item::Word(word) => drop(self.word(word)),
                Item::ProcessSubstitution(_, subshell) => self.subshell(subshell),
            }
        }
        let Some(name) = &command.word_or_name else { return };
        let mut words = vec![self.word(name)];
        for item in command.suffix.iter().flat_map(|suffix| &suffix.0) {
            match item {
                Item::IoRedirect(redirect) => stdin = self.redirect(redirect).unwrap_or(stdin),
                Item::Word(word) => words.push(self.word(word)),
                Item::AssignmentWord(assignment, word) => {
                    if let AssignmentValue::Array(_) = assignment.value {
                        self.assignment(assignment);
                        words.push(Word { text: word.value.clone(), is_dynamic: true, may_split: true });
                    } else {
                        words.push(self.word(word));
                    }
                }
                Item::ProcessSubstitution(_, subshell) => {
                    self.subshell(subshell);
                    words.push(Word { text: "/dev/fd/…".to_owned(), is_dynamic: true, may_split: false });
                }
            }
        }
        let origin = self.origin.clone();
        self.invoke(words, &stdin, origin, Role::Plain);
    }

    fn assignment(&mut self, assignment: &Assignment) {
        match &assignment.name {
            AssignmentName::VariableName(name) => self.assigns(name),
            AssignmentName::ArrayElementName(name, index) => {
                self.assigns(name);
                self.arithmetic(index);
            }
        }
        match &assignment.value {
            AssignmentValue::Scalar(word) => drop(self.word(word)),
            AssignmentValue::Array(elements) => {
                for (index, value) in elements {
                    index.iter().for_each(|index| self.arithmetic(&index.value));
                    self.word(value);
                }
            }
        }
    }

    /// Notes a redirection; what the command reads then, if it is that.
    pub(crate) fn redirect(&mut self, redirect: &IoRedirect) -> Option<Stdin> {
        match redirect {
            IoRedirect::HereDocument(fd, here) => {
                let body = if here.requires_expansion {
                    self.unquoted_body(&here.doc.value)
                } else {
                    Word::of(here.doc.value.clone())
                };
                reads(*fd, text_of(&body))
            }
            IoRedirect::HereString(fd, word) => {
                let word = self.word(word);
                reads(*fd, text_of(&word))
            }
            IoRedirect::OutputAndError(word, _) => {
                let target = self.word(word);
                self.writes(target);
                None
            }
            IoRedirect::File(fd, kind, target) => self.file(*fd, kind, target),
        }
    }

    fn file(&mut self, fd: Option<i32>, kind: &Kind, target: &Target) -> Option<Stdin> {
        let target = match target {
            Target::Filename(word) | Target::Duplicate(word) => self.word(word),
            Target::Fd(_) => return None,
            Target::ProcessSubstitution(_, subshell) => {
                self.subshell(subshell);
                return reads(fd, Stdin::Unknown);
            }
        };
        match kind {
            Kind::DuplicateInput | Kind::DuplicateOutput if is_descriptor(&target) => reads(fd, Stdin::Unknown),
            Kind::Read => {
                self.is_network(&target);
                self.line.redirects.push(Redirect { kind: RedirectKind::Read, target });
                reads(fd, Stdin::Unknown)
            }
            Kind::DuplicateInput | Kind::ReadAndWrite => {
                self.writes(target);
                reads(fd, Stdin::Unknown)
            }
            Kind::Write | Kind::Append | Kind::Clobber | Kind::DuplicateOutput => {
                self.writes(target);
                None
            }
        }
    }

    fn writes(&mut self, target: Word) {
        self.is_network(&target);
        if !target.literal().is_some_and(|path| FREE.contains(&path)) {
            self.line.redirects.push(Redirect { kind: RedirectKind::Write, target });
        }
    }

    fn is_network(&mut self, target: &Word) {
        if target.text.starts_with("/dev/tcp") || target.text.starts_with("/dev/udp") {
            self.doubt(Doubt::Construct("a network connection"));
        }
    }
}

/// A redirection of another descriptor than 0 leaves what the command reads as it is.
fn reads(fd: Option<i32>, stdin: Stdin) -> Option<Stdin> {
    matches!(fd, None | Some(0)).then_some(stdin)
}

fn text_of(word: &Word) -> Stdin {
    word.literal().map_or(Stdin::Unknown, |text| Stdin::Text(text.to_owned()))
}

fn is_descriptor(word: &Word) -> bool {
    let text = word.text.strip_suffix('-').unwrap_or(&word.text);
    !word.is_dynamic && !word.text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}
