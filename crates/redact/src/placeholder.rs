//! What stands in place of a secret that a session has met: `[REDACTED_SECRET:<rule-id>:<id>]`.

use std::{borrow::Cow, ops::Range};

const OPENING: &str = "[REDACTED_SECRET:";
const LONGEST_RULE_ID: usize = 64;
/// Characters of an id.
pub(crate) const ID_LENGTH: usize = 6;

/// A placeholder in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placeholder<'t> {
    /// The whole of it.
    pub text: &'t str,
    /// The rule that found the secret.
    pub rule: &'t str,
    /// Where it stands.
    pub range: Range<usize>,
}

/// `rule` with the id of a secret.
pub(crate) fn render(rule: &str, id: &str) -> String {
    format!("{OPENING}{rule}:{id}]")
}

/// Whether it fits between the colons.
pub(crate) fn is_rule_id(id: &str) -> bool {
    let is_fit = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=LONGEST_RULE_ID).contains(&id.len()) && id.bytes().all(is_fit)
}

/// The placeholders of a text, in order.
pub fn placeholders(text: &str) -> impl Iterator<Item = Placeholder<'_>> {
    text.match_indices(OPENING).filter_map(|(start, _)| {
        let rest = &text[start + OPENING.len()..];
        let colon = rest.bytes().take(LONGEST_RULE_ID + 1).position(|byte| byte == b':')?;
        let (rule, id) = (&rest[..colon], rest.get(colon + 1..=colon + ID_LENGTH)?);
        let is_id = id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        let is_closed = rest.as_bytes().get(colon + 1 + ID_LENGTH) == Some(&b']');
        let range = start..start + OPENING.len() + colon + ID_LENGTH + 2;
        (is_rule_id(rule) && is_id && is_closed).then(|| Placeholder { text: &text[range.clone()], rule, range })
    })
}

/// `text` with what `with` says in place of its placeholders; where it says nothing they stay. What is put in is not read again.
///
/// # Errors
/// The first of `with`.
pub fn replace_placeholders<'t, V: AsRef<str>, E>(
    text: &'t str,
    mut with: impl FnMut(&Placeholder<'t>) -> Result<Option<V>, E>,
) -> Result<Cow<'t, str>, E> {
    let (mut replaced, mut at) = (String::new(), 0);
    for placeholder in placeholders(text) {
        let Some(value) = with(&placeholder)? else { continue };
        replaced.push_str(&text[at..placeholder.range.start]);
        replaced.push_str(value.as_ref());
        at = placeholder.range.end;
    }
    if at == 0 {
        return Ok(text.into());
    }
    replaced.push_str(&text[at..]);
    Ok(replaced.into())
}

/// Where a placeholder begins of which `text` ends within.
pub(crate) fn begun(text: &str) -> Option<usize> {
    const LONGEST: usize = OPENING.len() + LONGEST_RULE_ID + 1 + ID_LENGTH;
    let begin = text.rfind('[')?;
    let end = &text[begin..];
    let is_open = end.starts_with(OPENING) && end.len() <= LONGEST && !end.contains(']');
    (is_open || OPENING.starts_with(end)).then_some(begin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_placeholders_are_some() {
        let text =
            "a [REDACTED_SECRET:jwt:abc123] [REDACTED_SECRET:x:ABC123] [REDACTED_SECRET:[REDACTED_SECRET:a-b:000000]é";
        let found: Vec<_> = placeholders(text).map(|placeholder| (placeholder.text, placeholder.rule)).collect();
        assert_eq!(found, [("[REDACTED_SECRET:jwt:abc123]", "jwt"), ("[REDACTED_SECRET:a-b:000000]", "a-b")]);
        assert_eq!(placeholders("[REDACTED_SECRET:jwt:abc12").count(), 0);
        assert_eq!(placeholders("[REDACTED_SECRET:jwt:abc12é]").count(), 0);
    }
}
