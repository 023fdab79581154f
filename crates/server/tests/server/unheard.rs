//! C-P8: a run that nobody can send anything any more waits without working.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use stakpak_agent_core::{
    Agent, AgentConfig, Days, EventRecord, NoSecrets, Publisher, Resident, Slots, Start, SystemClock, run_agent,
};
use stakpak_protocol::SessionId;
use tokio::sync::mpsc;

use crate::support::{Step, TestServer};

struct Nobody;

impl Publisher for Nobody {
    fn publish(&self, _: SessionId, _: &[EventRecord]) {}
    fn close(&self, _: SessionId) {}
}

/// A loop that is woken by what is gone is polled many thousand times while the call waits.
#[tokio::test]
async fn nobody_who_could_send_anything_costs_nothing() {
    let look = Step::Call(vec![("call", "stakpak__look", json!({ "gated": true }))]);
    let server = TestServer::start([look, Step::Say("done")]).await;
    let run = server.run("go", json!("all")).await;
    server.tools.started.acquire().await.unwrap().forget();
    let agent = Agent {
        journal: server.journal.clone(),
        publisher: Arc::new(Nobody),
        profiles: server.profiles.clone(),
        tools: server.tools.clone(),
        secrets: Arc::new(NoSecrets),
        clock: Arc::new(SystemClock),
        slots: Slots::new(1),
        days: Days::default(),
        config: AgentConfig::default(),
    };
    let tools = server.tools.clone();
    server.crash().await;

    let session = run.session.parse().unwrap();
    let resident = Resident::open(agent.journal.as_ref(), session).await.unwrap();
    let (sender, mut jobs) = mpsc::channel(1);
    let polls = AtomicU64::new(0);
    let mut driving = pin!(run_agent(&agent, resident, Start::Recover, &mut jobs));
    let mut driving = pin!(poll_fn(|context| {
        polls.fetch_add(1, Ordering::Relaxed);
        driving.as_mut().poll(context)
    }));
    tokio::select! {
        _ = &mut driving => panic!("it does not wait for its call"),
        started = tools.started.acquire() => started.unwrap().forget(),
    }
    drop(sender);
    let before = polls.load(Ordering::Relaxed);
    tokio::select! {
        _ = &mut driving => panic!("it does not wait for its call"),
        () = tokio::time::sleep(Duration::from_millis(300)) => {}
    }
    let polled = polls.load(Ordering::Relaxed) - before;
    assert!(polled <= 20, "polled {polled} times");
    tools.gate.add_permits(1);
    let resident = driving.await.unwrap();
    assert!(!resident.is_active(), "it goes on by itself to its end");
}
