//! What the server itself is at the moment of a scrape.

use stakpak_protocol::RunStatus;

use super::Measures;
use crate::Server;

/// Adds the server's own numbers. Runs and approvals are read from the journal, so that they cannot drift; when it cannot be
/// read they are left out.
#[expect(clippy::cast_precision_loss, reason = "counts of what fits into memory")]
pub(crate) async fn measure(server: &Server, measures: &mut Measures) {
    let build = "1, with the version of the binary.";
    measures.gauge("stakpak_build_info", build, &[("version", server.version())], 1.0);
    let started = server.started_at().timestamp_millis() as f64 / 1e3;
    measures.gauge("stakpak_start_time_seconds", "Start of the server, Unix time.", &[], started);
    let live = server.live_sessions() as f64;
    measures.gauge("stakpak_live_sessions", "Sessions that are being driven.", &[], live);
    let queued = server.agent().slots.queued() as f64;
    measures.gauge("stakpak_runs_queued", "Runs that wait for one of the slots.", &[], queued);
    let readers = server.hub().readers();
    measures.gauge("stakpak_sse_readers", "Open event streams.", &[], readers.count as f64);
    let lag = "Events that the slowest open stream has still to be sent.";
    measures.gauge("stakpak_sse_lag_events", lag, &[], readers.lag as f64);
    match server.agent().journal.open_sessions().await {
        Ok(open) => {
            let waiting: u64 = open.iter().map(|session| waiting(&session.run_status)).sum();
            measures.gauge("stakpak_runs_active", "Runs that have not ended, queued ones too.", &[], open.len() as f64);
            measures.gauge("stakpak_approvals_waiting", "Tool calls that wait for a person.", &[], waiting as f64);
        }
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "open runs cannot be read for the metrics");
        }
    }
}

fn waiting(status: &RunStatus) -> u64 {
    match status {
        RunStatus::Running { pending_tool_calls, .. } => pending_tool_calls.unwrap_or(0),
        _ => 0,
    }
}
