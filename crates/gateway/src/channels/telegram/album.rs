//! Albums: several pictures or files that people send as one message, and that come as an update each.
//!
//! The text is the caption of one of them, and so is the mention of the bot: they are one message before anything is decided
//! about them.

use serde_json::{Value, json};

/// Updates of one answer at most.
const MOST_UPDATES: usize = 100;

/// Whether the last update may be followed by others of its album.
pub(super) fn may_grow(updates: &[Value]) -> bool {
    updates.len() < MOST_UPDATES && updates.last().is_some_and(|update| album(update).is_some())
}

/// The same with each album in its first message, the others under `album`.
pub(super) fn gathered(updates: Vec<(i64, Value)>) -> Vec<(i64, Value)> {
    let mut whole: Vec<(i64, Value)> = Vec::new();
    for (id, mut update) in updates {
        let of = album(&update);
        match whole.iter_mut().find(|(_, first)| of.is_some() && album(first) == of) {
            Some((_, first)) => join(&mut first["message"], update["message"].take()),
            None => whole.push((id, update)),
        }
    }
    whole
}

/// What is the same for all messages of an album: chat, sender, and the platform's name for it.
fn album(update: &Value) -> Option<(i64, Option<i64>, String)> {
    let message = update.get("message")?;
    let name = message.get("media_group_id")?.as_str()?.to_owned();
    Some((message["chat"]["id"].as_i64()?, message["from"]["id"].as_i64(), name))
}

fn join(first: &mut Value, mut other: Value) {
    if first.get("caption").is_none() {
        for key in ["caption", "caption_entities"] {
            if let Some(value) = other.get_mut(key).map(Value::take) {
                first[key] = value;
            }
        }
    }
    match first.get_mut("album").and_then(Value::as_array_mut) {
        Some(others) => others.push(other),
        None => first["album"] = json!([other]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(chat: i64, album: Option<&str>, caption: Option<&str>) -> Value {
        let mut message = json!({"chat": {"id": chat}, "from": {"id": 7}, "photo": []});
        if let Some(album) = album {
            message["media_group_id"] = album.into();
        }
        if let Some(caption) = caption {
            message["caption"] = caption.into();
        }
        json!({ "message": message })
    }

    #[test]
    fn an_album_is_one_message_and_others_stay_what_they_are() {
        let updates = vec![
            (1, picture(5, Some("a"), None)),
            (2, picture(6, Some("a"), None)),
            (3, picture(5, None, None)),
            (4, picture(5, Some("a"), Some("these"))),
            (5, picture(5, Some("b"), None)),
            (6, picture(5, Some("a"), Some("not this"))),
        ];
        let whole = gathered(updates);
        assert_eq!(whole.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1, 2, 3, 5]);
        let album = &whole[0].1["message"];
        assert_eq!((album["album"].as_array().map(Vec::len), &album["caption"]), (Some(2), &json!("these")));
    }

    #[test]
    fn only_an_album_at_the_end_may_grow() {
        let (album, alone) = (picture(5, Some("a"), None), picture(5, None, None));
        assert!(may_grow(&[alone.clone(), album.clone()]));
        assert!(!may_grow(&[album.clone(), alone]));
        assert!(!may_grow(&vec![album; MOST_UPDATES]), "no more of it fits");
        assert!(!may_grow(&[]));
    }
}
