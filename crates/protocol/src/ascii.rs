//! JSON in pure ASCII.
//!
//! Clients of 0.3.x decode every network chunk on its own and fail on a character that is split between two; so
//! event data never holds one.

use std::io;

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};

/// `value` as one line of JSON in which every non-ASCII character is written `\uXXXX`.
///
/// # Errors
/// When the value cannot be written as JSON, such as a map with keys that are not strings.
pub fn to_ascii_json<T: Serialize>(value: &T) -> serde_json::Result<String> {
    let mut out = Vec::with_capacity(256);
    value.serialize(&mut Serializer::with_formatter(&mut out, AsciiFormatter))?;
    String::from_utf8(out).map_err(|error| serde_json::Error::io(io::Error::other(error)))
}

struct AsciiFormatter;

impl Formatter for AsciiFormatter {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        if fragment.is_ascii() {
            return CompactFormatter.write_string_fragment(writer, fragment);
        }
        for character in fragment.chars() {
            if character.is_ascii() {
                writer.write_all(&[character as u8])?;
            } else {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::to_ascii_json;

    #[test]
    fn non_ascii_is_escaped_and_reads_back_the_same() {
        let text = "é\u{1F600}\u{7f}\n\"plain\"";
        let json = to_ascii_json(&text).unwrap();
        assert!(json.is_ascii());
        assert!(json.contains("\\u00e9\\ud83d\\ude00"), "{json}");
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
    }
}
