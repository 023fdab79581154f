//! What a process costs, as the kernel counts it.

use std::time::Duration;

use anyhow::{Context, Result};

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

fn field(text: &str, name: &str) -> Result<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("there is no {name}"))?;
    let number = value.split_whitespace().next().context("there is no number")?;
    Ok(number.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_memory_and_fields_are_found() {
        assert!(Process(std::process::id()).resident().unwrap() > 100_000);
        assert!(Process(std::process::id()).cpu().is_ok());
        assert_eq!(field("a: 1\nRss:    34 kB\n", "Rss:").unwrap(), 34);
        assert!(field("a: 1", "b:").is_err());
    }
}
