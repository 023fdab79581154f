//! From Markdown to leaves. What the parser takes for markup and drops is kept as text: definitions of links, cells
//! beyond the last column, HTML.

use std::ops::Range;

use pulldown_cmark::{Alignment, CodeBlockKind, Event, HeadingLevel, LinkType, Options, Parser, Tag, TagEnd};

use super::{
    leaf::{Align, Content, Leaf, Marker, Span, Style, Table, plain},
    link,
};

/// The leaves of a document, in order.
pub(super) fn parse(markdown: &str) -> Vec<Leaf> {
    let source = clean(markdown);
    let options = Options::ENABLE_TABLES | Options::ENABLE_TASKLISTS | Options::ENABLE_STRIKETHROUGH;
    let mut builder = Builder { source: &source, ..Builder::default() };
    for (event, range) in Parser::new_ext(&source, options).into_offset_iter() {
        builder.event(event, &range);
    }
    builder.definitions(source.len());
    builder.flush();
    builder.leaves
}

/// Without what no platform shows, or shows other text with: control characters and changes of direction.
fn clean(markdown: &str) -> String {
    let unified = markdown.replace("\r\n", "\n");
    let hidden = |character: &char| {
        matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
            || character.is_control() && !matches!(character, '\n' | '\t')
    };
    let newline = |character| if matches!(character, '\r' | '\u{2028}' | '\u{2029}') { '\n' } else { character };
    unified.chars().map(newline).filter(|character| !hidden(character)).collect()
}

#[derive(Default)]
struct Builder<'a> {
    source: &'a str,
    leaves: Vec<Leaf>,
    /// What precedes this position has been taken.
    seen: usize,
    /// Next number of each list around, if it is numbered.
    lists: Vec<Option<u64>>,
    quotes: usize,
    /// Of the item that has no leaf yet.
    marker: Option<Marker>,
    spans: Vec<Span>,
    styles: Vec<Style>,
    links: Vec<Link>,
    code: Option<(String, String)>,
    table: Option<Table>,
}

/// A link whose label is being read.
struct Link {
    first_span: usize,
    url: String,
    title: String,
    mail: bool,
}

impl Builder<'_> {
    fn event(&mut self, event: Event<'_>, range: &Range<usize>) {
        match event {
            Event::Start(tag) => {
                if is_block(&tag) {
                    self.definitions(range.start);
                }
                self.seen = self.seen.max(range.start);
                self.start(tag);
            }
            Event::End(tag) => {
                self.end(tag, range.end);
                self.seen = self.seen.max(range.end);
            }
            Event::Rule => {
                self.definitions(range.start);
                self.flush();
                self.push(Content::Rule);
                self.seen = self.seen.max(range.end);
            }
            inline => {
                self.inline(inline);
                self.seen = self.seen.max(range.end);
            }
        }
    }

    fn inline(&mut self, event: Event<'_>) {
        match event {
            Event::Text(text) => match &mut self.code {
                Some((_, code)) => code.push_str(&text),
                None => self.span(text.into_string(), false),
            },
            Event::Code(text) => self.span(text.into_string(), true),
            Event::InlineHtml(tag) if is_line_break(&tag) => self.span("\n".to_owned(), false),
            Event::Html(text) | Event::InlineHtml(text) => self.span(text.into_string(), false),
            Event::SoftBreak | Event::HardBreak => self.span("\n".to_owned(), false),
            Event::TaskListMarker(done) => self.marker = Some(Marker::Task(done)),
            // Extensions that are not enabled.
            _ => {}
        }
    }

    fn start(&mut self, tag: Tag<'_>) {
        match tag {
            Tag::Emphasis => self.style(|style| style.italic = true),
            Tag::Strong => self.style(|style| style.bold = true),
            Tag::Strikethrough => self.style(|style| style.strike = true),
            Tag::Link { link_type, dest_url, title, .. } => self.links.push(Link {
                first_span: self.spans.len(),
                url: dest_url.into_string(),
                title: title.into_string(),
                mail: link_type == LinkType::Email,
            }),
            Tag::Image { dest_url, title, .. } => self.links.push(Link {
                first_span: self.spans.len(),
                url: dest_url.into_string(),
                title: title.into_string(),
                mail: false,
            }),
            Tag::TableHead | Tag::TableRow => {
                if let Some(table) = &mut self.table {
                    table.rows.push(Vec::new());
                }
            }
            Tag::TableCell => self.spans.clear(),
            block => {
                self.flush();
                self.start_block(block);
            }
        }
    }

    fn start_block(&mut self, tag: Tag<'_>) {
        match tag {
            Tag::BlockQuote(_) => self.quotes += 1,
            Tag::List(first) => self.lists.push(first),
            Tag::Item => {
                self.marker = Some(match self.lists.last_mut() {
                    Some(Some(number)) => {
                        *number += 1;
                        Marker::Number(*number - 1)
                    }
                    _ => Marker::Bullet,
                });
            }
            Tag::CodeBlock(kind) => {
                let info = match kind {
                    CodeBlockKind::Fenced(info) => info.to_string(),
                    CodeBlockKind::Indented => String::new(),
                };
                self.code = Some((info, String::new()));
            }
            Tag::Table(columns) => {
                self.table = Some(Table { columns: columns.into_iter().map(align).collect(), rows: Vec::new() });
            }
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd, end: usize) {
        match tag {
            TagEnd::Emphasis | TagEnd::Strong | TagEnd::Strikethrough => drop(self.styles.pop()),
            TagEnd::Link | TagEnd::Image => self.end_link(),
            TagEnd::TableCell => {
                let cell = std::mem::take(&mut self.spans);
                if let Some(row) = self.table.as_mut().and_then(|table| table.rows.last_mut()) {
                    row.push(cell);
                }
            }
            TagEnd::TableHead => {}
            TagEnd::TableRow => self.cells_beyond(end),
            TagEnd::Table => {
                if let Some(table) = self.table.take() {
                    self.push(Content::Table(table));
                }
            }
            TagEnd::CodeBlock => {
                let Some((info, text)) = self.code.take() else { return };
                let text = text.strip_suffix('\n').unwrap_or(&text).to_owned();
                if !text.trim().is_empty() {
                    let language = info.split_whitespace().next().map(str::to_owned);
                    self.push(Content::Code { language, text });
                } else if !info.trim().is_empty() {
                    // No platform shows the language of nothing, and it may be what was meant as the text.
                    self.push(Content::Code { language: None, text: info });
                }
            }
            TagEnd::Heading(level) => {
                let spans = std::mem::take(&mut self.spans);
                self.push_text(spans, |spans| Content::Heading(depth_of(level), spans));
            }
            block => {
                self.flush();
                if matches!(block, TagEnd::BlockQuote(_) | TagEnd::List(_) | TagEnd::Item) {
                    self.definitions(end);
                }
                self.end_container(block);
            }
        }
    }

    fn end_container(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::BlockQuote(_) => self.quotes = self.quotes.saturating_sub(1),
            TagEnd::List(_) => drop(self.lists.pop()),
            TagEnd::Item => self.marker = None,
            _ => {}
        }
    }

    fn style(&mut self, change: impl Fn(&mut Style)) {
        let mut style = self.styles.last().copied().unwrap_or_default();
        change(&mut style);
        self.styles.push(style);
    }

    fn span(&mut self, text: String, code: bool) {
        let style = Style { code, ..self.styles.last().copied().unwrap_or_default() };
        match self.spans.last_mut() {
            Some(last) if last.style == style && last.link.is_none() && self.links.is_empty() => {
                last.text.push_str(&text);
            }
            _ => self.spans.push(Span { text, style, link: None }),
        }
    }

    /// The label leads to the address, or the address is written behind it where the label alone would hide it.
    fn end_link(&mut self) {
        let Some(Link { first_span, url, title, mail }) = self.links.pop() else { return };
        let label = plain(self.spans.get(first_span..).unwrap_or_default());
        let style = self.styles.last().copied().unwrap_or_default();
        let target = link::target(&url).filter(|_| !mail);
        let mut behind = String::new();
        if label.trim().is_empty() {
            self.spans.push(Span { text: url, style, link: target });
        } else {
            if !mail && !url.is_empty() && (target.is_none() || link::hides(&label, &url)) {
                behind = format!(" ({url})");
            }
            let free = self.spans[first_span..].iter_mut().filter(|span| span.link.is_none());
            free.for_each(|span| span.link.clone_from(&target));
        }
        if !title.is_empty() {
            behind.push_str(&format!(" ({title})"));
        }
        if !behind.is_empty() {
            self.spans.push(Span { text: behind, style, link: None });
        }
    }

    /// GFM drops what stands behind the last column.
    fn cells_beyond(&mut self, end: usize) {
        let rest = self.source.get(self.seen..end).unwrap_or_default();
        let cells = rest.split('|').map(str::trim).filter(|cell| cell.chars().any(char::is_alphanumeric));
        if let Some(row) = self.table.as_mut().and_then(|table| table.rows.last_mut()) {
            row.extend(cells.map(|cell| vec![Span { text: cell.to_owned(), ..Span::default() }]));
        }
    }

    /// Definitions of links are no events; they become text.
    fn definitions(&mut self, until: usize) {
        let gap = self.source.get(self.seen..until).unwrap_or_default();
        if !gap.contains("]:") {
            return;
        }
        let bare =
            |line: &str| line.trim_start_matches(|c: char| " \t>-*+.)".contains(c) || c.is_ascii_digit()).to_owned();
        let lines: Vec<String> = gap.lines().map(bare).skip_while(|line| !line.starts_with('[')).collect();
        let text = lines.join("\n").trim().to_owned();
        if text.chars().any(char::is_alphanumeric) {
            self.flush();
            self.push(Content::Text(vec![Span { text, ..Span::default() }]));
        }
        self.seen = until;
    }

    fn flush(&mut self) {
        let spans = std::mem::take(&mut self.spans);
        self.push_text(spans, Content::Text);
    }

    fn push_text(&mut self, mut spans: Vec<Span>, content: impl Fn(Vec<Span>) -> Content) {
        if let Some(last) = spans.last_mut() {
            last.text.truncate(last.text.trim_end().len());
        }
        spans.retain(|span| !span.text.is_empty());
        if !plain(&spans).trim().is_empty() {
            self.push(content(spans));
        }
    }

    fn push(&mut self, content: Content) {
        let (depth, quote) = (self.lists.len(), self.quotes > 0);
        self.leaves.push(Leaf { depth, marker: self.marker.take(), quote, content });
    }
}

fn is_block(tag: &Tag<'_>) -> bool {
    !matches!(
        tag,
        Tag::Emphasis
            | Tag::Strong
            | Tag::Strikethrough
            | Tag::Link { .. }
            | Tag::Image { .. }
            | Tag::TableHead
            | Tag::TableRow
            | Tag::TableCell
    )
}

fn is_line_break(tag: &str) -> bool {
    matches!(tag.to_ascii_lowercase().as_str(), "<br>" | "<br/>" | "<br />")
}

fn depth_of(level: HeadingLevel) -> u8 {
    level as u8
}

fn align(alignment: Alignment) -> Align {
    match alignment {
        Alignment::Right => Align::Right,
        Alignment::Center => Align::Center,
        Alignment::Left | Alignment::None => Align::Left,
    }
}
