//! What to do: from the command line, from a file, or from stdin when that is no terminal.

use std::{
    io::{IsTerminal, Read},
    path::Path,
};

use anyhow::{Context, Result, bail};

use crate::{args::RunArgs, exit::Failure};

/// What the command line says; none when it is left to stdin.
pub(super) fn given(args: &RunArgs) -> Result<Option<String>> {
    let prompt = match (&args.prompt, &args.prompt_file) {
        (Some(prompt), _) => prompt.clone(),
        (None, Some(path)) => read("--prompt-file", path)?,
        (None, None) => return Ok(None),
    };
    not_empty(prompt, "the prompt").map(Some)
}

/// What stdin says.
pub(super) fn of_stdin() -> Result<String> {
    if std::io::stdin().is_terminal() {
        bail!(Failure::Usage("nothing to do: give a prompt, such as `stakpak run \"status\"`".to_owned()));
    }
    let mut prompt = String::new();
    std::io::stdin().read_to_string(&mut prompt).context("stdin cannot be read")?;
    not_empty(prompt, "the prompt")
}

/// `--system-prompt-file`.
pub(super) fn of_system(args: &RunArgs) -> Result<Option<String>> {
    let Some(path) = &args.system_prompt_file else { return Ok(None) };
    not_empty(read("--system-prompt-file", path)?, "the system prompt").map(Some)
}

fn read(flag: &str, path: &Path) -> Result<String> {
    std::fs::read_to_string(path)
        .map_err(|error| Failure::Usage(format!("{flag} {}: cannot be read: {error}", path.display())).into())
}

fn not_empty(text: String, what: &str) -> Result<String> {
    if text.trim().is_empty() {
        bail!(Failure::Usage(format!("{what} is empty")));
    }
    Ok(text)
}
