//! The fields of an expression as they are written: what `croner` would take but nobody can mean is refused here.

use std::fmt;

use super::{CronError, parser};

/// Fields of an expression of seven, in order, with the lowest and the highest number of each.
const FIELDS: [(&str, u32, u32); 7] = [
    ("second", 0, 59),
    ("minute", 0, 59),
    ("hour", 0, 23),
    ("day-of-month", 1, 31),
    ("month", 1, 12),
    ("day-of-week", 0, 7),
    ("year", 1, 5000),
];
const DAY_OF_MONTH: usize = 3;
const DAY_OF_WEEK: usize = 5;

/// Something that is allowed but may not be what was meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CronOddity {
    /// Day-of-month and day-of-week both say something, without `+`: it fires when either matches.
    EitherDay,
    /// The step is larger than the field: only the first value of the range is left.
    StepTooLarge {
        /// Which field.
        field: &'static str,
        /// As written.
        text: String,
    },
}

impl fmt::Display for CronOddity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EitherDay => f.write_str(
                "day-of-month and day-of-week are both set: fires when either matches; `+` before the day-of-week asks for both",
            ),
            Self::StepTooLarge { field, text } => {
                write!(f, "{field} field `{text}`: the step is larger than the field, so that it matches one value only")
            }
        }
    }
}

/// Always seven fields.
pub(super) fn split(expression: &str) -> Result<Vec<String>, CronError> {
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
pub(super) fn blame(fields: &[String], cause: &croner::errors::CronError) -> CronError {
    for (index, ((field, ..), text)) in FIELDS.into_iter().zip(fields).enumerate() {
        let mut alone = ["*"; 7];
        alone[index] = text;
        if let Err(reason) = parser().parse(&alone.join(" ")) {
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

/// What `croner` would read as something else, or as nothing.
pub(super) fn check(fields: &[String]) -> Result<(), CronError> {
    for (index, ((field, ..), text)) in FIELDS.into_iter().zip(fields).enumerate() {
        let refused = |reason: &str| Err(CronError::Field { field, text: text.clone(), reason: reason.to_owned() });
        let items: Vec<String> = text.split(',').map(str::to_ascii_uppercase).collect();
        let has = |item: &str| items.iter().any(|other| other == item);
        if has("") {
            return refused("an item of the list is missing");
        }
        if items.iter().any(|item| item.starts_with('/')) {
            return refused("a step needs a start, such as `*/10`");
        }
        if index == DAY_OF_MONTH && has("L") && has("LW") {
            return refused("`L` and `LW` cannot stand in one list");
        }
        if index == DAY_OF_WEEK && items.iter().any(|item| item.trim_start_matches('+') == "L") {
            return refused("`L` needs a day, such as `5L` for the last Friday of the month");
        }
        check_names(field, text)?;
    }
    Ok(())
}

pub(super) fn oddities(fields: &[String]) -> Vec<CronOddity> {
    let restricted = |index: usize| !matches!(fields[index].as_str(), "*" | "?");
    let mut oddities = Vec::new();
    if restricted(DAY_OF_MONTH) && restricted(DAY_OF_WEEK) && !fields[DAY_OF_WEEK].starts_with('+') {
        oddities.push(CronOddity::EitherDay);
    }
    for ((field, low, high), text) in FIELDS.into_iter().zip(fields) {
        let steps = text.split(',').filter_map(|item| item.split_once('/')?.1.parse::<u32>().ok());
        if steps.max().is_some_and(|step| step > high - low) {
            oddities.push(CronOddity::StepTooLarge { field, text: text.clone() });
        }
    }
    oddities
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
