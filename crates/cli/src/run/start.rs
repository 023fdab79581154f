//! Starting a run: the session, the message, and what the flags change for it.

use anyhow::Result;
use serde_json::json;
use stakpak_client::{
    AutoApproveOverride, ClientError, Message, MessageType, RunLimits, RunOverrides, SendMessageOptions,
    SendMessageResponse, Session,
};
use stakpak_protocol::EventId;

use super::{Order, Started, ask::Answers, session};

impl Order<'_> {
    pub(super) async fn start(&self, session: Option<Session>, prompt: String) -> Result<Started> {
        let session = match session {
            Some(session) => session,
            None => session::new(self.server, &prompt).await?,
        };
        let posted = self.post(&session, prompt, None).await?;
        let (run, cursor) = (posted.run_id, EventId(posted.cursor));
        Ok(Started { session, run, cursor, turns_before: 0 })
    }

    pub(super) async fn post(
        &self,
        session: &Session,
        prompt: String,
        follow_up_of: Option<uuid::Uuid>,
    ) -> Result<SendMessageResponse, ClientError> {
        let mut options = match follow_up_of {
            Some(run) => SendMessageOptions {
                message_type: MessageType::FollowUp,
                run_id: Some(run.to_string()),
                ..SendMessageOptions::default()
            },
            None => SendMessageOptions { overrides: Some(self.overrides()), ..SendMessageOptions::default() },
        };
        options.interactive = follow_up_of.is_none() && Answers::new(&self.args.approval) == Answers::Person;
        options.sandbox = self.args.sandbox.then_some(true);
        self.server.client.send_messages(&session.id.to_string(), vec![Message::user(prompt)], options).await
    }

    fn overrides(&self) -> RunOverrides {
        let Self { global, args, .. } = self;
        let limits = RunLimits {
            // A part of a second counts as a whole one: no limit is none.
            wall_clock_s: args.timeout.map(|limit| limit.as_millis().div_ceil(1_000).try_into().unwrap_or(u64::MAX)),
            tokens: None,
            cost_usd: args.budget_usd,
        };
        RunOverrides {
            model: args.model.clone(),
            auto_approve: Some(args.tools.clone()).filter(|tools| !tools.is_empty()).map(AutoApproveOverride::Tools),
            system_prompt: self.system_prompt.clone(),
            max_turns: Some(args.max_steps()),
            profile: Some(global.profile.clone()),
            limits: Some(limits).filter(|limits| *limits != RunLimits::default()),
            ..RunOverrides::default()
        }
    }

    pub(super) fn tell_started(&self, started: &Started) {
        let Started { session, run, .. } = started;
        if self.json {
            let manifest = json!({ "exit_code": 0, "outcome": "started", "run_id": run, "session_id": session.id });
            say!("{manifest:#}");
        } else {
            say!("session {}\nrun {run}", session.id);
        }
    }
}
