//! What becomes of a tool call that waits for a person, before anybody is asked.
//!
//! A bare name means one of the product's own tools; the tool of another server is never covered by it.

use sha2::{Digest, Sha256};
use stakpak_client::{ToolDecisionAction, ToolDecisionInput};

use crate::{ApprovalMode, config::GatewaySettings};

const OWN_PREFIX: &str = "stakpak__";

/// The policy of `[gateway]`.
#[derive(Debug, Clone)]
pub(crate) struct ApprovalPolicy {
    mode: Option<ApprovalMode>,
    allowlist: Vec<String>,
}

impl ApprovalPolicy {
    pub(crate) fn new(settings: &GatewaySettings) -> Self {
        Self { mode: settings.approval_mode, allowlist: settings.approval_allowlist.clone() }
    }

    /// None: a person is asked.
    pub(crate) fn decide(&self, tool: &str) -> Option<ToolDecisionInput> {
        let accept = ToolDecisionInput { action: ToolDecisionAction::Accept, content: None };
        match self.mode {
            Some(ApprovalMode::AllowAll) => Some(accept),
            Some(ApprovalMode::Allowlist) => {
                self.allowlist.iter().any(|entry| same_tool(entry, tool)).then_some(accept)
            }
            Some(ApprovalMode::DenyAll) => {
                let reason = format!(
                    "{tool} was not approved: the gateway rejects all approvals (`approval_mode = \"deny_all\"`)"
                );
                Some(ToolDecisionInput { action: ToolDecisionAction::Reject, content: Some(reason) })
            }
            None => None,
        }
    }

    /// Changes with the policy: what was asked under another one is asked again.
    pub(crate) fn version(&self) -> String {
        let digest = Sha256::digest(format!("{:?} {:?}", self.mode, self.allowlist));
        digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}

fn same_tool(entry: &str, tool: &str) -> bool {
    own_name(entry) == own_name(tool)
}

/// The name without the product's own prefix.
pub(super) fn own_name(tool: &str) -> &str {
    tool.strip_prefix(OWN_PREFIX).unwrap_or(tool)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(mode: Option<ApprovalMode>) -> ApprovalPolicy {
        ApprovalPolicy { mode, allowlist: vec!["view".to_owned()] }
    }

    /// G-P37.
    #[test]
    fn a_foreign_tool_that_ends_in_a_listed_name_is_not_covered() {
        assert!(same_tool("view", "stakpak__view"));
        assert!(same_tool("stakpak__view", "view"));
        assert!(same_tool("github__list", "github__list"));
        assert!(!same_tool("view", "other__view"));
        assert!(!same_tool("view", "stakpak__review"));
    }

    /// G-P11: `deny_all` denies; without a mode a person is asked.
    #[test]
    fn each_mode_has_its_effect() {
        let action = |mode, tool: &str| policy(mode).decide(tool).map(|decision| decision.action);
        assert_eq!(action(None, "view"), None);
        assert_eq!(action(Some(ApprovalMode::DenyAll), "view"), Some(ToolDecisionAction::Reject));
        assert_eq!(action(Some(ApprovalMode::AllowAll), "x"), Some(ToolDecisionAction::Accept));
        assert_eq!(action(Some(ApprovalMode::Allowlist), "stakpak__view"), Some(ToolDecisionAction::Accept));
        assert_eq!(action(Some(ApprovalMode::Allowlist), "other__view"), None);
        assert_ne!(policy(None).version(), policy(Some(ApprovalMode::DenyAll)).version());
    }
}
