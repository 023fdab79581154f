//! What a client may ask of us: the list of tools, and calls.

use std::sync::Arc;

use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation, JsonObject,
        ListToolsResult, PaginatedRequestParams, ProgressNotificationParam, ProgressToken, ServerCapabilities,
        ServerConfig, Tool,
    },
    service::{Peer, RequestContext},
};
use serde_json::{Value, json};
use stakpak_agent_core::{OWN_PREFIX, Sandbox, ToolCall, ToolContext, ToolOutcome, ToolSpec, approval_of, full_name};
use stakpak_protocol::{Approval, RunId, ToolCallId};
use tokio::sync::mpsc;
use tracing::Instrument;

use super::{Shared, visit::Visit};

const PROGRESS: usize = 16;
/// Tools that only a run has a use for: its person, its chat.
const OF_RUNS: [&str; 2] = ["ask_user", "notify"];

/// One conversation.
#[derive(Clone)]
pub(super) struct Own(Arc<Visit>);

impl Own {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self(Arc::new(Visit::new(shared)))
    }

    /// Runs the call if policy lets it, and writes down what became of it.
    async fn answer(&self, call: ToolCall, context: RequestContext<RoleServer>) -> ToolOutcome {
        let shared = &self.0.shared;
        let judged = self.judge(&call);
        let is_allowed = judged.is_ok();
        let client = context.client_info().map(|client| format!("{} {}", client.name, client.version));
        let written = shared.book.write(json!({
            "event": "called",
            "session_id": self.0.session,
            "call_id": call.id,
            "client": client,
            "profile": shared.offer.profile,
            "tool": call.name,
            "arguments": call.arguments,
            "cwd": shared.cwd(),
            "allowed": is_allowed,
        }));
        if let Err(error) = written.await {
            tracing::error!(%error, "a call over MCP cannot be written down");
            return ToolOutcome::error(
                "CALL_NOT_RECORDED",
                &format!("Nothing was done: the call cannot be recorded ({error})"),
            );
        }
        let outcome = match judged {
            Ok(sandbox) => self.run(&call, sandbox, context).await,
            Err(refusal) => refusal,
        };
        let ended = match &outcome {
            ToolOutcome::Completed { is_error: false, .. } => "done",
            ToolOutcome::Completed { .. } => "failed",
            ToolOutcome::Cancelled => "cancelled",
        };
        let entry = json!({"event": "ended", "session_id": self.0.session, "call_id": call.id, "outcome": ended});
        if let Err(error) = shared.book.write(entry).await {
            tracing::warn!(%error, "the end of a call over MCP cannot be written down");
        }
        outcome
    }

    /// As a run would judge it, which begins now; but there is nobody to ask. What confines the call, if it may run.
    fn judge(&self, call: &ToolCall) -> Result<Sandbox, ToolOutcome> {
        let Shared { offer, .. } = self.0.shared.as_ref();
        if let Err(invalid) = offer.tools.check(&call.name, &call.arguments) {
            return Err(ToolOutcome::error(invalid.code, &invalid.message));
        }
        let tool = bare(&call.name);
        let profile = &offer.profile;
        let terms = (offer.terms)()
            .map_err(|error| ToolOutcome::error("PROFILE_INVALID", &format!("Nothing was done: {error}")))?;
        let verdict = approval_of(offer.tools.as_ref(), &terms.policy, call, &offer.cwd);
        match (verdict.approval, verdict.reason) {
            (Approval::Auto, _) => Ok(terms.sandbox),
            (Approval::Ask, Some(reason)) => Err(ToolOutcome::error(
                "APPROVAL_REQUIRED",
                &format!("Nothing was done: {reason}, and nobody can be asked over MCP."),
            )),
            (Approval::Ask, None) => Err(ToolOutcome::error(
                "APPROVAL_REQUIRED",
                &format!(
                    "Nothing was done: this call of {tool} needs a person's approval, and nobody can be asked over MCP. The owner can allow it with auto_approve = [\"{tool}\"] in profile {profile}."
                ),
            )),
            (Approval::Deny, reason) => {
                let reason = reason.unwrap_or_else(|| format!("{tool} is not allowed"));
                let text = format!("Tool call rejected by policy: {reason}. The rules are in profile {profile}");
                Err(ToolOutcome::Completed { result: Value::String(text), is_error: true })
            }
        }
    }

    async fn run(&self, call: &ToolCall, sandbox: Sandbox, context: RequestContext<RoleServer>) -> ToolOutcome {
        let shared = Arc::clone(&self.0.shared);
        let cancel = shared.stop.child_token();
        // Whoever no longer waits wants no result: a call never outlives its request.
        let _guard = cancel.clone().drop_guard();
        let slot = tokio::select! {
            slot = shared.slots.acquire() => slot,
            () = context.ct.cancelled() => return ToolOutcome::Cancelled,
            () = cancel.cancelled() => return ToolOutcome::Cancelled,
        };
        let sandbox = match shared.settle(sandbox).await {
            Ok(sandbox) => sandbox,
            Err(error) => {
                return ToolOutcome::error("SANDBOX_UNAVAILABLE", &format!("Nothing was done on the host: {error}"));
            }
        };
        self.0.called();
        let (progress, pieces) = mpsc::channel(PROGRESS);
        let told = ToolContext {
            session_id: self.0.session,
            run_id: RunId::random(),
            cwd: shared.cwd().to_owned(),
            sandbox,
            notify_route: None,
            cancel: cancel.clone(),
            steered: tokio_util::sync::CancellationToken::new(),
            progress,
        };
        let span = tracing::info_span!("mcp_call", tool = call.name, call_id = %call.id, session_id = %self.0.session);
        let (tools, call) = (Arc::clone(&shared.offer.tools), call.clone());
        let telling = tell(context.peer.clone(), context.meta.get_progress_token(), pieces);
        let running = async move { tokio::join!(tools.run(&call, told), telling).0 };
        let mut task = shared.tasks.spawn(running.instrument(span));
        let ended = tokio::select! {
            ended = &mut task => ended,
            () = context.ct.cancelled() => {
                cancel.cancel();
                task.await
            }
        };
        drop(slot);
        ended.unwrap_or_else(|_| ToolOutcome::error("TOOL_FAILED", "the tool panicked; its effects are not known"))
    }
}

/// Passes progress on to who asked for it.
async fn tell(peer: Peer<RoleServer>, token: Option<ProgressToken>, mut pieces: mpsc::Receiver<String>) {
    let mut count = 0.0;
    while let Some(text) = pieces.recv().await {
        let Some(token) = token.clone() else { continue };
        count += 1.0;
        let _ = peer.notify_progress(ProgressNotificationParam::new(token, count).with_message(text)).await;
    }
}

impl ServerHandler for Own {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("stakpak", env!("CARGO_PKG_VERSION")))
            .with_instructions(
                "Commands and files of one machine. A call that needs a person's approval is answered with APPROVAL_REQUIRED and has done nothing.",
            )
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let specs = self.0.shared.offer.tools.specs();
        let offered = specs.iter().filter(|spec| !OF_RUNS.contains(&bare(&spec.name)));
        Ok(ListToolsResult::with_all_items(offered.map(tool).collect()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let call = ToolCall {
            id: ToolCallId(format!("mcp_{}", RunId::random().0.simple())),
            name: full_name(&request.name),
            arguments: Value::Object(request.arguments.unwrap_or_default()),
            metadata: None,
        };
        let (text, is_error) = match self.answer(call, context).await {
            ToolOutcome::Completed { result: Value::String(text), is_error } => (text, is_error),
            ToolOutcome::Completed { result, is_error } => (result.to_string(), is_error),
            ToolOutcome::Cancelled => ("TOOL_CALL_CANCELLED".to_owned(), true),
        };
        let content = vec![ContentBlock::text(text)];
        Ok(if is_error { CallToolResult::error(content) } else { CallToolResult::success(content) }.into())
    }
}

fn tool(spec: &ToolSpec) -> Tool {
    let schema: JsonObject = spec.input_schema.as_object().cloned().unwrap_or_default();
    Tool::new(bare(&spec.name).to_owned(), spec.description.clone(), schema)
}

fn bare(name: &str) -> &str {
    name.strip_prefix(OWN_PREFIX).unwrap_or(name)
}
