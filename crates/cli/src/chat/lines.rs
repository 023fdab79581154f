//! Lines from a terminal, with editing and history; or from a pipe, without.

use std::io::{BufRead, IsTerminal};

use anyhow::Result;
use rustyline::{DefaultEditor, error::ReadlineError};

/// What came.
#[derive(Debug)]
pub(super) enum Line {
    Text(String),
    /// Ctrl-C while nothing runs.
    Interrupted,
    End,
}

pub(super) enum Lines {
    Terminal(Option<Box<DefaultEditor>>),
    Pipe,
}

impl Lines {
    pub(super) fn open() -> Result<Self> {
        Ok(if std::io::stdin().is_terminal() {
            Self::Terminal(Some(Box::new(DefaultEditor::new()?)))
        } else {
            Self::Pipe
        })
    }

    /// Lines that end with a backslash are one with the next.
    pub(super) async fn next(&mut self) -> Result<Line> {
        let mut text = String::new();
        loop {
            let line = match self.line(if text.is_empty() { "> " } else { "… " }).await? {
                Line::Text(line) => line,
                other => return Ok(other),
            };
            match line.strip_suffix('\\') {
                Some(begin) => text.push_str(&format!("{begin}\n")),
                None => return Ok(Line::Text(text + &line)),
            }
        }
    }

    async fn line(&mut self, prompt: &'static str) -> Result<Line> {
        match self {
            Self::Pipe => {
                let mut line = String::new();
                let read = move || std::io::stdin().lock().read_line(&mut line).map(|read| (read, line));
                let (read, line) = tokio::task::spawn_blocking(read).await??;
                Ok(if read == 0 { Line::End } else { Line::Text(line.trim_end_matches(['\n', '\r']).to_owned()) })
            }
            Self::Terminal(editor) => {
                let mut taken = match editor.take() {
                    Some(editor) => editor,
                    None => Box::new(DefaultEditor::new()?),
                };
                let (back, line) = tokio::task::spawn_blocking(move || {
                    let line = taken.readline(prompt);
                    if let Ok(line) = &line {
                        let _ = taken.add_history_entry(line);
                    }
                    (taken, line)
                })
                .await?;
                *editor = Some(back);
                match line {
                    Ok(line) => Ok(Line::Text(line)),
                    Err(ReadlineError::Interrupted) => Ok(Line::Interrupted),
                    Err(ReadlineError::Eof) => Ok(Line::End),
                    Err(error) => Err(error.into()),
                }
            }
        }
    }
}
