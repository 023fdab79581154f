//! One line of reading for the output of each command that the offline model calls by itself.

/// What the output says; none for other commands and for output in another form than expected.
pub(super) fn of(command: &str, output: &str) -> Option<String> {
    match command.trim() {
        "df -hP" => disk(output),
        "free -m" => memory(output),
        "vm_stat" => free_pages(output),
        "uptime" => uptime(output),
        _ => None,
    }
}

struct FileSystem<'a> {
    size: &'a str,
    used: &'a str,
    free: &'a str,
    percent: u32,
    mount: String,
}

/// `Filesystem Size Used Avail Capacity Mounted on`; a mount point may hold spaces, as may the device of a share.
fn file_system(line: &str) -> Option<FileSystem<'_>> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let at = words.iter().skip(4).position(|word| word.ends_with('%'))? + 4;
    let percent = words[at].trim_end_matches('%').parse().ok()?;
    let mount = words.get(at + 1..).filter(|rest| !rest.is_empty())?.join(" ");
    Some(FileSystem { size: words[at - 3], used: words[at - 2], free: words[at - 1], percent, mount })
}

fn disk(output: &str) -> Option<String> {
    let systems: Vec<FileSystem<'_>> = output.lines().skip(1).filter_map(file_system).collect();
    let root = systems.iter().find(|system| system.mount == "/");
    let FileSystem { size, used, free, percent, mount } = root.or_else(|| systems.iter().max_by_key(|s| s.percent))?;
    Some(format!("`{mount}` is {percent} % full: {used} of {size} used, {free} free."))
}

fn memory(output: &str) -> Option<String> {
    let line = output.lines().find_map(|line| line.strip_prefix("Mem:"))?;
    let figures: Vec<u64> = line.split_whitespace().map_while(|word| word.parse().ok()).collect();
    let (&total, &used) = (figures.first()?, figures.get(1)?);
    let percent = (used * 100).checked_div(total)?;
    let available = figures.get(5).map(|available| format!(", {available} MiB available")).unwrap_or_default();
    Some(format!("Memory is {percent} % used: {used} of {total} MiB{available}."))
}

fn free_pages(output: &str) -> Option<String> {
    let page: u64 = output.split_once("page size of ")?.1.split_whitespace().next()?.parse().ok()?;
    let pages: u64 =
        output.split_once("Pages free:")?.1.split_whitespace().next()?.trim_end_matches('.').parse().ok()?;
    Some(format!("{} MiB of memory are free.", pages * page / (1024 * 1024)))
}

fn uptime(output: &str) -> Option<String> {
    let (before, load) = output.trim().split_once("load average")?;
    let load = load.trim_start_matches('s').trim_start_matches(':').trim().replace(", ", " ").replace(' ', ", ");
    let up = before.split_once(" up ").map(|(_, up)| up.trim().trim_end_matches(','));
    // The number of users stands last; the rest is how long.
    let up = up.and_then(|up| up.rsplit_once(',')).map(|(time, _users)| format!("Up {}; ", time.trim()));
    Some(format!("{}load over 1, 5 and 15 minutes: {load}.", up.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::of;

    const DF: &str = "Filesystem      Size  Used Avail Use% Mounted on\n\
                      tmpfs           394M  1.2M  393M   1% /run\n\
                      /dev/vda1        50G   41G  8.9G  83% /\n\
                      //nas/my share  1.0T  990G   10G  99% /mnt/my share\n";

    #[test]
    fn readings() {
        let free = "               total        used        free      shared  buff/cache   available\n\
                    Mem:            3915        1203         400          12        2311        2500\n\
                    Swap:              0           0           0\n";
        let table = [
            ("df -hP", DF, "`/` is 83 % full: 41G of 50G used, 8.9G free."),
            ("free -m", free, "Memory is 30 % used: 1203 of 3915 MiB, 2500 MiB available."),
            (
                "uptime",
                " 10:02:11 up 10 days,  3:02,  2 users,  load average: 0.52, 0.58, 0.59\n",
                "Up 10 days,  3:02; load over 1, 5 and 15 minutes: 0.52, 0.58, 0.59.",
            ),
            (
                "uptime",
                "10:02  up 3 days, 1:02, 2 users, load averages: 1.20 1.30 1.40\n",
                "Up 3 days, 1:02; load over 1, 5 and 15 minutes: 1.20, 1.30, 1.40.",
            ),
            (
                "vm_stat",
                "Mach Virtual Memory Statistics: (page size of 16384 bytes)\nPages free:      6400.\n",
                "100 MiB of memory are free.",
            ),
        ];
        for (command, output, expected) in table {
            assert_eq!(of(command, output).as_deref(), Some(expected), "{command}");
        }
    }

    #[test]
    fn without_a_root_the_fullest_file_system_counts() {
        let text = DF.replace("83% /\n", "83% /data\n");
        assert_eq!(of("df -hP", &text).as_deref(), Some("`/mnt/my share` is 99 % full: 990G of 1.0T used, 10G free."));
    }

    #[test]
    fn unknown_output_has_no_reading() {
        for (command, output) in
            [("df -hP", ""), ("free -m", "Mem: x"), ("free -m", "Mem: 0 0"), ("uptime", "up"), ("ls", DF)]
        {
            assert_eq!(of(command, output), None, "{command} {output:?}");
        }
    }
}
