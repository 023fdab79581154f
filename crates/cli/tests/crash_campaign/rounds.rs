//! The rounds: a cast of sessions, a kill, a restart, the look at what is there.

use std::{sync::Arc, time::Duration};

use fastrand::Rng;
use tokio::task::JoinSet;

use crate::{
    actor::{Actor, Step},
    check::check,
    kill::Moment,
    report::Report,
    scenes::{self, Scene},
    world::{Instance, World},
};

/// How long a campaign is, and what it is made of.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub kills: u64,
    pub seed: u64,
}

impl Size {
    /// Short and always the same, unless the environment says otherwise.
    pub fn from_environment() -> Self {
        Self { kills: number("STAKPAK_CRASH_KILLS").unwrap_or(15), seed: number("STAKPAK_CRASH_SEED").unwrap_or(1) }
    }
}

/// A number from the environment, if it is set.
pub fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

type Cast = JoinSet<(Actor, Step)>;

pub async fn campaign(size: Size) -> Report {
    let mut rng = Rng::with_seed(size.seed);
    let mut report = Report::new(size.seed);
    let world = World::new().await;
    let mut instance = world.start().await;
    println!("crash campaign: {} kills, seed {}", size.kills, size.seed);
    while report.kills < size.kills && report.is_clean() {
        let kills_before = report.kills;
        let mut cast = enter(&world, &mut rng, report.rounds);
        instance = kill_and_start(&world, &mut rng, instance, size.kills, &mut report).await;
        let mut played = Vec::new();
        while let Some(done) = cast.join_next().await {
            played.push(done.expect("a client panicked"));
        }
        let kills = report.kills - kills_before;
        let settled = played.into_iter().map(|(actor, step)| actor.settle(step, kills));
        for ledger in futures_util::future::join_all(settled).await {
            let violations = check(&ledger);
            report.add(&ledger, violations, || world.log());
        }
        report.rounds += 1;
    }
    instance.kill(&world).await;
    report
}

/// Sends the clients in. Answers that break off cost a back-off of seconds, so few rounds have one.
fn enter(world: &Arc<World>, rng: &mut Rng, round: u64) -> Cast {
    let mut cast = Cast::new();
    let with_torn = round % 10 == 9;
    for (index, scene) in scenes::CAST.into_iter().enumerate() {
        let (world, rng, label) = (Arc::clone(world), rng.fork(), format!("s{round}x{index}"));
        if scene == Scene::Torn && !with_torn {
            continue;
        }
        cast.spawn(async move {
            let mut actor = Actor::enter(world, label, rng).await;
            let step = scene.play(&mut actor).await;
            (actor, step)
        });
    }
    cast
}

/// Kills at a random moment, and a third of the time again while the next process starts or has just started.
async fn kill_and_start(world: &World, rng: &mut Rng, instance: Instance, most: u64, report: &mut Report) -> Instance {
    let moment = Moment::in_round(rng);
    // Clients that are done sooner than the moment comes: it comes now.
    let _ = tokio::time::timeout(Duration::from_secs(2), moment.comes(world)).await;
    instance.kill(world).await;
    report.kills += 1;
    while report.kills < most && rng.u8(..3) == 0 {
        let starting = world.spawn(&[]);
        let moment = Moment::in_start(rng);
        if rng.bool() {
            moment.comes(world).await;
            starting.kill().await;
        } else {
            let instance = starting.ready(world).await.expect("a start that is not disturbed");
            moment.comes(world).await;
            instance.kill(world).await;
        }
        report.kills += 1;
        report.kills_in_start += 1;
    }
    let instance = world.start().await;
    report.starts.push(instance.took);
    instance
}
