//! Builtins of bash that define, assign, or evaluate more than they seem to.

use crate::{Doubt, Word, reader::Reader, simple::is_identifier};

impl Reader {
    /// Looks at a builtin's arguments; none of them starts a program in a way that can be followed.
    pub(crate) fn builtin(&mut self, program: &str, arguments: &[Word]) -> bool {
        match program {
            "alias" | "enable" | "bind" | "complete" | "compgen" | "compopt" | "fc" | "hash" => {
                self.runs_unknown(program);
            }
            "mapfile" | "readarray" => {
                if arguments.iter().any(|word| word.is_dynamic || word.text.starts_with('-')) {
                    self.runs_unknown(program);
                }
                self.names(arguments);
            }
            "let" => arguments.iter().for_each(|word| self.arithmetic(&word.text)),
            "declare" | "typeset" | "local" | "readonly" | "export" => self.declares(program, arguments),
            "read" | "unset" | "getopts" | "wait" => self.names(arguments),
            "printf" | "test" | "[" if arguments.iter().any(|word| word.text.starts_with("-v") || word.may_split) => {
                self.names(arguments);
            }
            "set" if arguments.iter().any(|word| word.may_split) => self.runs_unknown(program),
            _ => {}
        }
        false
    }

    fn declares(&mut self, program: &str, arguments: &[Word]) {
        for word in arguments {
            let text = word.text.as_str();
            if text.starts_with(['-', '+']) {
                if word.is_dynamic || text.contains(['n', 'i', 'f', 'F']) {
                    self.runs_unknown(program);
                }
                continue;
            }
            let name = text.split(['=', '+']).next().unwrap_or_default();
            if !is_identifier(name) || (word.may_split && name == text) {
                self.doubt(Doubt::Construct("arithmetic on variables"));
            }
            self.assigns(name);
        }
    }

    /// Names of variables; a subscript in one is evaluated.
    fn names(&mut self, arguments: &[Word]) {
        for word in arguments {
            self.assigns(word.text.trim_start_matches("-v"));
            if word.is_dynamic || word.text.contains(['[', '$', '`']) && word.text.len() > 1 {
                self.doubt(Doubt::Construct("arithmetic on variables"));
            }
        }
    }
}
