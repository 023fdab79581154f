//! What a run said, from its events.

use stakpak_client::protocol::{Event, StopDetail, StopReason};

use super::{notice, segments::Segments};

/// The text of a run so far.
#[derive(Debug, Default)]
pub(super) struct Answer {
    texts: Vec<String>,
    /// Events were lost: the message list has the text.
    pub(super) incomplete: bool,
    /// Texts that were to go into the run and did not.
    pub(super) unconsumed: Vec<String>,
    /// The gateway ended the run for the time it took.
    pub(super) timed_out: bool,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ending {
    /// As it is stored.
    pub(super) outcome: &'static str,
    /// What the chat is told besides the text.
    pub(super) remark: Option<String>,
}

impl Answer {
    pub(super) fn from_texts(texts: Vec<String>) -> Self {
        Self { texts, ..Self::default() }
    }

    /// The ending, if the event is the last one. `text_complete` holds the whole text of its turn, deltas are not needed.
    pub(super) fn take(&mut self, event: Event) -> Option<Ending> {
        match event {
            Event::TextComplete { text, .. } => {
                self.texts.push(text);
                None
            }
            Event::RunCompleted { stop_reason, detail, unconsumed, .. } => {
                self.unconsumed = unconsumed.into_iter().map(|command| command.text).collect();
                Some(Ending::of(stop_reason, detail))
            }
            Event::RunError { error, unconsumed, .. } => {
                self.unconsumed = unconsumed.into_iter().map(|command| command.text).collect();
                Some(Ending::failed(&error))
            }
            _ => None,
        }
    }

    /// What the chat is told. Never empty.
    pub(super) fn into_text(self, ending: &Ending) -> String {
        Some(told(self.texts, ending)).filter(|text| !text.is_empty()).unwrap_or_else(|| notice::NO_ANSWER.to_owned())
    }

    /// What the chat is told besides what it was told before; may be empty.
    pub(super) fn into_rest(self, ending: &Ending, segments: &Segments) -> String {
        if segments.sent.messages == 0 {
            return self.into_text(ending);
        }
        told(segments.unsent(self.texts), ending)
    }
}

fn told(texts: Vec<String>, ending: &Ending) -> String {
    let mut pieces: Vec<_> = texts.into_iter().filter(|text| !text.trim().is_empty()).collect();
    pieces.extend(ending.remark.clone());
    pieces.join("\n\n")
}

impl Ending {
    pub(super) fn of(stop_reason: StopReason, detail: Option<StopDetail>) -> Self {
        match stop_reason {
            StopReason::Completed => Self { outcome: "completed", remark: None },
            StopReason::Cancelled => Self { outcome: "cancelled", remark: Some(notice::CANCELLED.to_owned()) },
            StopReason::MaxTurns => {
                let remark = match detail {
                    Some(StopDetail::NoProgress) => notice::NO_PROGRESS,
                    None => notice::MAX_TURNS,
                };
                Self { outcome: "completed", remark: Some(remark.to_owned()) }
            }
            StopReason::Error => Self::failed("unknown error"),
        }
    }

    pub(super) fn failed(error: &str) -> Self {
        Self { outcome: "failed", remark: Some(notice::run_failed(error)) }
    }

    /// The same for a run that was ended because it took too long.
    pub(super) fn timed_out(self) -> Self {
        if self.outcome == "completed" {
            self
        } else {
            Self { outcome: "timed_out", remark: Some(notice::TIMED_OUT.to_owned()) }
        }
    }

    pub(super) fn lost() -> Self {
        Self { outcome: "failed", remark: Some(notice::RUN_LOST.to_owned()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever reads the chat learns why nothing more comes, and what would help.
    #[test]
    fn an_end_without_an_answer_says_why() {
        let remark = |detail| Ending::of(StopReason::MaxTurns, detail).remark.unwrap();
        assert_eq!(remark(None), notice::MAX_TURNS);
        assert!(remark(Some(StopDetail::NoProgress)).contains("same results"));
        assert_eq!(Ending::of(StopReason::Completed, None).remark, None);
    }
}
