//! Kills at chosen points: `strace` kills the binary as it enters its n-th write to a database file, or its n-th sync,
//! for every n that there is.
//!
//! A kill before a write leaves a transaction in part; a kill before a sync leaves one that is whole, and whose effects
//! and answers never happened. `strace` counts by thread, and one thread writes the journal, so that n names a point.

use std::{process::Command, sync::Arc};

use fastrand::Rng;

use crate::{
    actor::Actor,
    check::check,
    report::Report,
    rounds::number,
    scenes::Scene,
    world::{PATIENCE, World},
};

/// What SQLite calls to write, and (depending on how it was built) to make durable.
const SYSCALLS: [&str; 2] = ["pwrite64", "fsync,fdatasync"];

/// Which points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Points {
    /// A few of each kind, for every day.
    Some,
    /// Every sync, and every so-manieth write: a sync ends a transaction, most writes are a part of one.
    Every(usize),
}

/// What the binary is doing when it dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum During {
    /// Its first start: files are made and migrated.
    FirstStart,
    /// A tour of all scenes.
    Tour,
}

impl Points {
    /// `STAKPAK_CRASH_POINTS`: 1 for every write, 7 for every seventh; absent: a few.
    pub fn from_environment() -> Self {
        number("STAKPAK_CRASH_POINTS").map_or(Self::Some, |step| Self::Every(usize::try_from(step).unwrap().max(1)))
    }

    /// The points of a kind of call, until there is no further.
    fn of(self, during: During, syscall: &str) -> Box<dyn Iterator<Item = u64> + Send> {
        match (self, during, syscall) {
            (Self::Every(step), _, "pwrite64") => Box::new((1..).step_by(step)),
            (Self::Every(_), ..) => Box::new(1..),
            (Self::Some, During::FirstStart, _) => Box::new([1, 8].into_iter()),
            (Self::Some, During::Tour, "pwrite64") => Box::new([6, 77, 190].into_iter()),
            (Self::Some, During::Tour, _) => Box::new([2, 15, 40].into_iter()),
        }
    }
}

/// None: there is no `strace` that may trace.
pub async fn sweep(points: Points) -> Option<Report> {
    let usable = Command::new("strace").args(["-f", "-qq", "-o", "/dev/null", "true"]).output();
    if !usable.is_ok_and(|output| output.status.success()) {
        println!("skipped: there is no strace here that may trace; only the random kills were made");
        return None;
    }
    let mut report = Report::new(0);
    for during in [During::FirstStart, During::Tour] {
        for syscall in SYSCALLS {
            let before = report.kills;
            for point in points.of(during, syscall) {
                if !kill_at(during, syscall, point, &mut report).await || !report.is_clean() {
                    break;
                }
            }
            println!("{during:?}: killed before {} calls of {syscall}", report.kills - before);
        }
    }
    Some(report)
}

fn strace(syscall: &str, point: u64) -> Vec<String> {
    let inject = format!("inject={syscall}:signal=SIGKILL:when={point}");
    let trace = format!("trace={syscall}");
    ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject].map(str::to_owned).into()
}

/// Kills at a point, starts again, and checks. False: the point was not reached.
async fn kill_at(during: During, syscall: &str, point: u64, report: &mut Report) -> bool {
    let world = World::new().await;
    if during == During::Tour {
        let first = world.start().await;
        first.kill(&world).await;
    }
    let starting = world.spawn(&strace(syscall, point));
    let label = format!("{}x{point}", &syscall[..5]);
    let tour = tokio::spawn(tour(Arc::clone(&world), label, point));
    let ready = tokio::time::timeout(PATIENCE, starting.ready(&world)).await.expect("a start in time");
    let mut died = ready.is_err();
    if let Ok(mut traced) = ready {
        if during == During::Tour {
            tokio::select! {
                () = traced.died(&world) => died = true,
                () = finished(&tour) => {}
            }
        }
        if !died {
            traced.kill(&world).await;
        }
    }
    let instance = world.start().await;
    report.starts.push(instance.took);
    report.rounds += 1;
    report.kills += u64::from(died);
    report.kills_in_start += u64::from(died && during == During::FirstStart);
    let (actor, step) = tour.await.expect("the client panicked");
    let ledger = actor.settle(step, 1).await;
    let violations = check(&ledger);
    report.add(&ledger, violations, || world.log());
    instance.kill(&world).await;
    died
}

async fn tour(world: Arc<World>, label: String, seed: u64) -> (Actor, crate::actor::Step) {
    let mut actor = Actor::enter(world, label, Rng::with_seed(seed)).await;
    let step = Scene::Tour.play(&mut actor).await;
    (actor, step)
}

async fn finished<T>(task: &tokio::task::JoinHandle<T>) {
    while !task.is_finished() {
        tokio::time::sleep(crate::actor::PAUSE).await;
    }
}
