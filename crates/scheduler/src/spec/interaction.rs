//! Whether the runs of a schedule take place in its chat.

use serde::{Deserialize, Serialize};
use stakpak_config::{Finding, Severity};

use super::{Notify, Prompt, Route, ScheduleSpec, entry::Entry};

/// The longest message that the gateway takes, in bytes.
const LONGEST_PROMPT: usize = 32 * 1024;

/// Where a run takes place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interaction {
    /// In the chat of the schedule, if it has one: people see it begin, may answer, and are asked there.
    #[default]
    Interactive,
    /// Beside it: the chat only hears how it went.
    Silent,
}

impl ScheduleSpec {
    /// The chat that its runs take place in.
    pub(crate) fn chat(&self) -> Option<Route> {
        self.notify.route().filter(|_| self.interaction == Interaction::Interactive)
    }
}

impl Entry<'_> {
    /// What is asked for, unless it cannot be done.
    pub(super) fn interaction(
        &self,
        asked: Option<Interaction>,
        prompt: Option<&Prompt>,
        notify: &Notify,
    ) -> Interaction {
        let asked = asked.unwrap_or_default();
        if self.why_silent(prompt, notify).is_some() { Interaction::Silent } else { asked }
    }

    fn why_silent(&self, prompt: Option<&Prompt>, notify: &Notify) -> Option<(&'static str, &'static str)> {
        notify.route()?;
        if self.notifications.is_remote() {
            let text =
                "its runs take place beside the chat: `notifications.gateway_url` names a gateway of another machine";
            return Some(("interaction", text));
        }
        match prompt {
            Some(Prompt::Text(text)) if text.len() > LONGEST_PROMPT => {
                Some(("prompt", "is longer than the 32 KiB that a run in a chat may have: the schedule runs silently"))
            }
            _ => None,
        }
    }

    /// That it does not do what the file asks for.
    pub(super) fn interaction_warning(&self, spec: &ScheduleSpec) -> Option<Finding> {
        let (key, text) = self.why_silent(Some(&spec.prompt), &spec.notify)?;
        let path = ["schedules", self.index, "interaction"];
        let is_asked_for = self.document.text(&path) != Some("silent");
        is_asked_for.then(|| self.document.finding(&["schedules", self.index, key], "W302", Severity::Warning, text))
    }
}
