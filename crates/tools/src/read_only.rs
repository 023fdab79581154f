//! The commands that may run without a question, because no argument makes them write, run or send anything.
//!
//! The test is an allow-list of shapes, not a parser: one program name and plain words with single blanks between them.
//! Whatever needs to be understood (quotes, expansions, operators, redirections, assignments, other white space) is not on it.

/// Nothing joins that can write, run or send with any option.
const PROGRAMS: [&str; 9] = ["df", "free", "uptime", "uname", "nproc", "whoami", "id", "pwd", "vm_stat"];

/// Whether the command is on the read-only list.
#[must_use]
pub fn is_read_only_command(command: &str) -> bool {
    let mut words = command.split(' ');
    words.next().is_some_and(|program| PROGRAMS.contains(&program)) && words.all(is_plain)
}

fn is_plain(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_./=,:@%+-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_words_after_a_listed_program_are_on_the_list() {
        for command in [
            "df",
            "df -h",
            "df -h /",
            "df --output=source,pcent /var/lib",
            "free -m",
            "uptime",
            "uname -a",
            "nproc --all",
            "whoami",
            "id root",
            "pwd",
            "vm_stat",
            "id user@EXAMPLE.org:x+y%z",
        ] {
            assert!(is_read_only_command(command), "{command:?}");
        }
    }

    #[test]
    fn everything_else_is_not() {
        for command in [
            "",
            " ",
            " df",
            "df ",
            "df  -h",
            "df\t-h",
            "df; rm x",
            "df;rm x",
            "df && rm x",
            "df || rm x",
            "df | tee x",
            "df & rm x",
            "df&",
            "df $(rm x)",
            "df `rm x`",
            "df $X",
            "df ${X}",
            "df > x",
            "df >x",
            "df < x",
            "df 2>&1",
            "df\nrm x",
            "df\rrm x",
            "df\n",
            "df \nrm",
            "df 'x'",
            "df \"x\"",
            "df \\x",
            "df *",
            "df ?",
            "df [a]",
            "df ~",
            "df {a,b}",
            "df !x",
            "df #x",
            "df (x)",
            "A=1 df",
            "/tmp/df",
            "./df",
            "/bin/df",
            "sudo df",
            "env df",
            "df\u{a0}-h",
            "df \u{a0}-h",
            "df -\u{202e}h",
            "df\u{2003}-h",
            "df é",
            "df\0",
            "DF",
            "dff",
            "ls",
            "uptimex",
        ] {
            assert!(!is_read_only_command(command), "{command:?}");
        }
    }
}
