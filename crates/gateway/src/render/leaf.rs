//! The neutral form: a document as a flat sequence of leaves, each with the lists and quotes it is in.

use crate::chunking::cut::{preferred_cut, units};

/// One block without blocks in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Leaf {
    /// Lists around it.
    pub(super) depth: usize,
    /// Whether it starts an item of the innermost list.
    pub(super) marker: Option<Marker>,
    /// Whether it is in a quote.
    pub(super) quote: bool,
    pub(super) content: Content,
}

/// What stands before an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marker {
    Bullet,
    Number(u64),
    Task(bool),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    Heading(u8, Vec<Span>),
    Text(Vec<Span>),
    Code { language: Option<String>, text: String },
    Table(Table),
    Rule,
}

/// Rows of cells; the first row is the head.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) columns: Vec<Align>,
    pub(super) rows: Vec<Vec<Vec<Span>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Center,
    Right,
}

/// Text of one style. Newlines in it are line breaks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) text: String,
    pub(super) style: Style,
    /// Where it leads; always a web or mail address.
    pub(super) link: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Style {
    pub(super) bold: bool,
    pub(super) italic: bool,
    pub(super) strike: bool,
    pub(super) code: bool,
}

impl Leaf {
    /// The same place with other content.
    pub(super) fn with(&self, content: Content) -> Self {
        Self { content, ..self.clone() }
    }

    /// Two leaves of the same content, the first of at most `limit` units of text, None for what cannot be divided.
    pub(super) fn split(&self, limit: usize) -> Option<(Self, Self)> {
        let continued = |content| Self { marker: None, ..self.with(content) };
        match &self.content {
            Content::Heading(level, spans) => {
                let (head, tail) = split_spans(spans, limit)?;
                Some((self.with(Content::Heading(*level, head)), continued(Content::Heading(*level, tail))))
            }
            Content::Text(spans) => {
                let (head, tail) = split_spans(spans, limit)?;
                Some((self.with(Content::Text(head)), continued(Content::Text(tail))))
            }
            Content::Code { language, text } => {
                let (head, tail) = split_code(text, limit)?;
                let code = |text: &str| Content::Code { language: language.clone(), text: text.to_owned() };
                Some((self.with(code(head)), continued(code(tail))))
            }
            Content::Table(table) => {
                let (head, tail) = table.split(limit)?;
                Some((self.with(Content::Table(head)), continued(Content::Table(tail))))
            }
            Content::Rule => None,
        }
    }

    /// The same without its text.
    pub(super) fn emptied(&self) -> Self {
        self.with(match &self.content {
            Content::Heading(level, _) => Content::Heading(*level, Vec::new()),
            Content::Text(_) => Content::Text(Vec::new()),
            Content::Code { language, .. } => Content::Code { language: language.clone(), text: String::new() },
            Content::Table(table) => Content::Table(Table { columns: table.columns.clone(), rows: Vec::new() }),
            Content::Rule => Content::Rule,
        })
    }

    /// The same with each span changed.
    pub(super) fn map_spans(mut self, change: &dyn Fn(&mut Span)) -> Self {
        match &mut self.content {
            Content::Heading(_, spans) | Content::Text(spans) => spans.iter_mut().for_each(change),
            Content::Table(table) => table.rows.iter_mut().flatten().flatten().for_each(change),
            Content::Code { .. } | Content::Rule => {}
        }
        self
    }

    /// Units of its text.
    pub(super) fn text_units(&self) -> usize {
        match &self.content {
            Content::Heading(_, spans) | Content::Text(spans) => units(&plain(spans)),
            Content::Code { text, .. } => units(text),
            Content::Table(table) => table.rows.iter().flatten().map(|cell| units(&plain(cell))).sum(),
            Content::Rule => 0,
        }
    }
}

impl Table {
    /// Rows of at most `limit` units, but one at least; the head over both parts.
    pub(super) fn split(&self, limit: usize) -> Option<(Self, Self)> {
        let length = |row: &Vec<Vec<Span>>| row.iter().map(|cell| units(&plain(cell))).sum::<usize>();
        let mut used = self.rows.first().map_or(0, length);
        let fit = self.rows.iter().skip(1).take_while(|row| {
            used += length(row);
            used <= limit
        });
        self.split_at(fit.count().max(1))
    }

    /// The first `rows` rows under the head, and the others.
    pub(super) fn split_at(&self, rows: usize) -> Option<(Self, Self)> {
        if self.rows.len() <= rows + 1 {
            return None;
        }
        let (first, second) = self.rows.split_at(rows + 1);
        let second = self.rows.iter().take(1).chain(second).cloned().collect();
        let table = |rows| Self { columns: self.columns.clone(), rows };
        Some((table(first.to_vec()), table(second)))
    }

    /// Cells of the longest row.
    pub(super) fn width(&self) -> usize {
        self.rows.iter().map(Vec::len).max().unwrap_or(0)
    }
}

/// The text of spans.
pub(super) fn plain(spans: &[Span]) -> String {
    spans.iter().map(|span| span.text.as_str()).collect()
}

fn split_spans(spans: &[Span], limit: usize) -> Option<(Vec<Span>, Vec<Span>)> {
    let text = plain(spans);
    let cut = preferred_cut(&text, limit);
    if cut == 0 || cut == text.len() {
        return None;
    }
    let (mut head, mut tail) = (Vec::new(), Vec::new());
    let mut start = 0;
    for span in spans {
        let at = cut.saturating_sub(start).min(span.text.len());
        for (part, side) in [(&span.text[..at], &mut head), (&span.text[at..], &mut tail)] {
            if !part.is_empty() {
                side.push(Span { text: part.to_owned(), ..span.clone() });
            }
        }
        start += span.text.len();
    }
    Some((head, tail))
}

/// A cut between two lines takes the newline; a cut within one takes nothing.
fn split_code(text: &str, limit: usize) -> Option<(&str, &str)> {
    let fits = crate::chunking::cut::fitting_prefix(text, limit);
    if fits == 0 || fits == text.len() {
        return None;
    }
    if text[fits..].starts_with('\n') {
        return Some((&text[..fits], &text[fits + 1..]));
    }
    match text[..fits].rfind('\n').filter(|at| *at > 0) {
        Some(at) => Some((&text[..at], &text[at + 1..])),
        None => Some(text.split_at(fits)),
    }
}
