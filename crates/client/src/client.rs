//! The calls of the agent server.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use reqwest::{Method, Url};
use serde::de::DeserializeOwned;
use stakpak_protocol as wire;
use stakpak_protocol::{
    CancelRequest, Config, CreateSessionRequest, DecisionsRequest, DecisionsResponse, EventId, Message, ModelInfo,
    ModelsResponse, PostMessageRequest, Ready, Run, RunId, SessionId, ToolCallId,
};

use crate::{
    ClientError, CreateSessionOptions, EventStream, HealthResponse, MessagesResponse, PendingTools, SendMessageOptions,
    SendMessageResponse, Session, SessionList, SetupError, Timing, ToolDecisionInput,
    cursors::Cursors,
    merge::merged,
    transport::{Call, Transport},
};

/// A client of one agent server. Clones share connections and state.
#[derive(Clone)]
pub struct StakpakClient {
    transport: Result<Arc<Transport>, SetupError>,
    cursors: Arc<Mutex<Cursors>>,
    idempotency_key: Option<String>,
}

impl fmt::Debug for StakpakClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StakpakClient").field("transport", &self.transport).finish_non_exhaustive()
    }
}

impl StakpakClient {
    /// A client of the server at `base_url`, such as `http://127.0.0.1:4096`. With a blank token no `Authorization`
    /// is sent. What is wrong with either is the error of every call.
    #[must_use]
    pub fn new(base_url: impl Into<String>, token: impl Into<String>) -> Self {
        Self::with_timing(base_url, token, Timing::default())
    }

    /// A client that waits as told.
    #[must_use]
    pub fn with_timing(base_url: impl Into<String>, token: impl Into<String>, timing: Timing) -> Self {
        let transport = Transport::new(&base_url.into(), &token.into(), timing).map(Arc::new);
        Self { transport, cursors: Arc::default(), idempotency_key: None }
    }

    /// A clone whose writes carry this `Idempotency-Key`. Such a write happens once, however often it is sent, and is
    /// repeated by itself when the server cannot be reached or asks to wait.
    #[must_use]
    pub fn with_idempotency_key(&self, key: impl Into<String>) -> Self {
        Self { idempotency_key: Some(key.into()), ..self.clone() }
    }

    /// Whether the server is alive; needs no token.
    pub async fn health(&self) -> Result<HealthResponse, ClientError> {
        self.get("health").await
    }

    /// Whether the server can do its work now, part by part; needs no token. Asked once: a server that is not ready answers,
    /// too.
    pub async fn ready(&self) -> Result<Ready, ClientError> {
        self.transport()?.ready().await
    }

    /// A new session in the server's directory.
    pub async fn create_session(&self, title: &str) -> Result<Session, ClientError> {
        self.create_session_with(CreateSessionOptions { title: title.to_owned(), cwd: None }).await
    }

    /// A new session.
    pub async fn create_session_with(&self, options: CreateSessionOptions) -> Result<Session, ClientError> {
        let CreateSessionOptions { title, cwd } = options;
        let call = self.post("sessions").json(&CreateSessionRequest { title, cwd })?;
        self.transport()?.call::<wire::Session>(&call).await.map(Session::from)
    }

    /// One session.
    pub async fn get_session(&self, id: &str) -> Result<Session, ClientError> {
        let detail: wire::SessionDetail = self.get(format!("sessions/{}", session_id(id)?)).await?;
        Ok(detail.session.into())
    }

    /// The newest 100 sessions.
    pub async fn list_sessions(&self) -> Result<SessionList, ClientError> {
        self.get::<wire::SessionList>("sessions").await.map(SessionList::from)
    }

    /// One page of the sessions, newest first, and where the next one begins; none: this was the last. `page` is what the
    /// page before gave.
    pub async fn list_sessions_page(&self, page: Option<&str>) -> Result<(Vec<Session>, Option<String>), ClientError> {
        let mut call = Call::get("sessions");
        if let Some(page) = page {
            call = call.query("page", page);
        }
        let wire::SessionList { sessions, total: _, next } = self.transport()?.call(&call).await?;
        Ok((sessions.into_iter().map(Session::from).collect(), next))
    }

    /// Ends the session's run and deletes the session.
    pub async fn delete_session(&self, id: &str) -> Result<(), ClientError> {
        let call = self.write(Method::DELETE, format!("sessions/{}", session_id(id)?));
        self.transport()?.call_for_effect(&call).await
    }

    /// Sends user messages; several become the parts of one, in order. On return they are durable, and their run
    /// goes on by itself.
    pub async fn send_messages(
        &self,
        id: &str,
        messages: Vec<Message>,
        options: SendMessageOptions,
    ) -> Result<SendMessageResponse, ClientError> {
        let session = session_id(id)?;
        let SendMessageOptions {
            model,
            message_type,
            run_id: run,
            sandbox,
            context,
            overrides,
            notify_route,
            interactive,
        } = options;
        let body = PostMessageRequest {
            message: merged(messages)?,
            message_type: Some(message_type),
            run_id: run.as_deref().map(run_id).transpose()?,
            model,
            sandbox,
            context: Some(context).filter(|context| !context.is_empty()),
            overrides,
            notify_route,
            interactive: interactive.then_some(true),
        };
        let call = self.post(format!("sessions/{session}/messages")).json(&body)?;
        let response: wire::PostMessageResponse = self.transport()?.call(&call).await?;
        self.cursors().remember(session, response.cursor);
        Ok(response.into())
    }

    /// One page of the session's history, counted from the oldest message.
    pub async fn get_messages(&self, id: &str, limit: usize, offset: usize) -> Result<MessagesResponse, ClientError> {
        let call = Call::get(format!("sessions/{}/messages", session_id(id)?)).page(limit, offset);
        self.transport()?.call::<wire::MessagesResponse>(&call).await.map(MessagesResponse::from)
    }

    /// The session's events behind `after`. Without a cursor: from this client's last message to the session, if no
    /// subscription has used it yet; else what happens from now on.
    pub async fn subscribe_events(&self, id: &str, after: Option<u64>) -> Result<EventStream, ClientError> {
        let session = session_id(id)?;
        let transport = self.transport()?;
        if let Some(after) = after {
            return EventStream::open(Arc::clone(transport), session, EventId(after)).await;
        }
        let posted = self.cursors().get(session);
        let cursor = match posted {
            Some(cursor) => cursor,
            // An explicit cursor even for "from now on": a cut before the first event would else leave a hole.
            None => EventId(self.get_session(id).await?.last_event_id),
        };
        let stream = EventStream::open(Arc::clone(transport), session, cursor).await?;
        self.cursors().used(session, cursor);
        Ok(stream)
    }

    /// Calls that wait for a person.
    pub async fn pending_tools(&self, id: &str) -> Result<PendingTools, ClientError> {
        let path = format!("sessions/{}/tools/pending", session_id(id)?);
        self.get::<wire::PendingToolsResponse>(path).await.map(PendingTools::from)
    }

    /// Decides calls of a run, by call id.
    pub async fn resolve_tools(
        &self,
        id: &str,
        run: &str,
        decisions: HashMap<String, ToolDecisionInput>,
    ) -> Result<DecisionsResponse, ClientError> {
        let decisions = decisions.into_iter().map(|(call, decision)| (ToolCallId(call), decision.into())).collect();
        self.resolve_tool_calls(id, &DecisionsRequest { run_id: run_id(run)?, decisions }).await
    }

    /// Decides calls of a run, with scope and the person's name.
    pub async fn resolve_tool_calls(
        &self,
        id: &str,
        request: &DecisionsRequest,
    ) -> Result<DecisionsResponse, ClientError> {
        let call = self.post(format!("sessions/{}/tools/decisions", session_id(id)?)).json(request)?;
        self.transport()?.call(&call).await
    }

    /// Requests the end of a run; its terminal event follows.
    pub async fn cancel_run(&self, id: &str, run: &str) -> Result<(), ClientError> {
        let path = format!("sessions/{}/cancel", session_id(id)?);
        let call = self.post(path).json(&CancelRequest { run_id: run_id(run)? })?;
        self.transport()?.call_for_effect(&call).await
    }

    /// One run, also long after its end.
    pub async fn get_run(&self, id: &str, run: &str) -> Result<Run, ClientError> {
        self.get(format!("sessions/{}/runs/{}", session_id(id)?, run_id(run)?)).await
    }

    /// The model catalogue.
    pub async fn models(&self) -> Result<Vec<ModelInfo>, ClientError> {
        self.get::<ModelsResponse>("models").await.map(|answer| answer.models)
    }

    /// The server's configuration as clients see it.
    pub async fn config(&self) -> Result<Config, ClientError> {
        self.get("config").await
    }

    async fn get<T: DeserializeOwned>(&self, path: impl Into<String>) -> Result<T, ClientError> {
        self.transport()?.call(&Call::get(path)).await
    }

    /// `GET /v1/schedules`: each with its state, its next run and its last one.
    pub async fn schedules(&self) -> Result<Vec<serde_json::Value>, ClientError> {
        let mut answer: serde_json::Value = self.get("schedules").await?;
        Ok(serde_json::from_value(answer["schedules"].take()).unwrap_or_default())
    }

    /// `POST /v1/schedules/{name}/trigger`: starts a scheduled run now; the run as the scheduler's history shows it.
    pub async fn trigger_schedule(&self, name: &str) -> Result<serde_json::Value, ClientError> {
        self.act_on_schedule(name, "trigger").await
    }

    /// The same beside a run that is active (`force`), or without the check.
    pub async fn trigger_schedule_with(
        &self,
        name: &str,
        force: bool,
        no_check: bool,
    ) -> Result<serde_json::Value, ClientError> {
        let call = self.of_schedule(name, "trigger")?;
        self.transport()?.call(&call.json(&serde_json::json!({ "force": force, "no_check": no_check }))?).await
    }

    /// `POST /v1/schedules/{name}/backfill`: runs of instants that have passed.
    pub async fn backfill_schedule(
        &self,
        name: &str,
        request: &serde_json::Value,
    ) -> Result<serde_json::Value, ClientError> {
        self.transport()?.call(&self.of_schedule(name, "backfill")?.json(request)?).await
    }

    /// `POST /v1/schedules/{name}/pause`: it does not fire until it is resumed.
    pub async fn pause_schedule(&self, name: &str) -> Result<(), ClientError> {
        self.act_on_schedule(name, "pause").await.map(drop)
    }

    /// `POST /v1/schedules/{name}/resume`: it fires again, from now on.
    pub async fn resume_schedule(&self, name: &str) -> Result<(), ClientError> {
        self.act_on_schedule(name, "resume").await.map(drop)
    }

    /// `POST /v1/schedule-runs/{id}/resume`: decides about the calls that a paused run waits with.
    pub async fn resume_schedule_run(
        &self,
        id: i64,
        decide: &serde_json::Value,
    ) -> Result<serde_json::Value, ClientError> {
        self.transport()?.call(&self.post(format!("schedule-runs/{id}/resume")).json(decide)?).await
    }

    /// `POST /v1/schedule-runs/{id}/cancel`: ends a run; one at work ends later.
    pub async fn cancel_schedule_run(&self, id: i64) -> Result<serde_json::Value, ClientError> {
        self.transport()?.call(&self.post(format!("schedule-runs/{id}/cancel"))).await
    }

    async fn act_on_schedule(&self, name: &str, act: &str) -> Result<serde_json::Value, ClientError> {
        self.transport()?.call(&self.of_schedule(name, act)?).await
    }

    fn of_schedule(&self, name: &str, act: &str) -> Result<Call<'_>, ClientError> {
        let mut path = Url::parse("http://path/schedules").map_err(|_| ClientError::InvalidArgument("the name"))?;
        let mut segments = path.path_segments_mut().map_err(|()| ClientError::InvalidArgument("the name"))?;
        segments.extend([name, act]);
        drop(segments);
        Ok(self.post(path.path().trim_start_matches('/')))
    }

    pub(crate) fn post(&self, path: impl Into<String>) -> Call<'_> {
        self.write(Method::POST, path)
    }

    fn write(&self, method: Method, path: impl Into<String>) -> Call<'_> {
        Call::write(method, path, self.idempotency_key.as_deref())
    }

    pub(crate) fn transport(&self) -> Result<&Arc<Transport>, ClientError> {
        self.transport.as_ref().map_err(|error| ClientError::Setup(*error))
    }

    fn cursors(&self) -> MutexGuard<'_, Cursors> {
        self.cursors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn session_id(id: &str) -> Result<SessionId, ClientError> {
    id.parse().map_err(|_| ClientError::InvalidArgument("the session id is not a uuid"))
}

fn run_id(id: &str) -> Result<RunId, ClientError> {
    id.parse().map_err(|_| ClientError::InvalidArgument("the run id is not a uuid"))
}
