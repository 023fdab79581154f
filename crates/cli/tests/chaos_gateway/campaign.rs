//! The campaign: everybody says hello in peace; then they talk on while the binary is killed and the platforms misbehave;
//! then peace again until everything is answered.

use std::{sync::Arc, time::Duration};

use fastrand::Rng;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    check::check,
    disturb::{Done, TELEGRAM_ANSWER_LOST, disturb},
    people::People,
    report::Report,
    world::{Instance, SETTLED, World},
};

/// Messages that wait for their answers at once; beyond it people wait, so that the campaign is as fast as the binary.
const MOST_UNANSWERED: usize = 150;
/// At most so many are said in one go.
const BURST: u64 = 4;
/// Between two goes, in milliseconds. On average a platform has 170 messages a minute then; a bot takes 200.
const LONGEST_SILENCE: u64 = 350;
/// Between two kills, in milliseconds.
const LIFE: std::ops::Range<u64> = 500..6000;
/// How often people look for what they are to decide.
const DECIDE_EVERY: Duration = Duration::from_millis(400);
/// Once no answer has come for this long, none will: longer than any request's time limit and most waits.
const NOTHING_MORE: Duration = Duration::from_secs(75);
/// After the last answer, time for one that should not come.
const AFTERWARDS: Duration = Duration::from_secs(4);

/// How long a campaign is.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub messages: usize,
    pub conversations: usize,
    pub seed: u64,
}

impl Size {
    /// Short and always the same, unless the environment says otherwise.
    pub fn from_environment() -> Self {
        let number = |name: &str| {
            let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
            Some(text.parse::<u64>().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
        };
        let size = |name: &str, usual: usize| number(name).map_or(usual, |size| usize::try_from(size).unwrap());
        Self {
            messages: size("STAKPAK_CHAOS_MESSAGES", 150),
            conversations: size("STAKPAK_CHAOS_CONVERSATIONS", 30),
            seed: number("STAKPAK_CHAOS_SEED").unwrap_or(1),
        }
    }
}

/// What killing came to.
#[derive(Debug, Default)]
pub struct Kills {
    pub kills: u64,
    /// Of them, while the binary was starting or had just started.
    pub in_start: u64,
    pub starts: Vec<Duration>,
}

pub async fn campaign(size: Size) -> Report {
    let mut rng = Rng::with_seed(size.seed);
    let world = Arc::new(World::new().await);
    let people = Arc::new(People::new(&world, size.conversations));
    let instance = world.start().await;
    world.slack.wait_for("a socket", |slack| (slack.open_sockets() >= 1).then_some(())).await;
    world.discord.wait_for("the session", |seen| seen.identifies.iter().any(|one| one.outcome.is_ok())).await;
    for person in 0..people.count() {
        people.say(&world, person);
    }
    all_answered(&world, &people).await;

    let peace = CancellationToken::new();
    let killing = kill_again_and_again(&world, &people, instance, rng.fork(), &peace);
    let disturbing = disturb_again_and_again(&world, &people, rng.fork(), &peace);
    let _deciding = decide_again_and_again(&world, &people);
    let mut said = people.count();
    while said < size.messages {
        let person = rng.usize(..people.count());
        let burst = if rng.u8(..4) == 0 { rng.u64(2..=BURST) } else { 1 };
        for _ in 0..burst {
            people.say(&world, person);
            said += 1;
        }
        sleep(Duration::from_millis(rng.u64(..LONGEST_SILENCE))).await;
        if said.is_multiple_of(16) || burst > 1 {
            while people.unanswered(&world) > MOST_UNANSWERED {
                sleep(Duration::from_millis(300)).await;
            }
        }
    }
    peace.cancel();
    let (instance, kills) = killing.await.unwrap();
    let done = disturbing.await.unwrap();
    world.discord.heal();
    all_answered(&world, &people).await;
    sleep(AFTERWARDS).await;
    instance.kill().await;

    let mut history = people.history(&world);
    history.answers_lost = done.get(TELEGRAM_ANSWER_LOST).copied().unwrap_or_default();
    let findings = check(&history);
    Report::new(size, kills, done, history, findings, || world.log())
}

/// Until everything has an answer, or nothing more will have.
async fn all_answered(world: &World, people: &People) {
    let (mut fewest, mut since) = (usize::MAX, Instant::now());
    while since.elapsed() < NOTHING_MORE {
        let unanswered = people.unanswered(world);
        if unanswered == 0 {
            return;
        }
        if unanswered < fewest {
            (fewest, since) = (unanswered, Instant::now());
        }
        sleep(Duration::from_millis(200)).await;
    }
}

fn kill_again_and_again(
    world: &Arc<World>,
    people: &Arc<People>,
    mut instance: Instance,
    mut rng: Rng,
    peace: &CancellationToken,
) -> JoinHandle<(Instance, Kills)> {
    let (world, people, peace) = (Arc::clone(world), Arc::clone(people), peace.clone());
    tokio::spawn(async move {
        let mut kills = Kills::default();
        loop {
            tokio::select! {
                () = sleep(Duration::from_millis(rng.u64(LIFE))) => {}
                () = peace.cancelled() => return (instance, kills),
            }
            instance.kill().await;
            kills.kills += 1;
            after_kill(&world, &people, &mut rng).await;
            if rng.u8(..4) == 0 {
                let starting = world.spawn();
                sleep(Duration::from_millis(rng.u64(..600))).await;
                starting.kill().await;
                kills.kills += 1;
                kills.in_start += 1;
                after_kill(&world, &people, &mut rng).await;
            }
            instance = world.start().await;
            kills.starts.push(instance.took);
        }
    })
}

/// What the dead process had on its way arrives; what it has sent is known to be its own.
async fn after_kill(world: &World, people: &People, rng: &mut Rng) {
    sleep(SETTLED + Duration::from_millis(rng.u64(..400))).await;
    people.look(world);
    world.discord.forget_sessions();
}

/// Until it is dropped.
fn decide_again_and_again(world: &Arc<World>, people: &Arc<People>) -> AbortOnDropHandle<()> {
    let (world, people) = (Arc::clone(world), Arc::clone(people));
    AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            sleep(DECIDE_EVERY).await;
            people.decide(&world);
        }
    }))
}

fn disturb_again_and_again(
    world: &Arc<World>,
    people: &Arc<People>,
    mut rng: Rng,
    peace: &CancellationToken,
) -> JoinHandle<Done> {
    let (world, people, peace) = (Arc::clone(world), Arc::clone(people), peace.clone());
    tokio::spawn(async move {
        let mut done = Done::new();
        loop {
            tokio::select! {
                () = sleep(Duration::from_millis(rng.u64(50..600))) => {}
                () = peace.cancelled() => return done,
            }
            *done.entry(disturb(&world, &people, &mut rng)).or_default() += 1;
        }
    })
}
