//! Numbers for Prometheus: every line is held against the text format, and what happened is in them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures_util::future::BoxFuture;
use serde_json::json;
use stakpak_server::{Measures, Part};

use crate::support::{Setting, Step, TOKEN, TestServer};

/// Samples by name with labels, as they are written.
type Samples = BTreeMap<String, f64>;

async fn scrape(server: &TestServer) -> Samples {
    let response = server.http().request(reqwest::Method::GET, "/metrics").send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    parse(&response.text().await.unwrap())
}

/// The text format 0.0.4, strictly: each family once and together, `HELP` then `TYPE` then samples of that name; names, labels
/// and values well formed; no sample twice; buckets that grow up to `+Inf`, which is the count.
fn parse(text: &str) -> Samples {
    assert!(text.ends_with('\n'), "the last line ends");
    let mut families = BTreeSet::new();
    let mut samples = Samples::new();
    let (mut family, mut kind) = (String::new(), String::new());
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, words) = help.split_once(' ').expect(line);
            assert!(is_name(name) && name.starts_with("stakpak_") && !words.trim().is_empty(), "{line}");
            assert!(families.insert(name.to_owned()), "{name} comes twice");
            (family, kind) = (name.to_owned(), String::new());
        } else if let Some(typed) = line.strip_prefix("# TYPE ") {
            let (name, words) = typed.split_once(' ').expect(line);
            assert_eq!(name, family, "TYPE follows HELP: {line}");
            assert!(["counter", "gauge", "histogram"].contains(&words), "{line}");
            assert_eq!(words == "counter", name.ends_with("_total"), "{line}");
            kind = words.to_owned();
        } else {
            let (series, value) = line.rsplit_once(' ').expect(line);
            let name = series.split('{').next().unwrap();
            let own = match kind.as_str() {
                "histogram" => ["_bucket", "_sum", "_count"].iter().any(|end| name.strip_suffix(end) == Some(&family)),
                "counter" | "gauge" => name == family,
                _ => panic!("a sample before its TYPE: {line}"),
            };
            assert!(own, "{line} is not of {family}");
            labels(series);
            let value: f64 = value.parse().expect(line);
            assert!(kind == "gauge" || value >= 0.0, "{line}");
            assert!(samples.insert(series.to_owned(), value).is_none(), "{series} comes twice");
        }
    }
    for name in &families {
        check_histogram(text, name);
    }
    samples
}

fn is_name(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

fn labels(series: &str) -> Vec<(&str, &str)> {
    let Some((_, rest)) = series.split_once('{') else { return Vec::new() };
    let mut rest = rest.strip_suffix('}').expect(series);
    let mut labels = Vec::new();
    while !rest.is_empty() {
        let (name, after) = rest.split_once("=\"").expect(series);
        assert!(is_name(name), "{series}");
        let end = (0..after.len())
            .find(|at| after.as_bytes()[*at] == b'"' && (*at == 0 || after.as_bytes()[at - 1] != b'\\'))
            .expect(series);
        labels.push((name, &after[..end]));
        rest = after[end + 1..].trim_start_matches(',');
    }
    labels
}

/// For each set of its other labels.
fn check_histogram(text: &str, name: &str) {
    let mut spreads: BTreeMap<String, Vec<(String, f64)>> = BTreeMap::new();
    let mut counts = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (bound, others): (Vec<_>, Vec<_>) = labels(series).into_iter().partition(|(label, _)| *label == "le");
        let value: f64 = value.parse().unwrap();
        match series.split('{').next().unwrap().strip_prefix(name) {
            Some("_bucket") => spreads.entry(format!("{others:?}")).or_default().push((bound[0].1.to_owned(), value)),
            Some("_count") => assert!(counts.insert(format!("{others:?}"), value).is_none(), "{series}"),
            _ => {}
        }
    }
    for (labels, buckets) in &spreads {
        assert!(buckets.is_sorted_by_key(|(_, value)| *value), "buckets of {name} grow: {buckets:?}");
        assert_eq!(buckets.iter().filter(|(bound, _)| bound == "+Inf").count(), 1, "{name} {labels}");
        assert_eq!(buckets.last(), Some(&("+Inf".to_owned(), counts[labels])), "+Inf of {name} is its count");
    }
}

#[tokio::test]
async fn a_token_is_needed() {
    let server = TestServer::start([]).await;
    let plain = server.http().client.get(format!("{}/metrics", server.url)).send().await.unwrap();
    assert_eq!(plain.status(), 401);
    let text = server.http().request(reqwest::Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    assert!(!text.contains(TOKEN));
}

/// Before anything happened every line parses, and results that never occurred are there as zero.
#[tokio::test]
async fn a_new_server_counts_from_zero() {
    let server = TestServer::start([]).await;
    let samples = scrape(&server).await;
    for result in ["completed", "cancelled", "max_turns", "error"] {
        assert_eq!(samples[&format!("stakpak_runs_total{{result=\"{result}\"}}")], 0.0);
    }
    for gauge in ["runs_active", "runs_queued", "approvals_waiting", "live_sessions", "sse_readers", "sse_lag_events"] {
        assert_eq!(samples[&format!("stakpak_{gauge}")], 0.0, "{gauge}");
    }
    assert_eq!(samples["stakpak_build_info{version=\"1.2.3\"}"], 1.0);
}

/// Who has seen the terminal event finds the run counted.
#[tokio::test]
async fn runs_tokens_cost_and_calls_are_counted_when_they_are_durable() {
    let calls =
        vec![("a", "stakpak__look", json!({})), ("b", "stakpak__act", json!({})), ("c", "no_such\"tool\n", json!({}))];
    let server = TestServer::start([Step::Call(calls), Step::Say("done")]).await;
    let mut run = server.run("go", json!(["look"])).await;
    run.until("waiting_for_tool_approval").await;
    let waiting = scrape(&server).await;
    assert_eq!((waiting["stakpak_runs_active"], waiting["stakpak_approvals_waiting"]), (1.0, 1.0));
    assert_eq!((waiting["stakpak_sse_readers"], waiting["stakpak_runs_started_total"]), (1.0, 1.0));
    run.decide("b", "reject").await;
    run.finish().await;

    let samples = scrape(&server).await;
    assert_eq!(samples["stakpak_runs_total{result=\"completed\"}"], 1.0);
    assert_eq!(samples["stakpak_run_duration_seconds_count"], 1.0);
    assert_eq!(samples["stakpak_turns_total"], 2.0);
    assert_eq!(samples["stakpak_model_answers_total{model=\"test/scripted\"}"], 2.0);
    let tokens =
        |kind: &str| samples[&format!("stakpak_model_tokens_total{{kind=\"{kind}\",model=\"test/scripted\"}}")];
    assert_eq!((tokens("input"), tokens("output"), tokens("cache_read")), (24.0, 10.0, 0.0));
    let cost = samples["stakpak_model_cost_usd_total{model=\"test/scripted\"}"];
    assert!((cost - (24.0 * 3.0 + 10.0 * 15.0) / 1e6).abs() < 1e-12, "{cost}");
    let calls =
        |tool: &str, result: &str| samples[&format!("stakpak_tool_calls_total{{result=\"{result}\",tool=\"{tool}\"}}")];
    assert_eq!((calls("stakpak__look", "ok"), calls("stakpak__act", "rejected")), (1.0, 1.0));
    assert_eq!(calls("unknown", "invalid"), 1.0, "a name that the model made up is no label");
    assert_eq!((samples["stakpak_runs_active"], samples["stakpak_approvals_waiting"]), (0.0, 0.0));
}

#[tokio::test]
async fn failures_are_counted_by_code() {
    let server = TestServer::start([Step::Panic]).await;
    server.run("go", json!("none")).await.finish().await;
    let samples = scrape(&server).await;
    assert_eq!(samples["stakpak_runs_total{result=\"error\"}"], 1.0);
    assert_eq!(samples["stakpak_run_errors_total{code=\"provider_error\"}"], 1.0);
}

/// Whatever clients send, there is one series a route: paths, ids and words of their own are no labels.
#[tokio::test]
async fn requests_are_counted_by_route() {
    let server = TestServer::start([]).await;
    let ask = |method: &str, path: &str| {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        server.http().request(method, path).send()
    };
    for session in ["7f6f7d3e-34e0-4e2b-8f3e-6e8f6a1d2b3c", "b2a8e5b0-0a5c-4f7e-9b1f-3d2c1a0f9e8d"] {
        assert_eq!(ask("GET", &format!("/v1/sessions/{session}")).await.unwrap().status(), 404);
    }
    assert_eq!(ask("GET", "/v1/health").await.unwrap().status(), 200);
    for stray in ["/secret-1", "/secret-2"] {
        assert_eq!(ask("GET", stray).await.unwrap().status(), 404);
    }
    assert_eq!(ask("BREW", "/v1/health").await.unwrap().status(), 405);

    let samples = scrape(&server).await;
    let count = |method: &str, route: &str, status: &str| {
        let labels = format!("method=\"{method}\",route=\"{route}\",status=\"{status}\"");
        samples[&format!("stakpak_http_requests_total{{{labels}}}")]
    };
    assert_eq!(count("GET", "/v1/sessions/{session_id}", "4xx"), 2.0);
    assert_eq!((count("GET", "/v1/health", "2xx"), count("other", "/v1/health", "4xx")), (1.0, 1.0));
    assert_eq!(count("GET", "unmatched", "4xx"), 2.0);
    let timed = "stakpak_http_request_duration_seconds_count{method=\"GET\",route=\"/v1/sessions/{session_id}\"}";
    assert_eq!(samples[timed], 2.0);
    assert!(!samples.keys().any(|series| series.contains("secret") || series.contains("BREW")), "{samples:?}");
}

struct Beside;

impl Part for Beside {
    fn measure<'a>(&'a self, measures: &'a mut Measures) -> BoxFuture<'a, ()> {
        measures.gauge("stakpak_odd", "Odd\nhelp \\.", &[("text", "a\"b\\c\nd")], -1.5);
        measures.gauge("stakpak_odd", "Odd\nhelp \\.", &[("text", "e")], f64::INFINITY);
        measures.histogram("stakpak_spread_bytes", "Spread.", [(1.0, 2), (8.0, 5)], 7, 99.0);
        Box::pin(std::future::ready(()))
    }
}

#[tokio::test]
async fn parts_beside_the_server_add_their_numbers() {
    let directory = Arc::new(tempfile::tempdir().unwrap());
    let setting = Setting { parts: vec![Arc::new(Beside)], ..Setting::on(&directory) };
    let server = TestServer::start_on(directory, [], setting).await;
    let samples = scrape(&server).await;
    assert_eq!(samples["stakpak_odd{text=\"a\\\"b\\\\c\\nd\"}"], -1.5);
    assert_eq!(samples["stakpak_spread_bytes_bucket{le=\"8\"}"], 5.0);
    assert_eq!(samples["stakpak_spread_bytes_bucket{le=\"+Inf\"}"], 7.0);
    assert_eq!(samples["stakpak_spread_bytes_sum"], 99.0);
}
