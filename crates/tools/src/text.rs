//! Text on its way to the model: what a terminal would have swallowed is removed, what is too long is cut.

use std::sync::LazyLock;

use regex::Regex;

/// A result holds no more lines than this.
pub(crate) const MAX_LINES: usize = 300;
/// A result holds no more bytes than this.
pub(crate) const MAX_BYTES: usize = 64 * 1024;
/// A single line is cut after this many characters where files are shown.
pub(crate) const MAX_LINE_CHARS: usize = 2000;

/// ECMA-48: a CSI sequence; a control string, if its end is on the same line; any other escape sequence.
static ESCAPE_SEQUENCE: LazyLock<Regex> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "a constant pattern")]
    Regex::new(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)|[ -/]*[0-~])").expect("is valid")
});

/// Removes escape sequences and control characters. Newline, tab and carriage return stay.
pub(crate) fn without_controls(text: &str) -> String {
    let mut clean = ESCAPE_SEQUENCE.replace_all(text, "").into_owned();
    clean.retain(|c| !c.is_control() || matches!(c, '\n' | '\t' | '\r'));
    clean
}

/// The same for what a program wrote to a terminal: of a line that was rewritten in place, the last state remains.
pub(crate) fn as_printed(text: &str) -> String {
    let clean = without_controls(text);
    if !clean.contains('\r') {
        return clean;
    }
    clean.split_inclusive('\n').fold(String::with_capacity(clean.len()), |mut printed, line| {
        let (content, end) = line.strip_suffix('\n').map_or((line, ""), |content| (content, "\n"));
        let content = content.trim_end_matches('\r');
        printed.push_str(content.rsplit('\r').next().unwrap_or(content));
        printed.push_str(end);
        printed
    })
}

/// Number of lines; an unfinished last one counts.
pub(crate) fn count_lines(text: &str) -> usize {
    text.lines().count()
}

/// The longest start of the text within the limits. It ends after a line, except where one line alone is too long.
pub(crate) fn head(text: &str, lines: usize, bytes: usize) -> &str {
    let by_lines = text.match_indices('\n').nth(lines.saturating_sub(1)).map_or(text.len(), |(at, _)| at + 1);
    let cut = text.floor_char_boundary(by_lines.min(bytes));
    if cut == by_lines {
        return &text[..cut];
    }
    let after_line = text[..cut].rfind('\n').map_or(cut, |at| at + 1);
    &text[..after_line]
}

/// The longest end of the text within the limits. It starts with a line, except where one line alone is too long.
pub(crate) fn tail(text: &str, lines: usize, bytes: usize) -> &str {
    let body = text.strip_suffix('\n').unwrap_or(text);
    let by_lines = body.rmatch_indices('\n').nth(lines.saturating_sub(1)).map_or(0, |(at, _)| at + 1);
    let cut = text.ceil_char_boundary(by_lines.max(text.len().saturating_sub(bytes)));
    if cut == by_lines || text[..cut].ends_with('\n') {
        return &text[cut..];
    }
    let line = text[cut..].find('\n').map(|at| cut + at + 1).filter(|at| *at < text.len()).unwrap_or(cut);
    &text[line..]
}

/// The line, cut after [`MAX_LINE_CHARS`].
pub(crate) fn cut_line(line: &str) -> String {
    match line.char_indices().nth(MAX_LINE_CHARS) {
        Some((at, _)) => format!("{} [line cut]", &line[..at]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_swallows_is_removed() {
        for (written, printed) in [
            ("plain\ttext\n", "plain\ttext\n"),
            ("\x1b[1;31mred\x1b[0m\n", "red\n"),
            ("\x1b]0;title\x07shown", "shown"),
            ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
            ("\x1b]never closed\nkept", "never closed\nkept"),
            ("\x1b(Bx\x1b7y", "xy"),
            ("a\x08b\x07c\0d\u{9b}e", "abcde"),
            ("10%\r50%\r100%\ndone\r\n", "100%\ndone\n"),
            ("half\r", "half"),
            ("\u{fffd}é", "\u{fffd}é"),
        ] {
            assert_eq!(as_printed(written), printed, "{written:?}");
        }
    }

    #[test]
    fn a_file_keeps_its_carriage_returns() {
        assert_eq!(without_controls("a\rb\r\n\x1b[0m"), "a\rb\r\n");
    }

    #[test]
    fn head_and_tail_end_at_lines_and_never_inside_a_character() {
        let text = "one\ntwo\nthree\n";
        assert_eq!(head(text, 2, 100), "one\ntwo\n");
        assert_eq!(head(text, 9, 6), "one\n");
        assert_eq!(head(text, 9, 100), text);
        assert_eq!(tail(text, 2, 100), "two\nthree\n");
        assert_eq!(tail(text, 9, 7), "three\n");
        assert_eq!(tail(text, 9, 100), text);
        assert_eq!(head("ééé", 1, 3), "é");
        assert_eq!(tail("ééé", 1, 3), "é");
        assert_eq!(tail("abcdef\n", 1, 3), "ef\n");
    }

    #[test]
    fn long_lines_are_cut_by_characters() {
        assert_eq!(cut_line(&"é".repeat(MAX_LINE_CHARS)), "é".repeat(MAX_LINE_CHARS));
        assert_eq!(cut_line(&"é".repeat(MAX_LINE_CHARS + 1)), format!("{} [line cut]", "é".repeat(MAX_LINE_CHARS)));
    }
}
