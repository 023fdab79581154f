//! Where a text that was not found may have been meant.

use crate::text::cut_line;

/// Less alike is no help.
const LEAST_LIKENESS: f64 = 0.6;
/// In longer files looking for it would take too long.
const MAX_LINES: usize = 50_000;

/// The lines most like the first line of the wanted text, numbered, as many as it has, ten at most.
pub(super) fn nearest(text: &str, wanted: &str) -> Option<String> {
    let lines = wanted.lines().skip_while(|line| line.trim().is_empty());
    let height = lines.clone().count().clamp(1, 10);
    let first = lines.into_iter().next()?.trim();
    let (likeness, at) = text
        .lines()
        .take(MAX_LINES)
        .enumerate()
        .map(|(at, line)| (strsim::sorensen_dice(first, line.trim()), at))
        .max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)))?;
    if likeness < LEAST_LIKENESS {
        return None;
    }
    let shown =
        text.lines().enumerate().skip(at).take(height).map(|(at, line)| format!("{:3}: {}", at + 1, cut_line(line)));
    Some(shown.collect::<Vec<_>>().join("\n"))
}
