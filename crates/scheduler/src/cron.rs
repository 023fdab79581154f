//! Cron expressions: the one evaluator behind preview, validation and firing.
//!
//! `croner` parses an expression and walks it on wall-clock time; what a wall-clock time means in a zone with daylight
//! saving is decided here, with [`local_time`], by one stated rule:
//!
//! * An expression is *fixed-time* when its seconds, minutes and hours hold no `*`, `?` or `/`; otherwise *interval*.
//! * A time that a clock change leaves out: fixed-time fires once, at the first instant after the gap; interval does not fire.
//! * A time that occurs twice: fixed-time fires at the first occurrence only; interval fires at both.
//!
//! Invariant: [`Cron::next_after`] is strictly later than its argument, and later arguments never give earlier answers.

mod fields;

use std::sync::Arc;

use chrono::{DateTime, NaiveDateTime, Utc};
use chrono_tz::Tz;
use croner::parser::CronParser;

use crate::local_time;
pub use fields::CronOddity;

/// Why an expression cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// Not five, six or seven fields.
    #[error("{found} fields, expected 5 (minute first), 6 (second first) or 7 (year last)")]
    FieldCount {
        /// Fields found.
        found: usize,
    },
    /// One field is wrong.
    #[error("{field} field `{text}`: {reason}")]
    Field {
        /// Which.
        field: &'static str,
        /// As written.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A shortcut that does not exist, `@reboot` among them.
    #[error("unknown shortcut `{text}`, expected one of @yearly @annually @monthly @weekly @daily @midnight @hourly")]
    Shortcut {
        /// As written.
        text: String,
    },
}

/// A parsed expression in a zone.
#[derive(Debug, Clone)]
pub struct Cron {
    expression: Arc<croner::Cron>,
    zone: Tz,
    fixed_time: bool,
    oddities: Vec<CronOddity>,
}

impl Cron {
    /// Parses `expression`: five fields, six with seconds first, seven with the year last, or a shortcut.
    ///
    /// # Errors
    /// Names the first field that is wrong, and why.
    pub fn parse(expression: &str, zone: Tz) -> Result<Self, CronError> {
        let fields = fields::split(expression)?;
        let parsed = parser().parse(&fields.join(" ")).map_err(|cause| fields::blame(&fields, &cause))?;
        fields::check(&fields)?;
        let fixed_time = !fields[..3].iter().any(|field| field.contains(['*', '?', '/']));
        Ok(Self { expression: Arc::new(parsed), zone, fixed_time, oddities: fields::oddities(&fields) })
    }

    /// What is allowed but may not be what was meant.
    #[must_use]
    pub fn oddities(&self) -> &[CronOddity] {
        &self.oddities
    }

    /// The first instant strictly after `instant`, or `None` if there is none.
    #[must_use]
    pub fn next_after(&self, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if self.fixed_time { self.next_fixed(instant) } else { self.next_interval(instant) }
    }

    /// Every fixed wall-clock time stands for one instant, and later times never for earlier instants, so the first time
    /// after the local one whose instant lies ahead is the answer.
    fn next_fixed(&self, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut local = local_time::of(self.zone, instant);
        loop {
            local = self.next_local(local, false)?;
            let candidate = local_time::first_instant(self.zone, local)?;
            if candidate > instant {
                return Some(candidate);
            }
        }
    }

    /// Every instant whose wall-clock time matches. In the first pass of a repeated hour, the second pass lies ahead as well.
    fn next_interval(&self, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let ahead = self.next_existing(instant, local_time::of(self.zone, instant), false);
        let repeated = local_time::second_pass_after(self.zone, instant)
            .and_then(|start| self.next_existing(start, local_time::of(self.zone, start), true));
        match (ahead, repeated) {
            (Some(ahead), Some(repeated)) => Some(ahead.min(repeated)),
            (one, other) => one.or(other),
        }
    }

    /// The first match from `local` on that exists, as the occurrence not before `instant`.
    fn next_existing(
        &self,
        instant: DateTime<Utc>,
        mut local: NaiveDateTime,
        mut inclusive: bool,
    ) -> Option<DateTime<Utc>> {
        loop {
            local = self.next_local(local, inclusive)?;
            let occurrences = local_time::occurrences(self.zone, local);
            let ahead = occurrences
                .into_iter()
                .flatten()
                .find(|found| if inclusive { *found >= instant } else { *found > instant });
            if ahead.is_some() {
                return ahead;
            }
            inclusive = false;
        }
    }

    fn next_local(&self, after: NaiveDateTime, inclusive: bool) -> Option<NaiveDateTime> {
        self.expression.find_next_occurrence(&after, inclusive).ok()
    }
}

/// `5/10` is read as `5-59/10`, as other programs do.
fn parser() -> CronParser {
    CronParser::builder().sloppy_ranges(true).build()
}
