//! What is a secret on this machine besides what everybody's rules find, and what is none: `[secrets]`.

use serde::{Deserialize, de::IgnoredAny};

use crate::{
    document::{Codes, Document},
    finding::{Finding, Severity},
};

const CODES: Codes = Codes::all("E002");
const DIGEST: &str = "sha256:";

/// Rules of the operator and what no rule is to hide.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretsConfig {
    /// In the order of their ids.
    pub rules: Vec<SecretRule>,
    /// SHA-256 of values that are no secrets.
    pub ignore: Vec<[u8; 32]>,
}

/// One rule: `[secrets.rules.ID]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretRule {
    /// Stands in its placeholders.
    pub id: String,
    /// What is hidden is its group `secret`, or all of a match.
    pub regex: String,
    /// One of them stands in each match, in any case.
    pub keywords: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SecretsTable {
    ignore: Vec<String>,
    rules: IgnoredAny,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RuleTable {
    regex: String,
    keywords: Vec<String>,
}

impl SecretsConfig {
    pub(crate) fn read(document: &Document, findings: &mut Vec<Finding>) -> Result<Self, Finding> {
        let table = document.table::<SecretsTable>(&["secrets"], CODES, findings)?;
        let digest = |text: &String| {
            let wrong = "expected the SHA-256 of a value that is no secret, as \"sha256:…\" with 64 hexadecimal digits: \
                         printf %s VALUE | sha256sum";
            let digits = text.strip_prefix(DIGEST);
            let digest = digits.and_then(digest);
            digest.ok_or_else(|| document.finding(&["secrets", "ignore"], CODES.invalid, Severity::Error, wrong))
        };
        let ignore = table.ignore.iter().map(digest).collect::<Result<_, _>>()?;
        let mut rules = Vec::new();
        for id in document.keys(&["secrets", "rules"])? {
            let RuleTable { regex, keywords } = document.table(&["secrets", "rules", id], CODES, findings)?;
            if regex.is_empty() {
                let text = "needs `regex`, the expression of what is hidden";
                return Err(document.finding(&["secrets", "rules", id], CODES.invalid, Severity::Error, text));
            }
            rules.push(SecretRule { id: id.to_owned(), regex, keywords });
        }
        rules.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(Self { rules, ignore })
    }
}

fn digest(digits: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    hex::decode_to_slice(digits, &mut digest).ok().map(|()| digest)
}
