//! What policy and the tool together say of a call: one answer for runs and for whoever calls tools without one.

use std::path::Path;

use stakpak_protocol::Approval;

use crate::{Policy, Subject, ToolCall, Tools, Verdict};

/// The more restrictive of policy and the tool, and why. The call has passed [`Tools::check`].
#[must_use]
pub fn approval_of(tools: &dyn Tools, policy: &Policy, call: &ToolCall, cwd: &Path) -> Verdict {
    let verdict = of_policy(tools, policy, call, cwd);
    if verdict.approval != Approval::Auto || policy.approves_everything() {
        return verdict;
    }
    let reason = tools.needs_question(call, cwd);
    Verdict { approval: if reason.is_some() { Approval::Ask } else { Approval::Auto }, reason }
}

/// What a policy alone says of a call in this working directory.
pub(crate) fn of_policy(tools: &dyn Tools, policy: &Policy, call: &ToolCall, cwd: &Path) -> Verdict {
    let place = tools.place(call, cwd);
    let (path, cwd) = place.as_ref().map_or((None, cwd), |place| (Some(place.path.as_path()), &place.cwd));
    policy.judge(&Subject { tool: &call.name, arguments: &call.arguments, path, cwd: Some(cwd) })
}
