//! Spans at an OpenTelemetry collector: a fake one on a real socket.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{Router, body::Bytes, extract::State, routing::post};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    trace::v1::Span,
};
use prost::Message;

use crate::support::{Home, Up, stdout, until};

#[derive(Default)]
struct Received {
    spans: Vec<Span>,
    resource: BTreeMap<String, String>,
    bytes: Vec<u8>,
}

/// What came to `/v1/traces`.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Received>>);

impl Collector {
    fn start() -> (SocketAddr, Self) {
        let collector = Self::default();
        let router = Router::new().route("/v1/traces", post(Self::take)).with_state(collector.clone());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                axum::serve(tokio::net::TcpListener::from_std(listener).unwrap(), router).await.unwrap();
            });
        });
        (address, collector)
    }

    async fn take(State(Self(received)): State<Self>, body: Bytes) {
        let request = ExportTraceServiceRequest::decode(body.clone()).unwrap();
        let mut received = received.lock().unwrap();
        received.bytes.extend(body);
        for of_resource in request.resource_spans {
            received.resource = texts(&of_resource.resource.unwrap().attributes);
            received.spans.extend(of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
    }

    fn named(&self, name: &str) -> Vec<Span> {
        self.0.lock().unwrap().spans.iter().filter(|span| span.name == name).cloned().collect()
    }
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |pair: &KeyValue| match pair.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some((pair.key.clone(), text.clone())),
        Value::IntValue(number) => Some((pair.key.clone(), number.to_string())),
        _ => None,
    };
    attributes.iter().filter_map(text).collect()
}

fn up_with_collector(home: &Home, endpoint: &str) -> Up {
    let mut command = home.command(&["up", "--json", "--bind", "127.0.0.1:0"]);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint).env("OTEL_BSP_SCHEDULE_DELAY", "50");
    home.start(command)
}

#[test]
fn a_run_with_its_model_and_its_calls_is_one_trace_that_links_to_its_request() {
    let (address, collector) = Collector::start();
    let home = Home::new();
    let up = up_with_collector(&home, &format!("http://{address}"));
    let output = home.run(&["--json", "run", "disk"]);
    assert!(output.status.success(), "{output:?}");
    let told: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();

    let run = until("the run's span", || collector.named("run").pop());
    let attributes = texts(&run.attributes);
    assert_eq!(attributes["run_id"], told["run_id"].as_str().unwrap(), "{told}");
    assert_eq!(attributes["session_id"], told["session_id"].as_str().unwrap(), "{told}");
    assert_eq!((attributes["stop_reason"].as_str(), run.parent_span_id.len()), ("Completed", 0), "{attributes:?}");
    assert!(run.end_time_unix_nano > run.start_time_unix_nano);

    for (name, count) in [("model_request", 2), ("tool_call", 1)] {
        let within = until(name, || Some(collector.named(name)).filter(|spans| spans.len() == count));
        for span in within {
            assert_eq!((&span.trace_id, &span.parent_span_id), (&run.trace_id, &run.span_id), "{name}");
        }
    }
    assert_eq!(texts(&collector.named("tool_call")[0].attributes)["tool"], "stakpak__run_command");
    let apply = until("what started the run", || collector.named("apply").pop());
    assert_eq!(run.links.first().map(|link| &link.span_id), Some(&apply.span_id));
    let requests = until("the request's span", || {
        collector.named("request").into_iter().find(|span| span.span_id == apply.parent_span_id)
    });
    let request = texts(&requests.attributes);
    assert_eq!((request["route"].as_str(), request["status"].as_str()), ("/v1/sessions/{session_id}/messages", "200"));
    assert!(request["request_id"].starts_with("req_"));

    let received = collector.0.lock().unwrap();
    assert_eq!(received.resource["service.name"], "stakpak");
    let has = |text: &str| received.bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(!has(&up.token) && !has("df "), "neither the token nor what a tool was asked");
}

/// The last spans are sent at the end: a run that waits is in the trace too.
#[test]
fn what_is_left_is_sent_at_the_end() {
    let (address, collector) = Collector::start();
    let home = Home::new();
    let mut command = home.command(&["up", "--json", "--bind", "127.0.0.1:0"]);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{address}"));
    command.env("OTEL_BSP_SCHEDULE_DELAY", "600000").env("OTEL_SERVICE_NAME", "night-shift");
    let up = home.start(command);
    assert!(home.run(&["run", "help"]).status.success());
    assert_eq!(collector.named("run").len(), 0);
    assert_eq!(up.stop(), Some(0));
    assert_eq!(collector.named("run").len(), 1);
    assert_eq!(collector.0.lock().unwrap().resource["service.name"], "night-shift");
}

/// A collector that is not there costs no request and no run, and is told of once; nor does a variable that makes no sense.
#[test]
fn a_collector_that_is_away_holds_nobody_up() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (endpoint, said) in
        [(format!("http://{closed}"), "spans cannot be exported"), ("odd".to_owned(), "no spans are")]
    {
        let home = Home::new();
        let up = up_with_collector(&home, &endpoint);
        for _ in 0..3 {
            assert!(home.run(&["run", "help"]).status.success());
        }
        let log = || std::fs::read_to_string(home.path(".stakpak/autopilot/logs/server.log")).unwrap();
        until(said, || log().contains(said).then_some(()));
        assert_eq!(up.stop(), Some(0));
        assert_eq!(log().matches(said).count(), 1, "{}", log());
    }
}
