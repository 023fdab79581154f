//! `$'…'` as bash decodes it.

/// The text; none: it holds bytes that are no text, or an escape that is not known.
pub(crate) fn decode(raw: &str) -> Option<String> {
    let mut text = String::new();
    let mut rest = raw.chars().peekable();
    while let Some(char) = rest.next() {
        if char != '\\' {
            text.push(char);
            continue;
        }
        let escaped = rest.next()?;
        let decoded = match escaped {
            'a' => '\u{7}',
            'b' => '\u{8}',
            'e' | 'E' => '\u{1b}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            '\\' | '\'' | '"' | '?' => escaped,
            '0'..='7' => numeric(escaped.to_digit(8), &mut rest, 8, 2).filter(char::is_ascii)?,
            'x' => numeric(None, &mut rest, 16, 2).filter(char::is_ascii)?,
            'u' => numeric(None, &mut rest, 16, 4)?,
            'U' => numeric(None, &mut rest, 16, 8)?,
            _ => return None,
        };
        if decoded == '\0' {
            // Bash ends the quoted text here.
            return Some(text);
        }
        text.push(decoded);
    }
    Some(text)
}

fn numeric(
    first: Option<u32>,
    rest: &mut std::iter::Peekable<std::str::Chars<'_>>,
    radix: u32,
    most: usize,
) -> Option<char> {
    let mut value = first;
    for _ in 0..most {
        let Some(digit) = rest.peek().and_then(|char| char.to_digit(radix)) else { break };
        value = Some(value.unwrap_or(0) * radix + digit);
        rest.next();
    }
    value.and_then(char::from_u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_become_what_bash_makes_of_them() {
        for (raw, text) in [
            ("rm", Some("rm")),
            (r"\x72\155", Some("rm")),
            (r"\u0072m", Some("rm")),
            (r"r\0x", Some("r")),
            (r"a\'b\\", Some(r"a'b\")),
            (r"\n", Some("\n")),
            (r"\xff", None),
            (r"\cx", None),
            (r"\U110000", None),
        ] {
            assert_eq!(decode(raw).as_deref(), text, "{raw}");
        }
    }
}
