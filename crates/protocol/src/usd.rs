//! Money: US dollars, counted in millionths, so that sums are exact.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, schema::Type},
};

const MICROS: f64 = 1_000_000.0;

/// US dollars in millionths; on the wire a number of dollars.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Usd {
    micros: u64,
}

impl Usd {
    /// Nothing.
    pub const ZERO: Self = Self { micros: 0 };

    /// So many millionths.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self { micros }
    }

    /// To the nearest millionth; what is below nothing, or no number, is nothing.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "such casts stop at the bounds")]
    pub fn from_dollars(dollars: f64) -> Self {
        Self { micros: (dollars * MICROS).round() as u64 }
    }

    /// In millionths.
    #[must_use]
    pub const fn micros(self) -> u64 {
        self.micros
    }

    /// In dollars.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "sums of money are far below 2^52 millionths")]
    pub fn dollars(self) -> f64 {
        self.micros as f64 / MICROS
    }

    /// Both; at the most that can be counted.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self { micros: self.micros.saturating_add(other.micros) }
    }
}

/// A number of dollars with as many decimals as it has.
impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.dollars().fmt(f)
    }
}

impl Serialize for Usd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.dollars())
    }
}

impl<'de> Deserialize<'de> for Usd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        f64::deserialize(deserializer).map(Self::from_dollars)
    }
}

impl ToSchema for Usd {}

impl PartialSchema for Usd {
    fn schema() -> RefOr<Schema> {
        let text = "US dollars at list price, to the millionth";
        ObjectBuilder::new().schema_type(Type::Number).description(Some(text)).into()
    }
}

#[cfg(test)]
mod tests {
    use super::Usd;

    #[test]
    fn dollars_come_back_from_the_wire_to_the_millionth() {
        for (micros, text) in
            [(0, "0.0"), (1, "1e-6"), (405, "0.000405"), (1_500_000, "1.5"), (2_000_000_001, "2000.000001")]
        {
            let usd = Usd::from_micros(micros);
            assert_eq!(serde_json::to_string(&usd).unwrap(), text);
            assert_eq!(serde_json::from_str::<Usd>(text).unwrap(), usd);
        }
        assert_eq!(Usd::from_micros(405).to_string(), "0.000405");
        assert_eq!(serde_json::from_str::<Usd>("3").unwrap(), Usd::from_micros(3_000_000));
    }

    #[test]
    fn what_is_no_sum_is_nothing() {
        for dollars in [-1.0, f64::NAN, f64::NEG_INFINITY] {
            assert_eq!(Usd::from_dollars(dollars), Usd::ZERO);
        }
        assert_eq!(Usd::from_dollars(f64::INFINITY).plus(Usd::from_micros(1)).micros(), u64::MAX);
    }
}
