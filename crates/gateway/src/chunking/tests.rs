use proptest::prelude::*;

use super::{chunk_text, cut::units};

/// The fence that is open at the end of a text: its opening line.
fn open_fence(text: &str) -> Option<&str> {
    let mut open: Option<&str> = None;
    for line in text.lines() {
        let bare = line.trim_start_matches(' ');
        let mark = bare.chars().next().unwrap_or(' ');
        let run = bare.len() - bare.trim_start_matches(mark).len();
        match open.map(|open| open.trim_start_matches(' ')) {
            Some(open) => {
                let opened = open.len() - open.trim_start_matches(mark).len();
                if open.starts_with(mark) && run >= opened && bare[run..].trim().is_empty() {
                    return open_fence_after(text, line);
                }
            }
            None if matches!(mark, '`' | '~') && run >= 3 && (mark == '~' || !bare[run..].contains('`')) => {
                open = Some(line);
            }
            None => {}
        }
    }
    open
}

fn open_fence_after<'a>(text: &'a str, line: &'a str) -> Option<&'a str> {
    let behind = line.as_ptr() as usize - text.as_ptr() as usize + line.len();
    open_fence(text[behind..].strip_prefix('\n').unwrap_or(""))
}

/// Walks through the text along the chunks; what is passed over must be what a cut may cost.
fn assert_lossless(text: &str, chunks: &[String]) -> Result<(), TestCaseError> {
    let mut at = 0;
    for chunk in chunks {
        let mut content = chunk.as_str();
        let open = open_fence(&text[..at]).filter(|_| at > 0);
        match open {
            Some(open) if content.starts_with(open) && !text[at..].trim_start().starts_with(content) => {
                content = content[open.len()..].strip_prefix('\n').unwrap_or_default();
                if !text[at..].starts_with(content.lines().next().unwrap_or_default()) || text[at..].starts_with('\n') {
                    at += usize::from(text[at..].starts_with('\n'));
                }
            }
            _ => at += text[at..].len() - text[at..].trim_start().len() - indent(content, &text[at..]),
        }
        if !text[at..].starts_with(content) {
            // The last line closes the fence.
            let cut = content.rfind('\n');
            prop_assert!(cut.is_some(), "{content:?} is not next in {:?}", &text[at..]);
            let closing = content[cut.unwrap()..].trim();
            prop_assert!(closing.len() >= 3 && closing.chars().all(|mark| matches!(mark, '`' | '~')), "{content:?}");
            content = &content[..cut.unwrap()];
        }
        prop_assert!(text[at..].starts_with(content), "{content:?} is not next in {:?}", &text[at..]);
        at += content.len();
    }
    prop_assert!(text[at..].trim().is_empty(), "left over: {:?}", &text[at..]);
    Ok(())
}

/// White space that a chunk keeps at its start.
fn indent(content: &str, rest: &str) -> usize {
    let kept = content.len() - content.trim_start().len();
    kept.min(rest.len() - rest.trim_start().len())
}

fn markdown() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        4 => "[a-zé \u{1F600}.]{0,30}",
        1 => Just(String::new()),
        1 => "  [a-z]{1,8}",
        1 => Just("👩‍👩‍👧‍👦 नमस्ते e\u{301}\u{302}".to_owned()),
    ];
    let lines = |max| proptest::collection::vec(line.clone(), 0..max).prop_map(|lines| lines.join("\n"));
    let fence = |mark: &'static str, info: &'static str| {
        lines(12).prop_map(move |body| format!("{mark}{info}\n{body}\n{mark}"))
    };
    let nested = lines(4).prop_map(|body| format!("````md\n{body}\n```rust\nfn x() {{}}\n```\n{body}\n````"));
    let block = prop_oneof![3 => lines(6), 2 => fence("```", "rust"), 1 => fence("~~~", ""), 1 => nested];
    proptest::collection::vec(block, 1..6).prop_map(|blocks| blocks.join("\n\n"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// P39.
    #[test]
    fn nothing_is_lost_limits_are_kept_and_fences_are_balanced(text in markdown(), limit in 40usize..200) {
        let chunks = chunk_text(&text, limit);
        for chunk in &chunks {
            prop_assert!(units(chunk) <= limit, "{} units: {chunk:?}", units(chunk));
            prop_assert!(!chunk.trim().is_empty());
            prop_assert_eq!(open_fence(chunk), None, "{:?}", chunk);
        }
        assert_lossless(&text, &chunks)?;
        if units(&text) <= limit && !text.trim().is_empty() {
            prop_assert_eq!(chunks, vec![text]);
        }
    }

    /// P39, any text at all, also with limits that no fence fits into.
    #[test]
    fn any_text_is_cut_within_the_limit(text in "(\\PC|[`~\n ]|```){0,200}", limit in 2usize..80) {
        let chunks = chunk_text(&text, limit);
        for chunk in &chunks {
            prop_assert!(units(chunk) <= limit && !chunk.trim().is_empty(), "{chunk:?}");
        }
        let letters = |text: &str| text.chars().filter(|c| c.is_alphanumeric()).collect::<String>();
        let (all, mut rest) = (letters(&chunks.concat()), letters(&text).chars().collect::<Vec<_>>().into_iter().peekable());
        for letter in all.chars() {
            rest.next_if_eq(&letter);
        }
        prop_assert!(rest.next().is_none());
    }
}

#[test]
fn a_cut_prefers_a_blank_line() {
    assert_eq!(chunk_text("one two\n\nthree four", 14), ["one two", "three four"]);
    assert_eq!(chunk_text("aaaa bbbb", 6), ["aaaa", "bbbb"]);
    assert_eq!(chunk_text("    indented\n    code", 14), ["    indented", "    code"]);
}

#[test]
fn emoji_count_twice() {
    assert_eq!(chunk_text(&"\u{1F600}".repeat(4096), 4096).len(), 2);
}

#[test]
fn a_cut_fence_is_closed_and_opened_again_with_its_info_string() {
    let text = "look:\n```rust ignore\nlet first = 1;\nlet second = 2;\n```\nend";
    assert_eq!(
        chunk_text(text, 44),
        ["look:\n```rust ignore\nlet first = 1;\n```", "```rust ignore\nlet second = 2;\n```\nend"]
    );
}

/// P39: a fence that would fit into a message of its own is not torn.
#[test]
fn a_short_fence_stays_whole() {
    let text = format!("{}\n```\n{}\n```", "word ".repeat(8).trim(), ["0123456789"; 4].join("\n"));
    assert_eq!(chunk_text(&text, 60).len(), 2);
    assert!(chunk_text(&text, 60)[1].starts_with("```\n0123456789\n0123456789"));
}

/// P39.
#[test]
fn a_fence_of_twenty_thousand_characters_arrives_whole() {
    let code: Vec<String> = (0..1000).map(|n| format!("let number_{n:04} = 1;")).collect();
    let chunks = chunk_text(&format!("```rust\n{}\n```", code.join("\n")), 4096);
    let inner: Vec<&str> =
        chunks.iter().map(|chunk| chunk.strip_prefix("```rust\n").unwrap().strip_suffix("\n```").unwrap()).collect();
    assert_eq!(inner.join("\n"), code.join("\n"));
}

/// P39.
#[test]
fn two_fences_with_a_blank_line_between_give_no_blank_message() {
    let fence = format!("```\n{}\n```", "x".repeat(80));
    assert_eq!(chunk_text(&format!("{fence}\n\n{fence}"), 100), [fence.clone(), fence]);
}
