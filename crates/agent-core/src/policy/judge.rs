//! What policy says of a call, and why.
//!
//! In a scope: matching argument rules, else the command's rule, else the scope's. The call's own scope comes before
//! `run_command`, and that before the default. Of several commands in a line the most restrictive counts, and what is not
//! understood at least asks.

use std::{collections::BTreeMap, path::Path};

use serde_json::Value;
use stakpak_protocol::Approval;
use stakpak_shell::{Command, Line, RedirectKind, Role, Word};

use super::{
    OWN_PREFIX,
    key::{Rule, SCOPES},
    matching::Match,
};

/// What is to be judged.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// `server__tool`.
    pub tool: &'a str,
    /// Its arguments.
    pub arguments: &'a Value,
    /// The canonical path that the call is about.
    pub path: Option<&'a Path>,
    /// Where it runs, canonical: rules may name paths below it without it.
    pub cwd: Option<&'a Path>,
}

/// What policy says, and why if a rule or a doubt is the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What is done.
    pub approval: Approval,
    /// For people: the rule, or what is not understood.
    pub reason: Option<String>,
}

impl Verdict {
    pub(super) fn of(approval: Approval) -> Self {
        Self { approval, reason: None }
    }

    fn ask(reason: String) -> Self {
        Self { approval: Approval::Ask, reason: Some(reason) }
    }

    /// The more restrictive of both; of equals the one with a reason.
    pub(super) fn or(self, other: Self) -> Self {
        let other_wins = other.approval > self.approval || (other.approval == self.approval && self.reason.is_none());
        if other_wins { other } else { self }
    }

    fn by(rule: &Rule<'_>, what: &str) -> Self {
        let reason = match rule.action {
            Approval::Auto => None,
            Approval::Ask => Some(format!("the rule {} asks about {what}", rule.shown())),
            Approval::Deny => Some(format!("the rule {} denies {what}", rule.shown())),
        };
        Self { approval: rule.action, reason }
    }
}

/// Rules as they are stored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules<'a> {
    pub(super) rules: &'a BTreeMap<String, Approval>,
    pub(super) read_only_commands: bool,
    pub(super) default: Approval,
}

impl<'a> Rules<'a> {
    pub(super) fn judge(&self, subject: &Subject<'_>) -> Verdict {
        let bare = subject.tool.strip_prefix(OWN_PREFIX).filter(|bare| SCOPES.contains(bare));
        match (bare, subject.arguments.get("command").and_then(Value::as_str)) {
            (Some(_), Some(command)) => self.scoped(subject.tool).line(command, subject.arguments.get("env")),
            _ => self.tool(subject),
        }
    }

    fn tool(&self, subject: &Subject<'_>) -> Verdict {
        let mut of_paths: Option<Verdict> = None;
        let mut of_tool: Option<Verdict> = None;
        for (key, action) in self.rules {
            let Some(rule) = Rule::of(subject.tool, key, *action) else {
                let server = key.strip_suffix('*').filter(|server| server.ends_with("__"));
                if server.is_some_and(|server| subject.tool.starts_with(server)) {
                    let rule = Rule { key, action: *action, segments: Vec::new() };
                    more_restrictive(&mut of_tool, Verdict::by(&rule, "this tool"));
                }
                continue;
            };
            match rule.segments.as_slice() {
                [] => more_restrictive(&mut of_tool, Verdict::by(&rule, "this tool")),
                [pattern] => {
                    let matches = |path: &Path| pattern.matches(&path.to_string_lossy(), rule.restricts());
                    let means = subject.path.map_or(rule.restricts(), |path| {
                        let below = subject.cwd.and_then(|cwd| path.strip_prefix(cwd).ok());
                        matches(path) || below.is_some_and(matches)
                    });
                    if means {
                        more_restrictive(&mut of_paths, Verdict::by(&rule, "this path"));
                    }
                }
                _ => {}
            }
        }
        of_paths.or(of_tool).unwrap_or(Verdict::of(self.default))
    }

    /// The rules of a tool that runs command lines, its own before those of `run_command`.
    fn scoped(&self, tool: &str) -> Scoped<'a> {
        let of = |scope: &str| self.rules.iter().filter_map(|(key, action)| Rule::of(scope, key, *action)).collect();
        let general = format!("{OWN_PREFIX}{}", SCOPES[0]);
        let scopes = if tool == general { vec![of(tool)] } else { vec![of(tool), of(&general)] };
        Scoped { scopes, read_only_commands: self.read_only_commands, default: self.default }
    }
}

fn more_restrictive(found: &mut Option<Verdict>, next: Verdict) {
    *found = Some(match found.take() {
        Some(verdict) => verdict.or(next),
        None => next,
    });
}

/// Rules of a scope, in the order in which they are asked.
struct Scoped<'a> {
    scopes: Vec<Vec<Rule<'a>>>,
    read_only_commands: bool,
    default: Approval,
}

impl Scoped<'_> {
    fn line(&self, text: &str, environment: Option<&Value>) -> Verdict {
        let line = stakpak_shell::read(text);
        let whole = self.whole();
        if whole.approval == Approval::Auto && !self.looks_inside() {
            // The tool is approved as such, and no rule takes anything out: only what cannot be read is left to ask about.
            return if line.is_unread() { whole.or(doubts(&line)) } else { whole };
        }
        let mut verdict = if line.commands.is_empty() && line.redirects.is_empty() {
            whole.clone()
        } else {
            Verdict::of(Approval::Auto)
        };
        let looks = self.read_only_commands && line.redirects.is_empty();
        for command in &line.commands {
            verdict = verdict.or(self.command(command, looks));
        }
        for redirect in line.redirects.iter().filter(|redirect| redirect.kind == RedirectKind::Write) {
            verdict = verdict.or(self.writes(&redirect.target, &whole));
        }
        if !line.doubts.is_empty() {
            verdict = verdict.or(whole.or(doubts(&line)));
        }
        let variables = environment.and_then(Value::as_object).into_iter().flat_map(|variables| variables.keys());
        for name in variables.filter(|name| stakpak_shell::is_dangerous_variable(name)) {
            verdict = verdict.or(Verdict::ask(format!("it sets {name}")));
        }
        verdict
    }

    /// What is done with what no rule of a command means.
    fn whole(&self) -> Verdict {
        let mut scopes = self.scopes.iter().flatten();
        let rule = scopes.find(|rule| rule.segments.is_empty());
        rule.map_or(Verdict::of(self.default), |rule| Verdict::by(rule, "every command"))
    }

    /// Whether some rule takes a command out of what the scope says.
    fn looks_inside(&self) -> bool {
        self.scopes.iter().flatten().any(|rule| !rule.segments.is_empty() && rule.restricts())
    }

    /// `looks`: commands of the read-only list need no rule.
    fn command(&self, command: &Command, looks: bool) -> Verdict {
        let mut possible = Verdict::of(Approval::Auto);
        for scope in &self.scopes {
            let of_arguments = self.matching(scope, command, &mut possible, |rule| rule.segments.len() > 1);
            let found =
                of_arguments.or_else(|| self.matching(scope, command, &mut possible, |rule| rule.segments.len() == 1));
            if let Some(found) = found {
                return found.or(possible);
            }
            if command.role == Role::Plain
                && let Some(rule) = scope.iter().find(|rule| rule.segments.is_empty())
            {
                return Verdict::by(rule, "every command").or(possible);
            }
        }
        match command.role {
            Role::Plain if !(looks && command.only_looks()) => Verdict::of(self.default).or(possible),
            _ => possible,
        }
    }

    /// The most restrictive of the rules that mean the command; what only may be meant goes to `possible`.
    #[expect(clippy::unused_self, reason = "reads like its siblings")]
    fn matching(
        &self,
        scope: &[Rule<'_>],
        command: &Command,
        possible: &mut Verdict,
        level: impl Fn(&Rule<'_>) -> bool,
    ) -> Option<Verdict> {
        let mut found = None;
        for rule in scope.iter().filter(|rule| level(rule)) {
            match rule.means(command) {
                Match::No => {}
                Match::Maybe => {
                    let may = Verdict::ask(format!("the rule {} may mean `{command}`", rule.shown()));
                    *possible = possible.clone().or(may);
                }
                Match::Yes => more_restrictive(&mut found, Verdict::by(rule, &format!("`{command}`"))),
            }
        }
        found
    }

    /// A file that is written is the argument of the command `>`.
    fn writes(&self, target: &Word, whole: &Verdict) -> Verdict {
        let command = Command {
            name: Word::of(">"),
            arguments: vec![target.clone()],
            role: Role::Transparent,
            origin: stakpak_shell::Origin::Line,
        };
        let climbs = Path::new(&target.text).components().any(|part| part == std::path::Component::ParentDir);
        let mut possible = Verdict::of(Approval::Auto);
        for scope in &self.scopes {
            let of_path = self.matching(scope, &command, &mut possible, |rule| rule.segments.len() > 1);
            let found =
                of_path.or_else(|| self.matching(scope, &command, &mut possible, |rule| rule.segments.len() == 1));
            if let Some(found) =
                found.filter(|found| found.approval != Approval::Auto || !(climbs || target.is_dynamic))
            {
                return found.or(possible);
            }
        }
        whole.clone().or(possible).or(Verdict::ask(format!("it writes to {}", target.text)))
    }
}

fn doubts(line: &Line) -> Verdict {
    let reasons: Vec<String> = line.doubts.iter().map(ToString::to_string).collect();
    Verdict::ask(format!("the command is not fully understood: {}", reasons.join("; ")))
}
