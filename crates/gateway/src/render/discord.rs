//! Markdown as Discord reads it: written anew from the leaves, so that only what was meant as form is form.

use super::{
    leaf::{Content, Leaf, Marker, Span},
    neutral,
    pack::{Room, pack},
    parse::parse,
    table,
};
use crate::{Body, chunking::cut::units};

/// UTF-16 units of one message.
pub const LIMIT: usize = 2000;
const RULE: &str = "──────────";
/// Invisible, without width.
const SEPARATOR: char = '\u{200b}';
/// Deeper lists are not indented further.
const DEEPEST: usize = 8;

/// Messages of at most [`LIMIT`] units.
#[must_use]
pub fn compose(markdown: &str) -> Vec<Body> {
    let leaves = parse(markdown).into_iter().map(table::as_code).collect();
    let room = Room { limit: LIMIT, cost: &|leaf| units(&block(leaf)) + 2, joins: &|_, _| true };
    let messages = pack(leaves, &room).iter().map(|leaves| Body::plain(message(leaves))).collect();
    // An escape for each character, at the worst.
    super::or_plain(messages, markdown, LIMIT / 2, |text| escaped(text, true))
}

fn message(leaves: &[Leaf]) -> String {
    let mut text = String::new();
    for (number, leaf) in leaves.iter().enumerate() {
        if let Some(before) = number.checked_sub(1).and_then(|before| leaves.get(before)) {
            let list = leaf.depth > 0 && before.depth > 0;
            let code = matches!(leaf.content, Content::Code { .. }) || matches!(before.content, Content::Code { .. });
            text.push_str(match (list || code, leaf.quote && before.quote) {
                (true, _) => "\n",
                (false, true) => "\n> \n",
                (false, false) => "\n\n",
            });
        }
        text.push_str(&block(leaf));
    }
    text.trim_end().to_owned()
}

/// A leaf with its marker, quoted if it is in a quote.
fn block(leaf: &Leaf) -> String {
    let indent = "  ".repeat(leaf.depth.saturating_sub(1).min(DEEPEST));
    let (first, next) = match leaf.marker {
        Some(Marker::Bullet) => (format!("{indent}- "), format!("{indent}  ")),
        Some(Marker::Number(number)) => (format!("{indent}{number}. "), format!("{indent}   ")),
        Some(Marker::Task(done)) => (format!("{indent}- {} ", if done { "☑" } else { "☐" }), format!("{indent}  ")),
        None if leaf.depth > 0 => (format!("{indent}  "), format!("{indent}  ")),
        None => (String::new(), String::new()),
    };
    let lines = match &leaf.content {
        Content::Heading(level, spans) if *level <= 3 && leaf.depth == 0 => {
            format!("{} {}", "#".repeat(usize::from(*level)), inline(spans, false).replace('\n', " "))
        }
        Content::Heading(_, spans) => prefixed(&inline(spans, true), &first, &next),
        Content::Text(spans) => prefixed(&inline(spans, false), &first, &next),
        Content::Code { language, text } => code(language.as_deref(), text),
        Content::Rule => RULE.to_owned(),
        // Code by now.
        Content::Table(table) => code(None, &table::aligned(table)),
    };
    if leaf.quote { prefixed(&lines, "> ", "> ") } else { lines }
}

fn prefixed(text: &str, first: &str, next: &str) -> String {
    let lines = text.split('\n').enumerate();
    lines
        .map(|(number, line)| format!("{}{line}", if number == 0 { first } else { next }))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The platform knows fences of three backticks only, and its language names have no other characters.
fn code(language: Option<&str>, text: &str) -> String {
    let known = |language: &&str| language.chars().all(|c| c.is_ascii_alphanumeric() || "_+-.#".contains(c));
    let language = language.filter(known).unwrap_or_default();
    format!("```{language}\n{}\n```", apart(text))
}

/// No two backticks side by side.
fn apart(text: &str) -> String {
    let mut apart = String::with_capacity(text.len());
    for character in text.chars() {
        if character == '`' && apart.ends_with('`') {
            apart.push(SEPARATOR);
        }
        apart.push(character);
    }
    apart
}

fn inline(spans: &[Span], bold: bool) -> String {
    let mut text = String::new();
    for span in spans {
        let style = span.style;
        let inner = if style.code {
            inline_code(&span.text)
        } else {
            escaped(&span.text, text.is_empty() || text.ends_with('\n'))
        };
        let inner = match &span.link {
            // A preview would show what the model chose.
            Some(url) if *url == span.text => format!("<{url}>"),
            Some(url) => format!("[{}](<{url}>)", inner.replace('[', "\\[").replace(']', "\\]")),
            None => inner,
        };
        let marks = [(bold || style.bold, "**"), (style.italic, "*"), (style.strike, "~~")];
        let next = marked(&inner, marks);
        // Together they would be another mark.
        if text.ends_with('`') && next.starts_with('`') {
            text.push(SEPARATOR);
        }
        text.push_str(&next);
    }
    text
}

/// Marks stand at the text, not at the space around it.
fn marked(text: &str, marks: [(bool, &str); 3]) -> String {
    let core = text.trim();
    if core.is_empty() {
        return text.to_owned();
    }
    let start = text.len() - text.trim_start().len();
    let open: String = marks.iter().filter(|(on, _)| *on).map(|(_, mark)| *mark).collect();
    let close: String = marks.iter().rev().filter(|(on, _)| *on).map(|(_, mark)| *mark).collect();
    format!("{}{open}{core}{close}{}", &text[..start], &text[start + core.len()..])
}

fn inline_code(text: &str) -> String {
    if text.contains('`') {
        return format!("`` {} ``", apart(text));
    }
    format!("`{text}`")
}

/// Plain text in which nothing is form, with addresses that give no preview.
fn escaped(text: &str, line_start: bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    let mut line_start = line_start;
    for word in text.split_inclusive([' ', '\n', '\t']) {
        let (bare, space) = word.split_at(word.trim_end_matches([' ', '\n', '\t']).len());
        match address_in(bare) {
            Some((before, url, after)) => {
                escape_word(before, line_start, &mut escaped);
                escaped.push_str(&format!("<{url}>"));
                escape_word(after, false, &mut escaped);
            }
            None => escape_word(bare, line_start, &mut escaped),
        }
        escaped.push_str(space);
        line_start = space.ends_with('\n') || line_start && bare.is_empty();
    }
    escaped
}

/// What is before, in and behind the web address in a word.
fn address_in(word: &str) -> Option<(&str, &str, &str)> {
    let at = word.find("https://").or_else(|| word.find("http://"))?;
    let (before, rest) = word.split_at(at);
    let end = rest.find(['<', '>', '"', '`', '|', '\\']).unwrap_or(rest.len());
    let url = rest[..end].trim_end_matches(['.', ',', ';', ':', '!', '?', ')', ']', '*', '\'']);
    let longer_than_scheme = url.len() > "https://".len();
    longer_than_scheme.then(|| (before.trim_end_matches('<'), url, rest[url.len()..].trim_start_matches('>')))
}

fn escape_word(word: &str, line_start: bool, escaped: &mut String) {
    let word = neutral::angles(word);
    let characters: Vec<char> = word.chars().collect();
    let digits = characters.iter().take_while(|character| character.is_ascii_digit()).count();
    for (at, character) in characters.iter().enumerate() {
        let around = |at: Option<usize>| at.and_then(|at| characters.get(at)).is_some_and(|c| c.is_alphanumeric());
        let form = match character {
            '\\' | '*' | '`' | '~' | '|' => true,
            '_' => !(around(at.checked_sub(1)) && around(Some(at + 1))),
            '#' | '>' | '-' | '+' => line_start && at == 0,
            '.' | ')' => line_start && digits > 0 && at == digits && at + 1 == characters.len(),
            '[' => true,
            _ => false,
        };
        if form {
            escaped.push('\\');
        }
        escaped.push(*character);
    }
}
