//! Cron expressions: the one evaluator behind preview, validation and firing.
//!
//! `croner` parses an expression and walks it on wall-clock time; what a wall-clock time means in a zone with daylight
//! saving is decided here, in [`local_time`], by one stated rule:
//!
//! * An expression is *fixed-time* when its seconds, minutes and hours hold no `*`, `?` or `/`; otherwise *interval*.
//! * A time that a clock change leaves out: fixed-time fires once, at the first instant after the gap; interval does not fire.
//! * A time that occurs twice: fixed-time fires at the first occurrence only; interval fires at both.
//!
//! Invariant: [`Cron::next_after`] is strictly later than its argument, and later arguments never give earlier answers.

mod local_time;

use std::sync::Arc;

use chrono::{DateTime, NaiveDateTime, Utc};
use chrono_tz::Tz;
use croner::parser::CronParser;

/// Fields of an expression of seven, in order.
const FIELDS: [&str; 7] = ["second", "minute", "hour", "day-of-month", "month", "day-of-week", "year"];

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
}

impl Cron {
    /// Parses `expression`: five fields, six with seconds first, seven with the year last, or a shortcut.
    ///
    /// # Errors
    /// Names the first field that is wrong, and why.
    pub fn parse(expression: &str, zone: Tz) -> Result<Self, CronError> {
        let fields = fields_of(expression)?;
        let text = fields.join(" ");
        let parsed = CronParser::new().parse(&text).map_err(|cause| blame(&fields, &cause))?;
        for (name, field) in FIELDS.iter().zip(&fields) {
            check_names(name, field)?;
        }
        let fixed_time = !fields[..3].iter().any(|field| field.contains(['*', '?', '/']));
        Ok(Self { expression: Arc::new(parsed), zone, fixed_time })
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

/// Always seven fields.
fn fields_of(expression: &str) -> Result<Vec<String>, CronError> {
    let text = expression.trim();
    let expanded = match text.to_ascii_lowercase().as_str() {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        shortcut if shortcut.starts_with('@') => return Err(CronError::Shortcut { text: text.to_owned() }),
        _ => text,
    };
    let mut fields: Vec<String> = expanded.split_whitespace().map(str::to_owned).collect();
    let found = fields.len();
    if !(5..=7).contains(&found) {
        return Err(CronError::FieldCount { found });
    }
    if found == 5 {
        fields.insert(0, "0".to_owned());
    }
    if fields.len() == 6 {
        fields.push("*".to_owned());
    }
    Ok(fields)
}

/// `croner` does not say which field it refused: parse them one by one.
fn blame(fields: &[String], cause: &croner::errors::CronError) -> CronError {
    for (index, (field, text)) in FIELDS.into_iter().zip(fields).enumerate() {
        let mut alone = ["*"; 7];
        alone[index] = text;
        if let Err(reason) = CronParser::new().parse(&alone.join(" ")) {
            return CronError::Field { field, text: text.clone(), reason: reason_of(&reason) };
        }
    }
    CronError::Field { field: "cron", text: fields.join(" "), reason: reason_of(cause) }
}

fn reason_of(cause: &croner::errors::CronError) -> String {
    use croner::errors::CronError as Cause;
    match cause {
        Cause::InvalidPattern(text) | Cause::IllegalCharacters(text) | Cause::ComponentError(text) => {
            text.trim_end_matches('.').to_owned()
        }
        other => other.to_string().trim_end_matches('.').to_owned(),
    }
}

/// `croner` replaces names of days and months wherever they stand, so that `1MON` would be read as 11. Only whole names count.
fn check_names(field: &'static str, text: &str) -> Result<(), CronError> {
    let months = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let days = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
    let names: &[&str] = match field {
        "month" => &months,
        "day-of-week" => &days,
        _ => &[],
    };
    for word in text.to_ascii_lowercase().split(|c: char| !c.is_ascii_alphanumeric()) {
        let bare = word.trim_end_matches('l');
        let named = names.contains(&word) || (field == "day-of-week" && names.contains(&bare));
        let plain = word.chars().all(|c| c.is_ascii_digit() || matches!(c, 'l' | 'w'));
        if !named && !plain {
            let reason = format!("`{word}` is neither a number nor a name known here");
            return Err(CronError::Field { field, text: text.to_owned(), reason });
        }
    }
    Ok(())
}
