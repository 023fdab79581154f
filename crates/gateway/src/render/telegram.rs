//! Markdown as text with entities, so that nothing in it has to be escaped.
//!
//! Positions count UTF-16 units. An entity ends at a cut and begins again behind it; none overlaps another in part.

use serde_json::{Value, json};

use super::{
    leaf::{Content, Leaf, Marker, Span},
    neutral,
    pack::{Room, pack},
    parse::parse,
    table,
};
use crate::{
    Body,
    chunking::cut::{is_blank, units},
};

/// UTF-16 units of one message.
pub const LIMIT: usize = 4096;
/// The platform ignores those beyond.
const MOST_ENTITIES: usize = 100;
const RULE: &str = "──────────";

/// Messages of at most [`LIMIT`] units: text and `{"entities": […]}`.
#[must_use]
pub fn compose(markdown: &str) -> Vec<Body> {
    let leaves = parse(markdown).into_iter().map(|leaf| table::as_code(leaf).map_spans(&quiet)).collect();
    let room = Room { limit: LIMIT, cost: &cost, joins: &|_, _| true };
    let messages: Vec<Body> = pack(leaves, &room).iter().map(|leaves| message(leaves)).collect();
    super::or_plain(messages, markdown, LIMIT, neutral::at_signs)
}

fn quiet(span: &mut Span) {
    if !span.style.code {
        span.text = neutral::at_signs(&span.text);
    }
}

fn cost(leaf: &Leaf) -> usize {
    let own = if leaf.content == Content::Rule { units(RULE) } else { leaf.text_units() };
    units(&prefix(leaf)) + own + 2
}

/// Indentation and marker.
fn prefix(leaf: &Leaf) -> String {
    if matches!(leaf.content, Content::Code { .. }) {
        return String::new();
    }
    let indent = "  ".repeat(leaf.depth.saturating_sub(1).min(8));
    match leaf.marker {
        Some(Marker::Bullet) => format!("{indent}• "),
        Some(Marker::Number(number)) => format!("{indent}{number}. "),
        Some(Marker::Task(done)) => format!("{indent}{} ", if done { "☑" } else { "☐" }),
        None if leaf.depth > 0 => format!("{indent}  "),
        None => String::new(),
    }
}

fn message(leaves: &[Leaf]) -> Body {
    let mut text = Text::default();
    let mut quote_start = None;
    for (number, leaf) in leaves.iter().enumerate() {
        let before = number.checked_sub(1).and_then(|before| leaves.get(before));
        if let Some(before) = before {
            let item = leaf.depth > 0 && before.depth > 0 && leaf.quote == before.quote;
            let code = |leaf: &Leaf| matches!(leaf.content, Content::Code { .. });
            let close = item && !code(leaf) && !code(before);
            if quote_start.is_some() && !leaf.quote {
                text.entity(quote_start.take(), &json!({"type": "blockquote"}));
            }
            text.push(if close { "\n" } else { "\n\n" });
        }
        if leaf.quote && quote_start.is_none() {
            quote_start = Some(text.length);
        }
        text.leaf(leaf, before.is_none());
    }
    text.entity(quote_start, &json!({"type": "blockquote"}));
    text.finish()
}

#[derive(Default)]
struct Text {
    text: String,
    length: usize,
    entities: Vec<Entity>,
}

struct Entity {
    offset: usize,
    length: usize,
    form: Value,
}

impl Text {
    fn push(&mut self, text: &str) {
        self.text.push_str(text);
        self.length += units(text);
    }

    /// From `start` to here.
    fn entity(&mut self, start: Option<usize>, form: &Value) {
        if let Some(offset) = start.filter(|start| *start < self.length) {
            self.entities.push(Entity { offset, length: self.length - offset, form: form.clone() });
        }
    }

    fn leaf(&mut self, leaf: &Leaf, first: bool) {
        // The platform drops white space at the start, and positions would be wrong.
        let prefix = prefix(leaf);
        self.push(if first { prefix.trim_start() } else { &prefix });
        match &leaf.content {
            Content::Heading(_, spans) => spans.iter().for_each(|span| self.span(span, true)),
            Content::Text(spans) => spans.iter().for_each(|span| self.span(span, false)),
            Content::Code { language, text } => {
                let start = self.length;
                self.push(text);
                let form = match language {
                    Some(language) => json!({"language": language, "type": "pre"}),
                    None => json!({"type": "pre"}),
                };
                self.entity(Some(start), &form);
            }
            Content::Rule => self.push(RULE),
            // Code by now.
            Content::Table(table) => self.push(&table::aligned(table)),
        }
    }

    fn span(&mut self, span: &Span, bold: bool) {
        let start = Some(self.length);
        self.push(&span.text);
        if let Some(url) = &span.link {
            self.entity(start, &json!({"type": "text_link", "url": url}));
        } else if span.style.code {
            // Nothing may be in it or around it but a quote.
            self.entity(start, &json!({"type": "code"}));
            return;
        }
        let style = span.style;
        for (on, name) in [(bold || style.bold, "bold"), (style.italic, "italic"), (style.strike, "strikethrough")] {
            if on {
                self.entity(start, &json!({"type": name}));
            }
        }
    }

    fn finish(mut self) -> Body {
        self.text.truncate(self.text.trim_end().len());
        let end = units(&self.text);
        for entity in &mut self.entities {
            entity.length = entity.length.min(end.saturating_sub(entity.offset));
        }
        self.entities.retain(|entity| entity.length > 0);
        // Those that matter most, if there are too many.
        self.entities.sort_by_key(|entity| match entity.form["type"].as_str() {
            Some("pre" | "text_link" | "blockquote") => 0,
            Some("code") => 1,
            _ => 2,
        });
        self.entities.truncate(MOST_ENTITIES);
        self.entities.sort_by_key(|entity| (entity.offset, usize::MAX - entity.length));
        let entities: Vec<Value> = self.entities.into_iter().map(Entity::json).collect();
        let format = (!entities.is_empty()).then(|| json!({ "entities": entities }));
        let text = if is_blank(&self.text) { String::new() } else { self.text };
        Body { text, format }
    }
}

impl Entity {
    fn json(self) -> Value {
        let mut json = self.form;
        json["offset"] = self.offset.into();
        json["length"] = self.length.into();
        json
    }
}
