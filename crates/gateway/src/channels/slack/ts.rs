//! Slack's message ids are times: seconds, a point, microseconds.

/// As a number that keeps the order, in microseconds.
pub(super) fn micros(ts: &str) -> Option<i64> {
    let (seconds, fraction) = ts.split_once('.')?;
    let digits = seconds.chars().chain(fraction.chars()).all(|digit| digit.is_ascii_digit());
    if !digits || fraction.len() != 6 {
        return None;
    }
    seconds.parse::<i64>().ok()?.checked_mul(1_000_000)?.checked_add(fraction.parse().ok()?)
}

/// The id of such a number.
pub(super) fn ts(micros: i64) -> String {
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_and_its_number_belong_together() {
        assert_eq!(micros("1700000000.000123"), Some(1_700_000_000_000_123));
        assert_eq!(ts(1_700_000_000_000_123), "1700000000.000123");
        for bad in ["", "17", "17.1", "17.-00001", "x.000001", "17.0000012"] {
            assert_eq!(micros(bad), None, "{bad}");
        }
    }
}
