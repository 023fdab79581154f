//! One call of a server's tool: sent once, waited for as long as it gives signs of life, cancelled when it is not wanted.
//!
//! A server may answer with a task, which is asked about until it is done, or with questions, which are declined.

use std::time::Duration;

use rmcp::{
    model::{
        CallToolRequest, CallToolRequestParams, CallToolResult, CancelTaskParams, CancelTaskRequest, ClientRequest,
        ErrorData, GetTaskParams, GetTaskRequest, InputRequest, InputRequiredResult, JsonObject,
        ProgressNotificationParam, RequestMetaObject, ServerResult, Task, TaskPayload,
    },
    service::{PeerRequestOptions, ServiceError},
    transport::streamable_http_client::StreamableHttpError,
};
use serde_json::{Value, json};
use stakpak_agent_core::{ToolCall, ToolContext};
use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    catalogue::Offered,
    oversize::TOO_LARGE,
    result::{self, Answer},
    server::{Live, Server},
};

/// Between pieces of progress that are passed on.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);
const PROGRESS_BYTES: usize = 4 * 1024;
/// Between questions about a task, whatever the server would like.
const SHORTEST_POLL: Duration = Duration::from_millis(100);
const POLL: Duration = Duration::from_secs(1);
const LONGEST_POLL: Duration = Duration::from_secs(30);
/// How often a server may ask before its call is given up.
const ROUNDS: usize = 10;

/// What became of a call.
pub(crate) enum Called {
    /// It has an answer, neither redacted nor cut.
    Ended {
        answer: Answer,
        is_error: bool,
    },
    Cancelled,
}

impl Called {
    fn error(code: &str, message: &str) -> Self {
        Self::Ended { answer: Answer::from(format!("{code}\n{message}")), is_error: true }
    }
}

/// How a request came to its end.
enum Ended {
    Answered(Box<Result<ServerResult, ServiceError>>),
    Silent(Duration),
    TooLong(Duration),
    Cancelled,
    /// By the server, as a task.
    Withdrawn,
    /// It wants something of a person.
    Asks,
}

/// Runs the call with these arguments, in which secrets are restored.
pub(crate) async fn call(
    server: &Server,
    tool: &Offered,
    call: &ToolCall,
    arguments: Value,
    context: &ToolContext,
) -> Called {
    let live = tokio::select! {
        live = server.live() => live,
        () = context.cancel.cancelled() => return Called::Cancelled,
    };
    let name = &server.settings.name;
    let live = match live {
        Ok(live) => live,
        Err(state) => {
            let state_is = state.describe();
            let message = format!(
                "The tool server `{name}` is not there ({state_is}). Nothing was called; go on without it, or try later."
            );
            return Called::error(state.code(), &message);
        }
    };
    let longest = server.settings.max_timeout;
    let conversation =
        Conversation { server, live: &live, context, meta: meta(call, context), end: Instant::now() + longest };
    let arguments = arguments.as_object().cloned().unwrap_or_default();
    let params = CallToolRequestParams::new(tool.original.clone()).with_arguments(arguments);
    match conversation.call(params).await {
        Ok(ended) => outcome(name, ended),
        Err(error) => failure(name, &error),
    }
}

/// All requests of one call.
struct Conversation<'a> {
    server: &'a Server,
    live: &'a Live,
    context: &'a ToolContext,
    meta: RequestMetaObject,
    end: Instant,
}

impl Conversation<'_> {
    async fn call(&self, params: CallToolRequestParams) -> Result<Ended, ServiceError> {
        let mut asked = params.clone();
        for _ in 0..ROUNDS {
            let ended = self.request(ClientRequest::CallToolRequest(CallToolRequest::new(asked))).await?;
            let Ended::Answered(answer) = ended else { return Ok(ended) };
            match *answer {
                Ok(ServerResult::CreateTaskResult(created)) => return self.follow(created.task).await,
                Ok(ServerResult::InputRequiredResult(questions)) => match declined(&params, questions) {
                    Some(again) => asked = again,
                    None => return Ok(Ended::Asks),
                },
                answer => return Ok(Ended::Answered(Box::new(answer))),
            }
        }
        Ok(Ended::Asks)
    }

    /// Waits for the answer of one request.
    async fn request(&self, request: ClientRequest) -> Result<Ended, ServiceError> {
        let options = PeerRequestOptions::no_options().with_meta(self.meta.clone());
        let mut handle = self.live.peer.send_request_with_option(request, options).await?;
        let mut progress = self.live.handler.progress_of(handle.progress_token.clone());
        let silence = self.server.settings.timeout;
        let mut silent_at = Instant::now() + silence;
        let mut told = None;
        let ended = loop {
            tokio::select! {
                answer = &mut handle.rx => break Ended::Answered(Box::new(answer.unwrap_or(Err(ServiceError::TransportClosed)))),
                () = self.context.cancel.cancelled() => break Ended::Cancelled,
                () = sleep_until(self.end) => break Ended::TooLong(self.server.settings.max_timeout),
                () = sleep_until(silent_at) => break Ended::Silent(silence),
                Some(piece) = progress.pieces.recv() => {
                    silent_at = Instant::now() + silence;
                    if told.is_none_or(|told: Instant| told.elapsed() >= PROGRESS_EVERY) {
                        told = Some(Instant::now());
                        self.tell(&shown(&piece));
                    }
                }
            }
        };
        let reason = match &ended {
            Ended::Cancelled => "it is not wanted any more",
            Ended::Silent(_) | Ended::TooLong(_) => "it took too long",
            Ended::Answered(_) | Ended::Withdrawn | Ended::Asks => return Ok(ended),
        };
        // A server that does not read must not hold up the answer.
        tokio::spawn(async move { handle.cancel(Some(reason.to_owned())).await });
        Ok(ended)
    }

    /// Asks about a task until it has ended.
    async fn follow(&self, mut task: Task) -> Result<Ended, ServiceError> {
        let mut told = None;
        loop {
            let wait = task.poll_interval_ms.map_or(POLL, Duration::from_millis).clamp(SHORTEST_POLL, LONGEST_POLL);
            let given_up = tokio::select! {
                () = sleep(wait) => None,
                () = self.context.cancel.cancelled() => Some(Ended::Cancelled),
                () = sleep_until(self.end) => Some(Ended::TooLong(self.server.settings.max_timeout)),
            };
            let request = ClientRequest::GetTaskRequest(GetTaskRequest::new(GetTaskParams::new(&task.task_id)));
            let ended = match given_up {
                Some(ended) => ended,
                None => self.request(request).await?,
            };
            let Ended::Answered(answer) = ended else {
                self.withdraw(&task);
                return Ok(ended);
            };
            let now = match *answer {
                Ok(ServerResult::GetTaskResult(now)) => now.task,
                answer => return Ok(Ended::Answered(Box::new(answer))),
            };
            task = now.task;
            match now.payload {
                TaskPayload::Completed { result } => return Ok(Ended::Answered(Box::new(completed(result)))),
                TaskPayload::Failed { error } => return Ok(Ended::Answered(Box::new(Err(failed(error))))),
                TaskPayload::Cancelled => return Ok(Ended::Withdrawn),
                TaskPayload::InputRequired { .. } => {
                    self.withdraw(&task);
                    return Ok(Ended::Asks);
                }
                _ => {}
            }
            if task.status_message.is_some() && task.status_message != told {
                told.clone_from(&task.status_message);
                self.tell(&format!("{}\n", told.as_deref().unwrap_or_default()));
            }
        }
    }

    /// Tells the server that the task is not wanted; whether it heard is not waited for.
    fn withdraw(&self, task: &Task) {
        let (peer, params) = (self.live.peer.clone(), CancelTaskParams::new(&task.task_id));
        let limit = self.server.settings.timeout;
        tokio::spawn(async move {
            let request = ClientRequest::CancelTaskRequest(CancelTaskRequest::new(params));
            let _ = tokio::time::timeout(limit, peer.send_request(request)).await;
        });
    }

    fn tell(&self, text: &str) {
        let text = self.server.host.redactor.redact(text);
        let piece = text[..text.floor_char_boundary(PROGRESS_BYTES)].to_owned();
        let _ = self.context.progress.try_send(piece);
    }
}

/// The same call again, with every question declined; none if there is one that cannot be.
fn declined(params: &CallToolRequestParams, questions: InputRequiredResult) -> Option<CallToolRequestParams> {
    let asked = questions.input_requests.unwrap_or_default();
    if !asked.values().all(|question| matches!(question, InputRequest::Elicitation(_))) {
        return None;
    }
    let answers = asked.into_keys().map(|key| (key, json!({ "action": "decline" }))).collect();
    let mut again = params.clone().with_input_responses(answers);
    again.request_state = questions.request_state;
    Some(again)
}

fn completed(result: JsonObject) -> Result<ServerResult, ServiceError> {
    let result: Result<CallToolResult, _> = serde_json::from_value(Value::Object(result));
    result.map(ServerResult::CallToolResult).map_err(|_| ServiceError::UnexpectedResponse)
}

fn failed(error: JsonObject) -> ServiceError {
    let error = serde_json::from_value(Value::Object(error));
    ServiceError::McpError(error.unwrap_or_else(|_| ErrorData::internal_error("the task failed", None)))
}

fn meta(call: &ToolCall, context: &ToolContext) -> RequestMetaObject {
    let mut meta = RequestMetaObject::new();
    let ids: [(&str, Value); 3] = [
        ("session_id", json!(context.session_id)),
        ("run_id", json!(context.run_id)),
        ("tool_call_id", json!(call.id)),
    ];
    for (key, id) in ids {
        meta.0.0.insert(key.to_owned(), id);
    }
    meta
}

fn shown(piece: &ProgressNotificationParam) -> String {
    let amount = piece.total.map_or_else(|| piece.progress.to_string(), |total| format!("{}/{total}", piece.progress));
    match &piece.message {
        Some(message) => format!("{amount} {message}\n"),
        None => format!("{amount}\n"),
    }
}

fn outcome(server: &str, ended: Ended) -> Called {
    let timeout = |text: &str, limit: Duration| {
        Called::error(
            "TOOL_TIMEOUT",
            &format!(
                "The tool server `{server}` {text} {} s; the call was cancelled. What it did until then is not known: look before you call it again.",
                limit.as_secs()
            ),
        )
    };
    match ended {
        Ended::Cancelled => Called::Cancelled,
        Ended::Silent(limit) => timeout("gave no sign of life for", limit),
        Ended::TooLong(limit) => timeout("did not finish within", limit),
        Ended::Withdrawn => {
            Called::error("TOOL_FAILED", &format!("The tool server `{server}` cancelled the task of this call."))
        }
        Ended::Asks => Called::error(
            "INTERACTIVE_REQUIRED",
            &format!("The tool server `{server}` wants to ask a person, which is not possible here."),
        ),
        Ended::Answered(answer) => match *answer {
            Ok(ServerResult::CallToolResult(result)) => {
                let is_error = result.is_error.unwrap_or(false);
                Called::Ended { answer: result::answer(result), is_error }
            }
            Ok(_) => Called::error(
                "TOOL_FAILED",
                &format!("The tool server `{server}` answered something that is no result."),
            ),
            Err(error) => failure(server, &error),
        },
    }
}

fn failure(server: &str, error: &ServiceError) -> Called {
    match error {
        ServiceError::McpError(error) if error.message.starts_with(TOO_LARGE) => {
            let message = error.message.trim_start_matches(TOO_LARGE).trim_start_matches(": ");
            Called::error(TOO_LARGE, &format!("{message}. The call itself has run."))
        }
        ServiceError::McpError(error) => {
            Called::error("TOOL_FAILED", &format!("{} (code {})", error.message, error.code.0))
        }
        error if limit_passed(error).is_some() => Called::error(
            TOO_LARGE,
            &format!(
                "the server's answer has more than {} bytes; ask it for less. The call itself has run.",
                limit_passed(error).unwrap_or_default()
            ),
        ),
        error => Called::error(
            "OUTCOME_UNKNOWN",
            &format!(
                "The connection to the tool server `{server}` failed during the call ({error}). It is not repeated: look whether it has happened."
            ),
        ),
    }
}

/// Over HTTP the transport itself reads no answer beyond its limit.
fn limit_passed(error: &ServiceError) -> Option<usize> {
    let ServiceError::TransportSend(error) = error else { return None };
    match error.error.downcast_ref::<StreamableHttpError<reqwest::Error>>() {
        Some(StreamableHttpError::ResponseBodyTooLarge { max_size }) => Some(*max_size),
        _ => None,
    }
}
