//! `gateway approvals`: what the agent asks, decided with the bearer token.

use anyhow::{Result, bail};
use serde_json::{Value, json};

use crate::{args::ApprovalsCommand, channel::Desk, running::RunningGateway};

/// Longest preview of arguments.
const PREVIEW: usize = 400;

pub(super) async fn run(desk: &Desk<'_>, command: ApprovalsCommand) -> Result<()> {
    let Some(running) = RunningGateway::find(desk.home)? else {
        bail!("no gateway runs here; approvals are decided by one that does: stakpak up");
    };
    match command {
        ApprovalsCommand::List => list(desk, &running.get("approvals").await?),
        ApprovalsCommand::Allow { id, calls } => decide(desk, &running, &id, "allow", &calls, None).await?,
        ApprovalsCommand::Deny { id, calls, reason } => {
            decide(desk, &running, &id, "deny", &calls, reason.as_deref()).await?;
        }
    }
    Ok(())
}

fn list(desk: &Desk<'_>, body: &Value) {
    let approvals = body["approvals"].as_array().cloned().unwrap_or_default();
    if desk.json {
        say!("{}", json!({ "command": "gateway.approvals.list", "ok": true, "approvals": approvals }));
        return;
    }
    if approvals.is_empty() {
        say!("Nothing waits for a decision.");
    }
    for approval in &approvals {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let expires = approval["expires_at"].as_i64().and_then(chrono::DateTime::from_timestamp_millis);
        let expires = expires.map_or_else(String::new, |at| at.format(", until %Y-%m-%d %H:%M:%S UTC").to_string());
        say!("{}  run {}{expires}", text(&approval["id"]), text(&approval["run_id"]));
        for call in approval["calls"].as_array().into_iter().flatten() {
            // Control characters of a command must not reach the terminal as such.
            let arguments = call["arguments"].to_string();
            let shown: String = arguments.chars().take(PREVIEW).flat_map(visible).collect();
            say!("  {}  {} {shown}", text(&call["id"]), text(&call["name"]));
        }
    }
}

fn visible(character: char) -> Vec<char> {
    let is_bidi = matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if character.is_control() || is_bidi { character.escape_unicode().collect() } else { vec![character] }
}

async fn decide(
    desk: &Desk<'_>,
    running: &RunningGateway,
    id: &str,
    decision: &str,
    calls: &[String],
    reason: Option<&str>,
) -> Result<()> {
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        bail!("{id:?} is no approval; see: stakpak gateway approvals list");
    }
    let mut body = json!({ "decision": decision });
    if !calls.is_empty() {
        body["calls"] = json!(calls);
    }
    if let Some(reason) = reason {
        body["reason"] = json!(reason);
    }
    let decided = running.post(&format!("approvals/{id}"), &body).await?;
    if desk.json {
        say!("{}", json!({ "command": format!("gateway.approvals.{decision}"), "ok": true, "approval": decided }));
    } else {
        say!("{id}: {}", decided["state"].as_str().unwrap_or("decided"));
    }
    Ok(())
}
