//! A profile that changes while a run goes on: a denial counts from then on.

use std::{collections::BTreeMap, sync::Arc};

use stakpak_agent_core::{CallEnd, Model, Models, Policy, Profile, ProfileError, Profiles, Sandbox, UnknownModel};
use stakpak_protocol::{Approval, DecisionOutcome::Applied, ModelInfo};

use crate::machine::{Machine, accept, call};

struct NoModels;

impl Models for NoModels {
    fn list(&self) -> Vec<ModelInfo> {
        Vec::new()
    }

    fn default_model(&self) -> Option<String> {
        None
    }

    fn resolve(&self, _: &str) -> Result<Arc<dyn Model>, UnknownModel> {
        Err(UnknownModel { message: String::new() })
    }
}

/// Denies `ask_act`.
struct Denying;

impl Profiles for Denying {
    fn profile(&self, name: Option<&str>) -> Result<Arc<Profile>, ProfileError> {
        let rules = BTreeMap::from([("ask_act".to_owned(), Approval::Deny)]);
        let policy =
            Policy::Custom { rules, read_only_commands: false, default: Approval::Ask, server: BTreeMap::new() };
        let name = name.unwrap_or_default().to_owned();
        let (models, sandbox) = (Arc::new(NoModels), Sandbox::default());
        Ok(Arc::new(Profile {
            name,
            models,
            policy,
            has_own_policy: true,
            system_prompt: None,
            max_turns: None,
            no_progress: Default::default(),
            limits: Default::default(),
            day: Default::default(),
            sandbox,
            compaction: Default::default(),
            reasoning: None,
            fallback: Vec::new(),
        }))
    }
}

/// D16: an accept is applied, and the call is refused all the same; its result names the rule.
#[test]
fn d16_a_deny_rule_that_was_added_wins_before_the_start() {
    let mut machine = Machine::calling([call("b", "ask_act")]);
    machine.profiles = Some(&Denying);
    assert_eq!(machine.decide("b", accept()), Applied);
    let (end, text) = machine.result_of("b").unwrap();
    assert_eq!((end, machine.starts_of("b")), (CallEnd::Rejected, 0));
    assert!(text.starts_with("Tool call rejected by policy: the rule ask_act denies"), "{text}");
    assert!(machine.is_asking(), "the run goes on");
}
