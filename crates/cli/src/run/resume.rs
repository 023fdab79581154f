//! Going on with a run that waits: decisions by flags or by the person at the terminal.

use std::collections::HashMap;

use anyhow::{Result, bail};
use stakpak_client::{PendingTools, ProposedToolCall, Session, StakpakClient, ToolDecisionInput};
use uuid::Uuid;

use super::{
    Order, Started,
    ask::{Answers, by_flags},
    follow::Run,
    outcome::{Conclusion, Outcome},
    pause::{PauseFile, resume_hint},
};

/// By call.
pub(super) type Decisions = HashMap<String, ToolDecisionInput>;

/// A run with calls that wait.
pub(super) struct Waiting {
    session: Session,
    run: Uuid,
    calls: Vec<ProposedToolCall>,
}

impl Waiting {
    pub(super) fn new(session: Session, pending: PendingTools) -> Result<Self> {
        let PendingTools { run_id, tool_calls: calls } = pending;
        let Some(run) = run_id else { bail!("session {} changed meanwhile; try again", session.id) };
        Ok(Self { session, run, calls })
    }

    fn run<'a>(&self, client: &'a StakpakClient) -> Run<'a> {
        Run { client, session: self.session.id.to_string(), run: self.run.into() }
    }
}

impl Order<'_> {
    /// What the flags or the person say about each call that waits; nothing when neither is there. Silence decides nothing:
    /// whoever asks may only want to know.
    pub(super) async fn decisions(&self, waiting: &Waiting) -> Result<Decisions> {
        let (approval, calls) = (&self.args.approval, &waiting.calls);
        if let Some(unknown) = approval.named().find(|named| calls.iter().all(|call| call.id != **named)) {
            let calls: Vec<&str> = calls.iter().map(|call| call.id.as_str()).collect();
            bail!("no call {unknown} waits in session {}; these do: {}", waiting.session.id, calls.join(", "));
        }
        if approval.decides() {
            return Ok(calls.iter().map(|call| (call.id.clone(), by_flags(approval, call))).collect());
        }
        let answers = Answers::new(approval);
        if answers != Answers::Person {
            return Ok(Decisions::new());
        }
        let calls = calls.clone();
        let ask = move || {
            let decided = calls.iter().map(|call| Ok((call.id.clone(), answers.decide(call)?)));
            decided.collect::<Result<HashMap<_, _>>>()
        };
        let decided = tokio::task::spawn_blocking(ask).await??;
        Ok(decided.into_iter().filter_map(|(call, decision)| Some((call, decision?))).collect())
    }

    /// Answers what waits. A prompt that comes along is for the run, when it has done what it was at.
    pub(super) async fn go_on(
        &self,
        waiting: Waiting,
        decisions: Decisions,
        prompt: Option<String>,
    ) -> Result<Started> {
        let run = waiting.run(&self.server.client);
        let before = run.record().await?;
        if let Some(prompt) = prompt {
            self.post(&waiting.session, prompt, Some(waiting.run)).await?;
        }
        for call in run.decide(decisions).await? {
            eprintln!("· {call} was decided before");
        }
        let Waiting { session, run, .. } = waiting;
        PauseFile::of(&session, &self.server.workdir).remove();
        Ok(Started { session, run, cursor: before.last_event_id, turns_before: before.turns })
    }

    /// Tells again what waits.
    pub(super) async fn still_waiting(&self, waiting: Waiting, has_prompt: bool) -> Result<()> {
        let record = waiting.run(&self.server.client).record().await?;
        let Waiting { session, calls, .. } = waiting;
        let hint = resume_hint(self.global, self.args, &session, &calls);
        if has_prompt {
            let id = session.id;
            bail!("session {id} waits for an approval, so the prompt was not sent; decide first, such as with: {hint}");
        }
        let conclusion = Conclusion {
            outcome: Outcome::Paused,
            turns_before: record.turns,
            record,
            session,
            text: String::new(),
            pause: Some((calls, hint)),
        };
        conclusion.tell(self.json, &self.server.workdir)
    }
}
