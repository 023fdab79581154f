//! Secrets in a command line: each becomes a variable of the shell, so that no argument list holds it and nothing in it is
//! read as shell.
//!
//! The line is scanned for quotes, not parsed. Inside single quotes a placeholder becomes `'"$NAME"'`, which is the same
//! word; in a here-document whose delimiter is quoted nothing is expanded, so there it becomes the text itself.

use stakpak_redact::placeholders;

/// Begins with what no call may set itself.
const NAME: &str = "STAKPAK_SECRET_";

/// What a place in a command line is inside of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Plain,
    /// `"…"`
    Double,
    /// `'…'`
    Single,
    /// `$'…'`
    Ansi,
    /// A here-document that is expanded.
    Expanded,
    /// One that is not.
    Verbatim,
}

/// A command line without secrets, and the variables it needs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) text: String,
    pub(super) variables: Vec<(String, String)>,
}

/// `line` with each placeholder passed as a variable; `value` gives what one stands for.
pub(super) fn with_variables<E>(line: &str, mut value: impl FnMut(&str) -> Result<String, E>) -> Result<Line, E> {
    let mut scanner = Scanner::default();
    let (mut text, mut at) = (String::with_capacity(line.len()), 0);
    let mut variables: Vec<(String, String)> = Vec::new();
    let mut names: Vec<&str> = Vec::new();
    for placeholder in placeholders(line) {
        let before = &line[at..placeholder.range.start];
        scanner.scan(before);
        text.push_str(before);
        at = placeholder.range.end;
        if scanner.place() == Place::Verbatim {
            text.push_str(&value(placeholder.text)?);
            continue;
        }
        let number = match names.iter().position(|name| *name == placeholder.text) {
            Some(number) => number,
            None => {
                variables.push((format!("{NAME}{}", names.len()), value(placeholder.text)?));
                names.push(placeholder.text);
                names.len() - 1
            }
        };
        if scanner.escaped {
            // It would quote the quote.
            text.pop();
            scanner.escaped = false;
        }
        let name = &variables[number].0;
        text.push_str(&match scanner.place() {
            Place::Plain => format!("\"${{{name}}}\""),
            Place::Double | Place::Expanded => format!("${{{name}}}"),
            Place::Single => format!("'\"${{{name}}}\"'"),
            Place::Ansi => format!("'\"${{{name}}}\"$'"),
            Place::Verbatim => String::new(),
        });
    }
    text.push_str(&line[at..]);
    Ok(Line { text, variables })
}

#[derive(Default)]
struct Scanner {
    /// Innermost last; none: [`Place::Plain`].
    places: Vec<Place>,
    /// The next character stands for itself.
    escaped: bool,
    /// Here-documents that begin with the next line: delimiter, whether it was quoted, whether tabs before it count.
    announced: Vec<(String, bool, bool)>,
    /// What was scanned of the line: a delimiter must be all of it.
    line: String,
    comment: bool,
}

impl Scanner {
    fn place(&self) -> Place {
        self.places.last().copied().unwrap_or(Place::Plain)
    }

    fn scan(&mut self, text: &str) {
        let mut at = 0;
        while let Some(c) = text[at..].chars().next() {
            let rest = &text[at..];
            at += c.len_utf8();
            if matches!(self.place(), Place::Expanded | Place::Verbatim) {
                self.in_document(c);
                continue;
            }
            if std::mem::take(&mut self.escaped) {
                self.line.push(c);
                continue;
            }
            if self.comment && c != '\n' {
                continue;
            }
            match (self.place(), c) {
                (Place::Single, '\'') | (Place::Ansi, '\'') => drop(self.places.pop()),
                (Place::Single, _) => {}
                (_, '\\') => self.escaped = true,
                (Place::Ansi, _) => {}
                (Place::Double, '"') => drop(self.places.pop()),
                (_, '$') if rest.starts_with("$(") => {
                    self.places.push(Place::Plain);
                    at += 1;
                }
                (Place::Double, _) => {}
                (_, '"') => self.places.push(Place::Double),
                (_, '$') if rest.starts_with("$'") => {
                    self.places.push(Place::Ansi);
                    at += 1;
                }
                (_, '\'') => self.places.push(Place::Single),
                (_, '(') => self.places.push(Place::Plain),
                (_, ')') => drop(self.places.pop()),
                (_, '#') if self.line.chars().next_back().is_none_or(|last| last.is_whitespace() || last == ';') => {
                    self.comment = true;
                }
                (_, '<') if rest.starts_with("<<") && !rest.starts_with("<<<") => at += self.announce(&rest[2..]) + 1,
                (_, '<') if rest.starts_with("<<<") => at += 2,
                (_, '\n') => {
                    self.comment = false;
                    self.begin_document();
                }
                _ => {}
            }
            if c == '\n' { self.line.clear() } else { self.line.push(c) }
        }
    }

    /// Takes the delimiter behind `<<`; how long it is.
    fn announce(&mut self, rest: &str) -> usize {
        let (word, has_tabs) = rest.strip_prefix('-').map_or((rest, false), |word| (word, true));
        let word = word.trim_start_matches([' ', '\t']);
        let quoted = word.starts_with(['\'', '"']).then(|| word[1..].find(&word[..1]).map(|end| end + 2)).flatten();
        let end = quoted.or_else(|| word.find(|c: char| c.is_whitespace() || ";|&<>()".contains(c)));
        let end = end.unwrap_or(word.len());
        let is_quoted = word[..end].contains(['\'', '"', '\\']);
        self.announced.push((word[..end].replace(['\'', '"', '\\'], ""), is_quoted, has_tabs));
        rest.len() - word.len() + end
    }

    fn begin_document(&mut self) {
        self.line.clear();
        if let Some((_, is_quoted, _)) = self.announced.first() {
            self.places.push(if *is_quoted { Place::Verbatim } else { Place::Expanded });
        }
    }

    fn in_document(&mut self, c: char) {
        if c != '\n' {
            self.line.push(c);
            return;
        }
        let line = std::mem::take(&mut self.line);
        let Some((delimiter, _, has_tabs)) = self.announced.first() else { return };
        let line = if *has_tabs { line.trim_start_matches('\t') } else { &line };
        if line == delimiter {
            self.announced.remove(0);
            self.places.pop();
            self.begin_document();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    const P: &str = "[REDACTED_SECRET:jwt:abc123]";
    const Q: &str = "[REDACTED_SECRET:jwt:xyz789]";
    /// Whatever it holds, it is one word.
    const VALUE: &str = "a b'c\"d$(id)`id`\\;*\n!e";

    fn written(line: &str) -> String {
        let line = with_variables::<Infallible>(line, |_| Ok(VALUE.to_owned()));
        line.map(|line| line.text).unwrap_or_default()
    }

    #[test]
    fn a_secret_is_a_variable_quoted_as_its_place_needs() {
        assert_eq!(written(&format!("echo {P} x{P}y")), "echo \"${STAKPAK_SECRET_0}\" x\"${STAKPAK_SECRET_0}\"y");
        assert_eq!(written(&format!("echo \"a {P}\" {Q}")), "echo \"a ${STAKPAK_SECRET_0}\" \"${STAKPAK_SECRET_1}\"");
        assert_eq!(written(&format!("echo 'a {P}'")), "echo 'a '\"${STAKPAK_SECRET_0}\"''");
        assert_eq!(
            written(&format!("cat <<E\n{P}\nE\necho {P}")),
            "cat <<E\n${STAKPAK_SECRET_0}\nE\necho \"${STAKPAK_SECRET_0}\""
        );
        assert_eq!(written(&format!("cat <<'E'\n{P}\nE\n")), format!("cat <<'E'\n{VALUE}\nE\n"));
    }

    /// The shell gives back exactly the value, wherever the placeholder stands.
    #[test]
    fn the_shell_sees_the_value_and_nothing_of_it_is_run() {
        for (line, expected) in [
            (format!("printf %s {P}"), VALUE.to_owned()),
            (format!("printf %s \"<{P}>\""), format!("<{VALUE}>")),
            (format!("printf %s '<{P}>'"), format!("<{VALUE}>")),
            (format!("printf %s $'<{P}>\\''"), format!("<{VALUE}>'")),
            (format!("printf %s a{P}b\\'{P}"), format!("a{VALUE}b'{VALUE}")),
            (format!("printf %s \"$(printf %s {P})\""), VALUE.to_owned()),
            (format!("printf %s \"$(printf %s \"({P}\")\""), format!("({VALUE}")),
            (format!("printf %s \\{P}"), VALUE.to_owned()),
            (format!("# it's\nprintf %s {P}"), VALUE.to_owned()),
            (format!("cat <<E\n{P}\nE\n"), format!("{VALUE}\n")),
            (format!("cat <<-'E x'\n{P}\n\tE x\n"), format!("{VALUE}\n")),
            (format!("cat <<'E'\n{P}\nE\nprintf %s {P}"), format!("{VALUE}\n{VALUE}")),
        ] {
            let Ok(Line { text, variables }) = with_variables::<Infallible>(&line, |_| Ok(VALUE.to_owned()));
            let output = std::process::Command::new("bash").arg("-c").arg(&text).envs(variables).output();
            let output = output.expect("bash");
            assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_restored_is_not_run() {
        assert_eq!(with_variables(&format!("echo {P}"), |name| Err(name.to_owned())), Err(P.to_owned()));
    }
}
