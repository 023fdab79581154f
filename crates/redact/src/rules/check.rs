//! What an expression cannot say: whether a keyword is worth a look, and whether a finding is a secret.

/// The check of a rule.
#[derive(Clone, Copy)]
pub(super) enum Check {
    /// Its shape is enough.
    None,
    /// The bytes and the place of the keyword in them.
    Hit(fn(&[u8], usize) -> bool),
    /// A value, and no reference to one.
    Value,
    /// Nor a digest.
    NoHex,
    /// Nor an identifier.
    Password,
    /// Nor a text without a digit.
    Digits,
}

impl Check {
    pub(super) fn is_worth_a_look(self, text: &[u8], at: usize) -> bool {
        match self {
            Self::Hit(is_hit) => is_hit(text, at),
            _ => true,
        }
    }

    pub(super) fn is_secret(self, value: &[u8]) -> bool {
        match self {
            Self::None | Self::Hit(_) => true,
            Self::Value => !is_reference(value),
            Self::NoHex => !is_reference(value) && !value.iter().all(u8::is_ascii_hexdigit),
            Self::Password => !is_reference(value) && !is_path(value) && !is_identifier(value),
            Self::Digits => !is_reference(value) && !is_path(value) && value.iter().any(u8::is_ascii_digit),
        }
    }
}

/// `$NAME`, `${NAME}`, `{{ name }}`, `%(name)s`, `<name>`, `***`, a call.
fn is_reference(value: &[u8]) -> bool {
    let starts = [b"$".as_slice(), b"{{", b"%(", b"%{", b"<", b"***", b"..."];
    let all_same = value.iter().all(|byte| Some(byte) == value.first());
    let name =
        value.iter().take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b':')).count();
    let is_call = name > 0 && value.get(name) == Some(&b'(');
    starts.iter().any(|start| value.starts_with(start)) || all_same || is_call
}

/// Names joined with dots, and nothing else: code, such as `form.passwordInput`.
fn is_identifier(value: &[u8]) -> bool {
    let is_name = value.iter().all(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'.'));
    let has_hump = value.windows(2).any(|pair| pair[0].is_ascii_lowercase() && pair[1].is_ascii_uppercase());
    is_name && (has_hump || value.contains(&b'.') || value.contains(&b'_'))
}

/// A path of a file, such as that of a mounted secret.
fn is_path(value: &[u8]) -> bool {
    value.first().is_some_and(|first| matches!(first, b'/' | b'~' | b'.'))
        && value.iter().skip(1).any(|byte| *byte == b'/')
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// Not in the middle of a word, unless an escape is before it.
pub(super) fn begins_a_word(text: &[u8], at: usize) -> bool {
    match text[..at] {
        [] | [.., b'\\', b'b' | b'f' | b'n' | b'r' | b't'] => true,
        [.., b'%', high, low] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => true,
        [.., last] => !last.is_ascii_alphanumeric() && last != b'_',
    }
}

/// Two characters, then 32 digits of base 16.
pub(super) fn is_before_hex(text: &[u8], at: usize) -> bool {
    text.get(at + 2..at + 34).is_some_and(|behind| behind.iter().all(u8::is_ascii_hexdigit))
}

/// Eight digits before a colon and 35 characters of a token behind it.
pub(super) fn is_between_number_and_token(text: &[u8], at: usize) -> bool {
    let before = at.checked_sub(8).is_some_and(|start| text[start..at].iter().all(u8::is_ascii_digit));
    before && text.get(at + 1..at + 36).is_some_and(|behind| behind.iter().all(|byte| is_token_byte(*byte)))
}

/// A dot, six characters, a dot.
pub(super) fn is_before_six_and_a_dot(text: &[u8], at: usize) -> bool {
    text.get(at + 7) == Some(&b'.')
        && at.checked_sub(24).is_some_and(|start| text[start..at].iter().all(|byte| is_token_byte(*byte)))
}

/// Shannon entropy in bits a byte.
pub(super) fn entropy(value: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in value {
        counts[usize::from(*byte)] += 1;
    }
    let length = f64::from(u32::try_from(value.len()).unwrap_or(u32::MAX));
    let shares = counts.iter().filter(|count| **count > 0).map(|count| f64::from(*count) / length);
    -shares.map(|share| share * share.log2()).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entropy_is_in_bits_a_byte() {
        assert!(entropy(b"aaaa").abs() < 1e-9);
        assert!((entropy(b"abcdefgh") - 3.0).abs() < 1e-9);
    }

    #[test]
    fn what_only_refers_to_a_value_is_no_secret() {
        for value in
            ["$PASSWORD", "${DB_PASSWORD:-x1}", "{{ vault.token1 }}", "<your-password1>", "********", "get_token1()"]
        {
            assert!(!Check::Digits.is_secret(value.as_bytes()), "{value}");
            assert!(!Check::Password.is_secret(value.as_bytes()), "{value}");
        }
        assert!(!Check::Password.is_secret(b"form.passwordInput"));
        assert!(Check::Password.is_secret(b"correct-horse-battery"));
        assert!(!Check::Digits.is_secret(b"/run/secrets/db1"));
    }
}
