//! Questions at the terminal, on stderr; where nobody may be asked, the proposal is the answer.

use std::io::{BufRead, IsTerminal, Write};

use anyhow::{Context, Result, bail};

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    /// The person at the terminal.
    Person,
    /// Nobody: what is proposed is taken.
    Nobody,
}

impl Asker {
    /// A person, if that is wanted and there is one.
    pub(crate) fn new(wanted: bool) -> Self {
        if wanted && std::io::stdin().is_terminal() { Self::Person } else { Self::Nobody }
    }

    pub(crate) fn is_person(self) -> bool {
        self == Self::Person
    }

    /// Something a person should know before the next question.
    pub(crate) fn tell(self, text: &str) {
        if self.is_person() {
            eprintln!("{text}");
        }
    }

    /// One line; blank means the proposal, which may be blank itself.
    pub(crate) fn text(self, question: &str, proposal: &str) -> Result<String> {
        if !self.is_person() {
            return Ok(proposal.to_owned());
        }
        match proposal {
            "" => eprint!("{question}: "),
            proposal => eprint!("{question} [{proposal}]: "),
        }
        std::io::stderr().flush()?;
        let mut answer = String::new();
        if std::io::stdin().lock().read_line(&mut answer)? == 0 {
            bail!("broken off; nothing was written");
        }
        let answer = answer.trim();
        Ok(if answer.is_empty() { proposal.to_owned() } else { answer.to_owned() })
    }

    /// As [`Asker::text`] until `read` takes the answer. A proposal that it does not take is an error.
    pub(crate) fn checked<T>(
        self,
        question: &str,
        proposal: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T> {
        loop {
            match read(&self.text(question, proposal)?) {
                Ok(answer) => return Ok(answer),
                Err(error) if self.is_person() => eprintln!("  {error}"),
                Err(error) => bail!(error),
            }
        }
    }

    /// A line that is not shown; none if it is blank or nobody is asked.
    pub(crate) fn secret(self, question: &str) -> Result<Option<String>> {
        if !self.is_person() {
            return Ok(None);
        }
        let answer = rpassword::prompt_password(format!("{question} (not shown): ")).context("nothing was read")?;
        Ok(Some(answer.trim().to_owned()).filter(|answer| !answer.is_empty()))
    }
}
