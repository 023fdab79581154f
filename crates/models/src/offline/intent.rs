//! What the last user text asks for. Pure; whole words, so that `update` is not `up` and `diskette` not `disk`.

/// What the offline model can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Intent {
    Help,
    Status,
    Disk,
    Memory,
    Uptime,
    /// A shell command, exactly as written.
    Run(String),
    /// A path, exactly as written.
    Read(String),
    Other,
}

/// Reads a text that has no context blocks in front.
pub(super) fn read(text: &str) -> Intent {
    let text = without_address(text.trim());
    if let Some(intent) = run(text).or_else(|| view(text)) {
        return intent;
    }
    let lower = text.to_lowercase();
    if matches!(lower.trim_end_matches(['?', '!', '.']).trim_end(), "" | "help" | "hi" | "hello") {
        return Intent::Help;
    }
    let has = |wanted: &[&str]| lower.split(|c: char| !c.is_alphanumeric()).any(|word| wanted.contains(&word));
    if has(&["status", "health"]) {
        Intent::Status
    } else if has(&["disk", "disks", "df", "space"]) {
        Intent::Disk
    } else if has(&["memory", "ram", "mem"]) {
        Intent::Memory
    } else if has(&["uptime", "load"]) {
        Intent::Uptime
    } else {
        Intent::Other
    }
}

/// The text behind the blocks that the server puts in front of what a person wrote.
pub(super) fn without_context(text: &str) -> &str {
    let mut rest = text.trim();
    while let Some(after) =
        ["conversation_summary", "local_context", "context_file"].into_iter().find_map(|tag| after_element(rest, tag))
    {
        rest = after.trim_start();
    }
    rest
}

fn after_element<'a>(text: &'a str, tag: &str) -> Option<&'a str> {
    let open = text.strip_prefix('<')?.strip_prefix(tag)?;
    if !open.starts_with(['>', ' ']) {
        return None;
    }
    open.split_once(&format!("</{tag}>")).map(|(_, after)| after)
}

/// Without the mention of the bot in front, or the `/` of a bot command (`/status@ops_bot`).
fn without_address(text: &str) -> &str {
    let (first, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let mention = first.trim_end_matches([':', ',']);
    if (mention.starts_with('@') && mention.len() > 1) || (mention.starts_with("<@") && mention.ends_with('>')) {
        return without_address(rest.trim_start());
    }
    let Some(command) = text.strip_prefix('/') else { return text };
    // Only the bot's own name may hang on a command; the rest of the line stays as it is.
    match first.split_once('@') {
        Some((command, _)) if rest.is_empty() => &command[1..],
        _ => command,
    }
}

fn run(text: &str) -> Option<Intent> {
    let command = after_word(text, "run")
        .or_else(|| text.strip_prefix("$ "))
        .or_else(|| text.strip_prefix('!').filter(|rest| !rest.trim_start_matches('!').is_empty()))?
        .trim();
    (!command.is_empty()).then(|| Intent::Run(command.to_owned()))
}

fn view(text: &str) -> Option<Intent> {
    let path = after_word(text, "read").or_else(|| after_word(text, "show"))?.trim();
    let is_path = path.contains(['/', '.']) && !path.contains(char::is_whitespace);
    is_path.then(|| Intent::Read(path.to_owned()))
}

/// What follows the word, if the text starts with it in any case.
fn after_word<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let (first, rest) = text.split_once(char::is_whitespace)?;
    first.eq_ignore_ascii_case(word).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intents() {
        let run = |command: &str| Intent::Run(command.to_owned());
        let view = |path: &str| Intent::Read(path.to_owned());
        let table = [
            ("", Intent::Help),
            ("  ?  ", Intent::Help),
            ("Hello!", Intent::Help),
            ("/help", Intent::Help),
            ("@ops_bot", Intent::Help),
            ("status", Intent::Status),
            ("/status@ops_bot", Intent::Status),
            ("what is the disk status?", Intent::Status),
            ("@ops_bot: how full are my disks?", Intent::Disk),
            ("<@U12345> df", Intent::Disk),
            ("any space left?", Intent::Disk),
            ("Memory", Intent::Memory),
            ("is the RAM full", Intent::Memory),
            ("load?", Intent::Uptime),
            ("run touch Made-By-Agent", run("touch Made-By-Agent")),
            ("/run touch x", run("touch x")),
            ("RUN df -h", run("df -h")),
            ("$ ls  -la", run("ls  -la")),
            ("!uname -a", run("uname -a")),
            ("run status", run("status")),
            ("run cat <<E\na\nE", run("cat <<E\na\nE")),
            ("read /etc/Hosts", view("/etc/Hosts")),
            ("show notes.md", view("notes.md")),
            ("show disk", Intent::Disk),
            ("read the status of x.y", Intent::Status),
            ("run", Intent::Other),
            ("diskette", Intent::Other),
            ("reload", Intent::Other),
            ("update the server", Intent::Other),
            ("!!", Intent::Help),
        ];
        for (text, expected) in table {
            assert_eq!(read(text), expected, "{text:?}");
        }
    }

    #[test]
    fn context_in_front_is_not_part_of_the_question() {
        let blocks = "<local_context>\nstatus of disk\n</local_context>\n\n\
                      <context_file name=\"a\" path=\"b\">\nhelp\n</context_file>\n\n";
        assert_eq!(without_context(&format!("{blocks}memory")), "memory");
        assert_eq!(without_context(blocks), "");
        assert_eq!(without_context("<local_context> disk"), "<local_context> disk", "not closed: it is text");
        assert_eq!(without_context("a <local_context>b</local_context>"), "a <local_context>b</local_context>");
    }
}
