//! `generate_password`: from the system's random source into the session's vault. Only its placeholder is ever shown.

use zeroize::Zeroizing;

pub(crate) const DEFAULT_LENGTH: u64 = 15;
pub(crate) const SHORTEST: u64 = 8;
pub(crate) const LONGEST: u64 = 128;
/// The rule in its placeholder.
pub(crate) const RULE: &str = "generated-password";

const LETTERS: [&str; 2] = ["abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"];
const DIGITS: &str = "0123456789";
/// None that ends a word, a string or a field of a connection string in common formats.
const SYMBOLS: &str = "!#%*+-.=?@^_~";

/// A password with at least one character of each class; none if the system has no random numbers.
pub(crate) fn generate(length: usize, with_symbols: bool) -> Option<Zeroizing<String>> {
    let classes: Vec<&str> = LETTERS.into_iter().chain([DIGITS]).chain(with_symbols.then_some(SYMBOLS)).collect();
    let all: Vec<u8> = classes.concat().into_bytes();
    let mut password = Zeroizing::new(Vec::with_capacity(length));
    for class in &classes {
        password.push(class.as_bytes()[below(class.len())?]);
    }
    while password.len() < length {
        password.push(all[below(all.len())?]);
    }
    // The first of each class would stand at known places.
    for last in (1..password.len()).rev() {
        password.swap(last, below(last + 1)?);
    }
    Some(Zeroizing::new(password.iter().map(|byte| char::from(*byte)).collect()))
}

/// A number below `bound`, each as likely as any other; `bound` is at most 256.
fn below(bound: usize) -> Option<usize> {
    let fair = 256 - 256 % bound;
    loop {
        let mut byte = [0];
        getrandom::fill(&mut byte).ok()?;
        if usize::from(byte[0]) < fair {
            return Some(usize::from(byte[0]) % bound);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_password_has_one_of_each_class_and_none_comes_twice() {
        let mut seen = HashSet::new();
        for length in [8, 15, 128] {
            for _ in 0..200 {
                let password = generate(length, true).expect("a password");
                assert_eq!(password.len(), length);
                for class in LETTERS.into_iter().chain([DIGITS, SYMBOLS]) {
                    assert!(password.contains(|c| class.contains(c)), "{} lacks {class}", *password);
                }
                assert!(seen.insert(password.to_string()));
                let plain = generate(length, false).expect("a password");
                assert!(plain.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{}", *plain);
            }
        }
    }

    #[test]
    fn every_character_and_every_place_is_as_likely_as_any_other() {
        let mut first = [0_u32; 256];
        for _ in 0..20_000 {
            let password = generate(8, true).expect("a password");
            first[usize::from(password.as_bytes()[0])] += 1;
        }
        // One in four is the guaranteed one of its class, wherever it stands.
        let digits: u32 = first[usize::from(b'0')..=usize::from(b'9')].iter().sum();
        assert!((2_500..5_500).contains(&digits), "{digits}");
        assert!(below(1) == Some(0) && (0..1000).all(|_| below(13).is_some_and(|number| number < 13)));
    }
}
