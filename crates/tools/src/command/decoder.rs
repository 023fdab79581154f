//! Bytes of a stream to text, across chunk borders. Invalid bytes become U+FFFD.

/// Holds back at most the three bytes of an unfinished character.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    unfinished: Vec<u8>,
}

impl Decoder {
    pub(crate) fn push(&mut self, bytes: &[u8]) -> String {
        let mut input = std::mem::take(&mut self.unfinished);
        input.extend_from_slice(bytes);
        let mut text = String::with_capacity(input.len());
        let mut rest = input.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    return text;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    let Some(invalid) = error.error_len() else {
                        self.unfinished = after.to_vec();
                        return text;
                    };
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = &after[invalid..];
                }
            }
        }
    }

    /// What is left when the stream has ended.
    pub(crate) fn finish(&mut self) -> &'static str {
        if std::mem::take(&mut self.unfinished).is_empty() { "" } else { "\u{fffd}" }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_split_reads_as_the_whole(bytes in proptest::collection::vec(prop_oneof![any::<u8>(), Just(0xe2), Just(0x82), Just(0xac), Just(b'a')], 0..64), at in 0usize..64) {
            let (first, second) = bytes.split_at(at.min(bytes.len()));
            let mut decoder = Decoder::default();
            let mut text = decoder.push(first);
            text.push_str(&decoder.push(second));
            text.push_str(decoder.finish());
            prop_assert_eq!(text, String::from_utf8_lossy(&bytes));
        }
    }
}
