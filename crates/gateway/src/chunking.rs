//! Splitting a text for platforms that bound the length of a message.
//!
//! Lossless: the chunks joined give the text back, except white space at a cut. Length is counted in UTF-16 units, as
//! Telegram counts. A code fence is plain text here.

/// Chunks of at most `limit` UTF-16 units, none of them blank. A text within the limit is one chunk; a blank text none.
///
/// Cuts are preferred at a blank line, then at a newline, at the end of a sentence, at a space; a text without any of
/// them is cut between two characters.
#[must_use]
pub fn chunk_text(text: &str, limit: usize) -> Vec<String> {
    // Two units are one character at worst; less could not hold every character.
    let limit = limit.max(2);
    let mut chunks = Vec::new();
    let mut rest = text;
    while !rest.trim().is_empty() {
        let fits = fitting_prefix(rest, limit);
        if fits == rest.len() {
            chunks.push(rest.to_owned());
            break;
        }
        let cut = preferred_cut(&rest[..fits]).unwrap_or(fits);
        let (chunk, tail) = rest.split_at(cut);
        if !chunk.trim().is_empty() {
            chunks.push(chunk.trim_end().to_owned());
        }
        rest = tail.trim_start_matches('\n');
    }
    chunks
}

/// Length in bytes of the longest prefix of at most `limit` units.
fn fitting_prefix(text: &str, limit: usize) -> usize {
    let mut units = 0;
    for (at, character) in text.char_indices() {
        units += character.len_utf16();
        if units > limit {
            return at;
        }
    }
    text.len()
}

fn preferred_cut(window: &str) -> Option<usize> {
    // A cut in the first half would make many short messages of a text with one early paragraph.
    let half = window.len() / 2;
    ["\n\n", "\n", ". ", " "]
        .into_iter()
        .find_map(|separator| window.rfind(separator).map(|at| at + separator.len()).filter(|cut| *cut > half))
}

#[cfg(test)]
mod tests {
    use super::chunk_text;
    use proptest::prelude::*;

    fn squeezed(text: &str) -> String {
        text.chars().filter(|character| !character.is_whitespace()).collect()
    }

    proptest! {
        #[test]
        fn chunks_hold_everything_within_the_limit(text in "([a-z. \n]|\u{1F600}|é){0,400}", limit in 2usize..60) {
            let chunks = chunk_text(&text, limit);
            for chunk in &chunks {
                prop_assert!(chunk.encode_utf16().count() <= limit, "{chunk:?}");
                prop_assert!(!chunk.trim().is_empty());
            }
            prop_assert_eq!(squeezed(&chunks.concat()), squeezed(&text));
            // What is between two chunks in the text is white space only, and chunks come in order.
            let mut rest = text.as_str();
            for chunk in &chunks {
                let at = rest.find(chunk.as_str());
                prop_assert!(at.is_some());
                let at = at.unwrap();
                prop_assert!(rest[..at].trim().is_empty());
                rest = &rest[at + chunk.len()..];
            }
            if text.encode_utf16().count() <= limit && !text.trim().is_empty() {
                prop_assert_eq!(chunks, vec![text]);
            }
        }
    }

    #[test]
    fn a_cut_prefers_a_blank_line() {
        assert_eq!(chunk_text("one two\n\nthree four", 14), ["one two", "three four"]);
        assert_eq!(chunk_text("aaaa bbbb", 6), ["aaaa", "bbbb"]);
    }

    #[test]
    fn emoji_count_twice() {
        let chunks = chunk_text(&"\u{1F600}".repeat(4096), 4096);
        assert_eq!(chunks.len(), 2);
    }
}
