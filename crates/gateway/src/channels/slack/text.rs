//! Slack's text: `&`, `<` and `>` are escaped, and `<…>` holds links and mentions.

/// Text of a model as Slack shows it literally. Nothing in it can name a person, a channel or a link.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// What a person typed: links as they were written, names readable, newlines kept.
pub(super) fn typed(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, token, after)) = next_token(rest) {
        plain.push_str(&unescape(before));
        plain.push_str(&readable(token));
        rest = after;
    }
    plain.push_str(&unescape(rest));
    plain
}

/// The text without the bot's name at its start.
pub(super) fn without_mention<'a>(text: &'a str, bot: &str) -> &'a str {
    match text.trim_start().strip_prefix("<@").and_then(|text| text.split_once('>')) {
        Some((named, rest)) if names(named, bot) => rest.trim_start_matches([' ', ',', ':', '\n', '\u{a0}']),
        _ => text,
    }
}

/// Whether the bot is named anywhere.
pub(super) fn mentions(text: &str, bot: &str) -> bool {
    text.match_indices("<@")
        .any(|(at, start)| text[at + start.len()..].split_once('>').is_some_and(|(named, _)| names(named, bot)))
}

/// `U0BOT` or `U0BOT|name`.
fn names(token: &str, bot: &str) -> bool {
    token.split('|').next() == Some(bot)
}

fn next_token(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once('<')?;
    let (token, after) = rest.split_once('>')?;
    Some((before, token, after))
}

fn readable(token: &str) -> String {
    let (target, label) = token.split_once('|').map_or((token, None), |(target, label)| (target, Some(label)));
    match target.chars().next() {
        // People stay ids: those are what the rest of the gateway knows them by.
        Some('@') => format!("<{target}>"),
        Some('#') => {
            label.filter(|label| !label.is_empty()).map_or_else(|| format!("<{target}>"), |label| format!("#{label}"))
        }
        Some('!') => label.map_or_else(|| format!("@{}", &target[1..]), unescape),
        _ => link(target, label),
    }
}

fn link(target: &str, label: Option<&str>) -> String {
    let target = unescape(target);
    let bare = target.trim_start_matches("mailto:").trim_start_matches("tel:");
    match label.map(unescape) {
        None => target,
        // Typed without its scheme; Slack added that.
        Some(label) if label == bare || target == format!("http://{label}") || target == format!("https://{label}") => {
            label
        }
        Some(label) => format!("{label} ({target})"),
    }
}

fn unescape(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn model_text_names_nobody() {
        assert_eq!(escape("<!channel> <@U1> a && b"), "&lt;!channel&gt; &lt;@U1&gt; a &amp;&amp; b");
    }

    #[test]
    fn typed_text_comes_back_as_it_was_typed() {
        assert_eq!(typed("if a &lt; b &amp;&amp; c:\n    x"), "if a < b && c:\n    x");
        assert_eq!(typed("&amp;lt;"), "&lt;");
        assert_eq!(typed("curl <https://x.io/a?b=1&amp;c=2>"), "curl https://x.io/a?b=1&c=2");
        assert_eq!(typed("see <http://x.io|x.io> and <https://x.io|docs>"), "see x.io and docs (https://x.io)");
        assert_eq!(typed("<mailto:a@x.io|a@x.io> in <#C1|ops>, <@U1>, <!here>"), "a@x.io in #ops, <@U1>, @here");
        assert_eq!(typed("a < b"), "a < b");
    }

    /// G-P13.
    #[test]
    fn a_mention_at_the_start_goes_and_newlines_stay() {
        assert_eq!(without_mention(" <@U0BOT> fn main() {\n    x\n}", "U0BOT"), "fn main() {\n    x\n}");
        assert_eq!(without_mention("<@U0BOT|bot>: hi", "U0BOT"), "hi");
        assert_eq!(without_mention("<@U0OTHER> hi", "U0BOT"), "<@U0OTHER> hi");
        assert!(mentions("hi <@U0BOT|bot>", "U0BOT") && mentions("<@U1> <@U0BOT>", "U0BOT"));
        assert!(!mentions("<@U0BOTX> <@U0BO", "U0BOT"));
    }
}
