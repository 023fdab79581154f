//! Splitting a text for platforms that bound the length of a message.
//!
//! * Lossless: the chunks without the lines put in at cuts give the text back byte for byte, except white space at a cut
//!   outside of code fences. Within a fence a cut stands for one newline, or for nothing in a line over the limit.
//! * A fence that is cut is closed and opened again with its info string.
//! * Length is counted in UTF-16 units; a grapheme is cut only if it alone is over the limit.

pub(crate) mod cut;
mod lines;

use self::{
    cut::{fitting_prefix, preferred_cut, units},
    lines::{Fence, Line, Place, scan},
};

/// Chunks of at most `limit` UTF-16 units, none of them blank. A text within the limit is one chunk; a blank text none.
///
/// Cuts are preferred at a blank line, then at a newline, at the end of a sentence, at a space, and outside of fences; a
/// text without any of them is cut between two graphemes.
#[must_use]
pub fn chunk_text(text: &str, limit: usize) -> Vec<String> {
    // Two units are one character at worst; less could not hold every character.
    let limit = limit.max(2);
    if text.trim().is_empty() {
        return Vec::new();
    }
    let (lines, fences) = scan(text, limit);
    let mut splitter = Splitter { text, limit, lines: &lines, fences: &fences, at: 0, line: 0, reopen: None };
    let mut chunks = Vec::new();
    while let Some(chunk) = splitter.next_chunk() {
        if !chunk.trim().is_empty() {
            chunks.push(chunk);
        }
    }
    chunks
}

/// Where a text that still grows can be cut outside of code fences.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Breaks {
    /// Behind its last blank line, unless nothing stands before that.
    pub(crate) paragraph: Option<usize>,
    /// Behind its last line that has ended.
    pub(crate) line: Option<usize>,
}

/// The last places where `text` can be cut.
pub(crate) fn breaks(text: &str) -> Breaks {
    let (lines, _) = scan(text, usize::MAX);
    let ended = |line: &&Line| text[..line.end].ends_with('\n');
    let outside = |line: &&Line| matches!(line.place, Place::Outside | Place::Closes(_));
    let mut ends = lines.iter().filter(ended).filter(outside);
    let line = ends.next_back().map(|line| line.end);
    let blank = lines.iter().filter(ended).filter(outside).rfind(|line| line.blank).map(|line| line.end);
    Breaks { paragraph: blank.filter(|end| !text[..*end].trim().is_empty()), line }
}

/// The last quality that leaves no empty fence: between two lines of code.
const GOOD: u8 = 2;
/// Leaves an empty fence behind the cut.
const BEFORE_CLOSE: u8 = 3;
/// Leaves an empty fence before the cut.
const BEHIND_OPEN: u8 = 4;

struct Splitter<'a> {
    text: &'a str,
    limit: usize,
    lines: &'a [Line],
    fences: &'a [Fence<'a>],
    /// The rest begins here.
    at: usize,
    /// The line that holds `at`.
    line: usize,
    /// The fence that the last cut closed.
    reopen: Option<usize>,
}

/// Where a chunk could end. `quality` is better the lower.
#[derive(Debug, Clone, Copy)]
struct Cut {
    end: usize,
    next: usize,
    fence: Option<usize>,
    quality: u8,
}

impl Splitter<'_> {
    fn next_chunk(&mut self) -> Option<String> {
        let rest = &self.text[self.at..];
        if rest.trim().is_empty() && self.reopen.is_none() || rest.is_empty() {
            return None;
        }
        let opening = self.reopen.map(|number| format!("{}\n", self.fences[number].open)).unwrap_or_default();
        let room = self.limit - units(&opening);
        if units(rest) <= room {
            self.at = self.text.len();
            self.reopen = None;
            return Some(opening + rest);
        }
        let cut = self.best_cut(room);
        let mut chunk = opening + &self.text[self.at..cut.end];
        match cut.fence {
            Some(number) => {
                chunk.push('\n');
                chunk.push_str(self.fences[number].close);
            }
            None => chunk.truncate(chunk.trim_end().len()),
        }
        self.go_on_at(cut);
        Some(chunk)
    }

    fn go_on_at(&mut self, cut: Cut) {
        self.reopen = cut.fence;
        self.at = cut.next;
        while self.lines.get(self.line).is_some_and(|line| line.end <= self.at) {
            self.line += 1;
        }
        if self.reopen.is_some() {
            return;
        }
        // Blank lines at a cut go; the indentation of the line behind it stays.
        while let Some(line) = self.lines.get(self.line).filter(|line| line.blank && line.place == Place::Outside) {
            self.at = line.end;
            self.line += 1;
        }
    }

    /// The best one in the second half of what fits, else the last one.
    fn best_cut(&self, room: usize) -> Cut {
        let cuts = self.line_cuts(room);
        let half = self.at + fitting_prefix(&self.text[self.at..], room / 2);
        let best = |least: usize, worst: u8| {
            let fit = cuts.iter().filter(|cut| cut.end > least && cut.quality <= worst);
            fit.min_by_key(|cut| (cut.quality, usize::MAX - cut.end)).copied()
        };
        best(half, GOOD)
            .map(|cut| self.before_a_short_fence(cut, &cuts))
            .or_else(|| self.cut_within_a_line(room))
            .or_else(|| best(0, BEFORE_CLOSE))
            .or_else(|| self.cut_within_code(room))
            .or_else(|| best(0, BEHIND_OPEN))
            .unwrap_or_else(|| self.hard_cut(room))
    }

    /// A fence that fits into a chunk of its own is not cut.
    fn before_a_short_fence(&self, cut: Cut, cuts: &[Cut]) -> Cut {
        let Some(number) = cut.fence else { return cut };
        let of_fence =
            |line: &&Line| matches!(line.place, Place::Opens(n) | Place::Inside(n) | Place::Closes(n) if n == number);
        let mut own = self.lines.iter().filter(of_fence);
        let (Some(first), Some(last)) = (own.next(), own.next_back()) else { return cut };
        let short = units(self.text[first.start..last.end].trim_end()) <= self.limit;
        cuts.iter().find(|cut| short && cut.next == first.start && cut.fence.is_none()).copied().unwrap_or(cut)
    }

    /// All cuts between two lines after which the chunk still fits.
    fn line_cuts(&self, room: usize) -> Vec<Cut> {
        let mut cuts = Vec::new();
        let mut used = 0;
        let mut start = self.at;
        for (number, line) in self.lines.iter().enumerate().skip(self.line) {
            let content = self.text[start..line.end].trim_end_matches('\n');
            let newline = line.end - start - content.len();
            let fence = match line.place {
                Place::Opens(fence) | Place::Inside(fence) => Some(fence),
                Place::Outside | Place::Closes(_) => None,
            };
            let length = units(content);
            let closing = fence.map_or(0, |fence| self.fences[fence].close_units());
            if used + length + closing <= room && newline == 1 {
                let quality = self.quality(number);
                cuts.push(Cut { end: line.end - newline, next: line.end, fence, quality });
            }
            used += length + newline;
            if used > room {
                break;
            }
            start = line.end;
        }
        cuts
    }

    /// Of the cut behind a line.
    fn quality(&self, number: usize) -> u8 {
        let (line, next) = (&self.lines[number], self.lines.get(number + 1));
        let next_closes = next.is_some_and(|next| matches!(next.place, Place::Closes(_)));
        let next_opens = next.is_some_and(|next| matches!(next.place, Place::Opens(_)));
        match line.place {
            Place::Opens(_) => BEHIND_OPEN,
            Place::Inside(_) if next_closes => BEFORE_CLOSE,
            Place::Inside(_) => GOOD,
            Place::Outside if line.blank || next_opens => 0,
            Place::Closes(_) => 0,
            Place::Outside => 1,
        }
    }

    /// At a sentence or space of a line that is no code.
    fn cut_within_a_line(&self, room: usize) -> Option<Cut> {
        let rest = &self.text[self.at..];
        let (mut room, mut last) = (room, usize::MAX);
        loop {
            let cut = preferred_cut(rest, room).min(last);
            let line = self.line_of(self.at + cut)?;
            let hard = !rest[..cut].ends_with(char::is_whitespace);
            if line.place != Place::Outside || hard && line.start > self.at {
                return None;
            }
            let next = self.skip_spaces(self.at + cut);
            // Behind a cut this would open a fence.
            let opens = ["```", "~~~"].iter().any(|fence| self.text[next..].starts_with(fence));
            if !opens || cut == last {
                return Some(Cut { end: self.at + cut, next, fence: None, quality: GOOD });
            }
            last = cut;
            room = units(&rest[..cut]) - 1;
        }
    }

    /// In the middle of a line of code.
    fn cut_within_code(&self, room: usize) -> Option<Cut> {
        let rest = &self.text[self.at..];
        let inside = |at: usize| match self.line_of(at)?.place {
            Place::Inside(fence) => Some(fence),
            _ => None,
        };
        let fence = match self.line_of(self.at + fitting_prefix(rest, room))?.place {
            Place::Inside(fence) | Place::Closes(fence) => fence,
            _ => return None,
        };
        let room = room.checked_sub(self.fences[fence].close_units())?;
        let end = self.at + fitting_prefix(rest, room);
        (inside(end) == Some(fence)).then_some(Cut { end, next: end, fence: Some(fence), quality: GOOD })
    }

    fn hard_cut(&self, room: usize) -> Cut {
        let end = self.at + fitting_prefix(&self.text[self.at..], room);
        Cut { end, next: self.skip_spaces(end), fence: None, quality: GOOD }
    }

    fn line_of(&self, at: usize) -> Option<&Line> {
        self.lines[self.line..].iter().find(|line| at <= line.end && at > line.start)
    }

    fn skip_spaces(&self, at: usize) -> usize {
        at + self.text[at..].len() - self.text[at..].trim_start_matches([' ', '\t']).len()
    }
}

#[cfg(test)]
mod tests;
