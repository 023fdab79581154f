//! What parsing would take, told from the text alone. The parser tries alternatives without remembering what it has read:
//! each construct that holds another multiplies what is inside it. The estimate is only ever too high.

use brush_parser::Token;

/// Bytes and tokens that are read for one line, each as often as the parser may come by.
pub(crate) const MOST: usize = 1 << 16;

/// A token is asked for by many rules.
const PER_TOKEN: usize = 4;
/// `$(`, `${`, `$[`: tried as each kind of expansion, before that to see where a text ends, and read as text in the end.
const PER_EXPANSION: usize = 4;
/// Tried as a pattern and as a subshell, and read as text in the end.
const PER_PARENTHESIS: usize = 3;
/// A subscript in `${name[…]}` is read anew for every operator that could follow.
const PER_SUBSCRIPT: usize = 25;
/// `((` is tried as arithmetic, `case` as one with an item that goes on.
const PER_ALTERNATIVE: usize = 2;

/// The grammar of commands.
pub(crate) fn of_tokens(tokens: &[Token]) -> usize {
    let (mut work, mut times, mut cases) = (0_usize, 1_usize, 0_usize);
    let (mut parentheses, mut is_regex) = (Vec::new(), false);
    for (at, token) in tokens.iter().enumerate() {
        let mut cost = PER_TOKEN;
        match token {
            Token::Operator(text, _) if text == "(" => {
                let is_double = at > 0 && is_operator(tokens.get(at - 1), &["("]);
                let is_tried_twice = is_regex || is_double || parentheses.last() == Some(&true);
                parentheses.push(is_tried_twice);
                if is_tried_twice {
                    times = times.saturating_mul(PER_ALTERNATIVE);
                }
            }
            Token::Operator(text, _) if text == ")" => {
                times /= if parentheses.pop() == Some(true) { PER_ALTERNATIVE } else { 1 };
            }
            Token::Word(text, _) if text == "case" => {
                cases += 1;
                times = times.saturating_mul(PER_ALTERNATIVE);
            }
            Token::Word(text, _) if text == "esac" && cases > 0 && ends_case(tokens, at) => {
                cases -= 1;
                times /= PER_ALTERNATIVE;
            }
            Token::Word(text, _) if text == "=~" => is_regex = true,
            // It may be an assignment, whose subscript is read here.
            Token::Word(text, _) if text.contains('[') => cost = cost.saturating_add(of_word(text)),
            _ => {}
        }
        work = work.saturating_add(times.saturating_mul(cost));
        if work > MOST || times > MOST {
            return usize::MAX;
        }
    }
    work
}

/// Elsewhere than behind the end of an item `esac` may be a word like others; there it may be a pattern.
fn ends_case(tokens: &[Token], at: usize) -> bool {
    let before = tokens[..at].iter().rev().find(|token| !is_operator(Some(token), &["\n"]));
    is_operator(before, &[";;", ";&", ";;&"]) && !is_operator(tokens.get(at + 1), &[")", "|"])
}

fn is_operator(token: Option<&Token>, texts: &[&str]) -> bool {
    matches!(token, Some(Token::Operator(text, _)) if texts.contains(&text.as_str()))
}

/// A word with its quotes.
pub(crate) fn of_word(text: &str) -> usize {
    Scan::new(text, false).work()
}

/// A text in which quotes mean nothing but inside its expansions.
pub(crate) fn of_body(text: &str) -> usize {
    Scan::new(text, true).work()
}

struct Open {
    closer: u8,
    times: usize,
}

/// Where nothing is open what is quoted is certain. Inside an expansion it is not: whether a closer is one depends on what the
/// parser makes of the text before. It counts if nothing but whole quoted texts stands between it and what it closes.
struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    is_body: bool,
    in_double_quotes: bool,
    open: Vec<Open>,
    /// How many of them nothing closes.
    fenced: usize,
    /// A quote inside an expansion, and what was open before it.
    quote: Option<(u8, usize)>,
    times: usize,
}

impl<'a> Scan<'a> {
    fn new(text: &'a str, is_body: bool) -> Self {
        let bytes = text.as_bytes();
        let open = Vec::new();
        Self { bytes, at: 0, is_body, in_double_quotes: false, open, fenced: 0, quote: None, times: 1 }
    }

    fn work(mut self) -> usize {
        let mut work = 0_usize;
        while let Some(&byte) = self.bytes.get(self.at) {
            let start = self.at;
            self.at += 1;
            match byte {
                b'\\' => self.escape(),
                b'\'' | b'"' | b'`' if self.open.is_empty() => self.certain_quote(byte),
                b'\'' | b'"' | b'`' => self.uncertain_quote(byte),
                b'(' | b'{' | b'[' => self.opener(byte, start),
                b')' | b'}' | b']' => self.closer(byte),
                _ => {}
            }
            work = work.saturating_add(self.times.saturating_mul(self.at - start));
            if work > MOST || self.times > MOST {
                return usize::MAX;
            }
        }
        work
    }

    fn escape(&mut self) {
        match self.bytes.get(self.at) {
            Some(b'\'' | b'"' | b'`') if !self.open.is_empty() => {
                self.at += 1;
                self.fence();
            }
            // It may be an expansion all the same.
            Some(b'$') if !self.open.is_empty() => {}
            Some(_) => self.at += 1,
            None => {}
        }
    }

    fn certain_quote(&mut self, quote: u8) {
        let rest = &self.bytes[self.at..];
        match quote {
            b'"' if !self.is_body => self.in_double_quotes = !self.in_double_quotes,
            b'\'' if !self.is_body && !self.in_double_quotes => {
                let end = rest.iter().position(|byte| *byte == quote).unwrap_or(rest.len());
                let may_have_escapes = self.at >= 2 && self.bytes[self.at - 2] == b'$';
                if may_have_escapes && rest[..end].contains(&b'\\') {
                    return self.push(0, 1);
                }
                self.at += (end + 1).min(rest.len());
            }
            b'`' => {
                let mut is_escaped = false;
                let end = rest.iter().position(|byte| {
                    let is_end = *byte == quote && !is_escaped;
                    is_escaped = *byte == b'\\' && !is_escaped;
                    is_end
                });
                self.at += end.map_or(0, |end| end + 1);
            }
            _ => {}
        }
    }

    fn uncertain_quote(&mut self, quote: u8) {
        match self.quote {
            None => self.quote = Some((quote, self.open.len())),
            Some(before) if before == (quote, self.open.len()) => self.quote = None,
            Some(_) => self.fence(),
        }
    }

    fn fence(&mut self) {
        self.fenced = self.open.len();
        self.quote = None;
    }

    fn opener(&mut self, byte: u8, at: usize) {
        let before = &self.bytes[..at];
        let is_text = self.open.is_empty() && (self.is_body || self.in_double_quotes);
        match byte {
            b'(' if before.ends_with(b"$") => self.push(b')', PER_EXPANSION),
            b'{' if before.ends_with(b"$") => self.push(b'}', PER_EXPANSION),
            b'[' if before.ends_with(b"$") => self.push(b']', PER_EXPANSION),
            b'(' if !self.open.is_empty() => self.push(b')', PER_PARENTHESIS),
            b'[' if !is_text => {
                let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
                let name = before.iter().rev().take_while(|byte| is_name(byte)).count();
                let outside = &before[..at - name];
                let is_in_braces = [&b"${"[..], b"${!", b"${#"].iter().any(|opening| outside.ends_with(opening));
                match name {
                    0 => {}
                    _ if is_in_braces => self.push(b']', PER_SUBSCRIPT),
                    _ => self.push(b']', PER_PARENTHESIS),
                }
            }
            _ => {}
        }
    }

    fn push(&mut self, closer: u8, times: usize) {
        self.open.push(Open { closer, times });
        self.times = self.times.saturating_mul(times);
    }

    fn closer(&mut self, byte: u8) {
        let floor = self.quote.map_or(self.fenced, |(_, before)| before.max(self.fenced));
        if self.open.len() > floor
            && let Some(open) = self.open.pop_if(|open| open.closer == byte)
        {
            self.times /= open.times;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Doubt, read};

    /// What opens, what stands inside, what closes.
    const FORMS: [(&str, &str, &str); 23] = [
        ("(", "a; b", ")"),
        ("( ", "a", " )"),
        ("$(", "a", ")"),
        ("$( ( ", "a", " ) )"),
        ("$((", "1", "))"),
        ("$((", "a", ") )"),
        ("\"a$(", "a", ")\""),
        ("a <(", "a", ")"),
        ("@(", "a", ")"),
        ("$(@(", "a", "))"),
        ("${a:-", "a", "}"),
        ("\"a${a:-", "a", "}\""),
        ("${a:-'b'", "a", "}"),
        ("${a[", "1", "]}"),
        ("$[a[", "1", "]]"),
        ("a[(", "1", ")]=b"),
        ("[[ a =~ ( ", "a", " ) ]]"),
        ("[[ ( ! ", "a", " ) ]]"),
        ("case a in a) ", "a", " esac"),
        ("f() { ", "a", "; }"),
        ("if a; then ", "a", "; fi"),
        ("(echo \")\"; ", "a", ")"),
        ("`echo \"$(", "a", ")\"`"),
    ];

    fn in_every_place(line: &str) -> [String; 7] {
        [
            line.to_owned(),
            format!("\"a {line}\""),
            format!("cat <<E\n{line}\nE"),
            format!("(({line}))"),
            format!("[[ a =~ {line} ]]"),
            format!("echo $({line})"),
            format!("bash -c '{line}'"),
        ]
    }

    /// Without an estimate many of these would be read for hours.
    #[test]
    fn reading_ends_however_deep_a_line_is() {
        for (opens, inside, closes) in FORMS {
            for depth in [1, 2, 3, 5, 8, 13, 21, 34, 55] {
                let open = format!("{}{inside}", opens.repeat(depth));
                let closed = format!("{open}{}", closes.repeat(depth));
                let half_closed = format!("{open}{}", closes.repeat(depth / 2));
                for line in [open, closed, half_closed].iter().flat_map(|line| in_every_place(line)) {
                    let _ = read(&line);
                }
            }
        }
    }

    #[test]
    fn what_the_parser_would_read_too_often_is_not_read() {
        let lines = [
            "ba<<E\nit$(\n((((((((( <&it$(trap( loP(E\n loga<<E\nit$(\nJ$tuE\ngit |( ++it$trap( lo@(E${log\nE\n1 <&J$tuE\ngit".to_owned(),
            format!("{}a; b", "(".repeat(17)),
            format!("(a {}b; c", "((".repeat(8)),
            "${a[${a[${a[${a[1]}]}]}]}".to_owned(),
            format!("{}id{}", "\"a$(".repeat(12), ")\"".repeat(12)),
            format!("{}id{}", "case a in a) ".repeat(14), " esac".repeat(14)),
            format!("[[ a =~ {} ]]", "( ".repeat(15)),
            format!("cat <<E\n{}\nE", "$( ".repeat(9)),
        ];
        for line in lines {
            let read = read(&line);
            assert!(read.doubts.contains(&Doubt::TooDeep), "{line:?}: {read:?}");
        }
    }

    #[test]
    fn each_level_adds_to_the_estimate() {
        let of_line = |line: &str| brush_parser::tokenize_str(line).map(|tokens| of_tokens(&tokens));
        for opens in ["$(", "${a:-", "$[", "\"$(\")\"", "'a\"$(`$('$(", "$('\"'\")", "$(\\')"] {
            let times = |depth: usize| Scan::new(&format!("{}x", opens.repeat(depth)), true).work();
            assert!(times(4) > 4 * times(2) && times(64) == usize::MAX, "{opens:?}");
        }
        let opened = |depth: usize| of_line(&format!("{}a", "case a in (a) ".repeat(depth))).unwrap();
        assert!(opened(8) > 16 * opened(4) && opened(64) == usize::MAX);
        let hidden = |depth: usize| of_line(&"case a in a) b esac; c=(\nesac\n);; esac) ".repeat(depth)).unwrap();
        assert!(hidden(8) > 16 * hidden(4) && hidden(64) == usize::MAX);
    }

    #[test]
    fn ordinary_nesting_is_read() {
        let case = "case $a in\n  a|b) echo \"$(date)\" ;;\n  *) echo b ;;\nesac\n";
        let lines = [
            "(cd a && echo $(cd b && (git log; git status)))",
            "echo \"$(dirname \"$(readlink -f \"$0\")\")/$(basename \"$(pwd)\")\"",
            "echo $(( (1 + 2) * (3 + (4 - 1)) ))",
            "echo \"${a:-${b:-${c:-d}}}\" \"${a[0]}\" \"${a[${b[1]}]}\"",
            "for a in $(ls); do if [ -f \"$a\" ]; then (cat \"$a\" | while read b; do echo \"$(wc -c < \"$b\")\"; done); fi; done",
            &"echo \"a $(date) b ${c} $(id)\"\n".repeat(100),
            &"git status && git log -1; ".repeat(500),
            &case.repeat(40),
        ];
        for line in lines {
            let read = read(line);
            assert!(!read.is_unread(), "{line:?}: {:?}", read.doubts);
        }
    }
}
