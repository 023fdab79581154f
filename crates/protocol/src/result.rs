//! Results of tools that hold images: an array of parts, as messages have them, in place of a text.

use serde_json::Value;

/// A part of such a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResultPart<'a> {
    /// A text.
    Text(&'a str),
    /// An image, by data URL.
    Image(&'a str),
}

/// The parts of a result that holds images; none if it is a text or anything else.
#[must_use]
pub fn result_parts(content: &Value) -> Option<Vec<ResultPart<'_>>> {
    let parts: Vec<ResultPart<'_>> = content.as_array()?.iter().map(part).collect::<Option<_>>()?;
    parts.iter().any(|part| matches!(part, ResultPart::Image(_))).then_some(parts)
}

/// The result as plain text, each image as `image` says; none if it holds no image.
#[must_use]
pub fn result_text(content: &Value, image: impl Fn(&str) -> String) -> Option<String> {
    let parts = result_parts(content)?.into_iter().map(|part| match part {
        ResultPart::Text(text) => text.to_owned(),
        ResultPart::Image(url) => image(url),
    });
    Some(parts.collect::<Vec<_>>().join("\n"))
}

fn part(part: &Value) -> Option<ResultPart<'_>> {
    match part["type"].as_str()? {
        "text" => Some(ResultPart::Text(part["text"].as_str()?)),
        "image" => {
            let url = part["url"].as_str()?;
            url.starts_with("data:image/").then_some(ResultPart::Image(url))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_parts_with_an_image_are_parts() {
        let image = json!({"type": "image", "url": "data:image/png;base64,AAAA"});
        let both = json!([{"type": "text", "text": "a"}, image]);
        let parts = [ResultPart::Text("a"), ResultPart::Image("data:image/png;base64,AAAA")];
        assert_eq!(result_parts(&both).as_deref(), Some(&parts[..]));
        assert_eq!(result_text(&both, |_| "(an image)".to_owned()).as_deref(), Some("a\n(an image)"));
        for other in [
            json!("text"),
            json!([]),
            json!([{"type": "text", "text": "a"}]),
            json!([image, 1]),
            json!([{"type": "image", "url": "https://example.com/a.png"}]),
            image,
        ] {
            assert_eq!(result_parts(&other), None, "{other}");
        }
    }
}
