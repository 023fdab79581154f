//! The campaign: the simulated time goes from instant to instant, and every so often the binary is killed, the clock is set,
//! or the host sleeps; then peace until everything has ended.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};
use fastrand::Rng;
use tokio::time::{Instant, sleep};

use crate::{
    check::check,
    history::{Checked, Fire, History},
    ledger::{Look, too_many_wait},
    report::Report,
    schedules::{DAY, HOUR, MINUTE, Millis, SECOND, Schedule, draw},
    world::{self, World, host_millis},
};

/// How long is waited for what has to happen at once.
const PATIENCE: Duration = Duration::from_secs(30);
/// For the last runs to end.
const LAST_RUNS: Duration = Duration::from_secs(120);
/// Between two looks at the ledger.
const LOOK: Duration = Duration::from_millis(3);
/// Long enough for a planning loop to come round; runs that wait are looked at before and after.
const REST: Duration = Duration::from_millis(2500);
/// Instants are known for so long after the end: the last jump goes beyond it.
const BEYOND: Millis = 4 * DAY;
/// Shortly before clock changes of several zones, in the north and in the south.
const STARTS: [&str; 4] =
    ["2032-10-30T20:00:30Z", "2032-10-02T12:00:30Z", "2033-03-26T18:00:30Z", "2033-04-02T10:00:30Z"];

/// How long a campaign is.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub schedules: usize,
    pub hours: i64,
    /// Simulated minutes between two kills.
    pub kill_every: i64,
    pub seed: u64,
}

impl Size {
    /// Short and always the same, unless the environment says otherwise.
    pub fn from_environment() -> Self {
        let number = |name: &str, usual: u32| match std::env::var(name).ok().filter(|text| !text.is_empty()) {
            Some(text) => text.parse::<u32>().unwrap_or_else(|_| panic!("{name}={text} is not a number")),
            None => usual,
        };
        Self {
            schedules: number("STAKPAK_CHAOS_SCHEDULES", 40) as usize,
            hours: number("STAKPAK_CHAOS_HOURS", 30).into(),
            kill_every: number("STAKPAK_CHAOS_KILL_EVERY", 60).into(),
            seed: number("STAKPAK_CHAOS_SEED", 1).into(),
        }
    }

    fn start(self) -> DateTime<Utc> {
        STARTS[usize::try_from(self.seed).unwrap() % STARTS.len()].parse().unwrap()
    }
}

pub type Done = BTreeMap<&'static str, usize>;

/// The campaign at work.
struct Driver {
    world: World,
    schedules: Vec<Schedule>,
    /// Instants of all schedules, in order.
    instants: Vec<Millis>,
    instance: Option<world::Instance>,
    /// Everything up to here is known to have been planned.
    planned: Millis,
    crowded: Vec<String>,
    stuck: Vec<String>,
    done: Done,
    rng: Rng,
}

pub async fn campaign(size: Size) -> Report {
    let mut rng = Rng::with_seed(size.seed);
    let start = size.start();
    let end = start.timestamp_millis() + size.hours * HOUR;
    let last = DateTime::from_timestamp_millis(end + BEYOND).unwrap();
    let schedules = draw(size.schedules, start, last, &mut rng);
    let mut instants: Vec<Millis> = schedules.iter().flat_map(|schedule| schedule.instants.clone()).collect();
    instants.sort_unstable();
    instants.dedup();
    let world = World::new(&schedules, start.timestamp_millis()).await;
    let began = Instant::now();
    let mut driver = Driver {
        world,
        schedules,
        instants,
        instance: None,
        planned: start.timestamp_millis(),
        crowded: Vec::new(),
        stuck: Vec::new(),
        done: Done::new(),
        rng,
    };
    driver.first_start().await;
    driver.go_through(end, size.kill_every * MINUTE).await;
    driver.peace().await;
    let history = driver.history(end);
    let findings = check(&history);
    Report::new(size, began.elapsed(), driver.done, history, findings, || driver.world.log())
}

impl Driver {
    async fn first_start(&mut self) {
        self.instance = Some(self.world.start().await);
        let since = Instant::now();
        while Look::open(&self.world.ledger()).cursors().len() < self.schedules.len() {
            assert!(since.elapsed() < PATIENCE, "not all schedules are known\n{}", self.world.log());
            sleep(LOOK).await;
        }
        self.planned = self.world.now();
        self.world.times.known = self.planned;
    }

    async fn go_through(&mut self, end: Millis, kill_every: Millis) {
        let mut kill_at = self.planned + kill_every;
        let mut set_at = self.planned + 2 * HOUR;
        let mut sleep_at = self.planned + (end - self.planned) * 2 / 5;
        let mut rest_at = self.planned + HOUR;
        while self.world.now() < end && self.stuck.is_empty() {
            self.step().await;
            if self.planned >= kill_at {
                kill_at = self.planned + self.rng.i64(kill_every / 2..kill_every * 3 / 2);
                self.kill().await;
            }
            if self.planned >= set_at {
                set_at = self.planned + self.rng.i64(HOUR..4 * HOUR);
                self.set_the_clock().await;
            }
            if self.planned >= sleep_at {
                sleep_at = self.planned + 4 * DAY;
                self.fall_asleep(DAY).await;
            }
            if self.planned >= rest_at {
                rest_at = self.planned + self.rng.i64(4 * HOUR..12 * HOUR);
                self.rest().await;
            }
        }
    }

    /// On to the next instant, where the product is waited for.
    async fn step(&mut self) {
        let now = self.world.now();
        let next = self.instants[self.instants.partition_point(|instant| *instant <= now)];
        let time = next + self.rng.i64(0..1500);
        self.world.set(time.max(now));
        *self.done.entry("steps").or_default() += 1;
        self.wait_until_planned().await;
        if self.rng.u8(..4) == 0 {
            sleep(Duration::from_millis(self.rng.u64(..40))).await;
        }
    }

    /// Until the rows of everything due are there.
    async fn wait_until_planned(&mut self) {
        let (now, since) = (self.world.now(), Instant::now());
        let look = Look::open(&self.world.ledger());
        loop {
            let cursors = look.cursors();
            let known = self.world.times.known;
            let is_behind = |schedule: &&Schedule| {
                schedule.newest(now).is_some_and(|newest| newest > known && cursors[&schedule.name] < newest)
            };
            let behind = self.schedules.iter().find(is_behind);
            for crowd in look.crowded() {
                self.crowded.push(crowd);
            }
            let Some(behind) = behind else { break };
            if since.elapsed() > PATIENCE {
                self.stuck.push(format!("{} was not planned up to {}", behind.name, shown(now)));
                return;
            }
            sleep(LOOK).await;
        }
        self.planned = self.planned.max(now);
    }

    /// From what was planned up to now, nobody was there, or the clock was elsewhere.
    async fn gap(&mut self, from: Millis) {
        self.wait_until_planned().await;
        let to = self.world.now();
        self.world.times.gaps.push((from, to));
    }

    async fn kill(&mut self) {
        let from = self.planned;
        let Some(instance) = self.instance.take() else { return };
        let now = self.world.now();
        if self.rng.bool() {
            // In the middle of a fire.
            let next = self.instants[self.instants.partition_point(|instant| *instant <= now)];
            self.world.set(next);
            sleep(Duration::from_millis(self.rng.u64(..60))).await;
        }
        self.world.kill(instance).await;
        *self.done.entry("kills").or_default() += 1;
        let away = match self.rng.u8(..10) {
            0..=4 => 0,
            5 | 6 => self.rng.i64(0..2 * MINUTE),
            7 | 8 => self.rng.i64(2 * MINUTE..6 * HOUR),
            _ => -self.rng.i64(SECOND..2 * HOUR),
        };
        self.world.set(self.world.now() + away);
        if self.rng.u8(..3) == 0 {
            let starting = self.world.spawn();
            sleep(Duration::from_millis(self.rng.u64(..600))).await;
            self.world.kill(starting).await;
            *self.done.entry("kills in the start").or_default() += 1;
        }
        self.instance = Some(self.world.start().await);
        self.gap(from).await;
    }

    async fn set_the_clock(&mut self) {
        let from = self.planned;
        let now = self.world.now();
        let (name, by) = match self.rng.u8(..10) {
            0..=2 => ("clocks set forward", self.rng.i64(SECOND..10 * MINUTE)),
            3 | 4 => ("clocks set forward", self.rng.i64(10 * MINUTE..3 * HOUR)),
            5..=7 => ("clocks set back", -self.rng.i64(SECOND..2 * HOUR)),
            8 => ("clocks set back", -self.rng.i64(2 * HOUR..5 * HOUR)),
            _ => {
                let time = self.rng.i64(MINUTE..3 * HOUR);
                return self.fall_asleep(time).await;
            }
        };
        *self.done.entry(name).or_default() += 1;
        self.world.set(now + by);
        self.gap(from).await;
    }

    /// The lid is closed: no process runs, and time goes on.
    async fn fall_asleep(&mut self, time: Millis) {
        let from = self.planned;
        let Some(instance) = &self.instance else { return };
        instance.stop();
        self.world.set(self.world.now() + time);
        sleep(Duration::from_millis(20)).await;
        instance.go_on();
        *self.done.entry(if time >= DAY { "sleeps of a day" } else { "sleeps" }).or_default() += 1;
        self.gap(from).await;
    }

    /// What waits now and waited before is what may wait.
    async fn rest(&mut self) {
        let look = Look::open(&self.world.ledger());
        let before = look.waiting(self.world.now());
        sleep(REST).await;
        let after = look.waiting(self.world.now());
        self.crowded.extend(too_many_wait(&self.schedules, &before, &after));
        if let Some(instance) = &self.instance {
            self.world.sample(instance);
        }
        *self.done.entry("rests").or_default() += 1;
    }

    /// Until every run has ended.
    async fn peace(&mut self) {
        let since = Instant::now();
        self.wait_until_planned().await;
        loop {
            let open = Look::open(&self.world.ledger()).open_rows(self.world.now());
            if open == 0 {
                break;
            }
            if since.elapsed() > LAST_RUNS {
                self.stuck.push(format!("{open} runs did not end"));
                break;
            }
            sleep(Duration::from_millis(50)).await;
        }
        self.world.stop_the_clock();
        if let Some(instance) = self.instance.take() {
            self.world.kill(instance).await;
        }
    }

    fn history(&self, end: Millis) -> History {
        let look = Look::open(&self.world.ledger());
        let mut times = self.world.times.clone();
        times.end = end.min(self.planned);
        let commands = self.world.written("commands");
        let commands = commands.lines().map(|line| {
            let (schedule, nominal) = line.split_once(' ').unwrap();
            Fire { schedule: schedule.to_owned(), nominal: nominal.parse().unwrap() }
        });
        let ledger = self.world.ledger();
        let bytes =
            ["db", "db-wal"].map(|end| std::fs::metadata(ledger.with_extension(end)).map_or(0, |file| file.len()));
        History {
            schedules: self.schedules.clone(),
            rows: look.rows(),
            ranges: look.ranges(),
            checks: checks(&self.world.written("checks")),
            commands: commands.collect(),
            asked: self.world.book.all(),
            processes: self.world.processes.clone(),
            times,
            crowded: self.crowded.clone(),
            stuck: self.stuck.clone(),
            samples: self.world.samples.clone(),
            ledger_bytes: bytes.iter().sum(),
        }
    }
}

/// As the script writes them.
fn checks(text: &str) -> Vec<Checked> {
    let mut checks: Vec<Checked> = Vec::new();
    let mut open: BTreeMap<(Fire, i64), usize> = BTreeMap::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [word, schedule, nominal, pid, nanos] = words[..] else { panic!("not of the script: {line}") };
        let nominal = DateTime::parse_from_rfc3339(nominal).unwrap().timestamp_millis();
        let fire = Fire { schedule: schedule.to_owned(), nominal };
        let (pid, at) = (pid.parse().unwrap(), nanos.parse::<i64>().unwrap() / 1_000_000);
        if word == "begin" {
            open.insert((fire.clone(), pid), checks.len());
            checks.push(Checked { fire, pid, begin: at, end: None });
        } else if let Some(index) = open.remove(&(fire, pid)) {
            checks[index].end = Some(at);
        }
    }
    checks
}

/// An instant for people.
pub fn shown(time: Millis) -> String {
    DateTime::from_timestamp_millis(time).unwrap().to_rfc3339()
}

#[test]
fn lines_of_checks_are_put_together() {
    let line = |word: &str, pid: u8, nanos: u64| format!("{word} s1 1970-01-01T00:00:01Z {pid} {nanos}\n");
    let text = [line("begin", 7, 5_000_000), line("begin", 9, 7_000_000), line("end", 9, 8_000_000)].concat();
    let checked = checks(&text);
    let ends: Vec<_> = checked.iter().map(|checked| (checked.pid, checked.begin, checked.end)).collect();
    assert_eq!(ends, [(7, 5, None), (9, 7, Some(8))]);
    assert!(host_millis() > 0);
}
