//! What is answered to calls that wait for a person when no person is there.

use std::collections::{HashMap, HashSet};

use chrono::TimeDelta;
use stakpak_client::{ProposedToolCall, ToolDecisionInput};
use stakpak_protocol::ToolDecisionAction;

/// Prefix of the names of our own tools, which users may leave out.
const OWN_TOOLS: &str = "stakpak__";

/// What to do about calls that policy wants a person for.
#[derive(Debug, Clone)]
pub(crate) enum WhenAsked {
    /// Reject them at once, with a reason for the model.
    Reject {
        /// Profile whose policy asked.
        profile: String,
    },
    /// Accept those on the list.
    AllowListed(HashSet<String>),
    /// Leave them to a person, reject them when the time is up, and follow the run on.
    Wait {
        /// So long.
        at_most: TimeDelta,
    },
    /// Leave them to the people of the chat that the run takes place in, within its time.
    InChat,
    /// Leave them to a person and return.
    Return,
}

/// A decision for each call (id, name): accepted if `allowed` is empty, which means no restriction, or holds the name with or
/// without `stakpak__`; rejected with a reason otherwise. The tool of another server with the same last name does not match.
#[must_use]
pub fn build_tool_decisions(
    calls: &[(String, String)],
    allowed: &HashSet<String>,
) -> HashMap<String, ToolDecisionInput> {
    let allowed_names: HashSet<&str> = allowed.iter().map(|name| bare(name)).collect();
    calls
        .iter()
        .map(|(id, name)| {
            let name = bare(name);
            let decision = if allowed.is_empty() || allowed_names.contains(name) {
                ToolDecisionInput { action: ToolDecisionAction::Accept, content: None }
            } else {
                rejected(format!("Blocked by profile allowed_tools (tool: {name})"))
            };
            (id.clone(), decision)
        })
        .collect()
}

/// Rejects every call: tool, rule, and how to allow it.
pub(crate) fn reject_unattended(calls: &[ProposedToolCall], profile: &str) -> HashMap<String, ToolDecisionInput> {
    calls
        .iter()
        .map(|call| {
            let tool = bare(&call.name);
            let rule = call.approval_reason.as_deref().unwrap_or("the profile's policy asks a person for it");
            let text = format!(
                "Not run: tool `{tool}` needs a person's approval ({rule}) and nobody watches this scheduled run. \
                 To allow it, add `{tool}` to `auto_approve` of profile `{profile}`, or set `pause_on_approval = true` on the \
                 schedule. Go on without it and say what was left undone."
            );
            (call.id.clone(), rejected(text))
        })
        .collect()
}

fn rejected(reason: String) -> ToolDecisionInput {
    ToolDecisionInput { action: ToolDecisionAction::Reject, content: Some(reason) }
}

fn bare(name: &str) -> &str {
    name.strip_prefix(OWN_TOOLS).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(name: &str, allowed: &[&str]) -> ToolDecisionInput {
        let allowed = allowed.iter().map(|name| (*name).to_owned()).collect();
        build_tool_decisions(&[("call_1".to_owned(), name.to_owned())], &allowed)["call_1"].clone()
    }

    #[test]
    fn the_prefix_of_own_tools_does_not_matter_and_that_of_others_does() {
        let accept = ToolDecisionInput { action: ToolDecisionAction::Accept, content: None };
        assert_eq!(decide("stakpak__view", &["view"]), accept);
        assert_eq!(decide("view", &["stakpak__view"]), accept);
        assert_eq!(decide("stakpak__remove", &[]), accept);
        assert_eq!(
            decide("stakpak__remove", &["view"]),
            rejected("Blocked by profile allowed_tools (tool: remove)".to_owned())
        );
        assert_eq!(decide("other__view", &["view"]).action, ToolDecisionAction::Reject);
    }
}
