//! Schedules and runs as commands name them.

use stakpak_scheduler::RunNumber;

use crate::exit::Failure;

/// What a command is about.
pub(super) enum What<'a> {
    Run(RunNumber),
    Schedule(&'a str),
}

/// Digits and `run:N` are a run; all else and `name:X` a schedule.
pub(super) fn read(text: &str) -> Result<What<'_>, Failure> {
    let number = |text: &str| text.parse().map(|id| What::Run(RunNumber(id)));
    match text.split_once(':') {
        Some(("run", id)) => {
            number(id).map_err(|_| Failure::Usage(format!("{text}: `{id}` is not the number of a run")))
        }
        Some(("name", name)) => Ok(What::Schedule(name)),
        _ => Ok(number(text).unwrap_or(What::Schedule(text))),
    }
}
