//! What `[gateway]` says of tool calls: what the server is asked to let run, and what becomes of a call that waits.
//!
//! What runs without a question is decided on the server, once: the policy goes there with the message, below that of the
//! run's profile. Here only people decide, and `deny_all`.

use sha2::{Digest, Sha256};
use stakpak_client::{AutoApproveOverride, ToolDecisionAction, ToolDecisionInput};

use crate::{ApprovalMode, config::GatewaySettings};

const OWN_PREFIX: &str = "stakpak__";

/// What runs of chats may do without a question; none: what their profile lets run.
pub(crate) fn run_policy(settings: &GatewaySettings) -> Option<AutoApproveOverride> {
    Some(match settings.approval_mode? {
        ApprovalMode::AllowAll => AutoApproveOverride::Mode("all".to_owned()),
        ApprovalMode::DenyAll => AutoApproveOverride::Mode("none".to_owned()),
        ApprovalMode::Allowlist => AutoApproveOverride::Tools(settings.approval_allowlist.clone()),
    })
}

/// What is done with calls that wait.
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
        (self.mode == Some(ApprovalMode::DenyAll)).then(|| ToolDecisionInput {
            action: ToolDecisionAction::Reject,
            content: Some(format!(
                "{tool} was not approved: the gateway rejects all approvals (`approval_mode = \"deny_all\"`)"
            )),
        })
    }

    /// Changes with the policy: what was asked under another one is asked again.
    pub(crate) fn version(&self) -> String {
        let digest = Sha256::digest(format!("{:?} {:?}", self.mode, self.allowlist));
        digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
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

    /// G-P11: `deny_all` denies; whatever else waits, a person is asked.
    #[test]
    fn only_deny_all_decides_without_a_person() {
        let action = |mode, tool: &str| policy(mode).decide(tool).map(|decision| decision.action);
        for mode in [None, Some(ApprovalMode::AllowAll), Some(ApprovalMode::Allowlist)] {
            assert_eq!(action(mode, "view"), None, "{mode:?}");
        }
        assert_eq!(action(Some(ApprovalMode::DenyAll), "view"), Some(ToolDecisionAction::Reject));
        assert_ne!(policy(None).version(), policy(Some(ApprovalMode::DenyAll)).version());
    }
}
