//! The buttons under a prompt and what comes back from them: `a:<id>:<verb>[:<n>]`, at most 64 bytes.

use super::Call;
use crate::{ApprovalButton, ButtonStyle};

/// Calls with buttons of their own; more would not fit the platforms.
const MOST_SINGLE: usize = 8;
const ID_LENGTH: usize = 26;

/// What somebody wants done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// Run it.
    Allow,
    /// Run it, and the same again in this session without asking.
    Remember,
    /// Do not.
    Deny,
    /// Decide nothing; show everything.
    Show,
}

/// Which calls of an approval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Which {
    /// Those that are not decided yet.
    All,
    /// One, counted from 1 as in the prompt.
    Nth(usize),
    /// By id.
    Ids(Vec<String>),
}

/// Id and verb of a button's payload; the verb may have a number: `allow:2`.
#[must_use]
pub fn parse_approval_callback(payload: &str) -> Option<(&str, &str)> {
    let (id, verb) = payload.strip_prefix("a:")?.split_once(':')?;
    (!id.is_empty() && !verb.is_empty()).then_some((id, verb))
}

/// None for what no prompt of this version holds.
pub(crate) fn parse(payload: &str) -> Option<(&str, Act, Which)> {
    let (id, verb) = parse_approval_callback(payload)?;
    if id.len() != ID_LENGTH {
        return None;
    }
    let nth = |number: &str| number.parse().ok().filter(|number| *number > 0).map(Which::Nth);
    Some(match verb.split_once(':') {
        None => match verb {
            "allow" => (id, Act::Allow, Which::All),
            "deny" => (id, Act::Deny, Which::All),
            "session" => (id, Act::Remember, Which::All),
            "show" => (id, Act::Show, Which::All),
            _ => return None,
        },
        Some(("allow", number)) => (id, Act::Allow, nth(number)?),
        Some(("deny", number)) => (id, Act::Deny, nth(number)?),
        Some(_) => return None,
    })
}

/// The buttons for the calls that are not decided yet, given with their numbers. Without `all_seen` nothing can be allowed.
pub(super) fn buttons(id: &str, count: usize, open: &[(usize, &Call)], all_seen: bool) -> Vec<ApprovalButton> {
    if open.is_empty() {
        return Vec::new();
    }
    let button =
        |label: String, verb: &str, style| ApprovalButton { label, callback_data: format!("a:{id}:{verb}"), style };
    let several = count > 1;
    let label = |one: &str, many: &str| if several { many.to_owned() } else { one.to_owned() };
    let mut buttons = Vec::new();
    if all_seen {
        buttons.push(button(label("Allow", "Allow All"), "allow", ButtonStyle::Success));
        if open.iter().all(|(_, call)| call.may_be_remembered()) {
            buttons.push(button("Allow for this session".to_owned(), "session", ButtonStyle::Secondary));
        }
    }
    buttons.push(button(label("Deny", "Deny All"), "deny", ButtonStyle::Danger));
    buttons.push(button("Show all".to_owned(), "show", ButtonStyle::Secondary));
    if several && open.len() <= MOST_SINGLE {
        for (number, _) in open {
            if all_seen {
                buttons.push(button(format!("Allow {number}"), &format!("allow:{number}"), ButtonStyle::Success));
            }
            buttons.push(button(format!("Deny {number}"), &format!("deny:{number}"), ButtonStyle::Danger));
        }
    }
    buttons
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ID: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

    fn call(command: &str) -> Call {
        Call { id: "c".to_owned(), name: "stakpak__run_command".to_owned(), arguments: json!({"command": command}) }
    }

    #[test]
    fn every_button_comes_back_as_what_it_says_within_64_bytes() {
        let calls = [call("ls"), call("df")];
        let open: Vec<_> = calls.iter().enumerate().map(|(at, call)| (at + 1, call)).collect();
        let buttons = buttons(ID, 2, &open, true);
        let labels: Vec<_> = buttons.iter().map(|button| button.label.as_str()).collect();
        let expected =
            ["Allow All", "Allow for this session", "Deny All", "Show all", "Allow 1", "Deny 1", "Allow 2", "Deny 2"];
        assert_eq!(labels, expected);
        assert!(buttons.iter().all(|button| button.callback_data.len() <= 64));
        let acts: Vec<_> = buttons.iter().map(|button| parse(&button.callback_data).unwrap()).collect();
        assert_eq!(acts[0], (ID, Act::Allow, Which::All));
        assert_eq!(acts[7], (ID, Act::Deny, Which::Nth(2)));
    }

    #[test]
    fn what_was_not_shown_cannot_be_allowed_and_what_can_do_anything_not_for_long() {
        let labels = |call: &Call, all_seen| {
            buttons(ID, 1, &[(1, call)], all_seen).into_iter().map(|button| button.label).collect::<Vec<_>>()
        };
        assert_eq!(labels(&call("ls"), false), ["Deny", "Show all"]);
        assert_eq!(labels(&call("sudo ls"), true), ["Allow", "Deny", "Show all"]);
    }

    #[test]
    fn payloads_of_other_versions_and_makers_are_none() {
        assert_eq!(parse_approval_callback("a:x:allow:2"), Some(("x", "allow:2")));
        for other in
            ["a:short:allow", "b:x:allow", "a::allow", "a:x:", "", &format!("a:{ID}:allow:0"), &format!("a:{ID}:run")]
        {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
