//! What becomes of a tool call that waits for a person while nobody can be asked in a chat.
//!
//! A bare name means one of the product's own tools; the tool of another server is never covered by it.

use stakpak_client::{ProposedToolCall, ToolDecisionAction, ToolDecisionInput};

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

    pub(crate) fn decide(&self, call: &ProposedToolCall) -> ToolDecisionInput {
        let allowed = match self.mode {
            Some(ApprovalMode::AllowAll) => true,
            Some(ApprovalMode::Allowlist) => self.allowlist.iter().any(|entry| same_tool(entry, &call.name)),
            Some(ApprovalMode::DenyAll) | None => false,
        };
        if allowed {
            return ToolDecisionInput { action: ToolDecisionAction::Accept, content: None };
        }
        ToolDecisionInput { action: ToolDecisionAction::Reject, content: Some(self.reason(&call.name)) }
    }

    fn reason(&self, tool: &str) -> String {
        if self.mode == Some(ApprovalMode::DenyAll) {
            return format!(
                "{tool} was not approved: the gateway rejects all approvals (`approval_mode = \"deny_all\"`)"
            );
        }
        format!(
            "{tool} was not approved: it needs a person, and approving from a chat is not available yet. To allow it, \
             the operator can set `approval_mode = \"allowlist\"` and list it in `approval_allowlist` under [gateway], \
             or list it in `auto_approve` of the profile"
        )
    }
}

fn same_tool(entry: &str, tool: &str) -> bool {
    let own = |name: &'_ str| name.strip_prefix(OWN_PREFIX).map(str::to_owned).unwrap_or_else(|| name.to_owned());
    own(entry) == own(tool)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_tool_that_ends_in_a_listed_name_is_not_covered() {
        assert!(same_tool("view", "stakpak__view"));
        assert!(same_tool("stakpak__view", "view"));
        assert!(same_tool("github__list", "github__list"));
        assert!(!same_tool("view", "other__view"));
        assert!(!same_tool("view", "stakpak__review"));
    }
}
