//! Tasks as the model reads them.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use chrono::{DateTime, Utc};
use serde_json::json;

use super::record::{Status, Task};
use crate::command::Kept;

/// In the table.
const CELL: usize = 100;
const CHUNK: usize = 64 * 1024;

/// A task with where it stands.
pub(super) struct Seen {
    pub(super) task: Task,
    pub(super) status: Status,
}

impl Seen {
    pub(super) fn of(task: Task) -> Self {
        let status = task.status();
        Self { task, status }
    }

    fn end_time(&self) -> Option<DateTime<Utc>> {
        match &self.status {
            Status::Running => None,
            Status::Ended(exit) => Some(exit.end_time),
        }
    }

    /// Seconds.
    fn duration(&self) -> f64 {
        let end = self.end_time().unwrap_or_else(Utc::now);
        let milliseconds = (end - self.task.record.start_time).num_milliseconds().max(0);
        #[expect(clippy::cast_precision_loss, reason = "a duration in milliseconds is far below 2^52")]
        let seconds = milliseconds as f64 / 1000.0;
        seconds
    }

    /// How it ended, for people; empty while it runs.
    fn note(&self) -> &str {
        match &self.status {
            Status::Running => "",
            Status::Ended(exit) => &exit.note,
        }
    }

    /// The answer to a start.
    pub(super) fn as_json(&self) -> String {
        let record = &self.task.record;
        let value = json!({
            "id": record.id,
            "status": self.status.name(),
            "command": record.command,
            "description": record.description,
            "output": output(&record.output),
            "start_time": record.start_time,
            "duration": self.duration(),
            "pause_info": null,
        });
        format!("{value:#}")
    }

    pub(super) fn details(&self) -> String {
        let record = &self.task.record;
        let mut lines = vec![
            format!("Task {}: {}", record.id, self.status.name()),
            format!("Command: {}", record.command),
            format!("Started: {}", time(record.start_time)),
        ];
        lines.extend(record.description.as_ref().map(|description| format!("Description: {description}")));
        lines.extend(self.end_time().map(|end| format!("Ended: {} ({})", time(end), self.note())));
        lines.push(format!("Duration: {:.1} s", self.duration()));
        let output = output(&record.output);
        let output = output.strip_suffix('\n').unwrap_or(&output);
        lines.push(format!("Output:\n{}", if output.is_empty() { "No output" } else { output }));
        lines.join("\n")
    }
}

/// Newest first, as given.
pub(super) fn table(tasks: &[Seen]) -> String {
    if tasks.is_empty() {
        return "This session has no tasks".to_owned();
    }
    let mut table =
        "| Task ID | Status | Start Time | Duration | Command | Output |\n|---|---|---|---|---|---|".to_owned();
    for seen in tasks {
        let record = &seen.task.record;
        let (command, output) = (cell(&record.command), cell(&output(&record.output)));
        let (id, status, start) = (&record.id, seen.status.name(), time(record.start_time));
        table.push_str(&format!("\n| {id} | {status} | {start} | {:.1} s | {command} | {output} |", seen.duration()));
    }
    table
}

fn time(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// On one line, cut, and with nothing that would end it.
fn cell(text: &str) -> String {
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let cut = match flat.char_indices().nth(CELL) {
        Some((at, _)) => format!("{}...", &flat[..at]),
        None => flat,
    };
    cut.replace('|', "\\|")
}

/// What is there of the output by now; of a long one, its ends and where all of it is.
fn output(path: &Path) -> String {
    let whereabouts = format!("All of it: {} (use view with view_range or grep)", path.display());
    match read(path) {
        Ok(kept) => kept.render(&whereabouts),
        Err(error) => format!("[the output cannot be read: {error}]"),
    }
}

fn read(path: &Path) -> io::Result<Kept> {
    let (mut file, mut chunk) = (File::open(path)?, vec![0; CHUNK]);
    let (mut decoder, mut kept) = (crate::command::Decoder::default(), Kept::default());
    loop {
        match file.read(&mut chunk)? {
            0 => break,
            size => drop(kept.push(&decoder.push(&chunk[..size]))),
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_one_line_of_a_hundred_characters() {
        assert_eq!(cell("a |\n b\t c"), "a \\| b c");
        assert_eq!(cell(&"é".repeat(101)), format!("{}...", "é".repeat(100)));
        assert_eq!(cell(&"é".repeat(100)), "é".repeat(100));
    }
}
