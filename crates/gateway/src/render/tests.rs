use proptest::prelude::*;
use serde_json::Value;

use super::{discord, slack, telegram};
use crate::{Body, chunking::cut::units};

const DOCUMENT: &str = include_str!("tests/document.md");

/// The document with what would be too long to read in a file: a wide and a long table, and long code.
fn document() -> String {
    let row = |number: usize, cells: usize| {
        format!("|{}|\n", (0..cells).map(|cell| format!(" r{number}c{cell} ")).collect::<Vec<_>>().join("|"))
    };
    let table = |columns: usize, rows: usize| {
        let rule = format!("|{}\n", "---|".repeat(columns));
        row(0, columns) + &rule + &(1..=rows).map(|number| row(number, columns)).collect::<String>()
    };
    let code: String = (0..200).map(|number| format!("println!(\"line {number}\");\n")).collect();
    format!("{DOCUMENT}\n{}\n{}\n```rust\n{code}```\n", table(25, 2), table(3, 150))
}

/// Letters and digits: form has none, except those of addresses and language names.
fn letters(text: &str) -> Vec<char> {
    text.chars().filter(|character| character.is_alphanumeric()).collect()
}

fn holds_in_order(all: &[char], wanted: &[char]) -> Result<(), String> {
    let mut all = all.iter();
    for (at, letter) in wanted.iter().enumerate() {
        if !all.any(|other| other == letter) {
            return Err(wanted[at.saturating_sub(30)..].iter().take(60).collect());
        }
    }
    Ok(())
}

/// Every text in a JSON value, in order.
fn texts(value: &Value, found: &mut String) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::String(text) if key == "text" => found.push_str(text),
                    other => texts(other, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| texts(item, found)),
        _ => {}
    }
}

fn assert_telegram(messages: &[Body]) {
    for body in messages {
        let text: Vec<u16> = body.text.encode_utf16().collect();
        assert!(text.len() <= 4096 && !body.text.trim().is_empty(), "{body:?}");
        assert_eq!(body.text, body.text.trim_end());
        let entities = body.format.as_ref().map_or(&[][..], |format| format["entities"].as_array().unwrap());
        assert!(entities.len() <= 100);
        let ranges: Vec<(usize, usize)> = entities
            .iter()
            .map(|entity| {
                let number = |key: &str| usize::try_from(entity[key].as_u64().unwrap()).unwrap();
                (number("offset"), number("offset") + number("length"))
            })
            .collect();
        for (start, end) in &ranges {
            assert!(start < end && *end <= text.len(), "{body:?}");
            let low_surrogate = |at: usize| text.get(at).is_some_and(|unit| (0xdc00..0xe000).contains(unit));
            assert!(!low_surrogate(*start) && !low_surrogate(*end), "{body:?}");
            for (other_start, other_end) in &ranges {
                let apart = end <= other_start || other_end <= start;
                let within = start <= other_start && other_end <= end || other_start <= start && end <= other_end;
                assert!(apart || within, "{body:?}");
            }
        }
    }
}

fn assert_slack(messages: &[Body]) {
    for body in messages {
        assert!(units(&body.text) <= 4000 && !body.text.trim().is_empty(), "{}", body.text);
        let Some(format) = &body.format else { continue };
        let blocks = format["blocks"].as_array().unwrap();
        assert!((1..=50).contains(&blocks.len()));
        assert!(blocks.iter().filter(|block| block["type"] == "table").count() <= 1);
        for block in blocks {
            match block["type"].as_str().unwrap() {
                "header" => assert!((1..=150).contains(&units(block["text"]["text"].as_str().unwrap()))),
                "table" => {
                    let rows = block["rows"].as_array().unwrap();
                    assert!((1..=100).contains(&rows.len()));
                    assert!(rows.iter().all(|row| (1..=20).contains(&row.as_array().unwrap().len())));
                }
                _ => {}
            }
        }
        let json = format.to_string();
        assert!(!json.contains(r#""text":"""#) && !json.contains(r#""elements":[]"#), "{json}");
    }
}

fn assert_discord(messages: &[Body]) {
    for body in messages {
        assert!(units(&body.text) <= 2000 && !body.text.trim().is_empty(), "{}", body.text);
        assert_eq!(body.text.matches("```").count() % 2, 0, "{}", body.text);
        assert_eq!(body.format, None);
    }
}

fn shown(messages: &[Body]) -> String {
    messages.iter().map(|body| body.text.as_str()).collect::<Vec<_>>().join("\n")
}

fn shown_blocks(messages: &[Body]) -> String {
    let mut found = String::new();
    for body in messages {
        match &body.format {
            Some(format) => texts(format, &mut found),
            None => found.push_str(&body.text),
        }
    }
    found
}

fn check_all(markdown: &str, wanted: &[char]) -> Result<(), String> {
    let (telegram, slack, discord) =
        (telegram::compose(markdown), slack::compose(markdown), discord::compose(markdown));
    assert_telegram(&telegram);
    assert_slack(&slack);
    assert_discord(&discord);
    for (name, text) in [
        ("telegram", shown(&telegram)),
        ("slack", shown_blocks(&slack)),
        ("slack fallback", shown(&slack)),
        ("discord", shown(&discord)),
    ] {
        holds_in_order(&letters(&text), wanted).map_err(|lost| format!("{name} lost {lost:?}\n{text}"))?;
    }
    Ok(())
}

fn words() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => "[a-zé日]{1,8}( [a-z]{1,6}){0,8}",
        1 => "\\*\\*[a-z]{1,5}\\*\\* \\*[a-z]{1,5}\\* ~~[a-z]{1,5}~~ `[a-z]{1,5}`",
        1 => "\\[[a-z]{1,5}\\]\\(https://host\\.example/[a-z]{1,5}\\)",
        1 => "[*_~`|<>\\\\#\\[\\]()@ a-z]{1,20}".prop_filter("what stands beside a fence is no text", |line| {
            !["```", "~~~"].iter().any(|fence| line.contains(fence))
        }),
        1 => "<[a-z]{1,5}>[a-z]{1,5}</[a-z]{1,5}>",
        1 => "[a-z]{300,700}",
        1 => "(👩‍👩‍👧‍👦|\u{1F600}|e\u{301}|x){1,80}",
    ]
}

fn block() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => words(),
        1 => (1usize..7, words()).prop_map(|(level, text)| format!("{} {text}", "#".repeat(level))),
        2 => proptest::collection::vec((0usize..4, words()), 1..8).prop_map(|items| {
            items.iter().map(|(depth, text)| format!("{}- {text}", "  ".repeat(*depth))).collect::<Vec<_>>().join("\n")
        }),
        1 => proptest::collection::vec(words(), 1..5).prop_map(|lines| lines.iter().map(|line| format!("> {line}")).collect::<Vec<_>>().join("\n")),
        1 => proptest::collection::vec("[a-z `*<>]{0,60}", 1..90).prop_map(|lines| format!("`````\n{}\n`````", lines.join("\n"))),
        1 => (1usize..24, proptest::collection::vec("[a-z]{0,30}", 2..120)).prop_map(|(columns, cells)| {
            let rows: Vec<String> = cells.chunks(columns).map(|row| format!("| {} |", row.join(" | "))).collect();
            format!("{}\n|{}\n{}", rows[0], "---|".repeat(cells.len().min(columns)), rows[1..].join("\n"))
        }),
        1 => Just("---".to_owned()),
        1 => "\\[[a-z]{1,5}\\]: https://host\\.example/[a-z]{1,9}",
    ]
}

/// What the parser takes as a line break or for nothing.
fn without_breaks(markdown: &str) -> String {
    ["<br>", "<br/>", "<br />"].iter().fold(markdown.to_owned(), |text, tag| text.replace(tag, ""))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// P39, P43, P44: whatever is written, it arrives whole and within the limits of each platform.
    #[test]
    fn nothing_of_a_text_is_lost_on_any_platform(blocks in proptest::collection::vec(block(), 1..12)) {
        let markdown = blocks.join("\n\n");
        let wanted = letters(&addresses_behind(&without_breaks(&markdown)));
        if let Err(lost) = check_all(&markdown, &wanted) {
            return Err(TestCaseError::fail(format!("{lost}\nof {markdown}")));
        }
    }

    /// Any characters at all: no panic, no limit broken, no message without text.
    #[test]
    fn any_text_is_within_the_limits(text in "(\\PC|[\n`*_~|<>#@ -]|```|\\| ?|- |> |\\[x\\]\\(){0,400}") {
        prop_assert!(check_all(&text, &[]).is_ok());
        prop_assert_eq!(telegram::compose(&text).is_empty(), text.trim().is_empty());
    }
}

/// Telegram and Slack keep the addresses of links beside the text.
fn addresses_behind(markdown: &str) -> String {
    let mut rest = markdown;
    let mut kept = String::new();
    while let Some(at) = rest.find("](https://host.example/") {
        kept.push_str(&rest[..at]);
        rest = &rest[at..];
        rest = &rest[rest.find(')').map_or(rest.len(), |end| end + 1)..];
    }
    kept + rest
}

/// P43: found by chance.
#[test]
fn a_fence_of_nothing_keeps_its_words() {
    for markdown in ["- ~~~a\n- b", "~~~a", "```a\n```", "> ~~~a a"] {
        check_all(markdown, &letters(markdown)).unwrap();
    }
}

/// P43, P44.
#[test]
fn a_rich_document_arrives_whole_everywhere() {
    // Positions of the cells and numbers of the lines; those of lists are no text on Slack.
    let generated = document()[DOCUMENT.len()..].replace("```rust", "");
    check_all(&document(), &letters(&generated)).unwrap();
    for text in [
        shown(&telegram::compose(&document())),
        shown_blocks(&slack::compose(&document())),
        shown(&discord::compose(&document())),
    ] {
        for part in ["pod", "r2c24", "r150c2", "line 199", "🚀", "four"] {
            assert!(text.contains(part), "{part}");
        }
    }
    // Telegram shows form instead of marks.
    assert!(!shown(&telegram::compose(DOCUMENT)).contains("**"));
}

#[test]
fn telegram_text_has_entities() {
    insta::with_settings!({ sort_maps => true }, { insta::assert_json_snapshot!(telegram::compose(DOCUMENT)) });
}

#[test]
fn slack_text_has_blocks() {
    insta::with_settings!({ sort_maps => true }, { insta::assert_json_snapshot!(slack::compose(DOCUMENT)) });
}

#[test]
fn discord_text_is_its_markdown() {
    insta::assert_snapshot!(shown(&discord::compose(DOCUMENT)));
}

/// How many messages a long document makes, and how each begins.
#[test]
fn long_documents_are_divided_at_good_places() {
    let starts = |messages: &[Body]| {
        messages
            .iter()
            .map(|body| format!("{:>4}  {:?}", units(&body.text), body.text.chars().take(60).collect::<String>()))
            .collect::<Vec<_>>()
            .join("\n")
    };
    let (telegram, slack, discord) =
        (telegram::compose(&document()), slack::compose(&document()), discord::compose(&document()));
    insta::assert_snapshot!(format!(
        "telegram\n{}\n\nslack\n{}\n\ndiscord\n{}",
        starts(&telegram),
        starts(&slack),
        starts(&discord)
    ));
}

/// P31: on no platform does a text reach people.
#[test]
fn nothing_in_a_text_is_a_mention() {
    let markdown =
        "@everyone @here <@123> <@&7> <#C12> <!channel> <!subteam^S1> @alice_b [you](tg://user?id=7) a@b.example";
    let (telegram, slack, discord) =
        (telegram::compose(markdown), slack::compose(markdown), discord::compose(markdown));
    for text in [&telegram[0].text, &discord[0].text] {
        for mention in ["@everyone", "@here", "@1", "@&", "@alice"] {
            assert!(!text.contains(mention), "{mention} in {text}");
        }
        assert!(text.contains("a@b.example"));
    }
    assert!(!["<@", "<#", "<!"].iter().any(|start| discord[0].text.contains(start)), "{}", discord[0].text);
    assert!(!telegram[0].format.as_ref().is_some_and(|format| format.to_string().contains("tg://")));
    let elements = &slack[0].format.as_ref().unwrap()["blocks"][0]["elements"][0]["elements"];
    assert!(elements.as_array().unwrap().iter().all(|element| element["type"] == "text"), "{elements}");
}

/// P31: code cannot end its own block.
#[test]
fn code_cannot_leave_its_block() {
    let markdown = "````\nrm -rf /\n```\n@everyone **safe**\n````\nafter";
    let discord = discord::compose(markdown);
    assert_eq!(discord[0].text.matches("```").count(), 2, "{}", discord[0].text);
    let telegram = telegram::compose(markdown);
    let pre = &telegram[0].format.as_ref().unwrap()["entities"][0];
    assert_eq!(pre["type"], "pre");
    assert_eq!(pre["length"], units("rm -rf /\n```\n@everyone **safe**"));
}

/// P39.
#[test]
fn a_short_answer_is_one_message() {
    let markdown = "Look:\n\n```rust\nfn main() {}\n```\n\n```\nx\n```\n\nDone.";
    for messages in [telegram::compose(markdown), slack::compose(markdown), discord::compose(markdown)] {
        assert_eq!(messages.len(), 1);
    }
}
