//! Sessions that are being driven. A session without work has no entry and costs nothing.
//!
//! Each live session is one task that owns its driver; requests reach it over a channel. A driver that fails or panics is
//! started again from the journal, and its run ends with the reason: no session stays stuck.

use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::FutureExt;
use stakpak_agent_core::{
    Agent, Job, JournalError, Receipt, RequestError, Resident, Start, run_agent,
    session::{CallStatus, Reply, Request, Session},
};
use stakpak_protocol::{ErrorCode, LastErrorCode, SessionId, SessionStatus, ToolCallId};
use tokio::sync::{mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Span;

use crate::{ApiError, error::RETRY_AFTER_SHUTDOWN_S, resident::Residents};

/// Requests waiting for one session. Each is answered in one append, so a handler waits for as many appends at most.
const WAITING_REQUESTS: usize = 32;

/// Waits between attempts to go on when the journal cannot be written.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Tasks that may end under one request. More than a task that ended just then means that the request itself ends them.
const MOST_LOST_REPLIES: u32 = 3;

type Live = HashMap<SessionId, mpsc::Sender<Job>>;

pub(crate) struct LiveSessions {
    agent: Arc<Agent>,
    live: Arc<Mutex<Live>>,
    residents: Arc<Residents>,
    tasks: TaskTracker,
    /// Requests that wait for their answer.
    requests: TaskTracker,
    stop: CancellationToken,
    draining: CancellationToken,
}

/// Makes the receipt of a reply. Called again if the session's task ended before it took the request.
pub(crate) type MakeReceipt = Arc<dyn Fn(&Reply) -> Option<Receipt> + Send + Sync>;

impl LiveSessions {
    pub(crate) fn new(agent: Arc<Agent>, idle_after: Duration, stop: CancellationToken) -> Self {
        let draining = CancellationToken::new();
        let (tasks, requests) = (TaskTracker::new(), TaskTracker::new());
        let residents = Arc::new(Residents::new(idle_after));
        Self { agent, live: Arc::default(), residents, tasks, requests, stop, draining }
    }

    /// Asks a session; answered once the effect is durable.
    pub(crate) async fn request(
        &self,
        session: SessionId,
        request: Request,
        make_receipt: MakeReceipt,
    ) -> Result<Reply, ApiError> {
        let _unanswered = self.requests.token();
        let mut lost_replies = 0;
        while !self.draining.is_cancelled() {
            let (reply, answer) = oneshot::channel();
            let make_receipt = Arc::clone(&make_receipt);
            let receipt = Box::new(move |reply: &Reply| make_receipt(reply));
            let job = Job { request: request.clone(), receipt, reply, span: Span::current() };
            // A task that has just ended takes no request; the next round starts a new one.
            if self.sender(session, Start::Requests).send(job).await.is_ok() {
                match answer.await {
                    Ok(answer) => return answer.map_err(ApiError::from),
                    Err(_) => lost_replies += 1,
                }
            }
            if lost_replies > MOST_LOST_REPLIES {
                return Err(ApiError::unexpected_reply());
            }
        }
        Err(match lost_replies {
            0 => ApiError::shutting_down(),
            _ => ApiError::new(
                ErrorCode::ShuttingDown,
                "the server is shutting down; repeat the request with the same Idempotency-Key to learn what became of it",
            )
            .retry_after(RETRY_AFTER_SHUTDOWN_S),
        })
    }

    /// Goes on with a run that an earlier process left.
    pub(crate) fn recover(&self, session: SessionId) {
        drop(self.sender(session, Start::Recover));
    }

    pub(crate) fn count(&self) -> usize {
        lock(&self.live).len()
    }

    /// Takes no more requests and grants no more slots; waits, `budget` at most, until what was asked is answered and no run
    /// works. Runs that are queued or wait for a person are not waited for.
    pub(crate) async fn drain(&self, budget: Duration) {
        self.draining.cancel();
        self.requests.close();
        self.agent.slots.close();
        let at_rest = async { tokio::join!(self.requests.wait(), self.agent.slots.idle()) };
        if tokio::time::timeout(budget, at_rest).await.is_err() {
            tracing::info!(runs = self.count(), "runs go on at the next start");
        }
    }

    /// Whether writes are refused.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    pub(crate) async fn stopped(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn sender(&self, session: SessionId, start: Start) -> mpsc::Sender<Job> {
        let mut live = lock(&self.live);
        if let Some(sender) = live.get(&session).filter(|sender| !sender.is_closed()) {
            return sender.clone();
        }
        let (sender, jobs) = mpsc::channel(WAITING_REQUESTS);
        live.insert(session, sender.clone());
        let (agent, live, residents) = (Arc::clone(&self.agent), Arc::clone(&self.live), Arc::clone(&self.residents));
        let task = Task { agent, live, residents, session, jobs };
        let stop = self.stop.clone();
        self.tasks.spawn(async move { stop.run_until_cancelled(Box::pin(task.run(start))).await });
        sender
    }
}

fn lock(live: &Mutex<Live>) -> MutexGuard<'_, Live> {
    live.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Task {
    agent: Arc<Agent>,
    live: Arc<Mutex<Live>>,
    residents: Arc<Residents>,
    session: SessionId,
    jobs: mpsc::Receiver<Job>,
}

impl Task {
    async fn run(mut self, mut start: Start) {
        let mut pause = FIRST_PAUSE;
        loop {
            let driven = AssertUnwindSafe(self.drive(start)).catch_unwind().await;
            start = match driven {
                Ok(Ok(resident)) => {
                    // Before the map is left: whoever drives the session next finds it.
                    self.residents.put(resident);
                    if self.retire() {
                        return;
                    }
                    pause = FIRST_PAUSE;
                    Start::Requests
                }
                Ok(Err(JournalError::StaleEpoch { .. })) => return,
                Ok(Err(error)) => {
                    if let JournalError::Elsewhere { owner, .. } = &error {
                        tracing::info!(session_id = %self.session, owner, "left to its owner");
                        return self.refuse_all(&error);
                    }
                    if matches!(error, JournalError::Damaged { .. } | JournalError::UnknownSession(_)) {
                        return self.refuse_all(&error);
                    }
                    self.refuse_for(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    let message = "the journal could not be written".to_owned();
                    Start::Fail { code: LastErrorCode::StorageUnavailable, message }
                }
                Err(_panic) => {
                    self.refuse_for(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    let message = "internal error: the session's driver panicked".to_owned();
                    Start::Fail { code: LastErrorCode::InternalError, message }
                }
            };
        }
    }

    async fn drive(&mut self, start: Start) -> Result<Resident, JournalError> {
        let session = match self.residents.take(self.session) {
            Some(resident) => resident,
            None => {
                let journal = self.agent.journal.as_ref();
                journal.claim(self.session).await?;
                Resident::open(journal, self.session).await.inspect_err(|error| self.tell(error))?
            }
        };
        // A run that nobody drives was left by another owner: its effects are settled before anything is started.
        let start = if start == Start::Requests && session.is_active() { Start::Recover } else { start };
        run_agent(&self.agent, session, start, &mut self.jobs).await
    }

    fn tell(&self, error: &JournalError) {
        let error = error as &dyn std::error::Error;
        tracing::error!(session_id = %self.session, error, "session cannot be read");
    }

    /// Leaves the map, unless a request came meanwhile.
    fn retire(&mut self) -> bool {
        let mut live = lock(&self.live);
        let idle = self.jobs.is_empty();
        if idle {
            live.remove(&self.session);
            self.jobs.close();
        }
        idle
    }

    /// Answers requests that come while the session cannot go on.
    async fn refuse_for(&mut self, pause: Duration) {
        let refuse = async {
            while let Some(job) = self.jobs.recv().await {
                let error = JournalError::Storage("the session cannot go on at the moment".into());
                let _ = job.reply.send(Err(RequestError::Journal(error)));
            }
        };
        if tokio::time::timeout(pause, refuse).await.is_ok() {
            tokio::time::sleep(pause).await;
        }
    }

    fn refuse_all(mut self, error: &JournalError) {
        lock(&self.live).remove(&self.session);
        self.jobs.close();
        while let Ok(job) = self.jobs.try_recv() {
            let error = match error {
                JournalError::Damaged { session, seq } => JournalError::Damaged { session: *session, seq: *seq },
                JournalError::Elsewhere { session, owner } => {
                    JournalError::Elsewhere { session: *session, owner: owner.clone() }
                }
                _ => JournalError::UnknownSession(self.session),
            };
            let _ = job.reply.send(Err(RequestError::Journal(error)));
        }
    }
}

/// Ends processes of calls that nobody waits for: the process that was ending them, after a cancel or behind the result, died.
/// A call that still runs in an open run is left to its session, which tells what it ended.
pub(crate) async fn end_strays(agent: &Agent) -> Result<(), JournalError> {
    let mut strays = Vec::new();
    for (id, call) in agent.tools.orphans().await {
        match agent.journal.claim(id).await {
            Ok(()) | Err(JournalError::UnknownSession(_)) => {}
            Err(JournalError::Elsewhere { .. }) => continue,
            Err(error) => return Err(error),
        }
        match Resident::open(agent.journal.as_ref(), id).await {
            Ok(resident) if is_running(resident.session(), &call) => {}
            Ok(_) | Err(JournalError::Damaged { .. }) => strays.push((id, call)),
            // Another installation's.
            Err(JournalError::UnknownSession(_)) => {}
            Err(error) => return Err(error),
        }
    }
    let ends = strays.iter().map(|(session, call)| async move {
        let processes = agent.tools.end_orphans(*session, call).await;
        tracing::info!(session_id = %session, %call, processes, "processes of an earlier call ended");
    });
    futures_util::future::join_all(ends).await;
    Ok(())
}

/// Ends what deleted sessions still have running: the process that deleted one died before it could.
pub(crate) async fn end_lingering(agent: &Agent) -> Result<(), JournalError> {
    for id in agent.tools.lingering().await {
        let is_deleted =
            agent.journal.session(id).await?.is_some_and(|session| session.status == SessionStatus::Deleted);
        if is_deleted && let Err(error) = agent.tools.end_session(id).await {
            tracing::warn!(session_id = %id, %error, "tasks of a deleted session do not end");
        }
    }
    Ok(())
}

fn is_running(session: &Session, call: &ToolCallId) -> bool {
    let call = session.active().and_then(|run| run.call(call));
    call.is_some_and(|call| matches!(call.status, CallStatus::Running { .. }))
}
