//! What is shown of a run while it goes on: its text, and notes about what it does.
//!
//! The answer goes to stdout, everything else to stderr. With JSON nothing is shown: the manifest tells it.

use std::{io::IsTerminal, time::Duration};

use stakpak_client::EventEnvelope;
use stakpak_protocol::Event;

use crate::output;

/// How the text is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// As it comes.
    Streamed,
    /// The last answer when the run has ended; what was said before it is progress.
    Complete,
    /// Not at all.
    Silent,
}

impl Style {
    /// Text streams only to who watches it.
    pub(crate) fn new(json: bool, no_stream: bool) -> Self {
        match json {
            true => Self::Silent,
            false if no_stream || !std::io::stdout().is_terminal() => Self::Complete,
            false => Self::Streamed,
        }
    }
}

pub(crate) struct Printer {
    style: Style,
    /// The last answer's text.
    text: String,
    at_line_start: bool,
}

impl Printer {
    pub(crate) fn new(style: Style) -> Self {
        Self { style, text: String::new(), at_line_start: true }
    }

    pub(super) fn show(&mut self, envelope: &EventEnvelope) {
        match &envelope.event {
            Event::TurnStarted { .. } => self.begin_turn(),
            Event::TextDelta { delta, .. } => self.piece(delta),
            Event::TextComplete { text, .. } => {
                self.text.clone_from(text);
                self.end_line();
            }
            Event::ToolExecutionStarted { tool_name, .. } => self.note(&format!("running {tool_name} …")),
            Event::ToolRejected { tool_name, reason, .. } => self.note(&format!("{tool_name} was not run: {reason}")),
            Event::RetryAttempt { delay_ms, reason, .. } => {
                self.end_line();
                let delay = Duration::from_millis(*delay_ms);
                match delay.is_zero() {
                    true => self.note(reason),
                    false => self.note(&format!("{reason}; trying again in {:.1} s", delay.as_secs_f64())),
                }
            }
            _ => {}
        }
    }

    /// What came before is no answer, as there is more.
    fn begin_turn(&mut self) {
        let text = std::mem::take(&mut self.text);
        if self.style == Style::Complete && !text.trim().is_empty() && !output::is_quiet() {
            eprintln!("{}", text.trim_end());
        }
    }

    fn piece(&mut self, delta: &str) {
        if self.style == Style::Streamed {
            output::piece(delta);
            self.at_line_start = delta.ends_with('\n');
        }
    }

    fn end_line(&mut self) {
        if !self.at_line_start {
            output::line("");
        }
        self.at_line_start = true;
    }

    pub(crate) fn note(&self, text: &str) {
        if self.style != Style::Silent && !output::is_quiet() {
            eprintln!("· {text}");
        }
    }

    /// The last answer, shown if it was not yet.
    pub(crate) fn end(mut self) -> String {
        self.end_line();
        if self.style == Style::Complete && !self.text.trim().is_empty() {
            output::line(self.text.trim_end_matches('\n'));
        }
        self.text
    }
}
