//! `reasoning` of a profile: an effort, or tokens.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{self, Visitor},
};

/// How much models think before they answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reasoning {
    /// `low`
    Low,
    /// `medium`
    Medium,
    /// `high`
    High,
    /// At most so many tokens.
    Budget(u64),
}

impl<'de> Deserialize<'de> for Reasoning {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EffortOrTokens)
    }
}

struct EffortOrTokens;

impl Visitor<'_> for EffortOrTokens {
    type Value = Reasoning;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("low, medium or high, or 1024 tokens or more")
    }

    fn visit_str<E: de::Error>(self, effort: &str) -> Result<Reasoning, E> {
        match effort {
            "low" => Ok(Reasoning::Low),
            "medium" => Ok(Reasoning::Medium),
            "high" => Ok(Reasoning::High),
            other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
        }
    }

    fn visit_i64<E: de::Error>(self, tokens: i64) -> Result<Reasoning, E> {
        let wrong = || E::invalid_value(de::Unexpected::Signed(tokens), &self);
        u64::try_from(tokens).map_err(|_| wrong()).and_then(|tokens| self.visit_u64(tokens))
    }

    fn visit_u64<E: de::Error>(self, tokens: u64) -> Result<Reasoning, E> {
        if tokens >= 1_024 {
            return Ok(Reasoning::Budget(tokens));
        }
        Err(E::invalid_value(de::Unexpected::Unsigned(tokens), &self))
    }
}
