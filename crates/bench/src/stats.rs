//! Medians and percentiles.

use std::time::Duration;

/// The value that a share of `share` of all values is not above; not a number when there is none.
pub(crate) fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index of this vector")]
    let index = (last as f64 * share).round() as usize;
    sorted.get(index).copied().unwrap_or(f64::NAN)
}

pub(crate) fn median(values: &[f64]) -> f64 {
    percentile(values, 0.5)
}

pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle_and_p99_near_the_end() {
        let values: Vec<f64> = (0..=100).rev().map(f64::from).collect();
        assert_eq!((median(&values), percentile(&values, 0.99), percentile(&values, 1.0)), (50.0, 99.0, 100.0));
        assert!(median(&[]).is_nan());
    }
}
