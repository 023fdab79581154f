//! Addresses behind labels: only those of the web and of mail, and none that the label misstates.

/// Longest address that all platforms take.
const LONGEST: usize = 2000;

/// The address to link to; none for what no chat should open.
pub(super) fn target(url: &str) -> Option<String> {
    let lower = url.to_ascii_lowercase();
    let known = ["https://", "http://", "mailto:"].iter().find(|scheme| lower.starts_with(**scheme))?;
    let plain = !url.chars().any(|character| character.is_whitespace() || character.is_control());
    (plain && url.len() > known.len() && url.len() <= LONGEST).then(|| encoded(url))
}

/// Without the characters that could end a link in some platform's form.
fn encoded(url: &str) -> String {
    let mut encoded = String::with_capacity(url.len());
    for character in url.chars() {
        match character {
            '<' => encoded.push_str("%3C"),
            '>' => encoded.push_str("%3E"),
            '|' => encoded.push_str("%7C"),
            '"' => encoded.push_str("%22"),
            '`' => encoded.push_str("%60"),
            '\\' => encoded.push_str("%5C"),
            other => encoded.push(other),
        }
    }
    encoded
}

/// Whether a label looks like another address.
pub(super) fn hides(label: &str, url: &str) -> bool {
    let bare = |text: &str| {
        let text = text.trim().to_lowercase();
        let text =
            ["https://", "http://", "mailto:"].iter().find_map(|scheme| text.strip_prefix(scheme)).unwrap_or(&text);
        text.trim_start_matches("www.").trim_end_matches('/').to_owned()
    };
    let (label, url) = (bare(label), bare(url));
    let host = label.split(['/', '?', '#', ':', '@']).next().unwrap_or_default();
    let looks_like_host =
        host.contains('.') && !host.starts_with('.') && !host.ends_with('.') && !label.contains(char::is_whitespace);
    looks_like_host && label != url && !url.starts_with(&format!("{label}/"))
}

#[cfg(test)]
mod tests {
    use super::{hides, target};

    #[test]
    fn only_web_and_mail_addresses_are_links() {
        assert_eq!(target("https://a.example/x|y").as_deref(), Some("https://a.example/x%7Cy"));
        assert_eq!(target("tg://user?id=1"), None);
        assert_eq!(target("javascript:alert(1)"), None);
        assert_eq!(target("./local.md"), None);
    }

    #[test]
    fn a_label_that_is_another_address_hides_the_target() {
        assert!(hides("bank.example", "https://evil.example/login"));
        assert!(!hides("https://a.example/", "https://a.example"));
        assert!(!hides("a.example", "https://www.a.example/path"));
        assert!(!hides("the docs", "https://a.example"));
    }
}
