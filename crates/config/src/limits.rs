//! How much models take and say: `[limits."provider/id"]`.

use serde::Deserialize;

use crate::{
    document::{Codes, Document},
    finding::{Finding, Severity},
};

const CODES: Codes = Codes::all("E002");

/// Tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ModelLimits {
    /// What a request and its answer may have together.
    pub context: Option<u64>,
    /// What an answer may have.
    pub output: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LimitsTable {
    context: Option<u64>,
    output: Option<u64>,
}

impl ModelLimits {
    /// Reads `[limits."MODEL"]`.
    pub(crate) fn read(document: &Document, model: &str, findings: &mut Vec<Finding>) -> Result<Self, Finding> {
        let LimitsTable { context, output } = document.table(&["limits", model], CODES, findings)?;
        let wrong = |path: &[&str], text: &str| Err(document.finding(path, CODES.invalid, Severity::Error, text));
        if !model.split_once('/').is_some_and(|(provider, id)| !provider.is_empty() && !id.is_empty()) {
            let text = "expected the name of a model with its provider, such as \"openai/gpt-5\"";
            return wrong(&["limits", model], text);
        }
        for (key, limit, least) in [("context", context, 1_024), ("output", output, 64)] {
            if limit.is_some_and(|limit| limit < least) {
                return wrong(&["limits", model, key], &format!("must be {least} tokens or more"));
            }
        }
        Ok(Self { context, output })
    }
}
