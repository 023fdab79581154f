//! Markdown as Block Kit: `rich_text` for text, which takes everything literally, `header`, `table` and `divider`.
//!
//! All text of a message is in its fallback too, so the limit of the fallback bounds the blocks.

use serde_json::{Value, json};

use super::{
    leaf::{Align, Content, Leaf, Marker, Span, Table, plain},
    neutral,
    pack::{Room, pack},
    parse::parse,
    table,
};
use crate::{Body, chunking::cut::units};

/// UTF-16 units of the fallback text of one message.
pub const LIMIT: usize = 4000;
/// Of a `header`.
const LONGEST_HEADER: usize = 150;
const MOST_ROWS: usize = 100;
const MOST_COLUMNS: usize = 20;
/// Blocks that end a `rich_text`; with one of those between each two there are at most 49 blocks.
const MOST_BREAKS: usize = 24;
const DEEPEST: usize = 8;
const RULE: &str = "──────────";

/// Messages with `{"blocks": […]}` and the same as text, which takes at most [`LIMIT`] units once it is escaped.
#[must_use]
pub fn compose(markdown: &str) -> Vec<Body> {
    let leaves = parse(markdown).into_iter().flat_map(tables_within_limits).collect();
    let room = Room { limit: LIMIT, cost: &|leaf| escaped_units(&fallback(leaf)) + 2, joins: &joins };
    let messages = pack(leaves, &room).iter().map(|leaves| message(leaves)).collect();
    super::or_plain(messages, markdown, LIMIT / 5, neutral::at_signs)
}

/// Tables of at most 100 rows each; one with too many columns, or a row that no message holds, as aligned text.
fn tables_within_limits(leaf: Leaf) -> Vec<Leaf> {
    let Content::Table(table) = &leaf.content else { return vec![leaf] };
    let longest = table.rows.iter().map(|row| units(&row_text(row))).max().unwrap_or(0);
    if table.width() > MOST_COLUMNS || longest > LIMIT / 3 {
        return vec![table::as_code(leaf)];
    }
    let mut parts = Vec::new();
    let mut rest = table.clone();
    while let Some((first, others)) = rest.split_at(MOST_ROWS - 1) {
        parts.push(leaf.with(Content::Table(first)));
        rest = others;
    }
    parts.push(leaf.with(Content::Table(rest)));
    parts
}

/// One table a message, and nothing below it.
fn joins(before: &[Leaf], leaf: &Leaf) -> bool {
    let breaks = before.iter().filter(|leaf| breaks_text(leaf)).count();
    let after_table = before.last().is_some_and(|last| matches!(last.content, Content::Table(_)));
    !after_table && (breaks < MOST_BREAKS || !breaks_text(leaf))
}

fn breaks_text(leaf: &Leaf) -> bool {
    match &leaf.content {
        Content::Table(_) | Content::Rule => true,
        Content::Heading(..) => is_header(leaf),
        Content::Text(_) | Content::Code { .. } => false,
    }
}

/// Headers show plain text only.
fn is_header(leaf: &Leaf) -> bool {
    match &leaf.content {
        Content::Heading(level, spans) => {
            let short = (1..=LONGEST_HEADER).contains(&units(plain(spans).trim()));
            *level <= 2 && leaf.depth == 0 && !leaf.quote && short && spans.iter().all(|span| span.link.is_none())
        }
        _ => false,
    }
}

fn message(leaves: &[Leaf]) -> Body {
    let mut blocks = Blocks::default();
    for leaf in leaves {
        blocks.leaf(leaf);
    }
    let text = leaves.iter().map(fallback).collect::<Vec<_>>().join("\n");
    Body { text: text.trim_end().to_owned(), format: Some(json!({ "blocks": blocks.finish() })) }
}

/// Whoever sends it writes `&amp;`, `&lt;` and `&gt;`.
fn escaped_units(text: &str) -> usize {
    units(text) + 4 * text.matches('&').count() + 3 * text.matches(['<', '>']).count()
}

fn fallback(leaf: &Leaf) -> String {
    let indent = "  ".repeat(leaf.depth.saturating_sub(1).min(DEEPEST));
    let marker = match leaf.marker {
        Some(Marker::Bullet) => format!("{indent}• "),
        Some(Marker::Number(number)) => format!("{indent}{number}. "),
        Some(Marker::Task(done)) => format!("{indent}{} ", task_sign(done)),
        None => String::new(),
    };
    let text = match &leaf.content {
        Content::Heading(_, spans) | Content::Text(spans) => neutral::at_signs(&plain(spans)),
        Content::Code { text, .. } => neutral::at_signs(text),
        Content::Table(table) => {
            neutral::at_signs(&table.rows.iter().map(|row| row_text(row)).collect::<Vec<_>>().join("\n"))
        }
        Content::Rule => RULE.to_owned(),
    };
    format!("{marker}{text}")
}

fn row_text(row: &[Vec<Span>]) -> String {
    row.iter().map(|cell| plain(cell)).collect::<Vec<_>>().join(" | ")
}

fn task_sign(done: bool) -> &'static str {
    if done { "☑" } else { "☐" }
}

/// Blocks in the making: consecutive text shares a `rich_text`.
#[derive(Default)]
struct Blocks {
    done: Vec<Value>,
    text: Vec<Element>,
}

/// One element of a `rich_text`.
enum Element {
    Section(Vec<Value>),
    Quote(Vec<Value>),
    Code(String),
    List { depth: usize, first: Option<u64>, items: Vec<Vec<Value>> },
}

impl Blocks {
    fn leaf(&mut self, leaf: &Leaf) {
        match &leaf.content {
            Content::Heading(_, spans) if is_header(leaf) => {
                let text = plain(spans).trim().replace('\n', " ");
                self.block(json!({"text": {"emoji": false, "text": text, "type": "plain_text"}, "type": "header"}));
            }
            Content::Heading(_, spans) => self.inline(leaf, &rich(spans, true)),
            Content::Text(spans) => self.inline(leaf, &rich(spans, false)),
            Content::Code { text, .. } => self.text.push(Element::Code(text.clone())),
            Content::Rule => self.block(json!({"type": "divider"})),
            Content::Table(table) => self.block(table_block(table)),
        }
    }

    fn inline(&mut self, leaf: &Leaf, spans: &[Value]) {
        let depth = leaf.depth.saturating_sub(1).min(DEEPEST);
        match leaf.marker {
            Some(Marker::Number(number)) => self.item(depth, Some(number), spans.to_vec()),
            Some(Marker::Bullet) => self.item(depth, None, spans.to_vec()),
            Some(Marker::Task(done)) => {
                let sign = json!({"text": format!("{} ", task_sign(done)), "type": "text"});
                self.item(depth, None, std::iter::once(sign).chain(spans.iter().cloned()).collect());
            }
            None if leaf.quote => match self.text.last_mut() {
                Some(Element::Quote(elements)) => go_on(elements, "\n\n", spans),
                _ => self.text.push(Element::Quote(spans.to_vec())),
            },
            None => match self.text.last_mut() {
                // The second paragraph of an item.
                Some(Element::List { depth: same, items, .. }) if leaf.depth > 0 && *same == depth => {
                    if let Some(item) = items.last_mut() {
                        go_on(item, "\n", spans);
                    }
                }
                Some(Element::Section(elements)) => go_on(elements, "\n\n", spans),
                _ => self.text.push(Element::Section(spans.to_vec())),
            },
        }
    }

    fn item(&mut self, depth: usize, number: Option<u64>, spans: Vec<Value>) {
        match self.text.last_mut() {
            Some(Element::List { depth: same, first, items })
                if *same == depth && *first == number.map(|number| number.saturating_sub(items.len() as u64)) =>
            {
                items.push(spans);
            }
            _ => self.text.push(Element::List { depth, first: number, items: vec![spans] }),
        }
    }

    fn block(&mut self, block: Value) {
        self.end_text();
        self.done.push(block);
    }

    fn end_text(&mut self) {
        let elements: Vec<Value> = std::mem::take(&mut self.text).into_iter().map(Element::json).collect();
        if !elements.is_empty() {
            self.done.push(json!({"elements": elements, "type": "rich_text"}));
        }
    }

    fn finish(mut self) -> Vec<Value> {
        self.end_text();
        self.done
    }
}

impl Element {
    fn json(self) -> Value {
        match self {
            Self::Section(elements) => json!({"elements": elements, "type": "rich_text_section"}),
            Self::Quote(elements) => json!({"elements": elements, "type": "rich_text_quote"}),
            Self::Code(text) => {
                json!({"elements": [{"text": text, "type": "text"}], "type": "rich_text_preformatted"})
            }
            Self::List { depth, first, items } => {
                let items: Vec<Value> =
                    items.into_iter().map(|item| json!({"elements": item, "type": "rich_text_section"})).collect();
                let style = if first.is_some() { "ordered" } else { "bullet" };
                let mut list = json!({"elements": items, "indent": depth, "style": style, "type": "rich_text_list"});
                if let Some(offset) = first.and_then(|first| first.checked_sub(1)).filter(|offset| *offset > 0) {
                    list["offset"] = offset.into();
                }
                list
            }
        }
    }
}

fn go_on(elements: &mut Vec<Value>, separator: &str, more: &[Value]) {
    elements.push(json!({"text": separator, "type": "text"}));
    elements.extend_from_slice(more);
}

fn rich(spans: &[Span], bold: bool) -> Vec<Value> {
    spans.iter().map(|span| rich_span(span, bold)).collect()
}

fn rich_span(span: &Span, bold: bool) -> Value {
    let mut element = match &span.link {
        Some(url) => json!({"text": span.text, "type": "link", "url": url}),
        None => json!({"text": span.text, "type": "text"}),
    };
    let style = span.style;
    let flags =
        [(bold || style.bold, "bold"), (style.code, "code"), (style.italic, "italic"), (style.strike, "strike")];
    let on: serde_json::Map<String, Value> =
        flags.iter().filter(|(on, _)| *on).map(|(_, name)| ((*name).to_owned(), true.into())).collect();
    if !on.is_empty() {
        element["style"] = Value::Object(on);
    }
    element
}

fn table_block(table: &Table) -> Value {
    let width = table.width();
    let rows: Vec<Value> = table
        .rows
        .iter()
        .map(|row| (0..width).map(|column| cell(row.get(column).map_or(&[][..], Vec::as_slice))).collect())
        .collect();
    let columns: Vec<Value> = (0..width)
        .map(|column| {
            let align = match table.columns.get(column).unwrap_or(&Align::Left) {
                Align::Left => "left",
                Align::Center => "center",
                Align::Right => "right",
            };
            json!({"align": align, "is_wrapped": true})
        })
        .collect();
    json!({"column_settings": columns, "rows": rows, "type": "table"})
}

/// An empty text is refused.
fn cell(spans: &[Span]) -> Value {
    let text = plain(spans);
    if text.trim().is_empty() {
        return json!({"text": " ", "type": "raw_text"});
    }
    let simple = spans.iter().all(|span| span.style == super::leaf::Style::default() && span.link.is_none());
    if simple {
        return json!({"text": text, "type": "raw_text"});
    }
    json!({"elements": [{"elements": rich(spans, false), "type": "rich_text_section"}], "type": "rich_text"})
}
