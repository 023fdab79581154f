//! Programs whose arguments are another command, and where it begins among them.

use crate::{Doubt, Word, reader::Reader, simple::Stdin};

/// How a wrapper's arguments are read until the command begins.
struct Wrapper {
    names: &'static [&'static str],
    /// Short options without a value.
    flags: &'static str,
    /// Short options with a value.
    valued: &'static str,
    /// Long options; one that ends with `=` takes a value, attached or next.
    long: &'static [&'static str],
    /// Arguments before the command.
    operands: usize,
    /// Whether `NAME=value` may stand before the command.
    assigns: bool,
}

const WRAPPERS: [Wrapper; 15] = [
    Wrapper {
        names: &["env"],
        flags: "i0v",
        valued: "uC",
        long: &["unset=", "chdir=", "ignore-environment", "null", "debug"],
        operands: 0,
        assigns: true,
    },
    Wrapper { names: &["command"], flags: "p", valued: "", long: &[], operands: 0, assigns: false },
    Wrapper { names: &["builtin", "nohup"], flags: "", valued: "", long: &[], operands: 0, assigns: false },
    Wrapper { names: &["exec"], flags: "cl", valued: "a", long: &[], operands: 0, assigns: false },
    Wrapper {
        names: &["time"],
        flags: "apqv",
        valued: "fo",
        long: &["append", "portability", "quiet", "verbose", "format=", "output="],
        operands: 0,
        assigns: false,
    },
    Wrapper {
        names: &["timeout", "gtimeout"],
        flags: "vfp",
        valued: "ks",
        long: &["foreground", "preserve-status", "verbose", "kill-after=", "signal="],
        operands: 1,
        assigns: false,
    },
    Wrapper { names: &["nice"], flags: "0123456789", valued: "n", long: &["adjustment="], operands: 0, assigns: false },
    Wrapper {
        names: &["ionice"],
        flags: "t",
        valued: "cn",
        long: &["ignore", "class=", "classdata="],
        operands: 0,
        assigns: false,
    },
    Wrapper {
        names: &["stdbuf"],
        flags: "",
        valued: "ioe",
        long: &["input=", "output=", "error="],
        operands: 0,
        assigns: false,
    },
    Wrapper {
        names: &["setsid"],
        flags: "cfw",
        valued: "",
        long: &["ctty", "fork", "wait"],
        operands: 0,
        assigns: false,
    },
    Wrapper {
        names: &["flock"],
        flags: "sxeunoF",
        valued: "wE",
        long: &["shared", "exclusive", "unlock", "nonblock", "close", "no-fork", "timeout=", "conflict-exit-code="],
        operands: 1,
        assigns: false,
    },
    Wrapper {
        names: &["sudo"],
        flags: "AbEHnPSkKB",
        valued: "ughpCTrtUDR",
        long: &[
            "user=",
            "group=",
            "host=",
            "prompt=",
            "preserve-env",
            "non-interactive",
            "stdin",
            "set-home",
            "chdir=",
        ],
        operands: 0,
        assigns: true,
    },
    Wrapper { names: &["doas"], flags: "nL", valued: "uC", long: &[], operands: 0, assigns: false },
    Wrapper {
        names: &["chroot"],
        flags: "",
        valued: "",
        long: &["userspec=", "groups=", "skip-chdir"],
        operands: 1,
        assigns: false,
    },
    Wrapper {
        names: &["nsenter", "unshare"],
        flags: "muinpUCTrfFac",
        valued: "tSGRw",
        long: &["fork", "pid", "mount", "net", "user", "ipc", "uts", "map-root-user", "all", "target="],
        operands: 0,
        assigns: false,
    },
];

/// Wrappers that give their command no right that it does not have anyway.
const TRANSPARENT: [&str; 15] = [
    "env", "command", "builtin", "exec", "nohup", "time", "timeout", "gtimeout", "nice", "ionice", "stdbuf", "setsid",
    "xargs", "watch", "flock",
];

/// Whether the wrapper needs no rule of its own.
pub(crate) fn is_transparent(program: &str) -> bool {
    TRANSPARENT.contains(&program)
}

/// What follows a wrapper's own arguments.
enum Begins {
    /// The command.
    At(usize),
    /// There is none.
    Nowhere,
    /// It cannot be said.
    Unknown,
}

impl Reader {
    /// Follows a wrapper; whether the program is one that starts something.
    pub(crate) fn wrapped(&mut self, program: &str, arguments: &[Word], stdin: &Stdin) -> bool {
        match program {
            "xargs" => return self.xargs(arguments),
            "watch" => return self.watch(arguments),
            "su" | "runuser" => return self.su(program, arguments),
            "ssh" => return self.ssh(arguments),
            "docker" | "podman" | "kubectl" => return self.container(program, arguments),
            "command" if queries(arguments) => return false,
            "flock" if self.flock_text(arguments) => return true,
            _ => {}
        }
        let Some(wrapper) = WRAPPERS.iter().find(|wrapper| wrapper.names.contains(&program)) else { return false };
        match self.begin(wrapper, arguments) {
            Begins::At(start) => {
                self.starts(program, arguments[start..].to_vec(), stdin);
                true
            }
            Begins::Nowhere => false,
            Begins::Unknown => {
                self.may_start(program, arguments);
                true
            }
        }
    }

    fn begin(&mut self, wrapper: &Wrapper, arguments: &[Word]) -> Begins {
        let (mut at, mut operands) = (0, wrapper.operands);
        let mut options = true;
        while let Some(word) = arguments.get(at) {
            if word.may_split {
                return Begins::Unknown;
            }
            let text = word.text.as_str();
            if options && text == "--" {
                options = false;
            } else if options && text.starts_with('-') && text.len() > 1 {
                match option_length(wrapper, word) {
                    Some(length) => at += length - 1,
                    None => return Begins::Unknown,
                }
            } else if wrapper.assigns && text.contains('=') {
                let name = text.split('=').next().unwrap_or_default();
                if word.is_dynamic && !crate::simple::is_identifier(name) {
                    return Begins::Unknown;
                }
                self.assigns(name);
            } else if operands > 0 {
                operands -= 1;
            } else {
                return Begins::At(at);
            }
            at += 1;
        }
        Begins::Nowhere
    }

    fn xargs(&mut self, arguments: &[Word]) -> bool {
        const FLAGS: &str = "0rtpxo";
        const VALUED: &str = "adEILnPs";
        let mut replace: Option<String> = None;
        let mut at = 0;
        while let Some(word) = arguments.get(at).filter(|word| word.text.starts_with('-') && word.text.len() > 1) {
            let text = word.text.as_str();
            let letter = text.chars().nth(1).unwrap_or_default();
            if word.is_dynamic || (text.starts_with("--") && !is_plain_long(text)) {
                self.may_start("xargs", arguments);
                return true;
            }
            let value = text.get(2..).filter(|value| !value.is_empty()).map(str::to_owned);
            if text.starts_with("--") {
                replace = text.strip_prefix("--replace").map(replacement).or(replace);
            } else if letter == 'I' {
                at += usize::from(value.is_none());
                replace = value.or_else(|| arguments.get(at).map(|word| word.text.clone()));
            } else if letter == 'i' {
                replace = Some(value.unwrap_or_else(|| "{}".to_owned()));
            } else if VALUED.contains(letter) {
                at += usize::from(value.is_none());
            } else if !text[1..].chars().all(|char| FLAGS.contains(char)) && !matches!(letter, 'l' | 'e') {
                self.may_start("xargs", arguments);
                return true;
            }
            at += 1;
        }
        let mut words = arguments.get(at..).unwrap_or_default().to_vec();
        if words.is_empty() {
            return false;
        }
        match &replace {
            Some(text) => words.iter_mut().filter(|word| word.text.contains(text.as_str())).for_each(|word| {
                word.is_dynamic = true;
            }),
            None => words.push(Word { text: "…".to_owned(), is_dynamic: true, may_split: true }),
        }
        self.starts("xargs", words, &Stdin::Unknown);
        true
    }

    /// It hands its arguments to a shell as one text.
    fn watch(&mut self, arguments: &[Word]) -> bool {
        let wrapper = Wrapper {
            names: &["watch"],
            flags: "bcegptwrCf",
            valued: "nqs",
            long: &[
                "beep",
                "color",
                "differences",
                "errexit",
                "chgexit",
                "no-title",
                "interval=",
                "precise",
                "no-wrap",
            ],
            operands: 0,
            assigns: false,
        };
        match self.begin(&wrapper, arguments) {
            Begins::At(start) => self.runs_words("watch", &arguments[start..]),
            Begins::Nowhere => return false,
            Begins::Unknown => {
                self.may_start("watch", arguments);
                let literal = arguments.iter().filter_map(Word::literal).filter(|text| !text.starts_with('-'));
                let texts: Vec<String> = literal.map(str::to_owned).collect();
                texts.iter().for_each(|text| self.script(text, crate::Origin::Text));
            }
        }
        true
    }

    /// `flock FILE -c TEXT`.
    fn flock_text(&mut self, arguments: &[Word]) -> bool {
        let at = arguments.iter().position(|word| matches!(word.text.as_str(), "-c" | "--command"));
        let Some(text) = at.and_then(|at| arguments.get(at + 1)) else { return false };
        self.runs_text("flock", text);
        true
    }

    fn su(&mut self, program: &str, arguments: &[Word]) -> bool {
        let at = arguments.iter().position(|word| {
            matches!(word.text.as_str(), "-c" | "--command" | "--session-command") || word.text.ends_with('c')
        });
        match at.and_then(|at| arguments.get(at + 1)) {
            Some(text) => self.runs_text(program, text),
            None => self.may_start(program, arguments),
        }
        true
    }

    fn ssh(&mut self, arguments: &[Word]) -> bool {
        let wrapper = Wrapper {
            names: &["ssh"],
            flags: "46AaCfGgKkMNnqsTtVvXxYy",
            valued: "BbcDEeFIiJLlmOopQRSWw",
            long: &[],
            operands: 1,
            assigns: false,
        };
        // Options and files of configuration name programs, too.
        if arguments.iter().any(|word| word.text.starts_with("-o") || word.text.starts_with("-F")) {
            self.may_start("ssh", arguments);
            let values =
                arguments.iter().filter_map(|word| word.text.split_once('=')).map(|(_, value)| value.to_owned());
            values.collect::<Vec<_>>().iter().for_each(|value| self.script(value, crate::Origin::Text));
        }
        match self.begin(&wrapper, arguments) {
            Begins::At(start) => self.runs_words("ssh", &arguments[start..]),
            Begins::Nowhere => return false,
            Begins::Unknown => self.may_start("ssh", arguments),
        }
        true
    }

    /// `docker exec`, `docker run` and `kubectl exec`: the command among the arguments is looked for, not computed.
    fn container(&mut self, program: &str, arguments: &[Word]) -> bool {
        let Some(at) = arguments.iter().position(|word| matches!(word.text.as_str(), "exec" | "run" | "debug")) else {
            return false;
        };
        let inner = &arguments[at + 1..];
        match inner.iter().position(|word| word.text == "--") {
            Some(end) => self.starts(program, inner[end + 1..].to_vec(), &Stdin::Unknown),
            None => {
                let first = inner.iter().position(|word| !word.text.starts_with('-')).unwrap_or(inner.len());
                let plain = first == 0
                    || inner[..first]
                        .iter()
                        .all(|word| matches!(word.text.as_str(), "-i" | "-t" | "-it" | "-ti" | "-d"));
                if plain && first + 1 < inner.len() && arguments[at].text == "exec" {
                    self.starts(program, inner[first + 1..].to_vec(), &Stdin::Unknown);
                } else {
                    self.may_start(program, inner);
                }
            }
        }
        true
    }

    pub(crate) fn runs_unknown(&mut self, program: &str) {
        self.doubt(Doubt::Runs(program.to_owned()));
    }
}

/// How many words an option of a wrapper takes; none: it is not known.
fn option_length(wrapper: &Wrapper, word: &Word) -> Option<usize> {
    if let Some(long) = word.text.strip_prefix("--") {
        let (name, value) = long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
        let known = |option: &&&str| option.strip_suffix('=').unwrap_or(option) == name;
        let option = wrapper.long.iter().find(known)?;
        return (!word.is_dynamic || value.is_some())
            .then(|| 1 + usize::from(option.ends_with('=') && value.is_none()));
    }
    for (index, letter) in word.text.char_indices().skip(1) {
        if wrapper.valued.contains(letter) {
            let attached = index + letter.len_utf8() < word.text.len();
            return (!word.is_dynamic || attached).then(|| 1 + usize::from(!attached));
        }
        if !wrapper.flags.contains(letter) || word.is_dynamic {
            return None;
        }
    }
    Some(1)
}

/// `command -v` tells, and starts nothing.
fn queries(arguments: &[Word]) -> bool {
    arguments.first().and_then(Word::literal).is_some_and(|flag| matches!(flag, "-v" | "-V" | "-pv" | "-pV"))
}

fn replacement(rest: &str) -> String {
    rest.strip_prefix('=').map_or_else(|| "{}".to_owned(), str::to_owned)
}

/// Long options of `xargs` that stand alone.
fn is_plain_long(text: &str) -> bool {
    let name = text.split('=').next().unwrap_or_default();
    let alone = ["--null", "--no-run-if-empty", "--verbose", "--interactive", "--exit", "--open-tty", "--replace"];
    alone.contains(&name) || text.contains('=')
}
