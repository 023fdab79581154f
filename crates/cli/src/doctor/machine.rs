//! The machine: room on the disk, memory, time zones.

use bytesize::ByteSize;
use nix::sys::statvfs::statvfs;

use super::Probe;
use crate::home::Home;

const LITTLE_DISK: ByteSize = ByteSize::gib(2);
const NO_DISK: ByteSize = ByteSize::mib(100);
const LITTLE_MEMORY: ByteSize = ByteSize::mib(256);

pub(super) fn look(home: &Home) -> [Probe; 3] {
    let free = statvfs(&home.autopilot("")).ok().and_then(|disk| {
        #[allow(clippy::useless_conversion, reason = "32 bits on macOS")]
        let blocks = u64::try_from(disk.blocks_available()).ok()?;
        Some(ByteSize(blocks.saturating_mul(disk.fragment_size())))
    });
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    [disk(free), memory(available(&meminfo)), zone(iana_time_zone::get_timezone().ok())]
}

fn disk(free: Option<ByteSize>) -> Probe {
    let (id, advice) = ("disk_space", "make room where the state directory is, or move it with --home");
    match free {
        None => Probe::skip(id, "the file system does not tell its room"),
        Some(free) if free < NO_DISK => Probe::blocking(id, format!("only {free} are free"), Vec::new(), advice),
        Some(free) if free < LITTLE_DISK => Probe::warning(id, format!("only {free} are free"), Vec::new(), advice),
        Some(free) => Probe::pass(id, format!("{free} are free")),
    }
}

fn memory(available: Option<ByteSize>) -> Probe {
    let id = "memory";
    match available {
        None => Probe::skip(id, "the system does not tell its memory"),
        Some(free) if free < LITTLE_MEMORY => {
            Probe::warning(id, format!("only {free} of memory are available"), Vec::new(), "end what is not needed")
        }
        Some(free) => Probe::pass(id, format!("{free} of memory are available")),
    }
}

/// `MemAvailable` of /proc/meminfo.
fn available(meminfo: &str) -> Option<ByteSize> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(ByteSize::kib(line.trim().strip_suffix("kB")?.trim().parse().ok()?))
}

fn zone(host: Option<String>) -> Probe {
    let id = "timezone_data";
    match host {
        Some(name) if name.parse::<chrono_tz::Tz>().is_ok() => Probe::pass(id, format!("the host's zone is {name}")),
        Some(name) => {
            let summary = format!("the host's zone {name} is not known");
            Probe::warning(id, summary, Vec::new(), "name the zone of schedules: [defaults] timezone = \"…\"")
        }
        None => Probe::skip(id, "the host has no zone; schedules without one are in UTC"),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Status, *};

    #[test]
    fn little_room_is_a_warning_and_none_is_a_failure() {
        assert_eq!(disk(Some(ByteSize::gib(3))).status, Status::Pass);
        assert!(disk(Some(ByteSize::gib(1))).status == Status::Fail && !disk(Some(ByteSize::gib(1))).is_blocking());
        assert!(disk(Some(ByteSize::mib(99))).is_blocking());
        assert_eq!(disk(None).status, Status::Skip);
    }

    #[test]
    fn memory_is_what_the_kernel_calls_available() {
        let told = "MemTotal:  4000000 kB\nMemFree: 1000 kB\nMemAvailable:   200000 kB\n";
        assert_eq!(available(told), Some(ByteSize::kib(200_000)));
        let few = memory(available(told));
        assert!(few.status == Status::Fail && !few.is_blocking());
        assert_eq!(memory(Some(ByteSize::gib(1))).status, Status::Pass);
        assert_eq!(memory(available("MemAvailable: much")).status, Status::Skip);
    }

    #[test]
    fn a_zone_that_is_not_known_is_told() {
        assert_eq!(zone(Some("Europe/Berlin".to_owned())).status, Status::Pass);
        assert_eq!(zone(Some("Mars/Olympus".to_owned())).status, Status::Fail);
        assert_eq!(zone(None).status, Status::Skip);
    }
}
