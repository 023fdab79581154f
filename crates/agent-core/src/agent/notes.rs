//! What the server tells the model of its run: the last message of a request, and no part of the history.
//!
//! It follows from the run's state alone, so that a request that is repeated, also after a restart, says the same. As it
//! stands behind everything else, what a provider has cached of the conversation stays as it was.

use stakpak_protocol::Message;

use crate::session::ActiveRun;

const OPEN: &str = "<run_note>";
const CLOSE: &str = "</run_note>";

const LAST_TURN: &str = "This is the last turn of this run: calls that you make now still run, but you will not see their \
    results. Sum up what is done and what is still open.";

/// Whether a text of a request is such a note: no user wrote it.
#[must_use]
pub fn is_note(text: &str) -> bool {
    text.starts_with(OPEN) && text.ends_with(CLOSE)
}

/// What there is to tell with the request of the open turn.
pub(super) fn of_request(run: &ActiveRun) -> Option<Message> {
    let most = run.accepted.max_turns;
    let is_last = most > 1 && run.turn >= most;
    let notes: Vec<String> = run
        .repeats_to_tell()
        .map(|times| repeating(times, run))
        .into_iter()
        .chain(is_last.then(|| LAST_TURN.into()))
        .collect();
    let told =
        |notes: String| Message::user(format!("{OPEN}\nThe server writes this, not the user.\n{notes}\n{CLOSE}"));
    (!notes.is_empty()).then(|| told(notes.join("\n")))
}

fn repeating(times: u64, run: &ActiveRun) -> String {
    format!(
        "Your last {times} turns made the same calls and got the same results. The same once more will not come to \
         anything else: go about it in another way, or say what stands in yours. At {} such turns in a row the run is ended.",
        run.accepted.no_progress.stop
    )
}
