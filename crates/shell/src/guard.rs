//! What is looked at before the parser: its stack is bounded by nesting, which only this knows.

use brush_parser::Token;

use crate::Doubt;

/// Longest line that is read.
const MOST_BYTES: usize = 16 << 10;
/// Constructs inside each other.
pub(crate) const MOST_NESTED: usize = 16;
/// Words that open a compound command. Each is a level of the parser's stack until it is closed.
const MOST_OPENERS: usize = 64;
/// Expansions inside each other. Each is a level of the tokenizer's stack.
const MOST_EXPANSIONS: usize = 64;
/// Bytes of the word that names the end of a here-document.
const MOST_TAG: usize = 64;
/// Digits in a row that the parser turns into a number.
const MOST_DIGITS: usize = 9;

/// Whether the text can be cut into tokens.
pub(crate) fn tokenizable(text: &str) -> Result<(), Doubt> {
    if text.len() > MOST_BYTES {
        return Err(Doubt::TooLong);
    }
    if expansions(text) > MOST_EXPANSIONS {
        return Err(Doubt::TooDeep);
    }
    // The parser reads such numbers of descriptors and directories without looking at their size.
    if text.contains('\0') || has_huge_number(text) || has_odd_tag(text) {
        return Err(Doubt::Syntax);
    }
    Ok(())
}

/// Whether the tokens can be given to the parser.
pub(crate) fn parseable(tokens: &[Token]) -> Result<(), Doubt> {
    if nesting(tokens) > MOST_NESTED || openers(tokens) > MOST_OPENERS { Err(Doubt::TooDeep) } else { Ok(()) }
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

/// Expansions that are open at once, at most. Only one that certainly ends is closed again: what could be quoted, a comment or a
/// here-document between its ends makes it count to the end of the text.
fn expansions(text: &str) -> usize {
    let (mut open, mut depth, mut most, mut before) = (Vec::new(), 0_usize, 0, 0);
    for byte in text.bytes() {
        match (before, byte) {
            (b'$', b'(') => open.push((b')', 1)),
            (b'$', b'{') => open.push((b'}', 1)),
            (b'$', b'[') => open.push((b']', 1)),
            (_, b'(') if !open.is_empty() => open.push((b')', 0)),
            (_, b'\'' | b'"' | b'`' | b'\\' | b'#' | b'\n') | (b'<', b'<') => open.clear(),
            (_, b')' | b'}' | b']') => {
                let closed = open.pop_if(|(closer, _)| *closer == byte);
                depth -= closed.map_or(0, |(_, levels)| levels);
            }
            _ => {}
        }
        depth += usize::from(before == b'$' && matches!(byte, b'(' | b'{' | b'['));
        most = most.max(depth);
        before = byte;
    }
    most
}

/// A pattern of `case` closes one too many: that is bounded by the number of them.
fn nesting(tokens: &[Token]) -> usize {
    let (mut depth, mut most) = (0_usize, 0);
    for token in tokens {
        match token {
            Token::Operator(text, _) if text == "(" => depth += 1,
            Token::Operator(text, _) if text == ")" => depth = depth.saturating_sub(1),
            _ => {}
        }
        most = most.max(depth);
    }
    most
}

fn openers(tokens: &[Token]) -> usize {
    const WORDS: [&str; 11] = ["if", "for", "while", "until", "case", "select", "coproc", "function", "[[", "{", "!"];
    tokens.iter().filter(|token| matches!(token, Token::Word(text, _) if WORDS.contains(&text.as_str()))).count()
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

/// Whether the end of a here-document is named by an expansion, by nothing, or by what is not certainly a name. Bash does not
/// expand it, and of most of these the parser never comes to an end.
fn has_odd_tag(text: &str) -> bool {
    let is_here_string = |at: usize| text[at..].starts_with("<<<") && !text[at..].starts_with("<<<<");
    text.match_indices("<<").any(|(at, _)| {
        let is_certain = !text[..at].ends_with(['<', '\\']);
        !(is_certain && is_here_string(at)) && is_odd_tag(text[at..].trim_start_matches('<'))
    })
}

fn is_odd_tag(behind: &str) -> bool {
    let tag = behind.trim_start_matches(['-', ' ', '\t', '\\', '\n']);
    // Inside a substitution the tokenizer takes a second blank for the end of the word.
    let before = behind[..behind.len() - tag.len()].replace("\\\n", "");
    if !["", "-", " ", "\t", "- ", "-\t"].contains(&before.trim_end_matches('\\')) {
        return true;
    }
    let name = tag.strip_prefix(['"', '\'']).unwrap_or(tag);
    if !name.starts_with(|char: char| char.is_ascii_alphanumeric() || "_.!".contains(char)) {
        return true;
    }
    let (mut quote, mut is_escaped) = (None, false);
    for (length, char) in tag.char_indices() {
        match (char, quote) {
            _ if length > MOST_TAG => return true,
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
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each made the parser take all memory there is.
    #[test]
    fn a_tag_that_is_no_name_is_kept_from_the_parser() {
        let endless = [
            "(<E\n<<-$( )t > ",
            "cat << \\\n$( )t > ",
            "cat <<a$( )t > ",
            "[[ a <<$( )t > ",
            "cat <<'a b'$( )t > ",
            "<<\"$( )\"t > ",
            "<<a\\\n$( )t > ",
            "(<<\u{c}; } ",
            "cat <<\r a ",
            "cat <<\"\" ",
            "cat <<-'' a ",
            "$(<< )))>#",
            "${<<\"\"} ",
            "$(<<  ",
            "$(<< ;#",
            "$(<< <<#",
            "<<<<<\u{c} ",
            "\\<<<\u{c} ",
        ];
        for line in endless {
            assert_eq!(tokenizable(line), Err(Doubt::Syntax), "{line:?}");
        }
        for line in [
            "cat <<E > $file\n$(id)\nE",
            "cat <<'E F' | grep \"$x\"\nE F",
            "cat <<-\\E $x\nE",
            "cat <<<\"a\" $x",
            "cat <<<$x",
        ] {
            assert_eq!(tokenizable(line), Ok(()), "{line:?}");
        }
    }

    /// Each ran out of stack, which ends the process: closers that are words or quoted hid the levels.
    #[test]
    fn nothing_hides_how_deep_a_line_is() {
        let hidden = [
            "(echo \")\"; ",
            "$(\")\"",
            "\"$(\")\"",
            "${a:-\\}",
            "$( # )\n",
            "{ echo \"}\"; ",
            "{ echo }; ",
            "$(cat <<E\n)\nE\n",
            "( case a in a) ",
        ];
        let lines = hidden.map(|level| level.repeat(1000));
        let bangs = format!("[[ {}a ]]", "! ".repeat(5000));
        let body = format!("cat <<E\n{}\nE", "$(\")\"".repeat(1000));
        for line in lines.iter().chain([&bangs, &body]) {
            let read = crate::read(line);
            assert!(read.doubts.contains(&Doubt::TooDeep), "{line:.60?}: {:?}", read.doubts);
        }
    }
}
