//! A prompt without `run`: `stakpak "…"`, `stakpak -a "…"`, `stakpak -p "…"` are `stakpak run …`.
//!
//! What looks like a command that is not there is no prompt: nobody wants a misspelt `status` to be carried out.

use std::ffi::{OsStr, OsString};

use clap::{Arg, Command};

use crate::exit::Failure;

/// Commands of earlier versions that this product has not, and what to use.
const GONE: [(&str, &str); 10] = [
    ("account", "there are no accounts; providers are configured in config.toml"),
    ("login", "there are no accounts; for the key of a provider use `stakpak auth login`"),
    ("logout", "there are no accounts; for the key of a provider use `stakpak auth logout`"),
    ("board", "use `stakpak schedule` for work that comes back, and your issue tracker for the rest"),
    ("browser", "use a browser tool server of your choice"),
    ("ak", "use files that the agent can read"),
    ("rulebooks", "use files that the agent can read, named in the profile's system_prompt"),
    ("acp", "use the HTTP API: `stakpak up`, then /docs at its address"),
    ("warden", "use `stakpak run --sandbox`"),
    ("update", "install a newer version the way this one was installed"),
];

/// The arguments with `run` put where it is left out.
pub(crate) fn arguments(cli: &Command, mut arguments: Vec<OsString>) -> Result<Vec<OsString>, Failure> {
    let Some(place) = first_of_command(cli, &arguments) else { return Ok(arguments) };
    let first = arguments[place].to_string_lossy().into_owned();
    if is_known(cli, &first) {
        return Ok(arguments);
    }
    if let Some((name, advice)) = GONE.iter().find(|(name, _)| *name == first) {
        return Err(Failure::Usage(format!("`stakpak {name}` is not part of this product: {advice}")));
    }
    if let Some(command) = nearest(cli, &first) {
        let text = format!(
            "there is no command {first:?}; did you mean `stakpak {command}`? As a prompt: stakpak run {first:?}"
        );
        return Err(Failure::Usage(text));
    }
    arguments.insert(place, "run".into());
    Ok(arguments)
}

/// Where the command begins: behind the program's name and the flags that every command takes.
fn first_of_command(cli: &Command, arguments: &[OsString]) -> Option<usize> {
    let mut place = 1;
    while let Some(flag) = global(cli, arguments.get(place)?) {
        let takes_next = flag.get_action().takes_values() && is_bare(flag, &arguments[place]);
        place += if takes_next { 2 } else { 1 };
    }
    (place < arguments.len()).then_some(place)
}

/// The global flag that this argument is.
fn global<'a>(cli: &'a Command, argument: &OsStr) -> Option<&'a Arg> {
    let text = argument.to_str()?;
    let is = |flag: &&Arg| match text.strip_prefix("--") {
        Some(long) => flag.get_long() == Some(long.split('=').next().unwrap_or_default()),
        None => text.strip_prefix('-').is_some_and(|short| {
            let mut letters = short.chars();
            letters.next().is_some_and(|letter| flag.get_short() == Some(letter))
        }),
    };
    cli.get_arguments().filter(|flag| flag.is_global_set()).find(is)
}

/// Whether its value, if it has one, is the next argument.
fn is_bare(flag: &Arg, argument: &OsStr) -> bool {
    let text = argument.to_string_lossy();
    text.len() == 2 || flag.get_long().is_some_and(|long| text.strip_prefix("--") == Some(long))
}

/// A command, or a flag of clap's own.
fn is_known(cli: &Command, first: &str) -> bool {
    matches!(first, "help" | "-h" | "--help" | "-V" | "--version")
        || cli
            .get_subcommands()
            .any(|command| command.get_name() == first || command.get_all_aliases().any(|alias| alias == first))
}

/// The command that one word is a misspelling of.
fn nearest<'a>(cli: &'a Command, word: &str) -> Option<&'a str> {
    if !word.chars().all(|letter| letter.is_ascii_lowercase() || letter == '-') || word.starts_with('-') {
        return None;
    }
    let names = cli.get_subcommands().map(Command::get_name);
    let distances = names.map(|name| (strsim::damerau_levenshtein(word, name), name));
    let near = distances.filter(|(distance, name)| *distance <= 1.max(word.len().min(name.len()) / 3));
    near.min_by_key(|(distance, _)| *distance).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::args::Cli;

    fn filled_in(line: &str) -> Result<String, String> {
        let arguments = std::iter::once("stakpak").chain(line.split(' ').filter(|word| !word.is_empty()));
        let arguments = arguments.map(OsString::from).collect();
        let filled = super::arguments(&Cli::command(), arguments).map_err(|error| error.to_string())?;
        Ok(filled.iter().skip(1).map(|argument| argument.to_string_lossy()).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn a_prompt_without_run_is_a_run() {
        for (line, filled) in [
            ("-a Clean?", "run -a Clean?"),
            ("-p Clean?", "run -p Clean?"),
            ("--async -m 3 Clean?", "run --async -m 3 Clean?"),
            ("Clean?", "run Clean?"),
            ("--profile ops -w /tmp Clean?", "--profile ops -w /tmp run Clean?"),
            ("--profile=ops --json -w/tmp -c id", "--profile=ops --json -w/tmp run -c id"),
            ("status", "status"),
            ("--home status status", "--home status status"),
            ("--help", "--help"),
            ("--json", "--json"),
            ("", ""),
        ] {
            assert_eq!(filled_in(line).as_deref(), Ok(filled), "{line}");
        }
    }

    #[test]
    fn what_looks_like_a_command_is_no_prompt() {
        for (line, said) in [("statsu", "stakpak status"), ("login", "not part"), ("--json warden", "--sandbox")] {
            let error = filled_in(line).unwrap_err();
            assert!(error.contains(said), "{line}: {error}");
        }
    }
}
