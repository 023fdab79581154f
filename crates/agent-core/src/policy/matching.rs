//! Whether a rule means a command. What a rule approves must be certain; what it asks about or denies need only be possible.

use stakpak_shell::{Command, Word, candidates};

use super::key::{Rule, Segment};

/// Whether a rule means a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Match {
    No,
    /// An expansion decides. Only of rules that ask or deny.
    Maybe,
    Yes,
}

impl Rule<'_> {
    /// Whether the rule means the command.
    pub(super) fn means(&self, command: &Command) -> Match {
        let Some((name, segments)) = self.segments.split_first() else { return Match::No };
        if !self.names(name, &command.name) {
            return Match::No;
        }
        if segments.is_empty() {
            return Match::Yes;
        }
        let found = candidates(command.name.base_name(), &command.arguments);
        let without = found.without_options.as_deref();
        if !self.restricts() {
            let without = without.filter(|_| found.are_harmless);
            let certain = [Some(command.arguments.as_slice()), without].into_iter().flatten();
            return if certain.into_iter().any(|arguments| certainly(segments, arguments)) {
                Match::Yes
            } else {
                Match::No
            };
        }
        let with = possibly(segments, &command.arguments);
        let without = without.map_or(Match::No, |arguments| possibly(segments, arguments));
        let anywhere = (0..command.arguments.len()).filter(|_| found.is_uncertain);
        let anywhere = anywhere.map(|start| possibly(segments, &command.arguments[start..])).max();
        with.max(without).max(anywhere.unwrap_or(Match::No))
    }

    /// A rule that approves means a bare name, or the very path it has; others mean the base name, too.
    fn names(&self, segment: &Segment, name: &Word) -> bool {
        let Some(text) = name.literal() else { return false };
        if self.restricts() {
            return segment.matches(text, true) || segment.matches(name.base_name(), true);
        }
        segment.matches(text, false) && (!text.contains('/') || segment.has_slash())
    }
}

/// Segments match arguments from the first, one each.
fn certainly(segments: &[Segment], arguments: &[Word]) -> bool {
    segments.len() <= arguments.len()
        && segments
            .iter()
            .zip(arguments)
            .all(|(segment, argument)| argument.literal().is_some_and(|text| segment.matches(text, false)))
}

fn possibly(segments: &[Segment], arguments: &[Word]) -> Match {
    let Some((segment, segments)) = segments.split_first() else { return Match::Yes };
    if let Some(option) = segment.option() {
        let best = arguments.iter().enumerate().map(|(index, argument)| {
            // An option stands anywhere; what follows it in the rule goes on where it stood, if that was the next.
            let rest = if index == 0 { &arguments[1..] } else { arguments };
            is_option(option, argument).min(possibly(segments, rest))
        });
        return best.max().unwrap_or(Match::No);
    }
    let Some((argument, rest)) = arguments.split_first() else { return Match::No };
    if argument.may_split {
        return Match::Maybe;
    }
    let here = match argument.literal() {
        None => Match::Maybe,
        Some(text) if segment.matches(text, true) => Match::Yes,
        Some(_) => Match::No,
    };
    here.min(possibly(segments, rest))
}

/// Whether the argument is the option: as it is, with a value, shortened, or in a cluster.
fn is_option(option: &str, argument: &Word) -> Match {
    let Some(text) = argument.literal() else { return Match::Maybe };
    let name = text.split_once('=').map_or(text, |(name, _)| name);
    let shortened = name.starts_with("--") && name.len() > 2 && option.starts_with(name);
    if text == option || name == option || shortened {
        return Match::Yes;
    }
    let letter = option.strip_prefix('-').filter(|letter| letter.chars().count() == 1);
    match (letter, text.strip_prefix('-')) {
        (Some(letter), Some(cluster)) if !cluster.starts_with('-') && cluster.contains(letter) => Match::Maybe,
        _ => Match::No,
    }
}
