//! Programs that start others because an argument says so.

use crate::{Doubt, Origin, Word, reader::Reader, simple::Stdin};

impl Reader {
    /// Looks for programs among the arguments of a program.
    pub(crate) fn programs_in_arguments(&mut self, program: &str, arguments: &[Word]) {
        match program {
            "find" => self.find(arguments),
            "tar" | "gtar" | "bsdtar" => self.options_that_run(program, arguments, "IF", &TAR),
            "rsync" => self.options_that_run(program, arguments, "e", &["--rsh", "--rsync-path"]),
            "git" => self.git(arguments),
            _ => {}
        }
    }

    fn find(&mut self, arguments: &[Word]) {
        const WRITE: [&str; 6] = ["-delete", "-fprint", "-fprint0", "-fprintf", "-fls", "-files0-from"];
        const RUN: [&str; 4] = ["-exec", "-execdir", "-ok", "-okdir"];
        let mut rest = arguments;
        while let Some((word, following)) = rest.split_first() {
            rest = following;
            if word.is_dynamic && (word.may_split && !word.text.contains(['*', '?']) || word.text.starts_with('$')) {
                self.runs_unknown("find");
            }
            if WRITE.contains(&word.text.as_str()) {
                self.runs_unknown(&format!("find {}", word.text));
            }
            if RUN.contains(&word.text.as_str()) {
                let end = rest.iter().position(|word| matches!(word.text.as_str(), ";" | "+")).unwrap_or(rest.len());
                let mut words = rest[..end].to_vec();
                for word in words.iter_mut().filter(|word| word.text.contains("{}")) {
                    word.is_dynamic = true;
                }
                self.starts("find", words, &Stdin::Inherited);
                rest = rest.get(end + 1..).unwrap_or_default();
            }
        }
    }

    /// Options whose value a shell runs; `short` are their letters, as the last of a cluster.
    fn options_that_run(&mut self, program: &str, arguments: &[Word], short: &str, long: &[&str]) {
        let mut rest = arguments;
        while let Some((word, following)) = rest.split_first() {
            rest = following;
            if word.may_split {
                self.runs_unknown(program);
            }
            let (name, value) = word.text.split_once('=').unwrap_or((&word.text, ""));
            if name.len() > 4 && name.starts_with("--") && long.iter().any(|option| option.starts_with(name)) {
                let value = if value.is_empty() { rest.first().cloned() } else { Some(word.from(name.len() + 1)) };
                self.value_runs(program, value);
            } else if word.text.starts_with('-')
                && !word.text.starts_with("--")
                && let Some(index) = word.text.find(|letter| short.contains(letter))
            {
                let attached = word.from(index + 1);
                let value = if attached.text.is_empty() { rest.first().cloned() } else { Some(attached) };
                self.value_runs(program, value);
            }
        }
    }

    fn value_runs(&mut self, program: &str, value: Option<Word>) {
        self.runs_unknown(program);
        if let Some(value) = value {
            let text = value.text.strip_prefix("exec=").map_or(value.clone(), |_| value.from("exec=".len()));
            self.runs_text(program, &text);
        }
    }

    /// Configuration on the command line names pagers, editors and aliases; it is never harmless for certain.
    fn git(&mut self, arguments: &[Word]) {
        const RUN: [&str; 9] = [
            "--exec-path",
            "--config-env",
            "--upload-pack",
            "--receive-pack",
            "--open-files-in-pager",
            "--exec",
            "--extcmd",
            "--tree-filter",
            "--index-filter",
        ];
        let mut is_option = true;
        for (index, word) in arguments.iter().enumerate() {
            if is_option && word.may_split {
                self.runs_unknown("git");
            }
            let (name, value) = word.text.split_once('=').unwrap_or((&word.text, ""));
            if word.text == "-c" && is_option {
                self.runs_unknown("git -c");
                if let Some(setting) = arguments.get(index + 1) {
                    let start = setting.text.find('=').map_or(setting.text.len(), |at| at + 1);
                    self.setting(&setting.from(start));
                }
            } else if RUN.contains(&name) {
                self.runs_unknown(&format!("git {name}"));
                let given = arguments.get(index + 1).filter(|_| value.is_empty()).cloned();
                let value = given.unwrap_or_else(|| word.from(name.len() + 1));
                self.setting(&value);
            }
            if is_option && !word.text.starts_with('-') && !takes_value(arguments.get(index.wrapping_sub(1))) {
                is_option = false;
                self.git_subcommand(&word.text, &arguments[index + 1..]);
            }
        }
        if arguments.iter().any(|word| word.text.starts_with("ext::")) {
            self.runs_unknown("git ext::");
        }
    }

    /// A value that may be a program to run.
    fn setting(&mut self, value: &Word) {
        let value = if value.text.starts_with('!') { value.from(1) } else { value.clone() };
        self.doubt(Doubt::Runs("git".to_owned()));
        if let Some(text) = value.literal() {
            self.script(text, Origin::Program("git".to_owned()));
        }
    }

    fn git_subcommand(&mut self, name: &str, arguments: &[Word]) {
        let first = arguments.first().map(|word| word.text.as_str());
        match (name, first) {
            ("bisect", Some("run")) => self.starts("git", arguments[1..].to_vec(), &Stdin::Inherited),
            ("submodule", Some("foreach")) => self.runs_words("git", &arguments[1..]),
            ("rebase", _) => {
                if let Some(at) = arguments.iter().position(|word| word.text == "-x")
                    && let Some(text) = arguments.get(at + 1)
                {
                    self.runs_text("git", &text.clone());
                }
            }
            ("config", _) | ("filter-branch", _) => self.runs_unknown(&format!("git {name}")),
            _ => {}
        }
    }
}

const TAR: [&str; 7] = [
    "--to-command",
    "--checkpoint-action",
    "--use-compress-program",
    "--rsh-command",
    "--rmt-command",
    "--info-script",
    "--new-volume-script",
];

/// Whether the word before takes this one as its value.
fn takes_value(before: Option<&Word>) -> bool {
    const VALUED: [&str; 7] = ["-C", "-c", "--git-dir", "--work-tree", "--namespace", "--super-prefix", "--config-env"];
    before.is_some_and(|word| VALUED.contains(&word.text.as_str()))
}
