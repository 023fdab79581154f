//! Where a text is best cut: lengths are UTF-16 units, graphemes stay whole.

use unicode_segmentation::UnicodeSegmentation;

/// Length in UTF-16 units, as the platforms count.
pub(crate) fn units(text: &str) -> usize {
    text.encode_utf16().count()
}

/// Length in bytes of the longest prefix of at most `limit` units that ends between two graphemes.
///
/// Never 0 for a text that is not empty: a first grapheme over the limit is cut between two of its characters, and a
/// first character over it is taken whole.
pub(crate) fn fitting_prefix(text: &str, limit: usize) -> usize {
    let graphemes = text.grapheme_indices(true).map(|(_, grapheme)| grapheme);
    match prefix_of(graphemes, limit) {
        0 => {
            let mut buffer = [0; 4];
            let first = text.chars().next().map_or(0, |character| character.encode_utf8(&mut buffer).len());
            let mut length = 0;
            let mut used = 0;
            for character in text.chars() {
                used += character.len_utf16();
                if used > limit {
                    break;
                }
                length += character.len_utf8();
            }
            length.max(first)
        }
        length => length,
    }
}

fn prefix_of<'a>(graphemes: impl Iterator<Item = &'a str>, limit: usize) -> usize {
    let mut used = 0;
    let mut length = 0;
    for grapheme in graphemes {
        used += units(grapheme);
        if used > limit {
            break;
        }
        length += grapheme.len();
    }
    length
}

/// The best place to cut a text within its first `limit` units: after a blank line, a newline, a sentence, a space, else
/// after the last grapheme that fits. The white space there belongs to the first part.
pub(crate) fn preferred_cut(text: &str, limit: usize) -> usize {
    let fits = fitting_prefix(text, limit);
    if fits == text.len() {
        return fits;
    }
    let window = &text[..fits];
    // A cut in the first half would make many short messages of a text with one early paragraph.
    let half = fits / 2;
    ["\n\n", "\n", ". ", "! ", "? ", " "]
        .into_iter()
        .find_map(|separator| window.rfind(separator).map(|at| at + separator.len()).filter(|cut| *cut > half))
        // `\r\n` is one grapheme.
        .filter(|cut| text.is_char_boundary(*cut))
        .unwrap_or(fits)
}

/// Whether nothing of a text can be seen.
pub(crate) fn is_blank(text: &str) -> bool {
    text.chars().all(|character| {
        character.is_whitespace()
            || character.is_control()
            || matches!(character, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    })
}
