//! The rules of Block Kit that a message has to keep.
//!
//! Source: the reference of blocks and block elements at Slack's developer documentation.

use std::collections::BTreeSet;

use serde_json::Value;

/// Blocks of one message.
const MAX_BLOCKS: usize = 50;

/// Why a message is refused: the error and what it says of the place.
pub(super) type Fault = (&'static str, String);

/// All rules at once; the first that is broken.
pub(super) fn validate(blocks: &Value) -> Result<(), Fault> {
    let Some(blocks) = blocks.as_array() else {
        return if blocks.is_null() { Ok(()) } else { Err(("invalid_blocks_format", "blocks is no array".to_owned())) };
    };
    if blocks.len() > MAX_BLOCKS {
        return Err(invalid("no more than 50 items allowed", "/blocks"));
    }
    if blocks.iter().filter(|block| block["type"] == "table").count() > 1 {
        return Err(("invalid_attachments", "only_one_table_allowed".to_owned()));
    }
    let mut names = Names::default();
    for (index, block) in blocks.iter().enumerate() {
        validate_block(block, &format!("/blocks/{index}"), &mut names)?;
    }
    Ok(())
}

/// Ids that must not repeat within a message.
#[derive(Default)]
struct Names {
    blocks: BTreeSet<String>,
    actions: BTreeSet<String>,
}

fn validate_block(block: &Value, at: &str, names: &mut Names) -> Result<(), Fault> {
    if let Some(id) = block["block_id"].as_str()
        && (id.len() > 255 || !names.blocks.insert(id.to_owned()))
    {
        return Err(invalid("block_id must be unique and at most 255 characters", at));
    }
    match block["type"].as_str().unwrap_or_default() {
        "divider" => Ok(()),
        "header" => text_object(&block["text"], &["plain_text"], 150, &format!("{at}/text")),
        "section" => section(block, at),
        "context" => {
            let elements = list(&block["elements"], 1..=10, &format!("{at}/elements"))?;
            elements.iter().filter(|element| element["type"] != "image").try_for_each(|element| {
                text_object(element, &["plain_text", "mrkdwn"], 3000, &format!("{at}/elements"))
            })
        }
        "actions" => {
            let elements = list(&block["elements"], 1..=25, &format!("{at}/elements"))?;
            elements.iter().try_for_each(|element| button(element, &format!("{at}/elements"), names))
        }
        "rich_text" => rich_text(block, at),
        "table" => table(block, at),
        "markdown" => text_length(&block["text"], 12_000, at),
        "image" if block["alt_text"].is_string() => Ok(()),
        other => Err(invalid(&format!("unsupported type: {other}"), at)),
    }
}

fn section(block: &Value, at: &str) -> Result<(), Fault> {
    let fields = &block["fields"];
    if !fields.is_null() {
        for field in list(fields, 1..=10, &format!("{at}/fields"))? {
            text_object(field, &["plain_text", "mrkdwn"], 2000, &format!("{at}/fields"))?;
        }
    } else if block["text"].is_null() {
        return Err(invalid("missing required field: text", at));
    }
    if block["text"].is_null() {
        return Ok(());
    }
    text_object(&block["text"], &["plain_text", "mrkdwn"], 3000, &format!("{at}/text"))
}

fn button(element: &Value, at: &str, names: &mut Names) -> Result<(), Fault> {
    if element["type"] != "button" {
        return Err(invalid("unsupported element", at));
    }
    text_object(&element["text"], &["plain_text"], 75, &format!("{at}/text"))?;
    if !matches!(element["style"].as_str(), None | Some("primary" | "danger")) {
        return Err(invalid("style must be primary or danger", at));
    }
    if element["value"].as_str().is_some_and(|value| value.chars().count() > 2000) {
        return Err(invalid("value must be at most 2000 characters", at));
    }
    match element["action_id"].as_str() {
        Some(id) if id.len() > 255 || !names.actions.insert(id.to_owned()) => {
            Err(invalid("action_id must be unique and at most 255 characters", at))
        }
        _ => Ok(()),
    }
}

fn rich_text(block: &Value, at: &str) -> Result<(), Fault> {
    for element in list(&block["elements"], 1..=usize::MAX, &format!("{at}/elements"))? {
        let known = ["rich_text_section", "rich_text_list", "rich_text_preformatted", "rich_text_quote"];
        let kind = element["type"].as_str().unwrap_or_default();
        if !known.contains(&kind) || !element["elements"].is_array() {
            return Err(invalid(&format!("unsupported rich text element: {kind}"), at));
        }
        if kind == "rich_text_list" && !matches!(element["style"].as_str(), Some("bullet" | "ordered")) {
            return Err(invalid("style must be bullet or ordered", at));
        }
        for leaf in element["elements"].as_array().into_iter().flatten() {
            if leaf["type"] == "text" && leaf["text"].as_str().is_none_or(str::is_empty) {
                return Err(invalid("text must be more than 0 characters", at));
            }
        }
    }
    Ok(())
}

fn table(block: &Value, at: &str) -> Result<(), Fault> {
    for row in list(&block["rows"], 1..=100, &format!("{at}/rows"))? {
        for cell in list(row, 1..=20, &format!("{at}/rows"))? {
            match cell["type"].as_str() {
                Some("raw_text") => text_length(&cell["text"], usize::MAX, at)?,
                Some("rich_text") => rich_text(cell, at)?,
                _ => return Err(invalid("a cell is raw_text or rich_text", at)),
            }
        }
    }
    Ok(())
}

fn list<'a>(value: &'a Value, length: std::ops::RangeInclusive<usize>, at: &str) -> Result<&'a Vec<Value>, Fault> {
    match value.as_array() {
        Some(items) if length.contains(&items.len()) => Ok(items),
        Some(items) if items.is_empty() => Err(invalid("must have at least 1 item", at)),
        Some(_) => Err(invalid(&format!("no more than {} items allowed", length.end()), at)),
        None => Err(invalid("missing required list", at)),
    }
}

fn text_object(text: &Value, kinds: &[&str], limit: usize, at: &str) -> Result<(), Fault> {
    if !text["type"].as_str().is_some_and(|kind| kinds.contains(&kind)) {
        return Err(invalid(&format!("must be one of {kinds:?}"), at));
    }
    text_length(&text["text"], limit, at)
}

fn text_length(text: &Value, limit: usize, at: &str) -> Result<(), Fault> {
    match text.as_str().map(|text| text.chars().count()) {
        Some(0) => Err(invalid("must be more than 0 characters", at)),
        Some(length) if length <= limit => Ok(()),
        Some(_) => Err(invalid(&format!("must be less than {} characters", limit + 1), at)),
        None => Err(invalid("missing required field: text", at)),
    }
}

fn invalid(what: &str, at: &str) -> Fault {
    ("invalid_blocks", format!("{what} [json-pointer:{at}]"))
}
