//! Shells, and builtins that are given a text to run.

use crate::{Doubt, Origin, Word, reader::Reader, simple::Stdin};

/// Shells that read the grammar of bash, or most of it.
const SHELLS: [&str; 5] = ["bash", "sh", "dash", "ash", "rbash"];
/// Shells with a grammar of their own.
const FOREIGN: [&str; 8] = ["zsh", "ksh", "mksh", "fish", "csh", "tcsh", "busybox", "pwsh"];
/// What other shells than bash read in another way, or not at all.
const BASHISMS: [&str; 11] = ["&>", "|&", "<(", ">(", "$'", "$\"", "[[", "((", "<<<", "{", "function"];

impl Reader {
    /// Reads what a shell runs; whether the program is one.
    pub(crate) fn shell(&mut self, program: &str, arguments: &[Word], stdin: &Stdin) -> bool {
        match program {
            "eval" => {
                let words =
                    if arguments.first().is_some_and(|word| word.text == "--") { &arguments[1..] } else { arguments };
                self.runs_words("eval", words);
            }
            "trap" => self.trap(arguments),
            "source" | "." => self.runs_unknown(program),
            _ if FOREIGN.contains(&program) => {
                self.runs_unknown(program);
                self.shell_arguments(program, arguments, stdin);
            }
            _ if SHELLS.contains(&program) => self.shell_arguments(program, arguments, stdin),
            _ => return false,
        }
        true
    }

    fn shell_arguments(&mut self, program: &str, arguments: &[Word], stdin: &Stdin) {
        let (mut at, mut has_text, mut from_stdin) = (0, false, false);
        while let Some(word) = arguments.get(at) {
            let text = word.text.as_str();
            if word.may_split || (word.is_dynamic && !has_text) {
                return self.runs_unknown(program);
            }
            if text == "--" || text == "-" {
                at += 1;
                break;
            }
            if !text.starts_with(['-', '+']) || text.len() == 1 {
                break;
            }
            if let Some(long) = text.strip_prefix("--") {
                match long {
                    "norc" | "noprofile" | "login" | "posix" | "noediting" | "verbose" => {}
                    "version" | "help" => return,
                    _ => {
                        self.runs_unknown(program);
                        at += usize::from(matches!(long, "rcfile" | "init-file"));
                    }
                }
            } else {
                has_text |= text.starts_with('-') && text.contains('c');
                from_stdin |= text.contains('s');
                // Each of these letters takes a word of its own.
                at += text.chars().filter(|letter| matches!(letter, 'o' | 'O')).count();
            }
            at += 1;
        }
        match arguments.get(at) {
            Some(text) if has_text => self.shell_text(program, text.literal()),
            Some(_) if !from_stdin => self.runs_unknown(program),
            _ => match stdin {
                Stdin::Text(text) => self.shell_text(program, Some(text)),
                Stdin::Inherited | Stdin::Unknown => self.runs_unknown(program),
            },
        }
    }

    fn shell_text(&mut self, program: &str, text: Option<&str>) {
        let Some(text) = text else { return self.runs_unknown(program) };
        if program != "bash" && BASHISMS.iter().any(|bashism| text.contains(bashism)) {
            self.doubt(Doubt::Construct("what other shells than bash read otherwise"));
        }
        self.script(text, Origin::Text);
    }

    fn trap(&mut self, arguments: &[Word]) {
        match arguments.first().map(|word| (word, word.literal())) {
            None => {}
            Some((_, Some("-p" | "-l" | "-P" | "-" | ""))) => {}
            Some((_, Some("--"))) => self.trap(&arguments[1..]),
            Some((word, _)) => self.runs_text("trap", word),
        }
    }
}
