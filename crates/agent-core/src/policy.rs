//! What runs without a question, what asks, what never runs.
//!
//! * Actions are ordered: approve, ask, deny. Of several that apply the most restrictive wins.
//! * A denial of the server holds under every override.
//! * It is stored with each run; patterns in keys are compiled when a call is judged.

mod judge;
mod key;
mod matching;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use stakpak_protocol::{Approval, AutoApproveMode};

pub use judge::{Subject, Verdict};
pub use key::{KeyError, check_key, full_name};

use judge::Rules;

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
        /// Key with the server's prefix to what is done: `stakpak__view`, `github__*`, `stakpak__run_command::git::push`.
        rules: BTreeMap<String, Approval>,
        /// Whether commands of the read-only list run without a question.
        read_only_commands: bool,
        /// For what no rule means.
        default: Approval,
        /// Rules of the server below an override: what they deny stays denied, and nothing else of them counts.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        server: BTreeMap<String, Approval>,
    },
    /// Only what both approve runs.
    Both {
        /// What may run at most.
        bound: Box<Policy>,
        /// What runs within that.
        policy: Box<Policy>,
    },
}

impl Policy {
    /// The safe tools and the read-only commands run, the rest asks.
    #[must_use]
    pub fn with_defaults() -> Self {
        Self::custom(rules(SAFE_TOOLS.iter().copied()), true, Approval::Ask)
    }

    /// These run, the rest asks. An empty list approves nothing; `*` approves everything.
    #[must_use]
    pub fn approving<'a>(keys: impl IntoIterator<Item = &'a str>) -> Self {
        Self::of_list(keys, Approval::Ask)
    }

    /// These run, the rest is denied. An empty list approves nothing; `*` approves everything.
    #[must_use]
    pub fn from_allowlist<'a>(keys: impl IntoIterator<Item = &'a str>) -> Self {
        Self::of_list(keys, Approval::Deny)
    }

    fn of_list<'a>(keys: impl IntoIterator<Item = &'a str>, default: Approval) -> Self {
        let keys: Vec<&str> = keys.into_iter().map(str::trim).filter(|key| !key.is_empty()).collect();
        if keys.contains(&"*") {
            return Self::All;
        }
        Self::custom(rules(keys), false, default)
    }

    fn custom(rules: BTreeMap<String, Approval>, read_only_commands: bool, default: Approval) -> Self {
        Self::Custom { rules, read_only_commands, default, server: BTreeMap::new() }
    }

    /// The same, and these run too.
    #[must_use]
    pub fn and_approving<'a>(self, keys: impl IntoIterator<Item = &'a str>) -> Self {
        self.with_overrides(keys.into_iter().map(|key| (key, Approval::Auto)))
    }

    /// The same, with these rules in place of those of the same keys.
    #[must_use]
    pub fn with_overrides<'a>(self, pairs: impl IntoIterator<Item = (&'a str, Approval)>) -> Self {
        let pairs = pairs.into_iter().map(|(key, action)| (key.trim(), action)).filter(|(key, _)| !key.is_empty());
        let mut pairs = pairs.map(|(key, action)| (full_name(key), action)).peekable();
        if pairs.peek().is_none() {
            return self;
        }
        self.edited(|rules, _| rules.extend(pairs))
    }

    /// The same as far as `bound` approves it too; what that does not approve asks.
    #[must_use]
    pub fn within(self, bound: Self) -> Self {
        match (self, bound) {
            (policy, Self::All) => policy,
            (Self::All, bound) => bound,
            (policy, bound) => Self::Both { bound: Box::new(bound), policy: Box::new(policy) },
        }
    }

    /// The same, but what `other` denies stays denied.
    #[must_use]
    pub fn with_denials_of(self, other: &Self) -> Self {
        let Self::Custom { rules: theirs, server: below, .. } = other else { return self };
        if !theirs.values().chain(below.values()).any(|rule| *rule == Approval::Deny) {
            return self;
        }
        self.edited(|_, server| {
            server.extend(below.clone());
            server.extend(theirs.clone());
        })
    }

    /// With other rules, and other rules of the server.
    fn edited(self, edit: impl FnOnce(&mut BTreeMap<String, Approval>, &mut BTreeMap<String, Approval>)) -> Self {
        let (mut rules, read_only_commands, default, mut server) = match self {
            Self::None => (BTreeMap::new(), false, Approval::Ask, BTreeMap::new()),
            Self::All => (BTreeMap::new(), false, Approval::Auto, BTreeMap::new()),
            Self::Custom { rules, read_only_commands, default, server } => (rules, read_only_commands, default, server),
            Self::Both { bound, policy } => return Self::Both { bound, policy: Box::new(policy.edited(edit)) },
        };
        edit(&mut rules, &mut server);
        Self::Custom { rules, read_only_commands, default, server }
    }

    /// What is done with a call.
    #[must_use]
    pub fn judge(&self, subject: &Subject<'_>) -> Verdict {
        let (rules, read_only_commands, default, server) = match self {
            Self::None => return Verdict::of(Approval::Ask),
            Self::All => return Verdict::of(Approval::Auto),
            Self::Both { bound, policy } => return policy.judge(subject).or(bound.judge(subject)),
            Self::Custom { rules, read_only_commands, default, server } => (rules, read_only_commands, default, server),
        };
        if !server.is_empty() {
            let below = Rules { rules: server, read_only_commands: false, default: Approval::Ask };
            let held = below.judge(subject);
            if held.approval == Approval::Deny {
                return held;
            }
        }
        Rules { rules, read_only_commands: *read_only_commands, default: *default }.judge(subject)
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
            Self::Custom { .. } | Self::Both { .. } => AutoApproveMode::Custom,
        }
    }
}

fn rules<'a>(keys: impl IntoIterator<Item = &'a str>) -> BTreeMap<String, Approval> {
    keys.into_iter().map(|key| (full_name(key), Approval::Auto)).collect()
}
