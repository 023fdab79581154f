//! Requests, counted once they are answered. Labels are route templates and known methods, never what a client sent.

use std::time::Duration;

use axum::http::{Method, StatusCode};
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

/// Bounds of a request's length in seconds.
const REQUEST_SECONDS: [f64; 14] =
    [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

/// The counters of requests.
pub(super) struct HttpCounters {
    requests: IntCounterVec,
    seconds: HistogramVec,
}

impl HttpCounters {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let requests = "Requests answered, by route, method and class of the status.";
        let requests = Opts::new("stakpak_http_requests_total", requests);
        let seconds = "Time from a request's head to its answer's head: an event stream counts until it begins.";
        let seconds =
            HistogramOpts::new("stakpak_http_request_duration_seconds", seconds).buckets(REQUEST_SECONDS.into());
        let counters = Self {
            requests: IntCounterVec::new(requests, &["route", "method", "status"])?,
            seconds: HistogramVec::new(seconds, &["route", "method"])?,
        };
        registry.register(Box::new(counters.requests.clone()))?;
        registry.register(Box::new(counters.seconds.clone()))?;
        Ok(counters)
    }

    pub(super) fn observe(&self, route: &str, method: &Method, status: StatusCode, took: Duration) {
        let method = known(method);
        self.requests.with_label_values(&[route, method, class(status)]).inc();
        self.seconds.with_label_values(&[route, method]).observe(took.as_secs_f64());
    }
}

/// A client may send any word as its method.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

fn class(status: StatusCode) -> &'static str {
    match status.as_u16() / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    }
}
