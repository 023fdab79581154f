//! From text to syntax tree, and through it: every construct that can hold a command is visited.

use brush_parser::{
    ParserOptions,
    ast::{
        self, AndOr, Command, CompoundCommand, CompoundList, ExtendedTestExpr, FunctionDefinition, Pipeline,
        RedirectList, SubshellCommand, UnaryPredicate,
    },
};

use crate::{
    Doubt, Line, Origin, guard,
    simple::{Stdin, is_identifier},
    work,
};

/// Collects what a line would start.
pub(crate) struct Reader {
    pub(crate) line: Line,
    pub(crate) options: ParserOptions,
    /// Constructs that are being read.
    pub(crate) depth: usize,
    /// Where commands are found now.
    pub(crate) origin: Origin,
    /// What was spent on parsing, of what a line may take.
    pub(crate) spent: usize,
}

pub(crate) fn read(text: &str) -> Line {
    let options = ParserOptions { enable_extended_globbing: false, ..ParserOptions::default() };
    let mut reader = Reader { line: Line::default(), options, depth: 0, origin: Origin::Line, spent: 0 };
    reader.script(text, Origin::Line);
    reader.line
}

impl Reader {
    pub(crate) fn doubt(&mut self, doubt: Doubt) {
        self.line.doubts.insert(doubt);
    }

    pub(crate) fn is_too_deep(&mut self) -> bool {
        let is_too_deep = self.depth > guard::MOST_NESTED;
        if is_too_deep {
            self.doubt(Doubt::TooDeep);
        }
        is_too_deep
    }

    /// Reads a text that a shell runs.
    pub(crate) fn script(&mut self, text: &str, origin: Origin) {
        self.depth += 1;
        if !self.is_too_deep() {
            let tokenizable = guard::tokenizable(text);
            if tokenizable != Err(Doubt::TooLong)
                && let Some(char) = guard::odd_character(text)
            {
                self.doubt(Doubt::Character(char));
            }
            match tokenizable.and_then(|()| self.parse(text)) {
                Ok(program) => {
                    let outer = std::mem::replace(&mut self.origin, origin);
                    program.complete_commands.iter().for_each(|list| self.list(list));
                    self.origin = outer;
                }
                Err(doubt) => self.doubt(doubt),
            }
        }
        self.depth -= 1;
    }

    fn parse(&mut self, text: &str) -> Result<ast::Program, Doubt> {
        self.spend(text.len())?;
        let tokens = caught(|| brush_parser::uncached_tokenize_str(text, &self.options.tokenizer_options()))?;
        guard::parseable(&tokens)?;
        self.spend(work::of_tokens(&tokens))?;
        caught(|| brush_parser::parse_tokens(&tokens, &self.options))
    }

    /// Before anything is parsed: what a line takes is bounded, however often its parts are read.
    pub(crate) fn spend(&mut self, work: usize) -> Result<(), Doubt> {
        let spent = self.spent.saturating_add(work);
        if spent > work::MOST {
            return Err(Doubt::TooDeep);
        }
        self.spent = spent;
        Ok(())
    }

    fn list(&mut self, list: &CompoundList) {
        self.depth += 1;
        if !self.is_too_deep() {
            for item in &list.0 {
                self.pipeline(&item.0.first);
                for AndOr::And(pipeline) | AndOr::Or(pipeline) in &item.0.additional {
                    self.pipeline(pipeline);
                }
            }
        }
        self.depth -= 1;
    }

    fn pipeline(&mut self, pipeline: &Pipeline) {
        for (index, command) in pipeline.seq.iter().enumerate() {
            let stdin = if index == 0 { Stdin::Inherited } else { Stdin::Unknown };
            self.command(command, stdin);
        }
    }

    fn command(&mut self, command: &Command, stdin: Stdin) {
        match command {
            Command::Simple(simple) => self.simple(simple, stdin),
            Command::Compound(compound, redirects) => {
                self.redirect_list(redirects.as_ref());
                self.compound(compound);
            }
            Command::Function(FunctionDefinition { body, .. }) => {
                self.doubt(Doubt::Construct("a function"));
                self.redirect_list(body.1.as_ref());
                self.compound(&body.0);
            }
            Command::ExtendedTest(test, redirects) => {
                self.redirect_list(redirects.as_ref());
                self.test(&test.expr);
            }
        }
    }

    fn redirect_list(&mut self, redirects: Option<&RedirectList>) {
        for redirect in redirects.iter().flat_map(|list| &list.0) {
            self.redirect(redirect);
        }
    }

    pub(crate) fn subshell(&mut self, subshell: &SubshellCommand) {
        self.list(&subshell.list);
    }

    fn compound(&mut self, compound: &CompoundCommand) {
        match compound {
            CompoundCommand::Arithmetic(command) => self.arithmetic(&command.expr.value),
            CompoundCommand::ArithmeticForClause(clause) => {
                for expression in [&clause.initializer, &clause.condition, &clause.updater].into_iter().flatten() {
                    self.arithmetic(&expression.value);
                }
                self.list(&clause.body.list);
            }
            CompoundCommand::BraceGroup(group) => self.list(&group.list),
            CompoundCommand::Subshell(subshell) => self.subshell(subshell),
            CompoundCommand::ForClause(clause) => {
                self.assigns(&clause.variable_name);
                for value in clause.values.iter().flatten() {
                    self.word(value);
                }
                self.list(&clause.body.list);
            }
            CompoundCommand::CaseClause(clause) => {
                self.word(&clause.value);
                for case in &clause.cases {
                    case.patterns.iter().for_each(|pattern| drop(self.word(pattern)));
                    case.cmd.iter().for_each(|list| self.list(list));
                }
            }
            CompoundCommand::IfClause(clause) => {
                self.list(&clause.condition);
                self.list(&clause.then);
                for branch in clause.elses.iter().flatten() {
                    branch.condition.iter().for_each(|list| self.list(list));
                    self.list(&branch.body);
                }
            }
            CompoundCommand::WhileClause(clause) | CompoundCommand::UntilClause(clause) => {
                self.list(&clause.0);
                self.list(&clause.1.list);
            }
            CompoundCommand::Coprocess(process) => {
                // Where its name ends is for bash to say.
                process.name.iter().for_each(|name| drop(self.word(name)));
                self.command(&process.body, Stdin::Unknown);
            }
        }
    }

    fn test(&mut self, test: &ExtendedTestExpr) {
        self.depth += 1;
        if !self.is_too_deep() {
            match test {
                ExtendedTestExpr::And(left, right) | ExtendedTestExpr::Or(left, right) => {
                    self.test(left);
                    self.test(right);
                }
                ExtendedTestExpr::Not(inner) | ExtendedTestExpr::Parenthesized(inner) => self.test(inner),
                ExtendedTestExpr::UnaryTest(predicate, word) => {
                    let word = self.word(word);
                    let names_variable = matches!(
                        predicate,
                        UnaryPredicate::ShellVariableIsSetAndAssigned | UnaryPredicate::ShellVariableIsSetAndNameRef
                    );
                    if names_variable && !word.literal().is_some_and(is_identifier) {
                        self.doubt(Doubt::Construct("arithmetic on variables"));
                    }
                }
                ExtendedTestExpr::BinaryTest(predicate, left, right) => {
                    use ast::BinaryPredicate as P;
                    let (left, right) = (self.word(left), self.word(right));
                    let is_arithmetic = matches!(
                        predicate,
                        P::ArithmeticEqualTo
                            | P::ArithmeticNotEqualTo
                            | P::ArithmeticLessThan
                            | P::ArithmeticLessThanOrEqualTo
                            | P::ArithmeticGreaterThan
                            | P::ArithmeticGreaterThanOrEqualTo
                    );
                    if is_arithmetic {
                        self.arithmetic(&left.text);
                        self.arithmetic(&right.text);
                    }
                }
            }
        }
        self.depth -= 1;
    }
}

/// The guard keeps away what the parser is known to panic on. Should there be more of it, the line is not understood.
fn caught<T, E>(parse: impl FnOnce() -> Result<T, E>) -> Result<T, Doubt> {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(parse)) {
        Ok(Ok(parsed)) => Ok(parsed),
        Ok(Err(_)) | Err(_) => Err(Doubt::Syntax),
    }
}
