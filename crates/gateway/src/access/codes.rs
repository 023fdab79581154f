//! Random words that stand for a permission. Only their hash is kept where the word itself would be the permission.

use sha2::{Digest, Sha256};

use crate::StoreError;

/// RFC 4648 base32: 32 letters, so that five bits of a random byte choose one without bias.
const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// 40 bits: enough for an hour and a few tries.
pub(crate) fn pairing_code() -> Result<String, StoreError> {
    word::<8>()
}

/// 130 bits: nobody finds one by trying.
pub(crate) fn approval_id() -> Result<String, StoreError> {
    word::<26>()
}

/// As the codes of a store are compared.
pub(crate) fn hash(code: &str) -> String {
    Sha256::digest(normal(code).as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What somebody typed, as it was made.
pub(crate) fn normal(code: &str) -> String {
    code.trim().to_ascii_uppercase()
}

fn word<const N: usize>() -> Result<String, StoreError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(StoreError::Random)?;
    Ok(bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte & 31)])).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_words_of_base32_and_compare_without_case() {
        let code = pairing_code().unwrap();
        assert_eq!((code.len(), approval_id().unwrap().len()), (8, 26));
        assert!(code.bytes().all(|byte| ALPHABET.contains(&byte)), "{code}");
        assert_ne!(code, pairing_code().unwrap());
        assert_eq!(hash(&code), hash(&format!(" {} ", code.to_lowercase())));
        assert!(!hash(&code).contains(&code));
    }
}
