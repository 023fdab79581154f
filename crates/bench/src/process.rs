//! What a process costs, as the kernel counts it.

use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::{
    resource::{Usage, UsageWho, getrusage},
    time::{TimeVal, TimeValLike},
};

/// Clock ticks a second in `/proc/<pid>/stat`; fixed by the kernel's interface (proc(5), `USER_HZ`).
const TICKS: u64 = 100;

/// A process of ours.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process(pub(crate) u32);

impl Process {
    /// User and system time of all its threads, also of those that are gone.
    pub(crate) fn cpu(self) -> Result<Duration> {
        let stat = self.file("stat")?;
        let (_, fields) = stat.rsplit_once(')').context("stat has no name")?;
        let mut fields = fields.split_whitespace().skip(11).map(str::parse::<u64>);
        let user = fields.next().context("stat has no user time")??;
        let system = fields.next().context("stat has no system time")??;
        Ok(Duration::from_millis((user + system) * 1000 / TICKS))
    }

    /// Resident bytes, exact: the counters of `status` lag behind.
    pub(crate) fn resident(self) -> Result<u64> {
        Ok(field(&self.file("smaps_rollup")?, "Rss:")? * 1024)
    }

    /// Bytes that it caused to be written to storage.
    pub(crate) fn written(self) -> Result<u64> {
        field(&self.file("io")?, "write_bytes:")
    }

    fn file(self, name: &str) -> Result<String> {
        let path = format!("/proc/{}/{name}", self.0);
        std::fs::read_to_string(&path).with_context(|| format!("{path} cannot be read"))
    }
}

/// How busy the machine is, and how much of that is this process and the children that have ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Machine {
    /// CPU time that was used, and that the hypervisor took.
    busy: Duration,
    ours: Duration,
    all: Duration,
}

impl Machine {
    pub(crate) fn now() -> Result<Self> {
        let stat = std::fs::read_to_string("/proc/stat")?;
        let line = stat.lines().next().context("/proc/stat is empty")?;
        // user, nice, system, idle, iowait, irq, softirq, steal; guest time is in user already.
        let ticks: Vec<u64> = line.split_whitespace().skip(1).take(8).map(str::parse).collect::<Result<_, _>>()?;
        let all = ticks.iter().sum::<u64>();
        let idle = ticks.iter().skip(3).take(2).sum::<u64>();
        let time = |ticks| Duration::from_millis(ticks * 1000 / TICKS);
        let ours = cpu_of(&getrusage(UsageWho::RUSAGE_SELF)?) + cpu_of(&getrusage(UsageWho::RUSAGE_CHILDREN)?);
        Ok(Self { busy: time(all - idle), ours, all: time(all) })
    }

    /// What share of the machine's time since `earlier` was used by others, in percent.
    pub(crate) fn others_since(self, earlier: Self) -> f64 {
        let busy = self.busy.saturating_sub(earlier.busy);
        let others = busy.saturating_sub(self.ours.saturating_sub(earlier.ours));
        others.as_secs_f64() / (self.all.saturating_sub(earlier.all)).as_secs_f64().max(f64::EPSILON) * 100.0
    }
}

fn cpu_of(usage: &Usage) -> Duration {
    let time = |time: TimeVal| Duration::from_micros(time.num_microseconds().unsigned_abs());
    time(usage.user_time()) + time(usage.system_time())
}

fn field(text: &str, name: &str) -> Result<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("there is no {name}"))?;
    let number = value.split_whitespace().next().context("there is no number")?;
    Ok(number.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_ours_is_of_others() {
        let at = |busy, ours, all| Machine {
            busy: Duration::from_secs(busy),
            ours: Duration::from_secs(ours),
            all: Duration::from_secs(all),
        };
        assert!((at(160, 40, 300).others_since(at(100, 10, 200)) - 30.0).abs() < 1e-9);
        assert!(Machine::now().unwrap().busy > Duration::ZERO);
    }

    #[test]
    fn a_process_has_memory_and_fields_are_found() {
        assert!(Process(std::process::id()).resident().unwrap() > 100_000);
        assert!(Process(std::process::id()).cpu().is_ok());
        assert_eq!(field("a: 1\nRss:    34 kB\n", "Rss:").unwrap(), 34);
        assert!(field("a: 1", "b:").is_err());
    }
}
