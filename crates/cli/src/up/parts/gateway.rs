//! The gateway's numbers: what it is, and what happened since it was started. No label names a person or a chat.

use stakpak_gateway::{ChannelStatus, Gateway, StoreError};
use stakpak_server::Measures;

const STATUSES: [ChannelStatus; 5] = [
    ChannelStatus::Connected,
    ChannelStatus::Connecting,
    ChannelStatus::Degraded,
    ChannelStatus::Failed,
    ChannelStatus::Disabled,
];

/// What is known without the store comes first, so that it is told also when the store cannot be read.
pub(super) async fn measure(gateway: &Gateway, measures: &mut Measures) -> Result<(), StoreError> {
    channels(gateway, measures);
    happened(gateway, measures);
    queues(gateway, measures).await
}

#[expect(clippy::cast_precision_loss, reason = "times and counts")]
fn channels(gateway: &Gateway, measures: &mut Measures) {
    for channel in gateway.channels() {
        let (id, health) = (channel.id(), channel.health());
        let channel_label = ("channel", id.as_str());
        for status in STATUSES {
            let labels = [channel_label, ("state", &status.to_string())];
            let value = if health.status == status { 1.0 } else { 0.0 };
            measures.gauge("stakpak_channel_state", "1 for the state that the channel is in.", &labels, value);
        }
        if let Some(at) = health.last_event_at {
            let help = "When the platform last sent an event, Unix time.";
            measures.gauge("stakpak_channel_last_event_time_seconds", help, &[channel_label], at as f64 / 1e3);
        }
        let help = "Lost connections to the platform that were made anew.";
        measures.counter("stakpak_channel_reconnects_total", help, &[channel_label], channel.reconnects() as f64);
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts")]
fn happened(gateway: &Gateway, measures: &mut Measures) {
    let happened = gateway.happened();
    let spreads = [
        (
            "stakpak_gateway_accept_duration_seconds",
            "Time from hearing of a chat message to having it durably.",
            &happened.accepts,
        ),
        (
            "stakpak_gateway_approval_wait_seconds",
            "Time from asking a chat for approval to the decision.",
            &happened.approval_waits,
        ),
    ];
    for (name, help, spread) in spreads {
        measures.histogram(name, help, spread.buckets(), spread.count, spread.sum);
    }
    for (outcome, count) in &happened.runs {
        let help = "Runs of chats that ended, by outcome.";
        measures.counter("stakpak_gateway_runs_total", help, &[("outcome", outcome)], *count as f64);
    }
    for ((channel, result), count) in &happened.sends {
        let help = "Attempts to send something to a chat, by platform and result.";
        let labels = [("channel", channel.as_str()), ("result", result)];
        measures.counter("stakpak_gateway_sends_total", help, &labels, *count as f64);
    }
    for (channel, waited) in &happened.rate_limit_waits {
        let help = "Time that platforms asked to wait before the next attempt to send.";
        let labels = [("channel", channel.as_str())];
        measures.counter("stakpak_gateway_rate_limit_wait_seconds_total", help, &labels, waited.as_secs_f64());
    }
    let help = "Lost connections to the server's events that were made anew.";
    measures.counter("stakpak_gateway_sse_reconnects_total", help, &[], happened.stream_reconnects as f64);
    let help = "Times that the server no longer had the events asked for.";
    measures.counter("stakpak_gateway_sse_gaps_total", help, &[], happened.stream_gaps as f64);
}

#[expect(clippy::cast_precision_loss, reason = "counts of rows")]
async fn queues(gateway: &Gateway, measures: &mut Measures) -> Result<(), StoreError> {
    let counts = gateway.queue_counts().await?;
    let help = "Runs of chats that have not ended.";
    measures.gauge("stakpak_gateway_runs_active", help, &[], counts.active_runs as f64);
    let help = "Accepted chat messages that no run has taken up.";
    measures.gauge("stakpak_gateway_inbox_messages", help, &[], counts.inbox_pending as f64);
    let help = "Texts to chats: queued, with unknown outcome, or given up.";
    let outbox =
        [("queued", counts.outbox_pending), ("unknown", counts.outbox_unknown), ("failed", counts.outbox_failed)];
    for (state, count) in outbox {
        measures.gauge("stakpak_gateway_outbox_messages", help, &[("state", state)], count as f64);
    }
    let help = "Approvals that chats are asked for.";
    measures.gauge("stakpak_gateway_approvals_open", help, &[], counts.approvals_pending as f64);
    let ages = gateway.queue_ages().await?;
    let help = "How long the oldest accepted chat message waits for its run.";
    measures.gauge("stakpak_gateway_inbox_age_seconds", help, &[], ages.inbox.as_secs_f64());
    let help = "How long the oldest text to a chat waits to be sent.";
    measures.gauge("stakpak_gateway_outbox_age_seconds", help, &[], ages.outbox.as_secs_f64());
    Ok(())
}
