//! A stream of text in pieces that can be cleaned and redacted one by one.
//!
//! A piece ends after a line. What is held back is bounded: a line over [`LONGEST_LINE`] is cut where no secret can be in
//! the middle, and the lines of a private key stay together up to [`LONGEST_BLOCK`].

/// Held back of a line that does not end.
const LONGEST_LINE: usize = 8 * 1024;
/// Held back of a block that does not end.
const LONGEST_BLOCK: usize = 16 * 1024;
/// A secret is no longer than this, unless it is a block.
const LONGEST_TOKEN: usize = 4 * 1024;

const BLOCK_BEGIN: &str = "-----BEGIN ";
const BLOCK_END: &str = "-----END ";

#[derive(Debug, Default)]
pub(crate) struct Pieces {
    held: String,
}

impl Pieces {
    /// Takes text and gives what is ready, possibly nothing.
    pub(crate) fn push(&mut self, text: &str) -> Option<String> {
        self.held.push_str(text);
        let ready = self.ready();
        if ready == 0 {
            return None;
        }
        let rest = self.held.split_off(ready);
        Some(std::mem::replace(&mut self.held, rest))
    }

    /// What is left when the stream has ended.
    pub(crate) fn finish(&mut self) -> Option<String> {
        Some(std::mem::take(&mut self.held)).filter(|text| !text.is_empty())
    }

    fn ready(&mut self) -> usize {
        let lines = self.held.rfind('\n').map_or(0, |at| at + 1);
        if self.held.len() - lines <= LONGEST_LINE {
            return self.before_open_block(lines);
        }
        // A line that is rewritten in place again and again: only its last state is wanted.
        if let Some(rewrite) = self.held[lines..].trim_end_matches('\r').rfind('\r') {
            self.held.replace_range(lines..=lines + rewrite, "");
            return self.ready();
        }
        self.before_open_block(lines + cut(&self.held[lines..]))
    }

    fn before_open_block(&self, ready: usize) -> usize {
        match self.held[..ready].rfind(BLOCK_BEGIN) {
            Some(begin) if !self.held[begin..ready].contains(BLOCK_END) && self.held.len() - begin <= LONGEST_BLOCK => {
                begin
            }
            _ => ready,
        }
    }
}

/// Where an unfinished line may be cut: after the last blank, else before the last run of characters that tokens are made of.
fn cut(line: &str) -> usize {
    let earliest = line.ceil_char_boundary(line.len().saturating_sub(LONGEST_TOKEN));
    let late = &line[earliest..];
    let after = |(at, c): (usize, char)| earliest + at + c.len_utf8();
    late.char_indices()
        .rfind(|(_, c)| c.is_whitespace())
        .or_else(|| late.char_indices().rfind(|(_, c)| !c.is_ascii_alphanumeric() && !"+/_=.:-".contains(*c)))
        .map_or(line.len(), after)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_come_whole() {
        let mut pieces = Pieces::default();
        assert_eq!(pieces.push("a"), None);
        assert_eq!(pieces.push("b\nc\nd"), Some("ab\nc\n".to_owned()));
        assert_eq!(pieces.finish(), Some("d".to_owned()));
        assert_eq!(pieces.finish(), None);
    }

    #[test]
    fn a_key_stays_together_up_to_a_limit() {
        let mut pieces = Pieces::default();
        assert_eq!(pieces.push("x\n-----BEGIN RSA PRIVATE KEY-----\nabc\n"), Some("x\n".to_owned()));
        let rest = "-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----\n";
        assert_eq!(pieces.push("-----END RSA PRIVATE KEY-----\n"), Some(rest.to_owned()));
        pieces.push("-----BEGIN X-----\n");
        assert!((0..).take(20_000).find_map(|_| pieces.push("abcdef\n")).is_some());
    }

    #[test]
    fn a_token_at_the_border_of_an_endless_line_is_not_cut() {
        let mut pieces = Pieces::default();
        let piece = pieces.push(&format!("{} secret=abcdef", "x".repeat(LONGEST_LINE))).expect("a piece");
        assert!(piece.ends_with("x "), "{piece:?}");
        assert_eq!(pieces.finish(), Some("secret=abcdef".to_owned()));
    }

    #[test]
    fn a_line_rewritten_for_ever_is_not_kept() {
        let mut pieces = Pieces::default();
        for percent in 0..100_000 {
            assert_eq!(pieces.push(&format!("{percent} done\r")), None);
        }
        assert!(pieces.held.len() <= LONGEST_LINE);
        assert_eq!(pieces.push("\n").map(|text| crate::text::as_printed(&text)), Some("99999 done\n".to_owned()));
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_little_is_held(chunks in proptest::collection::vec("[a-z \n]{0,50}|x{5000}|-----BEGIN ", 0..20)) {
            let mut pieces = Pieces::default();
            let mut joined = String::new();
            for chunk in &chunks {
                joined.extend(pieces.push(chunk));
                prop_assert!(pieces.held.len() <= LONGEST_BLOCK + LONGEST_LINE);
            }
            joined.extend(pieces.finish());
            prop_assert_eq!(joined, chunks.concat());
        }
    }
}
