//! The user message of a run: the text of the definition, or of a file that is read once, when the run starts.

use std::io;

use tokio::io::AsyncReadExt;

use crate::spec::Prompt;

/// Longer files are refused: the server would not take them.
const LONGEST: u64 = 1024 * 1024;

/// Why there is no message.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PromptError {
    #[error("prompt_file {path} cannot be read")]
    Read {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("prompt_file {path} is longer than 1 MiB")]
    TooLong { path: String },
    #[error("prompt_file {path} is blank")]
    Blank { path: String },
}

/// The text to be sent, unchanged.
pub(crate) async fn text(prompt: &Prompt) -> Result<String, PromptError> {
    let path = match prompt {
        Prompt::Text(text) => return Ok(text.clone()),
        Prompt::File(path) => path,
    };
    let text = read(path).await.map_err(|source| PromptError::Read { path: path.clone(), source })?;
    if text.len() as u64 > LONGEST {
        return Err(PromptError::TooLong { path: path.clone() });
    }
    if text.trim().is_empty() {
        return Err(PromptError::Blank { path: path.clone() });
    }
    Ok(text)
}

async fn read(path: &str) -> io::Result<String> {
    let mut text = String::new();
    tokio::fs::File::open(path).await?.take(LONGEST + 1).read_to_string(&mut text).await?;
    Ok(text)
}
