//! Text that has to be seen exactly as it is: the commands of approval prompts.

/// A text in which every character can be seen: control, direction and other invisible characters as `⟨U+202E⟩`.
///
/// Newlines, tabs and spaces stay. Two different texts never look the same for such characters.
#[must_use]
pub fn literal(text: &str) -> String {
    let mut visible = String::with_capacity(text.len());
    for character in text.chars() {
        if is_hidden(character) {
            visible.push_str(&format!("⟨U+{:04X}⟩", u32::from(character)));
        } else {
            visible.push(character);
        }
    }
    visible
}

/// A fence that no line of `text` closes: more backticks than any run in it.
#[must_use]
pub fn fence_for(text: &str) -> String {
    let (mut longest, mut run) = (0, 0);
    for character in text.chars() {
        run = if character == '`' { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    "`".repeat(3.max(longest + 1))
}

fn is_hidden(character: char) -> bool {
    if matches!(character, '\n' | '\t' | ' ') {
        return false;
    }
    character.is_control()
        || character.is_whitespace()
        || matches!(character,
            // The mark itself, so that it cannot be forged.
            '\u{27e8}'
            // Format characters, joiners, fillers, blanks, selectors and tags.
            | '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::{fence_for, literal};

    /// P31.
    #[test]
    fn what_cannot_be_seen_is_named() {
        assert_eq!(literal("rm\u{202e} x\u{200b}\u{7}\r\n\ty"), "rm⟨U+202E⟩ x⟨U+200B⟩⟨U+0007⟩⟨U+000D⟩\n\ty");
        assert_eq!(literal("⟨U+202E⟩"), "⟨U+27E8⟩U+202E⟩");
        assert_eq!(literal("echo häß 日本 👍"), "echo häß 日本 👍");
    }

    /// P31.
    #[test]
    fn no_run_of_backticks_closes_the_fence() {
        assert_eq!(fence_for("plain"), "```");
        assert_eq!(fence_for("a ```` b ``` c"), "`````");
    }
}
