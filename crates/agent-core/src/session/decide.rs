//! Requests of clients: each is answered, and none can fail a run.

use std::collections::BTreeMap;

use stakpak_protocol::{
    DecidedBy, DecisionOutcome, DecisionsResponse, Event, EventId, Message, MessageType, PostMessageResponse, RunId,
    SessionStatus, StopReason, ToolCallId, ToolDecision, ToolDecisionAction, Visibility,
};

use super::{CallStatus, Outcome, Rules, Session, Transition, end::Ending};
use crate::{CallEnd, ModelTerms, Record, RunAccepted, SessionRow, ToolCall};

/// What a client asks of a session.
#[derive(Debug, Clone)]
pub enum Request {
    /// Start a run with this message.
    Post {
        /// The run it expects to be active, if any.
        run_id: Option<RunId>,
        /// The run to start.
        accepted: Box<RunAccepted>,
        /// The user's message.
        message: Message,
    },
    /// Give the active run a steering or follow-up.
    Queue {
        /// The run.
        run_id: Option<RunId>,
        /// Which of the two.
        kind: MessageType,
        /// What it says.
        message: Message,
    },
    /// Decide about calls.
    Decide {
        /// The run.
        run_id: RunId,
        /// By call.
        decisions: BTreeMap<ToolCallId, ToolDecision>,
        /// Who decides, where a decision names nobody.
        by: String,
    },
    /// End the run.
    Cancel {
        /// The run.
        run_id: RunId,
    },
    /// Ask another model from the next request on, in this run and in later ones.
    SwitchModel {
        /// The run.
        run_id: RunId,
        /// `provider/id`, known to exist.
        model: String,
        /// What the run's limits need to know of it.
        terms: ModelTerms,
    },
    /// Change what people see of the session; what is absent stays.
    Change {
        /// The new title.
        title: Option<String>,
        /// Who may see it.
        visibility: Option<Visibility>,
    },
    /// End the run and delete the session. Deleting again changes nothing.
    Delete,
}

/// The answer to a request that was not refused.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// The message is accepted.
    Posted(PostMessageResponse),
    /// The decisions are judged.
    Decided(DecisionsResponse),
    /// The run has ended.
    Cancelled(RunId),
    /// The model is switched.
    Switched {
        /// The run.
        run_id: RunId,
        /// `provider/id`.
        model: String,
    },
    /// The session is as asked for.
    Changed(Box<SessionRow>),
    /// The session is deleted and has no run.
    Deleted,
}

/// Why a request was refused: nothing was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// One run a session at a time.
    #[error("run {0} is active in this session; wait for its end or cancel it")]
    AlreadyRunning(RunId),
    /// There is no active run.
    #[error("no run is active in this session")]
    NotRunning,
    /// Another run is active, or none was named.
    #[error("the request names another run than the active one")]
    RunMismatch,
    /// Too many commands wait.
    #[error("{0} commands wait to be read by this run; send more when it has read some")]
    QueueFull(usize),
    /// A deleted session takes no writes.
    #[error("the session was deleted")]
    Deleted,
}

impl Session {
    /// Answers a request and goes on from there.
    ///
    /// # Errors
    /// The refusal; the session is unchanged.
    pub fn handle(&mut self, request: Request, rules: &Rules<'_>) -> Result<(Reply, Outcome), Refusal> {
        if self.row.status == SessionStatus::Deleted && !matches!(request, Request::Delete) {
            return Err(Refusal::Deleted);
        }
        let mut transition = Transition::new(self, rules);
        let reply = match request {
            Request::Post { run_id, accepted, message } => transition.post(run_id, *accepted, message)?,
            Request::Queue { run_id, kind, message } => transition.queue(run_id, kind, message)?,
            Request::Decide { run_id, decisions, by } => transition.decide(run_id, &decisions, &by)?,
            Request::Cancel { run_id } => transition.cancel(run_id)?,
            Request::SwitchModel { run_id, model, terms } => transition.switch_model(run_id, model, terms)?,
            Request::Change { title, visibility } => transition.change(title, visibility),
            Request::Delete => transition.delete(),
        };
        transition.advance();
        Ok((reply, transition.outcome))
    }
}

impl Transition<'_> {
    fn post(&mut self, run_id: Option<RunId>, mut accepted: RunAccepted, message: Message) -> Result<Reply, Refusal> {
        if let Some(active) = self.session.active() {
            let active = active.accepted.run_id;
            return Err(match run_id {
                Some(named) if named != active => Refusal::RunMismatch,
                _ => Refusal::AlreadyRunning(active),
            });
        }
        if let Some(last) = &self.session.run {
            accepted.context = last.context.clone();
        }
        let run_id = accepted.run_id;
        let cursor = self.session.row.last_event_id;
        self.session.row.run_first_seq = self.session.row.last_seq + 1;
        self.event(Event::RunStarted { run_id });
        self.record(&Record::RunAccepted(accepted));
        self.record(&Record::UserMessage { message, command: None });
        Ok(posted(run_id, cursor))
    }

    fn queue(&mut self, run_id: Option<RunId>, kind: MessageType, message: Message) -> Result<Reply, Refusal> {
        let run_id = match run_id {
            Some(run_id) => self.expect_active(run_id)?,
            None => return Err(Refusal::RunMismatch),
        };
        let (waiting, last_id) = self.session.active().map_or((0, 0), |run| (run.queued.len(), run.commands));
        if waiting >= self.rules.queued_commands {
            return Err(Refusal::QueueFull(waiting));
        }
        let cursor = self.session.row.last_event_id;
        let id = last_id + 1;
        self.record(&Record::CommandQueued { id, kind, message });
        Ok(posted(run_id, cursor))
    }

    fn cancel(&mut self, run_id: RunId) -> Result<Reply, Refusal> {
        self.expect_active(run_id)?;
        self.end(Ending::Stopped(StopReason::Cancelled));
        Ok(Reply::Cancelled(run_id))
    }

    fn switch_model(&mut self, run_id: RunId, model: String, terms: ModelTerms) -> Result<Reply, Refusal> {
        self.expect_active(run_id)?;
        self.record(&Record::ModelSwitched { model: model.clone(), terms, stands_in: false });
        Ok(Reply::Switched { run_id, model })
    }

    /// A change that names nothing leaves no trace.
    fn change(&mut self, title: Option<String>, visibility: Option<Visibility>) -> Reply {
        if title.is_some() || visibility.is_some() {
            self.record(&Record::SessionChanged { title, visibility, at: self.rules.now });
        }
        Reply::Changed(Box::new(self.session.row.clone()))
    }

    fn delete(&mut self) -> Reply {
        if self.session.row.status != SessionStatus::Deleted {
            self.end(Ending::Stopped(StopReason::Cancelled));
            self.record(&Record::SessionDeleted { at: self.rules.now });
        }
        Reply::Deleted
    }

    fn expect_active(&self, run_id: RunId) -> Result<RunId, Refusal> {
        match self.session.active() {
            None => Err(Refusal::NotRunning),
            Some(run) if run.accepted.run_id == run_id => Ok(run_id),
            Some(_) => Err(Refusal::RunMismatch),
        }
    }

    fn decide(
        &mut self,
        run_id: RunId,
        decisions: &BTreeMap<ToolCallId, ToolDecision>,
        by: &str,
    ) -> Result<Reply, Refusal> {
        if let Err(refusal) = self.expect_active(run_id) {
            self.expect_decided_before(run_id, decisions).map_err(|()| refusal)?;
        }
        self.expire_calls();
        let mut response =
            DecisionsResponse { accepted: true, run_id, results: BTreeMap::new(), decided: BTreeMap::new() };
        for (id, decision) in decisions {
            let fate = self.session.run.as_ref().and_then(|run| run.fate(id));
            let outcome = fate.map_or(DecisionOutcome::Unknown, |fate| fate.judge(decision));
            if let Some(decided) = fate.and_then(|fate| fate.decided.cloned()) {
                response.decided.insert(id.clone(), decided);
            }
            if outcome == DecisionOutcome::Applied {
                self.apply(id, decision, by);
            }
            response.results.insert(id.clone(), outcome);
        }
        Ok(Reply::Decided(response))
    }

    /// A run that has ended still answers for calls that were decided before.
    fn expect_decided_before(&self, run_id: RunId, decisions: &BTreeMap<ToolCallId, ToolDecision>) -> Result<(), ()> {
        let ended = self.session.run.as_ref().filter(|run| run.is_ended() && run.accepted.run_id == run_id).ok_or(())?;
        let all = decisions.keys().all(|id| ended.fate(id).is_some_and(super::Fate::was_decided));
        if all { Ok(()) } else { Err(()) }
    }

    fn apply(&mut self, id: &ToolCallId, decision: &ToolDecision, by: &str) {
        let by = decision.by.clone().unwrap_or_else(|| by.to_owned());
        let decided = DecidedBy { action: decision.action, by, at: self.rules.now };
        self.record(&Record::Decided { call_id: id.clone(), decision: decided });
        match decision.action {
            ToolDecisionAction::Accept => {}
            ToolDecisionAction::Reject => {
                let text = match decision.content.as_deref().map(str::trim) {
                    None | Some("") => "Tool call rejected by user".to_owned(),
                    Some(reason) => format!("Tool call rejected by user: {reason}"),
                };
                self.reject(id, text.clone().into(), &text, CallEnd::Rejected);
            }
            ToolDecisionAction::CustomResult => {
                let content = decision.content.clone().unwrap_or_default();
                self.complete(id, content.into(), false, CallEnd::Answered);
            }
        }
    }

    /// Calls whose deadline has passed become rejects.
    pub(super) fn expire_calls(&mut self) {
        let now = self.rules.now;
        let expired: Vec<ToolCall> = self
            .session
            .run
            .iter()
            .flat_map(|run| run.calls.iter())
            .filter(|call| call.status == CallStatus::Waiting && call.resolved.deadline <= now)
            .map(|call| call.resolved.call.clone())
            .collect();
        for call in expired {
            let id = call.id.clone();
            if self.rules.tools.asks_person(&call) {
                let nothing = self.rules.tools.unanswered(&call);
                self.complete(&id, nothing.into(), false, CallEnd::Answered);
                continue;
            }
            let text = "Tool call rejected: no decision in time; ask again when somebody can answer";
            self.reject(&id, text.into(), text, CallEnd::Rejected);
        }
    }
}

fn posted(run_id: RunId, cursor: EventId) -> Reply {
    Reply::Posted(PostMessageResponse { run_id, cursor, ignored: Vec::new() })
}
