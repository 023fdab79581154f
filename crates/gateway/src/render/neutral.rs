//! Text of a model that looks like an address of people, made to look the same and reach nobody.
//!
//! Code keeps its characters: no platform looks for mentions in it.

/// Invisible; what follows it is not a mention.
const JOINER: char = '\u{2060}';

/// `@name` without effect; the `@` of a mail address stays.
pub(super) fn at_signs(text: &str) -> String {
    let mut neutral = String::with_capacity(text.len());
    let mut before = ' ';
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        neutral.push(character);
        let names = characters.peek().is_some_and(|next| next.is_alphanumeric() || matches!(next, '_' | '&' | '!'));
        if character == '@' && names && !before.is_alphanumeric() {
            neutral.push(JOINER);
        }
        before = character;
    }
    neutral
}

/// The same, and `<#1>`, `</run:1>`, `<:name:1>` and the like without effect.
pub(super) fn angles(text: &str) -> String {
    let mut neutral = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        let (before, angle) = rest.split_at(at + 1);
        neutral.push_str(before);
        if ["#", "/", ":", "@", "!", "t:", "a:", "id:", "sound:"].iter().any(|start| angle.starts_with(start)) {
            neutral.push(JOINER);
        }
        rest = angle;
    }
    neutral.push_str(rest);
    at_signs(&neutral)
}

#[cfg(test)]
mod tests {
    use super::{angles, at_signs};

    /// P31.
    #[test]
    fn mentions_reach_nobody_and_mail_addresses_stay() {
        assert_eq!(
            at_signs("@everyone (@alice) a@b.example @ home"),
            "@\u{2060}everyone (@\u{2060}alice) a@b.example @ home"
        );
        assert_eq!(angles("<@&12> <#1> <pod> a<b"), "<\u{2060}@\u{2060}&12> <\u{2060}#1> <pod> a<b");
    }
}
