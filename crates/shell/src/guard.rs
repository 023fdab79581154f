//! What is looked at before the parser: its time and stack are bounded by length and nesting, which only this knows.

use crate::Doubt;

/// Longest line that is read.
const MOST_BYTES: usize = 16 << 10;
/// Constructs inside each other.
pub(crate) const MOST_NESTED: usize = 16;
/// Words that open a compound command. Each is a level of the parser's stack until it is closed.
const MOST_OPENERS: usize = 64;
/// Digits in a row that the parser turns into a number.
const MOST_DIGITS: usize = 9;

/// Whether the text can be given to the parser.
pub(crate) fn parseable(text: &str) -> Result<(), Doubt> {
    if text.len() > MOST_BYTES {
        return Err(Doubt::TooLong);
    }
    if nesting(text) > MOST_NESTED || openers(text) > MOST_OPENERS {
        return Err(Doubt::TooDeep);
    }
    // The parser reads such numbers of descriptors and directories without looking at their size.
    if text.contains('\0') || has_huge_number(text) || has_expanded_tag(text) {
        return Err(Doubt::Syntax);
    }
    Ok(())
}

/// Characters that people do not see, or take for others; a line that holds one is read all the same.
pub(crate) fn odd_character(text: &str) -> Option<char> {
    text.chars().find(|char| match char {
        '\n' | '\t' => false,
        '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{61c}' | '\u{feff}' => true,
        '\u{ad}' | '\u{180e}' | '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' | '\u{2800}' => true,
        char => char.is_control() || (!char.is_ascii() && char.is_whitespace()),
    })
}

/// Quotes are not looked at: the count is only ever too high.
fn nesting(text: &str) -> usize {
    let (mut depth, mut most) = (0_usize, 0);
    for byte in text.bytes() {
        match byte {
            b'(' | b'{' | b'[' => depth += 1,
            b')' | b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        most = most.max(depth);
    }
    most
}

fn openers(text: &str) -> usize {
    const WORDS: [&str; 9] = ["if", "for", "while", "until", "case", "select", "coproc", "function", "[["];
    text.split(|char: char| !char.is_ascii_alphanumeric() && char != '[' && char != '_')
        .filter(|word| WORDS.contains(word))
        .count()
}

fn has_huge_number(text: &str) -> bool {
    let bytes = text.as_bytes();
    let mut start = 0;
    while start < bytes.len() {
        let length = bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let before = start.checked_sub(1).and_then(|index| bytes.get(index));
        let after = bytes.get(start + length);
        let is_number = matches!(before, Some(b'~' | b'+' | b'-' | b'&')) || matches!(after, Some(b'<' | b'>'));
        if length > MOST_DIGITS && is_number {
            return true;
        }
        start += length.max(1);
    }
    false
}

/// Whether the end of a here-document is named by an expansion. Bash does not expand it, and the parser never comes to an end.
fn has_expanded_tag(text: &str) -> bool {
    text.match_indices("<<").any(|(at, operator)| {
        let behind = &text[at + operator.len()..];
        if behind.starts_with('<') {
            return false;
        }
        let tag = behind.trim_start_matches(['-', ' ', '\t', '\\', '\n']);
        let (mut quote, mut is_escaped) = (None, false);
        for char in tag.chars() {
            match (char, quote) {
                ('$' | '`', _) => return true,
                _ if is_escaped => is_escaped = false,
                ('\\', _) => is_escaped = true,
                ('"' | '\'', None) => quote = Some(char),
                (char, Some(open)) if char == open => quote = None,
                (' ' | '\t' | '\n', None) => return false,
                _ => {}
            }
        }
        false
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each made the parser take all memory there is.
    #[test]
    fn a_tag_that_is_an_expansion_is_kept_from_the_parser() {
        let endless = [
            "(<E\n<<-$( )t > ",
            "cat << \\\n$( )t > ",
            "cat <<a$( )t > ",
            "[[ a <<$( )t > ",
            "cat <<'a b'$( )t > ",
            "<<\"$( )\"t > ",
            "<<a\\\n$( )t > ",
        ];
        for line in endless {
            assert_eq!(parseable(line), Err(Doubt::Syntax), "{line:?}");
        }
        for line in [
            "cat <<E > $file\n$(id)\nE",
            "cat <<'E F' | grep \"$x\"\nE F",
            "cat <<-\\E $x\nE",
            "cat <<<\"a\" $x",
            "cat <<<$x",
        ] {
            assert_eq!(parseable(line), Ok(()), "{line:?}");
        }
    }
}
