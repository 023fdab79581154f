//! What runs without a question, what asks, what never runs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use stakpak_protocol::{Approval, AutoApproveMode};

/// Prefix of the product's own tools. A name without prefix means one of them; it never covers another server's tool.
pub const OWN_PREFIX: &str = "stakpak__";

/// Tools that only look, or write nothing outside the product.
const SAFE_TOOLS: [&str; 10] = [
    "view",
    "generate_password",
    "search_docs",
    "search_memory",
    "load_skill",
    "local_code_search",
    "get_all_tasks",
    "get_task_details",
    "wait_for_tasks",
    "notify",
];

/// What runs without a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// Everything asks.
    None,
    /// Everything runs.
    All,
    /// By rules.
    Custom {
        /// Full tool name to what is done.
        rules: BTreeMap<String, Approval>,
        /// Whether commands of the read-only list run without a question.
        read_only_commands: bool,
        /// For tools without a rule.
        default: Approval,
    },
}

impl Policy {
    /// The safe tools and the read-only commands run, the rest asks.
    #[must_use]
    pub fn with_defaults() -> Self {
        Self::Custom { rules: rules(SAFE_TOOLS.iter().copied()), read_only_commands: true, default: Approval::Ask }
    }

    /// These tools run, the rest asks. An empty list approves nothing; `*` approves everything.
    #[must_use]
    pub fn approving<'a>(tools: impl IntoIterator<Item = &'a str>) -> Self {
        let tools: Vec<&str> = tools.into_iter().map(str::trim).filter(|tool| !tool.is_empty()).collect();
        if tools.contains(&"*") {
            return Self::All;
        }
        Self::Custom { rules: rules(tools), read_only_commands: false, default: Approval::Ask }
    }

    /// The same, and these tools run too.
    #[must_use]
    pub fn and_approving<'a>(mut self, tools: impl IntoIterator<Item = &'a str>) -> Self {
        if let Self::Custom { rules: own, .. } = &mut self {
            own.extend(rules(tools));
        }
        self
    }

    /// The same, but what `other` denies stays denied.
    #[must_use]
    pub fn with_denials_of(self, other: &Self) -> Self {
        let Self::Custom { rules: theirs, .. } = other else { return self };
        let mut denied = theirs.iter().filter(|(_, rule)| **rule == Approval::Deny).peekable();
        if denied.peek().is_none() {
            return self;
        }
        let (mut rules, read_only_commands, default) = match self {
            Self::None => (BTreeMap::new(), false, Approval::Ask),
            Self::All => (BTreeMap::new(), false, Approval::Auto),
            Self::Custom { rules, read_only_commands, default } => (rules, read_only_commands, default),
        };
        rules.extend(denied.map(|(tool, rule)| (tool.clone(), *rule)));
        Self::Custom { rules, read_only_commands, default }
    }

    /// What is done with a call. `read_only`: the call is a command of the read-only list.
    #[must_use]
    pub fn decide(&self, tool: &str, read_only: bool) -> Approval {
        match self {
            Self::None => Approval::Ask,
            Self::All => Approval::Auto,
            Self::Custom { rules, read_only_commands, default } => match rules.get(tool) {
                Some(rule) => *rule,
                None if read_only && *read_only_commands => Approval::Auto,
                None => *default,
            },
        }
    }

    /// Whether no call can ask.
    #[must_use]
    pub fn approves_everything(&self) -> bool {
        matches!(self, Self::All)
    }

    /// How clients see it.
    #[must_use]
    pub fn mode(&self) -> AutoApproveMode {
        match self {
            Self::None => AutoApproveMode::None,
            Self::All => AutoApproveMode::All,
            Self::Custom { .. } => AutoApproveMode::Custom,
        }
    }
}

fn rules<'a>(tools: impl IntoIterator<Item = &'a str>) -> BTreeMap<String, Approval> {
    tools.into_iter().map(|tool| (full_name(tool), Approval::Auto)).collect()
}

/// The name with its server: one without a prefix is the product's own.
#[must_use]
pub fn full_name(tool: &str) -> String {
    if tool.contains("__") { tool.to_owned() } else { format!("{OWN_PREFIX}{tool}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_covers_only_the_products_own_tool() {
        let policy = Policy::approving(["view"]);
        assert_eq!(policy.decide("stakpak__view", false), Approval::Auto);
        assert_eq!(policy.decide("evil__view", false), Approval::Ask);
    }

    #[test]
    fn an_empty_or_blank_list_approves_nothing() {
        for list in [vec![], vec![""], vec![" "]] {
            let policy = Policy::approving(list);
            assert_eq!(policy.decide("stakpak__view", false), Approval::Ask);
            assert_eq!(policy.decide("stakpak__run_command", true), Approval::Ask);
        }
    }

    /// P53: no override lifts a deny rule.
    #[test]
    fn a_denial_holds_under_every_override() {
        let rules = BTreeMap::from([
            ("stakpak__remove".to_owned(), Approval::Deny),
            ("stakpak__view".to_owned(), Approval::Auto),
        ]);
        let server = Policy::Custom { rules, read_only_commands: true, default: Approval::Ask };
        for (asked, view) in [
            (Policy::All, Approval::Auto),
            (Policy::None, Approval::Ask),
            (Policy::approving(["remove", "create"]), Approval::Ask),
        ] {
            let held = asked.with_denials_of(&server);
            assert_eq!(held.decide("stakpak__remove", false), Approval::Deny);
            assert_eq!(held.decide("stakpak__view", false), view, "{held:?}");
        }
        assert_eq!(Policy::All.with_denials_of(&Policy::with_defaults()), Policy::All);
    }

    #[test]
    fn read_only_commands_run_by_default_and_only_there() {
        assert_eq!(Policy::with_defaults().decide("stakpak__run_command", true), Approval::Auto);
        assert_eq!(Policy::with_defaults().decide("stakpak__run_command", false), Approval::Ask);
        assert_eq!(Policy::None.decide("stakpak__run_command", true), Approval::Ask);
        let denied = Policy::Custom {
            rules: BTreeMap::from([("stakpak__run_command".to_owned(), Approval::Deny)]),
            read_only_commands: true,
            default: Approval::Ask,
        };
        assert_eq!(denied.decide("stakpak__run_command", true), Approval::Deny);
    }
}
