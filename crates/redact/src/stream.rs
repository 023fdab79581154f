//! Text that comes in pieces: a secret that is split over two of them is found all the same.
//!
//! Held back is the end of the text that may be the beginning of a secret: the trailing run of characters that tokens are
//! made of, up to [`LONGEST_TOKEN`]; after a word such as `password`, of all characters but blanks; the beginning of a known value,
//! whatever it holds; that of a placeholder; and a key block until it ends, up to [`LONGEST_BLOCK`]. What went out before stays known up to the start of its line, so that a value is found by
//! what stands before it.

use crate::{
    placeholder,
    redactor::{Naming, Redactor, Span},
    rules::is_part_of_token,
};

const LONGEST_TOKEN: usize = 4 * 1024;
const LONGEST_BLOCK: usize = 16 * 1024;
/// How much of the line that went out is looked at again.
const CONTEXT: usize = 512;

const BLOCK_BEGIN: &str = "-----BEGIN ";
const BLOCK_END: &str = "-----END ";
const SECRET_BLOCK: &str = "PRIVATE KEY";

/// What is held back of a text, and what is known of the part that is not.
#[derive(Default)]
pub struct Stream {
    text: String,
    /// Up to here it went out.
    out: usize,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("held", &(self.text.len() - self.out)).finish_non_exhaustive()
    }
}

impl Stream {
    /// Takes the next piece.
    pub fn push(&mut self, piece: &str) {
        self.text.push_str(piece);
    }

    /// What may hold a secret, as far as it is there.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What can go out now; all of it once the text has ended.
    pub(crate) fn ready(&mut self, redactor: &Redactor, naming: &mut dyn Naming, has_ended: bool) -> String {
        let spans = redactor.spans(&self.text, naming);
        let cut = if has_ended { self.text.len() } else { self.cut(redactor, naming, &spans) };
        let mut ready = String::with_capacity(cut - self.out);
        let mut at = self.out;
        for span in spans.iter().filter(|span| span.range.end > self.out && span.range.start < cut) {
            // The beginning of a value may be out already: no more of it follows.
            let start = span.range.start.max(at);
            ready.push_str(&self.text[at..start]);
            ready.push_str(&naming.name(&self.text[span.range.clone()], &span.origin));
            at = span.range.end;
        }
        ready.push_str(&self.text[at.min(cut)..cut]);
        self.out = cut.max(at);
        self.forget();
        redactor.replace(&ready, naming).into_owned()
    }

    /// Where what can go out ends.
    fn cut(&self, redactor: &Redactor, naming: &dyn Naming, spans: &[Span]) -> usize {
        let held = &self.text[self.out..];
        let run = self.out + self.run(held, redactor);
        let mut cut = if self.text.len() - run > LONGEST_TOKEN { self.text.len() } else { run };
        if let Some(begin) = open_block(held).filter(|begin| held.len() - begin <= LONGEST_BLOCK) {
            cut = cut.min(self.out + begin);
        }
        for begin in [redactor.begun(held, naming), placeholder::begun(held)].into_iter().flatten() {
            cut = cut.min(self.out + begin);
        }
        // A finding at the end may go on: it is decided with what follows.
        for span in spans.iter().rev() {
            let is_open = span.range.end > cut || span.range.end == self.text.len();
            if is_open && span.range.start < cut && self.text.len() - span.range.start <= LONGEST_BLOCK {
                cut = span.range.start.max(self.out);
            }
        }
        cut
    }

    /// Where the trailing run begins.
    fn run(&self, held: &str, redactor: &Redactor) -> usize {
        let context = &self.text[self.text.floor_char_boundary(self.text.len().saturating_sub(CONTEXT))..];
        let line = &context[context.rfind('\n').map_or(0, |at| at + 1)..];
        let length = if redactor.has_keyword(line) {
            held.bytes().rev().take_while(u8::is_ascii_graphic).count()
        } else {
            held.bytes().rev().take_while(|byte| is_part_of_token(*byte)).count()
        };
        held.len() - length
    }

    fn forget(&mut self) {
        let before = self.text.ceil_char_boundary(self.out.saturating_sub(CONTEXT));
        let line = self.text[before..self.out].rfind('\n').map_or(before, |at| before + at + 1);
        self.text.drain(..line);
        self.out -= line;
    }
}

/// Where a block begins that has not ended and may hold a key.
fn open_block(held: &str) -> Option<usize> {
    let begin = held.rfind(BLOCK_BEGIN)?;
    let block = &held[begin + BLOCK_BEGIN.len()..];
    let (head, is_whole) = block.split_once("-----").map_or((block, false), |(head, _)| (head, true));
    if head.contains('\n') || (is_whole && !head.contains(SECRET_BLOCK)) {
        return None;
    }
    let end = block.find(BLOCK_END).map(|end| &block[end + BLOCK_END.len()..]);
    end.is_none_or(|end| !end.contains("-----")).then_some(begin)
}
