//! Numbers taken for one scrape, and the text they become.

use std::collections::BTreeMap;

use prometheus::{
    TextEncoder,
    proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType},
};

/// What one scrape shows. Names begin with `stakpak_` and hold their unit; names of counters end in `_total`.
#[derive(Debug, Default)]
pub struct Measures(BTreeMap<&'static str, MetricFamily>);

impl Measures {
    /// A value that goes up and down.
    pub fn gauge(&mut self, name: &'static str, help: &str, labels: &[(&str, &str)], value: f64) {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        self.add(name, help, MetricType::GAUGE, labels, |metric| metric.set_gauge(gauge));
    }

    /// A value that only grows while the process lives.
    pub fn counter(&mut self, name: &'static str, help: &str, labels: &[(&str, &str)], value: f64) {
        let mut counter = Counter::default();
        counter.set_value(value);
        self.add(name, help, MetricType::COUNTER, labels, |metric| metric.set_counter(counter));
    }

    /// How values are spread: upper bounds with the number of values up to each, then the number and sum of all.
    pub fn histogram(
        &mut self,
        name: &'static str,
        help: &str,
        buckets: impl IntoIterator<Item = (f64, u64)>,
        count: u64,
        sum: f64,
    ) {
        let buckets = buckets.into_iter().map(|(bound, up_to)| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(bound);
            bucket.set_cumulative_count(up_to);
            bucket
        });
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(count);
        histogram.set_sample_sum(sum);
        self.add(name, help, MetricType::HISTOGRAM, &[], |metric| metric.set_histogram(histogram));
    }

    fn add(
        &mut self,
        name: &'static str,
        help: &str,
        kind: MetricType,
        labels: &[(&str, &str)],
        set: impl FnOnce(&mut Metric),
    ) {
        let family = self.0.entry(name).or_insert_with(|| {
            let mut family = MetricFamily::default();
            family.set_name(name.to_owned());
            family.set_help(help.to_owned());
            family.set_field_type(kind);
            family
        });
        let labels = labels.iter().map(|(name, value)| {
            let mut label = LabelPair::default();
            label.set_name((*name).to_owned());
            label.set_value((*value).to_owned());
            label
        });
        let mut metric = Metric::from_label(labels.collect());
        set(&mut metric);
        family.mut_metric().push(metric);
    }

    /// The text format of these and of `counted`.
    pub(crate) fn encode(self, mut counted: Vec<MetricFamily>) -> prometheus::Result<String> {
        counted.extend(self.0.into_values());
        TextEncoder::new().encode_to_string(&counted)
    }
}
