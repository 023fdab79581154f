//! One command with its words: what it is, and what it starts in turn.

use crate::{Command, Doubt, Origin, Role, Word, reader::Reader, simple::Stdin};

impl Reader {
    /// Notes a command and follows what it starts. `words` begins with the name.
    pub(crate) fn invoke(&mut self, words: Vec<Word>, stdin: &Stdin, origin: Origin, role: Role) {
        self.depth += 1;
        if !self.is_too_deep() {
            self.note(words, stdin, origin, role);
        }
        self.depth -= 1;
    }

    fn note(&mut self, mut words: Vec<Word>, stdin: &Stdin, origin: Origin, role: Role) {
        if words.is_empty() {
            return;
        }
        let arguments = words.split_off(1);
        let Some(name) = words.pop() else { return };
        let at = self.line.commands.len();
        let command = Command { name, arguments, role, origin };
        self.line.commands.push(command.clone());
        let Some(_) = command.name.literal() else {
            return self.doubt(Doubt::Construct("a command whose name is not fixed"));
        };
        let program = command.name.base_name().to_owned();
        let starts = self.wrapped(&program, &command.arguments, stdin)
            || self.shell(&program, &command.arguments, stdin)
            || self.builtin(&program, &command.arguments);
        if starts && role == Role::Plain && crate::wrappers::is_transparent(&program) {
            self.line.commands[at].role = Role::Transparent;
        }
        self.programs_in_arguments(&program, &command.arguments);
    }

    /// What a program starts: these words.
    pub(crate) fn starts(&mut self, program: &str, words: Vec<Word>, stdin: &Stdin) {
        self.invoke(words, stdin, Origin::Program(program.to_owned()), Role::Plain);
    }

    /// What a program may start: it is not known which of these words is the name.
    pub(crate) fn may_start(&mut self, program: &str, words: &[Word]) {
        self.doubt(Doubt::Runs(program.to_owned()));
        for start in 0..words.len() {
            let (name, arguments) = (words[start].clone(), words[start + 1..].to_vec());
            let origin = Origin::Program(program.to_owned());
            self.line.commands.push(Command { name, arguments, role: Role::Possible, origin });
        }
    }

    /// What a shell runs: this text, if it is fixed.
    pub(crate) fn runs_text(&mut self, program: &str, text: &Word) {
        match text.literal() {
            Some(text) => self.script(text, Origin::Text),
            None => self.doubt(Doubt::Runs(program.to_owned())),
        }
    }

    /// The same of several words, which are joined first.
    pub(crate) fn runs_words(&mut self, program: &str, words: &[Word]) {
        let texts: Option<Vec<&str>> = words.iter().map(Word::literal).collect();
        match texts {
            Some(texts) => self.script(&texts.join(" "), Origin::Text),
            None => self.may_start(program, words),
        }
    }
}
