//! What models cost: `[cost."provider/id"]`.

use serde::Deserialize;

use crate::{
    document::{Codes, Document},
    finding::{Finding, Severity},
};

const CODES: Codes = Codes::all("E002");

/// US dollars per million tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Price {
    /// Input tokens.
    pub input: f64,
    /// Output tokens.
    pub output: f64,
    /// Input tokens read from the provider's cache; absent: as [`Price::input`].
    pub cache_read: Option<f64>,
    /// Input tokens written to it; absent: as [`Price::input`].
    pub cache_write: Option<f64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CostTable {
    input: Option<f64>,
    output: Option<f64>,
    cache_read: Option<f64>,
    cache_write: Option<f64>,
}

impl Price {
    /// Reads `[cost."MODEL"]`.
    pub(crate) fn read(document: &Document, model: &str, findings: &mut Vec<Finding>) -> Result<Self, Finding> {
        let table: CostTable = document.table(&["cost", model], CODES, findings)?;
        let wrong = |key: &str, text: &str| {
            let path = ["cost", model, key];
            let path = if key.is_empty() { &path[..2] } else { &path[..] };
            document.finding(path, CODES.invalid, Severity::Error, text)
        };
        if !model.split_once('/').is_some_and(|(provider, id)| !provider.is_empty() && !id.is_empty()) {
            return Err(wrong("", "expected the name of a model with its provider, such as \"openai/gpt-5\""));
        }
        let (Some(input), Some(output)) = (table.input, table.output) else {
            return Err(wrong("", "a price needs `input` and `output`, in US dollars per million tokens"));
        };
        for (key, price) in [
            ("input", Some(input)),
            ("output", Some(output)),
            ("cache_read", table.cache_read),
            ("cache_write", table.cache_write),
        ] {
            if price.is_some_and(|price| !price.is_finite() || price < 0.0) {
                return Err(wrong(key, "must be 0 or more, in US dollars per million tokens"));
            }
        }
        Ok(Self { input, output, cache_read: table.cache_read, cache_write: table.cache_write })
    }
}
