//! What the platform takes: texts, entities, keyboards, reactions.

use serde_json::Value;

use super::record::KeyboardButton;

/// UTF-16 units of a text.
const LONGEST_TEXT: usize = 4096;
/// The same of a caption.
const LONGEST_CAPTION: usize = 1024;
/// Bytes of what a button sends back.
const LONGEST_DATA: usize = 64;

/// The reactions that bots may use.
const REACTIONS: &str = "👍 👎 ❤ 🔥 🥰 👏 😁 🤔 🤯 😱 🤬 😢 🎉 🤩 🤮 💩 🙏 👌 🕊 🤡 🥱 🥴 😍 🐳 ❤‍🔥 🌚 🌭 💯 🤣 ⚡ 🍌 🏆 💔 🤨 😐 🍓 🍾 💋 🖕 😈 😴 \
                         😭 🤓 👻 👨‍💻 👀 🎃 🙈 😇 😨 🤝 ✍ 🤗 🫡 🎅 🎄 ☃ 💅 🤪 🗿 🆒 💘 🙉 🦄 😘 💊 🙊 😎 👾 🤷‍♂ 🤷 🤷‍♀ 😡";
/// What a bot may be shown to do.
pub(super) const ACTIONS: [&str; 11] = [
    "typing",
    "upload_photo",
    "record_video",
    "upload_video",
    "record_voice",
    "upload_voice",
    "upload_document",
    "choose_sticker",
    "find_location",
    "record_video_note",
    "upload_video_note",
];

/// A text as it is kept: without white space around it, entities moved with it.
pub(super) fn text(text: &str, entities: &Value) -> Result<(String, Value), String> {
    check_entities(text, entities)?;
    let kept = text.trim();
    if kept.is_empty() {
        return Err("message text is empty".to_owned());
    }
    if units(kept) > LONGEST_TEXT {
        return Err("message is too long".to_owned());
    }
    Ok((kept.to_owned(), moved(entities, units(&text[..text.len() - text.trim_start().len()]))))
}

pub(super) fn caption(caption: &str, entities: &Value) -> Result<(), String> {
    check_entities(caption, entities)?;
    if units(caption) > LONGEST_CAPTION { Err("message caption is too long".to_owned()) } else { Ok(()) }
}

/// Within the text, on whole characters, and one within the other or apart.
fn check_entities(text: &str, entities: &Value) -> Result<(), String> {
    let Some(entities) = entities.as_array() else { return Ok(()) };
    let ends: Vec<usize> = text
        .chars()
        .scan(0, |end, character| {
            *end += character.len_utf16();
            Some(*end)
        })
        .collect();
    let on_edge = |at: usize| at == 0 || ends.binary_search(&at).is_ok();
    let mut ranges = Vec::new();
    for entity in entities {
        let place = |key: &str| entity[key].as_u64().and_then(|at| usize::try_from(at).ok());
        let (Some(start), Some(length), Some(_)) = (place("offset"), place("length"), entity["type"].as_str()) else {
            return Err("can't parse MessageEntity: Field \"offset\", \"length\" or \"type\" is wrong".to_owned());
        };
        if length == 0 {
            return Err(format!("entity at UTF-16 offset {start} has no length"));
        }
        let end = start + length;
        if end > ends.last().copied().unwrap_or(0) {
            return Err(format!(
                "entity beginning at UTF-16 offset {start} ends after the end of the text at UTF-16 offset {end}"
            ));
        }
        if !on_edge(start) || !on_edge(end) {
            return Err(format!("entity beginning at UTF-16 offset {start} is in the middle of a UTF-16 symbol"));
        }
        ranges.push(start..end);
    }
    let crosses =
        |a: &std::ops::Range<usize>, b: &std::ops::Range<usize>| a.start < b.start && b.start < a.end && a.end < b.end;
    match ranges.iter().any(|a| ranges.iter().any(|b| crosses(a, b))) {
        true => Err("entities overlap in part".to_owned()),
        false => Ok(()),
    }
}

fn moved(entities: &Value, by: usize) -> Value {
    let mut entities = entities.clone();
    for entity in entities.as_array_mut().into_iter().flatten() {
        let offset = entity["offset"].as_u64().unwrap_or(0);
        entity["offset"] = offset.saturating_sub(by as u64).into();
    }
    entities
}

/// The buttons of an inline keyboard; the only keyboard there is here.
pub(super) fn keyboard(markup: &Value) -> Result<Vec<KeyboardButton>, String> {
    if markup.is_null() {
        return Ok(Vec::new());
    }
    let rows = markup["inline_keyboard"].as_array().ok_or("object expected as reply markup")?;
    let mut buttons = Vec::new();
    for button in rows.iter().flat_map(|row| row.as_array().into_iter().flatten()) {
        let label = button["text"].as_str().filter(|label| !label.trim().is_empty());
        let label = label.ok_or("can't parse inline keyboard button: Field \"text\" must be a non-empty String")?;
        let data = button["callback_data"].as_str().filter(|data| (1..=LONGEST_DATA).contains(&data.len()));
        let data = data.ok_or("BUTTON_DATA_INVALID")?;
        buttons.push(KeyboardButton { label: label.to_owned(), data: data.to_owned() });
    }
    Ok(buttons)
}

/// The emoji; empty for none.
pub(super) fn reaction(reactions: &Value) -> Result<String, String> {
    match reactions.as_array().map(Vec::as_slice) {
        Some([]) | None => Ok(String::new()),
        Some([one]) => {
            let emoji = one["emoji"].as_str().filter(|_| one["type"] == "emoji");
            let known = emoji.filter(|emoji| REACTIONS.split(' ').any(|known| known == *emoji));
            known.map(str::to_owned).ok_or_else(|| "REACTION_INVALID".to_owned())
        }
        Some(_) => Err("REACTIONS_TOO_MANY".to_owned()),
    }
}

pub(super) fn units(text: &str) -> usize {
    text.encode_utf16().count()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn entities_lie_on_whole_characters_within_the_text() {
        let entity = |offset: usize, length: usize| json!([{"type": "bold", "offset": offset, "length": length}]);
        assert!(text("a😀b", &entity(1, 2)).is_ok());
        assert!(text("a😀b", &entity(1, 1)).unwrap_err().contains("in the middle"));
        assert!(text("a😀b", &entity(3, 2)).unwrap_err().contains("after the end"));
        assert!(text("a😀b", &entity(0, 0)).is_err());
        let two = |end: usize| json!([{"type": "bold", "offset": 0, "length": 3}, {"type": "code", "offset": 1, "length": end - 1}]);
        assert!(text("abcdef", &two(3)).is_ok(), "one within the other");
        assert!(text("abcdef", &two(5)).unwrap_err().contains("overlap"));
    }

    #[test]
    fn texts_are_trimmed_and_bounded() {
        let bold = json!([{"type": "bold", "offset": 1, "length": 2}]);
        let (kept, entities) = text("\nhi ", &bold).unwrap();
        assert_eq!((kept.as_str(), &entities[0]["offset"]), ("hi", &json!(0)));
        assert!(text(&"😀".repeat(2048), &Value::Null).is_ok());
        assert!(text(&"😀".repeat(2049), &Value::Null).is_err());
        assert!(text(" \n", &Value::Null).is_err());
    }

    #[test]
    fn buttons_and_reactions_are_those_of_the_platform() {
        let markup = |data: &str| json!({"inline_keyboard": [[{"text": "Allow", "callback_data": data}]]});
        assert_eq!(keyboard(&markup(&"x".repeat(64))).unwrap().len(), 1);
        assert_eq!(keyboard(&markup(&"x".repeat(65))).unwrap_err(), "BUTTON_DATA_INVALID");
        assert_eq!(reaction(&json!([{"type": "emoji", "emoji": "👀"}])).unwrap(), "👀");
        assert_eq!(reaction(&json!([{"type": "emoji", "emoji": "✅"}])).unwrap_err(), "REACTION_INVALID");
    }
}
