//! What the clients do: each scene is a session with a few runs.

use std::collections::BTreeMap;

use stakpak_protocol::{Event, MessageType, RunId, ToolCallId, ToolDecisionAction};

use crate::{
    actor::{Actor, Step},
    model::{Call, Turn},
};

/// A kind of session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scene {
    /// Plain answers, streamed.
    Answers,
    /// One call, then two in a turn, without a question.
    Calls,
    /// Two calls that wait for a person: one is accepted, one rejected.
    Approval,
    /// A client that accepts every call it sees, asked or not.
    Eager,
    /// Two follow-ups to an answer that is being streamed.
    FollowUp,
    /// A steering while the first of two calls runs.
    Steering,
    /// A cancel, and another run.
    Cancel,
    /// New titles, and a new model while a call waits for a person.
    Changes,
    /// A deletion in any state of a run.
    Deletion,
    /// An answer that breaks off and is asked for again.
    Torn,
    /// All that take no back-off, one after the other in one session, as short as they can be.
    Tour,
}

/// The cast of a round.
pub const CAST: [Scene; 10] = [
    Scene::Answers,
    Scene::Calls,
    Scene::Approval,
    Scene::Eager,
    Scene::FollowUp,
    Scene::Steering,
    Scene::Cancel,
    Scene::Changes,
    Scene::Deletion,
    Scene::Torn,
];

impl Scene {
    pub async fn play(self, actor: &mut Actor) -> Step {
        match self {
            Self::Answers => answers(actor).await,
            Self::Calls => calls(actor).await,
            Self::Approval => approval(actor).await,
            Self::Eager => eager(actor).await,
            Self::FollowUp => follow_up(actor).await,
            Self::Steering => steering(actor).await,
            Self::Cancel => cancel(actor).await,
            Self::Changes => changes(actor).await,
            Self::Deletion => deletion(actor).await,
            Self::Torn => torn(actor).await,
            Self::Tour => tour(actor).await,
        }
    }
}

fn say(words: usize, pace_ms: u64) -> Turn {
    Turn { words, pace_ms, ..Turn::default() }
}

fn call(actor: &mut Actor) -> Call {
    Call { before_ms: actor.rng.u64(..20), after_ms: actor.rng.u64(..30) }
}

fn calling(words: usize, calls: Vec<Call>) -> Turn {
    Turn { words, calls, ..Turn::default() }
}

async fn answers(actor: &mut Actor) -> Step {
    for (words, pace) in [(40, 2), (1, 0), (10, 5)] {
        let run = actor.message("all", vec![say(words, pace)]).await?;
        actor.end_of(run).await?;
    }
    Ok(())
}

async fn calls(actor: &mut Actor) -> Step {
    let (one, two, three) = (call(actor), call(actor), call(actor));
    let run = actor.message("all", vec![calling(0, vec![one]), say(5, 0)]).await?;
    actor.end_of(run).await?;
    let run = actor.message("all", vec![calling(4, vec![two, three]), say(5, 1)]).await?;
    actor.end_of(run).await
}

async fn approval(actor: &mut Actor) -> Step {
    let (one, two) = (call(actor), call(actor));
    let run = actor.message("none", vec![calling(3, vec![one, two]), say(3, 1)]).await?;
    let waiting = actor.event("a question", run, |event| match event {
        Event::WaitingForToolApproval { pending_tool_call_ids, .. } => Some(pending_tool_call_ids.clone()),
        _ => None,
    });
    if let Some(waiting) = waiting.await? {
        let actions = [ToolDecisionAction::Accept, ToolDecisionAction::Reject];
        let decisions: BTreeMap<ToolCallId, ToolDecisionAction> = waiting.into_iter().zip(actions).collect();
        if actor.rng.bool() {
            actor.decide(run, decisions).await;
        } else {
            for decision in decisions {
                actor.decide(run, [decision].into()).await;
            }
        }
    }
    actor.end_of(run).await
}

async fn eager(actor: &mut Actor) -> Step {
    for approve in ["all", "none"] {
        let (one, two) = (call(actor), call(actor));
        let run = actor.message(approve, vec![calling(0, vec![one, two]), say(2, 0)]).await?;
        let proposed = actor.event("calls", run, |event| match event {
            Event::ToolCallsProposed { tool_calls, .. } => Some(tool_calls.clone()),
            _ => None,
        });
        if let Some(calls) = proposed.await? {
            actor.decide(run, calls.into_iter().map(|call| (call.id, ToolDecisionAction::Accept)).collect()).await;
        }
        actor.end_of(run).await?;
    }
    Ok(())
}

async fn follow_up(actor: &mut Actor) -> Step {
    let run = actor.message("all", vec![say(40, 2)]).await?;
    if first_text(actor, run).await?.is_some() {
        actor.command(run, MessageType::FollowUp).await;
        actor.command(run, MessageType::FollowUp).await;
    }
    actor.end_of(run).await
}

async fn steering(actor: &mut Actor) -> Step {
    let long = Call { before_ms: 10, after_ms: 60 };
    let two = call(actor);
    let run = actor.message("all", vec![calling(2, vec![long, two]), say(10, 2)]).await?;
    if started(actor, run).await?.is_some() {
        actor.command(run, MessageType::Steering).await;
    }
    actor.end_of(run).await
}

async fn cancel(actor: &mut Actor) -> Step {
    let endless = Call { before_ms: actor.rng.u64(..20), after_ms: 30_000 };
    let run = match actor.rng.u8(..3) {
        0 => {
            let run = actor.message("all", vec![say(2000, 5)]).await?;
            first_text(actor, run).await?.map(|()| run)
        }
        1 => {
            let run = actor.message("all", vec![calling(2, vec![endless])]).await?;
            started(actor, run).await?.map(|()| run)
        }
        _ => {
            let run = actor.message("none", vec![calling(2, vec![endless])]).await?;
            let proposed = |event: &Event| matches!(event, Event::ToolCallsProposed { .. }).then_some(());
            actor.event("calls", run, proposed).await?.map(|()| run)
        }
    };
    if let Some(run) = run {
        actor.cancel(run).await;
        actor.end_of(run).await?;
    }
    let run = actor.message("all", vec![say(3, 0)]).await?;
    actor.end_of(run).await
}

async fn changes(actor: &mut Actor) -> Step {
    let one = call(actor);
    actor.rename().await;
    let run = actor.message("none", vec![calling(2, vec![one]), say(3, 1)]).await?;
    let waiting = actor.event("a question", run, |event| match event {
        Event::WaitingForToolApproval { pending_tool_call_ids, .. } => Some(pending_tool_call_ids.clone()),
        _ => None,
    });
    if let Some(waiting) = waiting.await? {
        actor.rename().await;
        actor.switch_model(run).await;
        actor.decide(run, waiting.into_iter().map(|call| (call, ToolDecisionAction::Accept)).collect()).await;
    }
    actor.end_of(run).await?;
    let run = actor.message("all", vec![say(5, 2)]).await?;
    actor.switch_model(run).await;
    actor.end_of(run).await?;
    actor.rename().await;
    Ok(())
}

async fn deletion(actor: &mut Actor) -> Step {
    let endless = Call { before_ms: actor.rng.u64(..20), after_ms: 30_000 };
    let run = match actor.rng.u8(..4) {
        0 => {
            let run = actor.message("all", vec![say(2000, 5)]).await?;
            first_text(actor, run).await?;
            run
        }
        1 => {
            let run = actor.message("all", vec![calling(2, vec![endless])]).await?;
            started(actor, run).await?;
            run
        }
        2 => {
            let run = actor.message("none", vec![calling(2, vec![endless])]).await?;
            let waiting = |event: &Event| matches!(event, Event::WaitingForToolApproval { .. }).then_some(());
            actor.event("a question", run, waiting).await?;
            run
        }
        _ => {
            let run = actor.message("all", vec![say(3, 0)]).await?;
            actor.end_of(run).await?;
            run
        }
    };
    actor.delete().await;
    actor.end_of(run).await
}

async fn torn(actor: &mut Actor) -> Step {
    let run = actor.message("all", vec![Turn { torn: true, ..say(10, 1) }]).await?;
    actor.end_of(run).await
}

async fn tour(actor: &mut Actor) -> Step {
    let run = actor.message("all", vec![say(5, 2)]).await?;
    actor.end_of(run).await?;
    calls(actor).await?;
    approval(actor).await?;
    let run = actor.message("all", vec![say(5, 4)]).await?;
    if first_text(actor, run).await?.is_some() {
        actor.command(run, MessageType::FollowUp).await;
    }
    actor.end_of(run).await?;
    steering(actor).await?;
    cancel(actor).await?;
    changes(actor).await?;
    deletion(actor).await
}

async fn first_text(actor: &Actor, run: RunId) -> Step<Option<()>> {
    actor.event("text", run, |event| matches!(event, Event::TextDelta { .. }).then_some(())).await
}

async fn started(actor: &Actor, run: RunId) -> Step<Option<()>> {
    actor.event("a call", run, |event| matches!(event, Event::ToolExecutionStarted { .. }).then_some(())).await
}
